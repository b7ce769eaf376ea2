"""Step 49. A Dataset.

Question: How can a training program do without knowing what its data is?

By asking for two things only: how many samples there are, and sample number i with its label. Python has words for
that: len(data) and data[i] call __len__ and __getitem__. An object with these two is a data set, whatever is behind
it: arrays, files that are opened when they are asked for, or a formula.

Dataset is a class for the usual case, samples and labels in two arrays. A subclass fills them in prepare(). It is
told whether training data or test data is wanted. Test data is never trained on. It answers the question that
counts: what does the model say about samples that it has not seen?

Data seldom comes in numbers that a network likes. Weights begin near 0 and change little by little, so samples should
be around 0 too, and about 1 in size. A transform is a function that each sample goes through when it is taken out.
The rings of this step are measured in metres, far from the place where the measuring began. Their transform subtracts
the middle and divides by the size. dezero.transforms has such functions for images.

New: Dataset, transform, training data and test data, dezero.transforms
Look at: the accuracy on the test data without a transform, about 0.7, and with one, 0.99. Nothing else differs.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import cuda, models, optimizers


class Dataset:
    """Samples and their labels: `data[i]` is a pair. A subclass fills `data` and `label` in `prepare`."""

    def __init__(self, train=True, transform=None, target_transform=None):
        self.train = train
        self.transform = transform or self.unchanged
        self.target_transform = target_transform or self.unchanged
        self.data = None
        self.label = None
        self.prepare()

    @staticmethod
    def unchanged(x):
        return x

    def prepare(self):
        pass

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        x = self.transform(self.data[index])
        return x, None if self.label is None else self.target_transform(self.label[index])

    def batch(self, indexes):
        """Return the samples with these numbers as one array, and their labels as another."""
        pairs = [self[i] for i in indexes]
        return np.array([x for x, _ in pairs]), np.array([t for _, t in pairs])


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)


def draw_rings(size, seed):
    """Return places on three rings around (500, 300), in metres, and which ring each is on."""
    random = np.random.RandomState(seed)  # numbers of its own: the same rings every time
    ring = random.randint(3, size=size)
    angle = 2 * np.pi * random.rand(size)
    radius = 20 + 40 * ring + 8 * random.randn(size)
    places = np.stack([500 + radius * np.cos(angle), 300 + radius * np.sin(angle)], axis=1)
    return places.astype(np.float32), ring


class MyRings(Dataset):
    def prepare(self):
        self.data, self.label = draw_rings(300, seed=1 if self.train else 2)


class Rings(dezero.Dataset):  # the same from dezero's Dataset, which is used from here on
    def prepare(self):
        self.data, self.label = draw_rings(300, seed=1 if self.train else 2)


def normalize(x):
    """Move a place in metres to around 0, and to a size of about 1."""
    return (x - np.float32([500, 300])) / np.float32(60)


mine, theirs = MyRings(transform=normalize), Rings(transform=normalize)
same = all(np.array_equal(a, b) for a, b in zip(mine.batch([0, 7, 7]), theirs.batch([0, 7, 7]), strict=True))
print(f"dezero's Dataset gives the same = {same}")

x, t = Rings()[0]
print(f"samples = {len(Rings())}")
print(f"sample 0 = {x}, label = {t}")
print(f"sample 0 through the transform = {theirs[0][0]}")


def train(transform):
    """Train a network on the rings. Returns it, and its accuracy on the test data."""
    train_set = Rings(transform=transform)
    np.random.seed(0)
    model = models.MLP((20, 20, 3), activation=F.relu)
    optimizer = optimizers.Adam(alpha=0.005).setup(model)
    if options.gpu:
        model.to_gpu()
    for _ in range(60):
        order = np.random.permutation(len(train_set))
        for start in range(0, len(order), 30):
            x, t = train_set.batch(order[start : start + 30])
            if options.gpu:
                x, t = cuda.as_cupy(x), cuda.as_cupy(t)
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
    model.to_cpu()
    x, t = Rings(train=False, transform=transform).batch(range(300))
    with dezero.no_grad():
        return model, float(F.accuracy(model(x), t).data)


model, accuracy = train(None)
print(f"test accuracy without a transform = {accuracy:.3f}")
model, accuracy = train(normalize)
print(f"test accuracy with one = {accuracy:.3f}")

a, b = np.meshgrid(np.linspace(370, 630, 300), np.linspace(170, 430, 300))
places = normalize(np.stack([a.ravel(), b.ravel()], axis=1)).astype(np.float32)
with dezero.no_grad():
    regions = model(places).data.argmax(axis=1).reshape(a.shape)
test_set = Rings(train=False)


def draw(figure):
    axes = figure.subplots()
    axes.contourf(a, b, regions, levels=[-0.5, 0.5, 1.5, 2.5], colors=["#cfe2f3", "#fde0c5", "#d5ebd0"])
    for label, color in enumerate(("tab:blue", "tab:orange", "tab:green")):
        ring = test_set.data[test_set.label == label]
        axes.plot(ring[:, 0], ring[:, 1], "o", color=color, markersize=4, label=f"ring {label}")
    axes.set(title="Test data, and what the network says everywhere", xlabel="metres", ylabel="metres", aspect="equal")
    axes.legend(loc="upper left", fontsize=8)


show("step49_rings", draw, size=(7, 6.5))

# Exercise: write a data set of a million samples that keeps no array: sample i is the number i / 1000000, its label 1
# where the sine of a thousand times that is positive, and 0 elsewhere.
# Hint: only __len__ and __getitem__ are needed, and neither has to look anything up.
