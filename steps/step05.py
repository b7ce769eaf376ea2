"""Step 5. The way back, in theory.

Question: How do the derivatives of the parts make the derivative of the whole, and in which order?

By multiplication. If a moves three times as far as x, and y twice as far as a, then y moves six times as far as x.
This is the chain rule, and for the calculation of step 3 it says

    dy/dx = dy/db * db/da * da/dx        da/dx = exp(x)    db/da = 2 * a    dy/db = exp(b)

The product can be worked out from either end. From the right, beginning at x, the numbers on the way are db/dx and
dy/dx. From the left, beginning at y, they are dy/da and dy/dx. For single numbers it makes no difference. For arrays
it does. Between two arrays of n numbers there are n times n derivatives, a table, and the product of two such tables
takes n ** 3 multiplications. But the result of a calculation that is to be improved is one number, "how bad is it".
Beginning there, every product is a row times a table, n ** 2 multiplications, and one walk gives the derivatives with
respect to every number that went in. Beginning at the result and walking back is called backpropagation.

The core is that of step 4.

Look at: the product from both ends, beside the numerical gradient, and the number of multiplications for arrays.
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


def numerical_grad(f, x, eps=1e-4):
    """Estimate dy/dx from two values of f, a little below x and a little above."""
    below = Variable(x.data - eps)
    above = Variable(x.data + eps)
    return (f(above).data - f(below).data) / (2 * eps)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(0.0))
a = Exp()(x)
b = Square()(a)
y = Exp()(b)

da_dx = np.exp(x.data)
db_da = 2 * a.data
dy_db = np.exp(b.data)
print(f"da/dx = {da_dx:.6f}")
print(f"db/da = {db_da:.6f}")
print(f"dy/db = {dy_db:.6f}")

db_dx = db_da * da_dx
print(f"from x: db/dx = {db_dx:.6f}, dy/dx = {dy_db * db_dx:.6f}")
dy_da = dy_db * db_da
print(f"from y: dy/da = {dy_da:.6f}, dy/dx = {dy_da * da_dx:.6f}")
print(f"numerical gradient = {numerical_grad(lambda x: Exp()(Square()(Exp()(x))), x):.6f}")

# Three operations from n numbers to n numbers, and a last one from n numbers to a single one. `@` multiplies tables.
n = 100
tables = [np.random.default_rng(seed).normal(size=(n, n)) / 10 for seed in range(3)]
row = np.ones((1, n))
from_x = row @ (tables[2] @ (tables[1] @ tables[0]))
from_y = ((row @ tables[2]) @ tables[1]) @ tables[0]
print(f"both orders give the same = {np.allclose(from_x, from_y)}")
print(f"multiplications from x = {2 * n**3 + n**2}")
print(f"multiplications from y = {3 * n**2}")

# Exercise: for y = (x ** 2) ** 2 at x = 3, multiply the two derivatives on paper, and compare with 4 * x ** 3.
# Hint: the outer square has the derivative 2 * b where b is what went into it, x ** 2, and not x.
