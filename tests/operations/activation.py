"""Rows of functions_activation."""

import math

import numpy as np

from operations.row import numbers, on, refuses, row, unary

A, CUBE = numbers(2, 3), numbers(2, 3, 4)
erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def prelu(x, W):
    return np.where(x > 0, 1.0 * x, x * (W.reshape((-1,) + (1,) * (x.ndim - 2)) if W.size > 1 else W.reshape(())))


def torch_softmax(name):
    return lambda t, x, axis=1: getattr(t, name)(x, axis)


SOFTMAX = [on(A), on(CUBE), on(CUBE, axis=-2), on(A, axis=0), on(A[:, :1]), on(A[:0])]
SEVERAL = on(CUBE, axis=(0, 2), torch=False)  # PyTorch takes one axis
NO_AXIS = refuses("axis 2 is out of bounds for array of dimension 2", A, axis=2)

ROWS = [
    unary("sigmoid", sigmoid, torch="sigmoid"),
    unary("sigmoid_simple", sigmoid, torch="sigmoid"),
    unary("relu", lambda x: np.maximum(x, 0), torch="relu"),
    row(
        "leaky_relu",
        lambda x, slope=0.2: np.where(x > 0, x, slope * x),
        on(A),
        on(A, slope=0.01),
        on(A, slope=-1.5),
        on(np.array(-2.0)),
        on(A[:0]),
        torch=lambda t, x, slope=0.2: t.nn.functional.leaky_relu(x, slope),
    ),
    row(
        "softmax",
        softmax,
        *SOFTMAX,
        SEVERAL,
        torch=torch_softmax("softmax"),
        bad=[NO_AXIS],
    ),
    row("softmax_simple", softmax, *SOFTMAX, SEVERAL, torch=torch_softmax("softmax"), speaks_as=("exp",)),
    row(
        "log_softmax",
        lambda x, axis=1: np.log(softmax(x, axis)),
        *SOFTMAX,
        SEVERAL,
        torch=torch_softmax("log_softmax"),
        bad=[NO_AXIS],
    ),
    row(
        "gelu",
        gelu,
        on(A),
        on(A, approximate="tanh"),
        on(2 * CUBE),
        on(np.array(-2.0)),
        on(A[:0]),
        torch="gelu",
        bad=[refuses("approximate must be 'none' or 'tanh', got 'erf'", A, approximate="erf")],
    ),
    unary("silu", lambda x: x * sigmoid(x), torch="silu"),
    row(
        "elu",
        lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x)),
        on(A),
        on(A, alpha=0.5),
        on(np.array(-2.0)),
        on(A[:0]),
        torch="elu",
    ),
    row(
        "softplus",
        lambda x, beta=1.0: np.log1p(np.exp(beta * x)) / beta,
        on(A),
        on(A, beta=2.5),
        on(np.array(-2.0)),
        on(A[:0]),
        torch="softplus",
        bad=[refuses("beta must be above 0 and finite, got 0", A, beta=0)],
    ),
    unary("hard_swish", lambda x: x * np.clip(x + 3, 0, 6) / 6, low=-5.0, high=5.2, torch="hardswish"),
    row(
        "prelu",
        prelu,
        on(A, np.array(0.25)),
        on(CUBE, np.array([0.25])),
        on(A, np.array([0.25, -0.5, 1.5])),
        on(numbers(2, 3, 2, 2), np.array([0.25, -0.5, 1.5])),
        on(A[:0], np.array([0.25, -0.5, 1.5])),
        torch=lambda t, x, W: t.where(x > 0, x, x * (W.reshape((-1,) + (1,) * (x.ndim - 2)) if W.numel() > 1 else W)),
        bad=[
            refuses("W must have one slope, or one for each channel of x (2, 3), got (2,)", A, np.ones(2)),
            refuses("W must have one slope, or one for each channel of x (2, 3), got (1, 3)", A, np.ones((1, 3))),
        ],
    ),
]
