"""Step 57. The functions conv2d and pooling.

Question: What does a network see that knows which pixels are neighbours?

conv2d is im2col and one matrix product (step 55), in the sizes of step 56: a row for each window, times a column for
each kernel. The results are put back into images, one channel for each kernel.

    (N * OH * OW, C * KH * KW) (C * KH * KW, OC)  ->  (N * OH * OW, OC)  ->  (N, OC, OH, OW)

Pooling makes images smaller. Of each window, and in each channel by itself, only the largest number is kept. Where
exactly a line was seen matters less than that it was seen, and a digit moved by a pixel looks nearly the same to what
follows. Pooling has no parameters.

A convolution, relu and pooling make a block. The first block's kernels see windows of 5 times 5 pixels and learn edges
and strokes. The second block's see windows of what the first made, so larger pieces: corners, bows, ends of lines. A
linear layer then weighs which pieces were found where. A learned kernel is also called a filter, and the image it
makes a feature map.

A trap for readers of other books: elsewhere im2col(x, 5, 5) means a window's height and width. Here the third
argument is the stride, and the two sizes are one argument: im2col(x, (5, 5)).

New: conv2d, pooling, Conv2d, feature map, L.Conv2d
Look at: the shapes, the gradients, and the test accuracy beside that of step 51, whose network has 24 times as many
parameters. In the pictures: what the filters learned, and what each block makes of a digit.
"""

from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import DataLoader, Parameter, Variable, cuda, datasets, models, optimizers, utils
from dezero import layers as L


def conv2d(x, W, b=None, stride=1, pad=0):
    """Slide the kernels over the images: (N, C, H, W), (OC, C, KH, KW) -> (N, OC, OH, OW)."""
    N, _, H, width = x.shape
    OC, _, KH, KW = W.shape
    OH = utils.get_conv_outsize(H, KH, stride, pad)
    OW = utils.get_conv_outsize(width, KW, stride, pad)
    col = F.im2col(x, (KH, KW), stride, pad)
    y = F.linear(col, W.reshape(OC, -1).transpose(), b)
    return y.reshape(N, OH, OW, OC).transpose(0, 3, 1, 2)


def pooling(x, kernel_size, stride=1, pad=0):
    """Keep the largest number of each window: (N, C, H, W) -> (N, C, OH, OW)."""
    N, C, H, W = x.shape
    OH = utils.get_conv_outsize(H, kernel_size, stride, pad)
    OW = utils.get_conv_outsize(W, kernel_size, stride, pad)
    col = F.im2col(x, kernel_size, stride, pad)
    col = col.reshape(N * OH * OW * C, kernel_size**2)  # a row for each window of one channel
    return col.max(axis=1).reshape(N, OH, OW, C).transpose(0, 3, 1, 2)


class Conv2d(L.Layer):
    """conv2d with its parameters; W is made when the number of channels is known."""

    def __init__(self, out_channels, kernel_size, stride=1, pad=0):
        super().__init__()
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.pad = pad
        self.W = Parameter(None, name="W")
        self.b = Parameter(np.zeros(out_channels, dtype=np.float32), name="b")

    def forward(self, x):
        if self.W.data is None:
            shape = self.out_channels, x.shape[1], self.kernel_size, self.kernel_size
            scale = np.float32(np.sqrt(1 / np.prod(shape[1:])))
            self.W.data = np.random.randn(*shape).astype(np.float32) * scale
        return conv2d(x, self.W, self.b, self.stride, self.pad)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True, dataset=True)
np.random.seed(0)
one, ten = np.random.rand(1, 3, 7, 7), np.random.rand(10, 3, 7, 7)
print(f"shape of im2col(x, 5) = {F.im2col(one, 5).shape}")
print(f"shape of im2col(x, (5, 5)) of ten images = {F.im2col(ten, (5, 5)).shape}")
# A size may be one number, for height and width, or two; `pair` makes two of it.
print(f"pair(1) = {utils.pair(1)}, pair((1, 2)) = {utils.pair((1, 2))}")

x = Variable(np.random.randn(1, 5, 15, 15))
W = Variable(np.random.randn(8, 5, 3, 3))
y = conv2d(x, W, pad=1)
y.backward()
print(f"shape of y = {y.shape}, shape of x.grad = {x.grad.shape}, shape of W.grad = {W.grad.shape}")
print(f"F.conv2d gives the same = {np.allclose(F.conv2d(x, W, pad=1).data, y.data)}")

image = np.array([[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 1.0], [9.0, 0.0, 6.0, 2.0], [1.0, 7.0, 3.0, 2.0]])
image = Variable(image.reshape(1, 1, 4, 4))
y = pooling(image, 2, stride=2)
y.backward()
print(f"pooled: {y.data[0, 0].tolist()}")
print(f"gradient, which goes to the largest alone: {image.grad.data[0, 0].tolist()}")
print(f"F.pooling gives the same = {np.array_equal(F.pooling(image, 2, stride=2).data, y.data)}")

np.random.seed(0)
mine = Conv2d(8, 5, pad=2)(one)
np.random.seed(0)
print(f"L.Conv2d gives the same = {np.allclose(L.Conv2d(8, 5, pad=2)(one).data, mine.data, rtol=1e-5)}")


class CNN(models.Model):
    """Two blocks, each a convolution, relu and pooling, and a linear layer: (N, 1, 28, 28) -> (N, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = L.Conv2d(16, kernel_size=5, pad=2)
        self.conv2 = L.Conv2d(32, kernel_size=3, pad=1)
        self.fc = L.Linear(10)

    def blocks(self, x):
        """Return the images after each block: (N, 16, 14, 14) and (N, 32, 7, 7)."""
        first = F.pooling(F.relu(self.conv1(x)), 2, stride=2)
        second = F.pooling(F.relu(self.conv2(first)), 2, stride=2)
        return first, second

    def forward(self, x):
        return self.fc(F.flatten(self.blocks(x)[-1]))


def as_image(x):
    """Return an image with its channel, its pixels from 0 to 1."""
    return x.astype(np.float32) / 255


np.random.seed(0)
MNIST = datasets.MNIST if options.dataset == "mnist" else datasets.MiniMNIST
train_set, test_set = MNIST(transform=as_image), MNIST(train=False, transform=as_image)
train_loader = DataLoader(train_set, batch_size=100, gpu=options.gpu)
test_loader = DataLoader(test_set, batch_size=100, shuffle=False, gpu=options.gpu)
model = CNN()
model(test_set[0][0][np.newaxis])  # makes the parameters
W_before = model.conv1.W.data.copy()
optimizer = optimizers.Adam(alpha=0.002).setup(model)
if options.gpu:
    model.to_gpu()

max_epoch = 6
for epoch in range(1, max_epoch + 1):
    loss_sum = 0.0
    for x, t in train_loader:
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        loss_sum += float(loss.data) * len(t)
    with dezero.no_grad():
        scores = np.concatenate([cuda.as_numpy(model(x)) for x, _ in test_loader])
    accuracy = float(F.accuracy(scores, test_set.label).data)
    print(f"epoch {epoch}: loss = {loss_sum / len(train_set):.4f}, accuracy = {accuracy:.3f}")

model.to_cpu()
print(f"parameters = {sum(param.size for param in model.params())}")
print(f"test accuracy = {accuracy:.3f}")

shown = test_set[int(np.flatnonzero(test_set.label == 4)[0])][0]
with dezero.no_grad():
    first, second = (block.data[0] for block in model.blocks(shown[np.newaxis]))
filters = model.conv1.W.data[:, 0]


def draw_filters(figure):
    rows = {"at first": W_before[:, 0], "learned": filters - W_before[:, 0], "together": filters}
    for line, (name, images) in zip(figure.subplots(3, 16), rows.items(), strict=True):
        most = abs(images).max()  # what was learned is smaller than what was there
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=-most, vmax=most)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    figure.suptitle("The 16 filters of the first block: bright is positive")


def draw_maps(figure):
    parts = figure.subfigures(1, 3, width_ratios=[1, 2, 4])
    blocks = {"a digit": shown, "after the first block, 16 maps": first, "after the second, 32 maps": second}
    for part, rows, (title, images) in zip(parts, (1, 4, 4), blocks.items(), strict=True):
        columns = -(-len(images) // rows)
        grid = np.atleast_1d(part.subplots(rows, columns)).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, image in zip(grid, images, strict=False):
            axes.imshow(image, cmap="gray", vmin=0)
        part.suptitle(title, fontsize=11)


show("step57_filters", draw_filters, size=(12, 3))
show("step57_feature_maps", draw_maps, size=(13, 4))

# Exercise: draw the feature maps of one digit and of the same digit moved by two pixels, np.roll(image, 2, axis=2).
# What of it does the linear layer still see in the same place?
# Hint: model.blocks(x)[-1], with a batch of the two images.
