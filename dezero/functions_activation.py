"""F: activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import (
    Function,
    Variable,
    as_floating,
    as_operand,
    check_axis,
    check_number,
    is_floating,
    reshape,
)
from dezero.functions_elementwise import erf, exp, expm1, tanh, where
from dezero.functions_reduction import sum

__all__ = [
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "elu",
    "gelu",
    "hard_swish",
    "leaky_relu",
    "log_softmax",
    "prelu",
    "relu",
    "sigmoid",
    "sigmoid_simple",
    "silu",
    "softmax",
    "softmax_simple",
    "softplus",
]


# ----------------------------------------------------------------------------------------------------------------------
# Sigmoid
# ----------------------------------------------------------------------------------------------------------------------


class Sigmoid(Function):
    def forward(self, x: Any) -> Any:
        return sigmoid_array(x)

    def backward(self, gy: Variable) -> Any:
        return SigmoidGrad()(self.outputs[0](), gy)


class SigmoidGrad(Function):
    """gx = gy * y * (1 - y): the gradient of y = sigmoid(x)."""

    def forward(self, y: Any, gy: Any) -> Any:
        return kernels.for_array(y).sigmoid_grad(y, gy)

    def backward(self, ggx: Variable) -> Any:
        y, gy = self.inputs
        return ggx * gy * (1 - 2 * y), SigmoidGrad()(y, ggx)


def sigmoid(x: Any) -> Variable:
    """y = 1 / (1 + exp(-x)), elementwise, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0]))
    variable([0.  0.5])
    """
    return Sigmoid()(x)


def sigmoid_array(x: Any) -> Any:
    """`sigmoid` on a plain array."""
    if not is_floating(x.dtype):
        x = x.astype(np.float64)
    return kernels.for_array(x).sigmoid(x)


def sigmoid_simple(x: Any) -> Variable:
    """`sigmoid` as its formula says it; overflows for very negative x."""
    return 1 / (1 + exp(-as_operand("sigmoid_simple", x)))


# ----------------------------------------------------------------------------------------------------------------------
# Rectifiers and their smooth relatives
# ----------------------------------------------------------------------------------------------------------------------


class ReLU(Function):
    operation = "relu"
    precision = "any"

    def forward(self, x: Any) -> Any:
        return kernels.for_array(x).relu(x)

    def backward(self, gy: Variable) -> Any:
        return ReLUGrad(self.inputs[0].data)(gy)


class ReLUGrad(Function):
    """gx = gy where x > 0, 0 elsewhere: linear in gy, and so its own gradient."""

    operation = "relu_grad"

    def __init__(self, x: Any) -> None:
        self.x = x

    def forward(self, gy: Any) -> Any:
        return kernels.for_array(gy).relu_grad(self.x, gy)

    def backward(self, ggx: Variable) -> Any:
        return ReLUGrad(self.x)(ggx)


def relu(x: Any) -> Variable:
    """y = max(x, 0), elementwise; the gradient at 0 is 0.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    variable([0. 0. 2.])
    """
    return ReLU()(x)


class LeakyReLU(Function):
    operation = "leaky_relu"
    precision = "any"

    def __init__(self, slope: float) -> None:
        self.slope = check_number("leaky_relu", "slope", slope)

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).where(x > 0, x, x * self.slope)

    def backward(self, gy: Variable) -> Any:
        x = self.inputs[0].data
        return gy * cuda.get_array_module(x).where(x > 0, gy.dtype.type(1), gy.dtype.type(self.slope))


def leaky_relu(x: Any, slope: float = 0.2) -> Variable:
    """y = x where x > 0, `slope` * x elsewhere.

    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]))
    variable([-0.2  0.   2. ])
    """
    return LeakyReLU(slope)(x)


class Softplus(Function):
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def forward(self, x: Any) -> Any:
        scaled = x * self.beta
        return cuda.get_array_module(x).logaddexp(scaled.dtype.type(0), scaled) / self.beta

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * sigmoid(x * self.beta)


def softplus(x: Any, beta: float = 1.0) -> Variable:
    """y = ln(1 + exp(beta x)) / beta, elementwise, without overflow: a smooth relu. Raises ValueError unless beta > 0.

    Source: Dugas et al., NIPS 2000.

    >>> softplus(np.array([-1000.0, 0.0, 10.0]))
    variable([ 0.          0.69314718 10.0000454 ])
    """
    beta = check_number("softplus", "beta", beta)
    if not 0 < beta < math.inf:
        raise ValueError(f"softplus: beta must be above 0 and finite, got {beta}")
    return Softplus(beta)(as_floating("softplus", x))


def elu(x: Any, alpha: float = 1.0) -> Variable:
    """y = x where x > 0, `alpha` * (exp(x) - 1) elsewhere. Source: Clevert et al., arXiv:1511.07289.

    >>> elu(np.array([-1000.0, 2.0]))
    variable([-1.  2.])
    """
    x, alpha = as_floating("elu", x), check_number("elu", "alpha", alpha)
    positive = x.data > 0
    return where(positive, x, alpha * expm1(where(positive, 0.0, x)))  # chosen first: exp of a large x overflows


def silu(x: Any) -> Variable:
    """y = x * sigmoid(x), elementwise, also called swish. Source: Elfwing et al., arXiv:1702.03118.

    >>> silu(np.array([-1000.0, 0.0, 1000.0]))
    variable([  -0.    0. 1000.])
    """
    x = as_floating("silu", x)
    return x * sigmoid(x)


def gelu(x: Any, approximate: str = "none") -> Variable:
    """y = x * P(X <= x) for a standard normal X, = x / 2 * (1 + erf(x / sqrt 2)), elementwise.

    Args:
        approximate: "none", or "tanh" for x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    Source: Hendrycks and Gimpel, arXiv:1606.08415.

    >>> gelu(np.array([-10.0, 0.0, 1.0]))
    variable([-0.          0.          0.84134475])
    """
    x = as_floating("gelu", x)
    if approximate == "none":
        return x * 0.5 * (1 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return x * 0.5 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


def hard_swish(x: Any) -> Variable:
    """y = x * min(max(x + 3, 0), 6) / 6, elementwise: `silu` made of straight lines and a parabola.

    Source: Howard et al., arXiv:1905.02244.

    >>> hard_swish(np.array([-4.0, 0.0, 1.0, 4.0]))
    variable([0.         0.         0.66666667 4.        ])
    """
    x = as_floating("hard_swish", x)
    inside = (x.data > -3) & (x.data < 3)
    middle = where(inside, x, 0.0)
    return where(inside, middle * (middle + 3) / 6, where(x.data < 0, 0.0, x))


def prelu(x: Any, W: Any) -> Variable:
    """y = x where x > 0, W * x elsewhere, with a slope W that is learned.

    Args:
        x: (N, C, ...), or any shape when W is one number.
        W: (1,) or (), or (C,), one slope for each channel.

    Raises ValueError when W has another shape. Source: He et al., arXiv:1502.01852.

    >>> prelu(np.array([[-1.0, -1.0]]), np.array([0.1, 0.2]))
    variable([[-0.1 -0.2]])
    """
    x = as_floating("prelu", x)
    W = as_operand("prelu", W, [x])
    if W.shape not in ((), (1,)):
        if x.ndim < 2 or W.shape != (x.shape[1],):
            raise ValueError(f"prelu: W must have one slope, or one for each channel of x {x.shape}, got {W.shape}")
        W = reshape(W, (-1,) + (1,) * (x.ndim - 2))
    return where(x.data > 0, x, W * x)


# ----------------------------------------------------------------------------------------------------------------------
# Softmax
# ----------------------------------------------------------------------------------------------------------------------


class Softmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        self.axis = check_axis(self.operation, x, self.axis)
        xp = cuda.get_array_module(x)
        if not x.size:
            return x.copy()
        y = xp.exp(x - x.max(axis=self.axis, keepdims=True))  # less the largest: exp of a large x overflows
        return y / y.sum(axis=self.axis, keepdims=True)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        gx = y * gy
        return gx - y * gx.sum(axis=self.axis, keepdims=True)


def softmax(x: Any, axis: Any = 1) -> Variable:
    """y = exp(x) / sum of exp(x) over `axis`: positive, and 1 in sum.

    >>> softmax(np.array([[0.0, np.log(3.0)]]))
    variable([[0.25 0.75]])
    """
    return Softmax(axis)(as_floating("softmax", x))


def softmax_simple(x: Any, axis: Any = 1) -> Variable:
    """`softmax` as its formula says it; overflows for large x."""
    y = exp(x)
    return y / sum(y, axis=axis, keepdims=True)


class LogSoftmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        self.axis = check_axis(self.operation, x, self.axis)
        x = x if is_floating(x.dtype) else x.astype(np.float64)
        return kernels.for_array(x).log_softmax(x, self.axis)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy - exp(y) * gy.sum(axis=self.axis, keepdims=True)


def log_softmax(x: Any, axis: Any = 1) -> Variable:
    """y = log softmax(x) = x - log of the sum of exp(x) over `axis`, without overflow.

    >>> log_softmax(np.array([[1000.0, 0.0]]))
    variable([[    0. -1000.]])
    """
    return LogSoftmax(axis)(x)
