"""Beyond. Batch normalisation and a small ResNet.

Question: Why does a network of twenty layers learn nothing, and which two ideas change that?

Each layer multiplies. When a layer makes its numbers a little smaller, twenty of them leave next to nothing, the same
for every digit, and the gradients on the way back shrink as well. Here the numbers after 19 convolutions are measured
before any training, and the gradient that reaches the first weights.

Batch normalisation repairs the size after each convolution. For each channel it takes the mean and the variance over
the batch and all places, subtracts the one and divides by the root of the other. Two learned numbers for each channel,
gamma and beta, give the layer back the freedom to choose another size:

    y = gamma * (x - mean) / sqrt(var + eps) + beta        (N, C, H, W), mean and var (C,)

An answer must not depend on which other digits are in the batch. So the layer also keeps running averages of mean and
variance, and uses these under test_mode() (step 54).

A shortcut lets the numbers pass beside two convolutions and adds them again behind. The convolutions learn what is to
be changed, the residual, and where they have learned nothing yet the block hands on what it got. On the way back the
addition hands the gradient on, too (step 13). Networks of such blocks are called ResNets.

New: BatchNorm, a block with a shortcut, schedules.Cosine
Look at: four networks of 20 layers, with and without either idea; the same rates, the same batches, the same seed.
At this depth batch normalisation does most of it, and with shortcuts the loss falls faster still.
Source: Ioffe and Szegedy, arXiv:1502.03167; He et al., arXiv:1512.03385.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where road.py is
from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import Config, DataLoader, Parameter, cuda, datasets, optimizers, schedules
from dezero.transforms import Compose, Normalize, ToFloat


class BatchNorm(L.Layer):
    """Give each channel mean 0 and variance 1 over the batch, then a size and a place that are learned."""

    def __init__(self, channels, decay=0.9, eps=2e-5):
        super().__init__()
        self.decay, self.eps = decay, eps
        shape = (1, channels, 1, 1)  # broadcasts against (N, C, H, W)
        self.gamma = Parameter(np.ones(shape, np.float32), name="gamma")
        self.beta = Parameter(np.zeros(shape, np.float32), name="beta")
        self.running_mean = np.zeros(shape, np.float32)
        self.running_var = np.ones(shape, np.float32)

    def forward(self, x):
        if Config.train:
            mean, var = F.mean(x, axis=(0, 2, 3), keepdims=True), F.var(x, axis=(0, 2, 3), keepdims=True)
            self.remember(mean.data, var.data, count=x.size // x.shape[1])
        else:
            mean, var = self.running_mean, self.running_var
        return self.gamma * (x - mean) / F.sqrt(var + self.eps) + self.beta

    def remember(self, mean, var, count):
        """Move the running averages a tenth of the way."""
        var = var * (count / (count - 1))  # the variance of all digits, not of these alone
        self.running_mean = self.decay * self.running_mean + (1 - self.decay) * mean
        self.running_var = self.decay * self.running_var + (1 - self.decay) * var


def unchanged(x):
    return x


class Block(L.Layer):
    """Two convolutions, and a shortcut beside them: (N, C, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(self, channels, stride, norm, shortcut):
        super().__init__()
        self.conv1, self.norm1 = L.Conv2d(channels, 3, stride, pad=1), norm()
        self.conv2, self.norm2 = L.Conv2d(channels, 3, pad=1), norm()
        self.shortcut = shortcut
        self.project = L.Conv2d(channels, 1, stride) if stride > 1 else unchanged  # so that the shapes agree

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.project(x) if self.shortcut else y)


class Deep(dezero.Model):
    """20 layers with weights, one behind the other: (N, 1, 28, 28) -> (N, 10) scores."""

    def __init__(self, normalise, shortcut):
        super().__init__()
        norm = L.BatchNorm if normalise else lambda: unchanged
        self.conv, self.norm = L.Conv2d(8, 3, stride=2, pad=1), norm()
        shape = [(8, 1), (8, 1), (8, 1), (16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1)]
        self.blocks = L.LayerList([Block(channels, stride, norm, shortcut) for channels, stride in shape])
        self.fc = L.Linear(10)

    def stages(self, x):
        """Return what comes out of the first convolution, and of each block."""
        found = [F.relu(self.norm(self.conv(x)))]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def forward(self, x):
        return self.fc(F.global_average_pooling(self.stages(x)[-1]))


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True, dataset=True)
MNIST = datasets.MNIST if options.dataset == "mnist" else datasets.MiniMNIST
images = Compose([ToFloat(), Normalize(0, 255)])
train_set, test_set = MNIST(transform=images), MNIST(train=False, transform=images)

# What dezero has: L.BatchNorm, one pass over memory each way, and (C,) arrays as parameters.
np.random.seed(0)
x = dezero.Variable(np.random.randn(20, 8, 5, 5).astype(np.float32) * 3 + 1)
mine, theirs = BatchNorm(8), L.BatchNorm()
gradients = []
for norm in (mine, theirs):
    y = norm(x)
    x.cleargrad()
    (y**3).sum().backward()  # a plain sum would have no gradient: the mean is always 0
    gradients.append(x.grad.data)
print(f"mean of a channel = {abs(float(y.data[:, 0].mean())):.4f}, its variance = {float(y.data[:, 0].var()):.4f}")
print(f"L.BatchNorm gives the same = {np.allclose(mine(x).data, theirs(x).data, atol=1e-5)}")
print(f"L.BatchNorm gives the same gradient = {np.allclose(*gradients, atol=1e-4)}")
with dezero.test_mode():
    print(f"L.BatchNorm gives the same in test mode = {np.allclose(mine(x).data, theirs(x).data, atol=1e-5)}")

kinds = {
    "neither": {"normalise": False, "shortcut": False},
    "shortcuts": {"normalise": False, "shortcut": True},
    "batch norm": {"normalise": True, "shortcut": False},
    "both, a ResNet": {"normalise": True, "shortcut": True},
}


def make(kind):
    """Return a network with its first weights, the same for all kinds, and a first batch."""
    np.random.seed(0)
    model = Deep(**kinds[kind])
    x, t = train_set.batch(range(200))
    if options.gpu:
        model.to_gpu()
        x, t = cuda.as_cupy(x), cuda.as_cupy(t)
    model(x)
    return model, x, t


sizes = {}
for kind in kinds:
    model, x, t = make(kind)
    stages = model.stages(x)
    # How much a number differs from digit to digit: what the digits have in common tells nothing about them.
    sizes[kind] = [float(y.data.std(axis=0).mean()) for y in stages]
    F.softmax_cross_entropy(model(x), t).backward()
    first = float(abs(model.conv.W.grad.data).mean())
    count, size = 2 * len(stages) - 1, sizes[kind][-1]
    print(f"{kind}: difference of two digits after {count} convolutions = {size:.1e}, first gradient = {first:.1e}")

max_epoch = 2
batch_size = 100
losses, accuracies = {}, {}
for kind in kinds:
    model, _, _ = make(kind)
    loader = DataLoader(train_set, batch_size, gpu=options.gpu)
    test_loader = DataLoader(test_set, 500, shuffle=False, gpu=options.gpu)
    optimizer = optimizers.MomentumSGD(lr=0.1).setup(model)
    schedule = schedules.Cosine(optimizer, steps=max_epoch * len(loader))  # lr falls to 0 along half a cosine
    losses[kind] = []
    for _ in range(max_epoch):
        for x, t in loader:
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            schedule.step()
            losses[kind].append(float(loss.data))
    with dezero.test_mode(), dezero.no_grad():
        scores = np.concatenate([cuda.as_numpy(model(x)) for x, _ in test_loader])
    accuracies[kind] = float(F.accuracy(scores, test_set.label).data)
    last = np.mean(losses[kind][-20:])
    print(f"{kind}: last training loss = {last:.4f}, accuracy = {accuracies[kind]:.3f}")
print(f"layers = {sum(name.endswith('/W') and 'project' not in name for name, _ in model.named_params())}")
print(f"test accuracy of the ResNet = {accuracies['both, a ResNet']:.3f}")


def draw(figure):
    left, right = figure.subplots(1, 2)
    window = np.ones(10) / 10
    for kind, style in zip(kinds, (":", "-.", "--", "-"), strict=True):
        curve = np.convolve(losses[kind], window, mode="valid")  # the mean of ten iterations
        left.semilogy(range(10, len(losses[kind]) + 1), curve, style, label=f"{kind}: {accuracies[kind]:.1%}")
        right.semilogy(range(1, 2 * len(sizes[kind]), 2), sizes[kind], style, marker="o", label=kind)
    left.set(title="Training, and how much is right on test data", xlabel="iteration", ylabel="cross-entropy")
    right.set(title="How much digits differ, before any training", xlabel="convolutions", ylabel="standard deviation")
    right.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    right.legend()


show("resnet_curves", draw, size=(12, 5))
np.random.seed(0)
x = dezero.Variable(np.zeros((1, 8, 14, 14), np.float32), name="x")
show("resnet_block", dezero.graph(Block(8, 1, L.BatchNorm, shortcut=True)(x)))

# Exercise: how deep can a network be that has neither? Take blocks out of `shape` until "neither" learns.
# Hint: begin with three, [(8, 1), (16, 2), (32, 2)].
