"""Step 34. The derivatives of sine.

Question: What do a function and its derivatives look like side by side?

F.sin is in the package, with F for dezero.functions, where all operations live. Its backward calls F.cos, and that of
F.cos calls F.sin, so it can be derived as often as anybody likes.

A Variable holds an array, and each operation works on every number in it. So 200 places can be calculated at once.
The result is an array too, and its backward pass begins with ones: each place gets its own derivative, since the
places have nothing to do with each other.

Each derivative of sine is the last one moved to the left by a quarter of a wave, and after four the sine is back.

New: dezero.functions as F, F.sin
Look at: the largest difference to the formula for every order, and four curves, one behind the other.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Variable


def derivatives(f, x, orders):
    """Return y = f(x) and its derivatives at every number of the array x."""
    x = Variable(x)
    y = f(x)
    found = [y.data]
    for _ in range(orders):
        x.cleargrad()
        y.backward(create_graph=True)
        y = x.grad
        found.append(y.data)
    return found


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = np.linspace(-7, 7, 200)
curves = derivatives(F.sin, x, 4)
formulas = {"sin x": np.sin(x), "cos x": np.cos(x), "-sin x": -np.sin(x), "-cos x": -np.cos(x)}
for order, (curve, name) in enumerate(zip(curves, [*formulas, "sin x"], strict=True)):
    error = np.abs(curve - formulas[name]).max()
    print(f"derivative of order {order} is {name}: largest difference = {error:.1e}")


def draw(figure):
    axes = figure.subplots()
    for order, curve in enumerate(curves[:4]):
        axes.plot(x, curve, linewidth=3 - order / 2, label="sine" if order == 0 else f"derivative of order {order}")
    axes.set(title="Sine and its derivatives", xlabel="x", ylabel="y")
    figure.legend(loc="outside lower center", ncols=4)


show("step34_derivatives_of_sine", draw)

# Exercise: draw x * sin x and its first two derivatives.
# Hint: a Python function of a Variable, `lambda x: x * F.sin(x)`, is all that `derivatives` needs.
