"""Activations and updates: each element by itself, in one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import blocked
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import empty_like, flattened, in_one_piece, is_channels_last, is_ours
from dezero.kernels.threads import for_ranges

PIECE = 2**17  # elements: what one thread does before it looks for more
SMALL = 2**13  # elements: below, NumPy has done it before a kernel is called


def _is_worth_it(*arrays: Any) -> bool:
    return arrays[0].size >= SMALL and is_ours(*arrays)


def _one_pass(kernel: Any, like: Any, *arrays: Any) -> Any:
    """Return what `kernel(*arrays, y)` makes of flat pieces of the arrays, in an array like `like`."""
    y = empty_like(like)
    y_flat, *flat = flattened(y, *arrays)
    flat.append(y_flat)
    for_ranges(lambda piece: kernel(*(a[piece] for a in flat)), y.size, PIECE)
    return y


def relu(x: Any) -> Any:
    """As `reference.relu`."""
    return _one_pass(_relu, x, x) if _is_worth_it(x) else blocked.relu(x)


def relu_in_place(x: Any) -> Any:
    """The same, in the memory of x: an array that nobody else has."""
    if not _is_worth_it(x) or not (x.flags.c_contiguous or is_channels_last(x)):
        return blocked.activation.relu_in_place(x)
    (flat,) = flattened(x)
    for_ranges(lambda piece: _relu(flat[piece], flat[piece]), x.size, PIECE)
    return x


@compiled
def _relu(x, y):  # type: ignore[no-untyped-def]
    zero = y.dtype.type(0)
    for i in range(len(x)):
        value = x[i]
        y[i] = zero if value <= zero else value  # what is not a number stays so


def relu_grad(x: Any, gy: Any) -> Any:
    """As `reference.relu_grad`."""
    return _one_pass(_relu_grad, x, x, gy) if _is_worth_it(x, gy) else blocked.relu_grad(x, gy)


@compiled
def _relu_grad(x, gy, gx):  # type: ignore[no-untyped-def]
    zero = gx.dtype.type(0)
    for i in range(len(x)):
        g = gy[i]  # read whatever x is: a loop without branches
        gx[i] = g if x[i] > zero else zero


def sigmoid_grad(y: Any, gy: Any) -> Any:
    """As `reference.sigmoid_grad`."""
    return _one_pass(_sigmoid_grad, y, y, gy) if _is_worth_it(y, gy) else blocked.sigmoid_grad(y, gy)


@compiled
def _sigmoid_grad(y, gy, gx):  # type: ignore[no-untyped-def]
    one = gx.dtype.type(1)
    for i in range(len(y)):
        gx[i] = gy[i] * y[i] * (one - y[i])


def tanh_grad(y: Any, gy: Any) -> Any:
    """As `reference.tanh_grad`."""
    return _one_pass(_tanh_grad, y, y, gy) if _is_worth_it(y, gy) else blocked.tanh_grad(y, gy)


@compiled
def _tanh_grad(y, gy, gx):  # type: ignore[no-untyped-def]
    one = gx.dtype.type(1)
    for i in range(len(y)):
        gx[i] = gy[i] * (one - y[i] * y[i])


# ----------------------------------------------------------------------------------------------------------------------
# Updates
# ----------------------------------------------------------------------------------------------------------------------


def _update(rule: Any, kernel: Any, arrays: Any, numbers: Any, more: Any = ()) -> None:
    """Run `kernel(*arrays, *numbers, *more)` on flat pieces where all is as kernels like it, else NumPy's `rule`.

    The arrays are p, what is remembered of it, and g. `more` are rates that follow from others, such as 1 - beta,
    worked out in float64: float32 would lose digits in the difference.
    """
    *changed, g = arrays
    if not _is_worth_it(*arrays) or not all(x.flags.c_contiguous and x.flags.writeable for x in changed):
        rule(*arrays, *numbers)
        return
    flat = [x.reshape(-1) for x in changed]
    flat.append(in_one_piece(g))
    rates = [g.dtype.type(number) for number in (*numbers, *more)]
    for_ranges(lambda piece: kernel(*(a[piece] for a in flat), *rates), g.size, PIECE)


def sgd(p: Any, g: Any, lr: float) -> None:
    """As `reference.sgd`."""
    _update(blocked.sgd, _sgd, (p, g), (lr,))


@compiled
def _sgd(p, g, lr):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        p[i] -= lr * g[i]


def momentum_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.momentum_sgd`."""
    _update(blocked.momentum_sgd, _momentum_sgd, (p, v, g), (lr, momentum))


@compiled
def _momentum_sgd(p, v, g, lr, momentum):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += v[i]


def nesterov_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.nesterov_sgd`."""
    _update(blocked.nesterov_sgd, _nesterov_sgd, (p, v, g), (lr, momentum))


@compiled
def _nesterov_sgd(p, v, g, lr, momentum):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += momentum * v[i] - lr * g[i]


def adagrad(p: Any, h: Any, g: Any, lr: float, eps: float) -> None:
    """As `reference.adagrad`."""
    _update(blocked.adagrad, _adagrad, (p, h, g), (lr, eps))


@compiled
def _adagrad(p, h, g, lr, eps):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        h[i] += g[i] * g[i]
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + eps)


def rmsprop(p: Any, h: Any, g: Any, lr: float, alpha: float, eps: float) -> None:
    """As `reference.rmsprop`."""
    _update(blocked.rmsprop, _rmsprop, (p, h, g), (lr, alpha, eps), (1 - alpha,))


@compiled
def _rmsprop(p, h, g, lr, alpha, eps, rest):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        h[i] = alpha * h[i] + rest * g[i] * g[i]
        p[i] -= lr * g[i] / (np.sqrt(h[i]) + eps)


def adadelta(p: Any, h: Any, s: Any, g: Any, rho: float, eps: float) -> None:
    """As `reference.adadelta`."""
    _update(blocked.adadelta, _adadelta, (p, h, s, g), (rho, eps), (1 - rho,))


@compiled
def _adadelta(p, h, s, g, rho, eps, rest):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        h[i] = rho * h[i] + rest * g[i] * g[i]
        d = np.sqrt((s[i] + eps) / (h[i] + eps)) * g[i]
        s[i] = rho * s[i] + rest * d * d
        p[i] -= d


def adam(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.adam`."""
    _update(blocked.adam, _adam, (p, m, v, g), (lr, beta1, beta2, eps), (1 - beta1, 1 - beta2))


@compiled
def _adam(p, m, v, g, lr, beta1, beta2, eps, rest1, rest2):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        m[i] += rest1 * (g[i] - m[i])
        v[i] += rest2 * (g[i] * g[i] - v[i])
        p[i] -= lr * m[i] / (np.sqrt(v[i]) + eps)


def adamw(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float, shrink: float) -> None:
    """As `reference.adamw`."""
    numbers = lr, beta1, beta2, eps, shrink
    _update(blocked.adamw, _adamw, (p, m, v, g), numbers, (1 - beta1, 1 - beta2))


@compiled
def _adamw(p, m, v, g, lr, beta1, beta2, eps, shrink, rest1, rest2):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        m[i] += rest1 * (g[i] - m[i])
        v[i] += rest2 * (g[i] * g[i] - v[i])
        p[i] = p[i] - shrink * p[i] - lr * m[i] / (np.sqrt(v[i]) + eps)


def nadam(p: Any, m: Any, v: Any, g: Any, lr: float, ahead: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.nadam`."""
    numbers = lr, ahead, beta1, beta2, eps
    _update(blocked.nadam, _nadam, (p, m, v, g), numbers, (1 - beta1, 1 - beta2))


@compiled
def _nadam(p, m, v, g, lr, ahead, beta1, beta2, eps, rest1, rest2):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        m[i] += rest1 * (g[i] - m[i])
        v[i] += rest2 * (g[i] * g[i] - v[i])
        p[i] -= (lr * g[i] + ahead * m[i]) / (np.sqrt(v[i]) + eps)


def lion(p: Any, m: Any, g: Any, lr: float, beta1: float, beta2: float, shrink: float) -> None:
    """As `reference.lion`."""
    _update(blocked.lion, _lion, (p, m, g), (lr, beta1, beta2, shrink), (1 - beta1, 1 - beta2))


@compiled
def _lion(p, m, g, lr, beta1, beta2, shrink, rest1, rest2):  # type: ignore[no-untyped-def]
    for i in range(len(p)):
        p[i] -= lr * np.sign(beta1 * m[i] + rest1 * g[i]) + shrink * p[i]
        m[i] = beta2 * m[i] + rest2 * g[i]
