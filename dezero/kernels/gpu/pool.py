"""Pooling: a thread for each window on the way forward, for each pixel on the way back, where it asks every window that
covers it. Nothing is added up by many threads at a time, so that the same input gives the same bits.

A maximum remembers in which cell of its window it stands, in one byte where that is enough.

Images may have their channels last in memory: then a pixel is L = C values side by side, else it is L = 1, and what a
thread counts through are elements as they lie. Order changes no number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels.gpu import channels
from dezero.kernels.gpu.launch import FLOATING, INTEGERS, Source, for_each
from dezero.kernels.gpu.windows import geometry
from dezero.kernels.reference import Pair

_ARGUMENTS = "I count, I N, I C, I H, I W, I KH, I KW, I OH, I OW, I SH, I SW, I PH, I PW, I DH, I DW, I L"

# A window that begins at pixel (top, left) covers rows max(top, 0) <= h < min(top + KH, H), columns likewise.
_WINDOW = r"""
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I ow = k / L % OW, oh = k / L / OW % OH;
    const I top = oh * SH - PH, left = ow * SW - PW;
    const I image = k / L / OW / OH * H * W * L + k % L;
"""
_CELLS = r"""
    for (I h = top < 0 ? 0 : top; h < top + KH && h < H; h++)
        for (I w = left < 0 ? 0 : left; w < left + KW && w < W; w++)
"""

# The windows that cover pixel (h, w) of padded images are those from (h - KH) / SH + 1 to h / SH, columns likewise.
_PIXEL = r"""
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I w = k / L % W + PW, h = k / L / W % H + PH;
    const I windows = k / L / W / H * OH * OW * L + k % L;
    A sum = 0;
    for (I oh = h < KH ? 0 : (h - KH) / SH + 1; oh <= h / SH && oh < OH; oh++)
        for (I ow = w < KW ? 0 : (w - KW) / SW + 1; ow <= w / SW && ow < OW; ow++)
"""

_INDEXED = Source(
    rf"""
// The first in row-major order where cells tie, and the first NaN where there is one, which then is the largest.
extern "C" __global__ void max_pool(const T* x, T* y, K* indexes, {_ARGUMENTS}, A lowest)
{{
    {_WINDOW}
    A largest = lowest;
    I index = -1;
    {_CELLS} {{
        const A value = (A)x[image + (h * W + w) * L];
        if (index < 0 || value > largest || (value != value && largest == largest)) {{
            largest = value;
            index = (h - top) * KW + w - left;
        }}
    }}
    y[k] = (T)largest;
    indexes[k] = (K)(index < 0 ? 0 : index);
}}

extern "C" __global__ void max_pool_gather(const T* x, const K* indexes, T* y, {_ARGUMENTS})
{{
    {_WINDOW}
    const I h = top + (I)indexes[k] / KW, w = left + (I)indexes[k] % KW;
    const bool inside = 0 <= h && h < H && 0 <= w && w < W;
    y[k] = inside ? x[image + (h * W + w) * L] : (T)(A)0;
}}

extern "C" __global__ void max_pool_scatter(const T* gy, const K* indexes, T* gx, {_ARGUMENTS})
{{
    {_PIXEL} {{
        const I window = windows + (oh * OW + ow) * L;
        if ((I)indexes[window] == (h - oh * SH) * KW + w - ow * SW) sum += (A)gy[window];
    }}
    gx[k] = (T)sum;
}}
""",
    types=(*FLOATING, *INTEGERS),
    integers=("int8", "int32"),
)

_AVERAGE = Source(
    rf"""
extern "C" __global__ void average_pool(const T* x, T* y, {_ARGUMENTS})
{{
    {_WINDOW}
    A sum = 0;
    {_CELLS} sum += (A)x[image + (h * W + w) * L];
    y[k] = (T)(sum / (A)(KH * KW));
}}

extern "C" __global__ void average_pool_grad(const T* gy, T* gx, {_ARGUMENTS})
{{
    {_PIXEL} sum += (A)gy[windows + (oh * OW + ow) * L];
    gx[k] = (T)(sum / (A)(KH * KW));
}}
""",
    types=FLOATING,
)


def max_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> tuple[Any, Any]:
    """As `reference.max_pool`: y (N, C, OH, OW), and the cells in which the windows have it, int8 or int32."""
    last = channels.lie_last(x)
    N, C, *_, OH, OW = (sizes := _sizes(x.shape, kernel_size, stride, pad, last))[:8]
    y = channels.empty((N, C, OH, OW), x.dtype, last)
    indexes = channels.empty(y.shape, np.int8 if kernel_size[0] * kernel_size[1] <= 128 else np.int32, last)
    lowest = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    arrays = channels.in_order(x, last), y, indexes
    for_each(_INDEXED, "max_pool", y.size, arrays, sizes, (lowest,), T=x.dtype, K=indexes.dtype)
    return y, indexes


def max_pool_gather(x: Any, indexes: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_gather`."""
    last = channels.lie_last(x)
    y = channels.empty(indexes.shape, x.dtype, last)
    sizes = _sizes(x.shape, kernel_size, stride, pad, last)
    arrays = channels.in_order(x, last), (indexes := _cells(indexes, last)), y
    for_each(_INDEXED, "max_pool_gather", y.size, arrays, sizes, T=x.dtype, K=indexes.dtype)
    return y


def max_pool_scatter(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_scatter`: a pixel gets the sum over the windows whose index names it.

    The indexes have the order of the images: a gradient that comes in C order, as from a reshape, may not.
    """
    last = channels.lie_last(gy) or channels.lie_last(indexes)
    gx = channels.empty((*gy.shape[:2], *image_size), gy.dtype, last)
    sizes = _sizes(gx.shape, kernel_size, stride, pad, last)
    arrays = channels.in_order(gy, last), (indexes := _cells(indexes, last)), gx
    for_each(_INDEXED, "max_pool_scatter", gx.size, arrays, sizes, T=gy.dtype, K=indexes.dtype)
    return gx


def average_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool`; of integers in float64."""
    last = channels.lie_last(x)
    x = channels.in_order(x, last, np.float64 if x.dtype.kind in "biu" else None)
    N, C, *_, OH, OW = (sizes := _sizes(x.shape, kernel_size, stride, pad, last))[:8]
    y = channels.empty((N, C, OH, OW), x.dtype, last)
    for_each(_AVERAGE, "average_pool", y.size, (x, y), sizes, T=x.dtype)
    return y


def average_pool_grad(gy: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool_grad`: a pixel gets its share from each window that covers it."""
    last = channels.lie_last(gy)
    gx = channels.empty((*gy.shape[:2], *image_size), gy.dtype, last)
    sizes = _sizes(gx.shape, kernel_size, stride, pad, last)
    for_each(_AVERAGE, "average_pool_grad", gx.size, (channels.in_order(gy, last), gx), sizes, T=gy.dtype)
    return gx


def _sizes(image_shape: tuple[int, ...], kernel_size: Pair, stride: Pair, pad: Pair, last: bool) -> tuple[int, ...]:
    """What kernels take after `count`: see _ARGUMENTS."""
    return *geometry(image_shape, kernel_size, stride, pad, (1, 1)), image_shape[1] if last else 1


def _cells(indexes: Any, last: bool) -> Any:
    return channels.in_order(indexes, last, None if indexes.dtype in (np.int8, np.int32) else np.int32)
