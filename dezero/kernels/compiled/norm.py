"""Normalisation and sums over a batch, in as few passes over memory as there can be.

Images come in two orders, and each kernel has a loop for both. Channels last, a row of memory holds all channels of a
pixel, and the loop over channels is the inner one; channels first, a row holds one channel of an image.

Sums are taken of 256 numbers at most in the arrays' own precision, and of those sums in float64. A variance is the mean
square of what remains after an estimate of the mean has been taken off: squares of large means would swallow the digits
that matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import blocked, memory
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import empty_like, flattened, is_channels_last, is_ours
from dezero.kernels.threads import for_each, for_ranges

CHUNK = 256  # numbers summed before they are added to a sum in float64
PARTS = 16  # sums made side by side; how many does not depend on the threads
ROW = 2**14  # numbers that a thread works on at a time at least


class _Rows:
    """Images (N, C, ...) as a matrix of rows in the order of memory, and how work on it is cut."""

    def __init__(self, x: Any) -> None:
        self.C = x.shape[1]
        self.last = x.ndim == 2 or is_channels_last(x)  # (pixels, C), else (N * C, pixels of an image)
        self.length = self.C if self.last else x.size // (len(x) * self.C)
        self.rows = x.size // self.length
        self.parts = max(1, min(PARTS, self.rows, x.size // ROW))

    def sums(self, kernel: Any, *arguments: Any) -> tuple[Any, Any]:
        """The two sums of each channel, float64: `kernel` adds some rows to its own, and all are added in order."""
        totals = np.zeros((self.parts, 2, self.C))
        bounds = [part * self.rows // self.parts for part in range(self.parts + 1)]

        def work(part: int) -> None:
            kernel(*arguments, self.last, self.length, bounds[part], bounds[part + 1], totals[part])

        for_each(work, self.parts)
        first, second = totals.sum(axis=0)
        return first, second

    def each(self, kernel: Any, *arguments: Any) -> None:
        """Run `kernel` on all rows."""
        rows = max(1, ROW * 4 // self.length)
        for_ranges(lambda some: kernel(*arguments, self.last, self.length, some.start, some.stop), self.rows, rows)


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm`: a pass for the sums, and one for y."""
    if not is_ours(x, gamma, beta):
        return blocked.batch_norm(x, gamma, beta, eps)
    rows, (flat,), dtype = _Rows(x), flattened(x), x.dtype
    pivot = _guess_mean(x)
    count = x.size // rows.C
    first, second = rows.sums(_sums, flat, pivot)
    shift = first / count
    mean, var = pivot + shift, np.maximum(second / count - shift * shift, 0)
    scale = gamma / np.sqrt(var + eps)
    y = empty_like(x)
    # (x - pivot) is exact where numbers lie close together; the rest is small
    rows.each(_scale, flat, flattened(y)[0], pivot, scale.astype(dtype), (beta - shift * scale).astype(dtype))
    return y, mean.astype(dtype), var.astype(dtype)


def _guess_mean(x: Any) -> Any:
    """About the mean of each channel: that of some pixels, of which one alone may be unlike the others."""
    some = x[:: -(-len(x) // 64)]
    if x.ndim > 2:
        some = some.reshape(*some.shape[:2], -1)[:, :, :: -(-(x[0, 0].size) // 4)].mean(axis=2)
    guess = some.mean(axis=0)
    return np.where(np.isfinite(guess), guess, x.dtype.type(0))


def batch_norm_grad(x: Any, gy: Any, gamma: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm_grad`: a pass for the sums, and one for gx."""
    if not is_ours(x, gy, gamma, mean, var):
        return blocked.batch_norm_grad(x, gy, gamma, mean, var, eps)
    rows, (flat, flat_gy), dtype = _Rows(x), flattened(x, gy), x.dtype
    count = x.size // rows.C
    gbeta, inner = rows.sums(_sums_of_products, flat, flat_gy, np.ascontiguousarray(mean))
    std = np.sqrt(var.astype(np.float64) + eps)
    ggamma = inner / std
    # gx = gamma / std * (gy - gbeta / count - (x - mean) * ggamma / std / count)
    scale = gamma / std
    slope, shift = -scale * ggamma / std / count, -scale * gbeta / count
    gx = empty_like(x)
    factors = (np.asarray(a, dtype) for a in (scale, slope, shift))
    rows.each(_scale_two, flat, flat_gy, flattened(gx)[0], np.ascontiguousarray(mean), *factors)
    return gx, ggamma.astype(dtype), gbeta.astype(dtype)


def scale_and_shift(x: Any, scale: Any, shift: Any) -> Any:
    """As `reference.scale_and_shift`."""
    if not is_ours(x, scale, shift):
        return blocked.scale_and_shift(x, scale, shift)
    y = empty_like(x)
    (flat, flat_y), (scale, shift) = flattened(x, y), (np.array(scale), np.array(shift))
    _Rows(x).each(_scale, flat, flat_y, np.zeros_like(scale), scale, shift)
    return y


def channel_sum(gy: Any) -> Any:
    """As `reference.channel_sum`."""
    if not is_ours(gy):
        return blocked.channel_sum(gy)
    rows, (flat,) = _Rows(gy), flattened(gy)
    return rows.sums(_plain_sums, flat)[0].astype(gy.dtype)


@compiled
def _plain_sums(x, last, length, begin, end, totals):  # type: ignore[no-untyped-def]
    if last:
        some = np.zeros(length, x.dtype)
        for first in range(begin, end, CHUNK):
            some[:] = 0
            for row in range(first, min(end, first + CHUNK)):
                line = x[row * length : (row + 1) * length]
                for c in range(length):
                    some[c] += line[c]
            for c in range(length):
                totals[0, c] += some[c]
    else:
        C = totals.shape[1]
        for row in range(begin, end):
            for first in range(row * length, (row + 1) * length, CHUNK):
                line = x[first : min(first + CHUNK, (row + 1) * length)]
                total = x.dtype.type(0)
                for i in range(len(line)):
                    total += line[i]
                totals[0, row % C] += total


@compiled
def _sums(x, pivot, last, length, begin, end, totals):  # type: ignore[no-untyped-def]
    """The sums of x - pivot and of its square."""
    if last:
        some, squares = np.zeros(length, x.dtype), np.zeros(length, x.dtype)
        for first in range(begin, end, CHUNK):
            some[:] = 0
            squares[:] = 0
            for row in range(first, min(end, first + CHUNK)):
                line = x[row * length : (row + 1) * length]
                for c in range(length):
                    d = line[c] - pivot[c]
                    some[c] += d
                    squares[c] += d * d
            for c in range(length):
                totals[0, c] += some[c]
                totals[1, c] += squares[c]
    else:
        C = len(pivot)
        for row in range(begin, end):
            p = pivot[row % C]
            for first in range(row * length, (row + 1) * length, CHUNK):
                line = x[first : min(first + CHUNK, (row + 1) * length)]
                total, square = x.dtype.type(0), x.dtype.type(0)
                for i in range(len(line)):
                    d = line[i] - p
                    total += d
                    square += d * d
                totals[0, row % C] += total
                totals[1, row % C] += square


@compiled
def _sums_of_products(x, gy, mean, last, length, begin, end, totals):  # type: ignore[no-untyped-def]
    """The sums of gy and of gy * (x - mean)."""
    if last:
        some, products = np.zeros(length, x.dtype), np.zeros(length, x.dtype)
        for first in range(begin, end, CHUNK):
            some[:] = 0
            products[:] = 0
            for row in range(first, min(end, first + CHUNK)):
                line, line_gy = x[row * length : (row + 1) * length], gy[row * length : (row + 1) * length]
                for c in range(length):
                    g = line_gy[c]
                    some[c] += g
                    products[c] += g * (line[c] - mean[c])
            for c in range(length):
                totals[0, c] += some[c]
                totals[1, c] += products[c]
    else:
        C = len(mean)
        for row in range(begin, end):
            m = mean[row % C]
            for first in range(row * length, (row + 1) * length, CHUNK):
                last_one = min(first + CHUNK, (row + 1) * length)
                line, line_gy = x[first:last_one], gy[first:last_one]
                total, product = x.dtype.type(0), x.dtype.type(0)
                for i in range(len(line)):
                    total += line_gy[i]
                    product += line_gy[i] * (line[i] - m)
                totals[0, row % C] += total
                totals[1, row % C] += product


@compiled
def _scale(x, y, pivot, scale, shift, last, length, begin, end):  # type: ignore[no-untyped-def]
    """y = (x - pivot) * scale + shift."""
    C = len(scale)
    for row in range(begin, end):
        line, line_y = x[row * length : (row + 1) * length], y[row * length : (row + 1) * length]
        if last:
            for c in range(length):
                line_y[c] = (line[c] - pivot[c]) * scale[c] + shift[c]
        else:
            p, a, b = pivot[row % C], scale[row % C], shift[row % C]
            for i in range(length):
                line_y[i] = (line[i] - p) * a + b


@compiled
def _scale_two(x, gy, gx, mean, scale, slope, shift, last, length, begin, end):  # type: ignore[no-untyped-def]
    """gx = gy * scale + (x - mean) * slope + shift."""
    C = len(scale)
    for row in range(begin, end):
        begin_row, end_row = row * length, (row + 1) * length
        line, line_gy, line_gx = x[begin_row:end_row], gy[begin_row:end_row], gx[begin_row:end_row]
        if last:
            for c in range(length):
                line_gx[c] = line_gy[c] * scale[c] + ((line[c] - mean[c]) * slope[c] + shift[c])
        else:
            m, a, b, d = mean[row % C], scale[row % C], slope[row % C], shift[row % C]
            for i in range(length):
                line_gx[i] = line_gy[i] * a + ((line[i] - m) * b + d)


# ----------------------------------------------------------------------------------------------------------------------
# Row by row
# ----------------------------------------------------------------------------------------------------------------------


def normalise(x: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.normalise`."""
    if not is_ours(x):
        return blocked.normalise(x, eps)
    (M, D), (flat,) = x.shape, flattened(x)
    y, mean, std = memory.empty((M, D), x.dtype), np.empty(M, x.dtype), np.empty(M, x.dtype)
    flat_y = y.reshape(-1)
    for_ranges(lambda some: _normalise(flat, flat_y, mean, std, eps, D, some.start, some.stop), M, max(1, ROW // D))
    return y, mean, std


@compiled
def _normalise(x, y, mean, std, eps, D, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        line, line_y = x[row * D : (row + 1) * D], y[row * D : (row + 1) * D]
        total = 0.0
        for first in range(0, D, CHUNK):
            chunk = line[first : first + CHUNK]
            some = x.dtype.type(0)
            for i in range(len(chunk)):
                some += chunk[i]
            total += some
        m = x.dtype.type(total / D)
        total = rest = 0.0
        for first in range(0, D, CHUNK):
            chunk = line[first : first + CHUNK]
            some, left = x.dtype.type(0), x.dtype.type(0)
            for i in range(len(chunk)):
                d = chunk[i] - m
                left += d
                some += d * d
            total += some
            rest += left
        rest /= D  # by which the mean was rounded
        s = x.dtype.type(np.sqrt(max(total / D - rest * rest, 0.0) + eps))
        small = x.dtype.type(rest)
        for i in range(D):
            line_y[i] = (line[i] - m - small) / s
        mean[row] = m
        std[row] = s


def normalise_grad(y: Any, std: Any, gy: Any) -> Any:
    """As `reference.normalise_grad`."""
    if not is_ours(y, std, gy):
        return blocked.normalise_grad(y, std, gy)
    (M, D), (flat, flat_gy) = y.shape, flattened(y, gy)
    gx, std = memory.empty((M, D), y.dtype), np.ascontiguousarray(std)
    flat_gx = gx.reshape(-1)
    for_ranges(lambda some: _normalise_grad(flat, flat_gy, flat_gx, std, D, some.start, some.stop), M, max(1, ROW // D))
    return gx


@compiled
def _normalise_grad(y, gy, gx, std, D, begin, end):  # type: ignore[no-untyped-def]
    for row in range(begin, end):
        line, line_gy, line_gx = y[row * D : (row + 1) * D], gy[row * D : (row + 1) * D], gx[row * D : (row + 1) * D]
        total = inner = 0.0
        for first in range(0, D, CHUNK):
            chunk, chunk_gy = line[first : first + CHUNK], line_gy[first : first + CHUNK]
            some, product = y.dtype.type(0), y.dtype.type(0)
            for i in range(len(chunk)):
                some += chunk_gy[i]
                product += chunk_gy[i] * chunk[i]
            total += some
            inner += product
        a, b, s = y.dtype.type(total / D), y.dtype.type(inner / D), std[row]
        for i in range(D):
            line_gx[i] = (line_gy[i] - a - line[i] * b) / s
