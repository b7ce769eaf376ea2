"""F: reductions over axes, and products. Sum, max, min and matmul are core's, because Variable's methods need them."""

from __future__ import annotations

import builtins
import itertools
import math
import string
from collections.abc import Sequence
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
    as_operand,
    astype,
    check_axis,
    check_product,
    is_int,
    matmul,
    max_backward_shape,
    reshape,
    transpose,
)
from dezero.functions_elementwise import exp, sqrt, where
from dezero.functions_shape import concat, flip, moveaxis

__all__ = [
    "Cumsum",
    "Einsum",
    "Linear",
    "LogSumExp",
    "argmax",
    "argmin",
    "average",
    "cumsum",
    "einsum",
    "linear",
    "linear_simple",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "tensordot",
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
    return y * (1 / count if count > 0 else np.nan)


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


def _root(y: Variable, root: Any) -> Variable:
    """root(y) with the gradient 0, not infinity, where y is 0: that is the lowest point of what y measures."""
    zero = y.data == 0
    return root(y + zero) * ~zero


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
    x = as_operand("norm", x)
    if x.dtype.kind != "f":
        x = astype(x, np.float64)
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
    if isinstance(ord, str) or not ord > 0:
        raise ValueError(f"norm: ord of a vector must be None, inf, -inf or a number above 0, got {ord!r}")
    if ord == 1:
        return sum(abs(x), axes, keepdims)
    return _root(sum(abs(x) ** ord, axes, keepdims), lambda y: y ** (1 / ord))


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
    _check_one_axis("cumsum", x, axis)
    return Cumsum(axis)(x)


def _check_one_axis(operation: str, x: Variable, axis: Any) -> None:
    if not is_int(axis):
        raise TypeError(f"{operation}: axis must be an int or None, got {axis!r:.60}")
    check_axis(operation, x, axis)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = product of the elements of x over `axis`, an int, a tuple of ints, or None for all; 1 over none.

    >>> prod(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    variable([ 2. 12.])
    """
    x = as_operand("prod", x)
    axis = check_axis("prod", x, axis)
    if x.dtype.kind in "bui":
        x = astype(x, np.prod(np.ones(1, x.dtype)).dtype)  # NumPy multiplies small integers in large ones
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
        return sum(y, axis=0) + 1  # of no rows
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
        _check_one_axis(operation, x, axis)
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
        (x,), kept = self.inputs, max_backward_shape(self.inputs[0], self.axis)
        y = reshape(self.outputs[0](), kept)
        y = where(y.data == -np.inf, 0.0, y)  # of no number, or of exp(-inf) alone: those have the gradient 0
        return reshape(gy, kept) * exp(x - y)


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
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    largest = xp.where(xp.isfinite(largest), largest, x.dtype.type(0))  # inf - inf is not a number
    with np.errstate(divide="ignore"):
        return largest + xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True))


# ----------------------------------------------------------------------------------------------------------------------
# Products
# ----------------------------------------------------------------------------------------------------------------------


class Linear(Function):
    def forward(self, x: Any, W: Any, b: Any) -> Any:
        if W.ndim != 2:
            raise ValueError(f"linear: W must have shape (in, out), got {W.shape}")
        check_product(self.operation, x, W)
        if b is not None and b.shape != (W.shape[1],):
            raise ValueError(
                f"linear: b must have shape {(W.shape[1],)}, one for each output, got {b.shape} (W {W.shape})"
            )
        y = x @ W
        return y if b is None else y + b

    def backward(self, gy: Variable) -> Any:
        x, W, b = self.inputs
        gx = gW = None
        if x.requires_grad:
            gx = matmul(gy, transpose(W))
        if W.requires_grad:
            gW = matmul(transpose(reshape(x, (-1, W.shape[0]))), reshape(gy, (-1, W.shape[1])))
        return gx, gW, gy if b.requires_grad else None


def linear(x: Any, W: Any, b: Any = None) -> Variable:
    """y = x W + b: x (N, in), or any number of axes before `in`; W (in, out); b (out,) or None -> (N, out).

    Raises ValueError when the sizes do not fit.

    >>> linear(np.ones((1, 2)), np.ones((2, 3)), np.array([0.0, 1.0, 2.0]))
    variable([[2. 3. 4.]])
    """
    return Linear()(x, W, b)


def linear_simple(x: Any, W: Any, b: Any = None) -> Variable:
    """`linear` composed of matmul and add, as the book's step 43 has it."""
    y = matmul(x, W)
    return y if b is None else y + b


def tensordot(x0: Any, x1: Any, axes: Any = 2) -> Variable:
    """Multiply, and sum over pairs of axes: the last `axes` of x0 with the first of x1, or a pair (axes0, axes1).

    The result has the remaining axes of x0, then those of x1. Raises ValueError when paired axes differ in size.

    >>> tensordot(np.ones((2, 3, 4)), np.ones((4, 3, 5)), axes=([1, 2], [1, 0])).shape
    (2, 5)
    """
    x0, x1 = as_operand("tensordot", x0), as_operand("tensordot", x1)
    axes0, axes1 = _paired_axes(x0, x1, axes)
    rest0 = [i for i in range(x0.ndim) if i not in axes0]
    rest1 = [i for i in range(x1.ndim) if i not in axes1]
    summed = math.prod(x0.shape[i] for i in axes0)
    shape = [x0.shape[i] for i in rest0] + [x1.shape[i] for i in rest1]
    matrix0 = reshape(transpose(x0, [*rest0, *axes0]), (math.prod(x0.shape[i] for i in rest0), summed))
    matrix1 = reshape(transpose(x1, [*axes1, *rest1]), (summed, math.prod(x1.shape[i] for i in rest1)))
    return reshape(matmul(matrix0, matrix1), shape)


def _paired_axes(x0: Variable, x1: Variable, axes: Any) -> tuple[list[int], list[int]]:
    shapes = f"x0 {x0.shape}, x1 {x1.shape}"
    if is_int(axes):
        if not 0 <= axes <= builtins.min(x0.ndim, x1.ndim):
            raise ValueError(f"tensordot: axes must lie in 0..{builtins.min(x0.ndim, x1.ndim)}, got {axes} ({shapes})")
        axes = range(x0.ndim - axes, x0.ndim), range(axes)
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise TypeError(f"tensordot: axes must be an int or a pair of axes, got {axes!r:.60}")
    axes0, axes1 = (
        [a % builtins.max(x.ndim, 1) for a in check_axis("tensordot", x, (a,) if is_int(a) else tuple(a))]
        for x, a in zip((x0, x1), axes, strict=True)
    )
    if [x0.shape[i] for i in axes0] != [x1.shape[i] for i in axes1]:
        raise ValueError(f"tensordot: axes {axes0} of x0 and {axes1} of x1 must have equal sizes ({shapes})")
    return axes0, axes1


class Einsum(Function):
    """A sum of products by labels: a letter for each axis of each operand, and of the result.

    Its derivative in one operand is another: gy and the other operands in, that operand's letters out.
    """

    def __init__(self, labels: Sequence[str], out: str) -> None:
        self.labels = labels
        self.out = out

    def forward(self, *xs: Any) -> Any:
        self.shapes = [x.shape for x in xs]
        subscripts = f"{','.join(self.labels)}->{self.out}"
        # Optimised, it is made of matrix products where it can be.
        return cuda.get_array_module(xs[0]).einsum(subscripts, *xs, optimize=len(xs) > 1)

    def backward(self, gy: Variable) -> Any:
        return tuple(self._gradient(i, gy) if x.requires_grad else None for i, x in enumerate(self.inputs))

    def _gradient(self, i: int, gy: Variable) -> Variable:
        xp = cuda.get_array_module(gy.data)
        operands = [gy, *self.inputs[:i], *self.inputs[i + 1 :]]
        labels = [self.out, *self.labels[:i], *self.labels[i + 1 :]]
        target, known = "", "".join(labels)
        for letter, n in zip(self.labels[i], self.shapes[i], strict=True):
            if letter in target:  # a diagonal was taken: beside it the gradient is 0
                fresh = _unused_letters(known + self.labels[i] + target, 1)
                operands.append(xp.eye(n, dtype=gy.dtype))
                labels.append(letter + fresh)
                letter = fresh
            elif letter not in known:  # summed by itself: the gradient is the same all along
                operands.append(xp.ones(n, gy.dtype))
                labels.append(letter)
            target += letter
        return Einsum(labels, target)(*operands)


def einsum(subscripts: str, *xs: Any) -> Variable:
    """Einstein's sum: multiply, and sum over every letter that the result does not have, as `np.einsum`.

    Args:
        subscripts: one letter for each axis, operands apart by commas, as in "ij,jk->ik"; "..." stands for axes that
            broadcast; without "->" the result has those axes, then the letters that come once, in order.

    Raises ValueError when the subscripts cannot be read or do not fit the operands.

    >>> einsum("ij,ij->i", np.ones((2, 3)), np.ones((2, 3)))  # the dot product of each row
    variable([3. 3.])
    """
    operands = [as_operand("einsum", x, xs) for x in xs]
    return Einsum(*_read_subscripts(subscripts, operands))(*operands)


def _read_subscripts(subscripts: Any, xs: Sequence[Variable]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, with letters in place of "..."."""
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts must be a string such as 'ij,jk->ik', got {type(subscripts).__name__}")
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands, got {len(xs)}")
    for term in [*terms, out]:
        letters = term.replace("...", "", 1)
        if letters and not (letters.isascii() and letters.isalpha()):
            raise ValueError(f"einsum: {subscripts!r} has {term!r}, which is not made of letters and one '...'")
    counts = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, xs, strict=True)]
    for term, count, x in zip(terms, counts, xs, strict=True):
        if count < 0 or (count > 0 and "..." not in term):
            raise ValueError(f"einsum: {term!r} does not name the {x.ndim} axes of an operand of shape {x.shape}")
    spread = [count for term, count in zip(terms, counts, strict=True) if "..." in term]
    dots = _unused_letters(subscripts, builtins.max(spread, default=0))
    labels = [term.replace("...", dots[len(dots) - count :]) for term, count in zip(terms, counts, strict=True)]
    _check_sizes(subscripts, labels, xs)
    return labels, _result_letters(subscripts, labels, dots, out if arrow else None)


def _result_letters(subscripts: str, labels: list[str], dots: str, out: str | None) -> str:
    letters = "".join(labels)
    if out is None:
        return dots + "".join(sorted(a for a in set(letters) - set(dots) if letters.count(a) == 1))
    if dots and "..." not in out:
        raise ValueError(f"einsum: the result of {subscripts!r} must have the '...' of the operands")
    out = out.replace("...", dots)
    if len(set(out)) < len(out) or not set(out) <= set(letters):
        raise ValueError(f"einsum: each letter of the result of {subscripts!r} must come once, and in an operand")
    return out


def _check_sizes(subscripts: str, labels: list[str], xs: Sequence[Variable]) -> None:
    sizes: dict[str, int] = {}
    for letters, x in zip(labels, xs, strict=True):
        for letter, n in zip(letters, x.shape, strict=True):
            size = sizes.setdefault(letter, n) if n != 1 else n
            if size != n:
                shapes = ", ".join(str(x.shape) for x in xs)
                raise ValueError(f"einsum: {letter!r} of {subscripts!r} is {size} long and {n} long (shapes {shapes})")


def _unused_letters(used: str, count: int) -> str:
    return "".join(itertools.islice((a for a in string.ascii_letters if a not in used), count))
