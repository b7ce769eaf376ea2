"""Step 48. Classifying spirals.

Question: Can a network find classes that are wound around each other?

Three arms of a spiral, a hundred points each, lie in the plane. A sample is the place of a point, two numbers, and
its label says which arm. No straight line separates them, and no two.

The 300 samples are not used all at once. The loop takes 30 of them, calculates the loss and its gradient, and makes
an update, then takes the next 30. Such a handful is a batch. Its gradient is a guess at the gradient of all samples,
ten times cheaper, and ten updates by a guess go further than one by the truth. Once through all samples is an epoch.
For each epoch they are put into a new order, or the same thirty would always meet.

Between the layers stands relu, y = x where x is positive and 0 elsewhere. It bends at one place only, costs next to
nothing, and where it lets a number through, its derivative is 1: many layers do not make the gradient small. The
sigmoid's derivative is at most 1/4.

After training, a network can be asked about any place in the plane, not only where points are.

New: datasets.get_spiral, batch, epoch, F.relu
Look at: the accuracy, the part of the samples that are classified rightly, and the borders in the picture. It ends at
0.993, two points short of all, and cannot do better: the arms begin in one place, with a point each.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import cuda, datasets, models, optimizers


def batches(size, batch_size):
    """Yield the numbers of the samples in each batch of an epoch, in a new order."""
    order = np.random.permutation(size)
    for start in range(0, size, batch_size):
        yield order[start : start + batch_size]


def train_epoch(model, optimizer, x, t, batch_size):
    """Go once over the samples x with their labels t. Returns the mean loss."""
    loss_sum = 0.0
    for rows in batches(len(x), batch_size):
        loss = F.softmax_cross_entropy(model(x[rows]), t[rows])
        model.cleargrads()
        loss.backward()
        optimizer.update()
        loss_sum += float(loss.data) * len(rows)  # the last batch may be smaller
    return loss_sum / len(x)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)
np.random.seed(0)
points, labels = datasets.get_spiral()
print(f"shape of the samples = {points.shape}, shape of the labels = {labels.shape}")

x, t = points, labels
model = models.MLP((30, 30, 3), activation=F.relu)
optimizer = optimizers.Adam(alpha=0.005).setup(model)
if options.gpu:
    x, t = cuda.as_cupy(x), cuda.as_cupy(t)
    model.to_gpu()

max_epoch = 150
losses = []
for epoch in range(1, max_epoch + 1):
    losses.append(train_epoch(model, optimizer, x, t, batch_size=30))
    if epoch in (1, 5, 10, 20, 50, 100, 150):
        with dezero.no_grad():
            accuracy = float(F.accuracy(model(x), t).data)
        print(f"epoch {epoch:3}: loss = {losses[-1]:.4f}, accuracy = {accuracy:.3f}")

model.to_cpu()
with dezero.no_grad():
    a, b = np.meshgrid(np.linspace(-1.1, 1.1, 400, dtype=np.float32), np.linspace(-1.1, 1.1, 400, dtype=np.float32))
    places = np.stack([a.ravel(), b.ravel()], axis=1)
    regions = model(places).data.argmax(axis=1).reshape(a.shape)  # the class with the highest score
    answers = model(points).data.argmax(axis=1)
wrong = points[answers != labels]
print(f"points on the wrong side = {len(wrong)}")
print(f"final accuracy = {accuracy:.3f}")


def draw(figure):
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    left.contourf(a, b, regions, levels=[-0.5, 0.5, 1.5, 2.5], colors=["#cfe2f3", "#fde0c5", "#d5ebd0"])
    for label, (color, marker) in enumerate((("tab:blue", "o"), ("tab:orange", "^"), ("tab:green", "s"))):
        arm = points[labels == label]
        left.plot(arm[:, 0], arm[:, 1], marker, color=color, markersize=4, label=f"class {label}")
    left.plot(wrong[:, 0], wrong[:, 1], "o", color="black", fillstyle="none", markersize=11, label="wrong side")
    left.set(title="What the network says everywhere", xlabel="x[0]", ylabel="x[1]", aspect="equal")
    left.legend(loc="upper left", fontsize=8)
    right.semilogy(range(1, max_epoch + 1), losses, color="tab:red")
    right.set(title="The loss falls", xlabel="epoch", ylabel="cross-entropy")


show("step48_spiral", draw, size=(11, 5.5))

# Exercise: take the hidden layers away, models.MLP((3,)), and look at the picture. Then try one hidden layer of 5.
# Hint: without a bend, the borders are straight lines. How many points can three straight borders get right?
