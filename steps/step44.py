"""Step 44. A layer holds parameters.

Question: Who keeps the parameters, when there are many?

The network of step 43 had four, and each was named four times: made, used, cleared, updated. A network of thirty
layers would have sixty. So parameters and the calculation that uses them go into one object, a layer, which is called
like a function. Linear is a layer with W and b.

To clear and update parameters, somebody has to find them among all that an object has. Two things make that easy.
A parameter says that it is one: Parameter is a Variable of another name, so that isinstance can tell it from data.
And Python keeps the attributes of an object in a dictionary, vars(object), in the order in which they were assigned.
params() walks through it and hands out every Parameter.

How large W must be depends on x, and x is not known when the layer is made. So Linear makes W at its first call, at
random, with numbers of about the size sqrt(1 / D). D numbers times D weights of that size add up to a number of the
size of x: neither do the numbers grow from layer to layer, nor do they die away.

New: Parameter, Layer, Layer.params, Layer.cleargrads, Linear
Look at: the parameters of a layer before its first call and after, and how little is left of the loop of step 43.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
import dezero.layers as L
from dezero import Variable


class Parameter(Variable):
    """A Variable that a layer holds and that training changes."""


class Layer:
    """Something with parameters that can be called. A subclass writes `forward`."""

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def params(self):
        """Yield every Parameter among the attributes, in the order of assignment."""
        for value in vars(self).values():
            if isinstance(value, Parameter):
                yield value

    def cleargrads(self):
        """Forget all gradients."""
        for param in self.params():
            param.cleargrad()


class Linear(Layer):
    """y = x W + b. W is made at the first call, when x tells how many numbers a sample has."""

    def __init__(self, out_size):
        self.out_size = out_size
        self.W = Parameter(None, name="W")
        self.b = Parameter(np.zeros(out_size, np.float32), name="b")

    def forward(self, x):
        if self.W.data is None:
            D = x.shape[1]
            scale = np.float32(np.sqrt(1 / D))
            self.W.data = np.random.randn(D, self.out_size).astype(np.float32) * scale
        return F.linear(x, self.W, self.b)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
x = (2 * np.random.rand(100, 1)).astype(np.float32)  # float32: half the memory, exact enough for training
t = (np.sin(4 * x) + x / 2 + 0.1 * np.random.randn(100, 1)).astype(np.float32)

layer = Linear(3)
print(f"parameters = {[param.name for param in layer.params()]}")
print(f"W before the first call = {layer.W.data}")
y = layer(x)
print(f"shape of W after it = {layer.W.shape}, shape of y = {y.shape}")
x100 = np.random.randn(1000, 100).astype(np.float32)
print(f"size of 100 numbers = {x100.std():.3f}, of what Linear makes of them = {Linear(50)(x100).data.std():.3f}")

# What dezero has: L.Linear, with more to say where W or x do not fit, and all of this under the same names.
np.random.seed(1)
mine = Linear(10)(x)
np.random.seed(1)
print(f"L.Linear gives the same = {np.array_equal(L.Linear(10)(x).data, mine.data)}")

np.random.seed(0)
l0 = L.Linear(10)
l1 = L.Linear(1)
points = x, t
x, t = Variable(x), Variable(t)
if options.gpu:
    for v in (x, t, l0, l1):
        v.to_gpu()

lr = 0.1
losses = []
for i in range(5001):
    y = l1(F.sigmoid(l0(x)))
    loss = F.mean_squared_error(y, t)
    losses.append(float(loss.data))
    if i % 1000 == 0:
        print(f"iteration {i:4}: loss = {losses[-1]:.4f}")
    for layer in (l0, l1):
        layer.cleargrads()
    loss.backward()
    for layer in (l0, l1):
        for param in layer.params():
            param.data -= lr * param.grad.data
print(f"final loss = {losses[-1]:.4f}")

for layer in (l0, l1):
    layer.to_cpu()
places = np.linspace(0, 2, 200, dtype=np.float32)[:, np.newaxis]
curve = l1(F.sigmoid(l0(places))).data


def draw(figure):
    left, right = figure.subplots(1, 2)
    left.plot(*points, "o", color="tab:blue", alpha=0.5, label="data")
    left.plot(places, curve, color="tab:red", linewidth=2.5, label="two layers")
    left.set(title="The curve of two Linear layers", xlabel="x", ylabel="y")
    left.legend()
    right.semilogy(losses, color="tab:red")
    right.set(title="The loss falls", xlabel="iteration", ylabel="mean squared error")


show("step44_layers", draw, size=(11, 5))

# Exercise: write a layer `Scale` with one parameter, a number that its input is multiplied with.
# Hint: a subclass of Layer with an __init__ of one line and a forward of one line.
