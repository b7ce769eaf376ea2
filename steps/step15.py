r"""Step 15. Graphs that branch, in theory.

Question: In which order must Functions be visited when ways part and meet again?

Here a is used twice, and the two ways meet in y:

             B -> b
           /        \
    x -> A -> a      Add -> y        a = x ** 2    b = a ** 2    c = a ** 2    y = b + c
           \        /
             C -> c

On the way back, both B and C send a gradient to a. A may go on only when both have arrived: what it hands to x is its
derivative times the whole gradient of a. The walk of step 14 takes from its list what was put in last. It visits C,
hands on to A at once, with half of the gradient, and when B has been visited it goes to A again.

The rule: visit a Function only after every Function that used its output. An order in which everything comes after
what it needs is called topological, and this is one, read backward. It visits each Function once, and hands on only
what is complete. How to find it cheaply is step 16.

The core is that of step 14.

Look at: the order of the visits, A twice, and the two gradients beside the right one.
"""

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

    def set_creator(self, func):
        self.creator = func

    def cleargrad(self):
        self.grad = None

    def backward(self):
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable")
        if self.grad is None:
            self.grad = np.ones_like(self.data)

        queue = [self.creator]
        while queue:
            func = queue.pop()
            gys = [y.grad for y in func.outputs]
            gxs = func.backward(*gys)
            for x, gx in zip(func.inputs, gxs if isinstance(gxs, tuple) else (gxs,), strict=True):
                x.grad = gx if x.grad is None else x.grad + gx
                if x.creator is not None:
                    queue.append(x.creator)


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, *inputs):
        ys = self.forward(*(x.data for x in inputs))
        outputs = [Variable(as_array(y)) for y in (ys if isinstance(ys, tuple) else (ys,))]
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
        print(f"visit: {self.name} gets the gradient {gy}")
        return super().backward(gy)


A, B, C = Told("A"), Told("B"), Told("C")
x = Variable(np.array(2.0))
a = A(x)
b, c = B(a), C(a)
y = add(b, c)
y.backward()
print(f"y = {y.data}")
print(f"dy/dx in the order of step 14 = {x.grad}")

a.grad = B.backward(b.grad) + C.backward(c.grad)  # complete before A is asked
x.grad = A.backward(a.grad)
print(f"dy/dx when A waits for both = {x.grad}")


def value(x):
    return 2 * x**4


print(f"numerical gradient = {(value(2.0 + 1e-4) - value(2.0 - 1e-4)) / 2e-4:.6f}")

# Exercise: draw the graph of y = a + (a ** 2) ** 2 with a = x ** 2 on paper, and write down an order that keeps the
# rule.
# Hint: begin at y, and cross out a Function only when everything that used its output is crossed out.
