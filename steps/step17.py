"""Step 17. Memory.

Question: What becomes of a graph when nobody needs it any more?

Python counts how many names and attributes refer to an object, and frees it at once when the count falls to zero. Two
objects that refer to each other never fall to zero. They wait for the garbage collector, which comes by now and then,
and until it does their memory is lost. Since step 7 a Function refers to its output, and the output to its creator: a
ring. Graphs of large arrays would fill the memory before they are collected.

One of the two directions has to be a weak reference, one that is not counted. A result must keep its creator, or
there would be no way back. A Function can do without its outputs: as long as somebody needs a result, somebody else
keeps it. `weakref.ref(y)` makes a weak reference, and calling it gives the object, or None when it is gone.

New: weakref
Changed: Variable.backward, Function.__call__
Look at: how many megabytes are held after ten calculations, with rings and without. The collector is off meanwhile.
"""

import heapq
import itertools
import weakref

import numpy as np


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

    def backward(self):
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable")
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


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    generation = 0

    def __call__(self, *inputs):
        ys = self.forward(*(x.data for x in inputs))
        outputs = [Variable(as_array(y)) for y in (ys if isinstance(ys, tuple) else (ys,))]
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

import gc
import tracemalloc


def megabytes_held(with_rings):
    """Calculate ten times with a megabyte of numbers, throw every result away, and return what is still held."""
    tracemalloc.start()
    for _ in range(10):
        x = Variable(np.ones(125_000))  # one megabyte
        y = square(square(square(x)))
        if with_rings:
            y.creator.keeps = y  # the reference that step 16 had, put back by hand
    del x, y
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1e6


gc.disable()
print(f"megabytes held with rings = {megabytes_held(True):.1f}")
print(f"megabytes held without = {megabytes_held(False):.1f}")
gc.enable()
gc.collect()

x = Variable(np.array(3.0))
y = square(x)
reference = weakref.ref(y)
print(f"a weak reference while y is there gives y = {reference() is y}")
del y
print(f"a weak reference when y is gone gives None = {reference() is None}")

# Exercise: which results are still held after z = square(square(x)) when z is the only name left?
# Hint: go backward from z: its creator, the creator's inputs, and so on. What can be reached is held.
