"""Step 59. A recurrent network.

Question: How can a network remember what came before?

Every network so far was given a sample, answered, and forgot it. But the next word, the next note or tomorrow's
weather cannot be told from the last one alone. Take a sine curve: at height 0.5 it may be on its way up or down.

A recurrent layer keeps what it made of the past, its state h. At each place of a sequence it takes the new x and its
old state, and makes the new state of both:

    h = tanh(x Wx + b + h Wh)        (N, D) (D, H) + (H,) + (N, H) (H, H) -> (N, H)

The same parameters are used at every place. So the graph of a whole sequence is a long chain, and the way back leads
through all of it: backpropagation through time. Nothing new is needed, as the way back follows creators, and each
parameter adds up its gradients from all places (step 14).

A thousand places would make a graph of thousands of Functions before the first update. So the chain is cut every 25
places: the loss of these goes back, the parameters are updated, and unchain_backward() makes the graph forget its
creators. The state stays, as numbers without a past. This is called truncated backpropagation through time.

New: RNN, reset_state, unchain_backward, F.tanh, L.RNN
Look at: the error beside two others: that of saying the last value again, and that of a network without a state. From
the fifth epoch on the noise is learned, too (overfitting, step 50): the loss falls, the error on the test data rises.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import DataLoader, Dataset, Variable, models, optimizers
from dezero import layers as L


class RNN(L.Layer):
    """A layer with a state: h = tanh(x Wx + b + h Wh), (N, D) -> (N, H)."""

    def __init__(self, hidden_size):
        super().__init__()
        self.x2h = L.Linear(hidden_size)
        self.h2h = L.Linear(hidden_size, nobias=True)  # b is also called bias, and x2h has one
        self.h = None

    def reset_state(self):
        """Forget the past, before another sequence."""
        self.h = None

    def forward(self, x):
        y = self.x2h(x)
        self.h = F.tanh(y if self.h is None else y + self.h2h(self.h))
        return self.h


class Network(models.Model):
    """A recurrent layer, and a linear one that reads the next value from the state: (N, 1) -> (N, 1)."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent
        self.fc = L.Linear(1)

    def forward(self, x):
        return self.fc(self.recurrent(x))


def train_epoch(model, optimizer, loader, length):
    """Go once along the sequence, with an update every `length` places. Returns the mean loss of a place."""
    model.recurrent.reset_state()
    loss, loss_sum = 0, 0.0
    for place, (x, t) in enumerate(loader, 1):
        loss += F.mean_squared_error(model(x), t)
        if place % length == 0 or place == len(loader):
            model.cleargrads()
            loss.backward()
            loss.unchain_backward()  # the state stays, its past goes
            optimizer.update()
            loss_sum += float(loss.data)
            loss = 0
    return loss_sum / len(loader)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)


class Wave(Dataset):
    """A wave, 25 values to a period, and for each value the next: a sine with noise to train, a cosine to test."""

    def prepare(self):
        angle = 2 * np.pi * np.arange(1001) / 25
        wave = np.sin(angle) + 0.1 * np.random.RandomState(1).randn(1001) if self.train else np.cos(angle)
        wave = wave.astype(np.float32)[:, np.newaxis]
        self.data, self.label = wave[:-1], wave[1:]


np.random.seed(0)
x, mine = np.random.randn(3, 5, 2).astype(np.float32), RNN(4)
hs = [mine(row).data for row in x]  # three places of a batch of five
np.random.seed(0)
x, theirs = np.random.randn(3, 5, 2).astype(np.float32), L.RNN(4)
same = all(np.allclose(theirs(row).data, h, atol=1e-6) for row, h in zip(x, hs, strict=True))
print(f"L.RNN gives the same = {same}")

wave = Variable(np.array([[0.5]], dtype=np.float32))
np.random.seed(0)
model = Network(L.RNN(32))
for _ in range(25):
    y = model(wave)
print(f"Functions behind y after 25 places = {dezero.graph(y).counts[0]}")
y.unchain_backward()
y = model(wave)
print(f"Functions behind y at the next place, the chain cut = {dezero.graph(y).counts[0]}")


def predict(model, values):
    """Return what the model says after each value of a sequence."""
    with dezero.no_grad():
        return np.array([model(value[np.newaxis]).data[0] for value in values])


def error(answers, t, start=25):
    """Return the mean squared error, behind the first values, from which nothing can be told yet."""
    return float(((answers - t)[start:] ** 2).mean())


train_set, test_set = Wave(), Wave(train=False)
loader = DataLoader(train_set, batch_size=1, shuffle=False, gpu=options.gpu)  # the values in their order
np.random.seed(0)
model = Network(L.RNN(32))
optimizer = optimizers.Adam(alpha=0.002).setup(model)
answers = {}
max_epoch = 8
for epoch in range(1, max_epoch + 1):
    if options.gpu:
        model.to_gpu()
    loss = train_epoch(model, optimizer, loader, length=25)
    model.to_cpu()
    model.recurrent.reset_state()
    answers[epoch] = predict(model, test_set.data)
    print(f"epoch {epoch}: loss = {loss:.4f}, test error = {error(answers[epoch], test_set.label):.6f}")

stateless = models.MLP((32, 1), activation=F.tanh)
optimizer = optimizers.Adam(alpha=0.002).setup(stateless)
for _ in range(200):  # all values at once
    loss = F.mean_squared_error(stateless(train_set.data), train_set.label)
    stateless.cleargrads()
    loss.backward()
    optimizer.update()
without = predict(stateless, test_set.data)
print(f"mean squared error of saying the last value again = {error(test_set.data, test_set.label):.6f}")
print(f"mean squared error of a network without a state = {error(without, test_set.label):.6f}")
print(f"mean squared error of the recurrent network = {error(answers[max_epoch], test_set.label):.6f}")


def draw(figure):
    top, bottom = figure.subplots(2, 1)
    top.plot(train_set.data[:100], ".", color="tab:gray", markersize=4, label="training data")
    top.set(title="What the network learns from, and what it says about a wave without noise")
    top.set(xlabel="place", ylabel="value")
    top.legend(loc="upper right")
    bottom.plot(test_set.label[:100], color="black", linewidth=5, alpha=0.2, label="the next value")
    bottom.plot(without[:100], color="tab:orange", linewidth=1, label="without a state")
    bottom.plot(answers[1][:100], color="tab:green", linewidth=1, label="after 1 epoch")
    bottom.plot(answers[max_epoch][:100], color="tab:red", linewidth=1.5, label=f"after {max_epoch} epochs")
    bottom.set(xlabel="place", ylabel="value", ylim=(-1.3, 1.9))
    bottom.legend(loc="upper center", ncols=4, fontsize=8)


show("step59_wave", draw, size=(10, 6))

# Exercise: cut the chain after every 3 places, and after every 100. What changes, the error or the time?
# Hint: the argument `length` of train_epoch. A quarter of a period is about 6 places.
