"""F: operations on each element by itself. Arithmetic, abs and log are core's: Variable's operators need them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import (
    Function,
    Variable,
    as_python_number,
    check_broadcast,
    is_floating,
    pow,
)

__all__ = [
    "Arccos",
    "Arcsin",
    "Arctan",
    "Clip",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Expm1",
    "Log1p",
    "Log2",
    "Maximum",
    "Minimum",
    "Sign",
    "Sin",
    "Sinh",
    "Sqrt",
    "Square",
    "Tan",
    "Tanh",
    "Where",
    "arccos",
    "arcsin",
    "arctan",
    "clip",
    "cos",
    "cosh",
    "erf",
    "exp",
    "expm1",
    "log1p",
    "log2",
    "maximum",
    "minimum",
    "power",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "where",
]

power = pow  # NumPy's name


class Elementwise(Function):
    """A Function whose forward is NumPy's function of the same name; a subclass writes its derivative."""

    def forward(self, x: Any) -> Any:
        return getattr(cuda.get_array_module(x), self.operation)(x)


# ----------------------------------------------------------------------------------------------------------------------
# Trigonometric and hyperbolic
# ----------------------------------------------------------------------------------------------------------------------


class Sin(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * cos(x)


def sin(x: Any) -> Variable:
    """y = sin x, elementwise, x in radians.

    >>> sin(np.array([0.0, np.pi / 2]))
    variable([0. 1.])
    """
    return Sin()(x)


class Cos(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * -sin(x)


def cos(x: Any) -> Variable:
    """y = cos x, elementwise, x in radians.

    >>> cos(np.array([0.0, np.pi]))
    variable([ 1. -1.])
    """
    return Cos()(x)


class Tan(Elementwise):
    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy * (1 + y * y)


def tan(x: Any) -> Variable:
    """y = tan x = sin x / cos x, elementwise, x in radians.

    >>> tan(np.array([0.0, np.pi / 4]))
    variable([0. 1.])
    """
    return Tan()(x)


class Arcsin(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy / sqrt((1 - x) * (1 + x))  # 1 - x^2, and precise near 1


def arcsin(x: Any) -> Variable:
    """The angle y in -pi/2..pi/2 with sin y = x, elementwise; NaN outside -1..1.

    >>> arcsin(np.array([0.0, 0.5]))
    variable([0.         0.52359878])
    """
    return Arcsin()(x)


class Arccos(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return -gy / sqrt((1 - x) * (1 + x))


def arccos(x: Any) -> Variable:
    """The angle y in 0..pi with cos y = x, elementwise; NaN outside -1..1.

    >>> arccos(np.array([1.0, 0.5]))
    variable([0.         1.04719755])
    """
    return Arccos()(x)


class Arctan(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy / (1 + x * x)


def arctan(x: Any) -> Variable:
    """The angle y in -pi/2..pi/2 with tan y = x, elementwise.

    >>> arctan(np.array([0.0, 1.0]))
    variable([0.         0.78539816])
    """
    return Arctan()(x)


class Sinh(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * cosh(x)


def sinh(x: Any) -> Variable:
    """y = sinh x = (exp(x) - exp(-x)) / 2, elementwise.

    >>> sinh(np.array([0.0, 1.0]))
    variable([0.         1.17520119])
    """
    return Sinh()(x)


class Cosh(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * sinh(x)


def cosh(x: Any) -> Variable:
    """y = cosh x = (exp(x) + exp(-x)) / 2, elementwise.

    >>> cosh(np.array([0.0, 1.0]))
    variable([1.         1.54308063])
    """
    return Cosh()(x)


class Tanh(Function):
    def forward(self, x: Any) -> Any:
        return kernels.for_array(x).tanh(x)

    def backward(self, gy: Variable) -> Any:
        return TanhGrad()(self.outputs[0](), gy)


class TanhGrad(Function):
    """gx = gy * (1 - y * y): the gradient of y = tanh(x)."""

    def forward(self, y: Any, gy: Any) -> Any:
        return kernels.for_array(y).tanh_grad(y, gy)

    def backward(self, ggx: Variable) -> Any:
        y, gy = self.inputs
        return ggx * gy * (-2 * y), TanhGrad()(y, ggx)


def tanh(x: Any) -> Variable:
    """y = tanh x = sinh x / cosh x, elementwise.

    >>> tanh(np.array([0.0, 100.0]))
    variable([0. 1.])
    """
    return Tanh()(x)


# ----------------------------------------------------------------------------------------------------------------------
# Exponentials, logarithms, powers
# ----------------------------------------------------------------------------------------------------------------------


class Exp(Elementwise):
    def backward(self, gy: Variable) -> Any:
        return gy * self.outputs[0]()


def exp(x: Any) -> Variable:
    """y = e ** x, elementwise.

    >>> exp(np.array([0.0, 1.0]))
    variable([1.         2.71828183])
    """
    return Exp()(x)


class Expm1(Elementwise):
    def backward(self, gy: Variable) -> Any:
        return gy * (self.outputs[0]() + 1)


def expm1(x: Any) -> Variable:
    """y = e ** x - 1, elementwise, precise for small x.

    >>> expm1(np.array([0.0, 1e-20]))
    variable([0.e+00 1.e-20])
    """
    return Expm1()(x)


class Log1p(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy / (1 + x)


def log1p(x: Any) -> Variable:
    """y = ln(1 + x), elementwise, precise for small x; NaN below -1.

    >>> log1p(np.array([0.0, 1e-20]))
    variable([0.e+00 1.e-20])
    """
    return Log1p()(x)


class Log2(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy / (x * math.log(2))


def log2(x: Any) -> Variable:
    """y = the logarithm of x to base 2, elementwise; NaN for negative x.

    >>> log2(np.array([1.0, 8.0]))
    variable([0. 3.])
    """
    return Log2()(x)


class Sqrt(Elementwise):
    def backward(self, gy: Variable) -> Any:
        return gy / (2 * self.outputs[0]())


def sqrt(x: Any) -> Variable:
    """y = the square root of x, elementwise; NaN for negative x. The gradient at 0 is infinite.

    >>> sqrt(np.array([0.0, 9.0]))
    variable([0. 3.])
    """
    return Sqrt()(x)


class Square(Elementwise):
    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * (2 * x)


def square(x: Any) -> Variable:
    """y = x ** 2, elementwise.

    >>> square(np.array([-2.0, 3.0]))
    variable([4. 9.])
    """
    return Square()(x)


class Erf(Function):
    def forward(self, x: Any) -> Any:
        if not is_floating(x.dtype):
            x = x.astype(np.float64)
        return kernels.for_array(x).erf(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * exp(-x * x) * (2 / math.sqrt(math.pi))


def erf(x: Any) -> Variable:
    """The error function, y = 2/sqrt(pi) * integral of exp(-t^2) for t from 0 to x, elementwise.

    >>> erf(np.array([0.0, 1.0]))
    variable([0.         0.84270079])
    """
    return Erf()(x)


# ----------------------------------------------------------------------------------------------------------------------
# Signs, bounds, choices
# ----------------------------------------------------------------------------------------------------------------------


class Sign(Elementwise):
    precision = "any"

    def backward(self, gy: Variable) -> Any:
        return cuda.get_array_module(gy.data).zeros_like(gy.data)


def sign(x: Any) -> Variable:
    """y = -1, 0 or 1 as x is negative, zero or positive; the gradient is zero everywhere.

    >>> sign(np.array([-2.0, 0.0, 3.0]))
    variable([-1.  0.  1.])
    """
    return Sign()(x)


class Clip(Function):
    precision = "any"

    def __init__(self, x_min: Any, x_max: Any) -> None:
        if isinstance(x_min, Variable) or isinstance(x_max, Variable):
            raise TypeError("clip: x_min and x_max receive no gradient; give numbers or arrays, not Variables")
        self.x_min = as_python_number(x_min)
        self.x_max = as_python_number(x_max)

    def forward(self, x: Any) -> Any:
        cuda.check_same_device("clip", [x, *(b for b in (self.x_min, self.x_max) if cuda.is_array(b))])
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


class Maximum(Function):
    precision = "any"

    def forward(self, x0: Any, x1: Any) -> Any:
        check_broadcast(self.operation, x0, x1)
        return cuda.get_array_module(x0).maximum(x0, x1)

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        y = self.outputs[0]().data
        chosen0, chosen1 = x0.data == y, x1.data == y
        half = gy.dtype.type(0.5)  # each, where they tie
        return gy * (chosen0 * (1 - half * chosen1)), gy * (chosen1 * (1 - half * chosen0))


def maximum(x0: Any, x1: Any) -> Variable:
    """y = the larger of x0 and x1, elementwise, broadcasting; elements that tie share the gradient equally.

    >>> maximum(np.array([1.0, 5.0]), np.array([2.0, 4.0]))
    variable([2. 5.])
    """
    return Maximum()(x0, x1)


class Minimum(Maximum):
    def forward(self, x0: Any, x1: Any) -> Any:
        check_broadcast(self.operation, x0, x1)
        return cuda.get_array_module(x0).minimum(x0, x1)


def minimum(x0: Any, x1: Any) -> Variable:
    """y = the smaller of x0 and x1, elementwise, broadcasting; elements that tie share the gradient equally.

    >>> minimum(np.array([1.0, 5.0]), np.array([2.0, 4.0]))
    variable([1. 4.])
    """
    return Minimum()(x0, x1)


class Where(Function):
    precision = "any"

    def __init__(self, condition: Any) -> None:
        self.condition = np.asarray(condition) if isinstance(condition, (bool, np.bool_)) else cuda.plain(condition)
        if not cuda.is_array(self.condition) or self.condition.dtype.kind != "b":
            got = self.condition.dtype if cuda.is_array(self.condition) else type(condition).__name__
            raise TypeError(f"where: condition must be an array of booleans, such as x > 0, got {got}")

    def forward(self, x0: Any, x1: Any) -> Any:
        check_broadcast(self.operation, x0, x1)
        check_broadcast("where: condition and x0", self.condition, x0)
        check_broadcast("where: condition and x1", self.condition, x1)
        xp, condition = cuda.get_array_module(x0), self.condition
        if isinstance(condition, np.ndarray) and condition.ndim == 0:
            condition = xp.asarray(condition)
        cuda.check_same_device("where: x0, x1 and condition", [x0, x1, condition])
        return xp.where(condition, x0, x1)

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        gx0 = where(self.condition, gy, 0.0) if x0.requires_grad else None
        return gx0, where(self.condition, 0.0, gy) if x1.requires_grad else None


def where(condition: Any, x0: Any, x1: Any) -> Variable:
    """y = x0 where `condition` is true and x1 elsewhere, broadcasting.

    What was not chosen receives the gradient 0. To keep an infinite slope out, choose first: sqrt(where(x > 0, x, 1.0))
    has finite gradients; where(x > 0, sqrt(x), 1.0) has 0 * infinity, NaN, at 0.

    Raises TypeError when `condition` is not an array of booleans, ValueError when the shapes do not broadcast.

    >>> where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    variable([1. 0.])
    """
    return Where(condition)(x0, x1)
