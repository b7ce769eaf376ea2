"""Step 36. A gradient inside a loss.

Question: What else can be done with a gradient that has a graph?

Anything that can be done with a number. It can be part of a formula, and the formula can be derived. For example

    y = x ** 3        z = (dy/dx) ** 2 + y

On paper dy/dx is 3 * x ** 2. So z is 9 * x ** 4 + x ** 3, whose derivative can be found on paper, too. The program
needs no paper: the first pass leaves dy/dx as a Variable, z is calculated with it, and the second pass goes back
through both. This is called double backpropagation.

It is useful wherever what is wanted is said in terms of slopes. Here a curve is wanted whose slope is everywhere
equal to its height, and which begins at 1. The curve is a polynomial with coefficients c, not known yet. How badly it
fails is measured by one number, the loss: the squares of slope minus height, added up over some places, and ten times
the square of what is missing at the beginning. Gradient descent on c does the rest, as in step 28. Nothing in the
program tells the curve of the number e, and yet it ends there.

Penalties on gradients, used when networks are trained to generate images, and networks that solve the equations of
physics work in the same way.

New: double backpropagation, loss
Look at: dz/dx beside the number found on paper, how the loss falls, and the height of the curve at 1.
"""

from road import read_options, show

import numpy as np

from dezero import Variable


def polynomial(c, x):
    """Return c0 + c1 * x + c2 * x ** 2 + ... at every number in x."""
    y = c[0]
    for power, coefficient in enumerate(c[1:], 1):
        y = y + coefficient * x**power
    return y


def loss_of(c, x):
    """Say with one number how badly slope and height disagree at the places x, and how far the beginning is from 1."""
    x.cleargrad()
    height = polynomial(c, x)
    height.backward(create_graph=True)
    slope = x.grad
    for coefficient in c:
        coefficient.cleargrad()  # the pass above was for the slope
    return ((slope - height) ** 2).sum() + 10 * (polynomial(c, np.array(0.0)) - 1) ** 2


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = Variable(np.array(2.0))
y = x**3
y.backward(create_graph=True)
gx = x.grad
x.cleargrad()
z = gx**2 + y
z.backward()
print(f"dz/dx = {x.grad.data}, 36 * x ** 3 + 3 * x ** 2 = {36 * 2.0**3 + 3 * 2.0**2}")

c = [Variable(np.array(0.0)) for _ in range(5)]
places = Variable(np.linspace(0, 1, 6))
everywhere = np.linspace(0, 1, 100)
curves = {}
for i in range(1001):
    loss = loss_of(c, places)
    if i in (0, 5, 25, 1000):
        print(f"iteration {i:4}: loss = {loss.data:.6f}, height at 1 = {polynomial(c, np.array(1.0)).data:.4f}")
        curves[i] = polynomial(c, everywhere).data
    loss.backward()
    for coefficient in c:
        coefficient.data -= 0.03 * coefficient.grad.data
print(f"e = {np.e:.4f}")


def draw(figure):
    axes = figure.subplots()
    axes.plot(everywhere, np.exp(everywhere), color="black", linewidth=4, alpha=0.3, label="e to the power of x")
    for i, curve in curves.items():
        axes.plot(everywhere, curve, label=f"after {i} iterations")
    axes.set(title="A curve whose slope is its height", xlabel="x", ylabel="y")
    axes.legend()


show("step36_slope_is_height", draw)

# Exercise: look for a curve whose slope is minus its height, with the learning rate 0.01. What is its height at 1?
# Hint: one sign in `loss_of`. The curve is 1 / e to the power of x.
