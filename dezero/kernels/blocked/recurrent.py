"""A step of an LSTM: its three sigmoids in one go, and results written where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels.blocked.activation import sigmoid, sigmoid_grad, tanh_grad


def lstm_cell(sums: Any, c: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell`."""
    gates = np.empty(sums.shape, sums.dtype)
    gates[:3] = sigmoid(sums[:3])
    np.tanh(sums[3], out=gates[3])
    f, i, _, u = gates
    return gates, f * c + i * u


def lstm_cell_grad(gates: Any, c: Any, gc: Any, go: Any) -> tuple[Any, Any]:
    """As `reference.lstm_cell_grad`."""
    f, i, _, u = gates
    gys = np.empty((4, *c.shape), gc.dtype)
    gys[0], gys[1], gys[2] = gc * c, gc * u, go
    gys[:3] = sigmoid_grad(gates[:3], gys[:3])
    gys[3] = tanh_grad(u, gc * i)
    return gys, gc * f
