"""Optimizers' rules: one launch each. p and what is remembered of it change in place, g may be of another dtype.

Rates and factors come as numbers, of p's A: they promote nothing, and a new one needs no new kernel. What the rules
need of 1 - beta is worked out in Python, where it keeps its digits: 1 - 0.999 in float32 has lost three.
"""

from __future__ import annotations

from typing import Any

from dezero.kernels.gpu.elementwise import kernel_of
from dezero.kernels.gpu.launch import remembered, sums_of

# name: (the numbers, what changes, operation). Each h, once computed, is used as it was before it was rounded to a T.
RULES = {
    "sgd": ("lr", "p", "p = (T)((A)p - lr * (A)g)"),
    "momentum_sgd": (
        "lr, momentum",
        "p, v",
        "const A step = momentum * (A)v - lr * (A)g; v = (T)step; p = (T)((A)p + step)",
    ),
    "adagrad": (
        "lr, eps",
        "p, h",
        "const A d = (A)g, squares = (A)h + d * d; h = (T)squares; p = (T)((A)p - lr * d / (sqrt(squares) + eps))",
    ),
    "rmsprop": (
        "lr, alpha, rest, eps",
        "p, h",
        "const A d = (A)g, squares = alpha * (A)h + rest * d * d;"
        "h = (T)squares; p = (T)((A)p - lr * d / (sqrt(squares) + eps))",
    ),
    "adadelta": (
        "rho, rest, eps",
        "p, h, s",
        "const A squares = rho * (A)h + rest * (A)g * (A)g, d = sqrt(((A)s + eps) / (squares + eps)) * (A)g;"
        "h = (T)squares; s = (T)(rho * (A)s + rest * d * d); p = (T)((A)p - d)",
    ),
    "adam": (
        "lr, rest1, rest2, eps",
        "p, m, v",
        "const A d = (A)g, mean = (A)m + rest1 * (d - (A)m), squares = (A)v + rest2 * (d * d - (A)v);"
        "m = (T)mean; v = (T)squares; p = (T)((A)p - lr * mean / (sqrt(squares) + eps))",
    ),
}


def rule(name: str, A: str) -> tuple[str, str, str]:
    """(in, out, operation) of a rule whose numbers are of the dtype A."""
    numbers, changed, operation = RULES[name]
    typed = [f"{A} {number}" for number in numbers.split(", ")]
    return ", ".join(["G g", *typed]), ", ".join(f"T {x}" for x in changed.split(", ")), operation


def _make(cupy: Any, name: str, dtype: Any) -> Any:
    return kernel_of(cupy, name, rule(name, sums_of(dtype.name)), dtype)


def _update(name: str, g: Any, numbers: tuple[float, ...], *changed: Any) -> None:
    dtype = changed[0].dtype
    remembered((name, dtype), _make, name, dtype)(g, *numbers, *changed)


def sgd(p: Any, g: Any, lr: float) -> None:
    """As `reference.sgd`."""
    _update("sgd", g, (lr,), p)


def momentum_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.momentum_sgd`."""
    _update("momentum_sgd", g, (lr, momentum), p, v)


def adagrad(p: Any, h: Any, g: Any, lr: float, eps: float) -> None:
    """As `reference.adagrad`."""
    _update("adagrad", g, (lr, eps), p, h)


def rmsprop(p: Any, h: Any, g: Any, lr: float, alpha: float, eps: float) -> None:
    """As `reference.rmsprop`."""
    _update("rmsprop", g, (lr, alpha, 1 - alpha, eps), p, h)


def adadelta(p: Any, h: Any, s: Any, g: Any, rho: float, eps: float) -> None:
    """As `reference.adadelta`."""
    _update("adadelta", g, (rho, 1 - rho, eps), p, h, s)


def adam(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.adam`."""
    _update("adam", g, (lr, 1 - beta1, 1 - beta2, eps), p, m, v)
