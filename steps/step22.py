"""Step 22. Operators, third part: minus, division, powers.

Question: What is missing until a formula can be written down as it stands in a textbook?

Four operators: -x, x - y, x / y and x ** c. Addition and multiplication do not care which side is which. Subtraction
and division do, so a number on the left needs a function of its own: for 1 - x Python asks 1 whether it can subtract
a Variable, hears no, and then asks x by the name __rsub__. The derivatives are those of the textbook:

    y = -x        dy/dx  = -1
    y = x0 - x1   dy/dx0 = 1          dy/dx1 = -1
    y = x0 / x1   dy/dx0 = 1 / x1     dy/dx1 = -x0 / x1 ** 2
    y = x ** c    dy/dx  = c * x ** (c - 1)

Square is a power now, and functions like Exp will live in files of their own, so both leave the core. What remains
is, but for the types written beside the names and one function that old programs call, dezero/core_simple.py: less
than three hundred lines, all of which were explained on the way here.

New: Variable.__neg__, Variable.__sub__, Variable.__truediv__, Variable.__pow__, Variable.__rsub__,
    Variable.__rtruediv__, Neg, neg, Sub, sub, rsub, Div, div, rdiv, Pow, pow
Gone: Square, square, Exp, exp
Look at: formulas as they are written on paper, and each gradient beside its numerical estimate.
"""

import contextlib
import heapq
import itertools
import weakref

import numpy as np


class Config:
    """Whether operations record a graph."""

    enable_backprop = True


@contextlib.contextmanager
def using_config(name, value):
    """Set `Config.name` to `value` inside a `with` block."""
    old_value = getattr(Config, name)
    setattr(Config, name, value)
    try:
        yield
    finally:
        setattr(Config, name, old_value)


def no_grad():
    """Record no graph inside the `with` block."""
    return using_config("enable_backprop", False)


class Variable:
    """A box around one array."""

    __array_ufunc__ = None  # NumPy's operators leave `array * v` to Variable

    def __init__(self, data, name=None):
        if data is not None and not isinstance(data, np.ndarray):
            raise TypeError(
                f"Variable: data must be an array, got {type(data).__name__}; write Variable(np.array({data!r:.60}))"
            )
        self.data = data
        self.name = name
        self.grad = None
        self.creator = None
        self.generation = 0

    @property
    def shape(self):
        return self.data.shape

    @property
    def ndim(self):
        return self.data.ndim

    @property
    def size(self):
        return self.data.size

    @property
    def dtype(self):
        return self.data.dtype

    def __len__(self):
        return len(self.data)

    def __repr__(self):
        return "variable(" + str(self.data).replace("\n", "\n" + " " * 9) + ")"

    def set_creator(self, func):
        self.creator = func
        self.generation = func.generation + 1

    def cleargrad(self):
        self.grad = None

    def backward(self, retain_grad=False):
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

    def __neg__(self):
        return neg(self)

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return mul(self, other)

    def __sub__(self, other):
        return sub(self, other)

    def __truediv__(self, other):
        return div(self, other)

    def __pow__(self, exponent):
        return pow(self, exponent)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other):
        return rsub(self, other)

    def __rtruediv__(self, other):
        return rdiv(self, other)


def as_variable(obj):
    """Return `obj` itself when it is a Variable, else a Variable around it."""
    return obj if isinstance(obj, Variable) else Variable(obj)


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    generation = 0

    def __call__(self, *inputs):
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

    def forward(self, *xs):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, *gys):
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Add(Function):
    def forward(self, x0, x1):
        return x0 + x1

    def backward(self, gy):
        return gy, gy


def add(x0, x1):
    """y = x0 + x1."""
    return Add()(x0, as_array(x1))


class Mul(Function):
    def forward(self, x0, x1):
        return x0 * x1

    def backward(self, gy):
        x0, x1 = self.inputs
        return gy * x1.data, gy * x0.data


def mul(x0, x1):
    """y = x0 * x1."""
    return Mul()(x0, as_array(x1))


class Neg(Function):
    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


def neg(x):
    """y = -x."""
    return Neg()(x)


class Sub(Function):
    def forward(self, x0, x1):
        return x0 - x1

    def backward(self, gy):
        return gy, -gy


def sub(x0, x1):
    """y = x0 - x1."""
    return Sub()(x0, as_array(x1))


def rsub(x0, x1):
    """y = x1 - x0."""
    return Sub()(as_array(x1), x0)


class Div(Function):
    def forward(self, x0, x1):
        return x0 / x1

    def backward(self, gy):
        x0, x1 = self.inputs
        return gy / x1.data, -gy * x0.data / x1.data**2


def div(x0, x1):
    """y = x0 / x1."""
    return Div()(x0, as_array(x1))


def rdiv(x0, x1):
    """y = x1 / x0."""
    return Div()(as_array(x1), x0)


class Pow(Function):
    def __init__(self, c):
        self.c = c

    def forward(self, x):
        return x**self.c

    def backward(self, gy):
        (x,) = self.inputs
        return self.c * x.data ** (self.c - 1) * gy


def pow(x, c):
    """y = x ** c for a number c."""
    return Pow(c)(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(2.0), name="x")


def compare(name, f, eps=1e-4):
    """Print the gradient of f at x beside the estimate from two values of f."""
    x.cleargrad()
    f(x).backward()
    numerical = (f(x.data + eps) - f(x.data - eps)) / (2 * eps)  # f takes a bare array as well
    print(f"{name}: dy/dx = {x.grad:.6f}, estimate = {numerical:.6f}")


compare("-x", lambda x: -x)
compare("x - 3", lambda x: x - 3.0)
compare("3 - x", lambda x: 3.0 - x)
compare("x / 3", lambda x: x / 3.0)
compare("3 / x", lambda x: 3.0 / x)
compare("x ** 3", lambda x: x**3)
compare("(x - 1) / (x + 1) ** 2", lambda x: (x - 1) / (x + 1) ** 2)

x.cleargrad()
y = 2 * x**3 - 1 / x
y.backward()
print(f"2 * x ** 3 - 1 / x: y = {y.data}, dy/dx = {x.grad}")

# Exercise: teach Variable the operator abs(x), which is x or -x, whichever is not negative.
# Hint: Python asks for the method __abs__; the derivative is 1 where x is positive and -1 where it is negative:
# np.sign.
