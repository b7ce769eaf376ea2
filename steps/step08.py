"""Step 8. From recursion to a loop.

Question: What happens to the way back when the calculation is long?

In step 7 each box asked the next one to go on, and waited. Python keeps a note for everyone who waits, and after a
thousand it gives up: a recursion of that depth is usually a mistake. A calculation of ten thousand operations is
none.

A loop keeps its notes in a list of its own, here called the queue: the Functions still to be visited. Take one out,
hand its gradient from output to input, put in the creator of the input, and go on until nothing is left. Nobody
waits. The list has one more use: when calculations branch, several Functions will wait in it at once.

Changed: Variable.backward
Look at: what recursion says after a thousand operations, and what the loop gives after ten thousand.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        self.data = data
        self.grad = None
        self.creator = None

    def set_creator(self, func):
        self.creator = func

    def backward(self):
        queue = [self.creator]
        while queue:
            func = queue.pop()
            x, y = func.input, func.output
            x.grad = func.backward(y.grad)
            if x.creator is not None:
                queue.append(x.creator)


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, input):
        y = self.forward(input.data)
        output = Variable(y)
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


class Exp(Function):
    def forward(self, x):
        return np.exp(x)

    def backward(self, gy):
        x = self.input.data
        return np.exp(x) * gy


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(0.0))
y = Exp()(Square()(Exp()(x)))
y.grad = np.array(1.0)
y.backward()
print(f"dy/dx = {x.grad:.6f}")


class Nudge(Function):
    """y = x + 0.001."""

    def forward(self, x):
        return x + 0.001

    def backward(self, gy):
        return gy


def backward_by_recursion(y):
    """Do what `backward` of step 7 did."""
    if y.creator is not None:
        x = y.creator.input
        x.grad = y.creator.backward(y.grad)
        backward_by_recursion(x)


x = Variable(np.array(0.0))
y = x
for _ in range(10000):
    y = Nudge()(y)
y.grad = np.array(1.0)
try:
    backward_by_recursion(y)
except RecursionError as error:
    print(f"RecursionError: {error}")
y.backward()
print(f"y after 10,000 operations = {y.data:.6f}")
print(f"dy/dx after 10,000 operations = {x.grad:.6f}")

# Exercise: print the type of every Function that `backward` visits for y = Square()(Exp()(x)).
# Hint: one line inside the loop: print(type(func).__name__). What is the first name?
