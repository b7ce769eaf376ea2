"""F: reductions over axes, and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.core import Function, Max, Min, Sum, Variable, as_operand, check_product, matmul, reshape, transpose

__all__ = [
    "Linear",
    "average",
    "linear",
    "linear_simple",
    "max",
    "mean",
    "min",
    "sum",
]


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis`, an int, a tuple of ints, or None for all.

    >>> sum(np.ones((2, 3)), axis=1)
    variable([3. 3.])
    """
    return Sum(axis, keepdims)(x)


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


def average(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis` divided by the number of elements summed; NaN over none, as in NumPy.

    >>> average(np.array([[1.0, 2.0], [3.0, 6.0]]), axis=0)
    variable([2. 4.])
    """
    x = as_operand("average", x)
    y = sum(x, axis, keepdims)
    return y * (y.size / x.size) if x.size else y * np.nan


mean = average


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
