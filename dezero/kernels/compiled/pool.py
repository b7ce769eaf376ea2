"""Pooling, window by window, padding never stored.

With the channels last in memory, a window is a few vectors of channels, compared or added at once, and what is left of
the channels, one by one. Images with channels first are therefore rearranged, if there are channels enough to fill a
vector; with fewer, each channel is an image of its own. `_bounds` cuts off what of a window lies outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import blocked, memory
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import channels_first, in_one_piece, in_pixels, is_channels_last, is_ours
from dezero.kernels.compiled.simd import give, give_more, lanes, largest
from dezero.kernels.reference import Pair
from dezero.kernels.sizes import conv_outsize
from dezero.kernels.threads import for_ranges

LARGEST = 127  # cells that an index of one byte can tell apart


class _Images:
    """How images and windows lie: `planes` pieces of (H, W, C) numbers, C being 1 where channels come first."""

    def __init__(self, x: Any, image_size: Pair, outsize: Pair, dtype: Any = None) -> None:
        self.N, channels = x.shape[:2]
        self.last = is_channels_last(x) or channels >= lanes(dtype or x.dtype)
        self.planes = self.N if self.last else self.N * channels
        self.C = channels if self.last else 1
        self.channels = channels
        self.sizes = (*image_size, *outsize, self.C, lanes(dtype or x.dtype))

    def new(self, size: Any, dtype: Any) -> Any:
        make = memory.empty
        if self.last:
            return channels_first(make((self.N, *size, self.channels), dtype))
        return make((self.N, self.channels, *size), dtype)

    def each(self, kernel: Any, *arrays: Any, window: Any) -> None:
        """Run `kernel` on all planes; the arrays are flat."""
        numbers = (*self.sizes, *window[0], *window[1], *window[2])
        at_a_time = max(1, 2**14 // (self.sizes[2] * self.sizes[3] * self.C))
        for_ranges(lambda some: kernel(*arrays, *numbers, some.start, some.stop), self.planes, at_a_time)

    def flat(self, *arrays: Any) -> tuple[Any, ...]:
        """Flat arrays in the order of these images."""
        return tuple(map(in_pixels if self.last else in_one_piece, arrays))


def _outsize(x: Any, window: Any) -> Pair:
    OH, OW = (conv_outsize(*axis) for axis in zip(x.shape[2:], *window, strict=True))
    return OH, OW


def max_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> tuple[Any, Any]:
    """As `reference.max_pool`."""
    if not is_ours(x) or kernel_size[0] * kernel_size[1] > LARGEST:
        return blocked.max_pool(x, kernel_size, stride, pad)  # type: ignore[no-any-return]
    window = (kernel_size, stride, pad)
    outsize = _outsize(x, window)
    images = _Images(x, x.shape[2:], outsize)
    y, indexes = images.new(outsize, x.dtype), images.new(outsize, np.int8)
    images.each(_max_pool, *images.flat(x, y, indexes), window=window)
    return y, indexes


@compiled
def _bounds(o, size, kernel_size, stride, pad):  # type: ignore[no-untyped-def]
    """The first and last + 1 cell of window `o` that lie inside, and where in the image cell 0 is."""
    start = o * stride - pad
    return max(0, -start), min(kernel_size, size - start), start


@compiled
def _max_pool(x, y, indexes, H, W, OH, OW, C, lanes, KH, KW, SH, SW, PH, PW, first, last):  # type: ignore[no-untyped-def]
    for plane in range(first, last):
        for oh in range(OH):
            up, down, top = _bounds(oh, H, KH, SH, PH)
            for ow in range(OW):
                near, far, left = _bounds(ow, W, KW, SW, PW)
                o = ((plane * OH + oh) * OW + ow) * C
                s = ((plane * H + top + up) * W + left + near) * C
                first_cell = up * KW + near
                whole = C // lanes * lanes
                for c in range(0, whole, lanes):
                    largest(x, s + c, W * C, C, down - up, far - near, first_cell, KW, y, o + c, indexes)  # type: ignore[call-arg]
                for c in range(whole, C):
                    best, index = x[s + c], first_cell
                    for i in range(up, down):
                        for j in range(near, far):
                            value = x[((plane * H + top + i) * W + left + j) * C + c]
                            if not (value <= best or best != best):
                                best, index = value, i * KW + j
                    y[o + c], indexes[o + c] = best, index


def max_pool_gather(x: Any, indexes: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_gather`."""
    if not is_ours(x) or indexes.dtype != np.int8:
        return blocked.max_pool_gather(x, indexes, kernel_size, stride, pad)
    outsize = indexes.shape[2:]
    images = _Images(x, x.shape[2:], outsize)
    y = images.new(outsize, x.dtype)
    images.each(_gather, *images.flat(x, indexes, y), window=(kernel_size, stride, pad))
    return y


@compiled
def _gather(x, indexes, y, H, W, OH, OW, C, lanes, KH, KW, SH, SW, PH, PW, first, last):  # type: ignore[no-untyped-def]
    for plane in range(first, last):
        for oh in range(OH):
            for ow in range(OW):
                for c in range(C):
                    o = ((plane * OH + oh) * OW + ow) * C + c
                    i, j = indexes[o] // KW, indexes[o] % KW
                    y[o] = x[((plane * H + oh * SH - PH + i) * W + ow * SW - PW + j) * C + c]


def max_pool_scatter(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_scatter`."""
    if not is_ours(gy) or indexes.dtype != np.int8:
        return blocked.max_pool_scatter(gy, indexes, image_size, kernel_size, stride, pad)
    images = _Images(indexes, image_size, gy.shape[2:], gy.dtype)
    gx = images.new(image_size, gy.dtype)
    images.each(_scatter, *images.flat(gy, indexes, gx), window=(kernel_size, stride, pad))
    return gx


@compiled
def _scatter(gy, indexes, gx, H, W, OH, OW, C, lanes, KH, KW, SH, SW, PH, PW, first, last):  # type: ignore[no-untyped-def]
    whole = C // lanes * lanes
    apart = SH >= KH and SW >= KW  # windows that share no pixel
    tiled = apart and whole == C and (SH, SW, PH, PW) == (KH, KW, 0, 0) and (OH * KH, OW * KW) == (H, W)
    for plane in range(first, last):
        if not tiled:
            gx[plane * H * W * C : (plane + 1) * H * W * C] = 0
        for oh in range(OH):
            up, down, top = _bounds(oh, H, KH, SH, PH)
            for ow in range(OW):
                near, far, left = _bounds(ow, W, KW, SW, PW)
                o = ((plane * OH + oh) * OW + ow) * C
                corner = (plane * H + top) * W + left
                t = (corner + up * W + near) * C
                for c in range(0, whole, lanes):
                    if apart:
                        give(gy, o + c, indexes, gx, t + c, W * C, C, down - up, far - near, up * KW + near, KW)
                    else:
                        give_more(gy, o + c, indexes, gx, t + c, W * C, C, down - up, far - near, up * KW + near, KW)
                for c in range(whole, C):
                    i, j = indexes[o + c] // KW, indexes[o + c] % KW
                    gx[(corner + i * W + j) * C + c] += gy[o + c]


def average_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool`."""
    if not is_ours(x):
        return blocked.average_pool(x, kernel_size, stride, pad)
    window = (kernel_size, stride, pad)
    outsize = _outsize(x, window)
    images = _Images(x, x.shape[2:], outsize)
    y = images.new(outsize, x.dtype)
    images.each(_average_pool, *images.flat(x, y), window=window)
    return y


@compiled
def _average_pool(x, y, H, W, OH, OW, C, lanes, KH, KW, SH, SW, PH, PW, first, last):  # type: ignore[no-untyped-def]
    one = x.dtype.type(1)
    share = one / x.dtype.type(KH * KW)
    for plane in range(first, last):
        for oh in range(OH):
            up, down, top = _bounds(oh, H, KH, SH, PH)
            for ow in range(OW):
                near, far, left = _bounds(ow, W, KW, SW, PW)
                o = ((plane * OH + oh) * OW + ow) * C
                totals = y[o : o + C]
                totals[:] = 0
                for i in range(up, down):
                    for j in range(near, far):
                        s = ((plane * H + top + i) * W + left + j) * C
                        _add(x[s : s + C], totals, one)
                for c in range(C):
                    totals[c] *= share


def average_pool_grad(gy: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool_grad`."""
    if not is_ours(gy):
        return blocked.average_pool_grad(gy, image_size, kernel_size, stride, pad)
    images = _Images(gy, image_size, gy.shape[2:])
    gx = images.new(image_size, gy.dtype)
    images.each(_average_pool_grad, *images.flat(gy, gx), window=(kernel_size, stride, pad))
    return gx


@compiled
def _average_pool_grad(gy, gx, H, W, OH, OW, C, lanes, KH, KW, SH, SW, PH, PW, first, last):  # type: ignore[no-untyped-def]
    share = gx.dtype.type(1) / gx.dtype.type(KH * KW)
    for plane in range(first, last):
        gx[plane * H * W * C : (plane + 1) * H * W * C] = 0
        for oh in range(OH):
            up, down, top = _bounds(oh, H, KH, SH, PH)
            for ow in range(OW):
                near, far, left = _bounds(ow, W, KW, SW, PW)
                o = ((plane * OH + oh) * OW + ow) * C
                for i in range(up, down):
                    for j in range(near, far):
                        t = ((plane * H + top + i) * W + left + j) * C
                        _add(gy[o : o + C], gx[t : t + C], share)


@compiled
def _add(values, totals, factor):  # type: ignore[no-untyped-def]
    for c in range(len(totals)):
        totals[c] += values[c] * factor
