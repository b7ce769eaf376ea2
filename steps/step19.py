"""Step 19. A Variable that is easier to use.

Question: What would a person want to ask a box without opening it?

Whatever they would ask the array inside: its shape, the number of its axes and of its items, the type of its numbers.
A property is a method that is called without brackets, so x.shape reads like the array's own. `__len__` answers
len(x), and `__repr__` says what print shows: the word variable, and the array with its rows aligned. A name is for
people too. It will stand beside the box in pictures of the graph.

New: Variable.shape, Variable.ndim, Variable.size, Variable.dtype, Variable.__len__, Variable.__repr__
Changed: Variable.__init__
Look at: what print shows of a table, with its second row under the first.
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

x = Variable(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), name="x")
print(f"name = {x.name}")
print(f"shape = {x.shape}")
print(f"ndim = {x.ndim}")
print(f"size = {x.size}")
print(f"dtype = {x.dtype}")
print(f"len(x) = {len(x)}")
print(x)
print(Variable(np.array(2.0)))

# Exercise: add a property `T` that gives the array with rows and columns exchanged, in a new Variable.
# Hint: NumPy's arrays have an attribute T as well. Does the new Variable know its creator?
