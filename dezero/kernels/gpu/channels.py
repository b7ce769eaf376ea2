"""Images whose channels lie last in memory: axes (N, C, H, W) as everywhere, elements in the order (N, H, W, C).

Strides carry the order. Neighbours are then the channels of a pixel, which is how tensor cores want images. A kernel of
this folder that gets images so gives images back so; which order that is, its first argument of images decides. What
lies in both orders (one channel, or one pixel) counts as C order.

Threads must go along memory, or each asks for a line of the cache of its own. Our kernels count elements as they lie;
CuPy's count in the order of the axes, so they are shown the array (N, H, W, C): see `elementwise`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dezero.kernels.gpu.launch import contiguous


def lie_last(x: Any) -> bool:
    """Say whether x (N, C, H, W) is no array in C order, but a view of an array (N, H, W, C) that is.

    >>> import numpy as np
    >>> lie_last(np.zeros((2, 5, 5, 3)).transpose(0, 3, 1, 2)), lie_last(np.zeros((2, 3, 5, 5)))
    (True, False)
    """
    return x.ndim == 4 and not x.flags.c_contiguous and _as_rows(x).flags.c_contiguous


def in_order(x: Any, last: bool, dtype: Any = None) -> Any:
    """`x` in C order, or with channels last, and of that dtype: itself where it is so already."""
    return _as_images(contiguous(_as_rows(x), dtype)) if last else contiguous(x, dtype)


def empty(shape: tuple[int, ...], dtype: Any, last: bool) -> Any:
    """A new array of `shape`, in C order or with channels last."""
    xp = sys.modules["cupy"]
    if not last:
        return xp.empty(shape, dtype)
    N, C, H, W = shape
    return _as_images(xp.empty((N, H, W, C), dtype))


def elementwise(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """f(x, *others) for an f of CuPy's that goes through elements; the result lies as the images x do.

    The others have as many axes as x, or are numbers. All else than images with channels last goes to f as it is.
    """
    if not lie_last(x):
        return f(x, *others)
    return _as_images(f(_as_rows(x), *(_as_rows(other) if hasattr(other, "ndim") else other for other in others)))


def _as_rows(x: Any) -> Any:
    return x.transpose(0, 2, 3, 1)


def _as_images(x: Any) -> Any:
    return x.transpose(0, 3, 1, 2)
