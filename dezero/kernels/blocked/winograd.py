"""Winograd's convolution (see kernels/winograd.py for the idea and its matrices) in NumPy, for 3 x 3 kernels.

A transform along both axes, M X M', is one product with the Kronecker product of M with itself when X is written as a
column of its 36 numbers; all tiles and channels of a block are the columns. So everything is a product of matrices:

    P    the pixels of each tile, copied out of the padded images     (36, tiles * C)
    V    (B' x B') P                                                  (36, tiles, C)
    M    V times the transformed kernels U, 36 products               (36, tiles, OC)
    y    (A' x A') M, tiles put together                              (16, tiles * OC)

A block is some images. The transforms take as long as 50 channels of the products, so with few channels this is slower
than laying out windows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero.kernels import memory, scratch, winograd
from dezero.kernels.blocked.layout import channels_first
from dezero.kernels.reference import Pair

TILE = winograd.TILE
POINTS = TILE * TILE
BLOCK = 2**20  # bytes of V and M at a time

_m, *_matrices = winograd.matrices(3)
_AAt, _GG, _BBt = (np.kron(matrix, matrix).astype(np.float32) for matrix in _matrices)


def serves(x: Any, kernel_size: Pair, stride: Pair, dilation: Pair, groups: int, OC: int) -> bool:
    """Say whether a convolution to OC channels can be done this way, and is done faster so."""
    plain = (*kernel_size, *stride, *dilation, groups) == (3, 3, 1, 1, 1, 1, 1)
    return plain and winograd.is_on() and x.dtype == np.float32 and min(x.shape[1], OC) >= 32


class _Tiles:
    """How images of OH by OW results are cut into tiles of m by m, a block of images at a time."""

    def __init__(self, N: int, OH: int, OW: int, channels: int) -> None:
        self.down, self.across = -(-OH // _m), -(-OW // _m)
        tiles = self.down * self.across
        self.N, self.n = N, max(1, min(N, BLOCK // (POINTS * tiles * channels * 4)))
        self.tiles = self.n * tiles

    def blocks(self) -> Any:
        for first in range(0, self.N, self.n):
            yield first, min(self.n, self.N - first)

    def padded(self, purpose: str, C: int, border: int) -> Any:
        """Zeros for a block's images, with a border that tiles overlap by."""
        shape = self.n, _m * self.down + border, _m * self.across + border, C
        images = scratch.take(purpose, math.prod(shape), np.float32).reshape(shape)
        images.fill(0)
        return images

    def cut(self, images: Any, size: int) -> Any:
        """The tiles of `size` pixels a side, every m-th, as columns (size, size, n, down, across, C): a view."""
        n, h, w, c = images.strides
        shape = (size, size, self.n, self.down, self.across, images.shape[3])
        return np.lib.stride_tricks.as_strided(images, shape, (h, w, n, _m * h, _m * w, c), writeable=False)

    def transform(self, purpose: str, matrix: Any, images: Any) -> Any:
        """`matrix` times the tiles of images as columns: (36, tiles, C)."""
        C, size = images.shape[3], math.isqrt(matrix.shape[1])
        columns = scratch.take("columns", size * size * self.tiles * C, np.float32)
        np.copyto(columns.reshape(size, size, self.n, self.down, self.across, C), self.cut(images, size))
        points = scratch.take(purpose, POINTS * self.tiles * C, np.float32).reshape(POINTS, -1)
        np.matmul(matrix, columns.reshape(size * size, -1), out=points)
        return points.reshape(POINTS, self.tiles, C)


def conv2d(x: Any, W: Any, b: Any, pad: Pair) -> Any:
    """x (N, C, H, W) correlated with W (OC, C, 3, 3), stride 1, plus b."""
    (N, C, H, width), OC, (PH, PW) = x.shape, len(W), pad
    OH, OW = H + 2 * PH - 2, width + 2 * PW - 2
    U = (_GG @ W.transpose(2, 3, 1, 0).reshape(9, -1)).reshape(POINTS, C, OC)
    y = memory.empty((N, OH, OW, OC), np.float32)
    cut = _Tiles(N, OH, OW, C + OC)
    images = cut.padded("images", C, TILE - _m)
    M = scratch.take("products", POINTS * cut.tiles * OC, np.float32).reshape(POINTS, cut.tiles, OC)
    Y = scratch.take("results", _m * _m * cut.tiles * OC, np.float32).reshape(_m * _m, -1)
    pixels = x.transpose(0, 2, 3, 1)
    for first, count in cut.blocks():
        images[:count, PH : PH + H, PW : PW + width] = pixels[first : first + count]
        with np.errstate(invalid="ignore"):  # an infinite pixel makes what is not a number: no news
            np.matmul(cut.transform("points", _BBt, images), U, out=M)
            np.matmul(_AAt, M.reshape(POINTS, -1), out=Y)
        _put_together(Y.reshape(_m, _m, cut.n, cut.down, cut.across, OC)[:, :, :count], y[first : first + count])
    if b is not None:
        y += b
    return channels_first(y)


def _put_together(tiles: Any, y: Any) -> None:
    """Tiles (m, m, n, down, across, OC) to images (n, OH, OW, OC), cut off where those end."""
    for i in range(_m):
        for j in range(_m):
            place = y[:, i::_m, j::_m]
            place[...] = tiles[i, j, :, : place.shape[1], : place.shape[2]]


def conv2d_grad_w(x: Any, gy: Any, pad: Pair) -> Any:
    """The gradient of W (OC, C, 3, 3): V' times (A x A) gy, summed over all tiles, then led back by G."""
    (N, C, H, width), (_, OC, OH, OW), (PH, PW) = x.shape, gy.shape, pad
    cut = _Tiles(N, OH, OW, C + OC)
    images, results = cut.padded("images", C, TILE - _m), cut.padded("gradients", OC, 0)
    pixels, gradients = x.transpose(0, 2, 3, 1), gy.transpose(0, 2, 3, 1)
    total, part = np.zeros((POINTS, C, OC), np.float32), np.empty((POINTS, C, OC), np.float32)
    for first, count in cut.blocks():
        if count < cut.n:
            results.fill(0)  # what a longer block left must not count
        images[:count, PH : PH + H, PW : PW + width] = pixels[first : first + count]
        results[:count, :OH, :OW] = gradients[first : first + count]
        V = cut.transform("points", _BBt, images)
        np.matmul(V.transpose(0, 2, 1), cut.transform("products", _AAt.T, results), out=part)
        total += part
    gW = (_GG.T @ total.reshape(POINTS, -1)).reshape(3, 3, C, OC)
    return np.ascontiguousarray(gW.transpose(3, 2, 0, 1))
