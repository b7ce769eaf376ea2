"""Step 56. Convolution, second part: sizes.

Question: How large is what comes out of a convolution?

A kernel of size 3 fits into an image of size 5 at three places: beginning at 0, 1 and 2. Two more things decide. Zeros
may be laid around the image, so that the kernel also meets its border: pad says how many, on each side. And the
kernel may move on by more than one pixel: stride says by how many. The number of places is then

    OH = (H + 2 * pad - KH) // stride + 1        and likewise OW from W and KW

since the last place is the size of the padded image minus that of the kernel, and every stride-th place up to it
counts. The division is rounded down: what is left over at the right and lower border is not seen. With an odd kernel,
pad = (KH - 1) / 2 and stride 1, the size stays as it is. With stride 2 it is halved, and rounded up.

Images come in batches and have channels, such as red, green and blue. A window then reaches through all C channels,
and so does a kernel. An image becomes another of as many channels as there are kernels, OC:

    x (N, C, H, W)    W (OC, C, KH, KW)    ->    y (N, OC, OH, OW)
    matrix of windows (N * OH * OW, C * KH * KW)    kernels as columns (C * KH * KW, OC)

im2col need not go from window to window. It can go from place to place within the kernel instead: what lies under the
kernel's cell (i, j), for all windows at once, is a part of the image, cut out in strides. There are few cells, and so
the loops are short.

New: pad, stride, channel, outsize, F.pad, dezero.utils.get_conv_outsize
Look at: how often formula and count disagree, and the shapes on the way through a network.
"""

from road import read_options, show

import numpy as np

import dezero.functions as F
from dezero import Variable, utils


def outsize(size, kernel, stride=1, pad=0):
    """Return how many places a kernel has along one axis, by the formula."""
    return (size + 2 * pad - kernel) // stride + 1


def places(size, kernel, stride=1, pad=0):
    """Return the places themselves, by trying: where the kernel begins, with pixel 0 behind the padding."""
    return [begin for begin in range(-pad, size + pad, stride) if begin + kernel <= size + pad]


def im2col(x, kernel_size, stride=1, pad=0):
    """Lay out the windows of images as rows: (N, C, H, W) -> (N * OH * OW, C * KH * KW)."""
    KH, KW = kernel_size
    N, C, H, W = x.shape
    OH, OW = outsize(H, KH, stride, pad), outsize(W, KW, stride, pad)
    x = F.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cells = [x[:, :, i : i + stride * OH : stride, j : j + stride * OW : stride] for i in range(KH) for j in range(KW)]
    col = F.stack(cells).reshape(KH, KW, N, C, OH, OW)
    return col.transpose(2, 4, 5, 3, 0, 1).reshape(N * OH * OW, C * KH * KW)


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
cases = [
    (size, kernel, stride, pad)
    for size in range(1, 13)
    for kernel in range(1, 6)
    for stride in range(1, 5)
    for pad in range(4)
    if kernel <= size + 2 * pad
]
wrong = [case for case in cases if outsize(*case) != len(places(*case))]
print(f"cases = {len(cases)}")
print(f"cases where formula and count disagree = {len(wrong)}")
same = all(utils.get_conv_outsize(*case) == outsize(*case) for case in cases)
print(f"utils.get_conv_outsize gives the same = {same}")

for case in ((5, 3, 1, 0), (5, 3, 1, 1), (5, 3, 2, 1), (6, 3, 2, 0)):
    size, kernel, stride, pad = case
    print(f"size {size}, kernel {kernel}, stride {stride}, pad {pad}: outsize = {outsize(*case)}, at {places(*case)}")

np.random.seed(0)
x = Variable(np.random.randn(2, 3, 7, 8))
col = im2col(x, (3, 2), stride=2, pad=1)
theirs = F.im2col(x, (3, 2), stride=2, pad=1)
print(f"shape of x = {x.shape}, shape of the matrix = {col.shape}")
print(f"F.im2col gives the same = {np.array_equal(col.data, theirs.data)}")

# The way of a batch through three convolutions: pictures get smaller and gain channels.
images = np.zeros((10, 3, 32, 32), dtype=np.float32)
print(f"batch: shape = {images.shape}")
for OC, kernel, stride, pad in ((16, 3, 1, 1), (32, 3, 2, 1), (64, 5, 2, 0)):
    kernels = np.zeros((OC, images.shape[1], kernel, kernel), dtype=np.float32)
    images = F.conv2d(images, kernels, stride=stride, pad=pad)
    print(f"{OC} kernels of {kernel} x {kernel}, stride {stride}, pad {pad}: shape = {images.shape}")
try:
    F.conv2d(images, np.zeros((8, 3, 3, 3), dtype=np.float32))
except ValueError as error:
    print(f"ValueError: {error}")


def draw(figure):
    from matplotlib.patches import Rectangle

    for axes, (stride, pad) in zip(figure.subplots(1, 4), ((1, 0), (1, 1), (2, 0), (2, 1)), strict=True):
        for i in range(-pad, 5 + pad):
            for j in range(-pad, 5 + pad):
                inside = 0 <= i < 5 and 0 <= j < 5
                color = "#cfe2f3" if inside else "white"
                axes.add_patch(Rectangle((j, i), 1, 1, facecolor=color, edgecolor="0.6", linewidth=0.8))
        starts = places(5, 3, stride, pad)
        for begin, color in ((starts[0], "tab:red"), (starts[-1], "tab:orange")):
            gap = 0.12
            frame = (begin + gap, begin + gap), 3 - 2 * gap, 3 - 2 * gap
            axes.add_patch(Rectangle(*frame, fill=False, edgecolor=color, linewidth=2.5))
        axes.plot(*np.meshgrid(np.add(starts, 1.5), np.add(starts, 1.5)), "ko", markersize=5)
        n = len(starts)
        axes.set(title=f"stride {stride}, pad {pad}: {n} x {n}", xlabel="W = 5", ylabel="H = 5", aspect="equal")
        axes.set(xlim=(-1.2, 6.2), ylim=(6.2, -1.2), xticks=[], yticks=[])
    figure.suptitle("A 3 x 3 kernel on a 5 x 5 image: the first and the last place, and the middle of each")


show("step56_sizes", draw, size=(12, 3.8))

# Exercise: a network takes images of 224 x 224 through five convolutions with kernels of 3, pad 1 and stride 2. How
# large is what comes out?
# Hint: call outsize five times, each time with the size before.
