"""F: products. matmul is core's, because Variable's operators need it; convolutions have a room of their own."""

from __future__ import annotations

import builtins
import itertools
import math
import string
from collections.abc import Sequence
from typing import Any

from dezero import cuda, kernels
from dezero.core import Function, Variable, as_operand, check_axis, check_product, is_int, matmul, reshape, transpose

__all__ = [
    "Einsum",
    "Linear",
    "einsum",
    "linear",
    "linear_simple",
    "tensordot",
]


class Linear(Function):
    precision = "half"

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        if W.ndim != 2:
            raise ValueError(f"linear: W must have shape (in, out), got {W.shape}")
        check_product(self.operation, x, W)
        if b is not None and b.shape != (W.shape[1],):
            raise ValueError(
                f"linear: b must have shape {(W.shape[1],)}, one for each output, got {b.shape} (W {W.shape})"
            )
        y = kernels.for_array(x).linear(x.reshape(-1, W.shape[0]), W, b)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], W.shape[1])

    def backward(self, gy: Variable) -> Any:
        x, W, b = self.inputs
        gx = gW = None
        if x.requires_grad:
            gx = matmul(gy, transpose(W))
        if W.requires_grad:
            rows, gy_rows = (x, gy) if x.ndim == 2 else (reshape(x, (-1, W.shape[0])), reshape(gy, (-1, W.shape[1])))
            gW = matmul(transpose(rows), gy_rows)
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
    if None in axes:
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

    precision = "half"

    def __init__(self, labels: Sequence[str], out: str) -> None:
        self.labels = labels
        self.out = out

    def forward(self, *xs: Any) -> Any:
        self.shapes = [x.shape for x in xs]
        subscripts = f"{','.join(self.labels)}->{self.out}"
        return kernels.for_array(xs[0]).einsum(subscripts, *xs)

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
                operands.append(xp.eye(n, dtype=gy.dtype))  # (n, n): dense, so not for thousands
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
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operand{'s' * (len(terms) > 1)}, got {len(xs)}")
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
            size = sizes.setdefault(letter, n) if n != 1 or letters.count(letter) > 1 else n
            if size != n:
                shapes = ", ".join(str(x.shape) for x in xs)
                raise ValueError(f"einsum: {letter!r} of {subscripts!r} is {size} long and {n} long (shapes {shapes})")


def _unused_letters(used: str, count: int) -> str:
    return "".join(itertools.islice((a for a in string.ascii_letters if a not in used), count))
