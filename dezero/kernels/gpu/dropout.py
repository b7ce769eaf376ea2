"""Dropout's random numbers: made on the device, from a key that the one source of random numbers draws."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from dezero.kernels.gpu.launch import FLOATING, Source, for_each

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

// A thread makes four elements.
extern "C" __global__ void dropout_mask(T* mask, I threads, I count, I key0, I key1, A ratio, A scale)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= threads) return;
    unsigned int c[4] = {(unsigned int)k, (unsigned int)((unsigned long long)k >> 32), 0, 0};
    philox(c, (unsigned int)key0, (unsigned int)key1);
    for (int j = 0; j < 4 && 4 * k + j < count; j++) {
        const A uniform = (A)(c[j] >> 8) * (A)(1.0f / 16777216);  // 24 bits, all that a float holds: in [0, 1)
        mask[4 * k + j] = uniform >= ratio ? (T)scale : (T)(A)0;
    }
}
""",
    types=FLOATING,
)


def dropout_mask(shape: tuple[int, ...], dtype: Any, ratio: float, scale: float, key: int) -> Any:
    """`scale` where a number drawn uniformly from [0, 1) is `ratio` or more, 0 elsewhere; `key` has 64 bits."""
    mask = sys.modules["cupy"].empty(shape, dtype)
    count = math.prod(shape)
    key0, key1 = (int(np.uint32(word).view(np.int32)) for word in (key & 0xFFFFFFFF, key >> 32))
    for_each(_SOURCE, "dropout_mask", -(-count // 4), (mask,), (count, key0, key1), (ratio, scale), T=mask.dtype)
    return mask
