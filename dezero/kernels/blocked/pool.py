"""Pooling: cell (i, j) of all windows is a strided view of the images, a maximum over windows one over such views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero.kernels import memory, reference
from dezero.kernels.blocked.activation import keep_where
from dezero.kernels.blocked.layout import channels_first, conv_counts, flat, is_ours
from dezero.kernels.reference import Pair


def _padded(x: Any, pad: Pair, value: Any) -> Any:
    """Pad images, in the memory order they have."""
    PH, PW = pad
    if not PH and not PW:
        return x
    N, C, H, W = x.shape
    if x.strides[1] == x.itemsize:  # channels last
        padded = channels_first(memory.empty((N, H + 2 * PH, W + 2 * PW, C), x.dtype))
    else:
        padded = memory.empty((N, C, H + 2 * PH, W + 2 * PW), x.dtype)
    padded.fill(value)
    padded[:, :, PH : PH + H, PW : PW + W] = x
    return padded


def _cells(padded: Any, kernel_size: Pair, stride: Pair, outsize: Pair) -> Iterator[Any]:
    """Yield, for each cell of the kernel in row-major order, what all windows see there: views (N, C, OH, OW)."""
    (KH, KW), (SH, SW), (OH, OW) = kernel_size, stride, outsize
    for i in range(KH):
        for j in range(KW):
            yield padded[:, :, i : i + SH * (OH - 1) + 1 : SH, j : j + SW * (OW - 1) + 1 : SW]


def max_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> tuple[Any, Any]:
    """As `reference.max_pool`: the maximum of what each cell of the kernel sees, and which was the first to have it."""
    outsize = conv_counts(x, kernel_size, stride, pad, (1, 1))
    if not is_ours(x) or kernel_size[0] * kernel_size[1] > 127:  # an index is one byte
        return reference.max_pool(x, kernel_size, stride, pad)
    cells = list(_cells(_padded(x, pad, -np.inf), kernel_size, stride, outsize))
    y = memory.empty_like(cells[0])
    np.maximum(cells[0], cells[-1], out=y)
    for cell in cells[1:-1]:
        np.maximum(y, cell, out=y)
    if np.isnan(y).any() or (any(pad) and np.isneginf(y).any()):  # which equals nothing, or the padding
        return reference.max_pool(x, kernel_size, stride, pad)
    return y, _first_equal(cells, y)


def _first_equal(cells: list[Any], y: Any) -> Any:
    """The number of the first cell that equals y: how many before it do not."""
    not_yet, different, indexes = (memory.empty_like(y, dtype) for dtype in (bool, bool, np.int8))
    not_yet.fill(True)
    indexes.fill(0)
    for cell in cells[:-1]:
        not_yet &= np.not_equal(cell, y, out=different)
        indexes += not_yet.view(np.int8)
    return indexes


def max_pool_gather(x: Any, indexes: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_gather`: from each cell what the indexes give it, added up."""
    if not is_ours(x):
        return reference.max_pool_gather(x, indexes, kernel_size, stride, pad)
    y = np.zeros_like(indexes, dtype=x.dtype)
    for number, cell in enumerate(_cells(_padded(x, pad, 0), kernel_size, stride, indexes.shape[2:])):
        y += keep_where(indexes == number, cell, out=memory.empty_like(y))
    return y


def max_pool_scatter(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.max_pool_scatter`: to each cell what the indexes give it; where windows overlap, to each pixel."""
    if not is_ours(gy):
        return reference.max_pool_scatter(gy, indexes, image_size, kernel_size, stride, pad)
    if flat(gy, indexes) is None:  # the images had the order of the indexes, and so shall have their gradient
        gy, given = memory.empty_like(indexes, gy.dtype), gy
        np.copyto(gy, given)
    if not _are_apart(kernel_size, stride):
        return _add_to_pixels(gy, indexes, image_size, kernel_size, stride, pad)
    images = _images(gy, image_size, pad)
    for number, place in enumerate(_cells(images, kernel_size, stride, gy.shape[2:])):
        keep_where(indexes == number, gy, out=place)
    return _without_padding(images, image_size, pad)


def _add_to_pixels(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """One addition for each element of gy, to the pixel that was the largest of its window, however large that is."""
    (N, C, OH, OW), (H, W), (KH, KW) = gy.shape, image_size, kernel_size
    (SH, SW), (PH, PW) = stride, pad
    gx = _images(gy, image_size, (0, 0))
    _, by_channel, by_row, by_pixel = (n // gx.itemsize for n in gx.strides)
    cells = by_row * np.arange(KH)[:, None] + by_pixel * np.arange(KW)  # where they lie, from a window's first
    windows = by_row * (SH * np.arange(OH)[:, None] - PH) + by_pixel * (SW * np.arange(OW) - PW)
    windows = by_channel * np.arange(C)[:, None, None] + windows
    if by_channel == 1:
        gy, indexes, windows = (np.moveaxis(x, -3, -1) for x in (gy, indexes, windows))
    places = cells.ravel().take(indexes).reshape(N, C * OH * OW)
    places += windows.ravel()
    places += H * W * C * np.arange(N)[:, None]
    pixels = (np.moveaxis(gx, 1, -1) if by_channel == 1 else gx).reshape(-1)
    np.add.at(pixels, places.ravel(), gy.ravel())
    return gx


def average_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """As `reference.average_pool`: the sum of what each cell of the kernel sees."""
    if not is_ours(x):
        return reference.average_pool(x, kernel_size, stride, pad)
    outsize = conv_counts(x, kernel_size, stride, pad, (1, 1))
    cells = _cells(_padded(x, pad, 0), kernel_size, stride, outsize)
    first = next(cells)
    y = memory.empty_like(first)
    np.copyto(y, first)
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
    images = _images(gy, image_size, pad)
    apart = _are_apart(kernel_size, stride)
    for place, cell in zip(_cells(images, kernel_size, stride, gy.shape[2:]), cells, strict=True):
        if apart:  # no pixel is written twice
            place[...] = cell
        else:
            place += cell
    return _without_padding(images, image_size, pad)


def _are_apart(kernel_size: Pair, stride: Pair) -> bool:
    """Say whether no two windows overlap."""
    return all(s >= k for s, k in zip(stride, kernel_size, strict=True))


def _images(gy: Any, image_size: Pair, pad: Pair) -> Any:
    """Return padded images of zeros, (N, C, H + 2 PH, W + 2 PW), in the memory order of gy."""
    (N, C), (H, W), (PH, PW) = gy.shape[:2], image_size, pad
    if gy.strides[1] == gy.itemsize and not gy.flags.c_contiguous:
        return channels_first(memory.zeros((N, H + 2 * PH, W + 2 * PW, C), gy.dtype))
    return memory.zeros((N, C, H + 2 * PH, W + 2 * PW), gy.dtype)


def _without_padding(images: Any, image_size: Pair, pad: Pair) -> Any:
    (H, W), (PH, PW) = image_size, pad
    # Without padding the array itself, not a view of it: a gradient that owns its memory need not be copied.
    return images[:, :, PH : PH + H, PW : PW + W] if PH or PW else images
