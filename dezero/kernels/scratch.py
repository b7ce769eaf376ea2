"""Memory to work in that outlives a call.

A large array is mapped by the system at its first use, page by page, which takes as long as filling it several times.
So each thread keeps one flat buffer for each purpose, as large as it was needed, up to LIMIT in all; what is larger is
made for the call and let go.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["release", "take"]

LIMIT = 2**26  # bytes that a thread keeps

_generation = 0


class _Kept(threading.local):
    def __init__(self) -> None:
        self.generation = _generation
        self.buffers: dict[str, Any] = {}


_kept = _Kept()


def take(purpose: str, size: int, dtype: Any) -> Any:
    """Return this thread's buffer for `purpose`, a flat array of `size` numbers: whatever was left there is in it."""
    if _kept.generation != _generation:
        _kept.__init__()  # type: ignore[misc]
    needed = size * np.dtype(dtype).itemsize
    buffer = _kept.buffers.get(purpose)
    if buffer is None or buffer.nbytes < needed:
        buffer = np.empty(needed, np.uint8)
        others = sum(kept.nbytes for name, kept in _kept.buffers.items() if name != purpose)
        if others + needed <= LIMIT:
            _kept.buffers[purpose] = buffer
    return buffer[:needed].view(dtype)


def release() -> None:
    """Let go of what this thread keeps; every other thread does so when it next works."""
    global _generation
    _generation += 1
    _kept.__init__()  # type: ignore[misc]
