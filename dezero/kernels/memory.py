"""Memory for results, used again when the last array that lies in it is gone.

A training step makes the same large arrays again and again. The system gives each its memory page by page, at the first
touch, and takes it back soon after: a fifth of the time of a step went there. So memory for what kernels return comes
from here. It goes back into `_idle` when its `Owner` is collected, which every array and view in it keeps alive, and
the next result of that size finds it there. Nothing else changes: they are plain arrays.

What is idle is bounded by LIMIT, of which sizes that nobody asks for make place for newer ones, and `release()` lets go
of it. Small arrays come from NumPy as ever.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

__all__ = ["Owner", "empty", "empty_like", "has_own_memory", "release", "zeros"]

LIMIT = 2**28  # bytes that may lie idle
SMALLEST = 2**16  # bytes: below, asking NumPy takes less

_idle: dict[int, list[Any]] = {}  # by size, in the order in which sizes were last used


class Owner:
    """Keeps a piece of memory for the arrays that lie in it; their `base`."""

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.memory = memory
        place = memory.__array_interface__["data"]
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": place}

    def __del__(self) -> None:
        size = self.memory.nbytes
        if size > LIMIT:
            return
        pieces = _idle.pop(size, [])
        pieces.append(self.memory)
        _idle[size] = pieces  # at the end: used last
        with contextlib.suppress(StopIteration, RuntimeError, KeyError, IndexError):  # another thread was first
            while sum(size * len(pieces) for size, pieces in list(_idle.items())) > LIMIT:
                oldest = next(iter(_idle))
                _idle[oldest].pop()
                if not _idle[oldest]:
                    del _idle[oldest]


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """As np.empty."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST or dtype.kind not in "biufc":
        return np.empty(shape, dtype)
    size = _rounded(size)
    try:
        memory = _idle[size].pop()
    except (KeyError, IndexError):
        memory = np.empty(size, np.uint8)
    return np.asarray(Owner(memory, tuple(map(int, shape)), dtype))


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """As np.zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def empty_like(x: Any, dtype: Any = None) -> Any:
    """As np.empty_like for a dense array: in the same order."""
    if x.size * x.itemsize < SMALLEST:
        return np.empty_like(x, dtype=dtype)
    order = sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], axis))
    array = empty(tuple(x.shape[axis] for axis in order), dtype or x.dtype)
    return array.transpose(np.argsort(order)) if order != list(range(x.ndim)) else array


def _rounded(size: int) -> int:
    """Up to an eighth more, so that sizes that are nearly the same share their memory."""
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step


def has_own_memory(x: Any) -> bool:
    """Say whether the array is not a view of another one, so that nobody else sees when it changes."""
    return x.flags.owndata or type(x.base) is Owner


def release() -> None:
    """Give idle memory back to the system."""
    _idle.clear()
