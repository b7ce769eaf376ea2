"""Normalisation, and sums over channels.

A channel of x (N, C, P), with P pixels an image, is N * P elements. It is cut into pieces of up to PIECE, for each a
block: so that few channels of many elements keep as many blocks busy as many of few, and a thread adds up so few
numbers that float32 loses no digits. Sums run through several launches: each block leaves the sum of its piece in
`parts`, and each block of the next launch adds up those of its channel, all in the same order. Rows that are
normalised, (M, D), are the channels of one image with D pixels.

Images with channels last in memory are (N * H * W, C), images of one pixel, as all of shape (N, C) are. Neighbours are
of different channels there: so a block has up to WIDTH channels side by side, and that much smaller pieces of each.

Mean and variance take two passes over x, sum(x) / M and sum((x - mean)^2) / M, and the second also finds how far the
mean was rounded, `off` = sum(x - mean) / M. Source: Chan, Golub and LeVeque, "Algorithms for computing the sample
variance", 1983.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any, NamedTuple

from dezero.kernels.gpu import channels
from dezero.kernels.gpu.launch import (
    BLOCK_SUM,
    FLOATING,
    Source,
    contiguous,
    for_each,
    in_blocks,
    sums_dtype,
    threads_for,
)

PIECE = 8192  # elements of a channel that a block adds up
PIECES = 256  # of a channel at most; pieces grow beyond
WIDTH = 32  # channels that a block has side by side at most, where an image is one pixel

# What kernels that sum have in common. Block c * S + s works on a piece of channel c, every thread on some elements of
# it; or, with a width above 1, on the pieces of that many channels, every thread on some elements of one.
_PIECES = (
    BLOCK_SUM
    + r"""
struct Piece {
    I c, s, start, end, step;  // this thread's: from `start` on every step-th element before `end`
    bool writes;               // for its channel and piece it is the one that does
};

__device__ Piece piece(I C, I M, I S, I width)
{
    const I column = (I)threadIdx.x % width, row = (I)threadIdx.x / width, step = (I)blockDim.x / width;
    const I c = (I)blockIdx.x / S * width + column, s = (I)blockIdx.x % S, length = (M + S - 1) / S;
    const I end = (s + 1) * length < M ? (s + 1) * length : M;
    if (c >= C) return Piece{C - 1, s, 0, 0, step, false};  // nothing to do but to wait with the others
    return Piece{c, s, s * length + row, end, step, row == 0};
}

// Where element m of channel c stands.
__device__ I place(I m, I c, I C, I P)
{
    return P == 1 ? m * C + c : (m / P * C + c) * P + m % P;
}

// The sum of what the S pieces of the thread's channel have left, in parts (S, C).
__device__ A total(const A* parts, Piece p, I C, I S, I width)
{
    A sum = 0;
    for (I s = (I)threadIdx.x / width; s < S; s += p.step) sum += parts[s * C + p.c];
    return block_sum(sum, width);
}
"""
)

_SUMS = Source(
    _PIECES
    + r"""
extern "C" __global__ void sums(const T* x, A* parts, I C, I P, I M, I S, I width)
{
    const Piece p = piece(C, M, S, width);
    A sum = 0;
    for (I m = p.start; m < p.end; m += p.step) sum += (A)x[place(m, p.c, C, P)];
    sum = block_sum(sum, width);
    if (p.writes) parts[p.s * C + p.c] = sum;
}

// The sums of the pieces -> the sums of the channels, `width` of them a block.
extern "C" __global__ void sums_of_sums(const A* parts, T* y, I C, I S, I width)
{
    const Piece p = piece(C, 0, 1, width);
    const A sum = total(parts, p, C, S, width);
    if (p.writes) y[p.c] = (T)sum;
}
""",
    FLOATING,
)

# parts (3, S, C): the sums of x, of x - mean, and of (x - mean)^2.
_FORWARD = Source(
    _PIECES
    + r"""
extern "C" __global__ void squares(const T* x, A* parts, I C, I P, I M, I S, I width)
{
    const Piece p = piece(C, M, S, width);
    const A mean = total(parts, p, C, S, width) / (A)M;
    A sum = 0, square = 0;
    for (I m = p.start; m < p.end; m += p.step) {
        const A d = (A)x[place(m, p.c, C, P)] - mean;
        sum += d;
        square += d * d;
    }
    sum = block_sum(sum, width);
    square = block_sum(square, width);
    if (p.writes) {
        parts[(S + p.s) * C + p.c] = sum;
        parts[(2 * S + p.s) * C + p.c] = square;
    }
}

struct Moments {
    A mean, off, var;  // the mean is mean + off, which can have more digits than an A
};

__device__ Moments moments(const A* parts, Piece p, I C, I M, I S, I width)
{
    const A mean = total(parts, p, C, S, width) / (A)M;
    A off = total(parts + C * S, p, C, S, width) / (A)M;
    A var = total(parts + 2 * C * S, p, C, S, width) / (A)M;
    if (!(off - off == 0)) off = 0;  // x has an infinity, and the mean is one, or NaN
    var -= off * off;
    return Moments{mean, off, var < 0 ? (A)0 : var};
}

extern "C" __global__ void batch_norm(const T* x, const A* parts, const T* gamma, const T* beta, T* y, T* mean, T* var,
                                      I C, I P, I M, I S, I width, A eps)
{
    const Piece p = piece(C, M, S, width);
    const Moments of = moments(parts, p, C, M, S, width);
    const A scale = (A)gamma[p.c] / sqrt(of.var + eps), shift = (A)beta[p.c];
    for (I m = p.start; m < p.end; m += p.step) {
        const I k = place(m, p.c, C, P);
        y[k] = (T)(((A)x[k] - of.mean - of.off) * scale + shift);
    }
    if (p.s == 0 && p.writes) {
        mean[p.c] = (T)(of.mean + of.off);
        var[p.c] = (T)of.var;
    }
}

extern "C" __global__ void normalise(const T* x, const A* parts, T* y, T* mean, T* std, I C, I P, I M, I S,
                                     I width, A eps)
{
    const Piece p = piece(C, M, S, width);
    const Moments of = moments(parts, p, C, M, S, width);
    const A deviation = sqrt(of.var + eps);
    for (I m = p.start; m < p.end; m += p.step) {
        const I k = place(m, p.c, C, P);
        y[k] = (T)(((A)x[k] - of.mean - of.off) / deviation);
    }
    if (p.s == 0 && p.writes) {
        mean[p.c] = (T)(of.mean + of.off);
        std[p.c] = (T)deviation;
    }
}
""",
    FLOATING,
)

# parts (2, S, C): the sums of gy, and of gy * n with n = (x - mean) * inverse, where `inverse` is 1 / std. The
# gradient of `normalise` has n already, in place of x: its mean is 0, and its inverse 1.
_BACKWARD = Source(
    _PIECES
    + r"""
__device__ void sum_products(const T* x, const T* gy, A* parts, A mean, A inverse, Piece p, I C, I P, I S, I width)
{
    A sum = 0, product = 0;
    for (I m = p.start; m < p.end; m += p.step) {
        const I k = place(m, p.c, C, P);
        const A g = (A)gy[k];
        sum += g;
        product += g * (((A)x[k] - mean) * inverse);
    }
    sum = block_sum(sum, width);
    product = block_sum(product, width);
    if (p.writes) {
        parts[p.s * C + p.c] = sum;
        parts[(S + p.s) * C + p.c] = product;
    }
}

__device__ void centre(const T* x, const T* gy, T* gx, A sum, A product, A mean, A inverse, A scale, Piece p, I C, I P,
                       I M)
{
    sum /= (A)M;
    product /= (A)M;
    for (I m = p.start; m < p.end; m += p.step) {
        const I k = place(m, p.c, C, P);
        gx[k] = (T)(((A)gy[k] - sum - ((A)x[k] - mean) * inverse * product) * scale);
    }
}

extern "C" __global__ void batch_products(const T* x, const T* gy, const T* mean, const T* var, A* parts, I C, I P, I M,
                                          I S, I width, A eps)
{
    const Piece p = piece(C, M, S, width);
    sum_products(x, gy, parts, (A)mean[p.c], 1 / sqrt((A)var[p.c] + eps), p, C, P, S, width);
}

extern "C" __global__ void batch_norm_grad(const T* x, const T* gy, const T* gamma, const T* mean, const T* var,
                                           const A* parts, T* gx, T* ggamma, T* gbeta, I C, I P, I M, I S, I width,
                                           A eps)
{
    const Piece p = piece(C, M, S, width);
    const A sum = total(parts, p, C, S, width), product = total(parts + C * S, p, C, S, width);
    const A inverse = 1 / sqrt((A)var[p.c] + eps);
    centre(x, gy, gx, sum, product, (A)mean[p.c], inverse, (A)gamma[p.c] * inverse, p, C, P, M);
    if (p.s == 0 && p.writes) {
        ggamma[p.c] = (T)product;
        gbeta[p.c] = (T)sum;
    }
}

extern "C" __global__ void row_products(const T* y, const T* gy, A* parts, I C, I P, I M, I S, I width)
{
    sum_products(y, gy, parts, 0, 1, piece(C, M, S, width), C, P, S, width);
}

extern "C" __global__ void normalise_grad(const T* y, const T* std, const T* gy, const A* parts, T* gx, I C, I P, I M,
                                          I S, I width)
{
    const Piece p = piece(C, M, S, width);
    const A sum = total(parts, p, C, S, width), product = total(parts + C * S, p, C, S, width);
    centre(y, gy, gx, sum, product, 0, 1, 1 / (A)std[p.c], p, C, P, M);
}
""",
    FLOATING,
)

_SCALE = Source(
    r"""
extern "C" __global__ void scale_and_shift(const T* x, const T* scale, const T* shift, T* y, I count, I C, I P)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I c = k / P % C;
    y[k] = (T)((A)x[k] * (A)scale[c] + (A)shift[c]);
}
""",
    FLOATING,
)


class _Cut(NamedTuple):
    """How an array is cut: so many blocks of so many threads, and the sizes C, P, M, S, width that kernels take."""

    blocks: int
    threads: int
    sizes: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _cut(shape: tuple[int, ...], last: bool, most: tuple[int, int, int]) -> _Cut:
    """Cut (N, C, ...), with channels last in memory or not; `most` is PIECE, PIECES and WIDTH."""
    N, C, P = shape[0], shape[1], math.prod(shape[2:])
    M = N * P
    P = 1 if last else P
    width = min(1 << max(0, C - 1).bit_length(), most[2]) if P == 1 else 1
    S = min(max(1, -(-M // max(1, most[0] // width))), most[1])
    return _Cut(-(-C // width) * S, threads_for(-(-M // S) * width), (C, P, M, S, width))


def _cut_channels(x: Any, last: bool) -> _Cut:
    return _cut(x.shape, last, (PIECE, PIECES, WIDTH))


def _cut_rows(x: Any) -> _Cut:
    return _cut((1, *x.shape), False, (PIECE, PIECES, WIDTH))


def _parts(kinds: int, cut: _Cut, dtype: Any) -> Any:
    C, _, _, S, _ = cut.sizes
    return sys.modules["cupy"].empty((kinds, S, C), sums_dtype(dtype))


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm`: y as x, mean (C,), var (C,)."""
    xp, T = sys.modules["cupy"], x.dtype
    last = channels.lie_last(x)
    x, cut = channels.in_order(x, last), _cut_channels(x, last)
    y, mean, var = channels.empty(x.shape, T, last), xp.empty(x.shape[1], T), xp.empty(x.shape[1], T)
    arrays = contiguous(gamma, T), contiguous(beta, T), y, mean, var
    in_blocks(_FORWARD, "batch_norm", *cut[:2], (x, _squares(x, cut), *arrays), cut.sizes, (eps,), T=T)
    return y, mean, var


def normalise(x: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.normalise`: y (M, D), mean (M,), std (M,)."""
    xp, T = sys.modules["cupy"], x.dtype
    x, cut = contiguous(x), _cut_rows(x)
    y, mean, std = xp.empty(x.shape, T), xp.empty(len(x), T), xp.empty(len(x), T)
    in_blocks(_FORWARD, "normalise", *cut[:2], (x, _squares(x, cut), y, mean, std), cut.sizes, (eps,), T=T)
    return y, mean, std


def _squares(x: Any, cut: _Cut) -> Any:
    """All the parts that mean and variance are made of."""
    parts = _parts(3, cut, x.dtype)
    in_blocks(_SUMS, "sums", *cut[:2], (x, parts), cut.sizes, T=x.dtype)
    in_blocks(_FORWARD, "squares", *cut[:2], (x, parts), cut.sizes, T=x.dtype)
    return parts


def batch_norm_grad(x: Any, gy: Any, gamma: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm_grad`: gx as x, ggamma (C,), gbeta (C,)."""
    xp, T = sys.modules["cupy"], x.dtype
    last = channels.lie_last(x)
    cut = _cut_channels(x, last)
    x, gy = channels.in_order(x, last), channels.in_order(gy, last, T)
    gamma, mean, var = (contiguous(array, T) for array in (gamma, mean, var))
    parts = _parts(2, cut, T)
    in_blocks(_BACKWARD, "batch_products", *cut[:2], (x, gy, mean, var, parts), cut.sizes, (eps,), T=T)
    gx, ggamma, gbeta = channels.empty(x.shape, T, last), xp.empty(gamma.shape, T), xp.empty(gamma.shape, T)
    arrays = x, gy, gamma, mean, var, parts, gx, ggamma, gbeta
    in_blocks(_BACKWARD, "batch_norm_grad", *cut[:2], arrays, cut.sizes, (eps,), T=T)
    return gx, ggamma, gbeta


def normalise_grad(y: Any, std: Any, gy: Any) -> Any:
    """As `reference.normalise_grad`: gx (M, D)."""
    T, cut = y.dtype, _cut_rows(y)
    y, std, gy = contiguous(y), contiguous(std, T), contiguous(gy, T)
    parts = _parts(2, cut, T)
    in_blocks(_BACKWARD, "row_products", *cut[:2], (y, gy, parts), cut.sizes, T=T)
    gx = sys.modules["cupy"].empty(y.shape, T)
    in_blocks(_BACKWARD, "normalise_grad", *cut[:2], (y, std, gy, parts, gx), cut.sizes, T=T)
    return gx


def channel_sum(gy: Any) -> Any:
    """As `reference.channel_sum`: (N, C, ...) -> (C,)."""
    if gy.dtype.kind in "biu":
        return gy.sum(axis=(0, *range(2, gy.ndim)))
    last = channels.lie_last(gy)
    cut = _cut_channels(gy, last)
    C, _, _, S, width = cut.sizes
    parts = sys.modules["cupy"].empty(S * C, sums_dtype(gy.dtype))
    in_blocks(_SUMS, "sums", *cut[:2], (channels.in_order(gy, last), parts), cut.sizes, T=gy.dtype)
    if S == 1 and parts.dtype == gy.dtype:
        return parts
    y = sys.modules["cupy"].empty(C, gy.dtype)
    blocks, threads = -(-C // width), threads_for(S * width)
    in_blocks(_SUMS, "sums_of_sums", blocks, threads, (parts, y), (C, S, width), T=gy.dtype)
    return y


def scale_and_shift(x: Any, scale: Any, shift: Any) -> Any:
    """As `reference.scale_and_shift`."""
    T, last = x.dtype, channels.lie_last(x)
    y = channels.empty(x.shape, T, last)
    sizes = x.shape[1], 1 if last else math.prod(x.shape[2:])
    arrays = channels.in_order(x, last), contiguous(scale, T), contiguous(shift, T), y
    for_each(_SCALE, "scale_and_shift", y.size, arrays, sizes, T=T)
    return y
