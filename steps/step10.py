"""Step 10. Tests.

Question: How can anyone be sure that a derivative is right?

A wrong derivative raises no error. It gives a number, only not the right one, and everything built on it works a
little worse than it should. So each Function gets tests: its value and its gradient at a point where both are known,
and its gradient beside the numerical gradient of step 4, at points drawn at random. The last is called gradient
checking. It needs no knowledge of the derivative, and so it cannot repeat the mistake of whoever wrote it.

A test that has never failed may be a test that cannot. The demonstration breaks a derivative on purpose, and the
check must see it.

New: unittest, numerical_grad, SquareTest
Look at: the tests that passed, and the difference that the check finds in the Function that is wrong.
"""

import unittest

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


def numerical_grad(f, x, eps=1e-4):
    """Estimate dy/dx from two values of f, a little below x and a little above."""
    below = Variable(as_array(x.data - eps))
    above = Variable(as_array(x.data + eps))
    return (f(above).data - f(below).data) / (2 * eps)


class SquareTest(unittest.TestCase):
    def test_forward(self):
        x = Variable(np.array(3.0))
        y = square(x)
        assert y.data == 9.0

    def test_backward(self):
        x = Variable(np.array(3.0))
        y = square(x)
        y.backward()
        assert x.grad == 6.0

    def test_gradient_check(self):
        x = Variable(np.random.default_rng(0).normal(size=5))
        y = square(x)
        y.backward()
        np.testing.assert_allclose(x.grad, numerical_grad(square, x), rtol=1e-6)


# Demonstration --------------------------------------------------------------------------------------------------------

suite = unittest.defaultTestLoader.loadTestsFromTestCase(SquareTest)
for test in suite:
    print(f"{test.id().rpartition('.')[2]}: passed = {test.run().wasSuccessful()}")


class WrongSquare(Square):
    """A Square whose author forgot the 2."""

    def backward(self, gy):
        return super().backward(gy) / 2


x = Variable(np.array(3.0))
y = WrongSquare()(x)
y.backward()
numerical = numerical_grad(WrongSquare(), x)
print(f"wrong gradient = {x.grad:.6f}, numerical gradient = {numerical:.6f}")
print(f"the check accepts the wrong gradient = {np.allclose(x.grad, numerical, rtol=1e-6)}")

# Exercise: write the class ExpTest, with the same three tests for `exp`.
# Hint: the value and the derivative of exp are known at 0: both are 1.
