"""F: activations."""

from __future__ import annotations

from typing import Any

from dezero import cuda
from dezero.core import Function, Variable, as_operand, as_python_number, check_axis
from dezero.functions_elementwise import exp
from dezero.functions_reduction import sum

__all__ = [
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "leaky_relu",
    "log_softmax",
    "relu",
    "sigmoid",
    "sigmoid_simple",
    "softmax",
    "softmax_simple",
]


class Sigmoid(Function):
    def forward(self, x: Any) -> Any:
        return sigmoid_array(x)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy * y * (1 - y)


def sigmoid(x: Any) -> Variable:
    """y = 1 / (1 + exp(-x)), elementwise, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0]))
    variable([0.  0.5])
    """
    return Sigmoid()(x)


def sigmoid_array(x: Any) -> Any:
    """`sigmoid` on a plain array."""
    # tanh form: exp(-x) overflows for very negative x
    half = x.dtype.type(0.5) if x.dtype.kind == "f" else 0.5
    return cuda.get_array_module(x).tanh(x * half) * half + half


def sigmoid_simple(x: Any) -> Variable:
    """`sigmoid` as its formula says it; overflows for very negative x."""
    return 1 / (1 + exp(-as_operand("sigmoid_simple", x)))


class ReLU(Function):
    operation = "relu"

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).maximum(x, x.dtype.type(0))

    def backward(self, gy: Variable) -> Any:
        return gy * (self.inputs[0].data > 0)


def relu(x: Any) -> Variable:
    """y = max(x, 0), elementwise; the gradient at 0 is 0.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    variable([0. 0. 2.])
    """
    return ReLU()(x)


class LeakyReLU(Function):
    operation = "leaky_relu"

    def __init__(self, slope: float) -> None:
        self.slope = as_python_number(slope)

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


class Softmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_axis(self.operation, x, self.axis)
        xp = cuda.get_array_module(x)
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
    return Softmax(axis)(x)


def softmax_simple(x: Any, axis: Any = 1) -> Variable:
    """`softmax` as its formula says it; overflows for large x."""
    y = exp(x)
    return y / sum(y, axis=axis, keepdims=True)


class LogSoftmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_axis(self.operation, x, self.axis)
        return x - logsumexp_array(x, self.axis)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy - exp(y) * gy.sum(axis=self.axis, keepdims=True)


def log_softmax(x: Any, axis: Any = 1) -> Variable:
    """y = log softmax(x) = x - log of the sum of exp(x) over `axis`, without overflow.

    >>> log_softmax(np.array([[1000.0, 0.0]]))
    variable([[    0. -1000.]])
    """
    return LogSoftmax(axis)(x)


def logsumexp_array(x: Any, axis: Any = 1) -> Any:
    """Log of the sum of exp(x) over `axis`, which is kept with size 1; on a plain array."""
    xp = cuda.get_array_module(x)
    largest = x.max(axis=axis, keepdims=True)
    return largest + xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True))
