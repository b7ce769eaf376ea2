"""Convolution: channels last in memory, in blocks of windows that stay in the cache.

The windows of a whole batch are KH * KW times as large as the batch; written to memory and read again, they cost more
than the product. So a few images at a time, or some rows of one, are laid out in a buffer that fits into the
second-level cache, and multiplied from there. With the channels last, the KW * C numbers that a row of a kernel sees
are neighbours, and laying out windows copies long runs.

Large 3 x 3 kernels go to winograd.py, integers and groups of channels to the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero.kernels import memory, reference, scratch
from dezero.kernels.blocked import winograd
from dezero.kernels.blocked.activation import relu_in_place
from dezero.kernels.blocked.layout import channels_first, channels_last, conv_counts, is_ours
from dezero.kernels.reference import Pair

BUFFER = 2**19  # bytes of windows that are laid out at a time: half of a common second-level cache
FEW = 8  # channels that come out of a deconvolution: a product with so few columns is slower than adding windows up
SHORT = 16  # neighbours: runs of fewer are not worth copying one by one


class _Windows:
    """The windows of channels-last images, laid out a block at a time in one buffer.

    Iterating yields, for each block, which rows of the matrix (N*OH*OW, ...) it is, and the block: a matrix of one row
    (KH, KW, C) for each window. Where such a row is made of short runs, it lies in memory as a column, so that what is
    copied in one go are the pixels that one cell sees.
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
        self.turned = KW * C < SHORT
        self.padded = np.zeros((self.images, H + 2 * PH, W + 2 * PW, C), x.dtype) if PH or PW else x
        self.buffer = scratch.take("windows", self.images * self.rows * OW * self.length, x.dtype)

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
                start = (n * OH + top) * OW
                count = some.shape[0] * some.shape[1] * OW
                if self.turned:
                    some = some.transpose(3, 4, 5, 0, 1, 2)
                block = self.buffer[: some.size].reshape(some.shape)
                np.copyto(block, some)
                block = block.reshape(self.length, count).T if self.turned else block.reshape(count, self.length)
                yield slice(start, start + count), block

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


# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d`: each block of windows times the kernels."""
    if not is_ours(x, W) or groups > 1:
        return reference.conv2d(x, W, b, stride, pad, dilation, groups)
    OC, C, KH, KW = W.shape
    if winograd.serves(x, (KH, KW), stride, dilation, groups, OC):
        return winograd.conv2d(x, W, b, pad)
    N, (OH, OW) = len(x), conv_counts(x, (KH, KW), stride, pad, dilation)
    matrix = W.transpose(2, 3, 1, 0).reshape(KH * KW * C, OC)
    y = memory.empty((N * OH * OW, OC), x.dtype)
    windows = _Windows(channels_last(x), (KH, KW), stride, pad, dilation, (OH, OW))
    for rows, block in windows:
        np.matmul(block, matrix, out=y[rows])
        if b is not None:
            y[rows] += b  # while it is in the cache
    return channels_first(y.reshape(N, OH, OW, OC))


def conv2d_relu(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_relu`, in the memory of what `conv2d` gives."""
    return relu_in_place(conv2d(x, W, b, stride, pad, dilation, groups))


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.deconv2d`: with stride 1 a convolution, else pixels times kernels, in blocks of images."""
    _, _, KH, KW = W.shape
    (PH, PW), (DH, DW) = pad, dilation
    turned_pad = DH * (KH - 1) - PH, DW * (KW - 1) - PW
    if not is_ours(x, W) or groups > 1 or W.shape[1] <= FEW:
        return reference.deconv2d(x, W, b, stride, pad, outsize, dilation, groups)
    if stride == (1, 1) and min(turned_pad) >= 0:  # a convolution with the kernels turned around
        return conv2d(x, W[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), b, stride, turned_pad, dilation, groups)
    return _spread(x, W, b, stride, pad, outsize, dilation)


def _spread(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair) -> Any:
    """deconv2d for any stride: each pixel's multiples of a kernel are added to where they belong."""
    (N, C, H, W_), (_, OC, KH, KW) = x.shape, W.shape
    (OH, OW), (SH, SW), (PH, PW), (DH, DW) = outsize, stride, pad, dilation
    pixels = channels_last(x).reshape(N * H * W_, C)
    matrix = W.transpose(0, 2, 3, 1).reshape(C, KH * KW * OC)
    y = memory.empty((N, OH, OW, OC), x.dtype)
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
    return channels_first(y if b is None else np.add(y, b, out=y))


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_grad_w`: the sum over blocks of windows, each times its rows of gy."""
    if not is_ours(x, gy) or groups > 1:
        return reference.conv2d_grad_w(x, gy, kernel_size, stride, pad, dilation, groups)
    (KH, KW), C, OC = kernel_size, x.shape[1], gy.shape[1]
    if winograd.serves(x, kernel_size, stride, dilation, groups, OC):
        return winograd.conv2d_grad_w(x, gy, pad)
    rows_of_gy = channels_last(gy).reshape(-1, OC)
    total = np.zeros((OC, KH * KW * C), x.dtype)
    part = np.empty_like(total)
    for rows, block in _Windows(channels_last(x), kernel_size, stride, pad, dilation, gy.shape[2:]):
        np.matmul(rows_of_gy[rows].T, block, out=part)
        total += part
    return total.reshape(OC, KH, KW, C).transpose(0, 3, 1, 2)
