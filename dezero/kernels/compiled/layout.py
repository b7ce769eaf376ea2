"""Images between the memory they come in and the memory that kernels like: channels last, padded, in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import memory, scratch
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.simd import lanes, panel_width, transpose
from dezero.kernels.threads import for_ranges

PIECE = 2**16  # numbers that one thread copies before it looks for more


def is_ours(*arrays: Any) -> bool:
    """Say whether kernels here can do it: all arrays float32 or all float64, and none empty."""
    kind = arrays[0].dtype.char
    if kind not in "fd":
        return False
    return all(x.dtype.char == kind and x.size and x.dtype.isnative for x in arrays)


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
    return tuple(map(in_pixels if is_channels_last(arrays[0]) else in_one_piece, arrays))


def in_one_piece(x: Any) -> Any:
    """`x` as a flat array in the order of its axes: a view where it lies so."""
    if not x.flags.c_contiguous or not x.flags.writeable:  # Numba would compile everything again for read-only arrays
        x = copy(x)
    return x.reshape(-1)


def in_pixels(x: Any) -> Any:
    """Images (N, C, H, W) as a flat array in the order (N, H, W, C): a view where they lie so."""
    if is_ours(x) and x.flags.c_contiguous and not is_channels_last(x):
        N, C, H, W = x.shape
        y = memory.empty((N, H, W, C), x.dtype)
        _transpose_images(x, C, H * W, y)
        return y.reshape(-1)
    return in_one_piece(channels_last(x))


def copy(x: Any) -> Any:
    """As `reference.copy`."""
    y = memory.empty(x.shape, x.dtype)
    if is_ours(x) and is_channels_last(x):
        _, C, H, W = x.shape
        _transpose_images(channels_last(x), H * W, C, y)
    else:
        np.copyto(y, x)
    return y


def empty_like(x: Any) -> Any:
    """A new array of the shape of `x`, in the order that `flattened` gives it."""
    if is_channels_last(x):
        return channels_first(memory.empty(channels_last(x).shape, x.dtype))
    return memory.empty(x.shape, x.dtype)


# ----------------------------------------------------------------------------------------------------------------------
# From one order to the other
# ----------------------------------------------------------------------------------------------------------------------


def _transpose_images(x: Any, rows: int, columns: int, y: Any) -> None:
    """Each image of x, a matrix (rows, columns), transposed, to y."""
    source = x.reshape(-1)
    if not source.flags.writeable:
        source = source.copy()
    target, size, count = y.reshape(-1), rows * columns, lanes(x.dtype)

    def work(some: slice) -> None:
        _transpose_some(source, target, some.start, some.stop, rows, columns, count)

    for_ranges(work, len(x), max(1, PIECE // size))


@compiled
def _transpose_some(source, target, first, last, rows, columns, lanes):  # type: ignore[no-untyped-def]
    for image in range(first, last):
        start = image * rows * columns
        _transpose(source, start, rows, columns, columns, target, start, rows, lanes)


@compiled
def _transpose(source, s, rows, columns, s_step, target, t, t_step, lanes):  # type: ignore[no-untyped-def]
    """target[t + t_step * j + i] = source[s + s_step * i + j]: in squares, the last of which overlap those before."""
    if rows >= lanes and columns >= lanes:
        for i in range(0, rows + lanes - 1, lanes):
            i = min(i, rows - lanes)
            for j in range(0, columns + lanes - 1, lanes):
                j = min(j, columns - lanes)
                from_, to = s + s_step * i + j, t + t_step * j + i
                transpose(source, from_, s_step, target, to, t_step)  # type: ignore[call-arg]
    else:
        for i in range(rows):
            for j in range(columns):
                target[t + t_step * j + i] = source[s + s_step * i + j]


class Images:
    """Images (N, C, H, W) as flat memory, and how far apart in it neighbours are: along N, H, W and C."""

    def __init__(self, x: Any) -> None:
        self.shape = x.shape
        _, C, H, W = x.shape
        if is_channels_last(x) or C == 1:
            self.flat, self.strides = in_pixels(x), (H * W * C, W * C, C, 1)
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
        pixels = scratch.take("pixels", 0 if self.strides[3] == 1 else H * W * there, self.flat.dtype)
        numbers = (*self.strides, block.images, H, W, there, top, left, *size, channels[1], lanes(buffer.dtype))
        _lay_out(self.flat, begin, *numbers, pixels, buffer)

    def window(self, block: Any, top: int, left: int, size: Any, channels: Any, purpose: str = "images") -> Any:
        """As `lay_out`, where the window lies already or in this thread's scratch memory.

        Returned are flat memory, where in it the window begins, and how many lines the images are apart.
        """
        (_, C, H, W), (height, width) = self.shape, size
        if self.strides[3] == 1 and channels[1] == C and (left, width) == (0, W) and 0 <= top <= H - height:
            return self.flat, (block.image * H + top) * W * C, H
        buffer = scratch.take(purpose, block.images * height * width * channels[1], self.flat.dtype)
        self.lay_out(block, top, left, size, channels, buffer)
        return buffer, 0, height

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
def _lay_out(x, begin, sn, sh, sw, sc, n, H, W, C, top, left, height, width, channels, lanes, pixels, buffer):  # type: ignore[no-untyped-def]
    near, far = max(0, -left), max(0, min(width, W - left))
    up, down = max(0, -top), max(0, min(height, H - top))
    for image in range(n):
        if sc != 1 and channels == C and (near, far, up, down) == (0, width, 0, height) and width == W:  # all is inside
            _transpose(x, begin + image * sn + top * sh, C, height * W, sc, buffer, image * height * W * C, C, lanes)
            continue
        source, first, step_h, step_w = x, begin + image * sn + (top + up) * sh, sh, sw
        if sc != 1 and down > up:  # channels first: as pixels, before they are cut into rows
            _transpose(x, first, C, (down - up) * W, sc, pixels, 0, C, lanes)
            source, first, step_h, step_w = pixels, 0, W * C, C
        for h in range(height):
            row = buffer[(image * height + h) * width * channels : (image * height + h + 1) * width * channels]
            if h < up or h >= down or far <= near:
                row[:] = 0
                continue
            row[: near * channels] = 0
            row[far * channels :] = 0
            start = first + (h - up) * step_h + (left + near) * step_w
            if step_w == channels:  # pixels side by side
                row[near * channels : far * channels] = source[start : start + (far - near) * channels]
            else:
                for w in range(far - near):
                    pixel = row[(near + w) * channels : (near + w + 1) * channels]
                    pixel[:C] = source[start + w * step_w : start + w * step_w + C]
                    pixel[C:] = 0


@compiled
def _pack(x, begin, sn, sh, sw, sc, n, rows, W, C, buffer, lanes):  # type: ignore[no-untyped-def]
    pixels = rows * W
    first = 0
    while first < C:
        columns = panel_width(first, C, lanes)
        there = min(columns, C - first)
        panel = buffer[n * pixels * first : n * pixels * (first + columns)]
        for image in range(n):
            start, t = begin + image * sn + first * sc, image * pixels * columns
            if sc != 1:  # channels first
                _transpose(x, start, there, pixels, sc, panel, t, columns, lanes)
            else:
                for pixel in range(pixels):
                    s = start + pixel // W * sh + pixel % W * sw
                    panel[t + pixel * columns : t + pixel * columns + there] = x[s : s + there]
        if there < columns:
            for pixel in range(n * pixels):
                panel[pixel * columns + there : (pixel + 1) * columns] = 0
        first += columns
