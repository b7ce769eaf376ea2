"""Winograd's convolution (see kernels/winograd.py for the idea and its matrices), compiled.

The work is cut into blocks of tiles, some rows of tiles of one image or some images, so that all of a block stays in
the cache. For each block:

    images   the pixels that its tiles see, padded with zeros, channels last           (n, height, width, C)
    V        B' d B of each tile: the 36 points apart, each a matrix                   (36, tiles, C)
    M        V times U, the transformed kernels (36, C, OC): 36 products               (36, tiles, OC)
    results  A' M A of each tile, m x m pixels; what lies beyond the image is left out of y

Channels are rounded up to whole vectors, the missing ones being zeros. The bias needs no pass of its own: the point 1,
whose powers are all 1, adds what it holds to each result alike, so its product starts from the bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dezero.kernels import memory, scratch, winograd
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import Images, channels_first
from dezero.kernels.compiled.product import multiply, row_starts, row_table
from dezero.kernels.compiled.simd import lanes, panel_width, transform
from dezero.kernels.reference import Pair
from dezero.kernels.threads import for_each

BLOCK = 2**21  # bytes of V and M at a time: they stay in the third-level cache
PARTS = 16  # at most so many sums are made side by side of a gradient of W
PART_BYTES = 2**22  # that take at most so much memory
SLICE = 64  # channels of gy that are worth a sum of their own
TILE = winograd.TILE
ONE = TILE + 1  # the place among the 36 of the point 1 along both axes

_for3, _for5 = winograd.matrices(3), winograd.matrices(5)
pixels_to_points = transform(_for3.Bt)
points_to_results4, points_to_results2 = transform(_for3.At), transform(_for5.At)
results_to_points = transform(_for3.At.T)
kernel_to_points3, kernel_to_points5 = transform(_for3.G), transform(_for5.G)
points_to_kernel = transform(_for3.G.T)


def serves(x: Any, W: Any, stride: Pair, dilation: Pair, groups: int) -> bool:
    """Say whether a convolution can be done this way, and is done faster so."""
    return _serves(x, W.shape[2:], stride, dilation, groups) and min(W.shape[:2]) >= 16


def serves_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, dilation: Pair, groups: int) -> bool:
    """As `serves`, for the gradient of W: not of 5 x 5 kernels, which would lose another digit and gain little."""
    large = min(x.shape[1], gy.shape[1]) >= 16
    return large and kernel_size[0] == 3 and _serves(x, kernel_size, stride, dilation, groups)


def _serves(x: Any, kernel_size: Pair, stride: Pair, dilation: Pair, groups: int) -> bool:
    plain = (*stride, *dilation, groups) == (1, 1, 1, 1, 1) and x.dtype == np.float32
    return plain and tuple(kernel_size) in ((3, 3), (5, 5)) and winograd.is_on()


class Block(NamedTuple):
    """Some images, and rows first ... first + rows - 1 of their tiles."""

    image: int
    images: int
    first: int
    rows: int


class Tiling(NamedTuple):
    """How images (N, OH, OW) of results are cut into tiles of m x m, for `channels` of pixels and results together."""

    m: int
    N: int
    OH: int
    OW: int
    channels: int

    @property
    def across(self) -> int:
        return -(-self.OW // self.m)

    @property
    def width(self) -> int:
        """Pixels that a row of tiles sees along its length."""
        return self.m * self.across + TILE - self.m

    def height(self, rows: int) -> int:
        """Pixels that `rows` rows of tiles see from top to bottom."""
        return self.m * rows + TILE - self.m

    def blocks(self, itemsize: int) -> list[Block]:
        tiles = max(1, BLOCK // (TILE * TILE * self.channels * itemsize))
        down = -(-self.OH // self.m)
        rows = max(1, tiles // self.across)
        if rows < down:
            rows = -(-down // -(-down // rows))  # all about equally many
            return [
                Block(n, 1, first, min(rows, down - first)) for n in range(self.N) for first in range(0, down, rows)
            ]
        images = max(1, min(rows // down, -(-self.N // 8)))
        return [Block(n, min(images, self.N - n), 0, down) for n in range(0, self.N, images)]


def conv2d(x: Any, W: Any, b: Any, pad: Pair) -> Any:
    """x (N, C, H, W) correlated with W (OC, C, r, r), stride 1, plus b."""
    (N, C, H, width), (OC, _, r, _), dtype = x.shape, W.shape, x.dtype
    count, m = lanes(dtype), TILE - r + 1
    OH, OW = H + 2 * pad[0] - r + 1, width + 2 * pad[1] - r + 1
    Cp, OCp = C + -C % count, OC + -OC % count
    U = _transformed_kernels(W, Cp, OCp)
    start = np.zeros(2 * OCp, dtype)  # zeros, and the bias
    if b is not None:
        start[OCp : OCp + OC] = b
    y = memory.empty((N, OH, OW, OC), dtype)
    images = Images(x)
    tiling = Tiling(m, N, OH, OW, Cp + OCp)
    blocks = tiling.blocks(dtype.itemsize)

    def work(number: int) -> None:
        block = blocks[number]
        tiles = block.images * block.rows * tiling.across
        height = tiling.height(block.rows)
        buffer = scratch.take("images", block.images * height * tiling.width * Cp, dtype)
        images.lay_out(block, m * block.first - pad[0], -pad[1], (height, tiling.width), (0, Cp), buffer)
        V = scratch.take("points", TILE * TILE * (tiles * Cp + count), dtype)
        M = scratch.take("products", TILE * TILE * (tiles * OCp + count), dtype)
        rows, places = row_starts(tiles, Cp), row_starts(tiles, OCp)
        tall, wide = m * block.rows, m * tiling.across
        inside = y[block.image : block.image + block.images, m * block.first : m * block.first + tall]
        whole = inside.shape == (block.images, tall, wide, OCp)  # then it is one piece of memory, too
        results = inside.reshape(-1) if whole else scratch.take("results", block.images * tall * wide * OCp, dtype)
        cut = (block.images, block.rows, tiling.across, m)
        _conv_block(buffer, cut, Cp, U, V, M, rows, places, start, OCp, results, count)
        if not whole:
            inside[...] = results.reshape(block.images, tall, wide, OCp)[:, : inside.shape[1], :OW, :OC]

    for_each(work, len(blocks))
    return channels_first(y)


def _transformed_kernels(W: Any, Cp: int, OCp: int) -> Any:
    """G g G' of each kernel, the 36 points apart, each packed as the right matrix of a product (C, OC)."""
    OC, C, r, _ = W.shape
    kernels = np.zeros((r, r, Cp, OCp), W.dtype)
    kernels[:, :, :C, :OC] = W.transpose(2, 3, 1, 0)
    U = np.empty(TILE * TILE * Cp * OCp, W.dtype)
    _transform_kernels(kernels.reshape(-1), r, Cp, OCp, U, lanes(W.dtype))
    return U


@compiled
def _transform_kernels(kernels, r, C, OC, U, lanes):  # type: ignore[no-untyped-def]
    size = C * OC
    for column in range(0, OC, lanes):
        first, pitch = _panel(column, OC, lanes)
        for c in range(C):
            s = c * OC + column
            t = first * C + c * pitch + column - first
            if r == 3:
                kernel_to_points3(kernels, s, 3 * size, size, U, t, TILE * size, size)
            else:
                kernel_to_points5(kernels, s, 5 * size, size, U, t, TILE * size, size)


@compiled
def _panel(column, N, lanes):  # type: ignore[no-untyped-def]
    """Where the panel begins that has a column, and how wide it is."""
    first = 0
    while True:
        width = panel_width(first, N, lanes)
        if column < first + width:
            return first, width
        first += width


@compiled
def _apart(tiles, C, lanes):  # type: ignore[no-untyped-def]
    """Numbers from one point's matrix (tiles, C) to the next: a vector more than it needs.

    At powers of two the 36 places that a transform writes would share a few lines of the cache.
    """
    return tiles * C + lanes


@compiled
def _transform_pixels(images, n, down, across, m, C, V, lanes):  # type: ignore[no-untyped-def]
    """V = B' d B of all tiles of a block, and all channels."""
    apart = _apart(n * down * across, C, lanes)
    width = m * across + TILE - m
    height = m * down + TILE - m
    tile = 0
    for i in range(n):
        for j in range(down):
            for k in range(across):
                corner = ((i * height + m * j) * width + m * k) * C
                for c in range(0, C, lanes):
                    pixels_to_points(images, corner + c, width * C, C, V, tile * C + c, TILE * apart, apart)
                tile += 1


@compiled
def _conv_block(images, cut, C, U, V, M, rows, places, start, OC, results, lanes):  # type: ignore[no-untyped-def]
    """The steps at the head of this file, for tiles that are all there: C and OC are whole vectors."""
    n, down, across, m = cut
    tiles = n * down * across
    _transform_pixels(images, n, down, across, m, C, V, lanes)
    whole = np.zeros(1, np.int64)
    nowhere = np.zeros(len(places), np.int64)
    v, apart = _apart(tiles, C, lanes), _apart(tiles, OC, lanes)
    for k in range(TILE * TILE):
        begin = OC if k == ONE else 0  # the bias
        left, right = (V, k * v, rows, whole, C, 1), (U, k * C * OC)
        multiply(left, right, OC, (M, k * apart, places), (start, begin, nowhere), lanes)
    width = m * across * OC
    for tile in range(tiles):
        line, k = tile // across, tile % across
        for c in range(0, OC, lanes):
            corner = (m * line * width) + m * k * OC + c
            if m == 4:
                points_to_results4(M, tile * OC + c, TILE * apart, apart, results, corner, width, OC)
            else:
                points_to_results2(M, tile * OC + c, TILE * apart, apart, results, corner, width, OC)


def conv2d_grad_w(x: Any, gy: Any, pad: Pair) -> Any:
    """As `reference.conv2d_grad_w` for 3 x 3 kernels, stride 1: V' times A gy A' summed over tiles, led back by G."""
    (N, C, _, _), (_, OC, OH, OW), dtype = x.shape, gy.shape, x.dtype
    r, m, count = 3, _for3.m, lanes(dtype)
    Cp, OCp = C + -C % count, OC + -OC % count
    images, gradients = Images(x), Images(gy)
    tiling = Tiling(m, N, OH, OW, Cp + OCp)
    blocks = tiling.blocks(dtype.itemsize)
    # Sums made side by side: each of some blocks (a part), for some of the channels of gy (a slice)
    size = TILE * TILE * Cp * OCp
    parts = max(1, min(PARTS, len(blocks), PART_BYTES // (size * dtype.itemsize)))
    wide = max(SLICE, -(-OCp // (PARTS // parts * SLICE)) * SLICE)
    slices = [(first, min(wide, OCp - first)) for first in range(0, OCp, wide)]
    totals = [np.zeros((parts, TILE * TILE * Cp * columns), dtype) for _, columns in slices]
    rows = row_table(np.arange(Cp))

    def work(number: int) -> None:
        part, (first, columns) = number % parts, slices[number // parts]
        total, places = totals[number // parts][part], row_table(np.arange(Cp) * columns)
        for block in blocks[part * len(blocks) // parts : (part + 1) * len(blocks) // parts]:
            tiles = block.images * block.rows * tiling.across
            height = tiling.height(block.rows)
            buffer = scratch.take("images", block.images * height * tiling.width * Cp, dtype)
            images.lay_out(block, m * block.first - pad[0], -pad[1], (height, tiling.width), (0, Cp), buffer)
            tall, broad = m * block.rows, m * tiling.across
            results = scratch.take("gradients", block.images * tall * broad * columns, dtype)
            gradients.lay_out(block, m * block.first, 0, (tall, broad), (first, columns), results)
            V = scratch.take("points", TILE * TILE * (tiles * Cp + count), dtype)
            Q = scratch.take("products", TILE * TILE * (tiles * columns + count), dtype)
            cut = (block.images, block.rows, tiling.across, m)
            _grad_w_block(buffer, results, cut, Cp, columns, V, Q, rows, places, total, count)

    for_each(work, parts * len(slices))
    gW = np.empty((r, r, Cp, OCp), dtype)
    for (first, columns), total in zip(slices, totals, strict=True):
        part = np.empty((r, r, Cp, columns), dtype)
        _transform_back(total.sum(axis=0) if parts > 1 else total[0], Cp * columns, part.reshape(-1), count)
        gW[..., first : first + columns] = part
    return np.ascontiguousarray(gW[:, :, :C, :OC].transpose(3, 2, 0, 1))


@compiled
def _grad_w_block(images, results, cut, C, OC, V, Q, rows, places, total, lanes):  # type: ignore[no-untyped-def]
    """total += V' Q for each of the 36 points, Q = A gy A' packed as the right matrix of a product."""
    n, down, across, m = cut
    tiles = n * down * across
    v, apart = _apart(tiles, C, lanes), _apart(tiles, OC, lanes)
    _transform_pixels(images, n, down, across, m, C, V, lanes)
    for column in range(0, OC, lanes):
        first, pitch = _panel(column, OC, lanes)
        for tile in range(tiles):
            line, k = tile // across, tile % across
            s = (m * line * m * across + m * k) * OC + column
            t = first * tiles + tile * pitch + column - first
            results_to_points(results, s, m * across * OC, OC, Q, t, TILE * apart, apart)
    whole = np.zeros(1, np.int64)
    for k in range(TILE * TILE):
        left, right, result = (V, k * v, rows, whole, tiles, C), (Q, k * apart), (total, k * C * OC, places)
        multiply(left, right, OC, result, result, lanes)


@compiled
def _transform_back(points, size, gW, lanes):  # type: ignore[no-untyped-def]
    for s in range(0, size, lanes):
        points_to_kernel(points, s, TILE * size, size, gW, s, 3 * size, size)
