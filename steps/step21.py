"""Step 21. Operators, second part: numbers and arrays beside Variables.

Question: Why does 2 * x + 1 not work yet, and what has to give way?

Functions take Variables, and 2 is none. So the one place through which all operations pass puts a box around whatever
has none, and `add` and `mul` put an array around a bare number first.

That settles x * 2. For 2 * x Python asks the left side first, and a number knows nothing of Variables. Then it asks
the right side by another name, x.__rmul__(2). Sums and products are the same from both sides, so both names mean one
method.

With a NumPy array on the left it is different: an array believes it can multiply anything, item by item, and would
return an array of Variables. `__array_ufunc__ = None` in a class tells NumPy to leave its operators to that class.

New: Variable.__array_ufunc__, Variable.__radd__, Variable.__rmul__, as_variable
Changed: Function.__call__, add, mul
Look at: numbers and arrays on either side, and the type of what comes out.
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

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return mul(self, other)

    __radd__ = __add__
    __rmul__ = __mul__


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


class Square(Function):
    def forward(self, x):
        return x**2

    def backward(self, gy):
        (x,) = self.inputs
        return 2 * x.data * gy


def square(x):
    """y = x ** 2."""
    return Square()(x)


class Exp(Function):
    def forward(self, x):
        return np.exp(x)

    def backward(self, gy):
        (x,) = self.inputs
        return np.exp(x.data) * gy


def exp(x):
    """y = e ** x."""
    return Exp()(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(2.0))
print(f"x + 3 = {(x + 3.0).data}")
print(f"3 + x = {(3.0 + x).data}")
print(f"x * np.array(4) = {(x * np.array(4.0)).data}")
print(f"np.array(4) * x = {(np.array(4.0) * x).data}")

row = Variable(np.array([1.0, 2.0, 3.0]))
y = np.array([10.0, 20.0, 30.0]) * row + 1.0
print(f"type of an array times a Variable = {type(y).__name__}")
print(f"array * row + 1: {y}")

y = 3.0 * x + 1.0
y.backward()
print(f"3 * x + 1: y = {y.data}, dy/dx = {x.grad}")

# Exercise: take the line with `__array_ufunc__` away, and print the type of np.array([10.0, 20.0, 30.0]) * row.
# Hint: print the result itself as well. How many Variables are in it?
