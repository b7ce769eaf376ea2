"""Step 37. Tensors.

Question: What changes when x is a whole array and not one number?

The way forward does not: NumPy's + and * work on every number of an array. Arrays of numbers with any number of axes
are called tensors by mathematicians; here they go on being called arrays. The way back needs a thought. When x has n
numbers and y has m, there is a derivative of each y to each x, a table of m rows and n columns. It is called the
Jacobian matrix of the operation. The chain rule stays what it was, with the product of tables in place of the product
of numbers:

    dz/dx = dz/dy * dy/dx        (k, n) = (k, m) times (m, n)

The way back begins with one row, a number for each result, and multiplies it with the last table, then the one before.
A row times a table is a row again. No table of an operation on arrays of a million numbers is ever built. An
elementwise operation, where y[i] depends on x[i] alone, has a table that is 0 off its diagonal. A row times such a
table is the row times the diagonal, number by number: gy * cos(x), as it stands in sine's backward since step 27.

backward() begins with a row of ones. x.grad is therefore the sum of all rows of the table: the derivative of the sum
of all results. The steps up to 41 look at operations that are not elementwise, table by table.

New: Jacobian matrix
Look at: the table of estimates, 0 off the diagonal, and its rows added up, beside x.grad.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Variable


def jacobian(f, x, eps=1e-4):
    """Estimate dy/dx for y = f(x): a row for each number of y, a column for each number of x."""
    columns = []
    for j in range(x.size):
        little = np.zeros(x.size)
        little[j] = eps  # one number of x moves, the others stand still
        little = little.reshape(x.shape)
        columns.append((f(x + little).data - f(x - little).data).ravel() / (2 * eps))
    return np.stack(columns, axis=1)


def wave(x):
    """y = sin x + x ** 2, for every number in x."""
    return F.sin(x) + x**2


# Demonstration --------------------------------------------------------------------------------------------------------

np.set_printoptions(precision=4, suppress=True)
x = Variable(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
y = wave(x)
y.backward()
print(f"shape of x = {x.shape}, shape of y = {y.shape}, shape of x.grad = {x.grad.shape}")

alone = Variable(np.array(5.0))  # the number in the second row, second column
wave(alone).backward()
print(f"dy/dx at 5, among the others = {x.grad.data[1, 1]:.6f}")
print(f"dy/dx at 5, alone in its box = {alone.grad.data:.6f}")

row = Variable(np.array([1.0, 2.0, 3.0]))
wave(row).backward()
table = jacobian(wave, row.data)
print(f"the table dy/dx of a row of three:\n{table}")
print(f"its rows added up: {np.ones(3) @ table}")
print(f"row.grad: {row.grad.data}")

z = wave(wave(row))
row.cleargrad()
z.backward()
tables = jacobian(wave, wave(row.data).data) @ table
print(f"rows of the product of two tables added up: {np.ones(3) @ tables}")
print(f"row.grad of wave(wave(row)): {row.grad.data}")

# Exercise: change the first number that backward() begins with: y.grad = Variable(np.array([10.0, 1.0, 1.0])) before
# the way back from y = wave(row). What happens to row.grad?
# Hint: the row that is multiplied with the table need not be ones.
