"""Updates of large parameters: all steps of the formula on one block before the next, in scratch that stays cached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero.kernels import reference
from dezero.kernels.blocked.layout import flat, is_wide

BLOCK = 2**17  # elements


def _blocks(*arrays: Any) -> Iterator[list[Any]] | None:
    """Yield the same elements of all arrays, a block at a time, and scratch beside them.

    None says that it does not pay, or cannot be done: what fits into the cache stays there anyway.
    """
    size = arrays[0].size
    if size <= 4 * BLOCK or not is_wide(*arrays) or (views := flat(*arrays)) is None:
        return None
    scratch = np.empty(BLOCK, views[0].dtype)
    starts = range(0, size, BLOCK)
    return ([*(x[start : start + BLOCK] for x in views), scratch[: size - start]] for start in starts)


def sgd(p: Any, g: Any, lr: float) -> None:
    """As `reference.sgd`."""
    if (blocks := _blocks(p, g)) is None:
        return reference.sgd(p, g, lr)
    for p, g, step in blocks:
        np.multiply(g, lr, out=step)
        p -= step


def momentum_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.momentum_sgd`."""
    if (blocks := _blocks(p, v, g)) is None:
        return reference.momentum_sgd(p, v, g, lr, momentum)
    for p, v, g, step in blocks:
        np.multiply(g, lr, out=step)
        v *= momentum
        v -= step
        p += v


def nesterov_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.nesterov_sgd`."""
    if (blocks := _blocks(p, v, g)) is None:
        return reference.nesterov_sgd(p, v, g, lr, momentum)
    for p, v, g, step in blocks:
        np.multiply(g, lr, out=step)
        v *= momentum
        v -= step
        p -= step
        p += np.multiply(v, momentum, out=step)


def adagrad(p: Any, h: Any, g: Any, lr: float, eps: float) -> None:
    """As `reference.adagrad`."""
    if (blocks := _blocks(p, h, g)) is None:
        return reference.adagrad(p, h, g, lr, eps)
    for p, h, g, step in blocks:
        h += np.multiply(g, g, out=step)
        p -= _scaled(g, h, lr, eps, step)


def rmsprop(p: Any, h: Any, g: Any, lr: float, alpha: float, eps: float) -> None:
    """As `reference.rmsprop`."""
    if (blocks := _blocks(p, h, g)) is None:
        return reference.rmsprop(p, h, g, lr, alpha, eps)
    for p, h, g, step in blocks:
        _average(h, np.multiply(g, g, out=step), alpha)
        p -= _scaled(g, h, lr, eps, step)


def adadelta(p: Any, h: Any, s: Any, g: Any, rho: float, eps: float) -> None:
    """As `reference.adadelta`."""
    if (blocks := _blocks(p, h, s, g)) is None:
        return reference.adadelta(p, h, s, g, rho, eps)
    for p, h, s, g, step in blocks:
        _average(h, np.multiply(g, g, out=step), rho)
        np.divide(s + eps, np.add(h, eps, out=step), out=step)
        np.sqrt(step, out=step)
        step *= g
        p -= step
        step *= step
        _average(s, step, rho)


def adam(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.adam`."""
    if (blocks := _blocks(p, m, v, g)) is None:
        return reference.adam(p, m, v, g, lr, beta1, beta2, eps)
    for p, m, v, g, step in blocks:
        _approach(m, np.subtract(g, m, out=step), beta1)
        _approach(v, np.subtract(np.multiply(g, g, out=step), v, out=step), beta2)
        p -= _scaled(m, v, lr, eps, step)


def adamw(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float, shrink: float) -> None:
    """As `reference.adamw`."""
    if (blocks := _blocks(p, m, v, g)) is None:
        return reference.adamw(p, m, v, g, lr, beta1, beta2, eps, shrink)
    for p, m, v, g, step in blocks:
        p -= np.multiply(p, shrink, out=step)
        _approach(m, np.subtract(g, m, out=step), beta1)
        _approach(v, np.subtract(np.multiply(g, g, out=step), v, out=step), beta2)
        p -= _scaled(m, v, lr, eps, step)


def nadam(p: Any, m: Any, v: Any, g: Any, lr: float, ahead: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.nadam`."""
    if (blocks := _blocks(p, m, v, g)) is None:
        return reference.nadam(p, m, v, g, lr, ahead, beta1, beta2, eps)
    for p, m, v, g, step in blocks:
        _approach(m, np.subtract(g, m, out=step), beta1)
        _approach(v, np.subtract(np.multiply(g, g, out=step), v, out=step), beta2)
        np.sqrt(v, out=step)
        step += eps
        p -= np.divide(lr * g + ahead * m, step, out=step)


def lion(p: Any, m: Any, g: Any, lr: float, beta1: float, beta2: float, shrink: float) -> None:
    """As `reference.lion`."""
    if (blocks := _blocks(p, m, g)) is None:
        return reference.lion(p, m, g, lr, beta1, beta2, shrink)
    for p, m, g, step in blocks:
        np.multiply(g, 1 - beta1, out=step)
        step += beta1 * m
        np.sign(step, out=step)
        step *= lr
        step += shrink * p
        p -= step
        np.copyto(step, g)
        _average(m, step, beta2)


def _average(h: Any, new: Any, decay: float) -> None:
    """h = decay * h + (1 - decay) * new, and `new` is lost."""
    h *= decay
    new *= 1 - decay
    h += new


def _approach(h: Any, way: Any, decay: float) -> None:
    """h += (1 - decay) * way, and `way` is lost."""
    way *= 1 - decay
    h += way


def _scaled(g: Any, h: Any, lr: float, eps: float, out: Any) -> Any:
    """out = lr * g / (sqrt(h) + eps)."""
    np.sqrt(h, out=out)
    out += eps
    np.divide(g, out, out=out)
    out *= lr
    return out
