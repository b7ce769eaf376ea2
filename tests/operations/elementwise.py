"""Rows of core's arithmetic and of functions_elementwise."""

import math

import numpy as np

from operations.row import binary, misfit, numbers, on, refuses, row, unary

A, B = numbers(2, 3), numbers(2, 3, low=0.5, high=1.5, seed=1)
MASK = np.array([[True, False, True], [False, False, True]])

ROWS = [
    binary("add", np.add, torch="add"),
    binary("sub", np.subtract, torch="sub"),
    binary(
        "rsub",
        lambda a, b: b - a,
        torch="rsub",
        speaks_as=("sub",),
        bad=[misfit(A, B[0, :2], shapes="(2,) and (2, 3)", by="sub")],
    ),
    binary("mul", np.multiply, torch="mul"),
    binary("div", np.divide, low=0.5, torch="div"),
    binary(
        "rdiv",
        lambda a, b: b / a,
        low=0.5,
        torch=lambda t, a, b: b / a,
        speaks_as=("div",),
        bad=[misfit(A, B[0, :2], shapes="(2,) and (2, 3)", by="div")],
    ),
    unary("neg", np.negative, torch="neg"),
    binary("maximum", np.maximum, torch="maximum"),
    binary("minimum", np.minimum, torch="minimum"),
    row(
        "floor_divide",
        np.floor_divide,
        on(numbers(2, 3, low=-7.3, high=7.1), numbers(3, low=0.8, high=2.2)),
        on(numbers(2, 1, low=-7.3, high=7.1), numbers(1, 3, low=-2.9, high=-1.1)),
        on(numbers(2, 3, low=-7.3, high=7.1), 2),
        on(7.3, B),
        on(A[:0], B[0]),
        torch=lambda t, a, b: t.floor(a / b),  # its floor_divide has no derivative
        bad=[misfit(A, B[0, :2])],
    ),
    row(
        "pow",
        np.power,
        on(A, 3),
        on(A, 1),
        on(A, 0),
        on(B, 0.5),
        on(B, -2),
        on(2.0, A),
        on(B, A),
        on(B[:, :1], A[0]),
        on(np.array(1.5), A),
        on(A[:0], 2),
        on(B[:0], A[0]),
        torch="pow",
        integers=False,  # NumPy refuses negative exponents of integers
        bad=[misfit(B, A[0, :2])],
    ),
    unary("sin", np.sin, torch="sin"),
    unary("cos", np.cos, torch="cos"),
    unary("tan", np.tan, low=-1.1, high=1.2, torch="tan"),
    unary("arcsin", np.arcsin, low=-0.9, high=0.85, torch="arcsin"),
    unary("arccos", np.arccos, low=-0.9, high=0.85, torch="arccos"),
    unary("arctan", np.arctan, torch="arctan"),
    unary("sinh", np.sinh, torch="sinh"),
    unary("cosh", np.cosh, torch="cosh"),
    unary("tanh", np.tanh, torch="tanh"),
    unary("exp", np.exp, torch="exp"),
    unary("expm1", np.expm1, torch="expm1"),
    unary("log", np.log, low=0.5, high=3.0, torch="log"),
    unary("log1p", np.log1p, low=-0.6, high=3.0, torch="log1p"),
    unary("log2", np.log2, low=0.5, high=3.0, torch="log2"),
    unary("sqrt", np.sqrt, low=0.5, high=3.0, torch="sqrt"),
    unary("square", np.square, torch="square"),
    unary("erf", np.vectorize(math.erf, otypes=[float]), torch="erf"),
    unary("abs", np.abs, torch="abs"),
    unary("sign", np.sign, torch="sign"),
    row(
        "clip",
        lambda x, x_min, x_max: np.clip(x, x_min, x_max),
        on(A, -1, 1),
        on(A, -1.0, None),
        on(numbers(3, 1, 2), None, 0.5),
        on(A, x_min=np.array([-1.0, -0.5, 0.1]), x_max=np.array([[1.0], [0.5]])),
        torch=lambda t, x, x_min, x_max: t.clip(x, x_min, x_max),
    ),
    row(
        "where",
        np.where,
        on(MASK, A, B),
        on(MASK[0], A[:, :1], B[0]),
        on(MASK, np.array(1.5), 0.25),
        on(MASK, 0.0, A),
        on(MASK[:0], A[:0], B[0]),
        on(np.array(True), A, B),
        torch="where",
        bad=[
            refuses("condition must be an array of booleans, such as x > 0, got float64", A, A, B, error=TypeError),
            refuses("condition must be an array of booleans, such as x > 0, got int", 1, A, B, error=TypeError),
            misfit(MASK, A, B[0, :2]),
        ],
    ),
    row(
        "astype",
        lambda x, dtype: x.astype(dtype),
        on(A, np.float64),
        on(A[:0], np.float64),
        torch=lambda t, x, dtype: x.to(t.float64),
        keeps_dtype=False,
    ),
]
