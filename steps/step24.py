"""Step 24. Derivatives of complicated functions.

Question: Is the core right when a formula is long?

These three functions are used to test programs that look for the lowest place of a function:

    Sphere            x ** 2 + y ** 2                                a round bowl
    Matyas            0.26 * (x ** 2 + y ** 2) - 0.48 * x * y        a long flat valley
    Goldstein-Price   a product of two long polynomials              several valleys, one of them the deepest

Each has two inputs. Their derivatives can be found on paper, the last one in an hour and with mistakes. Here the
formula is enough. The gradient points to where the function rises fastest, so the opposite direction leads downhill,
though not always straight to the lowest place.

New: Sphere, Matyas and Goldstein-Price
Look at: the gradients at (1, 1), each beside its estimate, and the arrows in the picture, which point downhill.
"""

from road import read_options, show

import numpy as np

from dezero.core_simple import Variable


def sphere(x, y):
    return x**2 + y**2


def matyas(x, y):
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


def goldstein_price(x, y):
    return (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )


def gradient(f, x, y):
    """Return the gradient of f at two numbers."""
    x, y = Variable(np.array(x)), Variable(np.array(y))
    f(x, y).backward()
    return float(x.grad), float(y.grad)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
functions = {"Sphere": sphere, "Matyas": matyas, "Goldstein-Price": goldstein_price}
eps = 1e-5
for name, f in functions.items():
    gx, gy = gradient(f, 1.0, 1.0)
    print(f"{name}: z = {f(1.0, 1.0):.2f}, dz/dx = {gx:.2f}, dz/dy = {gy:.2f}")  # a formula takes bare numbers, too
    nx = (f(1.0 + eps, 1.0) - f(1.0 - eps, 1.0)) / (2 * eps)
    ny = (f(1.0, 1.0 + eps) - f(1.0, 1.0 - eps)) / (2 * eps)
    print(f"{name}, estimates: dz/dx = {nx:.2f}, dz/dy = {ny:.2f}")


def draw(figure):
    x, y = np.meshgrid(np.linspace(-2, 2, 201), np.linspace(-2, 2, 201))
    for axes, (name, f) in zip(figure.subplots(1, 3), functions.items(), strict=True):
        heights = f(x, y)
        levels = np.geomspace(heights.min() + 0.01, heights.max(), 15)
        axes.contour(x, y, heights, levels, cmap="viridis")
        for place in [(1.0, 1.0), (-1.5, 1.0), (0.5, -1.5), (-1.0, -1.0)]:
            downhill = -np.array(gradient(f, *place))
            axes.quiver(*place, *(downhill / np.linalg.norm(downhill)), color="tab:red", scale=6, width=0.012)
        axes.set(title=name, xlabel="x", ylabel="y", aspect="equal")


show("step24_downhill", draw, size=(12, 4.5))

# Exercise: find a place where the gradient of Matyas' function is (0, 0), and say why there can be no other.
# Hint: both derivatives are straight lines, 0.52 * x - 0.48 * y and 0.52 * y - 0.48 * x.
