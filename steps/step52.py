"""Step 52. The GPU.

Question: How can a program use a processor that does thousands of things at once?

A GPU was made to calculate the colours of all points of a screen at the same time. It does so for any numbers, as
long as the same is done to many of them, and operations on arrays are of that kind. It has a memory of its own and sees
nothing else. So arrays have to be moved there, and what is calculated from them stays there until it is asked for.

CuPy is a package with NumPy's functions under NumPy's names, for arrays in the memory of a GPU. An operation needs
no second version then. It asks which of the two packages its array belongs to, and calls that one's functions. Here
the package is called xp:

    xp = cuda.get_array_module(x)        numpy for NumPy's arrays, cupy for CuPy's

Three things move in a program that trains: the parameters, once (model.to_gpu()), each batch (DataLoader with
gpu=True), and at the end what a person wants to read (cuda.as_numpy). Moving takes time. So does reading a loss, since
the program has to wait for it, and a good loop does that seldom.

Python itself becomes the slow part: it takes longer to ask for an operation than the GPU needs to do it. cuda.capture
records what one call of a function asked for. Later calls replay the record, and no line of Python runs.

New: cuda.get_array_module, cuda.as_cupy, cuda.as_numpy, cuda.capture, to_gpu, to_cpu
Look at: what is said where there is no GPU. Where there is one, --gpu shows the same losses three times, and how long
a batch takes on the CPU, on the GPU, and on the GPU with a captured function.
"""

import time
from road import read_options

import numpy as np

import dezero.functions as F
from dezero import DataLoader, Function, Variable, cuda, datasets, models, optimizers


class Softplus(Function):
    """y = log(1 + exp(x)), a relu with a soft bend, wherever x is."""

    def forward(self, x):
        xp = cuda.get_array_module(x)
        return xp.logaddexp(x, xp.zeros_like(x))  # log(exp(x) + exp(0)), which does not overflow

    def backward(self, gy):
        (x,) = self.inputs
        return gy * F.sigmoid(x)


def softplus(x):
    """y = log(1 + exp(x)), for every number in x."""
    return Softplus()(x)


def make_train(model, optimizer):
    """Return a function that makes one update from a batch, and returns the loss."""

    def train(x, t):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss

    return train


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.set_printoptions(precision=6, suppress=True)

x = Variable(np.array([[-1.0, 0.0, 1000.0]], dtype=np.float32))
print(f"x belongs to {cuda.get_array_module(x).__name__}")
y = softplus(x)
y.backward()
print(f"softplus of x = {cuda.as_numpy(y)}")
print(f"its gradient = {cuda.as_numpy(x.grad)}")
print(f"F.softplus gives the same = {np.allclose(F.softplus(x).data, y.data)}")
captured = cuda.capture(softplus)  # for NumPy's arrays it is called as it is
print(f"captured, softplus gives the same = {np.array_equal(captured(x).data, y.data)}")
try:
    x.to_gpu()
    print(f"moved, x belongs to {cuda.get_array_module(x).__name__}")
    print(f"softplus of x, calculated there = {cuda.as_numpy(softplus(x))}")
    x + np.ones((1, 3), dtype=np.float32)
except (RuntimeError, TypeError) as error:  # no GPU; arrays on two sides
    print(f"{type(error).__name__}: {error}")


def run(name, gpu=False, capture=False):
    """Train for one epoch, say how it went, and return the loss of every batch."""
    np.random.seed(0)  # the same weights and the same batches each time
    loader = DataLoader(datasets.MiniMNIST(), batch_size=100, gpu=gpu)
    model = models.MLP((1000, 1000, 10), activation=softplus)
    if gpu:
        model.to_gpu()
    train = make_train(model, optimizers.Adam().setup(model))
    if capture:
        train = cuda.capture(train)
    losses = []
    for number, (x, t) in enumerate(loader):
        if number == 10:  # the first batches make everything ready
            float(losses[-1].data)  # reading a value waits until it is there
            start = time.perf_counter()
        losses.append(train(x, t))
    losses = np.array([float(loss.data) for loss in losses])
    milliseconds = 1000 * (time.perf_counter() - start) / (len(losses) - 10)
    print(f"{name}: first loss = {losses[0]:.4f}, last loss = {losses[-1]:.4f}, milliseconds = {milliseconds:.1f}")
    return losses


on_cpu = run("a batch on the CPU")
if options.gpu:
    on_gpu = run("a batch on the GPU", gpu=True)
    captured = run("a batch on the GPU, captured", gpu=True, capture=True)
    print(f"largest difference of the losses, CPU and GPU = {np.abs(on_cpu - on_gpu).max():.1e}")
    print(f"largest difference of the losses, GPU and captured = {np.abs(on_gpu - captured).max():.1e}")

# Exercise: write SoftSign, y = x / (1 + abs(x)), as a Function for both kinds of arrays, and compare its gradient with
# dezero.testing.numerical_grad.
# Hint: xp.abs forward. The derivative is 1 / (1 + abs(x)) ** 2; in backward it is written with F.abs.
