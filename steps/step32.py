"""Step 32. The second derivative, third part: the change to the core.

Question: How many lines of the core have to change so that gradients can be derived again?

Five change, and one is new. Variable.backward begins with a Variable where it began with an array, so what travels on
the way back are Variables. And each backward takes Variables as they are, with no `.data`: gy * x1 in place of gy *
x1.data. The operators of step 22 do the rest, since they call Functions, and Functions record. The sum of gradients
at a Variable used twice is recorded for the same reason.

Recording costs time and memory, and most programs want the first derivative alone. So the new line, the mode of step
18, stands around the walk and switches recording off, unless backward(create_graph=True) asks for it. The lines under
it move to the right, and are the same.

Below stands the core of step 22 with these changes, to be compared line by line: diff steps/step22.py steps/step32.py

Changed: Variable.backward, Mul.backward, Div.backward, Pow.backward
Look at: derivatives of every order, beside those found on paper, and beside those of dezero/core.py.
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

    def backward(self, retain_grad=False, create_graph=False):
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable, outside no_grad()")
        if self.grad is None:
            self.grad = Variable(np.ones_like(self.data))

        order = itertools.count()  # breaks ties between functions of one generation
        queue = [(-self.creator.generation, next(order), self.creator)]
        seen = {self.creator}
        while queue:
            _, _, func = heapq.heappop(queue)
            gys = [y().grad for y in func.outputs]
            with using_config("enable_backprop", create_graph):
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
        return gy * x1, gy * x0


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
        return gy / x1, -gy * x0 / x1**2


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
        return self.c * x ** (self.c - 1) * gy


def pow(x, c):
    """y = x ** c for a number c."""
    return Pow(c)(x)


# Demonstration --------------------------------------------------------------------------------------------------------

import road  # noqa: F401  (makes `import dezero` work)

import dezero


def derivatives(kind, f, x, orders):
    """Return the derivatives of f at the number x, from the first to a higher order."""
    x = kind(np.array(x))
    y, found = f(x), []
    for _ in range(orders):
        x.cleargrad()
        y.backward(create_graph=True)
        y = x.grad
        found.append(float(y.data))
    return found


def polynomial(x):
    return x**4 - 3 * x**3 + 2


def fraction(x):
    return 1 / (x * x + 1)


on_paper = [2.0**3 * 4 - 9 * 2.0**2, 12 * 2.0**2 - 18 * 2.0, 24 * 2.0 - 18, 24.0]
mine = derivatives(Variable, polynomial, 2.0, 4)
for order, values in enumerate(zip(mine, on_paper, strict=True), 1):
    print(f"x ** 4 - 3 * x ** 3 + 2, order {order}: derivative = {values[0]:.6f}, on paper = {values[1]:.6f}")

mine = derivatives(Variable, fraction, 0.5, 4)
theirs = derivatives(dezero.Variable, fraction, 0.5, 4)
for order, values in enumerate(zip(mine, theirs, strict=True), 1):
    print(f"1 / (x * x + 1), order {order}: derivative = {values[0]:.6f}, by dezero/core.py = {values[1]:.6f}")

x = Variable(np.array(2.0))
y = polynomial(x)
y.backward()
print(f"without create_graph the gradient has a creator = {x.grad.creator is not None}")

# Exercise: write Sin and Cos of step 31 for this core, and find the fourth derivative of sine.
# Hint: each `backward` calls the other's Function. The fourth derivative of sin x is sin x.
