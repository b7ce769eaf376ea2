"""Activations made of exponentials: each element by itself, in one pass, where NumPy takes ten.

All is worked out in float64, also for arrays of float32, whose results are then right to the last bit, or nearly. No
loop has a call or a branch in it, so that the compiler makes vectors of it: `exp` and its relatives are polynomials
here. Of two formulas both are worked out, and one is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from dezero.kernels import blocked
from dezero.kernels.compiled.compile import compiled_in_order, inlined
from dezero.kernels.compiled.layout import empty_like, flattened, is_ours
from dezero.kernels.reference import ERF_BELOW_1, ERFC_ABOVE_1, GELU_TANH
from dezero.kernels.threads import for_ranges

PIECE = 2**16  # elements: what one thread does before it looks for more

# ----------------------------------------------------------------------------------------------------------------------
# Exponentials of float64
# ----------------------------------------------------------------------------------------------------------------------


def _even_and_odd(coefficients: Iterable[float]) -> tuple[Any, Any]:
    values = tuple(coefficients)
    return values[::2], values[1::2]


_INTO_INT = 1.5 * 2.0**52  # a number that is added to it is rounded to an integer, which is what its lowest bits hold
_PER_LN2 = 1 / math.log(2)
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # of few bits, so that n times it is exact; the rest
_EXP = _even_and_odd(
    1 / math.factorial(k) for k in range(1, 14)
)  # exp(r) = 1 + r + r^2 / 2 + ..., for |r| <= ln(2) / 2
_ATANH = _even_and_odd(
    2 / (2 * k + 1) for k in range(17)
)  # ln((1 + s) / (1 - s)) = 2s (1 + s^2 / 3 + ...), for s <= 1 / 3
_ERF, _ERFC = _even_and_odd(ERF_BELOW_1), _even_and_odd(ERFC_ABOVE_1)
_LOWEST = -708.0  # exp of less is no normal number


@inlined
def _horner(x, coefficients):  # type: ignore[no-untyped-def]
    y = coefficients[-1]
    for k in range(len(coefficients) - 2, -1, -1):
        y = y * x + coefficients[k]
    return y


@inlined
def _polynomial(x, coefficients):  # type: ignore[no-untyped-def]
    """From the coefficients of even powers and of odd ones: the compiler writes out a loop of ten, not one of more."""
    even, odd = coefficients
    return _horner(x * x, even) + x * _horner(x * x, odd)


@inlined
def _exp_parts(x):  # type: ignore[no-untyped-def]
    """q and s with exp(x) = s * q + s, for x <= 0: x = n ln 2 + r, s = 2^n, q = exp(r) - 1. NaN stays what it is."""
    t = (_LOWEST if x < _LOWEST else x) * _PER_LN2 + _INTO_INT
    n = t - _INTO_INT
    s = np.int64((np.float64(t).view(np.int64) + 1023) << 52).view(np.float64)  # n in a float64's exponent
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    r = 0.0 if x < _LOWEST else r
    return r * _polynomial(r, _EXP), 0.0 if x < _LOWEST else s


@inlined
def exp_(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0."""
    q, s = _exp_parts(x)
    return s * q + s


@inlined
def expm1_(x):  # type: ignore[no-untyped-def]
    """exp(x) - 1 for x <= 0, to the last digits of small ones."""
    q, s = _exp_parts(x)
    return s * q + (s - 1.0)


@inlined
def sigmoid_(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x))."""
    z = exp_(-abs(x))
    return (z if x < 0 else 1.0) / (1.0 + z)


@inlined
def tanh_(x):  # type: ignore[no-untyped-def]
    """tanh x, to the last digits of small ones."""
    e = expm1_(-2.0 * abs(x))
    t = e / (2.0 + e)
    return t if x < 0 else -t


@inlined
def _log1p_exp(x):  # type: ignore[no-untyped-def]
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + z) with z = exp(-|x|), and 1 + z = (1 + s) / (1 - s) with s = z / (2 + z)."""
    z = exp_(-abs(x))
    s = z / (2.0 + z)
    return (0.0 if x < 0 else x) + s * _polynomial(s * s, _ATANH)


@inlined
def _within(x, most):  # type: ignore[no-untyped-def]
    x = -most if x < -most else x
    return most if x > most else x


@inlined
def _erf_and_erfc(x):  # type: ignore[no-untyped-def]
    """erf(x), right where |x| <= 1, and erfc(|x|), right where |x| >= 1."""
    near, far = _within(x, 1.0), _within(abs(x), 30.0)
    far = 1.0 if far < 1.0 else far
    tail = exp_(-far * far) * _polynomial((far - 2.5) / (far + 2.5), _ERFC) / (1.0 + 2.0 * far)
    return near * _polynomial(near * near, _ERF), tail


@inlined
def _erf_(x):  # type: ignore[no-untyped-def]
    small, tail = _erf_and_erfc(x)
    large = tail - 1.0 if x < 0 else 1.0 - tail
    return large if abs(x) > 1.0 else small


@inlined
def _normal(x):  # type: ignore[no-untyped-def]
    """P(X <= x) for a standard normal X."""
    x *= math.sqrt(0.5)
    small, tail = _erf_and_erfc(x)
    large = tail if x < 0 else 2.0 - tail
    return 0.5 * (large if abs(x) > 1.0 else 1.0 + small)


# ----------------------------------------------------------------------------------------------------------------------
# One pass
# ----------------------------------------------------------------------------------------------------------------------


def _one_pass(kernel: Any, otherwise: Any, *args: Any) -> Any:
    """Run `kernel(*flat pieces of arrays, y, *numbers)`; what is not for loops here is left to `otherwise`."""
    arrays, numbers = ([x for x in args if hasattr(x, "dtype") is kind] for kind in (True, False))
    if not is_ours(*arrays):
        return otherwise(*args)
    y = empty_like(arrays[0])
    y_flat, *flat = flattened(y, *arrays)
    flat.append(y_flat)
    options = [float(number) for number in numbers]
    for_ranges(lambda piece: kernel(*(a[piece] for a in flat), *options), y.size, PIECE)
    return y


def erf(x: Any) -> Any:
    """As `reference.erf`."""
    return _one_pass(_erf, blocked.erf, x)


@compiled_in_order
def _erf(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = _erf_(np.float64(x[i]))


def gelu(x: Any) -> Any:
    """As `reference.gelu`."""
    return _one_pass(_gelu, blocked.gelu, x)


@compiled_in_order
def _gelu(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        y[i] = (-100.0 if v < -100.0 else v) * _normal(v)  # -infinity * 0 is not a number


def gelu_grad(x: Any, gy: Any) -> Any:
    """As `reference.gelu_grad`."""
    return _one_pass(_gelu_grad, blocked.gelu_grad, x, gy)


@compiled_in_order
def _gelu_grad(x, gy, gx):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = _within(np.float64(x[i]), 100.0)
        gx[i] = gy[i] * (_normal(v) + v * exp_(-0.5 * v * v) * math.sqrt(0.5 / math.pi))


@inlined
def _gelu_tanh_w(x):  # type: ignore[no-untyped-def]
    return GELU_TANH[0] * (x + GELU_TANH[1] * x * x * x)


def gelu_tanh(x: Any) -> Any:
    """As `reference.gelu_tanh`."""
    return _one_pass(_gelu_tanh, blocked.gelu_tanh, x)


@compiled_in_order
def _gelu_tanh(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        v = -100.0 if v < -100.0 else v
        y[i] = v * sigmoid_(_gelu_tanh_w(v))


def gelu_tanh_grad(x: Any, gy: Any) -> Any:
    """As `reference.gelu_tanh_grad`."""
    return _one_pass(_gelu_tanh_grad, blocked.gelu_tanh_grad, x, gy)


@compiled_in_order
def _gelu_tanh_grad(x, gy, gx):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = _within(np.float64(x[i]), 100.0)
        s = sigmoid_(_gelu_tanh_w(v))
        rate = GELU_TANH[0] * (1.0 + 3.0 * GELU_TANH[1] * v * v)
        gx[i] = gy[i] * (s * (1.0 + (1.0 - s) * v * rate))


def silu(x: Any) -> Any:
    """As `reference.silu`."""
    return _one_pass(_silu, blocked.silu, x)


@compiled_in_order
def _silu(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        y[i] = (-1000.0 if v < -1000.0 else v) * sigmoid_(v)


def silu_grad(x: Any, gy: Any) -> Any:
    """As `reference.silu_grad`."""
    return _one_pass(_silu_grad, blocked.silu_grad, x, gy)


@compiled_in_order
def _silu_grad(x, gy, gx):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = _within(np.float64(x[i]), 1000.0)
        s = sigmoid_(v)
        gx[i] = gy[i] * (s * (1.0 + (1.0 - s) * v))


def elu(x: Any, alpha: float) -> Any:
    """As `reference.elu`."""
    return _one_pass(_elu, blocked.elu, x, alpha)


@compiled_in_order
def _elu(x, y, alpha):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        e = alpha * expm1_(0.0 if v > 0.0 else v)
        y[i] = v if v > 0.0 else e


def elu_grad(x: Any, gy: Any, alpha: float) -> Any:
    """As `reference.elu_grad`."""
    return _one_pass(_elu_grad, blocked.elu_grad, x, gy, alpha)


@compiled_in_order
def _elu_grad(x, gy, gx, alpha):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        e = alpha * exp_(0.0 if v > 0.0 else v)
        gx[i] = gy[i] * (1.0 if v > 0.0 else e)


def softplus(x: Any, beta: float) -> Any:
    """As `reference.softplus`."""
    return _one_pass(_softplus, blocked.softplus, x, beta)


@compiled_in_order
def _softplus(x, y, beta):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y[i] = _log1p_exp(x[i] * beta) / beta


def softplus_grad(x: Any, gy: Any, beta: float) -> Any:
    """As `reference.softplus_grad`."""
    return _one_pass(_softplus_grad, blocked.softplus_grad, x, gy, beta)


@compiled_in_order
def _softplus_grad(x, gy, gx, beta):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        gx[i] = gy[i] * sigmoid_(x[i] * beta)


def hard_swish(x: Any) -> Any:
    """As `reference.hard_swish`."""
    return _one_pass(_hard_swish, blocked.hard_swish, x)


@compiled_in_order
def _hard_swish(x, y):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        inside = _within(v, 3.0)
        y[i] = v if v >= 3.0 else inside * (inside + 3.0) / 6.0


def hard_swish_grad(x: Any, gy: Any) -> Any:
    """As `reference.hard_swish_grad`."""
    return _one_pass(_hard_swish_grad, blocked.hard_swish_grad, x, gy)


@compiled_in_order
def _hard_swish_grad(x, gy, gx):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        v = np.float64(x[i])
        g = gy[i] * (2.0 * _within(v, 3.0) + 3.0) / 6.0
        g = gy[i] if v >= 3.0 else g
        gx[i] = 0.0 if v <= -3.0 else g


def leaky_relu(x: Any, slope: float) -> Any:
    """As `reference.leaky_relu`."""
    return _one_pass(_leaky_relu, blocked.leaky_relu, x, slope)


@compiled_in_order
def _leaky_relu(x, y, slope):  # type: ignore[no-untyped-def]
    zero, slope = y.dtype.type(0), y.dtype.type(slope)  # not float64: memory alone takes time here
    for i in range(len(x)):
        v = x[i]
        y[i] = v if v > zero else v * slope


def leaky_relu_grad(x: Any, gy: Any, slope: float) -> Any:
    """As `reference.leaky_relu_grad`."""
    return _one_pass(_leaky_relu_grad, blocked.leaky_relu_grad, x, gy, slope)


@compiled_in_order
def _leaky_relu_grad(x, gy, gx, slope):  # type: ignore[no-untyped-def]
    zero, slope = gx.dtype.type(0), gx.dtype.type(slope)
    for i in range(len(x)):
        g = gy[i]
        gx[i] = g if x[i] > zero else g * slope
