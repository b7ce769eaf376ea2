"""Step 12. Several inputs and outputs, without brackets.

Question: Lists are right for the core. Who else should have to see them?

Nobody. Python can gather arguments into a list and spread a list over arguments, both with a star. With the first, a
Function is called with boxes side by side, f(x0, x1). With the second, `forward` gets arrays under names of its own,
forward(x0, x1). When there is one output it is returned as it is, and `forward` may return one array where it has
one.

Whoever writes an operation writes what the formula says, and whoever calls it writes what they mean. The lists remain
where they are useful, between the two.

New: add
Changed: Function.__call__, Function.forward, Add.forward, Square.forward, square, Exp.forward, exp
Look at: the same sum as in step 11 without a bracket too many, and a Function with two outputs.
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

    def backward(self):
        if self.creator is None:
            raise ValueError("backward: no graph leads to this Variable; compute it from a Variable")
        if self.grad is None:
            self.grad = np.ones_like(self.data)

        queue = [self.creator]
        while queue:
            func = queue.pop()
            (x,), (y,) = func.inputs, func.outputs
            x.grad = func.backward(y.grad)
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

    def backward(self, gy):
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Add(Function):
    def forward(self, x0, x1):
        return x0 + x1


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

x0 = Variable(np.array(2.0))
x1 = Variable(np.array(3.0))
y = add(x0, x1)
print(f"y = {y.data}")

x = Variable(np.array(0.0))
y = exp(square(exp(x)))
y.backward()
print(f"dy/dx = {x.grad:.6f}")


class SumAndDifference(Function):
    def forward(self, x0, x1):
        return x0 + x1, x0 - x1


s, d = SumAndDifference()(x0, x1)
print(f"sum = {s.data}, difference = {d.data}")

# Exercise: write `mul`, a Function Mul of two inputs and the short function that calls it, and multiply 6 by 7.
# Hint: Add shows both; `forward` returns x0 * x1.
