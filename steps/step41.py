"""Step 41. Matrix products.

Question: How can one operation mix all the numbers of a row, for all rows at once?

Let a sample be a row of D numbers: the height, weight and age of a person. Each of H results is a weighted sum of
them, with weights of its own. The weights stand in a table W, a column for each result, and the samples in a table x,
a row for each. Such tables are called matrices, and the table of all weighted sums is their product:

    y[n, h] = x[n, 0] * W[0, h] + x[n, 1] * W[1, h] + ...        (N, D) (D, H) -> (N, H)

The sizes in the middle must agree, and are gone in the result. Python writes this x @ W, and dezero F.matmul.

On the way back W[d, h] has moved y[n, h] by x[n, d] for every sample n, and so receives gy[n, h] * x[n, d], added over
n. That is a product again, of x turned on its side with gy. For x it is the other way around:

    gx = gy W^T    (N, H) (H, D) -> (N, D)        gW = x^T gy    (D, N) (N, H) -> (D, H)

W^T is W transposed. The shapes leave no choice: there is no other order in which these products fit.

New: MatMul, matmul, dezero.testing.numerical_grad
Look at: the shapes of the gradients, and the largest difference of each from its estimate (numerical_grad, step 4).
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Function, Variable
from dezero.testing import numerical_grad


class MatMul(Function):
    def forward(self, x, W):
        return x @ W

    def backward(self, gy):
        x, W = self.inputs
        return matmul(gy, F.transpose(W)), matmul(F.transpose(x), gy)


def matmul(x, W):
    """y = x W: (N, D) (D, H) -> (N, H)."""
    return MatMul()(x, W)


# Demonstration --------------------------------------------------------------------------------------------------------

# Two orders in a shop: how many loaves, rolls and cakes. Their prices today and tomorrow, a column each.
orders = Variable(np.array([[2.0, 10.0, 0.0], [1.0, 4.0, 3.0]]))
prices = Variable(np.array([[3.0, 3.5], [0.5, 0.5], [4.0, 6.0]]))
bills = matmul(orders, prices)
print(f"bills, a row for each order, a column for each day:\n{bills.data}")
bills.backward()
print(f"gradient of the prices, which is how often each was sold:\n{prices.grad.data}")

np.random.seed(0)
x = Variable(np.random.randn(5, 3))
W = Variable(np.random.randn(3, 2))
weights = np.random.randn(5, 2)  # so that each number of y counts in its own way
y = matmul(x, W)
(y * weights).sum().backward()
print(f"shape of x = {x.shape}, shape of W = {W.shape}, shape of y = {y.shape}")
print(f"shape of x.grad = {x.grad.shape}, shape of W.grad = {W.grad.shape}")
for name, v, estimate in (
    ("x", x, numerical_grad(lambda x: (matmul(x, W) * weights).sum(), x.data)),
    ("W", W, numerical_grad(lambda W: (matmul(x, W) * weights).sum(), W.data)),
):
    print(f"gradient of {name}: largest difference = {np.abs(v.grad.data - estimate).max():.1e}")

# What dezero has: F.matmul and the operator @, which also take single rows and whole batches of matrices.
print(f"F.matmul gives the same = {np.array_equal(F.matmul(x, W).data, y.data)}")
print(f"x @ W gives the same = {np.array_equal((x @ W).data, y.data)}")
try:
    x @ x
except ValueError as error:
    print(f"ValueError: {error}")

# Exercise: calculate y by the formula above, with three loops and no @, and compare.
# Hint: begin with zeros of the shape (5, 2), and add one product at a time.
