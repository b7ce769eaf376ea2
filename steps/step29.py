"""Step 29. Newton's method, by hand.

Question: How can a hundred iterations become six?

By knowing how the slope changes, and not the slope alone. The first derivative says which way is down. The second
says how soon the ground will level out. With both, the function can be replaced near x by a parabola, and a parabola
tells its lowest place outright:

    x <- x - f'(x) / f''(x)

In place of a learning rate, chosen by a person, stands 1 / f''(x): small where the curve bends sharply, large where
it is nearly straight. This is Newton's method. Each iteration doubles the number of right digits, once x is near.

It has a price. The second derivative has to be known, and here a person finds it on paper:

    y = x ** 4 - 3 * x ** 3 + 2        y' = 4 * x ** 3 - 9 * x ** 2        y'' = 12 * x ** 2 - 18 * x

The core finds the first. That it cannot find the second yet is what the next three steps are about.

New: Newton's method, second derivative
Look at: the iterations that each method needs until x is 2.25 to nine digits.
"""

from road import read_options, show

import numpy as np

from dezero.core_simple import Variable


def f(x):
    return x**4 - 3 * x**3 + 2


def second_derivative(x):
    return 12 * x**2 - 18 * x


def gradient(x):
    """Return the gradient of f at the Variable x."""
    x.cleargrad()
    f(x).backward()
    return x.grad


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
lowest = 2.25

x = Variable(np.array(4.0))
newton = [float(x.data)]
while abs(x.data - lowest) > 1e-9:
    x.data -= gradient(x) / second_derivative(x.data)
    newton.append(float(x.data))
    print(f"Newton's method, iteration {len(newton) - 1}: x = {x.data:.9f}")

x = Variable(np.array(4.0))
iterations = 0
while abs(x.data - lowest) > 1e-9:
    x.data -= 0.01 * gradient(x)
    iterations += 1
print(f"iterations of Newton's method = {len(newton) - 1}")
print(f"iterations of gradient descent = {iterations}")


def draw(figure):
    axes = figure.subplots()
    xs = np.linspace(1, 4.3, 200)
    axes.plot(xs, f(xs), color="black", label="f")
    start = newton[0]
    slope, bend = 4 * start**3 - 9 * start**2, second_derivative(start)
    parabola = f(start) + slope * (xs - start) + bend * (xs - start) ** 2 / 2
    axes.plot(xs, parabola, "--", color="tab:gray", label="the parabola that touches f at 4")
    axes.plot(newton, f(np.array(newton)), "o", color="tab:red", label="iterations")
    axes.set(title="Each iteration goes to the lowest place of a parabola", xlabel="x", ylabel="y", ylim=(-15, 90))
    axes.legend()


show("step29_newton", draw)

# Exercise: begin at x = 0.5. Where does Newton's method go, and why?
# Hint: print a few iterations. A parabola that opens downward has a highest place, and the slope of f is 0 at x = 0,
# too.
