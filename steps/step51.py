"""Step 51. Handwritten digits.

Question: Is what was built so far enough for a real task?

MNIST is 70,000 digits, each an image of 28 times 28 grey levels, put together in the 1990s from what clerks and
pupils had written by hand. Every method of the field was tried on it, and it is a good first task still: no formula
says what makes a 4.

The package carries 6,000 of the training digits and 1,000 of the test digits, MiniMNIST, so that nothing needs to be
downloaded. With --dataset mnist the program fetches and uses all of them.

For the MLP an image is a row of 784 numbers from 0 to 1; the transforms Flatten, ToFloat and Normalize make it from
the image, unless others are given. The program is that of step 50 with another data set and another size of the
model. The network does not know that the numbers are an image, nor which are neighbours. Steps 55 to 57 tell it.

How certain a network is can be read from its probabilities (step 47). It is worth looking at the digits it gets
wrong, and at its weights. Each unit of the first layer has a weight for every pixel, so what its weights learned is
an image too: bright where ink speaks for the unit, dark where it speaks against.

New: datasets.MiniMNIST, datasets.MNIST
Look at: the accuracy on the test data, 0.94 after 12 epochs; which loss goes on falling and which does not; and the
mistakes. Some of them a person would make.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import DataLoader, cuda, datasets, models, optimizers

# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True, dataset=True)
np.random.seed(0)
MNIST = datasets.MNIST if options.dataset == "mnist" else datasets.MiniMNIST
train_set, test_set = MNIST(), MNIST(train=False)
print(f"training digits = {len(train_set)}, test digits = {len(test_set)}")
print(f"shape of an image = {train_set.data[0].shape}, of a sample = {train_set[0][0].shape}")

train_loader = DataLoader(train_set, batch_size=100, gpu=options.gpu)
test_loader = DataLoader(test_set, batch_size=100, shuffle=False, gpu=options.gpu)
model = models.MLP((500, 200, 10), activation=F.relu)
optimizer = optimizers.Adam(alpha=0.001).setup(model)
if options.gpu:
    model.to_gpu()


def predict(loader):
    """Return the scores of all samples of a loader: (N, 10)."""
    with dezero.no_grad():
        return np.concatenate([cuda.as_numpy(model(x)) for x, _ in loader])


scores = predict(test_loader)  # the first call makes the weights
print(f"accuracy before training = {float(F.accuracy(scores, test_set.label).data):.3f}")
W_before = cuda.as_numpy(model.l0.W).copy()

max_epoch = 12
history = []
for epoch in range(1, max_epoch + 1):
    loss_sum = 0.0
    for x, t in train_loader:
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        loss_sum += float(loss.data) * len(t)
    scores = predict(test_loader)
    loss = loss_sum / len(train_set)
    test_loss = float(F.softmax_cross_entropy(scores, test_set.label).data)
    accuracy = float(F.accuracy(scores, test_set.label).data)
    history.append((loss, test_loss))
    print(f"epoch {epoch:2}: training loss = {loss:.4f}, test loss = {test_loss:.4f}, accuracy = {accuracy:.3f}")

probabilities = F.softmax(scores).data
answers = scores.argmax(axis=1)
wrong = np.flatnonzero(answers != test_set.label)
worst = wrong[probabilities[wrong, answers[wrong]].argsort()[::-1]]  # the most certain mistakes first
for n in worst[:3]:
    share = probabilities[n, answers[n]]
    print(f"test digit {n}: label = {test_set.label[n]}, answer = {answers[n]}, probability = {share:.3f}")
print(f"mistakes = {len(wrong)}")
print(f"test accuracy = {accuracy:.3f}")


def draw_digits(figure):
    for axes, n in zip(figure.subplots(2, 10).flat, [*range(10), *worst[:10]], strict=True):
        axes.imshow(test_set.data[n, 0], cmap="gray_r")
        right = answers[n] == test_set.label[n]
        title = f"{answers[n]}" if right else f"{answers[n]}, is {test_set.label[n]}"
        axes.set_title(title, color="tab:green" if right else "tab:red", fontsize=11)
        axes.axis("off")
    figure.suptitle("The first ten test digits, with the network's answers, and its ten most certain mistakes")


def draw_weights(figure):
    learned = cuda.as_numpy(model.l0.W) - W_before  # without the random numbers that W began with
    most = (learned**2).sum(axis=0).argsort()[::-1][:24]  # the units that learned most
    for axes, unit in zip(figure.subplots(3, 8).flat, most, strict=True):
        axes.imshow(learned[:, unit].reshape(28, 28), cmap="gray", vmin=-0.15, vmax=0.15)
        axes.axis("off")
    figure.suptitle("What 24 units of the first layer learned, a weight for each pixel: bright is positive")


def draw_losses(figure):
    axes = figure.subplots()
    for curve, name in zip(np.transpose(history), ("training data", "test data"), strict=True):
        axes.semilogy(range(1, max_epoch + 1), curve, label=name)
    axes.set(title="The loss on digits seen and not seen", xlabel="epoch", ylabel="cross-entropy")
    axes.legend()


show("step51_digits", draw_digits, size=(12, 3.6))
show("step51_weights", draw_weights, size=(10, 4.2))
show("step51_losses", draw_losses)

# Exercise: which digits are mistaken for which? Print a table of 10 times 10 counts, a row for each label and a column
# for each answer.
# Hint: np.add.at(table, (test_set.label, answers), 1), as in step 47.
