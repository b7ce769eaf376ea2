"""Convolution: by cuDNN where it serves, elsewhere as one product of the windows that `windows.columns` lays out.

The windows of a large batch are more than the device should hold: so the batch goes in parts whose windows take up to
WORKSPACE bytes. A product over a part gives (OC, n, OH, OW), with the channels outside, which `_swap` brings to
(n, OC, OH, OW), the order of results, and adds the bias; a relu goes along with it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

from dezero.kernels.gpu import cudnn
from dezero.kernels.gpu.launch import FLOATING, INTEGERS, Source, contiguous, for_each, sums_dtype
from dezero.kernels.gpu.product import matmul
from dezero.kernels.gpu.windows import add_columns, columns, geometry
from dezero.kernels.reference import Pair

WORKSPACE = 2**29  # bytes of windows at a time

_SOURCE = Source(
    r"""
// (F, S, P) -> (S, F, P), plus b (F,) where there is one, and 0 for what is negative where there is a relu.
extern "C" __global__ void swap(const T* x, const T* b, T* y, I count, I F, I S, I P, I has_b, I has_relu)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I p = k % P, f = k / P % F, s = k / P / F;
    T value = x[(f * S + s) * P + p];
    if (has_b) value = (T)((A)value + (A)b[f]);
    y[k] = has_relu && (A)value < (A)0 ? (T)(A)0 : value;
}
""",
    types=(*FLOATING, *INTEGERS),
)


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d`: (N, OC, OH, OW), in C order."""
    y = cudnn.conv2d(x, W, b, stride, pad, dilation, groups)
    return _by_columns(x, W, b, stride, pad, dilation, groups, has_relu=False) if y is None else y


def conv2d_relu(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_relu`: (N, OC, OH, OW), in C order, and to the bit the relu of what `conv2d` gives."""
    y = cudnn.conv2d_relu(x, W, b, stride, pad, dilation, groups)
    return _by_columns(x, W, b, stride, pad, dilation, groups, has_relu=True) if y is None else y


def _by_columns(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int, has_relu: bool) -> Any:
    (OC, C, KH, KW), b = W.shape, None if b is None else contiguous(b, x.dtype)  # the C of one group
    OH, OW = geometry(x.shape, (KH, KW), stride, pad, dilation)[6:8]
    y = _empty((len(x), OC, OH, OW), x.dtype)
    W = contiguous(W, x.dtype).reshape(groups, OC // groups, C * KH * KW)
    for part in _parts(x, groups * C * KH * KW * OH * OW):
        col = columns(x[part], (KH, KW), stride, pad, dilation)
        y_part = _product(W, col.reshape(groups, C * KH * KW, col.shape[1]))
        _swap(y_part, b, y[part], OC, len(y[part]), has_relu)
    return y


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.deconv2d`: (N, OC, *outsize), in C order."""
    y = cudnn.deconv2d(x, W, b, stride, pad, outsize, dilation, groups)
    if y is not None:
        return y
    (N, C, H, W_), (_, OC, KH, KW) = x.shape, W.shape  # the OC of one group
    y = _empty((N, groups * OC, *outsize), x.dtype)
    W = contiguous(W, x.dtype).reshape(groups, C // groups, OC * KH * KW).swapaxes(1, 2)
    b = None if b is None else contiguous(b, x.dtype)
    for part in _parts(x, groups * OC * KH * KW * H * W_):
        col = _product(W, _rows(x[part], groups))
        add_columns(contiguous(col), b, y[part], (KH, KW), stride, pad, dilation)
    return y


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_grad_w`: (OC, C / groups, KH, KW). Sums over parts of the batch are taken in order."""
    gW = cudnn.conv2d_grad_w(x, gy, kernel_size, stride, pad, dilation, groups)
    if gW is not None:
        return gW
    C, OC, cells = x.shape[1] // groups, gy.shape[1], math.prod(kernel_size)
    total = None
    for part in _parts(x, x.shape[1] * cells * math.prod(gy.shape[2:])):
        col = columns(x[part], kernel_size, stride, pad, dilation)
        col = col.reshape(groups, C * cells, col.shape[1]).swapaxes(1, 2)
        gW = _product(_rows(contiguous(gy[part], x.dtype), groups), col)
        total = gW if total is None else total.astype(sums_dtype(x.dtype), copy=False) + gW
    if total is None:  # there is no image
        return sys.modules["cupy"].zeros((OC, C, *kernel_size), x.dtype)
    total = total.astype(x.dtype, copy=False)  # fresh, and nobody else's: in its new shape it is no view of another
    return sys.modules["cupy"].ndarray((OC, C, *kernel_size), total.dtype, total.data)


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    return sys.modules["cupy"].empty(shape, dtype)


def _parts(x: Any, windows: int) -> Iterator[slice]:
    """Cut the batch so that the windows of a part, of so many elements an image, fit into the workspace."""
    step = max(1, WORKSPACE // max(1, windows * x.itemsize))
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def _product(x: Any, y: Any) -> Any:
    """Matrices of each group; of one group a plain product, which cuBLAS has more ways for than for a batch."""
    return matmul(x[0], y[0])[None] if len(x) == 1 else matmul(x, y)


def _rows(images: Any, groups: int) -> Any:
    """(N, C, H, W) -> a matrix for each group, (groups, C / groups, N * H * W)."""
    N, C, H, W = images.shape
    rows = _empty((groups, C // groups, N * H * W), images.dtype)
    _swap(contiguous(images), None, rows, N, C)
    return rows


def _swap(x: Any, b: Any, out: Any, F: int, S: int, has_relu: bool = False) -> None:
    """out (S, F, P) = x (F, S, P), plus b (F,), which may be None, and rectified where that is asked for.

    The arrays are in C order, in whatever shape.
    """
    if out.size:
        sizes = F, S, out.size // (F * S), b is not None, has_relu
        for_each(_SOURCE, "swap", out.size, (contiguous(x), x if b is None else b, out), sizes, T=out.dtype)
