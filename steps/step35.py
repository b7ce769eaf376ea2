"""Step 35. Graphs of higher derivatives.

Question: How large do the graphs of higher derivatives become?

The function tanh, the hyperbolic tangent, leads from -1 to 1 in an S. Networks like it, as step 43 will show for a
curve of the same family. Its derivative can be written with its own value, so that backward has little to calculate:

    y = tanh x        dy/dx = 1 - y ** 2

In the package this formula is one Function, TanhGrad, whose own derivative is made of products. The derivative of a
product has two parts, so each order is larger than the last, by a factor and not by a number. Deriving again and
again is exact, but for high orders it is not cheap.

New: F.tanh
Look at: the number of Functions for every order, and how the picture for the third order compares with the first.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import Variable


def graphs(f, x, orders):
    """Return the derivatives of f at the number x, from the first to a higher order, with their graphs."""
    x = Variable(np.array(x), name="x")
    y, found = f(x), []
    for order in range(1, orders + 1):
        x.cleargrad()
        y.backward(create_graph=True)
        y = x.grad
        y.name = "g" * order + "x"
        found.append(y)
    return found


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
found = graphs(F.tanh, 1.0, 5)
t = np.tanh(1.0)
print(f"first derivative on paper = {1 - t**2:.6f}, second derivative on paper = {-2 * t * (1 - t**2):.6f}")
for order, y in enumerate(found, 1):
    print(f"order {order}: derivative = {y.data:.6f}, Functions = {dezero.graph(y, verbose=False).counts[0]}")

for order in (1, 2, 3):
    show(f"step35_tanh_order_{order}", dezero.graph(found[order - 1], verbose=False))

# Exercise: do the same for F.exp. Why does its graph grow by one Function only with every order?
# Hint: the derivative of exp x is exp x, and that has been calculated already.
