"""im2col and col2im. Both are a gather: a thread finds out where its element comes from.

The windows lie in one of two orders: (N, C, KH, KW, OH, OW), which is what `im2col` returns, and the matrix whose rows
are (C, KH, KW) and whose columns (N, OH, OW), with which a convolution is one product.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from dezero.kernels.gpu.launch import FLOATING, INTEGERS, Source, contiguous, for_each
from dezero.kernels.reference import Pair
from dezero.kernels.sizes import conv_outsize

_SOURCE = Source(
    r"""
// Cell (i, j) of window (oh, ow) looks at pixel (i * DH + oh * SH - PH, j * DW + ow * SW - PW).
// by_rows says that col lies as a matrix of rows (C, KH, KW) and columns (N, OH, OW).

extern "C" __global__ void im2col(const T* x, T* col, I count, I N, I C, I H, I W, I KH, I KW, I OH, I OW, I SH, I SW,
                                  I PH, I PW, I DH, I DW, I by_rows, A pad_value)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I ow = k % OW, oh = k / OW % OH, rest = k / OW / OH;
    const I rows = C * KH * KW;
    const I row = by_rows ? rest / N : rest % rows;
    const I n = by_rows ? rest % N : rest / rows;
    const I j = row % KW, i = row / KW % KH, c = row / KW / KH;
    const I h = i * DH + oh * SH - PH, w = j * DW + ow * SW - PW;
    const bool inside = 0 <= h && h < H && 0 <= w && w < W;
    col[k] = inside ? x[((n * C + c) * H + h) * W + w] : (T)pad_value;
}

// image[n, c, h, w] = the sum of what the cells have that look at it, in the order of the cells; plus b[c].
extern "C" __global__ void col2im(const T* col, const T* b, T* image, I count, I N, I C, I H, I W, I KH, I KW, I OH,
                                  I OW, I SH, I SW, I PH, I PW, I DH, I DW, I by_rows, I has_b)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I w = k % W, h = k / W % H, c = k / W / H % C, n = k / W / H / C;
    const I row_step = by_rows ? N * OH * OW : OH * OW;
    const T* windows = col + (by_rows ? n * OH * OW : n * C * KH * KW * row_step);
    A sum = has_b ? (A)b[c] : (A)0;
    for (I i = 0; i < KH; i++) {
        const I top = h + PH - i * DH, oh = top / SH;
        if (top < 0 || top % SH || oh >= OH) continue;
        for (I j = 0; j < KW; j++) {
            const I left = w + PW - j * DW, ow = left / SW;
            if (left < 0 || left % SW || ow >= OW) continue;
            sum += (A)windows[((c * KH + i) * KW + j) * row_step + oh * OW + ow];
        }
    }
    image[k] = (T)sum;
}
""",
    types=(*FLOATING, *INTEGERS),
)


@functools.lru_cache(maxsize=1024)
def geometry(
    image_shape: tuple[int, ...], kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair
) -> tuple[int, ...]:
    """N, C, H, W and all the sizes after them that both kernels take, OH and OW at places 6 and 7."""
    N, C, H, W = image_shape
    OH, OW = map(conv_outsize, (H, W), kernel_size, stride, pad, dilation)
    return (N, C, H, W, *kernel_size, OH, OW, *stride, *pad, *dilation)


def im2col(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1), pad_value: Any = 0) -> Any:
    """As `reference.im2col`: x (N, C, H, W) -> (N, C, KH, KW, OH, OW)."""
    sizes = geometry(x.shape, kernel_size, stride, pad, dilation)
    return _im2col(x, sizes, (*sizes[:2], *kernel_size, *sizes[6:8]), False, pad_value)


def columns(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair) -> Any:
    """x (N, C, H, W) -> a matrix, (C * KH * KW, N * OH * OW)."""
    sizes = geometry(x.shape, kernel_size, stride, pad, dilation)
    N, C, _, _, KH, KW, OH, OW = sizes[:8]
    return _im2col(x, sizes, (C * KH * KW, N * OH * OW), True, 0)


def _im2col(x: Any, sizes: tuple[int, ...], shape: tuple[int, ...], by_rows: bool, pad_value: Any) -> Any:
    col = sys.modules["cupy"].empty(shape, x.dtype)
    for_each(_SOURCE, "im2col", col.size, (contiguous(x), col), (*sizes, by_rows), (pad_value,), T=x.dtype)
    return col


def col2im(col: Any, image_size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1)) -> Any:
    """As `reference.col2im`: (N, C, KH, KW, OH, OW) -> (N, C, H, W)."""
    N, C, KH, KW, OH, OW = col.shape
    sizes = (N, C, *image_size, KH, KW, OH, OW, *stride, *pad, *dilation)
    image = sys.modules["cupy"].empty((N, C, *image_size), col.dtype)
    col = contiguous(col)
    for_each(_SOURCE, "col2im", image.size, (col, col, image), (*sizes, False, False), T=col.dtype)
    return image


def add_columns(col: Any, b: Any, out: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair) -> None:
    """out (N, C, H, W) = what the matrix `col` (C * KH * KW, N * OH * OW) adds to it, plus b (C,), which may be None.

    Both arrays in C order.
    """
    sizes = geometry(out.shape, kernel_size, stride, pad, dilation)
    has_b = b is not None
    for_each(_SOURCE, "col2im", out.size, (col, b if has_b else col, out), (*sizes, True, has_b), T=out.dtype)
