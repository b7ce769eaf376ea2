"""F: operations on each element by itself."""

from __future__ import annotations

from typing import Any

from dezero import cuda
from dezero.core import Function, Variable, as_python_number

__all__ = [
    "Clip",
    "Cos",
    "Exp",
    "Sin",
    "Tanh",
    "clip",
    "cos",
    "exp",
    "sin",
    "tanh",
]


class Sin(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).sin(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * cos(x)


def sin(x: Any) -> Variable:
    """y = sin x, elementwise.

    >>> sin(np.array([0.0, np.pi / 2]))
    variable([0. 1.])
    """
    return Sin()(x)


class Cos(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).cos(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * -sin(x)


def cos(x: Any) -> Variable:
    """y = cos x, elementwise.

    >>> cos(np.array([0.0, np.pi]))
    variable([ 1. -1.])
    """
    return Cos()(x)


class Tanh(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).tanh(x)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy * (1 - y * y)


def tanh(x: Any) -> Variable:
    """y = tanh x, elementwise.

    >>> tanh(np.array([0.0, 100.0]))
    variable([0. 1.])
    """
    return Tanh()(x)


class Exp(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).exp(x)

    def backward(self, gy: Variable) -> Any:
        return gy * self.outputs[0]()


def exp(x: Any) -> Variable:
    """y = e ** x, elementwise.

    >>> exp(np.array([0.0, 1.0]))
    variable([1.         2.71828183])
    """
    return Exp()(x)


class Clip(Function):
    def __init__(self, x_min: Any, x_max: Any) -> None:
        if isinstance(x_min, Variable) or isinstance(x_max, Variable):
            raise TypeError("clip: x_min and x_max receive no gradient; give numbers or arrays, not Variables")
        self.x_min = as_python_number(x_min)
        self.x_max = as_python_number(x_max)

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).clip(x, self.x_min, self.x_max)

    def backward(self, gy: Variable) -> Any:
        x = self.inputs[0].data
        inside = x == x  # everything, but what is not a number
        if self.x_min is not None:
            inside &= x >= self.x_min
        if self.x_max is not None:
            inside &= x <= self.x_max
        return gy * inside


def clip(x: Any, x_min: Any, x_max: Any) -> Variable:
    """y = x, but x_min where x is less and x_max where x is more; the gradient is 0 there. None is no bound.

    >>> clip(np.array([-2.0, 0.5, 2.0]), -1.0, 1.0)
    variable([-1.   0.5  1. ])
    """
    return Clip(x_min, x_max)(x)
