"""NumPy kernels made to be fast: channels last in memory, work in blocks that stay in the cache.

Two ideas carry the file.

**Channels last.** The axes of an image are (N, C, H, W), as everywhere, but what comes out of a convolution here lies
in memory as (N, H, W, C): strides carry it, and NumPy's elementwise operations keep it, so nothing above has to know.
Then the KW * C numbers that a row of a kernel sees are neighbours, and laying out windows copies long runs.

**Blocks.** The windows of a whole batch are KH * KW times as large as the batch; written to memory and read again, they
cost more than the product. So a few images at a time, or some rows of one, are laid out in a buffer that fits into the
second-level cache, and multiplied from there.

Pooling needs no windows: cell (i, j) of all windows is a strided view of the images, and a maximum over windows is an
elementwise maximum of KH * KW such views.

What has no fast way here (integers, most groups, NaN in a maximum) is left to the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero.kernels import reference
from dezero.kernels.reference import Pair, col2im, im2col
from dezero.kernels.sizes import conv_outsize

__all__ = [
    "average_pool",
    "average_pool_grad",
    "col2im",
    "conv2d",
    "conv2d_grad_w",
    "deconv2d",
    "im2col",
    "max_pool",
    "max_pool_gather",
    "max_pool_scatter",
]

BUFFER = 2**19  # bytes of windows that are laid out at a time: half of a common second-level cache

# ----------------------------------------------------------------------------------------------------------------------
# Layout
# ----------------------------------------------------------------------------------------------------------------------


def _channels_last(x: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C), contiguous; a copy only when the channels are not last in memory yet."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _channels_first(x: Any) -> Any:
    """(N, H, W, C) -> (N, C, H, W), the same memory."""
    return x.transpose(0, 3, 1, 2)


def _is_ours(*arrays: Any) -> bool:
    """Say whether all arrays have one floating dtype and something in them: else the reference does the work."""
    return all(x.dtype == arrays[0].dtype and x.dtype.kind == "f" and x.size for x in arrays)


class _Windows:
    """The windows of channels-last images, laid out a block at a time in one buffer.

    Iterating yields, for each block, which rows of the matrix (N*OH*OW, ...) it is, and the block: a matrix of one row
    (KH, KW, C) for each window.
    """

    def __init__(self, x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, outsize: Pair) -> None:
        self.x, self.kernel_size, self.outsize = x, kernel_size, outsize
        self.stride, self.pad, self.dilation = stride, pad, dilation
        N, H, W, C = x.shape
        (KH, KW), (OH, OW), (PH, PW) = kernel_size, outsize, pad
        row = OW * KH * KW * C * x.itemsize
        rows = max(1, BUFFER // row)
        self.images = min(N, max(1, rows // OH))  # whole images, or
        self.rows = OH if rows >= OH else rows  # some rows of one
        self.length = KH * KW * C
        self.padded = np.zeros((self.images, H + 2 * PH, W + 2 * PW, C), x.dtype) if PH or PW else x
        self.buffer = np.empty(self.images * self.rows * OW * self.length, x.dtype)

    def __iter__(self) -> Iterator[tuple[slice, Any]]:
        N, (OH, OW) = len(self.x), self.outsize
        if (*self.kernel_size, *self.stride, *self.pad) == (1, 1, 1, 1, 0, 0):  # each pixel is a window
            yield slice(0, N * OH * OW), self.x.reshape(-1, self.length)
            return
        for n in range(0, N, self.images):
            images = self._pad(self.x[n : n + self.images])
            windows = self._view(images)
            for top in range(0, OH, self.rows):
                some = windows[:, top : top + self.rows]
                block = self.buffer[: some.size].reshape(some.shape)
                np.copyto(block, some)
                start = (n * OH + top) * OW
                count = some.shape[0] * some.shape[1] * OW
                yield slice(start, start + count), block.reshape(count, self.length)

    def _pad(self, images: Any) -> Any:
        (PH, PW), (_, H, W, _) = self.pad, images.shape
        if not PH and not PW:
            return images
        padded = self.padded[: len(images)]  # its border stays zero
        padded[:, PH : PH + H, PW : PW + W] = images
        return padded

    def _view(self, images: Any) -> Any:
        """(n, OH, OW, KH, KW, C), without copying."""
        (KH, KW), (OH, OW) = self.kernel_size, self.outsize
        (SH, SW), (DH, DW) = self.stride, self.dilation
        n, h, w, c = images.strides
        shape = (len(images), OH, OW, KH, KW, images.shape[3])
        return np.lib.stride_tricks.as_strided(images, shape, (n, SH * h, SW * w, DH * h, DW * w, c), writeable=False)


def _conv_outsize(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair) -> Pair:
    OH, OW = (conv_outsize(*axis) for axis in zip(x.shape[2:], kernel_size, stride, pad, dilation, strict=True))
    return OH, OW


# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d`: each block of windows times the kernels."""
    if not _is_ours(x, W) or groups > 1:
        return reference.conv2d(x, W, b, stride, pad, dilation, groups)
    OC, C, KH, KW = W.shape
    N, (OH, OW) = len(x), _conv_outsize(x, (KH, KW), stride, pad, dilation)
    matrix = W.transpose(2, 3, 1, 0).reshape(KH * KW * C, OC)
    y = np.empty((N * OH * OW, OC), x.dtype)
    windows = _Windows(_channels_last(x), (KH, KW), stride, pad, dilation, (OH, OW))
    for rows, block in windows:
        np.matmul(block, matrix, out=y[rows])
        if b is not None:
            y[rows] += b  # while it is in the cache
    return _channels_first(y.reshape(N, OH, OW, OC))


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.deconv2d`: with stride 1 a convolution, else pixels times kernels, in blocks of images."""
    _, _, KH, KW = W.shape
    (PH, PW), (DH, DW) = pad, dilation
    turned_pad = DH * (KH - 1) - PH, DW * (KW - 1) - PW
    if not _is_ours(x, W) or groups > 1:
        return reference.deconv2d(x, W, b, stride, pad, outsize, dilation, groups)
    if stride == (1, 1) and min(turned_pad) >= 0:  # a convolution with the kernels turned around
        return conv2d(x, W[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), b, stride, turned_pad, dilation, groups)
    return _spread(x, W, b, stride, pad, outsize, dilation)


def _spread(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair) -> Any:
    """deconv2d for any stride: each pixel's multiples of a kernel are added to where they belong."""
    (N, C, H, W_), (_, OC, KH, KW) = x.shape, W.shape
    (OH, OW), (SH, SW), (PH, PW), (DH, DW) = outsize, stride, pad, dilation
    pixels = _channels_last(x).reshape(N * H * W_, C)
    matrix = W.transpose(0, 2, 3, 1).reshape(C, KH * KW * OC)
    y = np.empty((N, OH, OW, OC), x.dtype)
    images = max(1, BUFFER // (H * W_ * KH * KW * OC * x.itemsize))
    for n in range(0, N, images):
        count = min(images, N - n)
        block = pixels[n * H * W_ : (n + count) * H * W_] @ matrix
        block = block.reshape(count, H, W_, KH, KW, OC)
        padded = np.zeros((count, OH + 2 * PH, OW + 2 * PW, OC), x.dtype)
        for i in range(KH):
            for j in range(KW):
                top, left = DH * i, DW * j
                padded[:, top : top + SH * H : SH, left : left + SW * W_ : SW] += block[:, :, :, i, j]
        y[n : n + count] = padded[:, PH : PH + OH, PW : PW + OW]
    return _channels_first(y if b is None else np.add(y, b, out=y))


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_grad_w`: the sum over blocks of windows, each times its rows of gy."""
    if not _is_ours(x, gy) or groups > 1:
        return reference.conv2d_grad_w(x, gy, kernel_size, stride, pad, dilation, groups)
    (KH, KW), C, OC = kernel_size, x.shape[1], gy.shape[1]
    rows_of_gy = _channels_last(gy).reshape(-1, OC)
    total = np.zeros((OC, KH * KW * C), x.dtype)
    part = np.empty_like(total)
    for rows, block in _Windows(_channels_last(x), kernel_size, stride, pad, dilation, gy.shape[2:]):
        np.matmul(rows_of_gy[rows].T, block, out=part)
        total += part
    return total.reshape(OC, KH, KW, C).transpose(0, 3, 1, 2)


# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------


def _padded(x: Any, pad: Pair, value: Any) -> Any:
    """Pad images, in the memory order they have."""
    PH, PW = pad
    if not PH and not PW:
        return x
    N, C, H, W = x.shape
    if x.strides[1] == x.itemsize:  # channels last
        padded = _channels_first(np.full((N, H + 2 * PH, W + 2 * PW, C), value, x.dtype))
    else:
        padded = np.full((N, C, H + 2 * PH, W + 2 * PW), value, x.dtype)
    padded[:, :, PH : PH + H, PW : PW + W] = x
    return padded


def _cells(padded: Any, kernel_size: Pair, stride: Pair, outsize: Pair) -> Iterator[Any]:
    """Yield, for each cell of the kernel in row-major order, what all windows see there: views (N, C, OH, OW)."""
    (KH, KW), (SH, SW), (OH, OW) = kernel_size, stride, outsize
    for i in range(KH):
        for j in range(KW):
            yield padded[:, :, i : i + SH * (OH - 1) + 1 : SH, j : j + SW * (OW - 1) + 1 : SW]


def _only(x: Any, where: Any) -> Any:
    """x where the booleans are true and 0 elsewhere.

    By its bits: 0 * inf is not 0, and np.where takes ten times as long.
    """
    bits = np.dtype(f"i{x.itemsize}")
    return np.bitwise_and(x.view(bits), np.negative(where.view(np.int8))).view(x.dtype)


def max_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> tuple[Any, Any]:
    """As `reference.max_pool`: the maximum of what each cell of the kernel sees, and which was the first to have it."""
    outsize = _conv_outsize(x, kernel_size, stride, pad, (1, 1))
    if not _is_ours(x) or kernel_size[0] * kernel_size[1] > 127:  # an index is one byte
        return reference.max_pool(x, kernel_size, stride, pad)
    cells = list(_cells(_padded(x, pad, -np.inf), kernel_size, stride, outsize))
    y = cells[0].copy(order="K")
    for cell in cells[1:]:
        np.maximum(y, cell, out=y)
    if np.isnan(y).any() or (any(pad) and np.isneginf(y).any()):  # which equals nothing, or the padding
        return reference.max_pool(x, kernel_size, stride, pad)
    return y, _first_equal(cells, y)


def _first_equal(cells: list[Any], y: Any) -> Any:
    """The number of the first cell that equals y: how many before it do not."""
    not_yet = np.ones_like(y, dtype=bool)
    indexes = np.zeros_like(y, dtype=np.int8)
    for cell in cells[:-1]:
        not_yet &= cell != y
        indexes += not_yet.view(np.int8)
    return indexes


def max_pool_gather(x: Any, indexes: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_gather`: from each cell what the indexes give it, added up."""
    if x.dtype.kind != "f":
        return reference.max_pool_gather(x, indexes, kernel_size, stride, pad)
    y = np.zeros_like(indexes, dtype=x.dtype)
    for number, cell in enumerate(_cells(_padded(x, pad, 0), kernel_size, stride, indexes.shape[2:])):
        y += _only(cell, indexes == number)
    return y


def max_pool_scatter(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_scatter`: to each cell what the indexes give it."""
    cells = (_only(gy, indexes == number) for number in range(kernel_size[0] * kernel_size[1]))
    return _add_cells(gy, cells, image_size, kernel_size, stride, pad)


def average_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool`: the sum of what each cell of the kernel sees."""
    if not _is_ours(x):
        return reference.average_pool(x, kernel_size, stride, pad)
    outsize = _conv_outsize(x, kernel_size, stride, pad, (1, 1))
    cells = _cells(_padded(x, pad, 0), kernel_size, stride, outsize)
    y = next(cells).copy(order="K")
    for cell in cells:
        y += cell
    y /= kernel_size[0] * kernel_size[1]
    return y


def average_pool_grad(gy: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool_grad`: to each cell the same share."""
    KH, KW = kernel_size
    cell = gy / gy.dtype.type(KH * KW)
    return _add_cells(gy, (cell for _ in range(KH * KW)), image_size, kernel_size, stride, pad)


def _add_cells(gy: Any, cells: Iterator[Any], image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """Add to images of zeros what each cell of the kernel has for every window: the transpose of `_cells`."""
    (N, C, OH, OW), (H, W), (PH, PW) = gy.shape, image_size, pad
    if gy.strides[1] == gy.itemsize:
        images = _channels_first(np.zeros((N, H + 2 * PH, W + 2 * PW, C), gy.dtype))
    else:
        images = np.zeros((N, C, H + 2 * PH, W + 2 * PW), gy.dtype)
    apart = all(s >= k for s, k in zip(stride, kernel_size, strict=True))
    for place, cell in zip(_cells(images, kernel_size, stride, (OH, OW)), cells, strict=True):
        if apart:  # windows that do not overlap: no pixel is written twice
            place[...] = cell
        else:
            place += cell
    return images[:, :, PH : PH + H, PW : PW + W]
