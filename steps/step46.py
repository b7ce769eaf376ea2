"""Step 46. Optimizers.

Question: How can the way to the lowest place be made shorter?

So far every update was p.data -= lr * p.grad.data, written out in each program. An optimizer is an object that knows
the parameters of a model and changes all of them by one rule. Another rule is then another object, and the program
stays as it is. The rule goes into update_one, which changes one parameter. Everything around it, finding the
parameters and passing over those without a gradient, is the same for all and stands in Optimizer.

SGD is the rule so far. The letters stand for stochastic gradient descent: "stochastic", by chance, as the samples
will soon be drawn. In a long valley it goes to and fro between the walls and hardly forward. MomentumSGD lets the
update keep most of its last movement, like a ball that rolls:

    v <- momentum * v - lr * gradient        p <- p + v

To and fro cancels, and what goes forward adds up. Adam remembers a mean of past gradients, m, and a mean of their
squares, v, for each number of each parameter, and divides the one by the root of the other:

    m <- m + (1 - beta1) * (gradient - m)        v <- v + (1 - beta2) * (gradient ** 2 - v)
    p <- p - lr * m / (sqrt(v) + eps)

So each number has a learning rate of its own, smaller where its gradients have been large. It needs the least care of
all and is the usual first choice. Both means begin at zero and are too small at first; lr makes up for that.

Before the rule, hooks may look at the gradients and change them. WeightDecay adds a little of the parameter to its
gradient, so that no weight grows without need.

New: Optimizer, SGD, MomentumSGD, Adam, WeightDecay, hook
Look at: where three rules get in a long valley, and the losses of the network of step 45 under each of them.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Model, Parameter, Variable, models, optimizers


class Optimizer:
    """Something that changes the parameters of a model. A subclass writes `update_one`."""

    def __init__(self):
        self.target = None
        self.hooks = []

    def setup(self, target):
        """Take the parameters of `target`, and return the optimizer itself."""
        self.target = target
        return self

    def update(self):
        """Call the hooks, then change each parameter that has a gradient."""
        params = [param for param in self.target.params() if param.grad is not None]
        for hook in self.hooks:
            hook(params)
        for param in params:
            self.update_one(param)

    def update_one(self, param):
        raise NotImplementedError(f"{type(self).__name__} has no update_one method")

    def add_hook(self, f):
        """Call f(params) at every update, before the rule."""
        self.hooks.append(f)


class SGD(Optimizer):
    """p <- p - lr * gradient."""

    def __init__(self, lr=0.01):
        super().__init__()
        self.lr = lr

    def update_one(self, param):
        param.data -= self.lr * param.grad.data


class MomentumSGD(Optimizer):
    """v <- momentum * v - lr * gradient; p <- p + v."""

    def __init__(self, lr=0.01, momentum=0.9):
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self.vs = {}

    def update_one(self, param):
        v = self.vs.setdefault(param, np.zeros_like(param.data))  # one for each parameter, at rest at first
        v *= self.momentum
        v -= self.lr * param.grad.data
        param.data += v


class Adam(Optimizer):
    """m and v are means of the gradient and of its square; p <- p - lr * m / (sqrt(v) + eps)."""

    def __init__(self, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
        super().__init__()
        self.alpha, self.beta1, self.beta2, self.eps = alpha, beta1, beta2, eps
        self.t = 0  # how many updates there were
        self.ms, self.vs = {}, {}

    def update(self):
        self.t += 1
        super().update()

    @property
    def lr(self):
        """alpha, and more for m, which begins at zero, less for v, which does too."""
        return self.alpha * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)

    def update_one(self, param):
        g = param.grad.data
        m = self.ms.setdefault(param, np.zeros_like(param.data))
        v = self.vs.setdefault(param, np.zeros_like(param.data))
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g**2 - v)
        param.data -= self.lr * m / (np.sqrt(v) + self.eps)


class WeightDecay:
    """A hook: each gradient gets `rate` times its parameter."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, params):
        for param in params:
            param.grad.data += self.rate * param.data


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)


class Valley(Model):
    """A function with a long valley; the place where a walk through it stands is its parameter."""

    def __init__(self):
        super().__init__()
        self.place = Parameter(np.array([-8.0, 2.0]))

    def forward(self):
        return (self.place**2 * np.array([0.01, 1.0])).sum()


def walk(optimizer, iterations=60):
    """Return the places that a walk comes through."""
    valley = Valley()
    optimizer.setup(valley)
    places = [valley.place.data.copy()]
    for _ in range(iterations):
        valley.cleargrads()
        valley().backward()
        optimizer.update()
        places.append(valley.place.data.copy())
    return np.array(places)


# What dezero has, under the same names.
same = np.array_equal(walk(optimizers.SGD(0.95)), walk(SGD(0.95)))
print(f"optimizers.SGD gives the same = {same}")
same = np.allclose(walk(optimizers.MomentumSGD(0.2)), walk(MomentumSGD(0.2)), rtol=1e-12)
print(f"optimizers.MomentumSGD gives the same = {same}")
same = np.allclose(walk(optimizers.Adam(0.4)), walk(Adam(0.4)), rtol=1e-12)
print(f"optimizers.Adam gives the same = {same}")

mine, theirs = SGD(0.95), optimizers.SGD(0.95)
mine.add_hook(WeightDecay(0.1))
theirs.add_hook(optimizers.WeightDecay(0.1))
print(f"optimizers.WeightDecay gives the same = {np.allclose(walk(mine), walk(theirs), rtol=1e-12)}")

rules = {
    "SGD": lambda: optimizers.SGD(0.95),
    "MomentumSGD": lambda: optimizers.MomentumSGD(0.2),
    "Adam": lambda: optimizers.Adam(0.4),
}
walks = {name: walk(make()) for name, make in rules.items()}
for name, places in walks.items():
    print(f"{name}: place after 60 iterations = ({places[-1, 0]:.4f}, {places[-1, 1]:.4f})")

np.random.seed(0)
x = (2 * np.random.rand(100, 1)).astype(np.float32)
t = (np.sin(4 * x) + x / 2 + 0.1 * np.random.randn(100, 1)).astype(np.float32)
x, t = Variable(x), Variable(t)
if options.gpu:
    x.to_gpu()
    t.to_gpu()

rules = {"SGD": optimizers.SGD(0.1), "MomentumSGD": optimizers.MomentumSGD(0.1), "Adam": optimizers.Adam(0.02)}
losses = {}
for name, optimizer in rules.items():
    np.random.seed(0)  # all begin with the same weights
    model = models.MLP((10, 1))
    if options.gpu:
        model.to_gpu()
    optimizer.setup(model)
    losses[name] = []
    for _ in range(1000):
        loss = F.mean_squared_error(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        losses[name].append(float(loss.data))
    print(f"loss after 1000 iterations of {name} = {losses[name][-1]:.4f}")


def draw(figure):
    left, right = figure.subplots(1, 2)
    a, b = np.meshgrid(np.linspace(-9, 3, 200), np.linspace(-2.5, 2.5, 200))
    left.contour(a, b, 0.01 * a**2 + b**2, np.geomspace(0.01, 6, 10), colors="gray", linewidths=0.6)
    for name, places in walks.items():
        left.plot(places[:, 0], places[:, 1], ".-", linewidth=1, markersize=4, label=name)
    left.plot(0, 0, "k*", markersize=12)
    left.set(title="Three ways through a valley", xlabel="first number", ylabel="second number")
    left.legend()
    for name, curve in losses.items():
        right.semilogy(curve, label=name)
    right.set(title="The network of step 45", xlabel="iteration", ylabel="mean squared error")
    right.legend()


show("step46_optimizers", draw, size=(12, 5))

# Exercise: write a hook that prints the largest gradient at every update, and add it to an optimizer.
# Hint: a function of one argument, the list of parameters. NumPy's abs and max find the largest of an array.
