"""F: losses and accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import Function, Variable, as_array, as_operand, astype, get_item, log, reshape
from dezero.functions_activation import logsumexp_array, sigmoid, softmax, softmax_simple
from dezero.functions_attention import check_range
from dezero.functions_elementwise import clip
from dezero.functions_reduction import sum

__all__ = [
    "MeanSquaredError",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "accuracy",
    "binary_cross_entropy",
    "mean_squared_error",
    "mean_squared_error_simple",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_simple",
]


class MeanSquaredError(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        _check_squared_error(x0, x1)
        difference = x0 - x1
        return (difference**2).sum() / len(difference)

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        difference = x0 - x1
        gx0 = gy * difference * (2.0 / len(difference))
        return gx0, -gx0 if x1.requires_grad else None


def mean_squared_error(x0: Any, x1: Any) -> Variable:
    """y = sum of (x0 - x1) ** 2 over the length of the first axis.

    One may broadcast to the other's shape. Raises ValueError when both would grow: (N, 1) and (N,) make (N, N).

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    variable(2.0)
    """
    x0, x1 = as_operand("mean_squared_error", x0), as_operand("mean_squared_error", x1)
    if x0.dtype.kind != "f" and x1.dtype.kind != "f":
        x0 = astype(x0, np.float64)  # the squares of small integers overflow
    return MeanSquaredError()(x0, x1)


def mean_squared_error_simple(x0: Any, x1: Any) -> Variable:
    """`mean_squared_error` composed of sub, pow and sum, as the book's step 42 has it."""
    x0, x1 = as_operand("mean_squared_error_simple", x0), as_operand("mean_squared_error_simple", x1)
    difference = x0 - x1
    return sum(difference**2) / len(difference)


def _check_squared_error(x0: Any, x1: Any) -> None:
    shapes = f"shapes {x0.shape} and {x1.shape}"
    try:
        shape = np.broadcast_shapes(x0.shape, x1.shape)
    except ValueError:
        raise ValueError(f"mean_squared_error: {shapes} cannot broadcast") from None
    if shape not in (x0.shape, x1.shape):
        raise ValueError(f"mean_squared_error: {shapes} would broadcast to {shape}; reshape one to the other's shape")
    if not shape or not shape[0]:
        raise ValueError(f"mean_squared_error: expected at least one row to average over, got {shapes}")


class SoftmaxCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        _check_labels(x, t)
        xp = cuda.get_array_module(x)
        rows = xp.arange(len(x))
        picked = x[rows, t.ravel()] - logsumexp_array(x, axis=1)[:, 0]
        return -picked.mean()

    def backward(self, gy: Variable) -> Any:
        x, t = self.inputs
        xp = cuda.get_array_module(t)
        one_hot = t.data.reshape(-1, 1) == xp.arange(x.shape[1])
        return (softmax(x) - one_hot.astype(x.dtype)) * (gy / len(x)), None


def softmax_cross_entropy(x: Any, t: Any) -> Variable:
    """y = mean over n of -log softmax(x)[n, t[n]].

    Args:
        x: scores (N, C).
        t: integer labels (N,), each in 0..C-1.

    Raises TypeError when labels are not integers, ValueError when the shapes do not fit or a label is out of range.

    >>> f"{softmax_cross_entropy(np.zeros((3, 4)), np.array([0, 1, 3])):.4f}"  # log 4
    '1.3863'
    """
    return SoftmaxCrossEntropy()(x, as_operand("softmax_cross_entropy", t))  # a lone label keeps its own dtype


def softmax_cross_entropy_simple(x: Any, t: Any) -> Variable:
    """`softmax_cross_entropy` composed of softmax, clip, log and get_item, as the book's step 47 has it."""
    x, t = as_operand("softmax_cross_entropy_simple", x), as_operand("softmax_cross_entropy_simple", t)
    _check_labels(x.data, t.data)
    log_p = log(clip(softmax_simple(x), 1e-15, 1.0))  # clipped: log 0 is minus infinity
    picked = get_item(log_p, (np.arange(len(x)), t.data.ravel()))
    return -sum(picked) / len(x)


def _check_labels(x: Any, t: Any) -> None:
    if x.ndim != 2 or t.size != len(x):
        raise ValueError(f"softmax_cross_entropy: expected x (N, C) and t (N,), got x {x.shape} and t {t.shape}")
    if x.size == 0:
        raise ValueError(f"softmax_cross_entropy: x {x.shape} is empty, so there is no loss to average")
    if t.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: labels must be integers, got {t.dtype}; use t.astype(int)")
    check_range(ValueError, "softmax_cross_entropy: labels", t, x.shape[1])


class SigmoidCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        xp = cuda.get_array_module(x)
        # -t log p - (1 - t) log(1 - p) for p = sigmoid(x), arranged so that exp never overflows
        losses = xp.maximum(x, 0) - x * t + xp.log1p(xp.exp(-abs(x)))
        return losses.sum() / len(x)

    def backward(self, gy: Variable) -> Any:
        x, t = self.inputs
        scale = gy / len(x)
        return (sigmoid(x) - t) * scale, -x * scale if t.requires_grad else None


def sigmoid_cross_entropy(x: Any, t: Any) -> Variable:
    """y = 1/N * sum of -t log p - (1 - t) log(1 - p), where p = sigmoid(x); finite for any x.

    Args:
        x: scores (N,) or (N, D).
        t: targets in 0..1, of x's shape; reshaped to it when the ranks differ.

    Raises ValueError when the shapes do not fit or there are no rows.

    >>> f"{sigmoid_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 1])):.4f}"  # (log 2 + 0) / 2
    '0.3466'
    """
    x, t = _targets("sigmoid_cross_entropy", x, t)
    return SigmoidCrossEntropy()(x, t)


def binary_cross_entropy(p: Any, t: Any) -> Variable:
    """y = 1/N * sum of -t log p - (1 - t) log(1 - p), for probabilities p.

    Args:
        p: probabilities in 0..1, (N,) or (N, D); `sigmoid_cross_entropy` takes scores, and is more precise.
        t: targets in 0..1, of p's shape; reshaped to it when the ranks differ.

    Raises ValueError when the shapes do not fit, there are no rows, or p lies outside 0..1 by more than rounding.

    >>> f"{binary_cross_entropy(np.array([0.5]), np.array([1])):.4f}"  # log 2
    '0.6931'
    """
    p, t = _targets("binary_cross_entropy", p, t)
    rounding = 1e-5  # as far as a sum of probabilities strays from 1
    if isinstance(p.data, np.ndarray) and (p.data.min() < -rounding or p.data.max() > 1 + rounding):
        raise ValueError(
            f"binary_cross_entropy: p must lie in 0..1, got {p.data.min()}..{p.data.max()}; "
            "sigmoid_cross_entropy takes scores"
        )
    p = clip(p, 0.0, 1.0)
    tiny = 1e-12  # keeps log 0 finite without a flat piece where learning would stop
    losses = t * log(p + tiny) + (1 - t) * log(1 - p + tiny)
    return -sum(losses) / len(p)


def _targets(operation: str, x: Any, t: Any) -> tuple[Variable, Variable]:
    """Give targets the dtype of `x`, and its shape when their ranks differ; check that they fit."""
    x, t = as_operand(operation, x), as_operand(operation, t)
    shape = x.shape if x.ndim != t.ndim and x.size == t.size else t.shape
    dtype = x.dtype if x.dtype.kind == "f" and t.dtype.kind != "f" else t.dtype
    if t.requires_grad:
        t = astype(reshape(t, shape), dtype)
    else:
        t = as_operand(operation, t.data.reshape(shape).astype(dtype))  # still a constant
    if x.shape != t.shape:
        raise ValueError(f"{operation}: expected x and t of one shape, got x {x.shape} and t {t.shape}")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{operation}: expected at least one row to average over, got x {x.shape}")
    return x, t


def accuracy(y: Any, t: Any) -> Variable:
    """The share of rows of the scores y (N, C) whose largest element stands at the label t (N,). Not differentiable.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    variable(0.5)
    """
    y, t = as_operand("accuracy", y).data, as_operand("accuracy", t).data
    if y.ndim != 2 or t.size != len(y) or t.size == 0:
        raise ValueError(
            f"accuracy: expected scores y (N, C) and labels t (N,), N > 0, got y {y.shape} and t {t.shape}"
        )
    return Variable(as_array((y.argmax(axis=1).reshape(t.shape) == t).mean()))
