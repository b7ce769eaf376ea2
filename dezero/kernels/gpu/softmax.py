"""Scores of classes, a block for each row: softmax's logarithm, and the loss that goes with it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from dezero.kernels.gpu.launch import (
    BLOCK_SUM,
    FLOATING,
    INDEXES,
    Source,
    as_indexes,
    contiguous,
    for_each,
    in_blocks,
    sums_dtype,
    threads_for,
)

_SOURCE = Source(
    BLOCK_SUM
    + r"""
// The largest of every thread's value, NaN aside.
__device__ A block_max(A value)
{
    __shared__ A parts[256];  // THREADS
    parts[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half && parts[threadIdx.x] < parts[threadIdx.x + half])
            parts[threadIdx.x] = parts[threadIdx.x + half];
        __syncthreads();
    }
    const A largest = parts[0];
    __syncthreads();
    return largest;
}

struct LogSum {
    A largest, rest;  // the logarithm of the sum of exp(x) is largest + rest
};

__device__ LogSum log_sum(const T* x, I C)
{
    A largest = (A)x[0], sum = 0;
    for (I c = threadIdx.x; c < C; c += blockDim.x)
        if (largest < (A)x[c]) largest = (A)x[c];
    largest = block_max(largest);
    if (!(largest - largest == 0)) largest = 0;  // infinity - infinity is not a number
    for (I c = threadIdx.x; c < C; c += blockDim.x) sum += exp((A)x[c] - largest);
    return LogSum{largest, log(block_sum(sum))};
}

extern "C" __global__ void log_softmax(const T* x, T* y, I C)
{
    const I row = (I)blockIdx.x * C;
    const LogSum of = log_sum(x + row, C);
    for (I c = threadIdx.x; c < C; c += blockDim.x) y[row + c] = (T)((A)x[row + c] - of.largest - of.rest);
}

// A label that is no class has a loss that is not a number.
extern "C" __global__ void losses(const T* x, const K* t, T* log_p, A* losses, I C)
{
    const I row = (I)blockIdx.x * C;
    const LogSum of = log_sum(x + row, C);
    for (I c = threadIdx.x; c < C; c += blockDim.x) log_p[row + c] = (T)((A)x[row + c] - of.largest - of.rest);
    if (threadIdx.x == 0) {
        const K label = t[blockIdx.x];
        const bool is_class = 0 <= label && label < C;
        losses[blockIdx.x] = is_class ? of.rest - ((A)x[row + (I)label] - of.largest) : (A)0 / (A)0;
    }
}
""",
    FLOATING,
    integers=INDEXES,
)

_NO_LABELS = np.dtype(np.int64)  # what the source is compiled for where there are none

_GRADIENT = Source(
    r"""
extern "C" __global__ void gradient(const T* log_p, const K* t, const T* gy, T* gx, I count, I N, I C)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const K label = t[k / C];
    const bool is_class = 0 <= label && label < C;
    const A one = label == k % C ? 1 : 0;
    gx[k] = (T)(is_class ? (exp((A)log_p[k]) - one) * ((A)gy[0] / (A)N) : (A)0 / (A)0);
}
""",
    FLOATING,
    integers=INDEXES,
)


def log_softmax(x: Any, axis: Any) -> Any:
    """As `reference.log_softmax`: the axes that are summed over are brought to the end, where rows lie in one piece."""
    axes = _axes(axis, x.ndim)
    order = (*(i for i in range(x.ndim) if i not in axes), *axes)
    moved = contiguous(x.transpose(order))
    y = sys.modules["cupy"].empty(moved.shape, x.dtype)
    if x.size:
        C = math.prod(x.shape[i] for i in axes)
        in_blocks(_SOURCE, "log_softmax", x.size // C, threads_for(C), (moved, y), (C,), T=x.dtype, K=_NO_LABELS)
    return contiguous(y.transpose(tuple(map(order.index, range(x.ndim)))))


def _axes(axis: Any, ndim: int) -> list[int]:
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return sorted(i % ndim for i in axes)


def softmax_cross_entropy(x: Any, t: Any) -> tuple[Any, Any]:
    """As `reference.softmax_cross_entropy`: the loss, of no axes, and log_p (N, C).

    Where a label is not in 0..C-1 the loss is NaN: nobody waits for the device to find out.
    """
    xp, T = sys.modules["cupy"], x.dtype
    N, C = x.shape
    x, t = contiguous(x), as_indexes(t)
    log_p, losses = xp.empty(x.shape, T), xp.empty(N, sums_dtype(T))
    in_blocks(_SOURCE, "losses", N, threads_for(C), (x, t, log_p, losses), (C,), T=T, K=t.dtype)
    return losses.mean().astype(T, copy=False), log_p


def softmax_cross_entropy_grad(log_p: Any, t: Any, gy: Any) -> Any:
    """As `reference.softmax_cross_entropy_grad`: (N, C); NaN where the loss was, in the rows of such labels."""
    T, t = log_p.dtype, as_indexes(t)
    gx = sys.modules["cupy"].empty(log_p.shape, T)
    arrays = contiguous(log_p), t, contiguous(gy, T), gx
    for_each(_GRADIENT, "gradient", gx.size, arrays, log_p.shape, T=T, K=t.dtype)
    return gx
