"""Step 27. The Taylor series of sine.

Question: Can a derivative be found when a function has no formula, but only a recipe with a loop?

The sine is a good case, because it has both. As an operation it takes two lines: the derivative of sin is cos. As a
recipe it is a sum of infinitely many terms, the Taylor series:

    sin x = x - x ** 3 / 3! + x ** 5 / 5! - x ** 7 / 7! + ...        n! = 1 * 2 * ... * n

Each term follows from the one before by a multiplication, and a loop adds terms until they are smaller than a
threshold. How often it goes round depends on x. Nothing prepares the core for that, and nothing has to: the graph is
what the calculation leaves behind, and every round leaves its part.

New: Sin, sine_by_series
Look at: how value and derivative approach sin and cos as the threshold falls, and the picture, where each term
    carries the curve further along the sine.
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


def sin(x):
    """y = sin x."""
    return Sin()(x)


def sine_by_series(x, threshold=1e-4):
    """Add terms of the series until they are smaller than the threshold. Returns the sum and the number of terms."""
    y = term = x
    n = 1
    while np.abs(term.data).max() >= threshold:
        term = term * x**2 / (-2 * n * (2 * n + 1))
        y = y + term
        n += 1
    return y, n


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = Variable(np.array(np.pi / 4), name="x")
y = sin(x)
y.backward()
print(f"operation: sin x = {y.data:.6f}, derivative = {x.grad:.6f}, 1 / sqrt(2) = {1 / np.sqrt(2):.6f}")

for threshold in (1e-1, 1e-4, 1e-8, 1e-150):
    x.cleargrad()
    y, n = sine_by_series(x, threshold)
    y.backward()
    wrong = abs(y.data - np.sin(x.data)), abs(x.grad - np.cos(x.data))
    print(f"threshold {threshold:.0e}: terms = {n}, error = {wrong[0]:.1e}, error of the derivative = {wrong[1]:.1e}")

y, _ = sine_by_series(x, 1e-2)
show("step27_three_terms", dezero.graph(y, verbose=False))

xs = np.linspace(-9, 9, 200)
sums, term = [xs], xs
for n in range(1, 8):
    term = -term * xs**2 / (2 * n * (2 * n + 1))
    sums.append(sums[-1] + term)


def draw(figure):
    axes = figure.subplots()
    axes.plot(xs, np.sin(xs), color="black", linewidth=3, label="sin x")
    for n in (1, 2, 3, 5, 8):
        axes.plot(xs, sums[n - 1], label=f"{n} term{'s' * (n > 1)}")
    axes.set(title="Sums of the first terms", xlabel="x", ylabel="y", ylim=(-3, 3))
    axes.legend()


show("step27_series", draw)

# Exercise: write exp by its series, 1 + x + x ** 2 / 2! + x ** 3 / 3! + ..., and find its derivative at 1.
# Hint: begin with y = 1 + x and term = x; the next term is the last one times x / 2.
