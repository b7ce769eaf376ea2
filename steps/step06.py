"""Step 6. The way back, by hand.

Question: What does each Function have to know for the way back?

Its own derivative, and nothing else. On the way back it is told how strongly the result y answers to what it gave,
and tells how strongly y answers to what it took. It does so by one multiplication, the chain rule of step 5:

    backward:  gx = dy/dx = (derivative of this Function at x) * gy

A value such as dy/da is called a gradient. Each box gets room for the gradient of the result with respect to itself:
x.grad. And since a derivative depends on where it is taken (that of x ** 2 is 2 * x), a Function remembers the box
that went in. Calling the three `backward` methods in reverse order, and beginning with dy/dy = 1, is the work of a
person here.

Functions know their derivatives now, so the estimate is not needed for a while.

New: Function.backward, Square.backward, Exp.backward
Changed: Variable.__init__, Function.__call__
Gone: numerical_grad
Look at: gradients appear from the end to the beginning, the same numbers as in step 5.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        self.data = data
        self.grad = None


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, input):
        y = self.forward(input.data)
        output = Variable(y)
        self.input = input
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


class Exp(Function):
    def forward(self, x):
        return np.exp(x)

    def backward(self, gy):
        x = self.input.data
        return np.exp(x) * gy


# Demonstration --------------------------------------------------------------------------------------------------------

A = Exp()
B = Square()
C = Exp()
x = Variable(np.array(0.0))
a = A(x)
b = B(a)
y = C(b)

y.grad = np.array(1.0)  # y moves as far as y
b.grad = C.backward(y.grad)
a.grad = B.backward(b.grad)
x.grad = A.backward(a.grad)
print(f"dy/dy = {y.grad:.6f}")
print(f"dy/db = {b.grad:.6f}")
print(f"dy/da = {a.grad:.6f}")
print(f"dy/dx = {x.grad:.6f}")
print(f"A remembers the box x = {A.input is x}")

# Exercise: give the Function Half of step 2 its `backward`, and find the gradient of Half()(Square()(x)) at x = 3.
# Hint: the derivative of x / 2 is 1 / 2 wherever it is taken. The gradient is 3.
