"""Step 18. Modes: when no gradient is wanted.

Question: How much of the memory is for a way back that nobody will go?

Much of it. All results on the way are kept, because `backward` may ask for them. Two switches save what is not
needed.

The gradients of results on the way are rarely looked at. After a Function has been visited they are dropped, and only
leaves keep theirs, unless backward(retain_grad=True) asks for all.

And when a network is used, not trained, there is no way back at all. Inside `with no_grad():` operations calculate
and record nothing: no creator, no inputs, no graph. The mode is one attribute of the class Config, set for the length
of a `with` block and put back at its end, even when an error ends it. contextlib makes such a block from a function
with one `yield`: what stands before it happens on entering, what follows on leaving.

New: contextlib, Config, using_config, no_grad
Changed: Variable.backward, Function.__call__
Look at: which gradients are left after each backward pass, and the megabytes held with a graph and without.
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

    def __init__(self, data):
        if data is not None and not isinstance(data, np.ndarray):
            raise TypeError(
                f"Variable: data must be an array, got {type(data).__name__}; write Variable(np.array({data!r:.60}))"
            )
        self.data = data
        self.grad = None
        self.creator = None
        self.generation = 0

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

import tracemalloc

x = Variable(np.array(2.0))
for retain_grad in (True, False):
    x.cleargrad()
    a = square(x)
    y = square(a)
    y.backward(retain_grad)
    print(f"retain_grad={retain_grad}: dy/dx = {x.grad}, dy/da = {a.grad}, dy/dy = {y.grad}")


def eight_squares(x):
    for _ in range(8):
        x = square(x)
    return x


def megabytes_held():
    return tracemalloc.get_traced_memory()[0] / 1e6


tracemalloc.start()
x = Variable(np.ones(125_000))  # one megabyte
y = eight_squares(x)
print(f"megabytes held with a graph = {megabytes_held():.1f}")
with no_grad():
    y = eight_squares(x)
    print(f"megabytes held under no_grad() = {megabytes_held():.1f}")
print(f"creator of y = {y.creator}")
tracemalloc.stop()
print(f"afterwards operations record again = {Config.enable_backprop}")

# Exercise: call y.backward() for a y that was calculated under no_grad(), and read what it says.
# Hint: the walk begins at y.creator.
