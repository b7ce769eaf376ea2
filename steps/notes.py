"""Two study notes on convolution and pooling, cell by cell, with dezero.

Question: What do notes on convolution that were made by hand, and with the layers of the first book, look like here?

Note 1, "합성곱 신경망 내부 구조" (inside a convolutional network), fills im2col's matrix by hand, multiplies it by the
kernels, and takes max pooling apart. Note 2 is about step 57: conv2d and pooling. Both are Korean; their headings are
kept. Each section below is a cell: a line about it, and its calculation with dezero. What it prints is what the note
prints, to the letter; lines that begin with # are about the numbers and not of the note.

One trap is on the way. The first book writes im2col(x, 5, 5) for a kernel of height 5 and width 5. Here the third
argument is the stride: im2col(x, kernel_size, stride=1, pad=0). In [2] shows what comes of it.

Look at: In [9], which is im2col, In [4] to In [7], which are convolution as one product of matrices, and In [24], where
backward finds what the note works out by hand.
"""

import road  # noqa: F401  (makes `import dezero` work)
import sys

import numpy as np

import dezero.functions as F
import dezero.layers as L
from dezero import Variable
from dezero.utils import pair

if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")  # a terminal without Korean shows question marks


def note(title, english):
    """Say which note begins."""
    print(f"# {title} ({english})")


def section(heading, english):
    """Say which heading of the note comes next."""
    print(f"\n## {heading} ({english})")


def cell(name, about):
    """Say which cell comes next. What is printed up to the next line with # is what the note prints there."""
    print(f"\n# {name}: {about}")


def image(*shape):
    """Return an array of that shape, filled with 0, 1, 2 and so on."""
    return np.arange(np.prod(shape)).reshape(shape)


# ----------------------------------------------------------------------------------------------------------------------
note("2. 합성곱 신경망 내부 구조", "note 1: inside a convolutional network")
section("2.3 합성곱/풀링 구현", "convolution and pooling, built")
section("컨볼루션 층 테스트", "a test of the convolution layer")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [1]", "a kernel of ones adds up the four pixels it lies on, and the bias adds 3 to each sum.")
x = image(1, 1, 4, 4)
print(x.shape)
print(x)
W = np.ones((1, 1, 2, 2))
print(W)
b = np.full((1,), 3)
print(b)
y = F.conv2d(x, W, b)
print(y.shape)
print(y.data)

# ----------------------------------------------------------------------------------------------------------------------
section("im2col 함수 테스트", "a test of im2col")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [2]", "im2col makes a row of every window: N * OH * OW rows of C * KH * KW numbers.")
np.random.seed(0)
x1 = np.random.rand(1, 3, 7, 7)
col1 = F.im2col(x1, kernel_size=(5, 5))  # the note's im2col(x1, 5, 5)
print(col1.shape)
x2 = np.random.rand(10, 3, 7, 7)
col2 = F.im2col(x2, kernel_size=(5, 5))
print(col2.shape)
x3 = np.random.rand(2, 4, 5, 5)
col3 = F.im2col(x3, kernel_size=(2, 2))
print(col3.shape)
print("# The trap: the note's im2col(x1, 5, 5) says height and width. Here the third argument is the stride, so that")
print(f"# F.im2col(x1, 5, 5) takes a window every 5 pixels, is no error, and has the shape {F.im2col(x1, 5, 5).shape}.")
print("# Write F.im2col(x1, 5), or F.im2col(x1, (5, 5)) where height and width differ.")

# ----------------------------------------------------------------------------------------------------------------------
section("np.pad() 의 동작", "what np.pad does")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [3]", "padding puts zeros around height and width, and leaves the axes of images and channels alone.")
pad = 1
x = Variable(image(1, 1, 3, 3))
print(x.data)
padded = F.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
print(padded.data)

# ----------------------------------------------------------------------------------------------------------------------
section("input 채널이 1개인 경우", "one input channel")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [4]", "convolution is a product of matrices: a row for each window, times a column for each kernel.")
x = Variable(image(1, 1, 3, 3) * 1.0)  # the note's matrices hold floats
col = F.im2col(x, kernel_size=2)
print(col.shape)
print(col.data)
W = Variable(np.ones((1, 1, 2, 2)))
print(W.data)
kernels = W.reshape(1, -1).T
print(kernels.shape)
b = np.full((1,), 3)
out = F.matmul(col, kernels) + b
out = out.reshape(1, 2, 2, -1).transpose(0, 3, 1, 2)  # (N, OH, OW, OC) -> (N, OC, OH, OW)
print(out.data)

# ----------------------------------------------------------------------------------------------------------------------
section("input 채널이 2개인 경우", "two input channels")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [5]", "a second channel makes the rows longer: a kernel looks at all channels at once.")
x = Variable(image(1, 2, 3, 3) * 1.0)
col = F.im2col(x, kernel_size=2)
print(col.shape)
print(col.data)
W = Variable(np.ones((1, 2, 2, 2)))
kernels = W.reshape(1, -1).T
print(kernels.shape)
out = F.matmul(col, kernels) + np.full((1,), 3)
out = out.reshape(1, 2, 2, -1).transpose(0, 3, 1, 2)
print(out.data)

# ----------------------------------------------------------------------------------------------------------------------
section("input 그림이 1개, 채널이 2개, 필터가 3개인 경우", "one image, two channels, three kernels")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [6]", "each kernel is a column of its own, and becomes a channel of the result.")
x = Variable(image(1, 2, 3, 3) * 1.0)
col = F.im2col(x, kernel_size=2)
print(col.shape)
W = Variable(np.ones((3, 2, 2, 2)))
kernels = W.reshape(3, -1).T
print(kernels.shape)
out = F.matmul(col, kernels) + np.full((1,), 3)
print(out.shape)
out = out.reshape(1, 2, 2, -1).transpose(0, 3, 1, 2)
print(out.shape)
print(out.data)

# ----------------------------------------------------------------------------------------------------------------------
section("input 그림이 2개, 채널이 2개, 필터가 3개인 경우", "two images, two channels, three kernels")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [7]", "a second image brings rows of its own, below those of the first.")
x = Variable(image(2, 2, 3, 3) * 1.0)
col = F.im2col(x, kernel_size=2)
print(col.data)
W = Variable(np.ones((3, 2, 2, 2)))
kernels = W.reshape(3, -1).T
out = F.matmul(col, kernels)
out = out.reshape(2, 2, 2, -1).transpose(0, 3, 1, 2)
print(out.shape)

# ----------------------------------------------------------------------------------------------------------------------
section("합성곱 연산의 정확한 고찰", "a close look at the convolution")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [8]", "windows, one after the other: 3 x 3 places, and a slice of 2 x 2 pixels at each.")
x = Variable(image(1, 1, 4, 4) * 1.0)
print(x.shape)
windows = [x[:, :, i : i + 2, j : j + 2] for i in range(3) for j in range(3)]
col = F.stack(windows, axis=2).reshape(1, 1, 3, 3, 2, 2)  # axes (N, C, OH, OW, KH, KW)
print(col.shape)
print(col.data)

cell("In [9]", "the same pixels by their place in the kernel: 4 slices of 3 x 3 pixels, and not 9. This is im2col.")
print(x.shape)
slices = [x[:, :, i : i + 3, j : j + 3] for i in range(2) for j in range(2)]
col = F.stack(slices, axis=2).reshape(1, 1, 2, 2, 3, 3)  # axes (N, C, KH, KW, OH, OW)
print(col.shape)
print(col.data)
print(col.transpose(0, 4, 5, 1, 2, 3).data)
same = np.array_equal(col.data, F.im2col(x, kernel_size=2, to_matrix=False).data)
print(f"# F.im2col(x, kernel_size=2, to_matrix=False) is the same = {same}")

cell("In [10]", "a photograph of 448 x 640 pixels has 444 * 636 windows. The note's my_im2col is F.im2col.")
x = np.random.randn(1, 3, 448, 640).astype(np.float32)
col = F.im2col(x, kernel_size=5)
print(col.shape)

# ----------------------------------------------------------------------------------------------------------------------
section("Convolution test", "the layer that holds W and b")
# ----------------------------------------------------------------------------------------------------------------------


def convolution(pad=0):
    """Return a layer with one kernel of four ones and a bias of 3."""
    conv = L.Conv2d(out_channels=1, kernel_size=2, pad=pad)
    conv.W.data = np.ones((1, 1, 2, 2))
    conv.b.data = np.full((1,), 3.0)
    return conv


cell("In [11]", "3 x 3 pixels and a kernel of 2 x 2 give 2 x 2 sums.")
conv = convolution()
print(conv(image(1, 1, 3, 3)).data)

cell("In [12]", "4 x 4 pixels give 3 x 3.")
conv = convolution()
print(conv(image(1, 1, 4, 4)).data)

cell("In [13]", "3 x 3 pixels with a border of zeros give 4 x 4.")
conv = convolution(pad=1)
print(conv(image(1, 1, 3, 3)).data)

# ----------------------------------------------------------------------------------------------------------------------
section("합성곱 미분", "the derivative of the convolution")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [14]", "the note's my_col2im adds every number of the matrix to the pixel it came from. It is F.col2im.")

cell("In [15]", "a pixel comes back as often as windows contain it: corners once, edges twice, the middle four times.")
x = image(1, 1, 4, 4)
print(x)
col = F.im2col(x * 1.0, kernel_size=2)
print(F.col2im(col, x.shape, kernel_size=2).data)

# ----------------------------------------------------------------------------------------------------------------------
section("풀링 소스 분석", "the source of pooling, taken apart")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [16]", "max pooling with windows of 2 x 2 that do not overlap. The way back is left to backward().")


class MyPooling:
    """F.pooling(x, kernel_size=2, stride=2) in the steps of the note, each printed."""

    def forward(self, x):
        N, C, H, W = x.shape
        self.x = x
        self.col = F.im2col(x, kernel_size=2, stride=2)
        print("col", self.col.data)
        self.rows = self.col.reshape(-1, 2 * 2)  # a row for each window of each channel
        print("col", self.rows.data)
        self.arg_max = F.argmax(self.rows, axis=1)
        print("arg_max", self.arg_max)
        out = self.rows.max(axis=1)
        print("out", out.data)
        self.out = out.reshape(N, H // 2, W // 2, C).transpose(0, 3, 1, 2)
        print("out", self.out.data)
        return self.out

    def backward(self, gy):
        self.x.cleargrad()
        self.out.grad = Variable(gy)
        self.out.backward(retain_grad=True)
        print("dmax", self.rows.grad.data)
        print("dcol", self.col.grad.data)
        return self.x.grad


# ----------------------------------------------------------------------------------------------------------------------
section("채널이 1개인 경우 맥스 풀링 테스트", "a test of max pooling with one channel")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [17]", "four windows, each with one number that is the largest.")
x = np.array([[[[7, 11, 13, 15], [3, 4, 2, 3], [1, 2, 15, 9], [1, 8, 3, 10]]]])
print(x)

cell("In [18]", "forward: the largest of each row, and where in the row it stands.")
pool = MyPooling()
out = pool.forward(Variable(x * 1.0))
print(repr(out.data))

cell("In [19]", "a gradient for each window, in the order of the rows.")
gy = np.array([[[[1, 2], [3, 4]]]])
dout = Variable(gy).transpose(0, 2, 3, 1)
print(dout.shape)
print(dout.size)
print(dout.reshape(-1).data)

cell("In [20]", "the gradient of the largest is that of its window; all others have 0.")
dmax = F.one_hot(pool.arg_max, 4) * dout.reshape(-1, 1)
print(dmax.data)

cell("In [21]", "the same numbers with the axes N, OH, OW, C and place in the window.")
dmax = dmax.reshape(*dout.shape, 4)
print(dmax.shape)
print(dmax.data)

cell("In [22]", "the same numbers as im2col's matrix: a row for each window, all channels in it.")
dcol = dmax.reshape(dmax.shape[0] * dmax.shape[1] * dmax.shape[2], -1)
print(dcol.shape)
print(dcol.data)

cell("In [23]", "col2im brings every gradient to its pixel.")
dx = F.col2im(dcol, (1, 1, 4, 4), kernel_size=2, stride=2)
print(dx.data)

cell("In [24]", "backward() finds the same; dmax and dcol are the gradients of what forward has calculated.")
print(pool.backward(gy).data)

# ----------------------------------------------------------------------------------------------------------------------
section("채널이 2개인 경우 맥스 풀링 테스트", "a test of max pooling with two channels")
# ----------------------------------------------------------------------------------------------------------------------

cell("In [25]", "the image of In [17], and a second channel.")
other = np.array([[5, 8, 6, 7], [10, 4, 11, 13], [8, 3, 10, 4], [1, 2, 5, 15]])
x = np.array([[x[0, 0], other]])
print(x.shape)

cell("In [26]", "channels are pooled each for itself: two rows for each window.")
pool = MyPooling()
out = pool.forward(Variable(x * 1.0))
print(out.shape)

cell("In [27]", "and so are their gradients: 1 for the first channel, 2 for the second.")
gy = np.array([[[[1, 1], [1, 1]], [[2, 2], [2, 2]]]])
print(gy.shape)
dx = pool.backward(gy)
print(dx.shape)
print(dx.data)

# ----------------------------------------------------------------------------------------------------------------------
print()
note("밑바닥부터 시작하는 딥러닝 57단계", "note 2: step 57 of the book")
section("conv2d 함수와 pooling 함수", "the functions conv2d and pooling")
# ----------------------------------------------------------------------------------------------------------------------

cell("Block 1", "what the note imports: Variable and dezero.functions, as this file does.")

# ----------------------------------------------------------------------------------------------------------------------
section("im2col에 의한 전개", "unrolling by im2col")
# ----------------------------------------------------------------------------------------------------------------------

cell("Block 2", "75 is 3 channels times 5 x 5 pixels. Where one int stands for height and width, pair doubles it.")
x1 = np.random.rand(1, 3, 7, 7)
col1 = F.im2col(x1, kernel_size=5, stride=1, pad=0, to_matrix=True)
print(col1.shape)
x2 = np.random.rand(10, 3, 7, 7)
col2 = F.im2col(x2, kernel_size=(5, 5), stride=(1, 1), pad=(0, 0), to_matrix=True)
print(col2.shape)
print(pair(1))
print(pair((1, 2)))

# ----------------------------------------------------------------------------------------------------------------------
section("conv2d 함수 구현", "the function conv2d, built")
# ----------------------------------------------------------------------------------------------------------------------

cell("Block 3", "conv2d_simple is the product of In [4] to In [7]. Its gradient has the shape of the image.")
x = Variable(np.random.randn(1, 5, 15, 15))
W = np.random.randn(8, 5, 3, 3)
y = F.conv2d_simple(x, W, b=None, stride=1, pad=1)
y.backward()
print(y.shape)
print(x.grad.shape)
same = np.allclose(y.data, F.conv2d(x, W, b=None, stride=1, pad=1).data)
print(f"# F.conv2d gives the same = {same}")

cell("Block 4", "the layer Conv2d makes W when it sees the first image, which says how many channels there are.")
conv = L.Conv2d(out_channels=8, kernel_size=3, stride=1, pad=1)
print(f"# W before the first call = {conv.W.data}")
conv(x)
print(f"# shape of W after it = {conv.W.shape}, dtype = {conv.W.dtype}")

# ----------------------------------------------------------------------------------------------------------------------
section("pooling 함수 구현", "the function pooling, built")
# ----------------------------------------------------------------------------------------------------------------------

cell("Block 5", "pooling_simple is the forward of In [16]: im2col, a row for each window and channel, its largest.")
same = np.array_equal(F.pooling_simple(x, kernel_size=3, stride=3).data, F.pooling(x, kernel_size=3, stride=3).data)
print(f"# F.pooling gives the same = {same}")
