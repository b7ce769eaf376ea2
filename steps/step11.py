"""Step 11. Several inputs and outputs, forward.

Question: What changes for operations such as addition, which take two inputs?

Only the place through which all operations pass. A Function is now called with a list of boxes, hands a list of
arrays to `forward`, gets a list back, and puts each of its items into a box. One input and one output are lists with
one item.

Square and Exp follow the new rule. The way back is not ready for lists of more than one: its line that takes inputs
and outputs apart says so by expecting exactly one of each. Step 13 will mend it. The tests of step 10 have done their
work and stay behind.

New: Add
Changed: Variable.backward, Function.__call__, Function.forward, Square.forward, Square.backward, square, Exp.forward,
    Exp.backward, exp
Gone: unittest, numerical_grad, SquareTest
Look at: the brackets that a sum of two numbers needs now, which step 12 takes away.
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

    def __call__(self, inputs):
        ys = self.forward([x.data for x in inputs])
        outputs = [Variable(as_array(y)) for y in ys]
        for y in outputs:
            y.set_creator(self)
        self.inputs = inputs
        self.outputs = outputs
        return outputs

    def forward(self, xs):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, gy):
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Add(Function):
    def forward(self, xs):
        x0, x1 = xs
        return [x0 + x1]


class Square(Function):
    def forward(self, xs):
        (x,) = xs
        return [x**2]

    def backward(self, gy):
        (x,) = self.inputs
        return 2 * x.data * gy


def square(x):
    """y = x ** 2."""
    return Square()([x])[0]


class Exp(Function):
    def forward(self, xs):
        (x,) = xs
        return [np.exp(x)]

    def backward(self, gy):
        (x,) = self.inputs
        return np.exp(x.data) * gy


def exp(x):
    """y = e ** x."""
    return Exp()([x])[0]


# Demonstration --------------------------------------------------------------------------------------------------------

x0 = Variable(np.array(2.0))
x1 = Variable(np.array(3.0))
ys = Add()([x0, x1])  # a list goes in, a list comes out
y = ys[0]
print(f"outputs = {len(ys)}")
print(f"y = {y.data}")

x = Variable(np.array(0.0))
y = exp(square(exp(x)))
y.backward()
print(f"dy/dx = {x.grad:.6f}")

try:
    ys[0].backward()
except ValueError as error:
    print(f"the way back through Add: {error}")

# Exercise: write a Function with one input and two outputs, x + 1 and x - 1.
# Hint: `forward` gets a list with one array, and returns a list of two.
