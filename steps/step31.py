"""Step 31. The second derivative, second part: the theory.

Question: What would happen if gradients were calculated with Variables?

They would have a graph. The way back is a calculation like any other. For y = sin x it is

    gx = gy * cos x

with one multiplication and one cosine. Written with Variables, it goes through Functions, and they record what it was
made of. x is part of it, so gx is a function of x like y, and gx.backward() gives its derivative:

    d gx / dx = gy * (-sin x) = -sin x        with gy = 1

No second theory is needed. The derivative of a derivative is the same walk, along another graph. And since that walk
can be written with Variables too, there is a third derivative, and so on. It is enough that each Function's backward
is made of Functions, and that these can be derived in their turn: sin needs cos, and cos needs sin.

Here a person does by hand, with the small core, what the core of step 32 does by itself.

New: Sin and Cos, each with the other as its derivative
Look at: the second and third derivative of sine, and the picture, in which y and gx grow from the same x.
"""

from road import read_options, show

import numpy as np

import dezero
from dezero.core_simple import Function, Variable


class Sin(Function):
    def forward(self, x):
        return np.sin(x)

    def backward(self, gy):
        (x,) = self.inputs
        return gy * np.cos(x.data)


class Cos(Function):
    def forward(self, x):
        return np.cos(x)

    def backward(self, gy):
        (x,) = self.inputs
        return gy * -np.sin(x.data)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = Variable(np.array(1.0), name="x")
y = Sin()(x)
y.backward()
print(f"sin x = {y.data:.6f}, by backward: first derivative = {x.grad:.6f}")

gy = Variable(np.array(1.0), name="gy")
gx = gy * Cos()(x)  # the line of Sin.backward, with Variables
x.cleargrad()
gx.backward()
print(f"gx = {gx.data:.6f}, by backward: second derivative = {x.grad:.6f}, -sin x = {-np.sin(1.0):.6f}")

ggx = gy * -Sin()(x)  # and the line of Cos.backward
x.cleargrad()
ggx.backward()
print(f"ggx = {ggx.data:.6f}, by backward: third derivative = {x.grad:.6f}, -cos x = {-np.cos(1.0):.6f}")

y.name, gx.name = "y", "gx"
show("step31_gradient_as_a_graph", dezero.graph([y, gx]))

# Exercise: do the same for y = x ** 3: write gx with Variables, and find the second derivative at x = 2.
# Hint: gx = gy * 3 * x ** 2. The second derivative is 6 * x.
