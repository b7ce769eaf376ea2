"""Step 43. A neural network.

Question: What can follow a curve that no straight line can?

Two linear functions, y = x W + b, one after the other, are a linear function again: a line of a line is a line.
Something bent has to stand between them. The sigmoid bends: it presses every number into the range from 0 to 1, along
a soft S.

    sigmoid(x) = 1 / (1 + exp(-x))        derivative: y * (1 - y)

The first linear function makes ten numbers out of x, each with a slope and a start of its own. The sigmoid makes ten
S-curves of them, each bending elsewhere. The second linear function adds the ten up with weights. Enough S-curves add
up to any curve. This is a neural network, and the ten are its hidden units, since neither x nor y shows them.

At first W is drawn at random, near 0. If the ten began alike, they would receive the same gradients and stay alike.
Nothing else is new: a loss, a way back, and gradient descent for W1, b1, W2 and b2.

linear and sigmoid could be composed of @, +, / and exp. As Functions they save the way back some arrays and some
work: the derivative of the sigmoid is written with y, which is there already.

New: Linear, linear, Sigmoid, sigmoid, hidden unit
Look at: the loss of the best straight line, 0.49, beside that of the network, below 0.02.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Function, Variable


class Linear(Function):
    def forward(self, x, W, b):
        return x @ W + b

    def backward(self, gy):
        x, W, b = self.inputs
        gx = F.matmul(gy, F.transpose(W))
        gW = F.matmul(F.transpose(x), gy)
        return gx, gW, F.sum_to(gy, b.shape)


def linear(x, W, b):
    """y = x W + b: (N, D) (D, H) + (H,) -> (N, H)."""
    return Linear()(x, W, b)


class Sigmoid(Function):
    def forward(self, x):
        return 1 / (1 + np.exp(-x))

    def backward(self, gy):
        y = self.outputs[0]()  # a weak reference, step 17
        return gy * y * (1 - y)


def sigmoid(x):
    """y = 1 / (1 + exp(-x)), for every number in x."""
    return Sigmoid()(x)


def network(x, W1, b1, W2, b2):
    """Return what the network says: (N, 1) -> (N, H) -> (N, 1)."""
    h = F.sigmoid(F.linear(x, W1, b1))
    return F.linear(h, W2, b2)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
x = Variable(2 * np.random.rand(100, 1))
t = Variable(np.sin(4 * x.data) + x.data / 2 + 0.1 * np.random.randn(100, 1))
H = 10
W1 = Variable(np.random.randn(1, H))
b1 = Variable(np.zeros(H))
W2 = Variable(0.1 * np.random.randn(H, 1))
b2 = Variable(np.zeros(1))

y = linear(sigmoid(linear(x, W1, b1)), W2, b2)
print(f"F.linear and F.sigmoid give the same = {np.allclose(y.data, network(x, W1, b1, W2, b2).data)}")

points = x.data, t.data
slope, start = np.polyfit(x.data[:, 0], t.data[:, 0], 1)
print(f"loss of the best straight line = {np.mean((slope * x.data + start - t.data) ** 2):.4f}")
parameters = W1, b1, W2, b2
if options.gpu:
    for v in (x, t, *parameters):
        v.to_gpu()

lr = 0.1
losses = []
for i in range(5001):
    y = network(x, *parameters)
    loss = F.mean_squared_error(y, t)
    losses.append(float(loss.data))
    if i % 1000 == 0:
        print(f"iteration {i:4}: loss = {losses[-1]:.4f}")
    for p in parameters:
        p.cleargrad()
    loss.backward()
    for p in parameters:
        p.data -= lr * p.grad.data
print(f"final loss = {losses[-1]:.4f}")

for p in parameters:
    p.to_cpu()
places = np.linspace(0, 2, 200)[:, np.newaxis]
curve = network(places, *parameters).data
units = F.sigmoid(F.linear(places, W1, b1)).data * W2.data[:, 0]


def draw(figure):
    left, right = figure.subplots(1, 2)
    left.plot(*points, "o", color="tab:blue", alpha=0.5, label="data")
    left.plot(places, units, color="tab:green", linewidth=0.7, alpha=0.7)
    left.plot([], [], color="tab:green", linewidth=0.7, label="hidden units, weighted")
    left.plot(places, curve, color="tab:red", linewidth=2.5, label="the network: their sum and b2")
    left.set(title="Ten S-curves add up", xlabel="x", ylabel="y")
    left.legend(fontsize=8)
    right.semilogy(losses, color="tab:red")
    right.set(title="The loss falls", xlabel="iteration", ylabel="mean squared error")


show("step43_network", draw, size=(11, 5))

# Exercise: how few hidden units still do? Try H = 1, 2, 3 and 5.
# Hint: the data goes up, down and up again. One S-curve goes one way only.
