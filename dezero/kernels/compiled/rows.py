"""Products of matrices, and rows picked from a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import blocked, memory
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import flattened, is_ours


def add_rows(shape: tuple[int, ...], rows: Any, gy: Any) -> Any:
    """As `reference.add_rows`."""
    if not is_ours(gy) or not rows.size:
        return blocked.add_rows(shape, rows, gy)
    gx = memory.zeros(shape, gy.dtype)
    places = np.array(rows, np.int64).reshape(-1)
    places[places < 0] += shape[0]
    if places.min() < 0 or places.max() >= shape[0]:
        raise IndexError(f"add_rows: rows must be in {-shape[0]}..{shape[0] - 1}, got {rows.min()} to {rows.max()}")
    _add_rows(gx.reshape(-1), places, flattened(gy)[0], gx[0].size)
    return gx


@compiled
def _add_rows(gx, rows, gy, length):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        target, source = gx[rows[i] * length : (rows[i] + 1) * length], gy[i * length : (i + 1) * length]
        for j in range(length):
            target[j] += source[j]
