"""Step 28. Going downhill on Rosenbrock's function.

Question: What are gradients good for?

For finding where a function is lowest. The gradient says in which direction it rises fastest, so a small move the
other way goes down. Repeated many times, this is gradient descent:

    x <- x - lr * gradient

The small number lr is the learning rate. Too small, and it takes forever. Too large, and a move ends on the other
side of the valley, higher than before. Rosenbrock's function makes it hard on purpose:

    y = 100 * (x1 - x0 ** 2) ** 2 + (x0 - 1) ** 2

Its valley is a curved gorge. The walls are steep, so lr has to be small, and the floor is nearly flat, so the way
along it to the lowest place, (1, 1), is long. Training a network is this same walk, with a loss in place of
Rosenbrock's function and all its parameters in place of x0 and x1.

New: gradient descent, learning rate
Look at: how quickly the floor of the gorge is reached, and how slowly the place (1, 1).
"""

from road import read_options, show

import numpy as np

from dezero.core_simple import Variable


def rosenbrock(x0, x1):
    return 100 * (x1 - x0**2) ** 2 + (x0 - 1) ** 2


def gradient_descent(f, x0, x1, lr, iterations):
    """Go downhill. Yields what y was before each iteration, and what x0 and x1 were."""
    for _ in range(iterations):
        y = f(x0, x1)
        yield float(y.data), float(x0.data), float(x1.data)
        x0.cleargrad()
        x1.cleargrad()
        y.backward()
        x0.data -= lr * x0.grad
        x1.data -= lr * x1.grad


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x0 = Variable(np.array(-1.2))
x1 = Variable(np.array(1.0))
way = list(gradient_descent(rosenbrock, x0, x1, lr=0.001, iterations=10001))
for i in (0, 10, 100, 1000, 5000, 10000):
    y, a, b = way[i]
    print(f"iteration {i:5}: x0 = {a:.6f}, x1 = {b:.6f}, y = {y:.6f}")

at = np.array([place[1:] for place in way])


def draw(figure):
    axes = figure.subplots()
    a, b = np.meshgrid(np.linspace(-1.6, 1.6, 300), np.linspace(-0.6, 2.2, 300))
    axes.contour(a, b, rosenbrock(a, b), np.geomspace(0.1, 1000, 14), cmap="viridis", linewidths=0.8)
    axes.plot(at[:, 0], at[:, 1], ".-", color="tab:red", markersize=3, linewidth=1, label="10,000 iterations")
    axes.plot(1, 1, "*", color="tab:blue", markersize=15, label="the lowest place")
    axes.set(title="Rosenbrock's function", xlabel="x0", ylabel="x1")
    axes.legend(loc="lower left")


show("step28_way_down", draw)

# Exercise: how large may lr be? Try 0.002, 0.004 and 0.008 with 100 iterations, and print y.
# Hint: when a walk leaves the gorge, y grows so fast that NumPy warns of an overflow.
