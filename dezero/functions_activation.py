"""F: activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import (
    Config,
    Function,
    Variable,
    as_floating,
    as_operand,
    check_axis,
    check_number,
    is_floating,
    reshape,
)
from dezero.functions_elementwise import clip, erf, exp, where
from dezero.functions_reduction import sum

__all__ = [
    "ELU",
    "GELU",
    "GELUTanh",
    "HardSwish",
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "SiLU",
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


class Activation(Function):
    """An operation on each element with two kernels, for y and for the gradient: one pass over memory each.

    The kernels are named after the operation: `silu(x, *numbers)` and `silu_grad(x, gy, *numbers)`. A subclass writes
    `derivative(x)` with F's operations: where a graph of gradients is recorded it takes the kernel's place.
    """

    def __init__(self, *numbers: float) -> None:
        self.numbers = numbers

    def forward(self, x: Any) -> Any:
        x = x if is_floating(x.dtype) else x.astype(np.float64)
        return getattr(kernels.for_array(x), self.operation)(x, *self.numbers)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * self.derivative(x) if Config.enable_backprop else ActivationGrad(self)(x, gy)

    def derivative(self, x: Variable) -> Any:
        """dy / dx, a Variable or an array."""
        raise NotImplementedError(f"{type(self).__name__} has no derivative method")


class ActivationGrad(Function):
    """The gradient of an `Activation`, straight on arrays: for when no graph of it is recorded."""

    def __init__(self, activation: Activation) -> None:
        self.operation = f"{activation.operation}_grad"
        self.precision = activation.precision
        self.numbers = activation.numbers

    def forward(self, x: Any, gy: Any) -> Any:
        x = x if is_floating(x.dtype) else x.astype(np.float64)
        return getattr(kernels.for_array(x), self.operation)(x, gy, *self.numbers)


class LeakyReLU(Activation):
    operation = "leaky_relu"
    precision = "any"

    def __init__(self, slope: float) -> None:
        self.slope = check_number("leaky_relu", "slope", slope)
        super().__init__(self.slope)

    def derivative(self, x: Variable) -> Any:
        dtype = x.dtype if is_floating(x.dtype) else np.dtype(np.float64)
        return cuda.get_array_module(x.data).where(x.data > 0, dtype.type(1), dtype.type(self.slope))


def leaky_relu(x: Any, slope: float = 0.2) -> Variable:
    """y = x where x > 0, `slope` * x elsewhere.

    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]))
    variable([-0.2  0.   2. ])
    """
    return LeakyReLU(slope)(x)


class Softplus(Activation):
    def derivative(self, x: Variable) -> Any:
        (beta,) = self.numbers
        return sigmoid(x * beta)


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


class ELU(Activation):
    operation = "elu"

    def derivative(self, x: Variable) -> Any:
        (alpha,) = self.numbers
        positive = x.data > 0
        return where(positive, 1.0, alpha * exp(where(positive, 0.0, x)))  # chosen first: exp of a large x overflows


def elu(x: Any, alpha: float = 1.0) -> Variable:
    """y = x where x > 0, `alpha` * (exp(x) - 1) elsewhere. Source: Clevert et al., arXiv:1511.07289.

    >>> elu(np.array([-1000.0, 2.0]))
    variable([-1.  2.])
    """
    x = as_floating("elu", x)
    return ELU(check_number("elu", "alpha", alpha))(x)


class SiLU(Activation):
    operation = "silu"

    def derivative(self, x: Variable) -> Any:
        x = clip(x, -1000, 1000)
        s = sigmoid(x)
        return s * (1 + x * (1 - s))


def silu(x: Any) -> Variable:
    """y = x * sigmoid(x), elementwise, also called swish. Source: Elfwing et al., arXiv:1702.03118.

    >>> silu(np.array([-1000.0, 0.0, 1000.0]))
    variable([  -0.    0. 1000.])
    """
    return SiLU()(as_floating("silu", x))


class GELU(Activation):
    operation = "gelu"

    def derivative(self, x: Variable) -> Any:
        x = clip(x, -100, 100)
        return 0.5 * (1 + erf(x * math.sqrt(0.5))) + x * exp(x * x * -0.5) * math.sqrt(0.5 / math.pi)


class GELUTanh(Activation):
    operation = "gelu_tanh"

    def derivative(self, x: Variable) -> Any:
        x = clip(x, -100, 100)
        rate, cubic = 2 * math.sqrt(2 / math.pi), 0.044715
        s = sigmoid(rate * (x + cubic * x * x * x))  # 2 sigmoid(w) - 1 is tanh(w / 2)
        return s * (1 + x * (1 - s) * (rate * (1 + 3 * cubic * x * x)))


def gelu(x: Any, approximate: str = "none") -> Variable:
    """y = x * P(X <= x) for a standard normal X, = x / 2 * (1 + erf(x / sqrt 2)), elementwise.

    Args:
        approximate: "none", or "tanh" for x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    Source: Hendrycks and Gimpel, arXiv:1606.08415.

    >>> gelu(np.array([-1000.0, 0.0, 1.0]))
    variable([-0.          0.          0.84134475])
    """
    x = as_floating("gelu", x)
    if approximate == "none":
        return GELU()(x)
    if approximate == "tanh":
        return GELUTanh()(x)
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


class HardSwish(Activation):
    def derivative(self, x: Variable) -> Any:
        inside = (x.data > -3) & (x.data < 3)
        return where(inside, (2 * where(inside, x, 0.0) + 3) / 6, (x.data >= 3).astype(x.dtype))


def hard_swish(x: Any) -> Variable:
    """y = x * min(max(x + 3, 0), 6) / 6, elementwise: `silu` made of straight lines and a parabola.

    Source: Howard et al., arXiv:1905.02244.

    >>> hard_swish(np.array([-4.0, 0.0, 1.0, 4.0]))
    variable([-0.          0.          0.66666667  4.        ])
    """
    return HardSwish()(as_floating("hard_swish", x))


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
