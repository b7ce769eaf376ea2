"""Step 16. Generations: the right order of the way back.

Question: How does the backward pass know which Function to visit next?

Step 15 found the rule: a Function may be visited when the gradient of its output is complete, that is, after every
Function that used the output. To keep the rule, the program counts while it calculates. What the user made is of
generation 0. A Function takes the highest generation among its inputs, and its outputs are one generation later.
Whoever uses a result is therefore always of a later generation than the Function that made it: visiting the latest
generation first keeps the rule.

The queue becomes a heap, a list from which the smallest item can be taken quickly. The generation goes in with a
minus sign, so that the latest is the smallest. Two Functions of one generation cannot be compared, so each also
carries a number in order of arrival, which decides before Python would try. The set `seen` keeps a Function from
being lined up twice.

New: heapq, itertools, Function.generation
Changed: Variable.__init__, Variable.set_creator, Variable.backward, Function.__call__
Look at: the gradient that step 15 got wrong, and the order of the visits.
"""

import heapq
import itertools

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
            gys = [y.grad for y in func.outputs]
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
        self.outputs = outputs
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


class Told(Square):
    """A Square that prints when the way back passes it."""

    def __init__(self, name):
        self.name = name

    def backward(self, gy):
        print(f"visit: {self.name}, generation {self.generation}")
        return super().backward(gy)


x = Variable(np.array(2.0))
a = Told("A")(x)
y = add(Told("B")(a), Told("C")(a))
y.backward()
print(f"y = {y.data}")
print(f"dy/dx = {x.grad}")
print(f"generation of x = {x.generation}, of a = {a.generation}, of y = {y.generation}")

x = Variable(np.array(1.0))
y = x
for _ in range(60):
    y = add(y, y)  # twice as many ways from x to y each time
y.backward()
print(f"ways from x to y = {2.0**60}")
print(f"dy/dx after 60 visits = {x.grad}")

# Exercise: what is the generation of y = add(square(square(x)), x), and why is it not 2?
# Hint: add is of the highest generation among its inputs, and y is one later.
