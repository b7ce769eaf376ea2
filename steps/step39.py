"""Step 39. Sum.

Question: How do many numbers become one, and one gradient many?

A loss is one number, and an array has many. Between them stands a sum. In y = x0 + x1 + ... + xn every x moves y as
far as it moves itself, so the table of the sum is one row of ones. The way back gives each number of x the whole gy:
gy is repeated until it has the shape of x.

An array can also be summed along one of its axes. Axis 0 runs down: its sum adds the rows and leaves one number for
each column. Axis 1 runs across. The axis that was summed is gone from the shape, (2, 3) becomes (3,), or with
keepdims=True it stays with size 1, (1, 3). On the way back it is first put there again, with size 1, and then gy is
repeated along it. Repeating is an operation of its own, F.broadcast_to, and the subject of step 40.

New: Sum, sum, kept_shape, axis, keepdims
Look at: the gradient of a weighted sum along each axis: every number of a column, or of a row, gets the same.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Function, Variable


def kept_shape(shape, axis):
    """Return the shape that a sum along `axis` leaves when the summed axes stay, with size 1."""
    axes = range(len(shape)) if axis is None else (axis,)
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


class Sum(Function):
    def __init__(self, axis=None, keepdims=False):
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x):
        self.x_shape = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy):
        gy = F.reshape(gy, kept_shape(self.x_shape, self.axis))
        return F.broadcast_to(gy, self.x_shape)


def sum(x, axis=None, keepdims=False):
    """Add the numbers of x along `axis`, or all of them."""
    return Sum(axis, keepdims)(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
y = sum(x)
y.backward()
print(f"y = {y.data}")
print(f"dy/dx:\n{x.grad.data}")

for axis, weights in ((0, [1.0, 10.0, 100.0]), (1, [1.0, 10.0])):
    x.cleargrad()
    y = sum(x, axis=axis)
    print(f"sum along axis {axis}: shape = {y.shape}, y = {y.data}")
    z = sum(y * np.array(weights))
    z.backward()
    print(f"dz/dx, where z weighs them with {weights}:\n{x.grad.data}")

print(f"shape of a sum along axis 1 with keepdims=True = {sum(x, axis=1, keepdims=True).shape}")

# What dezero has: F.sum, and a method of Variable. There an axis may also be counted from the end, or be several.
print(f"F.sum gives the same = {np.array_equal(F.sum(x, axis=1).data, sum(x, axis=1).data)}")
print(f"x.sum() = {x.sum().data}")
print(f"x.sum(axis=-1) = {x.sum(axis=-1).data}")

# A mean is a sum over how many there are. No Function of its own is needed.
x.cleargrad()
mean = sum(x) / x.size
mean.backward()
print(f"mean of x = {mean.data}")
print(f"the gradient of the mean for every number of x = {x.grad.data[0, 0]:.6f}")

# Exercise: write variance(x), the mean of the squares of x minus its mean, and compare it with np.var(x.data).
# Hint: sums, powers and a division are enough; its gradient is found by the operations it is made of.
