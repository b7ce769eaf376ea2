"""F: reductions over axes. Sum, max and min are core's, because Variable's methods need them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import (
    Function,
    Max,
    Min,
    Sum,
    Variable,
    abs,
    as_floating,
    as_operand,
    astype,
    check_axis,
    is_floating,
    is_int,
    max_backward_shape,
    normalize_axis,
    reshape,
)
from dezero.functions_elementwise import exp, sqrt, where
from dezero.functions_shape import concat, flip, moveaxis

__all__ = [
    "Cumsum",
    "LogSumExp",
    "argmax",
    "argmin",
    "average",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]

# ----------------------------------------------------------------------------------------------------------------------
# Sums and what is made of them
# ----------------------------------------------------------------------------------------------------------------------


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis`, an int, a tuple of ints, or None for all.

    >>> sum(np.ones((2, 3)), axis=1)
    variable([3. 3.])
    """
    return Sum(axis, keepdims)(x)


def average(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis` divided by the number of elements summed; NaN over none, as in NumPy.

    >>> average(np.array([[1.0, 2.0], [3.0, 6.0]]), axis=0)
    variable([2. 4.])
    """
    x = as_operand("average", x)
    return _mean(x, check_axis("average", x, axis), keepdims)


mean = average


def _mean(x: Variable, axis: Any, keepdims: bool, ddof: float = 0) -> Variable:
    """The sum over `axis`, divided by the number of elements less `ddof`."""
    y = sum(x, axis, keepdims)
    count = x.size / builtins.max(y.size, 1) - ddof
    return y / count if count > 0 else y * np.nan


def var(x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Variable:
    """y = sum of (x - mean of x) ** 2 over `axis` / (n - ddof), n elements; NaN when ddof leaves none, as in NumPy.

    ddof=1 gives the unbiased estimate, which is PyTorch's default.

    >>> var(np.array([1.0, 3.0])), var(np.array([1.0, 3.0]), ddof=1)
    (variable(1.0), variable(2.0))
    """
    x = as_operand("var", x)
    axis = check_axis("var", x, axis)
    centred = x - _mean(x, axis, keepdims=True)
    return _mean(centred * centred, axis, keepdims, ddof)


def std(x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Variable:
    """y = the square root of `var`; the gradient is 0 where all elements are equal.

    >>> std(np.array([1.0, 3.0]))
    variable(1.0)
    """
    x = as_operand("std", x)
    axis = check_axis("std", x, axis)
    return _root(var(x, axis, keepdims, ddof), sqrt)


def _root(y: Variable, root: Callable[[Variable], Variable]) -> Variable:
    """root(y), for y >= 0, with the slope 0 at 0, not infinity: `std` and `norm` are at their lowest there."""
    zero = y.data == 0
    return where(zero, 0.0, root(where(zero, 1.0, y)))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Variable:
    """The length of vectors, or the size of matrices, as `np.linalg.norm`; the gradient at 0 is 0.

    Args:
        ord: for vectors: None or 2, the root of the sum of squares; 1, the sum of absolute values; inf and -inf, the
            largest and the smallest of them; any other p > 0, (sum of |x| ** p) ** (1 / p). For matrices: None or
            "fro", the root of the sum of squares; 1 and -1, the largest and smallest column sum of absolute values;
            inf and -inf, of the rows.
        axis: an int: vectors along it; a pair: matrices over both; None: x as a vector or a matrix, or, with `ord`
            None, all of x as one vector.

    Raises ValueError for another `ord`, or when x is no vector and no matrix.

    >>> norm(np.array([3.0, 4.0])), norm(np.array([3.0, -4.0]), ord=1)
    (variable(5.0), variable(7.0))
    """
    x = as_floating("norm", x)
    if ord is None:
        axis = check_axis("norm", x, axis)
        return _root(sum(x * x, axis, keepdims), sqrt)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if is_int(axis) else axis
    axes = check_axis("norm", x, axes)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, tuple(a % x.ndim for a in axes), keepdims)
    raise ValueError(f"norm: ord {ord!r} expects one axis or two, got axis {axis!r} of x {x.shape}")


def _vector_norm(x: Variable, ord: Any, axes: Any, keepdims: bool) -> Variable:
    if ord == 2:
        return _root(sum(x * x, axes, keepdims), sqrt)
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(abs(x), axes, keepdims)
    if not isinstance(ord, (int, float, np.integer, np.floating)) or not ord > 0:
        raise ValueError(f"norm: ord of a vector must be None, inf, -inf or a number above 0, got {ord!r}")
    if ord == 1:
        return sum(abs(x), axes, keepdims)
    return _root(sum(_root(abs(x), lambda y: y**ord), axes, keepdims), lambda y: y ** (1 / ord))


def _matrix_norm(x: Variable, ord: Any, axes: tuple[int, int], keepdims: bool) -> Variable:
    if ord == "fro":
        return _root(sum(x * x, axes, keepdims), sqrt)
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(
            f"norm: ord of a matrix must be None, 'fro', 1, -1, inf or -inf, got {ord!r}; "
            "2, -2 and 'nuc' need singular values: np.linalg.norm takes plain arrays"
        )
    rows, columns = axes
    summed, chosen = (rows, columns) if builtins.abs(ord) == 1 else (columns, rows)
    y = (max if ord > 0 else min)(sum(abs(x), summed, keepdims=True), chosen, keepdims=True)
    return y if keepdims else reshape(y, tuple(n for i, n in enumerate(x.shape) if i not in axes))


class Cumsum(Function):
    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return x.cumsum(axis=self.axis)

    def backward(self, gy: Variable) -> Any:
        return flip(cumsum(flip(gy, self.axis), self.axis), self.axis)


def cumsum(x: Any, axis: int | None = None) -> Variable:
    """y[i] = x[0] + ... + x[i] along `axis`, or along x flattened.

    >>> cumsum(np.array([1.0, 2.0, 3.0]))
    variable([1. 3. 6.])
    """
    x = as_operand("cumsum", x)
    if axis is None:
        return Cumsum(0)(reshape(x, (-1,)))
    return Cumsum(normalize_axis("cumsum", axis, builtins.max(x.ndim, 1)))(x)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = product of the elements of x over `axis`, an int, a tuple of ints, or None for all; 1 over none.

    >>> prod(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    variable([ 2. 12.])
    """
    x = as_operand("prod", x)
    axis = check_axis("prod", x, axis)
    if x.dtype.kind in "bui":
        x = astype(x, np.prod(np.ones(1, x.dtype)).dtype)  # as NumPy: int8 and the like are multiplied in int64
    shape = max_backward_shape(x, axis)
    reduced = [i for i, n in enumerate(x.shape) if shape[i] != n]
    rest = [n for i, n in enumerate(x.shape) if i not in reduced]
    y = reshape(moveaxis(x, reduced, range(len(reduced))), (math.prod(x.shape[i] for i in reduced), *rest))
    y = _multiply_rows(y)
    return reshape(y, shape if keepdims else _without(shape, x.ndim, axis))


def _multiply_rows(y: Variable) -> Variable:
    """Multiply the first half by the second until one row is left.

    Every derivative of a product of two is right at zeros, and so is theirs; y / x would not be.
    """
    if len(y) == 0:
        return sum(y, axis=0) + 1  # ones, with a graph
    while len(y) > 1:
        half = len(y) // 2
        left_over = [y[2 * half :]] if len(y) % 2 else []
        y = concat([y[:half] * y[half : 2 * half], *left_over])
    return y


def _without(shape: tuple[int, ...], ndim: int, axis: Any) -> tuple[int, ...]:
    """`shape` without the reduced axes."""
    axes = range(ndim) if axis is None else (axis,) if is_int(axis) else axis
    reduced = {a % builtins.max(ndim, 1) for a in axes}
    return tuple(n for i, n in enumerate(shape) if i not in reduced)


# ----------------------------------------------------------------------------------------------------------------------
# The largest and the smallest
# ----------------------------------------------------------------------------------------------------------------------


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = largest element over `axis`; elements that tie share the gradient equally.

    >>> x = Variable(np.array([1.0, 3.0, 3.0]))
    >>> y = max(x)
    >>> y.backward()
    >>> y, x.grad
    (variable(3.0), variable([0.  0.5 0.5]))
    """
    return Max(axis, keepdims)(x)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = smallest element over `axis`; elements that tie share the gradient equally.

    >>> min(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    variable([1. 3.])
    """
    return Min(axis, keepdims)(x)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the largest element stands along `axis`, or in x flattened: an integer array, not a Variable.

    The first of those that tie. Not differentiable. Raises ValueError over no element.

    >>> argmax(np.array([[1.0, 5.0], [4.0, 3.0]]), axis=1)
    array([1, 0])
    """
    return _where_first("argmax", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the smallest element stands along `axis`, or in x flattened: an integer array, not a Variable.

    The first of those that tie. Not differentiable. Raises ValueError over no element.

    >>> argmin(np.array([[1.0, 5.0], [4.0, 3.0]]), axis=1)
    array([0, 1])
    """
    return _where_first("argmin", x, axis, keepdims)


def _where_first(operation: str, x: Any, axis: Any, keepdims: bool) -> Any:
    x = as_operand(operation, x)
    if axis is not None:
        axis = normalize_axis(operation, axis, builtins.max(x.ndim, 1))
    if x.size == 0 and 0 not in max_backward_shape(x, axis):
        raise ValueError(f"{operation}: x {x.shape} has no element along axis {axis}")
    return getattr(cuda.get_array_module(x.data), operation)(x.data, axis=axis, keepdims=keepdims)


class LogSumExp(Function):
    operation = "logsumexp"

    def __init__(self, axis: Any, keepdims: bool) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        self.axis = check_axis(self.operation, x, self.axis)
        y = logsumexp_array(x, self.axis)
        return y if self.keepdims else y.reshape(_without(y.shape, x.ndim, self.axis))

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        y = exp(x - _largest(x.data, self.axis))
        total = sum(y, self.axis, keepdims=True)
        share = y / where(total.data == 0, 1.0, total)  # 0 where every element is minus infinity
        return reshape(gy, total.shape) * share


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = ln of the sum of exp(x) over `axis`, an int, a tuple of ints, or None for all; without overflow.

    Minus infinity over none, and where every element is minus infinity.

    >>> logsumexp(np.array([1000.0, 1000.0]))  # 1000 + ln 2
    variable(1000.6931471805599)
    """
    return LogSumExp(axis, keepdims)(x)


def logsumexp_array(x: Any, axis: Any = 1) -> Any:
    """`logsumexp` on a plain array; the axis is kept, with size 1."""
    xp = cuda.get_array_module(x)
    if not is_floating(x.dtype):
        x = x.astype(np.float64)
    largest = _largest(x, axis)
    with np.errstate(divide="ignore"):
        return largest + xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True))


def _largest(x: Any, axis: Any) -> Any:
    """The largest element over `axis`, kept; 0 where that is infinite, as inf - inf is not a number."""
    if not x.size:
        return x.sum(axis=axis, keepdims=True)
    xp = cuda.get_array_module(x)
    largest = x.max(axis=axis, keepdims=True)
    return xp.where(xp.isfinite(largest), largest, x.dtype.type(0))
