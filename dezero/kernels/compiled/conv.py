"""Convolution without laying out its windows.

A row of the left matrix is a window, and `multiply` reads it where it is: in images padded with zeros, channels last,
so that the numbers that a row of a kernel sees are neighbours. Only the images are copied, a block of them or of their
rows at a time, into a buffer that stays in the cache; not even they where they lie so already.

Along an axis an output pixel o sees some pixels of the input, each through a cell of the kernel:

    conv2d      o * stride - pad + dilation * cell                  every cell
    deconv2d    (o + pad - dilation * cell) / stride                the cells for which that is an integer

So a deconvolution is several convolutions, one for each remainder of o + pad by the stride: a `Phase` each, in which
every o sees the same cells. conv2d is the case of one phase, and everything below serves both; nothing is ever added to
a pixel twice, and no zeros are multiplied.

The gradient of W is the same product read the other way: a row for each number of a window, a column for each channel
of gy, summed over the pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dezero.kernels import memory, reference, scratch
from dezero.kernels.compiled import winograd
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.elementwise import relu_in_place
from dezero.kernels.compiled.layout import Images, channels_first, is_ours
from dezero.kernels.compiled.product import multiply, pack, pack_vector, row_starts, row_table
from dezero.kernels.compiled.simd import lanes
from dezero.kernels.reference import Pair
from dezero.kernels.sizes import conv_outsize
from dezero.kernels.threads import for_each, for_ranges

BUFFER = 2**18  # bytes of padded images at a time: they, and what comes out, stay in the second-level cache
FEW = 4  # channels that come out: below, vectors would be nearly empty
LARGEST = 2**24  # bytes of products of one image with all cells of few kernels
PARTS = 16  # at most so many sums are made side by side of a gradient of W
PART_BYTES = 2**25  # that take at most so much memory


class Phase(NamedTuple):
    """The outputs start, start + step, ... (length of them) along an axis: number i sees the inputs walk * i + offset.

    `taps` are pairs (offset, cell of the kernel), offsets ascending.
    """

    start: int
    step: int
    length: int
    walk: int
    taps: tuple[tuple[int, int], ...]


def conv_phases(outsize: int, kernel_size: int, stride: int, pad: int, dilation: int) -> tuple[Phase, ...]:
    """The one phase of a convolution.

    >>> conv_phases(28, kernel_size=3, stride=1, pad=1, dilation=1)
    (Phase(start=0, step=1, length=28, walk=1, taps=((-1, 0), (0, 1), (1, 2))),)
    """
    taps = tuple((dilation * cell - pad, cell) for cell in range(kernel_size))
    return (Phase(0, 1, outsize, stride, taps),)


def deconv_phases(outsize: int, kernel_size: int, stride: int, pad: int, dilation: int) -> tuple[Phase, ...]:
    """The phases of a deconvolution, one for each remainder.

    >>> deconv_phases(5, kernel_size=3, stride=2, pad=1, dilation=1)[1]
    Phase(start=1, step=2, length=2, walk=1, taps=((0, 2), (1, 0)))
    """
    phases = []
    for start in range(min(stride, outsize)):
        reached = ((start + pad - dilation * cell, cell) for cell in range(kernel_size))
        taps = tuple(sorted((distance // stride, cell) for distance, cell in reached if distance % stride == 0))
        phases.append(Phase(start, stride, -(-(outsize - start) // stride), 1, taps))
    return tuple(phases)


class Block(NamedTuple):
    """Some images, and of each phase the outputs number first ... first + rows - 1 along the height."""

    image: int
    images: int
    first: int
    rows: int


class Plan(NamedTuple):
    """How to cut the work, and the tables for a product on one block: see `_tables`."""

    down: tuple[Phase, ...]
    right: tuple[Phase, ...]
    channels: int

    def reach(self, phases: tuple[Phase, ...]) -> tuple[int, int]:
        """The smallest and the largest offset at which an input is seen."""
        offsets = [offset for phase in phases for offset, _ in phase.taps] or [0]
        return min(offsets), max(offsets)

    def window(self, rows: int) -> tuple[int, int, int, int]:
        """Top (of output number 0), left, height and width of the input that `rows` outputs of each phase see."""
        (top, bottom), (left, right) = self.reach(self.down), self.reach(self.right)
        columns = self.right[0].length
        height = (rows - 1) * self.down[0].walk + bottom - top + 1
        width = (columns - 1) * self.right[0].walk + right - left + 1
        return top, left, height, width

    def blocks(self, images: int, itemsize: int) -> Iterator[Block]:
        """Cut the work into blocks whose input is about BUFFER bytes large: some rows of one image, or some images."""
        rows = self.down[0].length
        _, _, height, width = self.window(rows)
        lines = max(1, BUFFER // (width * self.channels * itemsize))
        if height > lines:
            beyond = height - (rows - 1) * self.down[0].walk
            at_a_time = max(1, min(rows, (lines - beyond) // self.down[0].walk + 1))
            at_a_time = -(-rows // -(-rows // at_a_time))  # all about equally many
            for image in range(images):
                for first in range(0, rows, at_a_time):
                    yield Block(image, 1, first, min(at_a_time, rows - first))
        else:
            at_a_time = max(1, min(lines // height, -(-images // 4)))
            for image in range(0, images, at_a_time):
                yield Block(image, min(at_a_time, images - image), 0, rows)


class Tables(NamedTuple):
    """Where one phase of a block finds its windows and puts its results, as offsets: the arguments of `multiply`."""

    rows: Any
    places: Any
    segments: Any
    run: int
    cells: tuple[tuple[int, ...], tuple[int, ...]]


def _tables(plan: Plan, block: Block, lines: int, outsize: Pair, out_channels: int) -> tuple[Tables, ...]:
    """The tables of all phases that have outputs in a block; see below."""
    counts = tuple(max(0, min(block.rows, down.length - block.first)) for down in plan.down)
    return _make_tables(plan, block.images, block.rows, counts, lines, outsize, out_channels)


@functools.lru_cache(maxsize=32)
def _make_tables(
    plan: Plan, images: int, rows: int, counts: tuple[int, ...], lines: int, outsize: Pair, out_channels: int
) -> tuple[Tables, ...]:
    """Of each phase there are `counts` rows; images are `lines` lines apart; results count from its first row."""
    top, left, _, width = plan.window(rows)
    C, (OH, OW) = plan.channels, outsize
    n = np.arange(images)[:, None, None]
    tables = []
    for down, count in zip(plan.down, counts, strict=True):
        i = np.arange(count)[None, :, None]
        for right in plan.right:
            j = np.arange(right.length)[None, None, :]
            seen = (n * lines + down.walk * i) * width + right.walk * j
            place = (n * OH + down.start + down.step * i) * OW + right.start + right.step * j
            if seen.size:
                segments, run = _segments(down.taps, right.taps, top, left, width, C)
                cells = _cells(down), _cells(right)
                tables.append(Tables(row_table(seen * C), row_table(place * out_channels), segments, run, cells))
    return tuple(tables)


def _cells(phase: Phase) -> tuple[int, ...]:
    return tuple(cell for _, cell in phase.taps)


def _segments(down: Any, right: Any, top: int, left: int, width: int, C: int) -> tuple[Any, int]:
    """Where the numbers of a window lie, from its own place: one run where pixels are neighbours, else one for each."""
    together = right and all(offset - right[0][0] == k for k, (offset, _) in enumerate(right))
    starts, run = (right[:1], len(right) * C) if together else (right, C)
    segments = [((i - top) * width + j - left) * C for i, _ in down for j, _ in starts]
    return np.array(segments, np.int64), run


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d`."""
    if not is_ours(x, W):
        return reference.conv2d(x, W, b, stride, pad, dilation, groups)
    kernel_size = W.shape[2:]
    OH, OW = (conv_outsize(*axis) for axis in zip(x.shape[2:], kernel_size, stride, pad, dilation, strict=True))
    if winograd.serves(x, W, stride, dilation, groups):
        return winograd.conv2d(x, W, b, pad)
    down, right = (conv_phases(*axis) for axis in zip((OH, OW), kernel_size, stride, pad, dilation, strict=True))
    plan, kernels = Plan(down, right, x.shape[1] // groups), W.transpose(2, 3, 1, 0)
    if _is_for_numpy(x, kernels, plan, groups):
        return reference.conv2d(x, W, b, stride, pad, dilation, groups)
    return _convolve(x, kernels, b, plan, (OH, OW), groups)


def conv2d_relu(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_relu`, in the memory of what `conv2d` gives."""
    return relu_in_place(conv2d(x, W, b, stride, pad, dilation, groups))


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.deconv2d`."""
    if not is_ours(x, W):
        return reference.deconv2d(x, W, b, stride, pad, outsize, dilation, groups)
    KH, KW = kernel_size = W.shape[2:]
    turned_pad = dilation[0] * (KH - 1) - pad[0], dilation[1] * (KW - 1) - pad[1]
    if winograd.serves(x, W, stride, dilation, groups) and min(turned_pad) >= 0:
        return winograd.conv2d(x, W[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), b, turned_pad)
    down, right = (deconv_phases(*axis) for axis in zip(outsize, kernel_size, stride, pad, dilation, strict=True))
    # (C of all groups, OC of one, KH, KW) -> (KH, KW, C of one group, OC of all)
    C, OC = x.shape[1] // groups, W.shape[1]
    kernels = W.reshape(groups, C, OC, KH, KW).transpose(3, 4, 1, 0, 2).reshape(KH, KW, C, groups * OC)
    plan = Plan(down, right, C)
    if _is_for_numpy(x, kernels, plan, groups):
        return reference.deconv2d(x, W, b, stride, pad, outsize, dilation, groups)
    return _convolve(x, kernels, b, plan, outsize, groups)


def _convolve(x: Any, W: Any, b: Any, plan: Plan, outsize: Pair, groups: int) -> Any:
    """Images (N, C, H, W) and kernels (KH, KW, C / groups, OC) -> (N, OC, *outsize)."""
    if _are_few(x, W, groups):
        return _convolve_to_few(x, W, b, plan, outsize)
    if _is_depthwise(plan, groups, W.shape[3]):
        return _convolve_depthwise(x, W, b, plan, outsize)
    N, OC, dtype, count = len(x), W.shape[3], x.dtype, lanes(x.dtype)
    C, each, (OH, OW) = plan.channels, OC // groups, outsize
    y = memory.empty((N, OH, OW, OC), dtype)
    flat, images = y.reshape(-1), Images(x)
    starts = [pack_vector(None if b is None else b[g * each : (g + 1) * each], each, dtype) for g in range(groups)]
    blocks = list(plan.blocks(N, dtype.itemsize))
    packed: dict[Any, Any] = {}  # by the cells that a phase sees: each phase its own
    for seen in ((_cells(down), _cells(right)) for down in plan.down for right in plan.right):
        cells = W[np.ix_(*seen)]
        packed[seen] = [pack(cells[..., g * each : (g + 1) * each].reshape(-1, each)) for g in range(groups)]

    def work(number: int) -> None:
        block = blocks[number]
        top, left, *size = plan.window(block.rows)
        top += block.first * plan.down[0].walk
        start = (block.image * OH + block.first * plan.down[0].step) * OW * OC
        for g in range(groups):
            pixels, begin, lines = images.window(block, top, left, size, (g * C, C))
            for rows, places, segments, run, cells in _tables(plan, block, lines, outsize, OC):
                zeros = np.zeros_like(places)
                multiply(
                    (pixels, begin, rows, segments, run, 1),
                    (packed[cells][g], 0),
                    each,
                    (flat, start + g * each, places),
                    (starts[g], 0, zeros),
                    count,
                )

    for_each(work, len(blocks))
    return channels_first(y)


def _is_for_numpy(x: Any, W: Any, plan: Plan, groups: int) -> bool:
    """Say whether so few channels come out of a group that vectors would be nearly empty, and no way here is faster."""
    return W.shape[3] // groups <= FEW and not _are_few(x, W, groups) and not _is_depthwise(plan, groups, W.shape[3])


def _are_few(x: Any, W: Any, groups: int) -> bool:
    """Say whether few channels come out, many go in, and what an image makes meanwhile is not too much to keep."""
    (_, C, H, width), (KH, KW, _, OC) = x.shape, W.shape
    products = H * width * (KH * KW * OC + lanes(x.dtype)) * x.itemsize
    return groups == 1 and OC <= FEW and lanes(x.dtype) <= C and products <= LARGEST


def _convolve_to_few(x: Any, W: Any, b: Any, plan: Plan, outsize: Pair) -> Any:
    """`_convolve` to so few channels that columns of kernels would leave most of a vector empty.

    Each pixel is multiplied by all cells of all kernels first, which fills the vectors; each result then adds up what
    its window's pixels hold for it.
    """
    (N, C, H, width), (KH, KW, _, OC), dtype = x.shape, W.shape, x.dtype
    count = lanes(dtype)
    columns = KH * KW * OC + -(KH * KW * OC) % count
    matrix = np.zeros((C, columns), dtype)
    matrix[:, : KH * KW * OC] = W.transpose(2, 0, 1, 3).reshape(C, -1)
    packed, nothing, start = pack(matrix), np.zeros(columns, dtype), pack_vector(b, OC, dtype)
    y = memory.empty((N, *outsize, OC), dtype)
    flat, images = y.reshape(-1), Images(x)
    down, right = (_tap_table(phases) for phases in (plan.down, plan.right))

    def work(some: slice) -> None:
        n = some.stop - some.start
        pixels, begin, _ = images.window(Block(some.start, n, 0, H), 0, 0, (H, width), (0, C))
        products = scratch.take("products", n * H * width * columns, dtype)
        rows, places, zeros = (row_starts(n * H * width, length) for length in (C, columns, 0))
        left = (pixels, begin, rows, zeros[:1], C, 1)
        multiply(left, (packed, 0), columns, (products, 0, places), (nothing, 0, zeros), count)
        part = flat[some.start * y[0].size : some.stop * y[0].size]
        _add_up(products, n, H, width, columns, KW, down, right, start, part, *outsize, OC)

    for_ranges(work, N, max(1, BUFFER // (H * width * columns * dtype.itemsize)))
    return channels_first(y)


def _tap_table(phases: tuple[Phase, ...]) -> Any:
    """A row (start, step, length, walk, offset, cell) for each tap of each phase."""
    rows = [(*phase[:4], offset, cell) for phase in phases for offset, cell in phase.taps]
    return np.array(rows, np.int64).reshape(-1, 6)


@compiled
def _add_up(products, n, H, W, columns, KW, down, right, start, y, OH, OW, OC):  # type: ignore[no-untyped-def]
    for pixel in range(n * OH * OW):
        for oc in range(OC):
            y[pixel * OC + oc] = start[oc]
    for a in range(len(down)):
        first_h, step_h, rows, walk_h, offset_h, cell_h = down[a]
        for b in range(len(right)):
            first_w, step_w, cols, walk_w, offset_w, cell_w = right[b]
            near, far = 0, cols  # the outputs whose pixel lies inside
            while near < far and walk_w * near + offset_w < 0:
                near += 1
            while near < far and walk_w * (far - 1) + offset_w >= W:
                far -= 1
            for line in range(n * rows):
                image, i = line // rows, line % rows
                h = walk_h * i + offset_h
                if h < 0 or h >= H:
                    continue
                s = ((image * H + h) * W + walk_w * near + offset_w) * columns + (cell_h * KW + cell_w) * OC
                t = ((image * OH + first_h + step_h * i) * OW + first_w + step_w * near) * OC
                for _ in range(far - near):
                    for oc in range(OC):
                        y[t + oc] += products[s + oc]
                    s += walk_w * columns
                    t += step_w * OC


def _is_depthwise(plan: Plan, groups: int, OC: int) -> bool:
    """Say whether each channel has a kernel of its own, and outputs that are neighbours see neighbours."""
    return plan.channels == 1 and groups == OC > 1 and plan.right[0].walk == plan.right[0].step == 1


def _convolve_depthwise(x: Any, W: Any, b: Any, plan: Plan, outsize: Pair) -> Any:
    """`_convolve` where each channel has a kernel of its own: no product of matrices, but of rows.

    Each cell adds a row of pixels, all their channels, times its weights, laid out as often as there are pixels.
    """
    (N, C, H, width), (KH, KW), dtype = x.shape, W.shape[:2], x.dtype
    weights = np.tile(np.ascontiguousarray(W).reshape(KH * KW, C), outsize[1]).reshape(-1)
    start = pack_vector(b, C, dtype)
    y = memory.empty((N, *outsize, C), dtype)
    flat, images = y.reshape(-1), Images(x)
    down, right = (_tap_table(phases) for phases in (plan.down, plan.right))

    def work(some: slice) -> None:
        n = some.stop - some.start
        pixels, begin, _ = images.window(Block(some.start, n, 0, H), 0, 0, (H, width), (0, C))
        part = flat[some.start * y[0].size : some.stop * y[0].size]
        _depthwise(pixels[begin:], n, H, width, C, KW, weights, down, right, start, part, *outsize)

    for_ranges(work, N, max(1, BUFFER // (H * width * C * dtype.itemsize)))
    return channels_first(y)


@compiled
def _depthwise(x, n, H, W, C, KW, weights, down, right, start, y, OH, OW):  # type: ignore[no-untyped-def]
    for pixel in range(n * OH * OW):
        y[pixel * C : (pixel + 1) * C] = start[:C]
    for line in range(n * len(down)):
        first_h, step_h, rows, walk_h, offset_h, cell_h = down[line % len(down)]
        for i in range(rows):
            h = walk_h * i + offset_h
            if h < 0 or h >= H:
                continue
            s, t = (line // len(down) * H + h) * W, (line // len(down) * OH + first_h + step_h * i) * OW
            for b in range(len(right)):
                _, _, _, _, offset, cell_w = right[b]
                near, far = max(0, -offset), min(OW, W - offset)  # the outputs whose pixel lies inside
                if near < far:
                    cell = (cell_h * KW + cell_w) * OW * C
                    seen, result = (
                        x[(s + near + offset) * C : (s + far + offset) * C],
                        y[(t + near) * C : (t + far) * C],
                    )
                    _multiply_add(seen, weights[cell : cell + len(seen)], result)


@compiled
def _multiply_add(a, b, total):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        total[i] += a[i] * b[i]


def _grad_w_depthwise(x: Any, gy: Any, plan: Plan) -> Any:
    """`conv2d_grad_w` where each channel has a kernel of its own: rows of x times rows of gy, added up."""
    (N, C, H, width), (OH, OW), dtype = x.shape, gy.shape[2:], x.dtype
    KH, KW = len(plan.down[0].taps), len(plan.right[0].taps)
    images, gradients = Images(x), Images(gy)
    parts = min(PARTS, N)
    totals = np.zeros((parts, KH * KW * OW * C), dtype)
    down, right = (_tap_table(phases) for phases in (plan.down, plan.right))

    def work(part: int) -> None:
        for image in range(part * N // parts, (part + 1) * N // parts):
            pixels, p, _ = images.window(Block(image, 1, 0, H), 0, 0, (H, width), (0, C))
            results, r, _ = gradients.window(Block(image, 1, 0, OH), 0, 0, (OH, OW), (0, C), "gradients")
            _depthwise_grad_w(pixels[p:], results[r:], H, width, C, KW, down, right, totals[part], OH, OW)

    for_each(work, parts)
    return np.ascontiguousarray(totals.reshape(parts, KH, KW, OW, C).sum(axis=(0, 3))[..., None].transpose(2, 3, 0, 1))


@compiled
def _depthwise_grad_w(x, gy, H, W, C, KW, down, right, total, OH, OW):  # type: ignore[no-untyped-def]
    for a in range(len(down)):
        _, _, rows, walk_h, offset_h, cell_h = down[a]
        for i in range(rows):
            h = walk_h * i + offset_h
            if h < 0 or h >= H:
                continue
            for b in range(len(right)):
                _, _, _, _, offset, cell_w = right[b]
                near, far = max(0, -offset), min(OW, W - offset)
                if near < far:
                    seen = x[(h * W + near + offset) * C : (h * W + far + offset) * C]
                    cell = (cell_h * KW + cell_w) * OW * C
                    _multiply_add(seen, gy[(i * OW + near) * C : (i * OW + far) * C], total[cell : cell + len(seen)])


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """As `reference.conv2d_grad_w`: sums over blocks, side by side, added in an order that never changes."""
    if not is_ours(x, gy):
        return reference.conv2d_grad_w(x, gy, kernel_size, stride, pad, dilation, groups)
    if winograd.serves_grad_w(x, gy, kernel_size, stride, dilation, groups):
        return winograd.conv2d_grad_w(x, gy, pad)
    (KH, KW), OC = kernel_size, gy.shape[1]
    down, right = (conv_phases(*axis) for axis in zip(gy.shape[2:], kernel_size, stride, pad, dilation, strict=True))
    plan = Plan(down, right, x.shape[1] // groups)
    if _is_depthwise(plan, groups, OC):
        return _grad_w_depthwise(x, gy, plan)
    C, each, dtype, count = plan.channels, OC // groups, x.dtype, lanes(x.dtype)
    if groups > 1 and each <= FEW:
        return reference.conv2d_grad_w(x, gy, kernel_size, stride, pad, dilation, groups)
    images, gradients = Images(x), Images(gy)
    length = KH * KW * C
    blocks = list(plan.blocks(len(x), dtype.itemsize))
    parts = max(1, min(PARTS, len(blocks), PART_BYTES // (groups * length * each * dtype.itemsize)))
    totals = np.zeros((parts, groups, length, each), dtype)
    places, step = row_table(np.arange(length) * each), plan.right[0].walk * C

    def work(part: int) -> None:
        for block in blocks[part * len(blocks) // parts : (part + 1) * len(blocks) // parts]:
            top, left, *size = plan.window(block.rows)
            top += block.first * plan.down[0].walk
            for g in range(groups):
                pixels, begin, apart = images.window(block, top, left, size, (g * C, C))
                cells, lines = _tables_of_grad_w(plan, block.images, block.rows, apart)
                right = gradients.packed(block, (g * each, each), count)
                total = totals[part, g].reshape(-1)
                sum_of = (total, 0, places)
                multiply((pixels, begin, cells, lines, gy.shape[3], step), right, each, sum_of, sum_of, count)

    for_each(work, parts)
    total = totals.sum(axis=0).reshape(groups, KH, KW, C, each)
    return np.ascontiguousarray(total.transpose(0, 4, 3, 1, 2)).reshape(OC, C, KH, KW)


@functools.lru_cache(maxsize=32)
def _tables_of_grad_w(plan: Plan, images: int, rows: int, apart: int) -> tuple[Any, Any]:
    """Where the numbers of a window lie in it, and where the lines of windows of a block begin."""
    top, left, _, width = plan.window(rows)
    (down,), (right,), C = plan.down, plan.right, plan.channels
    cells = [((i - top) * width + j - left) * C + c for i, _ in down.taps for j, _ in right.taps for c in range(C)]
    lines = [(n * apart + down.walk * i) * width * C for n in range(images) for i in range(rows)]
    return row_table(cells), np.array(lines, np.int64)
