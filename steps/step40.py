"""Step 40. Broadcasting.

Question: What is the gradient of an array that NumPy stretches?

NumPy adds a row to a table by adding it to every row of the table. The smaller array is stretched to the shape of the
larger one, without copying, and this is called broadcasting. The rule: shapes are compared from the right, and where
one has size 1, or no axis at all, it is repeated. A network needs this all the time: one row of parameters is added to
the results of a hundred samples.

A number that was repeated took part several times. Step 14 says what happens then: its gradients add up. So the way
back of a stretch is a sum along the axes that were stretched, down to the shape that x had. That sum is an operation,
SumTo, and its own way back is the stretch:

    broadcast_to:  (3,) -> (2, 3)    way back: sum_to (2, 3) -> (3,)
    sum_to:        (2, 3) -> (3,)    way back: broadcast_to (3,) -> (2, 3)

For + and * and all others the stretch happens inside NumPy. An operation there returns a gradient in the stretched
shape, and backward() sums it to the shape of the input, in one place for all of them (dezero/core.py).

New: BroadcastTo, broadcast_to, SumTo, sum_to, sum_array_to
Look at: the gradient of the row: 2 for each number, as it was used in two rows.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Function, Variable


class BroadcastTo(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.x_shape = x.shape
        return np.broadcast_to(x, self.shape)

    def backward(self, gy):
        return sum_to(gy, self.x_shape)


def broadcast_to(x, shape):
    """Repeat x along new axes, and along axes of size 1, until it has `shape`."""
    return BroadcastTo(shape)(x)


def sum_array_to(x, shape):
    """Sum an array down to a shape that was stretched to x's."""
    new = x.ndim - len(shape)  # axes that the stretch put in front
    stretched = [i for i, size in enumerate(shape, start=new) if size == 1]
    return x.sum(axis=(*range(new), *stretched)).reshape(shape)


class SumTo(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.x_shape = x.shape
        return sum_array_to(x, self.shape)

    def backward(self, gy):
        return broadcast_to(gy, self.x_shape)


def sum_to(x, shape):
    """Sum x down to `shape`: what undoes a stretch on the way back."""
    return SumTo(shape)(x)


# Demonstration --------------------------------------------------------------------------------------------------------

row = Variable(np.array([1.0, 2.0, 3.0]))
y = broadcast_to(row, (2, 3))
print(f"a row {row.shape}, stretched to {y.shape}:\n{y.data}")
y.backward()
print(f"gradient of the row: {row.grad.data}")

table = Variable(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
for shape in ((3,), (1, 3), (2, 1), ()):
    print(f"the table summed to {shape}: {sum_to(table, shape).data.tolist()}")

# What dezero has: the same functions in F, and backward() sums where NumPy stretched.
print(f"F.broadcast_to gives the same = {np.array_equal(F.broadcast_to(row, (2, 3)).data, y.data)}")
print(f"F.sum_to gives the same = {np.array_equal(F.sum_to(table, (2, 1)).data, sum_to(table, (2, 1)).data)}")

row.cleargrad()
column = Variable(np.array([[10.0], [20.0]]))
y = column * row
y.backward()
print(f"column {column.shape} * row {row.shape}: shape = {y.shape}")
print(f"gradient of the row = {row.grad.data.tolist()}")  # 10 + 20: the column's numbers
print(f"gradient of the column = {column.grad.data.tolist()}")  # 1 + 2 + 3: the row's numbers

try:
    table + np.ones(2)
except ValueError as error:
    print(f"ValueError: {error}")

# Exercise: subtract from each row of `table` its own mean, with F.sum and keepdims, and find the gradient of the sum of
# the squares of what is left.
# Hint: the mean has the shape (2, 1), and stretches by itself. Why would it not without keepdims?
