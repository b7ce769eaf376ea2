"""Step 33. Newton's method, automated.

Question: Can Newton's method do without a second derivative found on paper?

Now it can. The first backward pass records its own graph, and the gradient it leaves in x.grad is the beginning of a
second pass. Between the two stands x.cleargrad(), or the second derivative would be added to the first.

From here on the steps use the full core, dezero/core.py. In idea it is the core of step 32. Daily use added to it:
numbers take on the type of the arrays beside them, arrays may have different shapes (step 40), a Function may have
outputs that nobody uses, leaves can refuse a gradient (requires_grad), a gradient is checked when it comes back, and
errors say what to do.

New: dezero.Variable, backward(create_graph=True)
Look at: the iterations of step 29, number by number, with nothing found on paper.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

from dezero import Variable


def f(x):
    return x**4 - 3 * x**3 + 2


def newton(f, x):
    """Return where Newton's method goes from the Variable x in one iteration, and the two derivatives there."""
    x.cleargrad()
    f(x).backward(create_graph=True)
    gx = x.grad
    x.cleargrad()
    gx.backward()
    gxx = x.grad
    return x.data - gx.data / gxx.data, gx.data, gxx.data


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array(4.0))
for i in range(1, 8):
    x.data, gx, gxx = newton(f, x)
    print(f"iteration {i}: first derivative = {gx:.6f}, second derivative = {gxx:.6f}, x = {x.data:.9f}")

x = Variable(np.array(2.0))
for _ in range(6):
    x.data, _, _ = newton(lambda x: x**3 / 3 - 2 * x, x)
print(f"the lowest place of x ** 3 / 3 - 2 * x = {x.data:.9f}")
print(f"square root of 2 = {np.sqrt(2):.9f}")

# Exercise: find the cube root of 5 with `newton`.
# Hint: a function whose first derivative is x ** 3 - 5.
