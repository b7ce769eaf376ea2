"""Step 38. Reshape and transpose.

Question: What is the gradient of an operation that calculates nothing?

Some operations only put numbers elsewhere. A reshape writes the same numbers, in the same order, into other rows: an
image of 28 times 28 becomes a row of 784. A transpose exchanges rows and columns, or, with more axes, puts the axes
into another order. In the table of such an operation each row has a single 1, where the number comes from, and 0
everywhere else.

So each number of gy belongs to one number of x, and has to be carried back to its place. A gradient always has the
shape of the Variable it belongs to. The way back of a reshape is a reshape to the shape that x had. The way back of a
transpose is the transpose that undoes it: when axis 2 went to the front, it goes from the front to place 2. For an
order of axes, np.argsort gives the order that undoes it.

backward is written with these operations themselves, so it can be derived again.

New: Reshape, reshape, Transpose, transpose
Look at: the numbers 0 to 5 on the way back. Each arrives where its own number of x stands.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Function, Variable


class Reshape(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.x_shape = x.shape
        return x.reshape(self.shape)

    def backward(self, gy):
        return reshape(gy, self.x_shape)


def reshape(x, shape):
    """Write the numbers of x, in their order, into another shape."""
    return Reshape(shape)(x)


class Transpose(Function):
    def __init__(self, axes=None):
        self.axes = axes

    def forward(self, x):
        return x.transpose(self.axes)

    def backward(self, gy):
        if self.axes is None:
            return transpose(gy)
        return transpose(gy, np.argsort(self.axes))  # the order that undoes `axes`


def transpose(x, axes=None):
    """Put the axes of x into another order: axis i of y is axis axes[i] of x. None reverses them."""
    return Transpose(axes)(x)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))

y = reshape(x, (6,))
print(f"x {x.shape} as a row {y.shape}: {y.data}")
y.grad = Variable(np.arange(6.0))  # not ones: each number should be told from the others
y.backward()
print(f"the numbers 0 to 5, back in x's shape:\n{x.grad.data}")

x.cleargrad()
y = transpose(x)
print(f"x transposed {y.shape}:\n{y.data}")
y.grad = Variable(np.arange(6.0).reshape(3, 2))
y.backward()
print(f"the numbers 0 to 5, back in x's shape, by columns:\n{x.grad.data}")

images = Variable(np.zeros((10, 28, 28, 3)))  # N images, height, width, 3 colours
y = transpose(images, (0, 3, 1, 2))
y.backward()
print(f"shape of y = {y.shape}, shape of images.grad = {images.grad.shape}")

# What dezero has: the same two functions in F, and methods of Variable.
print(f"F.reshape gives the same = {np.array_equal(F.reshape(x, (3, 2)).data, reshape(x, (3, 2)).data)}")
print(f"F.transpose gives the same = {np.array_equal(F.transpose(x).data, transpose(x).data)}")
print(f"shape of x.reshape(3, 2) = {x.reshape(3, 2).shape}")
print(f"shape of x.reshape(-1) = {x.reshape(-1).shape}")  # -1: as many as it takes
print(f"shape of x.T = {x.T.shape}")

# Exercise: write a function `flip` that turns the order of the rows of x around, with its way back.
# Hint: x[::-1] does it for an array. What undoes it?
