"""The core as the book's steps 23-32 know it: small enough to read in one sitting.

Variables hold scalars or arrays, operations work elementwise on arrays of one shape, and gradients are plain arrays, so
a derivative cannot be derived again: `core.py` can, because there gradients are Variables.

>>> x = Variable(np.array(2.0))
>>> y = x**2 + 1.0
>>> y.backward()
>>> x.grad
np.float64(4.0)
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np


class Config:
    """Whether operations record a graph."""

    enable_backprop = True


@contextlib.contextmanager
def using_config(name: str, value: Any) -> Iterator[None]:
    """Set `Config.name` to `value` inside a `with` block."""
    old_value = getattr(Config, name)
    setattr(Config, name, value)
    try:
        yield
    finally:
        setattr(Config, name, old_value)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Record no graph inside the `with` block."""
    return using_config("enable_backprop", False)


class Variable:
    """A box around one array that knows its creator and receives a gradient."""

    __array_ufunc__ = None  # NumPy's operators leave `array * v` to Variable

    def __init__(self, data: Any, name: str | None = None) -> None:
        if data is not None and not isinstance(data, np.ndarray):
            raise TypeError(
                f"Variable: data must be an array, got {type(data).__name__}; write Variable(np.array({data!r:.60}))"
            )
        self.data: Any = data
        self.name = name
        self.grad: Any = None
        self.creator: Function | None = None
        self.generation = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return "variable(" + str(self.data).replace("\n", "\n" + " " * 9) + ")"

    def set_creator(self, func: Function) -> None:
        self.creator = func
        self.generation = func.generation + 1

    def cleargrad(self) -> None:
        self.grad = None

    def backward(self, retain_grad: bool = False) -> None:
        """Hand gradients from this Variable to everything it was computed from, newest generation first."""
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable, outside no_grad()")
        if self.grad is None:
            self.grad = np.ones_like(self.data)

        order = itertools.count()  # breaks ties between functions of one generation
        queue = [(-self.creator.generation, next(order), self.creator)]
        seen = {self.creator}
        while queue:
            _, _, func = heapq.heappop(queue)
            gys = [y().grad for y in func.outputs]
            gxs = func.backward(*gys)
            for x, gx in zip(func.inputs, gxs if isinstance(gxs, tuple) else (gxs,), strict=True):
                x.grad = gx if x.grad is None else x.grad + gx
                if x.creator is not None and x.creator not in seen:
                    seen.add(x.creator)
                    heapq.heappush(queue, (-x.creator.generation, next(order), x.creator))
            if not retain_grad:
                for y in func.outputs:
                    y().cleargrad()

    def __neg__(self) -> Variable:
        return neg(self)

    def __add__(self, other: Any) -> Variable:
        return add(self, other)

    def __mul__(self, other: Any) -> Variable:
        return mul(self, other)

    def __sub__(self, other: Any) -> Variable:
        return sub(self, other)

    def __truediv__(self, other: Any) -> Variable:
        return div(self, other)

    def __pow__(self, exponent: float) -> Variable:
        return pow(self, exponent)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Variable:
        return rsub(self, other)

    def __rtruediv__(self, other: Any) -> Variable:
        return rdiv(self, other)


def as_variable(obj: Any) -> Variable:
    """Return `obj` itself when it is a Variable, else a Variable around it."""
    return obj if isinstance(obj, Variable) else Variable(obj)


def as_array(x: Any) -> Any:
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


def setup_variable() -> None:
    """Do nothing: Variable's operators are there from the start. Old programs call it."""


class Function:
    """An operation: a subclass writes `forward` and `backward`, both on plain arrays."""

    inputs: list[Variable]
    outputs: list[Any]
    generation = 0

    def __call__(self, *inputs: Any) -> Any:
        variables = [as_variable(x) for x in inputs]
        ys = self.forward(*(x.data for x in variables))
        outputs = [Variable(as_array(y)) for y in (ys if isinstance(ys, tuple) else (ys,))]
        if Config.enable_backprop:
            self.generation = max(x.generation for x in variables)
            for y in outputs:
                y.set_creator(self)
            self.inputs = variables
            self.outputs = [weakref.ref(y) for y in outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    def forward(self, *xs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, *gys: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Add(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        return x0 + x1

    def backward(self, gy: Any) -> Any:
        return gy, gy


def add(x0: Any, x1: Any) -> Variable:
    """y = x0 + x1."""
    return Add()(x0, as_array(x1))


class Mul(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        return x0 * x1

    def backward(self, gy: Any) -> Any:
        x0, x1 = self.inputs
        return gy * x1.data, gy * x0.data


def mul(x0: Any, x1: Any) -> Variable:
    """y = x0 * x1."""
    return Mul()(x0, as_array(x1))


class Neg(Function):
    def forward(self, x: Any) -> Any:
        return -x

    def backward(self, gy: Any) -> Any:
        return -gy


def neg(x: Any) -> Variable:
    """y = -x."""
    return Neg()(x)


class Sub(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        return x0 - x1

    def backward(self, gy: Any) -> Any:
        return gy, -gy


def sub(x0: Any, x1: Any) -> Variable:
    """y = x0 - x1."""
    return Sub()(x0, as_array(x1))


def rsub(x0: Any, x1: Any) -> Variable:
    """y = x1 - x0."""
    return Sub()(as_array(x1), x0)


class Div(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        return x0 / x1

    def backward(self, gy: Any) -> Any:
        x0, x1 = self.inputs
        return gy / x1.data, -gy * x0.data / x1.data**2


def div(x0: Any, x1: Any) -> Variable:
    """y = x0 / x1."""
    return Div()(x0, as_array(x1))


def rdiv(x0: Any, x1: Any) -> Variable:
    """y = x1 / x0."""
    return Div()(as_array(x1), x0)


class Pow(Function):
    def __init__(self, c: float) -> None:
        self.c = c

    def forward(self, x: Any) -> Any:
        return x**self.c

    def backward(self, gy: Any) -> Any:
        (x,) = self.inputs
        return self.c * x.data ** (self.c - 1) * gy


def pow(x: Any, c: float) -> Variable:
    """y = x ** c for a number c."""
    return Pow(c)(x)
