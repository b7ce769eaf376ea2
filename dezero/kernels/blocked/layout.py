"""Orders in memory: what the fast kernels look at before they choose a way."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels.reference import Pair
from dezero.kernels.sizes import conv_outsize


def channels_last(x: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C), contiguous; a copy only when the channels are not last in memory yet."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_first(x: Any) -> Any:
    """(N, H, W, C) -> (N, C, H, W), the same memory."""
    return x.transpose(0, 3, 1, 2)


def is_ours(*arrays: Any) -> bool:
    """Say whether all arrays have one floating dtype and something in them: else the reference does the work."""
    dtype = arrays[0].dtype
    return dtype.kind == "f" and dtype.itemsize <= 8 and all(x.dtype == dtype and x.size for x in arrays)


def is_wide(*arrays: Any) -> bool:
    """`is_ours`, and not float16, in which sums and powers overflow."""
    return arrays[0].dtype.itemsize > 2 and is_ours(*arrays)


def conv_counts(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair) -> Pair:
    """How many windows fit into images along each axis: (OH, OW)."""
    OH, OW = (conv_outsize(*axis) for axis in zip(x.shape[2:], kernel_size, stride, pad, dilation, strict=True))
    return OH, OW


def flat(*arrays: Any) -> list[Any] | None:
    """Return views of one axis, element beside element, of dense arrays that lie in memory in one order; else None."""
    first = arrays[0]
    for x in arrays:
        if x.shape != first.shape:
            return None
    for x in arrays:
        if not x.flags.c_contiguous:
            break
    else:
        return [x.reshape(-1) for x in arrays]
    axes = sorted(range(first.ndim), key=lambda i: -first.strides[i])
    views = [x.transpose(axes) for x in arrays]
    return [x.reshape(-1) for x in views] if all(x.flags.c_contiguous for x in views) else None
