"""Images between the memory they come in and the memory that kernels like: channels last, padded, in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import memory, scratch
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.simd import panel_width


def is_ours(*arrays: Any) -> bool:
    """Say whether kernels here can do it: all arrays float32 or all float64, and none empty."""
    return all(x.dtype == arrays[0].dtype and x.dtype in (np.float32, np.float64) and x.size for x in arrays)


def channels_last(x: Any) -> Any:
    """(N, C, H, W) -> (N, H, W, C), the same memory."""
    return x.transpose(0, 2, 3, 1)


def channels_first(x: Any) -> Any:
    """(N, H, W, C) -> (N, C, H, W), the same memory."""
    return x.transpose(0, 3, 1, 2)


def is_channels_last(x: Any) -> bool:
    """Say whether images (N, C, H, W) lie in memory as (N, H, W, C), in one piece."""
    return x.ndim == 4 and x.shape[1] > 1 and channels_last(x).flags.c_contiguous


def flattened(*arrays: Any) -> tuple[Any, ...]:
    """Arrays of one shape as flat ones, whose elements correspond: views, where they lie in memory like the first.

    The first decides between the two orders that images come in; what has another is copied.
    """
    if is_channels_last(arrays[0]):
        arrays = tuple(map(channels_last, arrays))
    return tuple(map(in_one_piece, arrays))


def in_one_piece(x: Any) -> Any:
    """`x` as a flat array in the order of its axes: a view where it lies so."""
    x = np.ascontiguousarray(x)
    if not x.flags.writeable:  # Numba would compile everything again for a read-only array; a copy takes less
        x = x.copy()
    return x.reshape(-1)


def empty_like(x: Any) -> Any:
    """A new array of the shape of `x`, in the order that `flattened` gives it."""
    if is_channels_last(x):
        return channels_first(memory.empty(channels_last(x).shape, x.dtype))
    return memory.empty(x.shape, x.dtype)


class Images:
    """Images (N, C, H, W) as flat memory, and how far apart in it neighbours are: along N, H, W and C."""

    def __init__(self, x: Any) -> None:
        self.shape = x.shape
        _, C, H, W = x.shape
        if is_channels_last(x):
            self.flat, self.strides = in_one_piece(channels_last(x)), (H * W * C, W * C, C, 1)
        else:
            self.flat, self.strides = in_one_piece(x), (C * H * W, W, 1, H * W)

    def lay_out(self, block: Any, top: int, left: int, size: Any, channels: Any, buffer: Any) -> None:
        """Copy a window of some images into flat `buffer`, as (images, *size, channels' length), channels last.

        What lies outside the images is zero, and so are channels that they lack. `block` has the first image and how
        many, `channels` the first and how many; `top` and `left`, of the window, may be negative.
        """
        _, C, H, W = self.shape
        begin = block.image * self.strides[0] + channels[0] * self.strides[3]
        there = min(channels[1], C - channels[0])
        _lay_out(self.flat, begin, *self.strides, block.images, H, W, there, top, left, *size, channels[1], buffer)

    def packed(self, block: Any, channels: Any, lanes: int) -> Any:
        """The pixels of a block, a row each, and `channels` (first, how many) of theirs, as `product.pack` lays it out.

        Returned are flat memory and where in it they begin.
        """
        (_, C, _, W), (sn, sh, sw, sc), (first, there) = self.shape, self.strides, channels
        begin = block.image * sn + block.first * sh + first * sc
        if sc == 1 and there == C == panel_width(0, C, lanes):  # one panel, which is what lies there already
            return self.flat, begin
        size = block.images * block.rows * W * (there + -there % lanes)
        buffer = scratch.take("right matrix", size, self.flat.dtype)
        _pack(self.flat, begin, sn, sh, sw, sc, block.images, block.rows, W, there, buffer, lanes)
        return buffer, 0


@compiled
def _lay_out(x, begin, sn, sh, sw, sc, n, H, W, C, top, left, height, width, channels, buffer):  # type: ignore[no-untyped-def]
    near, far = max(0, -left), max(0, min(width, W - left))
    for line in range(n * height):
        i, h = line // height, line % height + top
        row = buffer[line * width * channels : (line + 1) * width * channels]
        if h < 0 or h >= H or far <= near:
            row[:] = 0
            continue
        row[: near * channels] = 0
        row[far * channels :] = 0
        start = begin + i * sn + h * sh + (left + near) * sw
        if sc == 1 and sw == channels:  # pixels side by side
            row[near * channels : far * channels] = x[start : start + (far - near) * sw]
        elif sc == 1:
            for w in range(far - near):
                pixel = row[(near + w) * channels : (near + w + 1) * channels]
                pixel[:C] = x[start + w * sw : start + w * sw + C]
                pixel[C:] = 0
        else:
            inside = row[near * channels : far * channels]
            for c in range(C):
                values = x[start + c * sc : start + c * sc + far - near]
                for w in range(len(values)):
                    inside[w * channels + c] = values[w]
            for c in range(C, channels):
                for w in range(far - near):
                    inside[w * channels + c] = 0


@compiled
def _pack(x, begin, sn, sh, sw, sc, n, rows, W, C, buffer, lanes):  # type: ignore[no-untyped-def]
    pixels = n * rows * W
    first = 0
    while first < C:
        columns = panel_width(first, C, lanes)
        there = min(columns, C - first)
        for line in range(n * rows):
            start = begin + line // rows * sn + line % rows * sh + first * sc
            target = buffer[pixels * first + line * W * columns : pixels * first + (line + 1) * W * columns]
            if sc == 1:
                for w in range(W):
                    target[w * columns : w * columns + there] = x[start + w * sw : start + w * sw + there]
            else:
                for c in range(there):
                    values = x[start + c * sc : start + c * sc + W]
                    for w in range(W):
                        target[w * columns + c] = values[w]
            if there < columns:
                for w in range(W):
                    target[w * columns + there : (w + 1) * columns] = 0
        first += columns
