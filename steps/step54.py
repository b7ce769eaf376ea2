"""Step 54. Dropout, and a mode for tests.

Question: How can a network with more parameters than samples be kept from learning by heart?

A network that is large enough remembers every sample it was shown, and has no need to find out what they have in
common (overfitting, step 50). One remedy is to make it work under difficulties. At every update each hidden unit is
left out with the probability `ratio`, its value set to 0. Others have to do its work, so no unit can rely on another
one, and what many can do is learned rather than what a few remember. This is called dropout.

What comes out is smaller on average, since part of it is gone. So what is kept is divided by the part that is kept:

    y = x * mask / (1 - ratio)        mask: 0 with the probability ratio, else 1

The average is then that of x, and the next layer does not notice.

When the network is used, nothing should be left out. Dropout is one of the few operations that have to know whether
the network is learning. As with recording (step 18) there is a switch, Config.train, and test_mode() turns it off
within a `with` block. no_grad() is another switch: it says whether a graph is recorded. When a model is tested, both
are wanted.

New: dropout, Config.train, test_mode
Look at: two networks that begin alike and see the same 500 digits. Both learn them all. On digits they have not
seen, the loss of the one without dropout rises from the tenth epoch on.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import Config, as_variable, cuda, datasets, models, optimizers
from dezero import layers as L


def dropout(x, ratio=0.5):
    """While training, set each number to 0 with the probability `ratio`, and enlarge the others."""
    x = as_variable(x)
    if not Config.train:
        return x
    mask = np.random.rand(*x.shape) > ratio
    return x * (mask.astype(x.dtype) / (1 - ratio))


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
x = np.ones(100_000, dtype=np.float32)
y = dropout(x, 0.3).data
print(f"part that is left out = {(y == 0).mean():.3f}")
print(f"what the others become = {y.max():.6f}")
print(f"mean of y = {y.mean():.3f}")
with dezero.test_mode():
    print(f"in test_mode() y is x = {np.array_equal(dropout(x, 0.3).data, x)}")

np.random.seed(0)
print(f"F.dropout gives the same = {np.array_equal(F.dropout(x, 0.3).data, y)}")


class Net(models.Model):
    """Three linear layers, with dropout in between."""

    def __init__(self, ratio):
        super().__init__()
        self.ratio = ratio
        self.l0, self.l1, self.l2 = L.Linear(300), L.Linear(300), L.Linear(10)

    def forward(self, x):
        x = F.dropout(x, 0.4 * self.ratio)  # pixels are left out less often than hidden units
        x = F.dropout(F.relu(self.l0(x)), self.ratio)
        x = F.dropout(F.relu(self.l1(x)), self.ratio)
        return self.l2(x)


def judge(model, x, t):
    """Return loss and accuracy on all samples x, with nothing left out and nothing recorded."""
    with dezero.test_mode(), dezero.no_grad():
        y = model(x)
        return float(F.softmax_cross_entropy(y, t).data), float(F.accuracy(y, t).data)


size = 500  # few, so that they can be learned by heart
train_x, train_t = datasets.MiniMNIST().batch(range(size))
test_x, test_t = datasets.MiniMNIST(train=False).batch(range(1000))
if options.gpu:
    train_x, train_t, test_x, test_t = map(cuda.as_cupy, (train_x, train_t, test_x, test_t))

max_epoch = 60
curves = {}
for name, ratio in (("without dropout", 0.0), ("with dropout", 0.5)):
    np.random.seed(0)
    model = Net(ratio)
    optimizer = optimizers.Adam(alpha=0.001).setup(model)
    if options.gpu:
        model.to_gpu()
    curves[name] = []
    for epoch in range(1, max_epoch + 1):
        order = np.random.permutation(size)
        for start in range(0, size, 50):
            rows = order[start : start + 50]
            loss = F.softmax_cross_entropy(model(train_x[rows]), train_t[rows])
            model.cleargrads()
            loss.backward()
            optimizer.update()
        curves[name].append((*judge(model, train_x, train_t), *judge(model, test_x, test_t)))
        if epoch in (10, 30, 60):
            train_loss, train_accuracy, test_loss, test_accuracy = curves[name][-1]
            print(f"{name}, epoch {epoch}: training accuracy = {train_accuracy:.3f}, test loss = {test_loss:.4f}")
    print(f"test accuracy {name} = {test_accuracy:.3f}")
    print(f"test loss {name} = {test_loss:.4f}")

scores = [model(test_x[:1]).data[0, 0] for _ in range(3)]
print(f"three answers to one digit, not in test_mode() = {scores[0]:.2f}, {scores[1]:.2f}, {scores[2]:.2f}")


def draw(figure):
    left, right = figure.subplots(1, 2)
    for (name, curve), color in zip(curves.items(), ("tab:blue", "tab:orange"), strict=True):
        train_loss, _, test_loss, test_accuracy = np.transpose(curve)
        left.semilogy(range(1, max_epoch + 1), test_loss, color=color, label=f"{name}, test data")
        left.semilogy(range(1, max_epoch + 1), train_loss, "--", color=color, label=f"{name}, training data")
        right.plot(range(1, max_epoch + 1), test_accuracy, color=color, label=name)
    left.set(title=f"Loss, with {size} digits to learn from", xlabel="epoch", ylabel="cross-entropy")
    right.set(title="Accuracy on the test data", xlabel="epoch", ylabel="part of the samples", ylim=(0.7, 0.9))
    left.legend(fontsize=8)
    right.legend()


show("step54_dropout", draw, size=(11, 4.5))

# Exercise: train with 2,000 digits, and with 6,000. How large is the difference that dropout makes?
# Hint: `size` in the demonstration. Fewer epochs will do; the lines that print ask for epoch 10, 30 and 60.
