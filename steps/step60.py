"""Step 60. LSTM.

Question: How can a network keep something for long, and let go of it when it is no longer needed?

The state of step 59 goes through a product and a tanh at every place. What it holds is written over each time. The way
back leads through the same products and bends, and a gradient mostly gets smaller at each. An LSTM, a long short-term
memory, has a second state c beside h, a line along which things pass unchanged unless something is done to them.
Three gates, numbers from 0 to 1 found by sigmoids of x and h, say what is done:

    c = f * c + i * u        f: how much is kept, i: how much of the new, u, is taken in
    h = o * tanh(c)          o: how much is shown

Each of f, i, o and u has weights of its own. Where f is 1, the gradient of c passes through unchanged.

One long sequence is also slow to learn from: a place at a time, a batch of one. SeqDataLoader reads it in several
places at once. With 1,000 values and a batch of 10, row 0 begins at 0, row 1 at 100, and so on, and every row walks on
by one. Each row keeps its own state. Samples that follow each other must not be shuffled.

This is the end of the road. The core of step 22 and the gradients with graphs of step 32 are dezero/core.py, the
operations, layers and optimizers from 37 on are F, L and dezero.optimizers; each file can now be read from top to
bottom. Those who want to go on find four more steps in steps/beyond/: a deep network with short cuts, a network that
writes, pictures of what a network looks at, and an operation of one's own with its place among the tests.

New: LSTM, SeqDataLoader, L.LSTM, dezero.SeqDataLoader
Look at: the errors of both layers beside that of step 59. And what happens when each network goes on by itself, with
its own answer as the next input.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import DataLoader, Dataset, models, optimizers
from dezero import layers as L


class LSTM(L.Layer):
    """A layer with two states: c, which is kept, and h, which is shown. (N, D) -> (N, H)."""

    def __init__(self, hidden_size):
        super().__init__()
        for gate in "fiou":
            setattr(self, f"x2{gate}", L.Linear(hidden_size))
            setattr(self, f"h2{gate}", L.Linear(hidden_size, nobias=True))
        self.reset_state()

    def reset_state(self):
        """Forget the past, before another sequence."""
        self.h = None
        self.c = None

    def forward(self, x):
        f, i, o, u = self.x2f(x), self.x2i(x), self.x2o(x), self.x2u(x)
        if self.h is not None:
            f, i, o, u = f + self.h2f(self.h), i + self.h2i(self.h), o + self.h2o(self.h), u + self.h2u(self.h)
        f, i, o, u = F.sigmoid(f), F.sigmoid(i), F.sigmoid(o), F.tanh(u)
        self.c = i * u if self.c is None else f * self.c + i * u
        self.h = o * F.tanh(self.c)
        return self.h


class SeqDataLoader(DataLoader):
    """Batches of a sequence that is read in `batch_size` places at once."""

    def __init__(self, dataset, batch_size):
        super().__init__(dataset, batch_size, shuffle=False)

    def __next__(self):
        if self.iteration == self.max_iter:
            self.reset()
            raise StopIteration
        jump = len(self.dataset) // self.batch_size
        rows = [i * jump + self.iteration for i in range(self.batch_size)]
        self.iteration += 1
        return self.dataset.batch(rows)


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
            loss.unchain_backward()
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


def same(a, b):
    """Say whether two lists of arrays agree, but for the last digits."""
    return all(np.allclose(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))


x = np.random.RandomState(0).randn(4, 5, 2).astype(np.float32)  # four places of a batch of five
mine, theirs = LSTM(3), L.LSTM(3)
mine(x[0]), theirs(x[0])  # makes the parameters
mine(x[1])
theirs_by_name = dict(theirs.named_params())
for name, param in mine.named_params():
    theirs_by_name[name].data = param.data
mine.reset_state()
theirs.reset_state()
print(f"L.LSTM gives the same = {same([mine(row).data for row in x], [theirs(row).data for row in x])}")

train_set, test_set = Wave(), Wave(train=False)
mine, theirs = SeqDataLoader(train_set, 10), dezero.SeqDataLoader(train_set, 10)
print(f"dezero.SeqDataLoader gives the same = {same([x for x, _ in mine], [x for x, _ in theirs])}")
print(f"batches in an epoch = {len(theirs)}, shape of a batch = {next(theirs)[0].shape}")


def predict(model, values):
    """Return what the model says after each value of a sequence."""
    model.recurrent.reset_state()
    with dezero.no_grad():
        return np.array([model(value[np.newaxis]).data[0] for value in values])


def go_on(model, values, count):
    """Let the model listen to a sequence, and then to itself."""
    y = predict(model, values)[-1]
    answers = [y]
    with dezero.no_grad():
        for _ in range(count - 1):
            y = model(y[np.newaxis]).data[0]
            answers.append(y)
    return np.array(answers)


loader = dezero.SeqDataLoader(train_set, batch_size=10, gpu=options.gpu)
errors, alone = {}, {}
for name, layer in (("RNN", L.RNN), ("LSTM", L.LSTM)):
    np.random.seed(0)
    model = Network(layer(32))
    optimizer = optimizers.Adam(alpha=0.005).setup(model)
    for epoch in range(1, 61):
        if options.gpu:
            model.to_gpu()
        loss = train_epoch(model, optimizer, loader, length=25)
        if epoch % 20 == 0:
            model.to_cpu()
            answers = predict(model, test_set.data)
            errors[name] = float(((answers - test_set.label)[25:] ** 2).mean())
            print(f"{name}, epoch {epoch}: loss = {loss:.4f}, test error = {errors[name]:.6f}")
    alone[name] = go_on(model, test_set.data[:100], 200)

truth = test_set.data[100:300]
for name, answers in alone.items():
    print(f"error of the {name} in 200 values by itself = {((answers - truth) ** 2).mean():.4f}")
print(f"mean squared error of the RNN = {errors['RNN']:.6f}")
print(f"mean squared error of the LSTM = {errors['LSTM']:.6f}")


def draw(figure):
    for axes, (name, answers) in zip(figure.subplots(2, 1), alone.items(), strict=True):
        axes.plot(range(40, 100), test_set.data[40:100], color="tab:gray", label="what it was given")
        axes.plot(range(100, 300), truth, color="black", linewidth=5, alpha=0.2, label="how the wave goes on")
        axes.plot(range(100, 300), answers, color="tab:red", label="how the network goes on")
        axes.set(title=f"{name}, listening to itself", xlabel="place", ylabel="value", ylim=(-1.3, 1.9))
        axes.legend(loc="upper center", ncols=3, fontsize=8)


show("step60_going_on", draw, size=(10, 6))

# Exercise: train on datasets.SinCurve, a slower wave, and on a wave of your own that has two sines in it.
# Hint: SinCurve has 999 values of float64; its transforms can make float32 of them. The sum of two sines needs a
# longer memory: try 50 places between updates.
