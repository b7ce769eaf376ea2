"""Step 58. VGG16.

Question: What changes when the images are photographs and the classes a thousand?

The size, and hardly anything else. VGG16 is a network from 2014 that learned the 1,000 classes of ImageNet from more
than a million photographs. It is made of what step 57 has: five blocks, each of two or three convolutions with relu
and a pooling, and three linear layers. All kernels are 3 x 3. Two such convolutions, one after the other, see 5 x 5
pixels, and three see 7 x 7, with fewer parameters than one large kernel, and with a bend in between. Each pooling
halves height and width, and most blocks double the number of channels.

    (3, 224, 224) -> (64, 112, 112) -> (128, 56, 56) -> (256, 28, 28) -> (512, 14, 14) -> (512, 7, 7)
    512 * 7 * 7 = 25088 -> 4096 -> 4096 -> 1000

To train it took weeks. But what it has learned is a file, and whoever has the file has the network (step 53). Its
first blocks know edges, colours and textures, which are of use for other images, too: with a new last layer and little
data it learns other classes. For that the images have to be made as they were in training: blue before red, and
minus the mean colour of ImageNet.

Without the file, weights are random, and so is the answer. The network can be looked at all the same.

New: preprocess, models.VGG16, summary
Look at: where most parameters are, and where most multiply-adds. A multiply-add is one product that is added to a sum.
"""

from pathlib import Path
from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import cuda, datasets, download, models
from dezero import layers as L

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # the channels of each convolution
MEAN = np.float32([103.939, 116.779, 123.68])  # of ImageNet's pixels: blue, green, red


def preprocess(image):
    """Make of an image what VGG16 was trained on: (H, W, 3), red first, 0 to 255 -> (3, H, W), blue first."""
    blue_first = image[:, :, ::-1].astype(np.float32) - MEAN
    return np.ascontiguousarray(blue_first.transpose(2, 0, 1))


class VGG16(models.Model):
    """Five blocks of convolutions, conv1_1 to conv5_3, and fc6, fc7 and fc8: (N, 3, H, W) -> (N, 1000)."""

    def __init__(self):
        super().__init__()
        for i, block in enumerate(BLOCKS, 1):
            for j, channels in enumerate(block, 1):
                setattr(self, f"conv{i}_{j}", L.Conv2d(channels, kernel_size=3, pad=1))
        self.fc6, self.fc7, self.fc8 = L.Linear(4096), L.Linear(4096), L.Linear(1000)

    def block(self, i, x):
        """Return what block number i makes of x: half the height and width."""
        for j in range(1, len(BLOCKS[i - 1]) + 1):
            x = F.relu(getattr(self, f"conv{i}_{j}")(x))
        return F.pooling(x, kernel_size=2, stride=2)

    def forward(self, x):
        for i in range(1, 6):
            x = self.block(i, x)
        x = F.dropout(F.relu(self.fc6(F.flatten(x))))
        x = F.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__, gpu=True)


def paint():
    """Return a picture, (224, 224, 3): the sun over the sea."""
    i, j = np.mgrid[0:224, 0:224] / 224
    sky = np.stack([0.35 + 0.6 * i, 0.45 + 0.35 * i, 0.8 - 0.2 * i], axis=2)
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * (14 * i**3 + 0.5 * np.sin(9 * j + 20 * i)))
    sea = np.stack([0.1 + 0.2 * waves, 0.25 + 0.2 * waves, 0.4 + 0.25 * waves], axis=2)
    picture = np.where(i[:, :, np.newaxis] < 0.6, sky, sea)
    picture[np.hypot(i - 0.4, j - 0.6) < 0.12] = 1.0, 0.9, 0.6
    return (255 * picture).astype(np.uint8)


np.random.seed(0)
picture = paint()
x = preprocess(picture)[np.newaxis]
model = VGG16()
weights = Path(download.cache_folder()) / "vgg16.npz"
trained = weights.exists()
if trained:
    model.load_weights(weights)
    print(f"weights: {weights}")
else:
    print("weights: random. models.VGG16(pretrained=True) fetches trained ones, once, about 550 megabytes")
with dezero.no_grad(), dezero.test_mode():
    if options.gpu:
        model.to_gpu()
        x = cuda.as_cupy(x)
    scores = model(x)
model.summary(x)  # prints a table

probabilities = cuda.as_numpy(F.softmax(scores))[0]
print(f"sum of the probabilities = {probabilities.sum():.3f}")
if trained:
    names = datasets.ImageNet.labels()
    for place, label in enumerate(probabilities.argsort()[::-1][:5], 1):
        print(f"place {place}: {names[label]}, probability = {probabilities[label]:.3f}")
else:
    print(f"largest probability, of {len(probabilities)} = {probabilities.max():.3f}")

# What dezero has: the same network, by name.
theirs = models.VGG16()
for mine, param in zip(model.params(), theirs.params(), strict=True):
    param.data = mine.data
with dezero.no_grad(), dezero.test_mode():
    print(f"models.VGG16 gives the same = {np.allclose(cuda.as_numpy(theirs(x)), cuda.as_numpy(scores))}")

maps = []  # the feature maps after each block
with dezero.no_grad():
    y = x
    for i in range(1, 6):
        y = model.block(i, y)
        maps.append(cuda.as_numpy(y)[0])


def draw(figure):
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.2])
    axes = left.subplots()
    axes.imshow(picture)
    axes.set_title("the picture")
    axes.axis("off")
    for line, images in zip(right.subplots(5, 10), maps, strict=True):
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image, cmap="gray")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{images.shape[1]} x {images.shape[2]}")
    right.suptitle("The first ten feature maps after each block")


show("step58_feature_maps", draw, size=(13, 5))
show("step58_first_block", dezero.graph(model.block(1, dezero.Variable(x, name="x"))))

# Exercise: how many parameters has the network without fc6, fc7 and fc8, and how many of its multiply-adds are theirs?
# Hint: the table has all the numbers. model.summary(x).rows is a list of them, to be added up by Python. Its first row
# is the sum of the others.
