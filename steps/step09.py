"""Step 9. Functions that are easier to use.

Question: What stands between a person and the calculation they want to write?

Three things did so far. Every operation had to be made before it could be called: square(x) now does both. Every
backward pass had to be started with dy/dy = 1: backward() now puts it there, in the shape of the result. And a
mistake, such as a number without an array around it, came to light late, in another place and in other words. Now the
box refuses what it cannot hold when it is made, and says what to write in its place.

NumPy has a habit that would run into this: the square of an array of no axes is not an array but a number. as_array
puts the array back around it.

New: as_array, square, exp
Changed: Variable.__init__, Variable.backward, Function.__call__
Look at: how short the calculation is, and what the errors say.
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
            x, y = func.input, func.output
            x.grad = func.backward(y.grad)
            if x.creator is not None:
                queue.append(x.creator)


def as_array(x):
    """Return a number as a 0-dimensional array, an array as it is."""
    return np.array(x) if np.isscalar(x) else x


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, input):
        y = self.forward(input.data)
        output = Variable(as_array(y))
        output.set_creator(self)
        self.input = input
        self.output = output
        return output

    def forward(self, x):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, gy):
        raise NotImplementedError(f"{type(self).__name__} has no backward method")


class Square(Function):
    def forward(self, x):
        return x**2

    def backward(self, gy):
        x = self.input.data
        return 2 * x * gy


def square(x):
    """y = x ** 2."""
    return Square()(x)


class Exp(Function):
    def forward(self, x):
        return np.exp(x)

    def backward(self, gy):
        x = self.input.data
        return np.exp(x) * gy


def exp(x):
    """y = e ** x."""
    return Exp()(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(0.0))
y = exp(square(exp(x)))
y.backward()
print(f"y = {y.data:.6f}")
print(f"dy/dx = {x.grad:.6f}")

row = Variable(np.array([1.0, 2.0, 3.0]))
y = square(row)
y.backward()  # starts from ones in the shape of y
print(f"dy/dx of a row = {row.grad}")

print(f"the square of np.array(3.0) is an array = {isinstance(np.array(3.0) ** 2, np.ndarray)}")
print(f"square(x).data is an array = {isinstance(square(x).data, np.ndarray)}")

for mistake in (lambda: Variable(1.0), x.backward):
    try:
        mistake()
    except (TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")

# Exercise: write a Function for y = sin x, and the short function `sin` that makes one and calls it.
# Hint: the derivative of sin x is cos x; NumPy has both, `np.sin` and `np.cos`.
