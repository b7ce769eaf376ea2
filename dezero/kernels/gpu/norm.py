"""Normalisation, and sums over channels.

A channel of x (N, C, P), with P pixels an image, is N * P elements. It is cut into pieces of up to PIECE, for each a
block: so that few channels of many elements keep as many blocks busy as many of few, and a thread adds up so few
numbers that float32 loses no digits. Sums run through several launches: each block leaves the sum of its piece in
`parts`, and each block of the next launch adds up those of its channel, all in the same order. Rows that are
normalised, (M, D), are the channels of one image with D pixels.

Mean and variance take two passes over x, sum(x) / M and sum((x - mean)^2) / M, and the second also finds how far the
mean was rounded, `off` = sum(x - mean) / M. Source: Chan, Golub and LeVeque, "Algorithms for computing the sample
variance", 1983.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any, NamedTuple

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

# What kernels that sum have in common: block c * S + s works on elements start <= m < end of channel c.
_PIECES = (
    BLOCK_SUM
    + r"""
struct Piece {
    I c, s, start, end;
};

__device__ Piece piece(I M, I S)
{
    const I c = (I)blockIdx.x / S, s = (I)blockIdx.x % S, length = (M + S - 1) / S;
    const I start = s * length, end = start + length < M ? start + length : M;
    return Piece{c, s, start, end};
}

// Where element m of channel c stands.
__device__ I place(I m, I c, I C, I P)
{
    return (m / P * C + c) * P + m % P;
}

// The sum of what the S pieces of channel c have left.
__device__ A total(const A* parts, I c, I S)
{
    A sum = 0;
    for (I s = threadIdx.x; s < S; s += blockDim.x) sum += parts[c * S + s];
    return block_sum(sum);
}
"""
)

_SUMS = Source(
    _PIECES
    + r"""
extern "C" __global__ void sums(const T* x, A* parts, I C, I P, I M, I S)
{
    const Piece p = piece(M, S);
    A sum = 0;
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) sum += (A)x[place(m, p.c, C, P)];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The sums of the pieces -> the sums of the channels, a block each.
extern "C" __global__ void sums_of_sums(const A* parts, T* y, I S)
{
    const A sum = total(parts, blockIdx.x, S);
    if (threadIdx.x == 0) y[blockIdx.x] = (T)sum;
}
""",
    FLOATING,
)

# parts (3, blocks): the sums of x, of x - mean, and of (x - mean)^2.
_FORWARD = Source(
    _PIECES
    + r"""
extern "C" __global__ void squares(const T* x, A* parts, I C, I P, I M, I S)
{
    const Piece p = piece(M, S);
    const A mean = total(parts, p.c, S) / (A)M;
    A sum = 0, square = 0;
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) {
        const A d = (A)x[place(m, p.c, C, P)] - mean;
        sum += d;
        square += d * d;
    }
    sum = block_sum(sum);
    square = block_sum(square);
    if (threadIdx.x == 0) {
        parts[C * S + blockIdx.x] = sum;
        parts[2 * C * S + blockIdx.x] = square;
    }
}

struct Moments {
    A mean, off, var;  // the mean is mean + off, which can have more digits than an A
};

__device__ Moments moments(const A* parts, I c, I C, I M, I S)
{
    const A mean = total(parts, c, S) / (A)M;
    A off = total(parts + C * S, c, S) / (A)M;
    A var = total(parts + 2 * C * S, c, S) / (A)M;
    if (!(off - off == 0)) off = 0;  // x has an infinity, and the mean is one, or NaN
    var -= off * off;
    return Moments{mean, off, var < 0 ? (A)0 : var};
}

extern "C" __global__ void batch_norm(const T* x, const A* parts, const T* gamma, const T* beta, T* y, T* mean, T* var,
                                      I C, I P, I M, I S, A eps)
{
    const Piece p = piece(M, S);
    const Moments of = moments(parts, p.c, C, M, S);
    const A scale = (A)gamma[p.c] / sqrt(of.var + eps), shift = (A)beta[p.c];
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) {
        const I k = place(m, p.c, C, P);
        y[k] = (T)(((A)x[k] - of.mean - of.off) * scale + shift);
    }
    if (p.s == 0 && threadIdx.x == 0) {
        mean[p.c] = (T)(of.mean + of.off);
        var[p.c] = (T)of.var;
    }
}

extern "C" __global__ void normalise(const T* x, const A* parts, T* y, T* mean, T* std, I C, I P, I M, I S, A eps)
{
    const Piece p = piece(M, S);
    const Moments of = moments(parts, p.c, C, M, S);
    const A deviation = sqrt(of.var + eps);
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) {
        const I k = place(m, p.c, C, P);
        y[k] = (T)(((A)x[k] - of.mean - of.off) / deviation);
    }
    if (p.s == 0 && threadIdx.x == 0) {
        mean[p.c] = (T)(of.mean + of.off);
        std[p.c] = (T)deviation;
    }
}
""",
    FLOATING,
)

# parts (2, blocks): the sums of gy, and of gy * n with n = (x - mean) * inverse, where `inverse` is 1 / std. The
# gradient of `normalise` has n already, in place of x: its mean is 0, and its inverse 1.
_BACKWARD = Source(
    _PIECES
    + r"""
__device__ void sum_products(const T* x, const T* gy, A* parts, A mean, A inverse, I C, I P, I M, I S)
{
    const Piece p = piece(M, S);
    A sum = 0, product = 0;
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) {
        const I k = place(m, p.c, C, P);
        const A g = (A)gy[k];
        sum += g;
        product += g * (((A)x[k] - mean) * inverse);
    }
    sum = block_sum(sum);
    product = block_sum(product);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        parts[C * S + blockIdx.x] = product;
    }
}

__device__ void centre(const T* x, const T* gy, T* gx, A sum, A product, A mean, A inverse, A scale, Piece p, I C, I P,
                       I M)
{
    sum /= (A)M;
    product /= (A)M;
    for (I m = p.start + threadIdx.x; m < p.end; m += blockDim.x) {
        const I k = place(m, p.c, C, P);
        gx[k] = (T)(((A)gy[k] - sum - ((A)x[k] - mean) * inverse * product) * scale);
    }
}

extern "C" __global__ void batch_products(const T* x, const T* gy, const T* mean, const T* var, A* parts, I C, I P, I M,
                                          I S, A eps)
{
    const I c = (I)blockIdx.x / S;
    sum_products(x, gy, parts, (A)mean[c], 1 / sqrt((A)var[c] + eps), C, P, M, S);
}

extern "C" __global__ void batch_norm_grad(const T* x, const T* gy, const T* gamma, const T* mean, const T* var,
                                           const A* parts, T* gx, T* ggamma, T* gbeta, I C, I P, I M, I S, A eps)
{
    const Piece p = piece(M, S);
    const A sum = total(parts, p.c, S), product = total(parts + C * S, p.c, S);
    const A inverse = 1 / sqrt((A)var[p.c] + eps);
    centre(x, gy, gx, sum, product, (A)mean[p.c], inverse, (A)gamma[p.c] * inverse, p, C, P, M);
    if (p.s == 0 && threadIdx.x == 0) {
        ggamma[p.c] = (T)product;
        gbeta[p.c] = (T)sum;
    }
}

extern "C" __global__ void row_products(const T* y, const T* gy, A* parts, I C, I P, I M, I S)
{
    sum_products(y, gy, parts, 0, 1, C, P, M, S);
}

extern "C" __global__ void normalise_grad(const T* y, const T* std, const T* gy, const A* parts, T* gx, I C, I P, I M,
                                          I S)
{
    const Piece p = piece(M, S);
    const A sum = total(parts, p.c, S), product = total(parts + C * S, p.c, S);
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
    """How an array is cut: so many blocks of so many threads, and the sizes C, P, M, S that kernels take."""

    blocks: int
    threads: int
    sizes: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _cut(shape: tuple[int, ...], most: tuple[int, int]) -> _Cut:
    """Cut (N, C, ...); `most` is PIECE and PIECES."""
    N, C, P = shape[0], shape[1], math.prod(shape[2:])
    M = N * P
    S = min(max(1, -(-M // most[0])), most[1])
    return _Cut(C * S, threads_for(-(-M // S)), (C, P, M, S))


def _cut_channels(x: Any) -> _Cut:
    return _cut(x.shape, (PIECE, PIECES))


def _cut_rows(x: Any) -> _Cut:
    return _cut((1, *x.shape), (PIECE, PIECES))


def _parts(kinds: int, cut: _Cut, dtype: Any) -> Any:
    return sys.modules["cupy"].empty((kinds, cut.blocks), sums_dtype(dtype))


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """As `reference.batch_norm`: y as x, mean (C,), var (C,)."""
    xp, T = sys.modules["cupy"], x.dtype
    x, cut = contiguous(x), _cut_channels(x)
    y, mean, var = xp.empty(x.shape, T), xp.empty(x.shape[1], T), xp.empty(x.shape[1], T)
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
    cut = _cut_channels(x)
    x, gy, gamma, mean, var = (contiguous(array, T) for array in (x, gy, gamma, mean, var))
    parts = _parts(2, cut, T)
    in_blocks(_BACKWARD, "batch_products", *cut[:2], (x, gy, mean, var, parts), cut.sizes, (eps,), T=T)
    gx, ggamma, gbeta = xp.empty(x.shape, T), xp.empty(gamma.shape, T), xp.empty(gamma.shape, T)
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
    cut = _cut_channels(gy)
    parts = sys.modules["cupy"].empty(cut.blocks, sums_dtype(gy.dtype))
    in_blocks(_SUMS, "sums", *cut[:2], (contiguous(gy), parts), cut.sizes, T=gy.dtype)
    C, _, _, S = cut.sizes
    if S == 1 and parts.dtype == gy.dtype:
        return parts
    y = sys.modules["cupy"].empty(C, gy.dtype)
    in_blocks(_SUMS, "sums_of_sums", C, threads_for(S), (parts, y), (S,), T=gy.dtype)
    return y


def scale_and_shift(x: Any, scale: Any, shift: Any) -> Any:
    """As `reference.scale_and_shift`."""
    T = x.dtype
    y = sys.modules["cupy"].empty(x.shape, T)
    sizes = x.shape[1], math.prod(x.shape[2:])
    arrays = contiguous(x), contiguous(scale, T), contiguous(shift, T), y
    for_each(_SCALE, "scale_and_shift", y.size, arrays, sizes, T=T)
    return y
