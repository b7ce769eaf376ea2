"""Step 3. Functions one after another.

Question: How is a long calculation made of short ones?

Every Function takes a box and gives a box, so the result of one can go into the next. Three short calculations in a
row make a longer one:

    a = exp(x)    b = a ** 2    y = exp(b)

The long calculation is nobody's class. It is there because its parts were called in this order. This is what makes
derivatives manageable: it will be enough to know the derivative of each short calculation, and one rule for putting
them together.

New: Exp
Look at: the two results on the way, and y beside what NumPy gives for the whole formula at once.
"""

import numpy as np


class Variable:
    """A box around one array."""

    def __init__(self, data):
        self.data = data


class Function:
    """An operation on Variables; each subclass is one."""

    def __call__(self, input):
        y = self.forward(input.data)
        output = Variable(y)
        return output

    def forward(self, x):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")


class Square(Function):
    def forward(self, x):
        return x**2


class Exp(Function):
    def forward(self, x):
        return np.exp(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(0.0))
a = Exp()(x)
b = Square()(a)
y = Exp()(b)
print(f"x = {x.data}")
print(f"a = {a.data}")
print(f"b = {b.data}")
print(f"y = {y.data:.6f}")
print(f"the whole formula at once = {np.exp(np.exp(0.0) ** 2):.6f}")

# Exercise: calculate exp(x) to the power of four at x = 0.5, with Exp and Square alone.
# Hint: a ** 4 is the square of a square.
