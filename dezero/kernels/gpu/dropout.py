"""Dropout's random numbers: made on the device, from a key that the one source of random numbers draws."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero.kernels.gpu import slots
from dezero.kernels.gpu.launch import FLOATING, Source, contiguous, for_each

_SOURCE = Source(
    r"""
// Philox 4x32-10: ten rounds turn a counter and a key into four words of random bits. Which thread asks when does not
// matter, so the same key gives the same numbers on any device. Source: Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", 2011.
__device__ void philox(unsigned int* c, unsigned int key0, unsigned int key1)
{
    for (int round = 0; round < 10; round++) {
        const unsigned long long p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        const unsigned int high0 = (unsigned int)(p0 >> 32), high1 = (unsigned int)(p1 >> 32);
        c[0] = high1 ^ c[1] ^ key0;
        c[1] = (unsigned int)p1;
        c[2] = high0 ^ c[3] ^ key1;
        c[3] = (unsigned int)p0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// A thread makes four elements of the mask, and of x * mask.
__device__ void drop(const T* x, T* y, T* mask, I k, I count, unsigned int key0, unsigned int key1, A ratio, A scale)
{
    unsigned int c[4] = {(unsigned int)k, (unsigned int)((unsigned long long)k >> 32), 0, 0};
    philox(c, key0, key1);
    for (int j = 0; j < 4 && 4 * k + j < count; j++) {
        const A uniform = (A)(c[j] >> 8) * (A)(1.0f / 16777216);  // 24 bits, all that a float holds: in [0, 1)
        const T kept = uniform >= ratio ? (T)scale : (T)(A)0;
        mask[4 * k + j] = kept;
        y[4 * k + j] = (T)((A)x[4 * k + j] * (A)kept);
    }
}

extern "C" __global__ void dropout(
    const T* x, T* y, T* mask, I threads, I count, I key0, I key1, A ratio, A scale)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < threads) drop(x, y, mask, k, count, (unsigned int)key0, (unsigned int)key1, ratio, scale);
}

extern "C" __global__ void dropout_of_slot(
    const T* x, T* y, T* mask, const K* key, I threads, I count, A ratio, A scale)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < threads) drop(x, y, mask, k, count, (unsigned int)key[0], (unsigned int)key[1], ratio, scale);
}
""",
    types=FLOATING,
    integers=("int32",),
)


def dropout(x: Any, ratio: float, scale: float, draw: Callable[[], int]) -> tuple[Any, Any]:
    """Return x * mask, and the mask: `scale` where a number drawn from [0, 1) is `ratio` or more, 0 elsewhere.

    `draw` draws 64 bits, from which all these numbers follow.
    """
    xp, x = sys.modules["cupy"], contiguous(x)
    y, mask = xp.empty(x.shape, x.dtype), xp.empty(x.shape, x.dtype)
    key = slots.numbers(lambda: _words(draw()), np.int32)
    threads, types = -(-x.size // 4), {"T": x.dtype, "K": np.dtype(np.int32)}
    if isinstance(key, tuple):
        for_each(_SOURCE, "dropout", threads, (x, y, mask), (x.size, *key), (ratio, scale), **types)
    else:
        for_each(_SOURCE, "dropout_of_slot", threads, (x, y, mask, key), (x.size,), (ratio, scale), **types)
    return y, mask


def _words(key: int) -> tuple[int, ...]:
    """64 bits as two ints of 32."""
    return tuple(int(np.uint32(word).view(np.int32)) for word in (key & 0xFFFFFFFF, key >> 32))
