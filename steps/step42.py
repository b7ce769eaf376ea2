"""Step 42. Linear regression.

Question: Which straight line fits a cloud of points best?

A spring hangs from a hook. With each load x its length t is measured, a little wrong each time. The line looked for is
y = x W + b, and all it needs is two numbers: the slope W and the height b where it begins. Numbers that are looked for
in this way are called parameters.

What "best" means has to be said with one number. For each point the line is wrong by y - t. Squares of that are never
negative, and large mistakes count most. Their mean over the N points is the mean squared error, and here it is the
loss:

    loss = ((y0 - t0) ** 2 + (y1 - t1) ** 2 + ...) / N

Then gradient descent, step 28, does the rest. The one difference to Rosenbrock's function is that W and b are what
moves, while x and t, the data, stand still.

The loss can be written with operations that are there. As one Function it is the same number, and keeps fewer arrays
alive: the differences and squares on the way to the sum are forgotten.

New: MeanSquaredError, mean_squared_error, parameter
Look at: W and b on their way to the best line there is, which for a straight line a formula can find.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Function, Variable


class MeanSquaredError(Function):
    def forward(self, x0, x1):
        difference = x0 - x1
        return (difference**2).sum() / len(difference)

    def backward(self, gy):
        x0, x1 = self.inputs
        difference = x0 - x1
        gx0 = gy * difference * (2 / len(difference))
        return gx0, -gx0


def mean_squared_error(x0, x1):
    """The squares of x0 - x1, added up, over how many rows there are."""
    return MeanSquaredError()(x0, x1)


def mean_squared_error_simple(x0, x1):
    """The same, made of operations that are there."""
    difference = x0 - x1
    return F.sum(difference**2) / len(difference)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
x = Variable(2 * np.random.rand(80, 1))
t = Variable(3 + 1.5 * x.data + 0.2 * np.random.randn(80, 1))
W = Variable(np.zeros((1, 1)))
b = Variable(np.zeros(1))

three = [f(x, t).data for f in (mean_squared_error, mean_squared_error_simple, F.mean_squared_error)]
print(f"three ways to calculate the loss agree = {np.allclose(three, three[0])}")

points = x.data, t.data
slope, start = np.polyfit(x.data[:, 0], t.data[:, 0], 1)  # the formula's answer
if options.gpu:
    for v in (x, t, W, b):
        v.to_gpu()  # the arrays move; step 52 says more

lr = 0.1
losses = []
lines = {}
for i in range(201):
    y = F.matmul(x, W) + b
    loss = F.mean_squared_error(y, t)
    losses.append(float(loss.data))
    if i in (0, 5, 20, 50, 200):
        print(f"iteration {i:3}: loss = {losses[-1]:.4f}, W = {float(W.data[0, 0]):.6f}, b = {float(b.data[0]):.6f}")
        lines[i] = float(W.data[0, 0]), float(b.data[0])
    W.cleargrad()
    b.cleargrad()
    loss.backward()
    W.data -= lr * W.grad.data
    b.data -= lr * b.grad.data
print(f"slope by the formula = {slope:.6f}")
print(f"start by the formula = {start:.6f}")
print(f"final loss = {losses[-1]:.4f}")


def draw(figure):
    left, right = figure.subplots(1, 2)
    left.plot(*points, "o", color="tab:blue", alpha=0.6, label="data")
    ends = np.array([0.0, 2.0])
    for i, (slope, start) in lines.items():
        left.plot(ends, start + slope * ends, color="tab:red", alpha=0.3 + 0.7 * (i == 200), linewidth=1 + (i == 200))
        left.annotate(f"{i}", (-0.03, start), fontsize=8, horizontalalignment="right", verticalalignment="center")
    left.set(title="The line after 0 to 200 iterations", xlabel="load x", ylabel="length t", xlim=(-0.25, 2.1))
    left.legend()
    right.semilogy(losses, color="tab:red")
    right.set(title="The loss falls", xlabel="iteration", ylabel="mean squared error")


show("step42_line", draw, size=(10, 5))

# Exercise: measure one point very wrong, with t.data[0] = 20 before the loop. What happens to the line, and why?
# Hint: the square of a large mistake is very large. What if the loss were made of abs(y - t)?
