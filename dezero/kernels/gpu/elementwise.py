"""Activations and their gradients: one launch each, over arrays of any layout."""

from __future__ import annotations

from typing import Any

from dezero.kernels.gpu.launch import C_TYPES, remembered, sums_of

# name: (in, out, operation). A is the type that is computed in, see `launch`, that of T. A gradient is of gy's dtype.
OPERATIONS = {
    "relu": ("T x", "T y", "y = x < 0.0f ? (T)(A)0 : x"),  # which lets NaN through
    "bias_relu": ("T x, T b", "T y", "const T v = (T)((A)x + (A)b); y = v < 0.0f ? (T)(A)0 : v"),
    "relu_grad": ("X x, T gy", "T gx", "gx = x > 0.0f ? gy : (T)(A)0"),
    "sigmoid": (
        "T x",
        "T y",
        "const A v = (A)x, z = exp(v < 0 ? v : -v);"  # not exp(-x), which overflows for very negative x
        "y = (T)((v < 0 ? z : (A)1) / (1 + z))",
    ),
    "sigmoid_grad": ("X y, T gy", "T gx", "gx = (T)((A)gy * (A)y * (1 - (A)y))"),
    "tanh_grad": ("X y, T gy", "T gx", "gx = (T)((A)gy * (1 - (A)y * (A)y))"),
}


def _apply(name: str, dtype: Any, *arrays: Any) -> Any:
    return remembered((name, dtype), _make, name, dtype)(*arrays)


def _make(cupy: Any, name: str, dtype: Any) -> Any:
    return kernel_of(cupy, name, OPERATIONS[name], dtype)


def kernel_of(cupy: Any, name: str, operation: tuple[str, str, str], dtype: Any) -> Any:
    """CuPy's kernel of (in, out, operation), whose A goes with arrays of `dtype`."""
    A = C_TYPES[sums_of(dtype.name)]
    return cupy.ElementwiseKernel(*operation, f"dezero_{name}", preamble=f"typedef {A} A;")


def relu(x: Any) -> Any:
    """As `reference.relu`."""
    return _apply("relu", x.dtype, x)


def add_and_rectify(y: Any, b: Any) -> Any:
    """y = relu(y + b), in place and in one launch: y (N, C, H, W), b (C,) or None. The bits are those of two."""
    return _apply("relu", y.dtype, y, y) if b is None else _apply("bias_relu", y.dtype, y, b[:, None, None], y)


def relu_grad(x: Any, gy: Any) -> Any:
    """As `reference.relu_grad`."""
    return _apply("relu_grad", gy.dtype, x, gy)


def sigmoid(x: Any) -> Any:
    """As `reference.sigmoid`."""
    return _apply("sigmoid", x.dtype, x)


def sigmoid_grad(y: Any, gy: Any) -> Any:
    """As `reference.sigmoid_grad`."""
    return _apply("sigmoid_grad", gy.dtype, y, gy)


def tanh_grad(y: Any, gy: Any) -> Any:
    """As `reference.tanh_grad`."""
    return _apply("tanh_grad", gy.dtype, y, gy)
