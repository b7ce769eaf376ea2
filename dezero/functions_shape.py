"""F: shapes. Reshape, transpose and indexing are core's, because Variable's own methods need them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.core import Variable, as_operand, reshape

__all__ = [
    "expand_dims",
    "flatten",
]


def expand_dims(x: Any, axis: int) -> Variable:
    """Insert an axis of size 1 at position `axis` of the result; -1 is the last.

    >>> expand_dims(np.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    x = as_operand("expand_dims", x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"expand_dims: axis {axis} is out of bounds for a result of {x.ndim + 1} axes (x {x.shape})")
    position = axis % (x.ndim + 1)
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def flatten(x: Any) -> Variable:
    """Keep the first axis and join all others: (N, C, H, W) -> (N, C*H*W).

    >>> flatten(np.zeros((5, 3, 2, 2))).shape
    (5, 12)
    """
    x = as_operand("flatten", x)
    if x.ndim == 0:
        raise ValueError("flatten: expected at least one axis, got a 0-dimensional x")
    return reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))
