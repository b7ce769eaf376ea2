"""Activations and their gradients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from dezero.kernels import memory, reference
from dezero.kernels.blocked.layout import flat, is_ours, is_wide

BLOCK = 2**14  # elements that are worked on at a time: several arrays of so many stay in the first two levels of cache


@functools.cache
def _zeros(dtype: Any) -> Any:
    zeros = np.zeros(BLOCK, dtype)
    zeros.flags.writeable = False
    return zeros


def relu(x: Any) -> Any:
    """As `reference.relu`: the maximum with an array of zeros; with a number, NumPy takes three times as long."""
    if not is_wide(x):
        return reference.relu(x)
    y = memory.empty_like(x)
    if (views := flat(x, y)) is None:
        return reference.relu(x)
    _maximum_with_zeros(*views)
    return y


def relu_in_place(x: Any) -> Any:
    """The same, in the memory of x: an array that nobody else has."""
    views = flat(x) if is_wide(x) else None
    if views is None:
        return np.maximum(x, x.dtype.type(0), out=x)
    _maximum_with_zeros(*views, *views)
    return x


def _maximum_with_zeros(x: Any, y: Any) -> None:
    zeros, whole = _zeros(x.dtype), x.size // BLOCK * BLOCK
    np.maximum(x[:whole].reshape(-1, BLOCK), zeros, out=y[:whole].reshape(-1, BLOCK))
    np.maximum(x[whole:], zeros[: x.size - whole], out=y[whole:])


def relu_grad(x: Any, gy: Any) -> Any:
    """As `reference.relu_grad`: the bits of gy, and those of -1 or 0. Choosing by branches takes ten times as long."""
    if not is_ours(x, gy):
        return reference.relu_grad(x, gy)
    gx = memory.empty_like(x)  # in its order: what comes back from a classifier's head lies in another
    keep_where(np.greater(x, 0, out=memory.empty_like(x, bool)), gy, out=gx)  # of no axes, x > 0 would be a number
    return gx


def keep_where(condition: Any, x: Any, out: Any) -> Any:
    """out = x where the booleans are true and 0 elsewhere: by its bits, as 0 * inf is not 0. `condition` is lost."""
    bits = np.dtype(f"i{x.itemsize}")
    mask = condition.view(np.int8)
    np.bitwise_and(x.view(bits), np.negative(mask, out=mask), out=out.view(bits))
    return out


def sigmoid(x: Any) -> Any:
    """As `reference.sigmoid`, without a choice: where exp(-x) overflows, to infinity, the reciprocal is 0: right.

    Not in float16, where exp overflows before sigmoid vanishes.
    """
    if not is_wide(x):
        return reference.sigmoid(x)
    y = np.negative(x, out=memory.empty_like(x))  # an array of no axes would come back as a number
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += 1
    return np.reciprocal(y, out=y)


def sigmoid_grad(y: Any, gy: Any) -> Any:
    """As `reference.sigmoid_grad`, in one array."""
    gx = 1 - y
    gx *= y
    gx *= gy
    return gx


def tanh_grad(y: Any, gy: Any) -> Any:
    """As `reference.tanh_grad`, in two arrays."""
    gx = 1 - y * y
    gx *= gy
    return gx
