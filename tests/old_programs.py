"""Programs in the style of DeZero 0.0.13, using nothing but its names. Each returns numbers.

`old_programs.json` holds what they returned on the published DeZero 0.0.13 (with NumPy 2 and `numpy.int = int`), as

    python old_programs.py > old_programs.json
"""

import json
import math

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Function, Model, Parameter, SeqDataLoader, Variable, as_variable, optimizers
from dezero.models import MLP, Sequential


def newton():
    """Newton's method on y = x^4 - 2 x^2, with second derivatives from create_graph."""
    x = Variable(np.array(2.0))
    trace = []
    for _ in range(8):
        y = x**4 - 2 * x**2
        x.cleargrad()
        y.backward(create_graph=True)
        gx = x.grad
        x.cleargrad()
        gx.backward()
        gx2 = x.grad
        x.data -= gx.data / gx2.data
        trace.append(float(x.data))
    return trace


def derivatives_of_tanh():
    """The first five derivatives of tanh at 1."""
    x = Variable(np.array(1.0))
    y = F.tanh(x)
    y.backward(create_graph=True)
    values = []
    for _ in range(4):
        gx = x.grad
        values.append(float(gx.data))
        x.cleargrad()
        gx.backward(create_graph=True)
    return [*values, float(x.grad.data)]


def gradient_inside_a_loss():
    """z = (dy/dx)^3 + y for y = x^2."""
    x = Variable(np.array(2.0))
    y = x**2
    y.backward(create_graph=True)
    gx = x.grad
    x.cleargrad()
    z = gx**3 + y
    z.backward()
    return [float(x.grad.data)]


def goldstein_price():
    x, y = Variable(np.array(1.0)), Variable(np.array(1.0))
    z = (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )
    z.backward()
    return [float(z.data), float(x.grad.data), float(y.grad.data)]


def own_functions():
    """A Function of the user's own with plain arrays inside, and a Taylor series."""

    class Sine(Function):
        def forward(self, x):
            return np.sin(x)

        def backward(self, gy):
            (x,) = self.inputs
            return gy * F.cos(x)

    def taylor(x, threshold=1e-8):
        y = 0
        for i in range(1000):
            t = (-1) ** i / math.factorial(2 * i + 1) * x ** (2 * i + 1)
            y = y + t
            if abs(t.data) < threshold:
                break
        return y

    values = []
    for f in (Sine(), taylor):
        x = Variable(np.array(np.pi / 4))
        y = f(x)
        y.backward()
        values += [float(y.data), float(x.grad.data)]
    return values


def regression_by_hand():
    np.random.seed(0)
    x = np.random.rand(100, 1)
    y = 5 + 2 * x + np.random.rand(100, 1)
    x, y = Variable(x), Variable(y)
    W, b = Variable(np.zeros((1, 1))), Variable(np.zeros(1))
    losses = []
    for _ in range(20):
        loss = F.mean_squared_error(F.matmul(x, W) + b, y)
        W.cleargrad()
        b.cleargrad()
        loss.backward()
        W.data -= 0.1 * W.grad.data
        b.data -= 0.1 * b.grad.data
        losses.append(float(loss.data))
    return [*losses, float(W.data[0, 0]), float(b.data[0])]


def sine_network():
    np.random.seed(0)
    x = np.random.rand(100, 1)
    y = np.sin(2 * np.pi * x) + np.random.rand(100, 1)
    model = MLP((10, 1))
    optimizer = optimizers.MomentumSGD(0.2).setup(model)
    losses = []
    for _ in range(20):
        loss = F.mean_squared_error(model(x), y)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(float(loss.data))
    return losses


def spirals():
    np.random.seed(0)
    train_set, test_set = dezero.datasets.Spiral(train=True), dezero.datasets.Spiral(train=False)
    np.random.seed(1)
    train_loader, test_loader = DataLoader(train_set, 30), DataLoader(test_set, 30, shuffle=False)
    model = MLP((10, 3))
    optimizer = optimizers.SGD(1.0).setup(model)
    trace = []
    for _ in range(3):
        sum_loss = 0
        for x, t in train_loader:
            y = model(x)
            loss = F.softmax_cross_entropy(y, t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            sum_loss += float(loss.data) * len(t)
        trace.append(sum_loss / len(train_set))
        with dezero.no_grad():
            correct = sum(float(F.accuracy(model(x), t).data) * len(t) for x, t in test_loader)
        trace.append(correct / len(test_set))
    return trace


def every_rule_and_hook():
    trace = []
    rules = [
        optimizers.SGD(),
        optimizers.MomentumSGD(),
        optimizers.AdaGrad(0.01),
        optimizers.AdaDelta(),
        optimizers.Adam(0.01),
    ]
    for optimizer in rules:
        np.random.seed(3)
        x, t = np.random.rand(20, 4), np.random.randint(0, 3, 20)
        model = Sequential(L.Linear(8), F.relu, L.Linear(3))
        optimizer.setup(model)
        optimizer.add_hook(optimizers.WeightDecay(1e-2))
        optimizer.add_hook(optimizers.ClipGrad(0.5))
        for _ in range(5):
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
        trace.append(float(loss.data))
    return trace


def small_cnn():
    class CNN(Model):
        def __init__(self):
            super().__init__()
            self.conv1 = L.Conv2d(4, kernel_size=3, stride=1, pad=1)
            self.conv2 = L.Conv2d(6, (3, 3), 2, 1, nobias=True)
            self.fc = L.Linear(5)

        def forward(self, x):
            x = F.relu(self.conv1(x))
            x = F.pooling(x, 2, 2)
            x = F.leaky_relu(self.conv2(x))
            x = F.reshape(x, (x.shape[0], -1))
            return self.fc(F.dropout(x, 0.3))

    np.random.seed(0)
    x, t = np.random.randn(6, 2, 8, 8), np.array([0, 1, 2, 3, 4, 0])
    model = CNN()
    optimizer = optimizers.Adam().setup(model)
    trace = []
    for _ in range(4):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        trace.append(float(loss.data))
    with dezero.test_mode():
        trace.append(float(F.softmax_cross_entropy(model(x), t).data))
    return trace


def batch_norm_and_deconvolution():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.deconv = L.Deconv2d(3, 4, stride=2, pad=1)
            self.bn = L.BatchNorm()

        def forward(self, x):
            return F.average_pooling(F.sigmoid(self.bn(self.deconv(x))), 2, 2)

    np.random.seed(0)
    x = np.random.randn(2, 3, 4, 4)
    model = Net()
    trace = []
    for _ in range(2):
        y = F.sum(model(x) ** 2)
        model.cleargrads()
        y.backward()
        trace += [float(y.data), float(np.abs(model.deconv.W.grad.data).sum()), float(model.bn.gamma.grad.data[1])]
    with dezero.test_mode():
        trace.append(float(F.sum(model(x)).data))
    return [*trace, *[float(v) for v in model.bn.avg_var.data], *[float(v) for v in model.bn.avg_mean.data]]


def recurrent(layer, loader):
    np.random.seed(0)

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.rnn = layer(6)
            self.fc = L.Linear(1)

        def reset_state(self):
            self.rnn.reset_state()

        def forward(self, x):
            return self.fc(self.rnn(x))

    train_set = dezero.datasets.SinCurve(train=True)
    model = Net()
    optimizer = optimizers.Adam().setup(model)
    trace = []
    model.reset_state()
    loss = 0
    for count, (x, t) in enumerate(loader(train_set), start=1):
        y = model(x)
        loss += F.mean_squared_error(y, t)
        if count % 30 == 0:
            model.cleargrads()
            loss.backward()
            loss.unchain_backward()
            optimizer.update()
            trace.append(float(loss.data))
            loss = 0
        if count == 90:
            break
    return trace


def rnn_one_by_one():
    def loader(train_set):
        for x, t in train_set:
            yield x.reshape(1, 1), t

    return recurrent(L.RNN, loader)


def lstm_in_batches():
    return recurrent(L.LSTM, lambda train_set: SeqDataLoader(train_set, batch_size=10))


def layers_within_layers():
    """Parameters by name, order independent: DeZero kept them in a set."""

    class TwoLayerNet(Model):
        def __init__(self, hidden_size, out_size):
            super().__init__()
            self.l1 = L.Linear(hidden_size)
            self.l2 = L.Linear(out_size)
            self.scale = Parameter(np.array(2.0), name="scale")

        def forward(self, x):
            x = as_variable(x)
            return self.l2(F.sigmoid_simple(self.l1(x))) * self.scale

    np.random.seed(5)
    model = TwoLayerNet(4, 2)
    y = model(np.random.rand(3, 2))
    z = F.sum(y[1:] * y[[0, 0]]) + F.max(y) - F.min(y, axis=0)[0] + F.softmax(y)[0, 1] + F.clip(y, -0.1, 0.1).sum()
    z.backward()
    sums = sorted(float(p.grad.data.sum()) for p in model.params())
    return [float(z.data), *sums]


PROGRAMS = [
    newton,
    derivatives_of_tanh,
    gradient_inside_a_loss,
    goldstein_price,
    own_functions,
    regression_by_hand,
    sine_network,
    spirals,
    every_rule_and_hook,
    small_cnn,
    batch_norm_and_deconvolution,
    rnn_one_by_one,
    lstm_in_batches,
    layers_within_layers,
]

if __name__ == "__main__":
    print(json.dumps({program.__name__: program() for program in PROGRAMS}, indent=0))
