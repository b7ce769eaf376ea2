"""Rows of scores, and rows of an embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero.kernels import memory, reference
from dezero.kernels.blocked.layout import is_wide

SHORT = 64  # columns


def log_softmax(x: Any, axis: int) -> Any:
    """As `reference.log_softmax`, in two arrays."""
    if not is_wide(x):
        return reference.log_softmax(x, axis)
    rows = x.ndim == 2 and axis in (1, -1)
    largest = _largest_of_rows(x) if rows else x.max(axis=axis, keepdims=True)
    if not np.isfinite(largest).all():
        return reference.log_softmax(x, axis)
    y = x - largest
    total = np.exp(y)
    total = np.einsum("ij->i", total)[:, None] if rows else total.sum(axis=axis, keepdims=True)
    y -= np.log(total)
    return y


def _largest_of_rows(x: Any) -> Any:
    """(N, C) -> (N, 1). NumPy is slow along short rows, and turning them into long columns is not."""
    if x.shape[1] < SHORT:
        return np.ascontiguousarray(x.T).max(axis=0)[:, None]
    return x.max(axis=1, keepdims=True)


def softmax_cross_entropy(x: Any, t: Any) -> tuple[Any, Any]:
    """As `reference.softmax_cross_entropy`."""
    log_p = log_softmax(x, 1)
    return -log_p[np.arange(len(x)), t].mean(), log_p


def softmax_cross_entropy_grad(log_p: Any, t: Any, gy: Any) -> Any:
    """As `reference.softmax_cross_entropy_grad`, in one array."""
    gx = np.exp(log_p)
    gx[np.arange(len(gx)), t] -= 1
    gx *= gy / len(gx)
    return gx


def gates_grad_w(x: Any, gy: Any) -> tuple[Any, ...]:
    """As `reference.gates_grad_w`: columns of one product. A small one is done before BLAS's threads have met."""
    count, N, H = gy.shape
    gW = x.T @ gy.transpose(1, 0, 2).reshape(N, count * H)
    return tuple(gW[:, j * H : (j + 1) * H] for j in range(count))


def add_rows(shape: tuple[int, ...], rows: Any, gy: Any) -> Any:
    """As `reference.add_rows`: element by element, for which `np.add.at` has a short way."""
    gx, length = memory.zeros(shape, gy.dtype), math.prod(shape[1:])
    elements = rows.reshape(-1, 1) * length + np.arange(length)
    np.add.at(gx.reshape(-1), elements.ravel(), gy.ravel())
    return gx
