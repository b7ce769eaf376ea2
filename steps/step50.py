"""Step 50. A DataLoader.

Question: Who cuts the data into batches?

Every training loop so far did it by hand: a new order for each epoch, 30 samples at a time, two arrays. A DataLoader
does it once and for all. It takes a data set and a batch size, and `for x, t in loader` is one epoch.

Python's `for` asks an object for its next item, by __next__, until the object raises StopIteration. Such an object is
an iterator. The loader keeps the order and counts the batches it has given. When there are no more, it draws the next
order, so that the same `for` can begin again. Test data needs no new order: shuffle=False.

With training and test data side by side, a curve can be drawn that each training should be judged by. Where the loss
on the training data still falls and that on the test data rises, the model learns its samples by heart and not what
they have in common. This is overfitting.

New: DataLoader, iterator, overfitting
Look at: the batches of a small data set, the last of them smaller; the loss on the test data, which stays above that
on the training data; and the accuracy on both, 0.99 in the end.
"""

import math
from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import cuda, datasets, models, optimizers


class DataLoader:
    """Batches of a data set: `for x, t in loader` is one epoch."""

    def __init__(self, dataset, batch_size, shuffle=True):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_iter = math.ceil(len(dataset) / batch_size)
        self.reset()

    def reset(self):
        """Go back to the start, in a new order if the loader shuffles."""
        self.iteration = 0
        size = len(self.dataset)
        self.index = np.random.permutation(size) if self.shuffle else np.arange(size)

    def __len__(self):
        return self.max_iter

    def __iter__(self):
        return self

    def __next__(self):
        if self.iteration == self.max_iter:
            self.reset()
            raise StopIteration
        start = self.iteration * self.batch_size
        self.iteration += 1
        return self.dataset.batch(self.index[start : start + self.batch_size])


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)


class Counting(dezero.Dataset):
    """Ten samples, 0 to 9, each with its square."""

    def prepare(self):
        self.data = np.arange(10)
        self.label = self.data**2


np.random.seed(0)
loader = DataLoader(Counting(), batch_size=4)
for epoch in (1, 2):
    for x, t in loader:
        print(f"epoch {epoch}: x = {x}, t = {t}")

# What dezero has, under the same name: gpu=True puts the batches on the GPU, and items may be any pairs.
np.random.seed(0)
first = [x.tolist() for x, _ in DataLoader(Counting(), 4)]
np.random.seed(0)
print(f"dezero's DataLoader gives the same = {[x.tolist() for x, _ in dezero.DataLoader(Counting(), 4)] == first}")

np.random.seed(0)
train_loader = dezero.DataLoader(datasets.Spiral(), 30, gpu=options.gpu)
test_loader = dezero.DataLoader(datasets.Spiral(train=False), 30, shuffle=False, gpu=options.gpu)
model = models.MLP((30, 30, 3), activation=F.relu)
optimizer = optimizers.Adam(alpha=0.005).setup(model)
if options.gpu:
    model.to_gpu()


def judge(loader):
    """Return loss and accuracy of the model on all the data of a loader."""
    with dezero.no_grad():
        pairs = [(cuda.as_numpy(model(x)), cuda.as_numpy(t)) for x, t in loader]
    scores, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return float(F.softmax_cross_entropy(scores, labels).data), float(F.accuracy(scores, labels).data)


max_epoch = 100
history = []
for epoch in range(1, max_epoch + 1):
    for x, t in train_loader:
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
    history.append((*judge(train_loader), *judge(test_loader)))
    if epoch % 20 == 0:
        train_loss, train_accuracy, test_loss, test_accuracy = history[-1]
        print(
            f"epoch {epoch:3}: training loss = {train_loss:.4f}, training accuracy = {train_accuracy:.3f}, "
            f"test loss = {test_loss:.4f}, test accuracy = {test_accuracy:.3f}"
        )
print(f"final test accuracy = {test_accuracy:.3f}")


def draw(figure):
    left, right = figure.subplots(1, 2)
    train_loss, train_accuracy, test_loss, test_accuracy = np.transpose(history)
    epochs = range(1, max_epoch + 1)
    left.semilogy(epochs, train_loss, label="training data")
    left.semilogy(epochs, test_loss, label="test data")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy")
    left.legend()
    right.plot(epochs, train_accuracy, label="training data")
    right.plot(epochs, test_accuracy, label="test data")
    right.set(title="Accuracy", xlabel="epoch", ylabel="part of the samples classified rightly")
    right.legend()


show("step50_curves", draw, size=(11, 4.5))

# Exercise: train on the first 30 samples of the spiral only, for 300 epochs, and draw the two losses.
# Hint: datasets.hold_out(datasets.Spiral(), 270) returns a data set of 30 and one of 270.
