"""Beyond. What a network looks at.

Question: Which pixels of a digit made a network answer as it did?

The network is that of examples/train_cnn.py: two blocks of convolution, relu and pooling, and two linear layers. Its
answer is the class with the highest score. Two ways to ask where that score comes from are tried here.

Saliency is the gradient of the score with respect to the image: how much would the score move if this pixel moved?
backward() has always found gradients of everything; here, for once, it is the data's that is looked at, and the weights
stay as they are.

Grad-CAM asks in the middle of the network. The second convolution makes 64 images of 14 times 14, each bright where
something was found, a stroke or a corner. The mean over all places of the score's gradient says how much a class cares
for each of them. That many times each image, added up, and only what speaks for the class:

    w[k] = mean of d score / d A[k]        map = relu(sum of w[k] * A[k])        A (64, 14, 14) -> map (14, 14)

The mean is right for networks that end with a mean over all places. This one ends with linear layers, to which the same
stroke means one thing at the top and another at the bottom. So a second version leaves the mean out, and multiplies the
gradient at each place with what was found there.

A map that looks convincing may say nothing. It can be tried: hide the ink that it marks, and see whether the answer
suffers more than when other ink is hidden, as much of it, and as patches, since maps mark patches.

A wrong answer has two maps: what spoke for the class it chose, and what spoke for the right one.

New: dezero.grad, saliency, Grad-CAM, F.upsample
Look at: what remains of the probabilities when ink is hidden. Here hiding what Grad-CAM marks does no more than hiding
any patches; hiding what the second version marks does. Then the maps of the mistakes.
Source: Simonyan et al., arXiv:1312.6034; Selvaraju et al., arXiv:1610.02391; Draelos and Carin, arXiv:2011.08891.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where road.py is
from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Variable, datasets, optimizers, schedules
from dezero.transforms import Compose, Normalize, ToFloat


class CNN(dezero.Model):
    """The network of examples/train_cnn.py in two halves: (N, 1, 28, 28) -> (N, 10) scores."""

    def __init__(self):
        super().__init__()
        self.conv1 = L.Conv2d(32, kernel_size=3, pad=1)
        self.conv2 = L.Conv2d(64, kernel_size=3, pad=1)
        self.fc1 = L.Linear(128)
        self.fc2 = L.Linear(10)

    def find(self, x):
        """Return what the second convolution finds, and where: (N, 64, 14, 14)."""
        x = F.pooling(F.relu(self.conv1(x)), kernel_size=2, stride=2)
        return F.relu(self.conv2(x))

    def judge(self, found):
        """Return the scores of what was found."""
        x = F.pooling(found, kernel_size=2, stride=2)
        x = F.relu(self.fc1(F.flatten(x)))
        return self.fc2(F.dropout(x, 0.3))

    def forward(self, x):
        return self.judge(self.find(x))


def score_of(scores, labels):
    """Add up, over the batch, the score of one class for each image."""
    return scores[np.arange(len(labels)), labels].sum()  # images do not meet, so each gets its own gradient


def saliency(model, x, labels):
    """Say how much each pixel moves the score of a class: (N, 1, 28, 28) -> (N, 28, 28)."""
    x = Variable(x)
    with dezero.test_mode():
        gx = dezero.grad(score_of(model(x), labels), x)
    return abs(gx.data)[:, 0]


def grad_cam(model, x, labels, place_by_place=False):
    """Say where something was found that speaks for a class: (N, 1, 28, 28) -> (N, 28, 28)."""
    with dezero.test_mode():
        found = model.find(x)
        w = dezero.grad(score_of(model.judge(found), labels), found).data
        if not place_by_place:
            w = w.mean(axis=(2, 3), keepdims=True)
        return as_map(F.relu((found.data * w).sum(axis=1, keepdims=True)))


def as_map(heat):
    """(N, 1, H, W) -> (N, 28, 28), without steps."""
    return F.upsample(heat, size=(28, 28), mode="bilinear").data[:, 0]


def hide(x, heat, share=0.3):
    """Make white the pixels with ink where `heat` is highest, that share of all ink."""
    x = x.copy()
    for image, values in zip(x[:, 0], heat, strict=True):
        ink = np.flatnonzero(image)
        most = ink[values.ravel()[ink].argsort()[::-1]]
        image.ravel()[most[: int(share * len(ink))]] = 0
    return x


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True, dataset=True, weights=True)
np.random.seed(0)
MNIST = datasets.MNIST if options.dataset == "mnist" else datasets.MiniMNIST
images = Compose([ToFloat(), Normalize(0, 255)])
train_set, test_set = MNIST(transform=images), MNIST(train=False, transform=images)
x, t = test_set.batch(range(len(test_set)))
t = t.astype(int)
model = CNN()

if options.weights:
    model.load_weights(options.weights)
else:
    max_epoch = 3
    loader = DataLoader(train_set, batch_size=50, gpu=options.gpu)
    optimizer = optimizers.Adam(alpha=0.002).setup(model)
    schedule = schedules.Cosine(optimizer, steps=max_epoch * len(loader))
    if options.gpu:
        model.to_gpu()
    for epoch in range(1, max_epoch + 1):
        loss_sum = 0.0
        for batch, labels in loader:
            loss = F.softmax_cross_entropy(model(batch), labels)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            schedule.step()
            loss_sum += float(loss.data) * len(labels)
        print(f"epoch {epoch}: training loss = {loss_sum / len(train_set):.4f}")
    model.to_cpu()


def probabilities_of(x):
    with dezero.test_mode(), dezero.no_grad():
        return np.concatenate([F.softmax(model(x[i : i + 500])).data for i in range(0, len(x), 500)])


p = probabilities_of(x)
answers = p.argmax(axis=1)
wrong = np.flatnonzero(answers != t)
wrong = wrong[p[wrong, answers[wrong]].argsort()[::-1]]  # the most certain mistakes first
print(f"mistakes = {len(wrong)} of {len(t)}")

right = np.flatnonzero(answers == t)[:300]
x_right, t_right = x[right], t[right]
maps = {
    "nothing": None,
    "any ink": np.random.rand(len(right), 28, 28),
    "any patches": as_map(np.random.rand(len(right), 1, 5, 5)),
    "what saliency marks": saliency(model, x_right, t_right),
    "what Grad-CAM marks": grad_cam(model, x_right, t_right),
    "what it marks place by place": grad_cam(model, x_right, t_right, place_by_place=True),
}
rows = np.arange(len(right))
for name, heat in maps.items():
    hidden = probabilities_of(x_right if heat is None else hide(x_right, heat))
    print(
        f"{name} hidden: probability of the right class = {hidden[rows, t_right].mean():.3f}, "
        f"right answers = {(hidden.argmax(axis=1) == t_right).mean():.3f}"
    )
print(f"test accuracy = {(answers == t).mean():.3f}")

rights = [np.flatnonzero((t == digit) & (answers == digit))[:1] for digit in range(10)]
one_of_each, surest = np.concatenate(rights), wrong[:10]
kinds = {
    "digit": lambda n: x[n, 0],
    "saliency": lambda n: saliency(model, x[n], answers[n]),
    "Grad-CAM": lambda n: grad_cam(model, x[n], answers[n]),
    "place by place": lambda n: grad_cam(model, x[n], answers[n], place_by_place=True),
    "for the label": lambda n: grad_cam(model, x[n], t[n], place_by_place=True),
}
pictures_of_right = {kind: kinds[kind](one_of_each) for kind in [*kinds][:4]}
pictures_of_wrong = {kind: kinds[kind](surest) for kind in kinds}


def draw_table(figure, pictures):
    """Draw a row of digits, and rows of maps over faint digits; each map has its own scale."""
    cells = figure.subplots(len(pictures), len(pictures["digit"]), squeeze=False)
    for row, (kind, maps) in zip(cells, pictures.items(), strict=True):
        for axes, digit, heat in zip(row, pictures["digit"], maps, strict=True):
            axes.imshow(digit, cmap="gray_r")
            if kind != "digit":
                axes.imshow(heat, cmap="hot_r", alpha=0.75)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind)
    return cells


def draw_right(figure):
    draw_table(figure, pictures_of_right)
    figure.suptitle("What a right answer rests on: dark pixels count most")


def draw_wrong(figure):
    cells = draw_table(figure, pictures_of_wrong)
    for axes, n in zip(cells[0], surest, strict=True):
        axes.set_title(f"{answers[n]}, is {t[n]}")
    figure.suptitle("The most certain mistakes: maps for the answer it gave, the last for the right one")


show("grad_cam_right", draw_right, size=(13, 6))
if len(wrong):
    show("grad_cam_wrong", draw_wrong, size=(13, 7.5))

# Exercise: hide the ink that a map marks least. After which map should the answers suffer least, and do they?
# Hint: hide(x_right, -heat).
