"""Step 55. Convolution, first part: a matrix of windows.

Question: How can a network be told which pixels are neighbours?

The network of step 51 was given an image as a row of numbers. It would have learned as much from the same pixels in
any other order. But what makes an image is that pixels lie beside each other: a line, a corner and a spot can be seen
in a small window, and look the same wherever they are.

So let a small array of weights, a kernel, slide over the image. At each place it lies on a window of the kernel's own
size. Weights and pixels that lie on each other are multiplied, and the products added up:

    y[i, j] = W[0, 0] * x[i, j] + W[0, 1] * x[i, j + 1] + ... + W[1, 0] * x[i + 1, j] + ...

This is called a convolution. Wherever in x the window looks like the kernel, y is large. A network learns the kernel,
and as it is the same everywhere, what was learned in one corner holds in all.

Written with loops this is slow in Python. A trick makes a matrix product of it: the windows are laid out as the rows
of a matrix, and the kernel as a column. The trick is called im2col, from image to columns. Most pixels lie in several
windows and so stand in several rows. On the way back each adds up what its copies receive (step 14); laying a matrix
of windows back onto the image in this way is called col2im.

New: kernel, window, im2col, F.im2col, F.col2im, F.stack
Look at: each window beside its row of the matrix, and the last table: in how many windows each pixel lies.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Variable, datasets


def windows(x, KH, KW):
    """Return every window of KH times KW pixels of an image (H, W), from left to right and from top to bottom."""
    H, W = x.shape
    return [x[i : i + KH, j : j + KW] for i in range(H - KH + 1) for j in range(W - KW + 1)]


def im2col(x, KH, KW):
    """Lay out the windows of an image as rows: (H, W) -> (OH * OW, KH * KW)."""
    return F.stack([window.reshape(KH * KW) for window in windows(x, KH, KW)])


def convolve(x, W):
    """Slide the kernel W over an image: (H, W), (KH, KW) -> (OH, OW)."""
    KH, KW = W.shape
    OH, OW = x.shape[0] - KH + 1, x.shape[1] - KW + 1
    y = F.matmul(im2col(x, KH, KW), W.reshape(KH * KW, 1))
    return y.reshape(OH, OW)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x = Variable(np.arange(16.0).reshape(4, 4))  # each pixel is the number of its place
col = im2col(x, 3, 3)
for row, window in enumerate(windows(x, 3, 3)):
    for i in range(3):
        pixels = " ".join(f"{pixel:2.0f}" for pixel in window.data[i])
        numbers = " ".join(f"{number:2.0f}" for number in col.data[row])
        print(f"{pixels}   row {row} of the matrix: {numbers}" if i == 1 else pixels)
    print()
print(f"shape of x = {x.shape}, shape of the matrix = {col.shape}")

W = Variable(np.eye(3))  # a diagonal line
y = convolve(x, W)
slow = [(window.data * W.data).sum() for window in windows(x, 3, 3)]
print(f"y by the matrix = {y.data.ravel()}")
print(f"y by the windows = {np.array(slow)}")

# What dezero has: F.im2col for a batch of images with several channels, (N, C, H, W), and F.conv2d; see step 56.
images, kernels = x.reshape(1, 1, 4, 4), W.reshape(1, 1, 3, 3)
print(f"F.im2col gives the same = {np.array_equal(F.im2col(images, 3).data, col.data)}")
print(f"F.conv2d gives the same = {np.array_equal(F.conv2d(images, kernels).data[0, 0], y.data)}")

im2col(x, 3, 3).sum().backward()  # each number of the matrix counts once
print(f"in how many windows each pixel lies:\n{x.grad.data}")
again = F.col2im(np.ones((4, 9)), (1, 1, 4, 4), 3)
print(f"F.col2im gives the same = {np.array_equal(again.data[0, 0], x.grad.data)}")

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def draw_numbers(axes, numbers):
    """Draw a matrix as a table of its numbers."""
    rows, columns = numbers.shape
    for i in range(rows):
        for j in range(columns):
            axes.text(j + 0.5, i + 0.5, f"{numbers[i, j]:.0f}", ha="center", va="center", fontsize=11)
    axes.hlines(range(rows + 1), 0, columns, color="0.8", linewidth=0.8)
    axes.vlines(range(columns + 1), 0, rows, color="0.8", linewidth=0.8)
    axes.set(xlim=(-0.3, columns + 0.3), ylim=(rows + 0.3, -0.3), aspect="equal", xticks=[], yticks=[], frame_on=False)


def frame(left, top, width, height, color):
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, fill=False, edgecolor=color, linewidth=2)


def draw_windows(figure):
    axes, right = figure.subplots(1, 2, width_ratios=[1, 2])
    draw_numbers(axes, x.data)
    draw_numbers(right, col.data)
    for row, color in enumerate(COLORS):
        i, j, gap = row // 2, row % 2, 0.06 * (row + 1)
        axes.add_patch(frame(j + gap, i + gap, 3 - 0.3, 3 - 0.3, color))
        right.add_patch(frame(0.06, row + 0.06, 8.88, 0.88, color))
    axes.set(title="An image and its windows", xlabel="axis 1", ylabel="axis 0")
    right.set(title="A row for each window", xlabel="pixels of the window", ylabel="windows")


digit = datasets.MiniMNIST(train=False).data[3, 0] / 255.0
slope = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])  # bright on the left, dark on the right
KERNELS = {"bright left, dark right": slope, "bright above, dark below": slope.T, "a diagonal line": np.eye(3) - 1 / 3}
results = {name: convolve(Variable(digit), Variable(kernel)).data for name, kernel in KERNELS.items()}


def draw_digit(figure):
    top, bottom = figure.subplots(2, 4)
    top[0].imshow(digit, cmap="gray")
    top[0].set_title("an image, 28 x 28")
    for axes, below, (name, kernel) in zip(top[1:], bottom[1:], KERNELS.items(), strict=True):
        axes.imshow(kernel, cmap="gray", vmin=-2, vmax=2)
        axes.set_title(f"kernel: {name}", fontsize=9)
        below.imshow(results[name], cmap="gray")
        below.set_title("what it makes, 26 x 26", fontsize=9)
    for axes in (*top, *bottom):
        axes.axis("off")


show("step55_windows", draw_windows, size=(11, 4))
show("step55_digit", draw_digit, size=(10, 5.2))

# Exercise: find a kernel that makes 0 of every image whose pixels are all alike, and is large at a single bright pixel.
# Hint: its numbers add up to 0. One of them is positive, and the eight around it share the negative part.
