"""Normalisation: few passes over the large arrays, in long runs.

**Channels as rows.** An array (N, C, ...) is looked at as a matrix of long rows, each with all the channels: an image a
row in the order (C, ...) or (..., C), whichever it has in memory. What belongs to a channel, repeated along a row, then
meets the matrix in long runs. Sums along rows are einsum's, four times as fast as NumPy's sum. They could be products
with ones, but those take two threads, which wait for each other where another program wants a core.

**Variance in one pass.** sum((x - a)^2) / M - (mean - a)^2 is the variance for any a, and precise for an a near the
mean: the first row's mean. Where a turns out to lie far from the mean, the pass is repeated with the mean found.
Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero.kernels import memory, reference
from dezero.kernels.blocked.layout import is_wide

BUFFER = 2**22  # bytes of a block of rows, of which two or three are worked on at a time
ROWS = 2**18  # bytes of rows that `normalise` works on at a time
LONG = 2**13  # elements: a run long enough that what NumPy does between two runs does not count
LARGE = 2**11  # pixels: so many in a channel are a run that is long enough
FAR = 16.0  # variances: how far from the mean a guess may lie before too many digits are lost


class _Rows:
    """How (N, C, ...) lies in memory, as a matrix of rows that hold all channels: (C, pixels) or (pixels, C)."""

    def __init__(self, x: Any) -> None:
        self.shape = N, C, *rest = x.shape
        self.pixels_of_image = pixels = x.size // (N * C)
        self.last = pixels == 1 or (not x.flags.c_contiguous and np.moveaxis(x, 1, -1).flags.c_contiguous)
        if pixels == 1:  # a row is some of the batch, and else some lines of an image
            pixels = math.gcd(N, 2 ** (LONG // C).bit_length())
        elif self.last:
            lines, W = pixels // rest[-1], rest[-1]
            pixels = W * next(n for n in range(1, lines + 1) if lines % n == 0 and (n * W * C >= LONG or n == lines))
        self.C, self.pixels = C, pixels
        self.apart = not self.last and pixels >= LARGE  # a row is a matrix, its channels need not be repeated

    def matrix(self, x: Any) -> Any:
        """Return x, of the shape given at first, as a matrix; a copy only where x lies in another order."""
        if self.last:
            x = np.moveaxis(x, 1, -1)
        return np.ascontiguousarray(x).reshape(-1, *((self.C, self.pixels) if self.apart else (self.C * self.pixels,)))

    def empty(self, dtype: Any) -> Any:
        """Return an array of the shape and order that x had."""
        if self.last and self.pixels_of_image > 1:
            N, C, *rest = self.shape
            return np.moveaxis(memory.empty((N, *rest, C), dtype), -1, 1)
        return memory.empty(self.shape, dtype)

    def blocks(self, matrix: Any) -> Iterator[slice]:
        """Yield slices of so many rows that they fit into the buffer."""
        step = max(1, BUFFER // matrix[0].nbytes)
        for start in range(0, len(matrix), step):
            yield slice(start, start + step)

    def spread(self, channels: Any, dtype: Any) -> Any:
        """(C,) -> a row."""
        channels = channels.astype(dtype)
        if self.apart:
            return channels[:, None]
        return np.tile(channels, self.pixels) if self.last else np.repeat(channels, self.pixels)

    def sum(self, part: Any) -> Any:
        """Some rows -> the sum over each channel (C,), in float64 from row to row."""
        if self.last:
            return self._gather(part.sum(axis=0))
        return np.einsum("ij->i", part.reshape(-1, self.pixels)).reshape(-1, self.C).sum(axis=0, dtype=np.float64)

    def dot(self, part: Any, other: Any) -> Any:
        """`sum` of part * other."""
        if self.last:
            return self._gather(np.einsum("ij,ij->j", part, other))
        part, other = part.reshape(-1, self.pixels), other.reshape(-1, self.pixels)
        return np.einsum("ij,ij->i", part, other).reshape(-1, self.C).sum(axis=0, dtype=np.float64)

    def _gather(self, row: Any) -> Any:
        return row.reshape(self.pixels, self.C).sum(axis=0, dtype=np.float64)


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm`: one pass for mean and variance, another for y."""
    if not is_wide(x, gamma, beta):
        return reference.batch_norm(x, gamma, beta, eps)
    rows = _Rows(x)
    matrix, y = rows.matrix(x), rows.empty(x.dtype)
    out = rows.matrix(y)
    guess = rows.sum(matrix[:1]) / rows.pixels
    for _ in range(3):  # the second guess is near the mean; another helps where even the mean's digits were lost
        guess = guess.astype(x.dtype)
        off, var = _centre(rows, matrix, guess, out)
        if not (off * off > FAR * var).any():
            break
        guess = guess + off
    if not np.isfinite(var).all():
        return reference.batch_norm(x, gamma, beta, eps)
    scale = gamma / np.sqrt(var + eps)
    scale_row, shift_row = rows.spread(scale, x.dtype), rows.spread(beta - off * scale, x.dtype)
    for block in rows.blocks(out):
        out[block] *= scale_row
        out[block] += shift_row
    return y, (guess + off).astype(x.dtype), var.astype(x.dtype)


def _centre(rows: _Rows, matrix: Any, guess: Any, out: Any) -> tuple[Any, Any]:
    """out = x - guess; return how far the mean lies from the guess, and the variance."""
    guess_row, total, squares = rows.spread(guess, matrix.dtype), np.zeros(rows.C), np.zeros(rows.C)
    for block in rows.blocks(matrix):
        centred = np.subtract(matrix[block], guess_row, out=out[block])
        total += rows.sum(centred)
        squares += rows.dot(centred, centred)
    count = matrix.size // rows.C
    off = total / count
    return off, np.maximum(squares / count - off * off, 0)


def batch_norm_grad(x: Any, gy: Any, gamma: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm_grad`: one pass for the sums, another for gx."""
    if not is_wide(x, gy, gamma, mean, var):
        return reference.batch_norm_grad(x, gy, gamma, mean, var, eps)
    rows = _Rows(x)
    matrix, gys, gx = rows.matrix(x), rows.matrix(gy), rows.empty(x.dtype)
    out, count = rows.matrix(gx), x.size // rows.C
    inverse = 1 / np.sqrt(var.astype(np.float64) + eps)
    mean_row, gbeta, products = rows.spread(mean, x.dtype), np.zeros(rows.C), np.zeros(rows.C)
    for block in rows.blocks(matrix):
        centred = np.subtract(matrix[block], mean_row, out=out[block])
        gbeta += rows.sum(gys[block])
        products += rows.dot(centred, gys[block])
    ggamma = products * inverse
    slope_row = rows.spread(-ggamma * inverse / count, x.dtype)
    shift_row = rows.spread(gbeta / count, x.dtype)
    scale_row = rows.spread(gamma * inverse, x.dtype)
    for block in rows.blocks(out):
        part = out[block]  # x - mean
        part *= slope_row
        part += gys[block]
        part -= shift_row
        part *= scale_row
    return gx, ggamma.astype(x.dtype), gbeta.astype(x.dtype)


def scale_and_shift(x: Any, scale: Any, shift: Any) -> Any:
    """As `reference.scale_and_shift`, in one array."""
    if not is_wide(x, scale, shift):
        return reference.scale_and_shift(x, scale, shift)
    rows = _Rows(x)
    matrix, y = rows.matrix(x), rows.empty(x.dtype)
    out, scale_row, shift_row = rows.matrix(y), rows.spread(scale, x.dtype), rows.spread(shift, x.dtype)
    for block in rows.blocks(matrix):
        np.multiply(matrix[block], scale_row, out=out[block])
        out[block] += shift_row
    return y


def channel_sum(gy: Any) -> Any:
    """As `reference.channel_sum`, in float64 from block to block."""
    if not is_wide(gy):
        return reference.channel_sum(gy)
    rows = _Rows(gy)
    matrix, total = rows.matrix(gy), np.zeros(rows.C)
    for block in rows.blocks(matrix):
        total += rows.sum(matrix[block])
    return total.astype(gy.dtype)


def normalise(x: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.normalise`, some rows at a time."""
    if not is_wide(x):
        return reference.normalise(x, eps)
    x = np.ascontiguousarray(x)
    M, D = x.shape
    y, mean, std = memory.empty_like(x), np.empty(M, x.dtype), np.empty(M, x.dtype)
    step = max(1, ROWS // (D * x.itemsize))
    for start in range(0, M, step):
        block = slice(start, start + step)
        part, guess = y[block], np.einsum("ij->i", x[block]) / D
        np.subtract(x[block], guess[:, None], out=part)
        off = np.einsum("ij->i", part) / D  # how far the guess was rounded from the mean
        part -= off[:, None]
        mean[block] = guess + off
        std[block] = np.sqrt(np.einsum("ij,ij->i", part, part) / D + eps)
        part /= std[block, None]
    return (y, mean, std) if np.isfinite(std).all() else reference.normalise(x, eps)


def normalise_grad(y: Any, std: Any, gy: Any) -> Any:
    """As `reference.normalise_grad`, some rows at a time, in one array."""
    if not is_wide(y, std, gy):
        return reference.normalise_grad(y, std, gy)
    y, gy = np.ascontiguousarray(y), np.ascontiguousarray(gy)
    M, D = y.shape
    gx = memory.empty_like(y)
    step = max(1, ROWS // (D * y.itemsize))
    for start in range(0, M, step):
        block = slice(start, start + step)
        inner = np.einsum("ij,ij->i", gy[block], y[block]) / D
        part = np.multiply(y[block], inner[:, None], out=gx[block])
        np.subtract(gy[block], part, out=part)
        part -= (np.einsum("ij->i", gy[block]) / D)[:, None]
        part /= std[block, None]
    return gx
