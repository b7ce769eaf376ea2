"""Step 14. One variable, used twice.

Question: What is the derivative of x + x, and what did step 13 say it is?

It is 2, and step 13 said 1. Each use of x sends a gradient back, and the second one overwrote the first. When x
moves, y moves because of the one use and because of the other, and the two moves add up. So gradients that arrive at
the same box must be added.

Adding has a price: a second calculation with the same box adds to the gradient of the first, which is rarely what is
meant. `cleargrad` empties the box for the next calculation.

The sum is written x.grad + gx, which makes a new array, and not x.grad += gx, which would change the old one where it
lies. Add handed the same array to both of its inputs, and whoever changes one gradient in place changes the other.

New: Variable.cleargrad
Changed: Variable.backward
Look at: the gradient 2, then what a second calculation makes of it with and without `cleargrad`.
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

x = Variable(np.array(3.0))
y = add(x, x)
y.backward()
print(f"x + x: dy/dx = {x.grad}")

y = add(add(x, x), x)
y.backward()
print(f"x + x + x, the old gradient still there: dy/dx = {x.grad}")

x.cleargrad()
y = add(add(x, x), x)
y.backward()
print(f"x + x + x, after cleargrad: dy/dx = {x.grad}")

shared = np.array(1.0)
first, second = shared, shared  # what Add hands to its two inputs
first += 1
print(f"second, after += on first = {second}")

# Exercise: what should the gradient of add(square(x), x) be at x = 3? Find it on paper, then with the program.
# Hint: one use of x contributes 2 * x, the other 1.
