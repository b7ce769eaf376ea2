"""What a step of a recurrent network does with its sums of products: all gates in one launch."""

from __future__ import annotations

import sys
from typing import Any

from dezero.kernels.gpu.launch import FLOATING, Source, contiguous, for_each

_SOURCE = Source(
    r"""
// A thread has one element of each gate: `count` elements lie between an element of a gate and that of the next.
__device__ A sigmoid(A x)
{
    const A z = exp(x < 0 ? x : -x);
    return (x < 0 ? z : (A)1) / (1 + z);
}

extern "C" __global__ void lstm_cell(const T* sums, const T* c, T* gates, T* c_next, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const A f = sigmoid((A)sums[k]), i = sigmoid((A)sums[count + k]);
    const A o = sigmoid((A)sums[2 * count + k]), u = tanh((A)sums[3 * count + k]);
    gates[k] = (T)f;
    gates[count + k] = (T)i;
    gates[2 * count + k] = (T)o;
    gates[3 * count + k] = (T)u;
    c_next[k] = (T)(f * (A)c[k] + i * u);
}

extern "C" __global__ void lstm_cell_grad(
    const T* gates, const T* c, const T* gc, const T* go, T* gys, T* gc_last, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const A f = (A)gates[k], i = (A)gates[count + k], o = (A)gates[2 * count + k], u = (A)gates[3 * count + k];
    const A g = (A)gc[k];
    gys[k] = (T)(g * (A)c[k] * f * (1 - f));
    gys[count + k] = (T)(g * u * i * (1 - i));
    gys[2 * count + k] = (T)((A)go[k] * o * (1 - o));
    gys[3 * count + k] = (T)(g * i * (1 - u * u));
    gc_last[k] = (T)(g * f);
}

extern "C" __global__ void lstm_output(const T* c, const T* o, T* h, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < count) h[k] = (T)((A)o[k] * tanh((A)c[k]));
}

extern "C" __global__ void lstm_output_grad(const T* c, const T* o, const T* gh, T* gc, T* go, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const A t = tanh((A)c[k]), g = (A)gh[k];
    gc[k] = (T)(g * (A)o[k] * (1 - t * t));
    go[k] = (T)(g * t);
}

extern "C" __global__ void gru_cell(const T* sums, const T* nx, const T* nh, const T* h, T* gates, T* y, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const A r = sigmoid((A)sums[k]), z = sigmoid((A)sums[count + k]), n = tanh((A)nx[k] + r * (A)nh[k]);
    gates[k] = (T)r;
    gates[count + k] = (T)z;
    gates[2 * count + k] = (T)n;
    y[k] = (T)(n + z * ((A)h[k] - n));
}

extern "C" __global__ void gru_cell_grad(
    const T* gates, const T* nh, const T* h, const T* gy, T* gys, T* gh, I count)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const A r = (A)gates[k], z = (A)gates[count + k], n = (A)gates[2 * count + k], g = (A)gy[k];
    const A gn = g * (1 - z) * (1 - n * n);
    gys[k] = (T)gn;
    gys[count + k] = (T)(gn * (A)nh[k] * r * (1 - r));
    gys[2 * count + k] = (T)(g * ((A)h[k] - n) * z * (1 - z));
    gys[3 * count + k] = (T)(gn * r);
    gh[k] = (T)(g * z);
}
""",
    types=FLOATING,
)


def _launch(name: str, like: Any, arrays: tuple[Any, ...], *shapes: tuple[int, ...]) -> tuple[Any, ...]:
    """Run a kernel with a thread for each element of `like`; returned are its results, of these shapes."""
    T, xp = like.dtype, sys.modules["cupy"]
    results = tuple(xp.empty(shape, T) for shape in shapes)
    for_each(_SOURCE, name, like.size, (*(contiguous(x, T) for x in arrays), *results), (), T=T)
    return results


def lstm_cell(sums: Any, c: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell`."""
    gates, c_next = _launch("lstm_cell", c, (sums, c), sums.shape, c.shape)
    return gates, c_next


def lstm_cell_grad(gates: Any, c: Any, gc: Any, go: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell_grad`."""
    gys, gc_last = _launch("lstm_cell_grad", c, (gates, c, gc, go), gates.shape, c.shape)
    return gys, gc_last


def lstm_output(c: Any, o: Any) -> Any:
    """As `reference.lstm_output`."""
    return _launch("lstm_output", c, (c, o), c.shape)[0]


def lstm_output_grad(c: Any, o: Any, gh: Any) -> tuple[Any, Any]:
    """As `reference.lstm_output_grad`."""
    gc, go = _launch("lstm_output_grad", c, (c, o, gh), c.shape, c.shape)
    return gc, go


def gru_cell(sums: Any, nx: Any, nh: Any, h: Any) -> tuple[Any, Any]:
    """As `reference.gru_cell`."""
    gates, y = _launch("gru_cell", h, (sums, nx, nh, h), (3, *h.shape), h.shape)
    return gates, y


def gru_cell_grad(gates: Any, nh: Any, h: Any, gy: Any) -> tuple[Any, Any]:
    """As `reference.gru_cell_grad`."""
    gys, gh = _launch("gru_cell_grad", h, (gates, nh, h, gy), (4, *h.shape), h.shape)
    return gys, gh
