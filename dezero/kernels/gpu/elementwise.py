"""Activations and their gradients, sums of two and casts: one launch each, over arrays of any layout.

Images with channels last in memory stay so.
"""

from __future__ import annotations

import math
from typing import Any

from dezero.kernels import reference
from dezero.kernels.gpu import channels
from dezero.kernels.gpu.launch import C_TYPES, remembered, sums_of
from dezero.kernels.reference import GELU_TANH

# name: (in, out, operation). A is the type that is computed in, see `launch`, that of T. A gradient is of gy's dtype.
OPERATIONS = {
    "relu": ("T x", "T y", "y = x < 0.0f ? (T)(A)0 : x"),  # which lets NaN through
    "bias_relu": ("T x, T b", "T y", "const T v = (T)((A)x + (A)b); y = v < 0.0f ? (T)(A)0 : v"),
    "relu_grad": ("X x, T gy", "T gx", "gx = x > 0.0f ? gy : (T)(A)0"),
    "sigmoid": ("T x", "T y", "y = (T)logistic((A)x)"),
    "sigmoid_grad": ("X y, T gy", "T gx", "gx = (T)((A)gy * (A)y * (1 - (A)y))"),
    "tanh_grad": ("X y, T gy", "T gx", "gx = (T)((A)gy * (1 - (A)y * (A)y))"),
    "erf": ("T x", "T y", "y = (T)erf((A)x)"),
    "gelu": ("T x", "T y", "const A v = within((A)x, 100); y = (T)((v < 100 ? v : (A)x) * normal(v))"),
    "gelu_grad": (
        "X x, T gy",
        "T gx",
        "const A v = within((A)x, 100);"
        f"gx = (T)((A)gy * (normal(v) + v * exp((A)-0.5 * v * v) * (A){math.sqrt(0.5 / math.pi)!r}))",
    ),
    "gelu_tanh": (
        "T x",
        "T y",
        "const A v = within((A)x, 100); y = (T)((v < 100 ? v : (A)x) * logistic(gelu_tanh_w(v)))",
    ),
    "gelu_tanh_grad": (
        "X x, T gy",
        "T gx",
        "const A v = within((A)x, 100), s = logistic(gelu_tanh_w(v));"
        f"const A rate = (A){GELU_TANH[0]!r} * (1 + (A){3 * GELU_TANH[1]!r} * v * v);"
        "gx = (T)((A)gy * (s * (1 + (1 - s) * v * rate)))",
    ),
    "silu": ("T x", "T y", "const A v = (A)x < -1000 ? (A)-1000 : (A)x; y = (T)(v * logistic(v))"),
    "silu_grad": (
        "X x, T gy",
        "T gx",
        "const A v = within((A)x, 1000), s = logistic(v); gx = (T)((A)gy * (s * (1 + (1 - s) * v)))",
    ),
    "elu": ("T x, float64 alpha", "T y", "const A v = (A)x; y = v > 0 ? x : (T)((A)alpha * expm1(v))"),
    "elu_grad": (
        "X x, T gy, float64 alpha",
        "T gx",
        "const A v = (A)x; gx = v > 0 ? gy : (T)((A)gy * ((A)alpha * exp(v)))",
    ),
    "softplus": (
        "T x, float64 beta",
        "T y",
        "const A v = (A)x * (A)beta; y = (T)(((v < 0 ? (A)0 : v) + log1p(exp(v < 0 ? v : -v))) / (A)beta)",
    ),
    "softplus_grad": ("X x, T gy, float64 beta", "T gx", "gx = (T)((A)gy * logistic((A)x * (A)beta))"),
    "hard_swish": (
        "T x",
        "T y",
        "const A v = (A)x, inside = within(v, 3); y = v >= 3 ? x : (T)(inside * (inside + 3) / 6)",
    ),
    "hard_swish_grad": (
        "X x, T gy",
        "T gx",
        "const A v = (A)x; gx = v >= 3 ? gy : v <= -3 ? (T)(A)0 : (T)((A)gy * ((2 * v + 3) / 6))",
    ),
    "leaky_relu": ("T x, float64 slope", "T y", "const A v = (A)x; y = v > 0 ? x : (T)(v * (A)slope)"),
    "leaky_relu_grad": (
        "X x, T gy, float64 slope",
        "T gx",
        "gx = (A)x > 0 ? gy : (T)((A)gy * (A)slope)",
    ),
    "update_statistics": (
        "X batch_mean, Y batch_var, float64 decay, float64 unbias",
        "T mean, U var",
        "const A old = (A)decay, rest = (A)(1 - decay);"
        "mean = (T)(old * (A)mean + rest * (A)batch_mean);"
        "var = (U)(old * (A)var + rest * ((A)unbias * (A)batch_var))",
    ),
}

# What several of them need. Beyond +-100 or +-1000 functions are what they are at infinity, but infinity * 0 is NaN.
PREAMBLE = f"""
__device__ A logistic(A x)
{{
    const A z = exp(x < 0 ? x : -x);  // not exp(-x), which overflows for very negative x
    return (x < 0 ? z : (A)1) / (1 + z);
}}
__device__ A normal(A x) {{ return (A)0.5 * erfc(x * (A){-math.sqrt(0.5)!r}); }}  // P(X <= x) for a standard normal X
__device__ A gelu_tanh_w(A x) {{ return (A){GELU_TANH[0]!r} * (x + (A){GELU_TANH[1]!r} * x * x * x); }}
__device__ A within(A x, A most) {{ return x < -most ? -most : x > most ? most : x; }}
"""


def _apply(name: str, dtype: Any, *arrays: Any) -> Any:
    return channels.elementwise(remembered((name, dtype), _make, name, dtype), *arrays)


def _make(cupy: Any, name: str, dtype: Any) -> Any:
    return kernel_of(cupy, name, OPERATIONS[name], dtype)


def kernel_of(cupy: Any, name: str, operation: tuple[str, str, str], dtype: Any) -> Any:
    """CuPy's kernel of (in, out, operation), whose A goes with arrays of `dtype`."""
    A = C_TYPES[sums_of(dtype.name)]
    preamble = PREAMBLE if A in ("float", "double") else ""  # integers have no exponentials
    return cupy.ElementwiseKernel(*operation, f"dezero_{name}", preamble=f"typedef {A} A;{preamble}")


def relu(x: Any) -> Any:
    """As `reference.relu`."""
    return _apply("relu", x.dtype, x)


def add_and_rectify(y: Any, b: Any) -> Any:
    """y = relu(y + b), in place and in one launch: y (N, C, H, W), b (C,) or None. The bits are those of two."""
    return _apply("relu", y.dtype, y, y) if b is None else _apply("bias_relu", y.dtype, y, b[None, :, None, None], y)


def relu_grad(x: Any, gy: Any) -> Any:
    """As `reference.relu_grad`."""
    return _apply("relu_grad", gy.dtype, x, gy)


def sigmoid(x: Any) -> Any:
    """As `reference.sigmoid`."""
    return _apply("sigmoid", x.dtype, x)


def sigmoid_grad(y: Any, gy: Any) -> Any:
    """As `reference.sigmoid_grad`."""
    return _apply("sigmoid_grad", gy.dtype, y, gy)


def tanh(x: Any) -> Any:
    """As `reference.tanh`."""
    return channels.elementwise(reference.tanh, x)


def tanh_grad(y: Any, gy: Any) -> Any:
    """As `reference.tanh_grad`."""
    return _apply("tanh_grad", gy.dtype, y, gy)


def erf(x: Any) -> Any:
    """As `reference.erf`."""
    return _apply("erf", x.dtype, x)


def gelu(x: Any) -> Any:
    """As `reference.gelu`."""
    return _apply("gelu", x.dtype, x)


def gelu_grad(x: Any, gy: Any) -> Any:
    """As `reference.gelu_grad`."""
    return _apply("gelu_grad", gy.dtype, x, gy)


def gelu_tanh(x: Any) -> Any:
    """As `reference.gelu_tanh`."""
    return _apply("gelu_tanh", x.dtype, x)


def gelu_tanh_grad(x: Any, gy: Any) -> Any:
    """As `reference.gelu_tanh_grad`."""
    return _apply("gelu_tanh_grad", gy.dtype, x, gy)


def silu(x: Any) -> Any:
    """As `reference.silu`."""
    return _apply("silu", x.dtype, x)


def silu_grad(x: Any, gy: Any) -> Any:
    """As `reference.silu_grad`."""
    return _apply("silu_grad", gy.dtype, x, gy)


def elu(x: Any, alpha: float) -> Any:
    """As `reference.elu`."""
    return _apply("elu", x.dtype, x, alpha)


def elu_grad(x: Any, gy: Any, alpha: float) -> Any:
    """As `reference.elu_grad`."""
    return _apply("elu_grad", gy.dtype, x, gy, alpha)


def softplus(x: Any, beta: float) -> Any:
    """As `reference.softplus`."""
    return _apply("softplus", x.dtype, x, beta)


def softplus_grad(x: Any, gy: Any, beta: float) -> Any:
    """As `reference.softplus_grad`."""
    return _apply("softplus_grad", gy.dtype, x, gy, beta)


def hard_swish(x: Any) -> Any:
    """As `reference.hard_swish`."""
    return _apply("hard_swish", x.dtype, x)


def hard_swish_grad(x: Any, gy: Any) -> Any:
    """As `reference.hard_swish_grad`."""
    return _apply("hard_swish_grad", gy.dtype, x, gy)


def leaky_relu(x: Any, slope: float) -> Any:
    """As `reference.leaky_relu`."""
    return _apply("leaky_relu", x.dtype, x, slope)


def leaky_relu_grad(x: Any, gy: Any, slope: float) -> Any:
    """As `reference.leaky_relu_grad`."""
    return _apply("leaky_relu_grad", gy.dtype, x, gy, slope)


def update_statistics(mean: Any, var: Any, batch_mean: Any, batch_var: Any, decay: float, count: int) -> None:
    """As `reference.update_statistics`."""
    unbias = count / max(count - 1, 1)
    _apply("update_statistics", mean.dtype, batch_mean, batch_var, decay, unbias, mean, var)


def add(x0: Any, x1: Any) -> Any:
    """As `reference.add`."""
    return channels.elementwise(reference.add, x0, x1) if x0.ndim == x1.ndim else x0 + x1


def astype(x: Any, dtype: Any) -> Any:
    """As `reference.astype`."""
    return channels.elementwise(lambda x: reference.astype(x, dtype), x)
