"""Step 7. The way back, automated.

Question: How can a result find its own way back?

By knowing who made it. When a Function makes a box, it signs it: the box remembers its creator. The creator remembers
what went in, and what went in has a creator again. Boxes and Functions linked like this are called a graph. It was
not drawn by anybody. It is what the calculation left behind, and so it fits whatever was calculated, loops and
conditions included.

    x  <- input -  A  <- creator -  a  <- input -  B  <- creator -  b

The method `backward` of a box then does what step 6 did by hand: get the creator, get its input, put the gradient
there, and ask that box to do the same. A box without a creator was made by the user, and there the walk ends. Such a
box is called a leaf.

New: Variable.set_creator, Variable.backward
Changed: Variable.__init__, Function.__call__
Look at: the names met on the way back, and the gradient of step 6 after one call.
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
        func = self.creator
        if func is not None:
            x = func.input
            x.grad = func.backward(self.grad)
            x.backward()


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

A = Exp()
B = Square()
C = Exp()
x = Variable(np.array(0.0))
a = A(x)
b = B(a)
y = C(b)

names = {id(A): "A", id(B): "B", id(C): "C", id(x): "x", id(a): "a", id(b): "b", id(y): "y"}
box = y
while box.creator is not None:
    print(f"{names[id(box)]} was made by {names[id(box.creator)]} from {names[id(box.creator.input)]}")
    box = box.creator.input
print(f"{names[id(box)]} has no creator")

y.grad = np.array(1.0)
y.backward()
print(f"dy/dx = {x.grad:.6f}")

# Exercise: let the calculation depend on its own values: square x until it is larger than 100, beginning with x = 3.
# What is the gradient?
# Hint: a while loop around `y = Square()(y)`. It goes round three times, so y is x to the power of 8.
