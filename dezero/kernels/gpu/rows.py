"""Rows that are added up where an index names them, in the order in which they come or in any."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from dezero import cuda
from dezero.kernels.gpu.launch import FLOATING, INTEGERS, Source, as_indexes, contiguous, for_each, sums_dtype

_SOURCE = Source(
    r"""
// rows is sorted, and order says where each stood before. Column d of the first of a run of equal rows adds up the
// run; gx begins as zeros.
extern "C" __global__ void add_runs(const K* rows, const K* order, const T* gy, T* gx, I count, I N, I D)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I first = k / D, d = k % D;
    const K row = rows[first];
    if (first > 0 && rows[first - 1] == row) return;
    A sum = 0;
    for (I i = first; i < N && rows[i] == row; i++) sum += (A)gy[(I)order[i] * D + d];
    gx[(I)row * D + d] = (T)sum;
}
""",
    types=(*FLOATING, *INTEGERS),
    integers=("int64",),
)


def add_rows(shape: tuple[int, ...], rows: Any, gy: Any) -> Any:
    """As `reference.add_rows`: zeros of `shape`, to which gy (..., *shape[1:]) is added at the rows (...).

    By atomic additions, which come in another order each time, unless `cuda.deterministic` asks for an order: then rows
    are sorted, and each is added up as it was named. Negative rows count from the end, and others are taken modulo the
    number of rows, as CuPy does with indexes.
    """
    if not gy.size or not math.prod(shape):
        return sys.modules["cupy"].zeros(shape, gy.dtype)
    rows, gy = as_indexes(rows).ravel(), gy.reshape(-1, *shape[1:])
    return _by_sorting(shape, rows, gy) if _has_order(gy) else _by_atomics(shape, rows, gy)


def add_at(shape: tuple[int, ...], slices: Any, gy: Any) -> Any:
    """Zeros of `shape` to which gy is added at [slices], any index: an element named twice gets both.

    What `cuda.deterministic` means for `add_rows` it means here.
    """
    if not _has_order(gy):
        return _by_atomics(shape, slices, gy)
    xp, size = sys.modules["cupy"], math.prod(shape)
    places = xp.arange(size).reshape(shape)[slices]
    return add_rows((size,), places, xp.broadcast_to(gy, places.shape)).reshape(shape)


def _has_order(gy: Any) -> bool:
    """Say whether additions are to be made in order; integers, of which few can be added atomically, always are."""
    return cuda.deterministic or gy.dtype.kind in "iu"


def _by_atomics(shape: tuple[int, ...], slices: Any, gy: Any) -> Any:
    xp, wide = sys.modules["cupy"], sums_dtype(gy.dtype)
    gx = xp.zeros(shape, wide)
    xp.add.at(gx, slices, gy.astype(wide, copy=False))
    return gx.astype(gy.dtype, copy=False)


def _by_sorting(shape: tuple[int, ...], rows: Any, gy: Any) -> Any:
    xp, D = sys.modules["cupy"], math.prod(shape[1:])
    rows = rows.astype(np.int64, copy=False) % shape[0]
    order = xp.argsort(rows).astype(np.int64, copy=False)  # CuPy's sorting is stable
    gx = xp.zeros(shape, gy.dtype)
    arrays = rows[order], order, contiguous(gy), gx
    for_each(_SOURCE, "add_runs", gy.size, arrays, (rows.size, D), T=gy.dtype, K=rows.dtype)
    return gx
