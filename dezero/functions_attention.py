"""F: what networks over words need."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import Variable, get_item

__all__ = [
    "embed_id",
]


def check_range(error: type[Exception], what: str, ids: Any, size: int) -> None:
    """Raise `error` when an id is not in 0..size-1. On a GPU, looking would stop the stream."""
    if isinstance(ids, np.ndarray) and ids.size and (ids.min() < 0 or ids.max() >= size):
        bad = int(np.flatnonzero((ids.ravel() < 0) | (ids.ravel() >= size))[0])
        raise error(f"{what} must lie in 0..{size - 1}, got {ids.ravel()[bad]} at index {bad}")


def embed_id(x: Any, W: Any) -> Variable:
    """y = W[x]: the rows of W (V, D) that the ids `x` (...) name -> (..., D).

    Raises TypeError when ids are not integers, IndexError when one is not in 0..V-1.

    >>> embed_id(np.array([2, 0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    variable([[5. 6.]
              [1. 2.]])
    """
    ids = cuda.plain(x)
    if not cuda.is_array(ids):
        ids = np.asarray(ids) if np.size(ids) else np.zeros(np.shape(ids), int)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embed_id: ids must be integers, got {ids.dtype}")
    check_range(IndexError, "embed_id: ids", ids, len(W))
    return get_item(W, ids)
