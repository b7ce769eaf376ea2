"""Step 47. Softmax and cross-entropy.

Question: How does a network answer "which of these", and what is its loss then?

It gives one number for each class, its score, and the highest wins. For learning, scores are made into
probabilities: positive numbers with the sum 1. exp makes them positive, a division makes the sum 1. This is softmax:

    p[c] = exp(x[c]) / (exp(x[0]) + exp(x[1]) + ...)

A label t is the number of the right class, and p[t] the probability that the network gave it. The loss is -log p[t],
called cross-entropy: 0 when the network was certain and right, and larger without end the less it believed in the
right class. Over N samples the mean is taken. The gradient is as short as could be: of each probability, 1 is taken
away where the right class is.

    d loss / dx[n, c] = (p[n, c] - (1 where c is t[n], else 0)) / N

To take p[n, t[n]] out of an array takes an operation, x[slices]. Its way back puts each gradient where the number was
taken from, and adds where one was taken twice (step 14).

exp overflows at scores of 710. Adding the same number to all scores of a row changes no probability, so softmax
first subtracts the largest. As one Function the loss never takes the log of a probability that was rounded to 0.

New: GetItem, GetItemGrad, get_item, softmax, SoftmaxCrossEntropy, softmax_cross_entropy, F.accuracy
Look at: two rows of probabilities, the loss of each, and scores of 1000.
"""

import road  # noqa: F401  (makes `import dezero` work)

import numpy as np

import dezero.functions as F
from dezero import Function, Variable, models


class GetItem(Function):
    def __init__(self, slices):
        self.slices = slices

    def forward(self, x):
        self.x_shape = x.shape
        return x[self.slices]

    def backward(self, gy):
        return GetItemGrad(self.slices, self.x_shape)(gy)


class GetItemGrad(Function):
    """The gradient of x[slices]: zeros in x's shape, to which gy is added."""

    def __init__(self, slices, x_shape):
        self.slices = slices
        self.x_shape = x_shape

    def forward(self, gy):
        gx = np.zeros(self.x_shape, gy.dtype)
        np.add.at(gx, self.slices, gy)  # gx[slices] += gy would count a number taken twice only once
        return gx

    def backward(self, ggx):
        return get_item(ggx, self.slices)


def get_item(x, slices):
    """y = x[slices]."""
    return GetItem(slices)(x)


def softmax(x):
    """Probabilities from scores, row by row: (N, C) -> (N, C)."""
    y = F.exp(x - x.data.max(axis=1, keepdims=True))  # a constant: it changes no probability, and so no gradient
    return y / F.sum(y, axis=1, keepdims=True)


def softmax_cross_entropy_simple(x, t):
    """The mean of -log p[n, t[n]], made of operations: x (N, C) scores, t (N,) labels."""
    p = get_item(softmax(x), (np.arange(len(t)), t))
    return -F.sum(F.log(p)) / len(t)


class SoftmaxCrossEntropy(Function):
    def forward(self, x, t):
        x = x - x.max(axis=1, keepdims=True)
        log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(t)), t].mean()

    def backward(self, gy):
        x, t = self.inputs
        one_hot = np.eye(x.shape[1], dtype=x.dtype)[t.data]  # 1 where the right class is
        return (softmax(x) - one_hot) * (gy / len(t)), None  # labels have no gradient


def softmax_cross_entropy(x, t):
    """The mean of -log p[n, t[n]]: x (N, C) scores, t (N,) labels."""
    return SoftmaxCrossEntropy()(x, t)


# Demonstration --------------------------------------------------------------------------------------------------------

x = Variable(np.array([1.0, 2.0, 3.0]))
y = get_item(x, [0, 2, 2])
y.backward()
print(f"x[[0, 2, 2]]: y = {y.data}, dy/dx = {x.grad.data}")

np.set_printoptions(precision=4, suppress=True)
scores = Variable(np.array([[2.0, 1.0, -1.0], [0.0, 1.0, 0.5]]))
labels = np.array([0, 2])
p = softmax(scores).data
for n in (0, 1):
    print(f"sample {n}: probabilities = {p[n]}, label = {labels[n]}, loss = {-np.log(p[n, labels[n]]):.4f}")
loss = softmax_cross_entropy(scores, labels)
loss.backward()
print(f"mean loss = {loss.data:.4f}")
print(f"gradient of the scores:\n{scores.grad.data}")

# What dezero has: x[slices], F.softmax and F.softmax_cross_entropy, with errors for labels that are none.
print(f"x[[0, 2, 2]] gives the same = {np.array_equal(x[[0, 2, 2]].data, y.data)}")
print(f"F.softmax gives the same = {np.allclose(F.softmax(scores).data, p, rtol=1e-12)}")
losses = [f(scores, labels).data for f in (softmax_cross_entropy_simple, F.softmax_cross_entropy)]
print(f"all three losses agree = {np.allclose(losses, loss.data, rtol=1e-12)}")

large = Variable(np.array([[1000.0, 0.0, -1000.0]]))
print(f"probabilities of the scores 1000, 0 and -1000 = {softmax(large).data[0]}")
print(f"loss where the label is the last = {softmax_cross_entropy(large, np.array([2])).data:.1f}")

np.random.seed(0)
model = models.MLP((10, 3))
samples = np.random.randn(200, 2).astype(np.float32)
labels = np.random.randint(3, size=200)
y = model(samples)
print(f"loss of a model that knows nothing = {F.softmax_cross_entropy(y, labels).data:.4f}")
print(f"log 3, the loss of a guess = {np.log(3):.4f}")
print(f"accuracy of the guesses = {F.accuracy(y, labels).data:.3f}")  # the part that is right

# Exercise: what is the loss of a model that always gives the probability 0.9 to one class, and is right nine times of
# ten? Compare with one that gives 0.99 and is right as often.
# Hint: with two classes, the mean of nine times -log 0.9 and once -log 0.1.
