"""F: losses and accuracy."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import (
    Config,
    Function,
    Variable,
    abs,
    as_array,
    as_floating,
    as_operand,
    astype,
    check_number,
    get_item,
    is_floating,
    is_int,
    log,
    reshape,
)
from dezero.functions_activation import log_softmax, sigmoid, softmax, softmax_simple
from dezero.functions_elementwise import clip, where
from dezero.functions_reduction import mean, sum
from dezero.functions_shape import check_range, moveaxis

__all__ = [
    "MeanSquaredError",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
    "accuracy",
    "binary_cross_entropy",
    "cross_entropy",
    "huber_loss",
    "kl_divergence",
    "l1_loss",
    "mean_squared_error",
    "mean_squared_error_simple",
    "nll_loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_simple",
]


# ----------------------------------------------------------------------------------------------------------------------
# Distances
# ----------------------------------------------------------------------------------------------------------------------


class MeanSquaredError(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        shape = _check_distance(self.operation, x0, x1)
        if not shape or not shape[0]:
            raise ValueError(
                f"mean_squared_error: expected at least one row to average over, got shapes {x0.shape} and {x1.shape}"
            )
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
    if not is_floating(x0.dtype) and not is_floating(x1.dtype):
        x0 = astype(x0, np.float64)  # the squares of small integers overflow
    return MeanSquaredError()(x0, x1)


def mean_squared_error_simple(x0: Any, x1: Any) -> Variable:
    """`mean_squared_error` composed of sub, pow and sum, as the book's step 42 has it."""
    x0, x1 = as_operand("mean_squared_error_simple", x0), as_operand("mean_squared_error_simple", x1)
    difference = x0 - x1
    return sum(difference**2) / len(difference)


def _check_distance(operation: str, x0: Any, x1: Any) -> tuple[int, ...]:
    """Return the shape of x0 - x1, which must be that of one of them."""
    shapes = f"shapes {x0.shape} and {x1.shape}"
    try:
        shape = np.broadcast_shapes(x0.shape, x1.shape)
    except ValueError:
        raise ValueError(f"{operation}: {shapes} cannot broadcast") from None
    if shape not in (x0.shape, x1.shape):
        raise ValueError(f"{operation}: {shapes} would broadcast to {shape}; reshape one to the other's shape")
    return shape


def l1_loss(x: Any, t: Any, reduction: str = "mean") -> Variable:
    """y = |x - t|, its mean over all elements by default.

    Args:
        x, t: of one shape, or one broadcasts to the other's.
        reduction: "mean", "sum", or "none" for the losses of all elements.

    Raises ValueError when the shapes do not fit, or there is nothing to average.

    >>> l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    variable(1.0)
    """
    return _reduce("l1_loss", abs(_difference("l1_loss", x, t)), reduction)


def huber_loss(x: Any, t: Any, delta: float = 1.0, reduction: str = "mean") -> Variable:
    """y = d^2 / 2 where |d| <= delta, delta * (|d| - delta / 2) elsewhere, d = x - t; the mean by default.

    Args as `l1_loss`; delta > 0. Source: Huber, Annals of Mathematical Statistics 35 (1964).

    >>> huber_loss(np.array([1.0, 0.0]), np.array([2.0, 4.0]), reduction="none")
    variable([0.5 3.5])
    """
    delta = check_number("huber_loss", "delta", delta)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be above 0, got {delta}")
    d = _difference("huber_loss", x, t)
    c = clip(d, -delta, delta)
    return _reduce("huber_loss", c * (d - c * 0.5), reduction)  # both formulas in one, and their slope is c


def _difference(operation: str, x: Any, t: Any) -> Variable:
    x = as_operand(operation, x, [t])
    t = as_operand(operation, t, [x])
    if not is_floating(x.dtype) and not is_floating(t.dtype):
        x, t = as_floating(operation, x), as_floating(operation, t)
    _check_distance(operation, x, t)
    return x - t


_REDUCTIONS = ("mean", "sum", "none")


def _reduce(operation: str, losses: Variable, reduction: str) -> Variable:
    _check_reduction(operation, reduction, _REDUCTIONS)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    if losses.size == 0:
        raise ValueError(f"{operation}: there is nothing to average, shape {losses.shape}")
    return mean(losses)


def _check_reduction(operation: str, reduction: Any, choices: tuple[str, ...]) -> None:
    if reduction not in choices:
        *first, last = map(repr, choices)
        raise ValueError(f"{operation}: reduction must be {', '.join(first)} or {last}, got {reduction!r}")


# ----------------------------------------------------------------------------------------------------------------------
# Classes
# ----------------------------------------------------------------------------------------------------------------------


class SoftmaxCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        _check_labels(x, t)
        x = x if is_floating(x.dtype) else x.astype(np.float64)
        loss, self.log_p = kernels.for_array(x).softmax_cross_entropy(x, t.ravel())
        return loss

    def backward(self, gy: Variable) -> Any:
        x, t = self.inputs
        if not Config.enable_backprop:
            return SoftmaxCrossEntropyGrad(self.log_p, t.data.ravel())(gy), None
        xp = cuda.get_array_module(t)
        one_hot = (t.data.reshape(-1, 1) == xp.arange(x.shape[1])).astype(x.dtype)
        one_hot = _nan_without_class(one_hot, t.data.reshape(-1, 1), x.shape[1])
        return (softmax(x) - one_hot) * (gy / len(x)), None


class SoftmaxCrossEntropyGrad(Function):
    """The gradient of softmax_cross_entropy in one pass, where nothing is recorded: it has no gradient itself."""

    def __init__(self, log_p: Any, t: Any) -> None:
        self.log_p, self.t = log_p, t

    def forward(self, gy: Any) -> Any:
        return kernels.for_array(gy).softmax_cross_entropy_grad(self.log_p, self.t, gy)


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
    labels = t.data.ravel()
    picked = get_item(log_p, (np.arange(len(x)), labels))
    share = _nan_without_class(cuda.get_array_module(labels).ones(len(x), x.dtype), labels, x.shape[1])
    return -sum(picked * share) / len(x)


def _nan_without_class(values: Any, labels: Any, C: int) -> Any:
    """Return `values`, with NaN where a label is not in 0..C-1. On the CPU labels have been looked at."""
    if isinstance(labels, np.ndarray):
        return values
    xp = cuda.get_array_module(labels)
    return xp.where((labels >= 0) & (labels < C), values, values.dtype.type(np.nan)).astype(values.dtype)


def _check_labels(x: Any, t: Any) -> None:
    if x.ndim != 2 or t.size != len(x):
        raise ValueError(f"softmax_cross_entropy: expected x (N, C) and t (N,), got x {x.shape} and t {t.shape}")
    if x.size == 0:
        raise ValueError(f"softmax_cross_entropy: x {x.shape} is empty, so there is no loss to average")
    if t.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: labels must be integers, got {t.dtype}; use t.astype(int)")
    check_range(ValueError, "softmax_cross_entropy: labels", t, x.shape[1])


def cross_entropy(
    x: Any,
    t: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Variable:
    """y = -log softmax(x)[t] for each sample, and their mean, as PyTorch's function of this name.

    Args:
        x: scores (N, C), or (N, C, ...) with a label for each place.
        t: integer labels (N,), or (N, ...), each in 0..C-1 or `ignore_index`; or probabilities of x's shape.
        weight: how much each class counts (C,); the mean is a weighed one then.
        ignore_index: samples with this label count for nothing.
        reduction: "mean", "sum", or "none" for the loss of each sample.
        label_smoothing: s in 0..1; the targets are (1 - s) of t and s spread over all classes. Source: Szegedy et al.,
            arXiv:1512.00567.

    Raises TypeError for labels that are not integers, ValueError when the shapes do not fit, a label is out of range,
    or there is no sample to average.

    >>> f"{cross_entropy(np.zeros((3, 4)), np.array([0, 1, -100])):.4f}"  # log 4, over the first two
    '1.3863'
    """
    x, t = as_operand("cross_entropy", x), as_operand("cross_entropy", t)
    label_smoothing = check_number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    if is_floating(t.dtype) and t.shape == x.shape and x.ndim > 1:
        t = t * (1 - label_smoothing) + label_smoothing / builtins.max(x.shape[1], 1)
        weights = _class_weights("cross_entropy", x, weight).reshape(-1, *(1,) * (x.ndim - 2))
        return _reduce("cross_entropy", -sum(t * log_softmax(x) * weights, axis=1), reduction)
    hint = ", or probabilities, floats, of x's shape"
    _check_classes("cross_entropy", x, t, ignore_index, hint)
    log_p = log_softmax(_rows_of_classes(x))
    return _class_loss(
        "cross_entropy", log_p, t, _class_weights("cross_entropy", x, weight), ignore_index, reduction, label_smoothing
    )


def nll_loss(x: Any, t: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Variable:
    """y = -x[t] for each sample, and their mean: `cross_entropy` for log-probabilities x, such as log_softmax gives.

    Args and errors as `cross_entropy`.

    >>> nll_loss(np.log(np.array([[0.5, 0.5], [1.0, 1.0]])), np.array([0, 1]), reduction="none")
    variable([ 0.69314718 -0.        ])
    """
    x, t = as_operand("nll_loss", x), as_operand("nll_loss", t)
    _check_classes("nll_loss", x, t, ignore_index)
    weights = _class_weights("nll_loss", x, weight)
    return _class_loss("nll_loss", _rows_of_classes(x), t, weights, ignore_index, reduction)


def _rows_of_classes(x: Variable) -> Variable:
    """(N, C, ...) -> (N * ..., C): a row for each label."""
    return reshape(moveaxis(x, 1, -1), (-1, x.shape[1]))


def _class_loss(
    operation: str,
    log_p: Variable,
    t: Variable,
    weights: Any,
    ignore_index: int,
    reduction: str,
    smoothing: float = 0.0,
) -> Variable:
    """The loss of log-probabilities (M, C), a row for each of the labels `t` in order."""
    xp = cuda.get_array_module(log_p.data)
    labels = t.data.ravel()
    counts = labels != ignore_index
    labels = xp.where(counts, labels, 0)
    shares = _nan_without_class(weights[labels] * counts, labels, log_p.shape[1])
    # Choosing, and not multiplying by 0: minus infinity is a logarithm, too.
    losses = where(counts, get_item(log_p, (xp.arange(labels.size), labels)), 0.0) * -shares
    if smoothing:
        everywhere = where(counts, sum(log_p * weights, axis=1), 0.0)
        losses = losses * (1 - smoothing) - everywhere * (smoothing / log_p.shape[1])
    if reduction != "mean":
        return _reduce(operation, reshape(losses, t.shape), reduction)
    if isinstance(shares, np.ndarray) and not shares.any():
        raise ValueError(
            f"{operation}: there is nothing to average, t {t.shape} has no label that is not ignored or of weight 0"
        )
    return sum(losses) / shares.sum()


def _check_classes(operation: str, x: Variable, t: Variable, ignore_index: int, hint: str = "") -> None:
    if x.ndim < 2 or t.shape != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"{operation}: expected x (N, C, ...) and integer labels t (N, ...){hint}, got x {x.shape} and t {t.shape}"
        )
    if not is_int(ignore_index):
        raise TypeError(f"{operation}: ignore_index must be an int, got {ignore_index!r:.60}")
    if t.dtype.kind not in "iu":
        raise TypeError(f"{operation}: labels must be integers, got {t.dtype}; use t.astype(int)")
    cuda.check_same_device(operation, [x.data, t.data])
    labels = t.data.ravel()
    if isinstance(labels, np.ndarray):
        check_range(ValueError, f"{operation}: labels", np.where(labels == ignore_index, 0, labels), x.shape[1])


def _class_weights(operation: str, x: Variable, weight: Any) -> Any:
    """How much each class counts, a plain array (C,) of x's dtype."""
    C, xp = x.shape[1], cuda.get_array_module(x.data)
    if isinstance(weight, Variable):
        raise TypeError(f"{operation}: weight receives no gradient; give an array, weight.data")
    if weight is None:
        return xp.ones(C, x.dtype if is_floating(x.dtype) else np.float64)
    if not cuda.is_array(weight) or weight.shape != (C,):
        got = weight.shape if cuda.is_array(weight) else type(weight).__name__
        raise ValueError(f"{operation}: weight must be an array ({C},), one number for each class, got {got}")
    cuda.check_same_device(f"{operation}: x and weight", [x.data, weight])
    return weight.astype(x.dtype if is_floating(x.dtype) else np.float64)


class SigmoidCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        xp = cuda.get_array_module(x)
        # -t log p - (1 - t) log(1 - p) for p = sigmoid(x), arranged so that exp never overflows
        losses = xp.maximum(x, 0) - x * t + xp.log1p(xp.exp(-xp.abs(x)))
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


def kl_divergence(x: Any, t: Any, reduction: str = "batchmean") -> Variable:
    """y = sum of t * (log t - x) over N: the Kullback-Leibler divergence of exp(x) from t.

    Args:
        x: log-probabilities (N, ...), such as log_softmax gives.
        t: probabilities of x's shape; 0 log 0 counts as 0.
        reduction: "batchmean" divides the sum by N, the length of the first axis; "mean" by the number of elements;
            "sum"; or "none".

    Raises ValueError when the shapes differ, or there is nothing to average. Source: Kullback and Leibler (1951), with
    the arguments of PyTorch's kl_div.

    >>> p = np.array([[0.5, 0.5]])
    >>> f"{kl_divergence(np.log(np.array([[0.25, 0.75]])), p):.4f}"
    '0.1438'
    """
    x, t = as_operand("kl_divergence", x), as_operand("kl_divergence", t)
    if x.shape != t.shape:
        raise ValueError(f"kl_divergence: expected x and t of one shape, got x {x.shape} and t {t.shape}")
    _check_reduction("kl_divergence", reduction, ("batchmean", *_REDUCTIONS))
    if isinstance(t.data, np.ndarray) and t.size and t.data.min() < 0:
        raise ValueError(f"kl_divergence: t must be probabilities, at least 0, got {t.data.min()}")
    some = t.data > 0
    losses = t * (log(where(some, t, 1.0)) - x)
    if reduction != "batchmean":
        return _reduce("kl_divergence", losses, reduction)
    if losses.size == 0 or losses.ndim == 0:
        raise ValueError(f"kl_divergence: there is no row to average over, shape {losses.shape}")
    return sum(losses) / len(losses)


def _targets(operation: str, x: Any, t: Any) -> tuple[Variable, Variable]:
    """Give targets the dtype of `x`, and its shape when their ranks differ; check that they fit."""
    x, t = as_operand(operation, x), as_operand(operation, t)
    shape = x.shape if x.ndim != t.ndim and x.size == t.size else t.shape
    dtype = x.dtype if is_floating(x.dtype) and not is_floating(t.dtype) else t.dtype
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
    cuda.check_same_device("accuracy", [y, t])
    return Variable(as_array((y.argmax(axis=1).reshape(t.shape) == t).mean()))
