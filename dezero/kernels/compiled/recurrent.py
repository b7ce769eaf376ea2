"""What a step of a recurrent network does with its sums of products: all gates in one pass.

What is a tanh and little else (an LSTM's output) is left to NumPy, whose tanh is the faster one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import blocked, memory
from dezero.kernels.compiled.activation import sigmoid_, tanh_
from dezero.kernels.compiled.compile import compiled_in_order
from dezero.kernels.compiled.layout import in_one_piece, is_ours


def _results(like: Any, *shapes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(memory.empty(shape, like.dtype) for shape in shapes)


def _flat(*arrays: Any) -> list[Any]:
    return [in_one_piece(x) for x in arrays]


def lstm_cell(sums: Any, c: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell`."""
    if not is_ours(sums, c):
        return blocked.lstm_cell(sums, c)
    gates, c_next = _results(c, sums.shape, c.shape)
    _lstm_cell(*_flat(sums, c, gates, c_next))
    return gates, c_next


@compiled_in_order
def _lstm_cell(sums, c, gates, c_next):  # type: ignore[no-untyped-def]
    count = len(c)
    sum_f, sum_i, sum_o, sum_u = sums[:count], sums[count:], sums[2 * count :], sums[3 * count :]
    fs, is_, os, us = gates[:count], gates[count:], gates[2 * count :], gates[3 * count :]
    for k in range(count):
        f, i = sigmoid_(np.float64(sum_f[k])), sigmoid_(np.float64(sum_i[k]))
        o, u = sigmoid_(np.float64(sum_o[k])), tanh_(np.float64(sum_u[k]))
        fs[k], is_[k], os[k], us[k] = f, i, o, u
        c_next[k] = f * c[k] + i * u


def lstm_cell_grad(gates: Any, c: Any, gc: Any, go: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell_grad`."""
    if not is_ours(gates, c, gc, go):
        return blocked.lstm_cell_grad(gates, c, gc, go)
    gys, gc_last = _results(c, gates.shape, c.shape)
    _lstm_cell_grad(*_flat(gates, c, gc, go, gys, gc_last))
    return gys, gc_last


@compiled_in_order
def _lstm_cell_grad(gates, c, gc, go, gys, gc_last):  # type: ignore[no-untyped-def]
    count, one = len(c), c.dtype.type(1)
    fs, is_, os, us = gates[:count], gates[count:], gates[2 * count :], gates[3 * count :]
    gfs, gis, gos, gus = gys[:count], gys[count:], gys[2 * count :], gys[3 * count :]
    for k in range(count):
        f, i, o, u, g = fs[k], is_[k], os[k], us[k], gc[k]
        gfs[k] = g * c[k] * f * (one - f)
        gis[k] = g * u * i * (one - i)
        gos[k] = go[k] * o * (one - o)
        gus[k] = g * i * (one - u * u)
        gc_last[k] = g * f


def gru_cell(sums: Any, nx: Any, nh: Any, h: Any) -> tuple[Any, Any]:
    """As `reference.gru_cell`."""
    if not is_ours(sums, nx, nh, h):
        return blocked.gru_cell(sums, nx, nh, h)
    gates, y = _results(h, (3, *h.shape), h.shape)
    _gru_cell(*_flat(sums, nx, nh, h, gates, y))
    return gates, y


@compiled_in_order
def _gru_cell(sums, nx, nh, h, gates, y):  # type: ignore[no-untyped-def]
    count = len(h)
    sum_r, sum_z = sums[:count], sums[count:]
    rs, zs, ns = gates[:count], gates[count:], gates[2 * count :]
    for k in range(count):
        r, z = sigmoid_(np.float64(sum_r[k])), sigmoid_(np.float64(sum_z[k]))
        n = tanh_(nx[k] + r * nh[k])
        rs[k], zs[k], ns[k] = r, z, n
        y[k] = n + z * (h[k] - n)


def gru_cell_grad(gates: Any, nh: Any, h: Any, gy: Any) -> tuple[Any, Any]:
    """As `reference.gru_cell_grad`."""
    if not is_ours(gates, nh, h, gy):
        return blocked.gru_cell_grad(gates, nh, h, gy)
    gys, gh = _results(h, (4, *h.shape), h.shape)
    _gru_cell_grad(*_flat(gates, nh, h, gy, gys, gh))
    return gys, gh


@compiled_in_order
def _gru_cell_grad(gates, nh, h, gy, gys, gh):  # type: ignore[no-untyped-def]
    count, one = len(h), h.dtype.type(1)
    rs, zs, ns = gates[:count], gates[count:], gates[2 * count :]
    gnx, grs, gzs, gnh = gys[:count], gys[count:], gys[2 * count :], gys[3 * count :]
    for k in range(count):
        r, z, n, g = rs[k], zs[k], ns[k], gy[k]
        gn = g * (one - z) * (one - n * n)
        gnx[k] = gn
        grs[k] = gn * nh[k] * r * (one - r)
        gzs[k] = g * (h[k] - n) * z * (one - z)
        gnh[k] = gn * r
        gh[k] = g * z
