"""Step 20. Operators, first part: plus and times.

Question: How can add(mul(a, b), c) be written as a * b + c?

Python asks the objects themselves. For a * b it calls a.__mul__(b), and for a + b it calls a.__add__(b). A class that
has these methods has the operators. All that is missing is an operation for them to call: Mul, with one gradient for
each factor. When x1 stands still, y = x0 * x1 moves x1 times as far as x0:

    y = x0 * x1        dy/dx0 = x1        dy/dx1 = x0

New: Variable.__add__, Variable.__mul__, Mul, mul
Look at: the same result and the same gradients for both ways to write it.
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


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    generation = 0

    def __call__(self, *inputs):
        ys = self.forward(*(x.data for x in inputs))
        outputs = [Variable(as_array(y)) for y in (ys if isinstance(ys, tuple) else (ys,))]
        if Config.enable_backprop:
            self.generation = max(x.generation for x in inputs)
            for y in outputs:
                y.set_creator(self)
            self.inputs = inputs
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
    return Add()(x0, x1)


class Mul(Function):
    def forward(self, x0, x1):
        return x0 * x1

    def backward(self, gy):
        x0, x1 = self.inputs
        return gy * x1.data, gy * x0.data


def mul(x0, x1):
    """y = x0 * x1."""
    return Mul()(x0, x1)


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

a = Variable(np.array(3.0))
b = Variable(np.array(2.0))
c = Variable(np.array(1.0))

y = add(mul(a, b), c)
y.backward()
print(f"add(mul(a, b), c): y = {y.data}, dy/da = {a.grad}, dy/db = {b.grad}, dy/dc = {c.grad}")

for v in (a, b, c):
    v.cleargrad()
y = a * b + c
y.backward()
print(f"a * b + c: y = {y.data}, dy/da = {a.grad}, dy/db = {b.grad}, dy/dc = {c.grad}")

# Exercise: find the gradient of y = x * x * x at x = 2 with the program, and compare it with 3 * x ** 2.
# Hint: use an x of its own, or call x.cleargrad() first.
