"""Convolution and pooling against loops that spell out the definition, against PyTorch, and at their edges."""

import itertools
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

from dezero import functions as F
from dezero import functions_conv, kernels
from dezero.core import Function, Variable
from dezero.functions_conv import AveragePooling, Conv2d, Conv2DGradW, Deconv2d, Pooling, pair
from dezero.testing import check_grads


def numbers(*shape, seed=0):
    """Distinct numbers in random order, so that no maximum ties."""
    count = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(np.linspace(-2, 2, count)).reshape(shape)


def import_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


# ----------------------------------------------------------------------------------------------------------------------
# The definitions, one window at a time
# ----------------------------------------------------------------------------------------------------------------------


def windows(image_size, kernel_size, stride, pad, dilation=1):
    """Yield (oh, ow) and the window's slices in the padded image."""
    (H, W), (KH, KW), (SH, SW) = image_size, pair(kernel_size), pair(stride)
    (PH, PW), (DH, DW) = pair(pad), pair(dilation)
    for oh, top in enumerate(range(0, H + 2 * PH - DH * (KH - 1), SH)):
        for ow, left in enumerate(range(0, W + 2 * PW - DW * (KW - 1), SW)):
            rows, columns = slice(top, top + DH * KH, DH), slice(left, left + DW * KW, DW)
            yield oh, ow, (..., rows, columns)


def padded(x, pad, value=0):
    PH, PW = pair(pad)
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=value)


def outsize(image_size, kernel_size, stride, pad, dilation=1):
    last = list(windows(image_size, kernel_size, stride, pad, dilation))[-1]
    return last[0] + 1, last[1] + 1


def loop_conv2d(x, W, b, stride, pad, dilation=1, groups=1):
    N, OC, C = len(x), len(W), W.shape[1]
    y = np.zeros((N, OC, *outsize(x.shape[2:], W.shape[2:], stride, pad, dilation)))
    for oh, ow, window in windows(x.shape[2:], W.shape[2:], stride, pad, dilation):
        for n, o in np.ndindex(N, OC):
            first = o // (OC // groups) * C
            seen = padded(x, pad)[n, first : first + C]
            y[n, o, oh, ow] = (seen[window] * W[o]).sum() + b[o]
    return y


def loop_deconv2d(x, W, b, stride, pad, image_size, dilation=1, groups=1):
    (N, C), OC = x.shape[:2], W.shape[1]
    PH, PW = pair(pad)
    H, W_ = image_size
    y = np.zeros((N, OC * groups, H + 2 * PH, W_ + 2 * PW))
    for ih, iw, window in windows(image_size, W.shape[2:], stride, pad, dilation):
        for n, c in np.ndindex(N, C):
            first = c // (C // groups) * OC
            y[n, first : first + OC][window] += x[n, c, ih, iw] * W[c]
    return y[:, :, PH : PH + H, PW : PW + W_] + b.reshape(-1, 1, 1)


def loop_conv1d(x, W, b, stride, pad, dilation, groups):
    (N, _, L), (OC, C, K) = x.shape, W.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    starts = range(0, L + 2 * pad - dilation * (K - 1), stride)
    y = np.zeros((N, OC, len(starts)))
    for n, o, (i, start), c, k in itertools.product(range(N), range(OC), enumerate(starts), range(C), range(K)):
        y[n, o, i] += x[n, o // (OC // groups) * C + c, start + dilation * k] * W[o, c, k]
    return y + b[:, None]


def loop_pool(x, kernel_size, stride, pad, reduce, pad_value):
    y = np.zeros((*x.shape[:2], *outsize(x.shape[2:], kernel_size, stride, pad)))
    for oh, ow, window in windows(x.shape[2:], kernel_size, stride, pad):
        y[:, :, oh, ow] = reduce(padded(x, pad, pad_value)[window], axis=(2, 3))
    return y


def loop_im2col(x, kernel_size, stride, pad, dilation=1):
    KH, KW = pair(kernel_size)
    col = np.zeros((*x.shape[:2], KH, KW, *outsize(x.shape[2:], kernel_size, stride, pad, dilation)))
    for oh, ow, window in windows(x.shape[2:], kernel_size, stride, pad, dilation):
        col[..., oh, ow] = padded(x, pad)[window]
    return col


def as_matrix(col):
    return np.array([col[n, ..., i, j].ravel() for n in range(len(col)) for i, j in np.ndindex(col.shape[4:])])


# x's shape, kernel, stride, pad
SHAPES = {
    "plain": ((2, 3, 5, 5), 3, 1, 0),
    "padded": ((2, 2, 4, 4), 3, 1, 1),
    "1x1": ((2, 3, 4, 5), 1, 1, 0),
    "1x1 stride 2": ((1, 2, 5, 4), 1, 2, 0),
    "wide kernel": ((2, 2, 5, 6), (2, 4), 1, 0),
    "tall kernel, all pairs differ": ((2, 3, 7, 6), (3, 2), (2, 3), (1, 0)),
    "pad one axis": ((1, 2, 3, 6), (2, 3), (1, 2), (0, 2)),
    "stride larger than kernel": ((1, 2, 8, 9), 2, 3, 0),
    "stride larger than image": ((2, 1, 3, 3), 2, 5, 1),
    "rows unused by the stride": ((1, 2, 6, 8), 3, 2, 0),
    "kernel of the whole image": ((2, 2, 3, 4), (3, 4), 1, 0),
    "kernel larger than image": ((1, 1, 2, 2), 4, 1, 2),
    "one row": ((2, 2, 1, 6), (1, 3), 1, 0),
    "one pixel": ((3, 2, 1, 1), 1, 1, 0),
    "one pixel, padded": ((1, 2, 1, 1), 3, 1, 1),
    "one channel": ((2, 1, 4, 4), 2, 2, 0),
}
every_shape = pytest.mark.parametrize(("shape", "kernel", "stride", "pad"), SHAPES.values(), ids=SHAPES.keys())


def weights(OC, C, kernel):
    return numbers(OC, C, *pair(kernel), seed=1), numbers(OC, seed=2)


class Case(NamedTuple):
    """Images and a convolution of them."""

    shape: tuple[int, ...]
    kernel: Any
    stride: Any
    pad: Any
    dilation: Any = 1
    groups: int = 1
    OC: int = 4

    @property
    def outsize(self):
        return outsize(self.shape[2:], self.kernel, self.stride, self.pad, self.dilation)

    @property
    def steps(self):
        return {"stride": self.stride, "pad": self.pad, "dilation": self.dilation, "groups": self.groups}

    def leaves(self):
        """x, W and b of the convolution."""
        return numbers(*self.shape), *weights(self.OC, self.shape[1] // self.groups, self.kernel)

    def deconv_leaves(self):
        """x, W and b of the transposed convolution that leads to the images; it takes OC channels."""
        C = self.shape[1]
        W = numbers(self.OC, C // self.groups, *pair(self.kernel), seed=1)
        return numbers(self.shape[0], self.OC, *self.outsize), W, numbers(C, seed=2)


CASES = {
    **{name: Case(*row) for name, row in SHAPES.items()},
    "dilated in height": Case((2, 3, 7, 5), 3, 1, 0, dilation=(2, 1)),
    "dilated in width": Case((1, 2, 4, 8), (2, 3), 1, 0, dilation=(1, 3)),
    "dilation, stride and pad, all pairs differ": Case((2, 2, 9, 10), (3, 2), (2, 3), (1, 2), dilation=(2, 3)),
    "dilated and stride larger than kernel": Case((1, 2, 8, 9), 2, 3, 0, dilation=2),
    "dilated, rows unused by the stride": Case((1, 2, 8, 6), 2, (3, 2), 0, dilation=(4, 3)),
    "dilated, larger than image": Case((1, 2, 4, 3), 3, 1, 2, dilation=3),
    "dilated, padded by more than half": Case((1, 2, 4, 5), (3, 2), 1, (4, 3), dilation=(2, 3)),
    "dilated 1x1": Case((1, 2, 3, 4), 1, 1, 0, dilation=5),
    "2 groups of 4 channels": Case((2, 4, 5, 5), 3, 1, 1, groups=2, OC=6),
    "2 groups, more channels in than out": Case((1, 6, 4, 5), (2, 3), (1, 2), 0, groups=2, OC=2),
    "1x1 in groups": Case((2, 4, 3, 4), 1, 1, 0, groups=2),
    "a group for each channel": Case((2, 3, 4, 6), (2, 3), (2, 1), (0, 1), groups=3, OC=3),
    "2 kernels for each channel": Case((2, 3, 5, 4), 3, 1, 1, groups=3, OC=6),
    "grouped and dilated": Case((2, 4, 7, 8), (3, 2), (2, 1), (2, 1), dilation=(1, 3), groups=2),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_case
def test_conv2d_is_the_sum_over_each_window(case):
    leaves = case.leaves()
    np.testing.assert_allclose(F.conv2d(*leaves, **case.steps).data, loop_conv2d(*leaves, **case.steps), atol=1e-12)


@every_shape
def test_conv2d_simple_is_the_sum_over_each_window(shape, kernel, stride, pad):
    x, (W, b) = numbers(*shape), weights(4, shape[1], kernel)
    np.testing.assert_allclose(
        F.conv2d_simple(x, W, b, stride, pad).data, loop_conv2d(x, W, b, stride, pad), atol=1e-12
    )


@every_case
def test_deconv2d_spreads_each_pixel_over_its_window(case):
    leaves, size = case.deconv_leaves(), case.shape[2:]
    y = F.deconv2d(*leaves, outsize=size, **case.steps)
    np.testing.assert_allclose(y.data, loop_deconv2d(*leaves, image_size=size, **case.steps), atol=1e-12)


def test_groups_are_convolutions_side_by_side():
    x, W = numbers(2, 6, 5, 5), numbers(4, 3, 3, 3, seed=1)
    halves = [F.conv2d(x[:, :3], W[:2], pad=1).data, F.conv2d(x[:, 3:], W[2:], pad=1).data]
    np.testing.assert_allclose(F.conv2d(x, W, pad=1, groups=2).data, np.concatenate(halves, axis=1), atol=1e-12)
    W = numbers(6, 2, 3, 3, seed=1)
    halves = [F.deconv2d(x[:, :3], W[:3]).data, F.deconv2d(x[:, 3:], W[3:]).data]
    np.testing.assert_allclose(F.deconv2d(x, W, groups=2).data, np.concatenate(halves, axis=1), atol=1e-12)


def test_dilation_is_a_kernel_with_zeros_between_its_cells():
    x, W = numbers(2, 2, 9, 9), numbers(3, 2, 3, 2, seed=1)
    spread = np.zeros((3, 2, 5, 4))
    spread[:, :, ::2, ::3] = W
    np.testing.assert_allclose(F.conv2d(x, W, dilation=(2, 3)).data, F.conv2d(x, spread).data, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_conv2d_convolves_each_channel_by_itself(stride):
    x, W, b = numbers(2, 3, 7, 6), numbers(6, 1, 3, 2, seed=1), numbers(6, seed=2)
    expected = loop_conv2d(x, W, b, stride, (1, 2), (2, 1), groups=3)
    np.testing.assert_allclose(F.depthwise_conv2d(x, W, b, stride, (1, 2), (2, 1)).data, expected, atol=1e-12)
    one = F.conv2d(x[:, 1:2], W[2:4], b[2:4], stride, (1, 2), (2, 1))
    np.testing.assert_allclose(expected[:, 2:4], one.data, atol=1e-12)


# x's shape, W's shape, stride, pad, dilation, groups
SEQUENCES = {
    "plain": ((2, 3, 7), (4, 3, 3), 1, 0, 1, 1),
    "stride and pad": ((2, 2, 8), (3, 2, 3), 2, 1, 1, 1),
    "dilated, causal length": ((1, 2, 9), (3, 2, 3), 1, 4, 4, 1),
    "dilated, stride larger than kernel": ((1, 2, 11), (3, 2, 2), 3, 1, 2, 1),
    "grouped": ((2, 4, 6), (6, 2, 2), 1, 1, 2, 2),
    "a group for each channel": ((1, 3, 5), (6, 1, 3), 1, 2, 1, 3),
    "one step": ((2, 2, 1), (3, 2, 1), 1, 0, 1, 1),
    "no sequences": ((0, 2, 5), (3, 2, 2), 1, 0, 1, 1),
}
every_sequence = pytest.mark.parametrize(
    ("shape", "W_shape", "stride", "pad", "dilation", "groups"), SEQUENCES.values()
)


def sequence_leaves(shape, W_shape):
    return numbers(*shape), numbers(*W_shape, seed=1), numbers(W_shape[0], seed=2)


@every_sequence
def test_conv1d_is_the_sum_over_each_window(shape, W_shape, stride, pad, dilation, groups):
    leaves, steps = sequence_leaves(shape, W_shape), (stride, pad, dilation, groups)
    np.testing.assert_allclose(F.conv1d(*leaves, *steps).data, loop_conv1d(*leaves, *steps), atol=1e-12)


@every_shape
def test_pooling_is_the_largest_of_each_window(shape, kernel, stride, pad):
    x = numbers(*shape)
    expected = loop_pool(x, kernel, stride, pad, np.max, -np.inf)
    np.testing.assert_array_equal(F.pooling(x, kernel, stride, pad).data, expected)


@every_shape
def test_average_pooling_is_the_mean_of_each_window_with_its_zeros(shape, kernel, stride, pad):
    x = numbers(*shape)
    expected = loop_pool(x, kernel, stride, pad, np.mean, 0)
    np.testing.assert_allclose(F.average_pooling(x, kernel, stride, pad).data, expected, atol=1e-12)


@every_case
def test_im2col_lays_out_each_window(case):
    x, (_, *window, dilation) = numbers(*case.shape), case[:5]
    expected = loop_im2col(x, *window, dilation)
    np.testing.assert_array_equal(F.im2col(x, *window, to_matrix=False, dilation=dilation).data, expected)
    np.testing.assert_array_equal(F.im2col(x, *window, dilation=dilation).data, as_matrix(expected))
    np.testing.assert_array_equal(F.im2col_array(x, *window, dilation=dilation), as_matrix(expected))


@every_case
@pytest.mark.parametrize("to_matrix", [True, False])
def test_col2im_is_the_transpose_of_im2col(to_matrix, case):
    x, window = numbers(*case.shape), (*case[1:4], to_matrix, case.dilation)
    col = F.im2col(x, *window).data
    other = numbers(*col.shape, seed=1)
    image = F.col2im(other, case.shape, *window).data
    assert image.shape == case.shape
    np.testing.assert_allclose((col * other).sum(), (x * image).sum())
    np.testing.assert_array_equal(F.col2im_array(other, case.shape, *window), image)


@every_shape
def test_conv2d_simple_has_the_gradients_of_conv2d(shape, kernel, stride, pad):
    W, b = weights(4, shape[1], kernel)
    found = []
    for f in (F.conv2d, F.conv2d_simple):
        leaves = [Variable(numbers(*shape)), Variable(W), Variable(b)]
        y = f(*leaves, stride, pad)
        (y * numbers(*y.shape, seed=3)).sum().backward()
        found.append([leaf.grad.data for leaf in leaves])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(("shape", "kernel", "stride", "pad"), [row for row in SHAPES.values() if row[3] == 0])
def test_pooling_simple_is_pooling_where_nothing_ties_and_nothing_is_padded(shape, kernel, stride, pad):
    found = []
    for f in (F.pooling, F.pooling_simple):
        x = Variable(numbers(*shape))
        y = f(x, kernel, stride)
        (y * numbers(*y.shape, seed=3)).sum().backward()
        found.append((y.data, x.grad.data))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1])


# ----------------------------------------------------------------------------------------------------------------------
# Gradients
# ----------------------------------------------------------------------------------------------------------------------


@every_case
def test_conv2d_gradients_to_the_third_order(case):
    check_grads(lambda *v: F.conv2d(*v, **case.steps), *case.leaves(), order=3, rtol=1e-4)


@every_case
def test_deconv2d_gradients_to_the_third_order(case):
    f = lambda *v: F.deconv2d(*v, outsize=case.shape[2:], **case.steps)  # noqa: E731
    check_grads(f, *case.deconv_leaves(), order=3, rtol=1e-4)


@every_sequence
def test_conv1d_gradients_to_the_third_order(shape, W_shape, stride, pad, dilation, groups):
    leaves, steps = sequence_leaves(shape, W_shape), (stride, pad, dilation, groups)
    check_grads(lambda *v: F.conv1d(*v, *steps), *leaves, order=3, rtol=1e-4)


@every_case
def test_the_gradient_of_w_has_gradients_to_the_third_order(case):
    gy = numbers(case.shape[0], case.OC, *case.outsize, seed=1)
    check_grads(
        lambda x, gy: Conv2DGradW(case.kernel, **case.steps)(x, gy), numbers(*case.shape), gy, order=3, rtol=1e-4
    )


@every_shape
@pytest.mark.parametrize("f", [F.pooling, F.average_pooling, F.im2col])
def test_pooling_and_im2col_gradients_to_the_third_order(f, shape, kernel, stride, pad):
    check_grads(lambda x: f(x, kernel, stride, pad), numbers(*shape), order=3)


@every_shape
def test_the_second_order_of_a_curved_pooling(shape, kernel, stride, pad):
    # Pooling alone is linear around a point: its square is not.
    check_grads(lambda x: F.pooling(x * x * x, kernel, stride, pad) ** 2, numbers(*shape), order=3, rtol=1e-4)


@every_shape
def test_col2im_gradients(shape, kernel, stride, pad):
    col = F.im2col(numbers(*shape), kernel, stride, pad).data
    check_grads(lambda c: F.col2im(c, shape, kernel, stride, pad), col, order=2)


@pytest.mark.parametrize("to_matrix", [True, False])
def test_im2col_and_col2im_gradients_when_dilated(to_matrix):
    shape, window = (1, 2, 7, 8), ((3, 2), (1, 2), (1, 0), to_matrix, (2, 3))
    check_grads(lambda x: F.im2col(x, *window), numbers(*shape), order=3)
    check_grads(lambda c: F.col2im(c, shape, *window), F.im2col(numbers(*shape), *window).data, order=3)


def test_a_curved_network_of_groups_to_the_third_order():
    x, (W, b), V = numbers(1, 2, 6, 5), weights(4, 1, (3, 2)), numbers(4, 3, 2, 2, seed=3)

    def network(x, W, b, V):
        return F.deconv2d(F.tanh(F.depthwise_conv2d(x, W, b, 1, 1, (2, 1))), V, stride=2, dilation=3, groups=2) ** 2

    check_grads(network, x, W, b, V, order=3, rtol=1e-4, atol=1e-6)


def test_a_curved_network_to_the_third_order():
    x, (W, b), V = numbers(1, 2, 5, 5), weights(2, 2, 3), numbers(2, 2, 2, 2, seed=3)

    def network(x, W, b, V):
        return F.average_pooling(F.conv2d(F.tanh(F.conv2d(x, W, b, pad=1)), V, stride=2) ** 2, 2)

    check_grads(network, x, W, b, V, order=3, rtol=1e-4, atol=1e-6)


def test_a_curved_network_of_rectified_convolutions_to_the_third_order():
    x, (W, b), V = numbers(1, 2, 5, 5), weights(3, 2, 3), numbers(2, 3, 2, 2, seed=3)
    assert min(np.abs(F.conv2d(x, W, b, pad=1).data).min(), 0.01) == 0.01  # no kink is near

    def network(x, W, b, V):
        return F.conv2d(F.conv2d_relu(x, W, b, pad=1), V) ** 3

    check_grads(network, x, W, b, V, order=3, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# A convolution and its relu in one node
# ----------------------------------------------------------------------------------------------------------------------


def everything(f, leaves):
    """The value, gradients, and the gradients of a curve of those: what f gives at orders 0, 1 and 2."""
    leaves = [Variable(x) for x in leaves]
    y = f(*leaves)
    F.sum(y * y * y).backward(create_graph=True)
    first = [x.grad for x in leaves]
    for x in leaves:
        x.cleargrad()
    F.sum(F.sum(first[0] ** 2) + F.sum(first[1] ** 2) + F.sum(first[2] ** 2)).backward()
    return [v.data for v in (y, *first, *(x.grad for x in leaves))]


@every_case
@pytest.mark.parametrize("backend", list(kernels.BACKENDS))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conv2d_relu_is_to_the_bit_relu_of_conv2d_at_every_order(case, backend, dtype):
    leaves = [x.astype(dtype) for x in case.leaves()]
    with kernels.using_kernels(backend):
        together = everything(lambda *v: F.conv2d_relu(*v, **case.steps), leaves)
        apart = everything(lambda *v: F.relu(F.conv2d(*v, **case.steps)), leaves)
    for found, wanted in zip(together, apart, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)


def test_conv2d_relu_is_one_node_and_works_out_only_what_is_asked_for(monkeypatch):
    x, W, b = numbers(2, 3, 5, 5), Variable(numbers(4, 3, 3, 3, seed=1)), Variable(numbers(4, seed=2))
    y = F.conv2d_relu(x, W, b)
    assert (type(y.creator).__name__, y.creator.operation) == ("Conv2dReLU", "conv2d_relu")
    assert [v.creator for v in y.creator.inputs] == [None] * 3
    monkeypatch.setattr(functions_conv, "deconv2d", None)  # the gradient of x, which is a constant
    y.backward()
    np.testing.assert_array_equal(b.grad.data, (y.data > 0).sum(axis=(0, 2, 3)))


def test_conv2d_relu_at_zero_and_at_nan():
    x = Variable(np.array([-1.0, 0.0, 1.0, np.nan]).reshape(1, 1, 1, 4))
    y = F.conv2d_relu(x, np.ones((1, 1, 1, 1)))
    y.backward()
    np.testing.assert_array_equal(y.data.ravel(), [0, 0, 1, np.nan])
    np.testing.assert_array_equal(x.grad.data.ravel(), [0, 0, 1, 0])


def test_a_subclass_of_conv2d_is_a_convolution_and_speaks_with_its_own_name():
    class Shifted(Conv2d):
        def forward(self, x, W, b):
            return super().forward(x, W, b) + 1

    x, W = numbers(1, 2, 4, 4), numbers(3, 2, 3, 3, seed=1)
    np.testing.assert_array_equal(Shifted()(x, W, None).data, F.conv2d(x, W).data + 1)
    with pytest.raises(ValueError, match="shifted: W takes 1 channels but x has 2"):
        Shifted()(x, W[:, :1], None)


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch
# ----------------------------------------------------------------------------------------------------------------------


def assert_same_as_torch(torch, f, torch_f, *arrays):
    leaves, tensors = [Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = f(*leaves), torch_f(*tensors)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), atol=1e-12)
    gy = numbers(*y.shape, seed=5)
    y.grad = Variable(gy)
    y.backward()
    expected.backward(torch.tensor(gy))
    for leaf, tensor in zip(leaves, tensors, strict=True):
        np.testing.assert_allclose(leaf.grad.data, tensor.grad.numpy(), atol=1e-12)


@every_case
def test_conv2d_against_torch(case):
    torch = import_torch()
    steps = case.steps.values()
    assert_same_as_torch(
        torch, lambda *v: F.conv2d(*v, *steps), lambda *v: torch.nn.functional.conv2d(*v, *steps), *case.leaves()
    )


@every_sequence
def test_conv1d_against_torch(shape, W_shape, stride, pad, dilation, groups):
    torch = import_torch()
    leaves, steps = sequence_leaves(shape, W_shape), (stride, pad, dilation, groups)
    conv1d = torch.nn.functional.conv1d
    assert_same_as_torch(torch, lambda *v: F.conv1d(*v, *steps), lambda *v: conv1d(*v, *steps), *leaves)


@every_case
def test_deconv2d_against_torch(case):
    torch = import_torch()
    stride, pad, dilation, groups = case.steps.values()
    axes = zip(case.outsize, *map(pair, (case.kernel, stride, pad, dilation)), strict=True)
    extra = tuple(n - kernels.deconv_outsize(*axis) for n, axis in zip(case.shape[2:], axes, strict=True))
    conv_transpose2d = torch.nn.functional.conv_transpose2d
    assert_same_as_torch(
        torch,
        lambda *v: F.deconv2d(*v, stride, pad, case.shape[2:], dilation, groups),
        lambda *v: conv_transpose2d(*v, stride, pad, extra, groups, dilation),
        *case.deconv_leaves(),
    )


def pads_at_most_half_the_kernel(shape, kernel, stride, pad):
    return all(2 * p <= k for p, k in zip(pair(pad), pair(kernel), strict=True))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pad"),
    [row for row in SHAPES.values() if pads_at_most_half_the_kernel(*row)],  # PyTorch allows no more
)
def test_pooling_against_torch(name, shape, kernel, stride, pad):
    torch = import_torch()
    f = {"max_pool2d": F.pooling, "avg_pool2d": F.average_pooling}[name]
    torch_f = getattr(torch.nn.functional, name)
    assert_same_as_torch(
        torch, lambda x: f(x, kernel, stride, pad), lambda x: torch_f(x, kernel, stride, pad), numbers(*shape)
    )


# ----------------------------------------------------------------------------------------------------------------------
# What holds for the whole family
# ----------------------------------------------------------------------------------------------------------------------

FAMILY = {
    "conv2d": (lambda x, W, b: F.conv2d(x, W, b, 2, 1), ((2, 3, 5, 5), (4, 3, 3, 3), (4,))),
    "conv2d_simple": (lambda x, W, b: F.conv2d_simple(x, W, b, 2, 1), ((2, 3, 5, 5), (4, 3, 3, 3), (4,))),
    "conv2d_relu": (lambda x, W, b: F.conv2d_relu(x, W, b, 2, 1), ((2, 3, 5, 5), (4, 3, 3, 3), (4,))),
    "conv2d no bias": (lambda x, W: F.conv2d(x, W), ((2, 3, 5, 5), (4, 3, 3, 3))),
    "deconv2d": (lambda x, W, b: F.deconv2d(x, W, b, 2, 1), ((2, 3, 4, 4), (3, 4, 3, 3), (4,))),
    "conv2d grouped, dilated": (lambda x, W, b: F.conv2d(x, W, b, 2, 2, 2, 2), ((2, 4, 5, 6), (6, 2, 3, 2), (6,))),
    "depthwise_conv2d": (lambda x, W, b: F.depthwise_conv2d(x, W, b, 2, 1, 2), ((2, 3, 5, 6), (6, 1, 3, 2), (6,))),
    "conv1d": (lambda x, W, b: F.conv1d(x, W, b, 2, 1, 2, 2), ((2, 4, 9), (6, 2, 3), (6,))),
    "deconv2d no bias": (lambda x, W: F.deconv2d(x, W), ((2, 3, 4, 4), (3, 4, 3, 3))),
    "deconv2d grouped, dilated": (
        lambda x, W, b: F.deconv2d(x, W, b, 2, 1, None, (2, 3), 2),
        ((2, 4, 3, 4), (4, 3, 3, 2), (6,)),
    ),
    "pooling": (lambda x: F.pooling(x, 3, 2, 1), ((2, 3, 5, 5),)),
    "pooling_simple": (lambda x: F.pooling_simple(x, 3, 2), ((2, 3, 5, 5),)),
    "average_pooling": (lambda x: F.average_pooling(x, (2, 3), 2, 1), ((2, 3, 5, 5),)),
    "im2col": (lambda x: F.im2col(x, 3, 2, 1), ((2, 3, 5, 5),)),
    "im2col dilated": (lambda x: F.im2col(x, 2, 2, 1, dilation=3), ((2, 3, 5, 5),)),
    "col2im": (lambda c: F.col2im(c, (2, 3, 5, 5), 3, 2, 1), ((18, 27),)),
}
every_member = pytest.mark.parametrize(("f", "shapes"), FAMILY.values(), ids=FAMILY.keys())


def arrays_of(shapes):
    return [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


def value_and_gradients(f, arrays):
    leaves = [Variable(a) for a in arrays]
    y = f(*leaves)
    y.backward()
    return [y.data, *(leaf.grad.data for leaf in leaves)]


@every_member
def test_float32_in_gives_float32_out_and_float32_gradients(f, shapes):
    arrays = arrays_of(shapes)
    found = value_and_gradients(f, [a.astype(np.float32) for a in arrays])
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    for got, expected in zip(found, value_and_gradients(f, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def strided(x):
    view = np.full([2 * n for n in x.shape[::-1]], np.nan)[tuple(slice(None, None, 2) for _ in x.shape)].T
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("arranged", [strided, read_only])
@every_member
def test_the_arrangement_in_memory_does_not_matter(f, shapes, arranged):
    arrays = arrays_of(shapes)
    for got, expected in zip(
        value_and_gradients(f, [arranged(a) for a in arrays]), value_and_gradients(f, arrays), strict=True
    ):
        np.testing.assert_allclose(got, expected)


@every_member
def test_a_broadcast_input_without_strides_is_welcome(f, shapes):
    arrays = [np.broadcast_to(np.float64(0.5), shape) for shape in shapes]
    for got, expected in zip(
        value_and_gradients(f, arrays), value_and_gradients(f, [a.copy() for a in arrays]), strict=True
    ):
        np.testing.assert_allclose(got, expected)


@every_member
def test_inputs_are_left_unchanged(f, shapes):
    arrays = arrays_of(shapes)
    value_and_gradients(f, arrays)
    for got, expected in zip(arrays, arrays_of(shapes), strict=True):
        np.testing.assert_array_equal(got, expected)


@every_member
def test_leaf_gradients_are_contiguous_writable_and_own(f, shapes):
    for gradient in value_and_gradients(f, arrays_of(shapes))[1:]:
        assert gradient.flags.c_contiguous
        assert gradient.flags.writeable
        assert kernels.has_own_memory(gradient)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "col2im"])
def test_a_batch_of_no_images_gives_no_results(name):
    f, (shape, *others) = FAMILY[name]
    expected = f(*arrays_of([shape, *others])).shape
    y = f(np.zeros((0, *shape[1:])), *arrays_of(others))
    assert y.shape == (0, *expected[1:])


def test_a_batch_of_no_images_has_zero_gradients():
    x, W = Variable(np.zeros((0, 2, 4, 4))), Variable(np.ones((3, 2, 2, 2)))
    F.conv2d(x, W).backward()
    assert x.grad.shape == (0, 2, 4, 4)
    np.testing.assert_array_equal(W.grad.data, np.zeros((3, 2, 2, 2)))


# ----------------------------------------------------------------------------------------------------------------------
# Sizes
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "expected"), [(1, (1, 1)), ((1, 2), (1, 2)), (np.int64(3), (3, 3)), ((np.int32(1), 2), (1, 2))]
)
def test_pair(x, expected):
    assert pair(x) == expected


@pytest.mark.parametrize("x", [1.0, "12", None, (1,), (1, 2, 3), (1.5, 2), np.array([1, 2])], ids=repr)
def test_pair_refuses_anything_else(x):
    with pytest.raises(ValueError, match="pair: x must be an int or a pair of ints"):
        pair(x)


def test_numpy_integers_are_welcome_wherever_a_size_is_asked():
    x, W = numbers(1, 2, 6, 6), numbers(3, 2, 3, 3, seed=1)
    one, two, three = np.int64(1), np.int32(2), np.int64(3)
    np.testing.assert_array_equal(F.conv2d(x, W, None, two, one).data, F.conv2d(x, W, None, 2, 1).data)
    np.testing.assert_array_equal(F.pooling(x, (three, two), two).data, F.pooling(x, (3, 2), 2).data)
    np.testing.assert_array_equal(F.average_pooling(x, three, two, one).data, F.average_pooling(x, 3, 2, 1).data)
    np.testing.assert_array_equal(F.im2col(x, three, one, one).data, F.im2col(x, 3, 1, 1).data)
    y = F.deconv2d(x, W.transpose(1, 0, 2, 3), None, two, one, (np.int64(12), np.int64(12)))
    assert y.shape == (1, 3, 12, 12)
    np.testing.assert_array_equal(
        F.conv2d(x, W[:2, :1], dilation=(one, two), groups=two).data,
        F.conv2d(x, W[:2, :1], dilation=(1, 2), groups=2).data,
    )
    sequences, W = x[0], numbers(3, 6, 2, seed=2)
    y = F.conv1d(sequences, W, None, one, two, two, one)
    np.testing.assert_array_equal(y.data, F.conv1d(sequences, W, None, 1, 2, 2).data)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_deconv_outsize_is_the_smallest_that_conv_outsize_leads_back_from(kernel, stride, pad, dilation):
    size = kernels.deconv_outsize(5, kernel, stride, pad, dilation)
    assert kernels.conv_outsize(size, kernel, stride, pad, dilation) == 5
    assert kernels.conv_outsize(size - 1, kernel, stride, pad, dilation) == 4


def test_deconv2d_without_an_outsize_takes_the_smallest():
    x, W = numbers(1, 2, 3, 4), numbers(2, 5, 3, 2, seed=1)
    assert F.deconv2d(x, W, stride=(2, 3), pad=(1, 0)).shape == (1, 5, 5, 11)


@pytest.mark.parametrize("outsize", [(5, 5), (6, 5), (5, 6), (6, 6), 6])
def test_deconv2d_reaches_every_size_that_leads_back(outsize):
    x, W = numbers(1, 2, 3, 3), numbers(2, 1, 3, 3, seed=1)
    y = F.deconv2d(x, W, stride=2, pad=1, outsize=outsize)
    assert y.shape[2:] == pair(outsize)
    assert F.conv2d(y, np.ones((1, 1, 3, 3)), stride=2, pad=1).shape[2:] == (3, 3)


# ----------------------------------------------------------------------------------------------------------------------
# Max pooling
# ----------------------------------------------------------------------------------------------------------------------


def test_padding_is_minus_infinity_so_a_negative_image_keeps_its_maximum():
    y = F.pooling(np.full((1, 1, 3, 3), -5.0), 3, 1, 1)
    np.testing.assert_array_equal(y.data, np.full((1, 1, 3, 3), -5.0))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_integer_images_are_padded_with_their_smallest_value(dtype):
    x = Variable(np.arange(1, 10).astype(dtype).reshape(1, 1, 3, 3))
    y = F.pooling(x, 2, 2, 1)
    np.testing.assert_array_equal(y.data, [[[[1, 3], [7, 9]]]])
    assert y.dtype == dtype
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [[[[1, 0, 1], [0, 0, 0], [1, 0, 1]]]])
    assert x.grad.dtype == np.float64


def test_negative_integers_survive_padding():
    np.testing.assert_array_equal(F.pooling(np.full((1, 1, 2, 2), -3), 2, 1, 1).data, np.full((1, 1, 3, 3), -3))


def test_the_first_of_ties_in_row_major_order_gets_the_gradient():
    x = Variable(np.ones((1, 1, 4, 4)))
    F.pooling(x, 2, 2).backward()
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(x.grad.data[0, 0], expected)


def test_a_pixel_that_wins_in_several_windows_gets_all_their_gradients():
    x = Variable(np.zeros((1, 1, 3, 3)))
    x.data[0, 0, 1, 1] = 1.0
    F.pooling(x, 2, 1).backward()
    assert x.grad.data[0, 0, 1, 1] == 4.0
    assert x.grad.data.sum() == 4.0


def test_a_zero_of_an_unsigned_image_wins_over_the_padding_it_equals():
    x = Variable(np.zeros((1, 1, 1, 1), np.uint8))
    F.pooling(x, 2, 1, 1).backward()
    np.testing.assert_array_equal(x.grad.data, [[[[4]]]])


def test_pooling_shares_ties_equally_only_when_simple():
    x = Variable(np.ones((1, 1, 2, 2)))
    F.pooling_simple(x, 2).backward()
    np.testing.assert_array_equal(x.grad.data, np.full((1, 1, 2, 2), 0.25))


# ----------------------------------------------------------------------------------------------------------------------
# Types, work not done
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_an_integer_image_meets_floating_weights(dtype):
    x, W, b = (
        np.arange(16).astype(dtype).reshape(1, 1, 4, 4),
        Variable(np.ones((1, 1, 2, 2))),
        Variable(np.array([3.0])),
    )
    y = F.conv2d(x, W, b)
    y.backward()
    np.testing.assert_array_equal(y.data, [[[[13, 17, 21], [29, 33, 37], [45, 49, 53]]]])
    np.testing.assert_array_equal(W.grad.data, [[[[45, 54], [81, 90]]]])


@pytest.mark.parametrize("f", [F.conv2d, F.deconv2d, F.conv2d_simple])
def test_a_floating_bias_meets_integers(f):
    y = f(np.ones((1, 1, 2, 2), int), np.ones((1, 1, 1, 1), int), np.array([0.5]))
    np.testing.assert_array_equal(y.data, np.full((1, 1, 2, 2), 1.5))


def test_average_pooling_of_integers_is_floating():
    np.testing.assert_array_equal(F.average_pooling(np.array([[[[1, 2]]]]), (1, 2)).data, [[[[1.5]]]])


@pytest.fixture
def calls(monkeypatch):
    """The names of all Functions called during the test, in order."""
    names = []
    plain_call = Function.__call__
    monkeypatch.setattr(
        Function, "__call__", lambda self, *xs: (names.append(type(self).__name__), plain_call(self, *xs))[1]
    )
    return names


def test_no_gradient_is_computed_for_an_image_given_as_an_array(calls):
    F.conv2d(numbers(1, 2, 4, 4), Variable(numbers(3, 2, 3, 3))).backward()
    assert "Conv2DGradW" in calls
    assert "Deconv2d" not in calls


def test_no_gradient_is_computed_for_weights_given_as_an_array(calls):
    F.conv2d(Variable(numbers(1, 2, 4, 4)), numbers(3, 2, 3, 3)).backward()
    assert "Deconv2d" in calls
    assert "Conv2DGradW" not in calls


# ----------------------------------------------------------------------------------------------------------------------
# Bad inputs
# ----------------------------------------------------------------------------------------------------------------------

IMAGE, KERNEL = np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3))


def test_the_error_for_channels_that_differ_word_for_word():
    with pytest.raises(ValueError, match="channels") as error:
        F.conv2d(IMAGE, np.ones((4, 2, 3, 3)))
    assert str(error.value) == "conv2d: W takes 2 channels but x has 3 (x (1, 3, 8, 8), W (4, 2, 3, 3))"


GROUPS = [
    (lambda: F.conv2d(IMAGE, KERNEL, groups=2), "conv2d: groups 2 does not divide the 3 channels of x (x {0}, W {1})"),
    (
        lambda: F.conv2d(IMAGE, KERNEL[:, :1], groups=3),
        "conv2d: groups 3 does not divide the 4 output channels of W (x {0}, W (4, 1, 3, 3))",
    ),
    (
        lambda: F.conv2d(IMAGE, KERNEL, groups=3),
        "conv2d: W takes 9 channels, 3 for each of 3 groups, but x has 3 (x {0}, W {1})",
    ),
    (lambda: F.conv2d(IMAGE, KERNEL[0], groups=3), "conv2d: W must have shape (OC, C / 3, KH, KW), got (3, 3, 3)"),
    (lambda: F.conv2d(IMAGE, KERNEL, groups=0), "conv2d: groups must be an int of at least 1, got 0"),
    (lambda: F.conv2d(IMAGE, KERNEL, groups=(1, 1)), "conv2d: groups must be an int of at least 1, got (1, 1)"),
    (lambda: F.conv2d(IMAGE, KERNEL, groups=True), "conv2d: groups must be an int of at least 1, got True"),
    (
        lambda: F.conv2d(IMAGE, KERNEL[:3, :1], np.ones(1), groups=3),
        "conv2d: b must have shape (3,), one for each output channel, got (1,) (W (3, 1, 3, 3))",
    ),
    (
        lambda: F.deconv2d(IMAGE, KERNEL[:3], groups=2),
        "deconv2d: groups 2 does not divide the 3 channels of x (x {0}, W (3, 3, 3, 3))",
    ),
    (
        lambda: F.deconv2d(IMAGE, KERNEL[:1], groups=3),
        "deconv2d: W takes 1 channels but x has 3 (x {0}, W (1, 3, 3, 3))",
    ),
    (lambda: F.deconv2d(IMAGE, KERNEL[0], groups=3), "deconv2d: W must have shape (C, OC / 3, KH, KW), got (3, 3, 3)"),
    (
        lambda: F.deconv2d(IMAGE, KERNEL[:3], np.ones(3), groups=3),
        "deconv2d: b must have shape (9,), one for each output channel, got (3,) (W (3, 3, 3, 3))",
    ),
    (
        lambda: Conv2DGradW(3, groups=2)(IMAGE, np.ones((1, 4, 6, 6))),
        "conv2d_grad_w: groups 2 does not divide the 3 channels of x {0}",
    ),
    (
        lambda: Conv2DGradW(3, groups=3)(IMAGE, np.ones((1, 4, 6, 6))),
        "conv2d_grad_w: groups 3 does not divide the 4 channels of gy (1, 4, 6, 6)",
    ),
    (
        lambda: Conv2DGradW(3, dilation=2)(IMAGE, np.ones((1, 4, 6, 6))),
        "conv2d_grad_w: expected gy (1, OC, 4, 4) for x {0}, got (1, 4, 6, 6)",
    ),
    (lambda: F.conv2d(IMAGE, KERNEL, dilation=0), "conv2d: dilation must be at least 1, got 0"),
    (lambda: F.deconv2d(IMAGE, KERNEL, dilation=(1, 0)), "deconv2d: dilation must be at least 1, got (1, 0)"),
    (lambda: F.im2col(IMAGE, 3, dilation=0), "im2col: dilation must be at least 1, got 0"),
    (
        lambda: F.col2im(np.ones((36, 27)), IMAGE.shape, 3, dilation=2),
        "col2im: expected col (16, 27) for images {0}, got (36, 27)",
    ),
    (
        lambda: F.conv2d(IMAGE, KERNEL, pad=(0, 1), dilation=(4, 2)),
        "conv2d: a 3x3 kernel of dilation (4, 2), 9x5 in all, does not fit into 8x8 images padded by (0, 1) (x {0}); "
        "use a smaller kernel or a larger pad",
    ),
    (
        lambda: F.deconv2d(IMAGE, KERNEL[:3], outsize=11, dilation=2),
        "deconv2d: outsize (11, 11) does not lead back to x {0} with W (3, 3, 3, 3), stride (1, 1), pad (0, 0), "
        "dilation (2, 2); it must be positive and lie in (12, 12)..(12, 12)",
    ),
    (
        lambda: F.deconv2d(IMAGE, KERNEL[:3], outsize=11),
        "deconv2d: outsize (11, 11) does not lead back to x {0} with W (3, 3, 3, 3), stride (1, 1), pad (0, 0); "
        "it must be positive and lie in (10, 10)..(10, 10)",
    ),
    (lambda: F.conv2d(IMAGE, KERNEL[:, :, :0]), "conv2d: W must have shape (OC, C, KH, KW), got (4, 3, 0, 3)"),
    (
        lambda: F.depthwise_conv2d(IMAGE, KERNEL[:, :1]),
        "depthwise_conv2d: W must have shape (C*M, 1, KH, KW), M kernels for each of the 3 channels of x, "
        "got (4, 1, 3, 3) (x {0})",
    ),
    (
        lambda: F.depthwise_conv2d(IMAGE, KERNEL[:3]),
        "depthwise_conv2d: W must have shape (C*M, 1, KH, KW), M kernels for each of the 3 channels of x, "
        "got (3, 3, 3, 3) (x {0})",
    ),
    (
        lambda: F.depthwise_conv2d(IMAGE[0], KERNEL[:3, :1]),
        "depthwise_conv2d: x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]",
    ),
    (
        lambda: F.depthwise_conv2d(IMAGE, KERNEL[:3, :1], np.ones(1)),
        "depthwise_conv2d: b must have shape (3,), one for each output channel, got (1,) (W (3, 1, 3, 3))",
    ),
    (lambda: F.depthwise_conv2d(IMAGE, KERNEL[:3, :1], stride=0), "depthwise_conv2d: stride must be at least 1, got 0"),
    (
        lambda: F.depthwise_conv2d(IMAGE, KERNEL[:3, :1], dilation=4),
        "depthwise_conv2d: a 3x3 kernel of dilation (4, 4), 9x9 in all, does not fit into 8x8 images padded by (0, 0) "
        "(x {0}); use a smaller kernel or a larger pad",
    ),
    (
        lambda: F.conv1d(IMAGE[0, 0], KERNEL[0]),
        "conv1d: x must have shape (N, C, L), got (8, 8); add the batch axis: x[None]",
    ),
    (lambda: F.conv1d(IMAGE[0], KERNEL), "conv1d: W must have shape (OC, C, K), got (4, 3, 3, 3)"),
    (lambda: F.conv1d(IMAGE[0], KERNEL[0]), "conv1d: W takes 3 channels but x has 8 (x (3, 8, 8), W (3, 3, 3))"),
    (
        lambda: F.conv1d(IMAGE[0], KERNEL[0], groups=3),
        "conv1d: groups 3 does not divide the 8 channels of x (x (3, 8, 8), W (3, 3, 3))",
    ),
    (lambda: F.conv1d(IMAGE[0], KERNEL[0], stride=(1, 1)), "conv1d: stride must be an int of at least 1, got (1, 1)"),
    (lambda: F.conv1d(IMAGE[0], KERNEL[0], pad=-1), "conv1d: pad must be an int of at least 0, got -1"),
    (lambda: F.conv1d(IMAGE[0], KERNEL[0], dilation=0), "conv1d: dilation must be an int of at least 1, got 0"),
    (lambda: F.conv1d(IMAGE[0], KERNEL[0], groups=1.5), "conv1d: groups must be an int of at least 1, got 1.5"),
    (
        lambda: F.conv1d(IMAGE[0, :, :3], np.ones((2, 3, 3)), dilation=4),
        "conv1d: a kernel of 3, 9 with dilation 4, does not fit into 8 padded by 0 (x (3, 3, 8)); "
        "use a smaller kernel or a larger pad",
    ),
    (
        lambda: F.conv1d(IMAGE[0, :, :3], np.ones((2, 3, 9))),
        "conv1d: a kernel of 9 does not fit into 8 padded by 0 (x (3, 3, 8)); use a smaller kernel or a larger pad",
    ),
]


@pytest.mark.parametrize(("call", "message"), GROUPS, ids=[message[:60] for _, message in GROUPS])
def test_bad_groups_and_dilations_word_for_word(call, message):
    with pytest.raises(ValueError, match=":") as error:
        call()
    assert str(error.value) == message.format(IMAGE.shape, KERNEL.shape)


BAD = [
    (lambda: F.conv2d_simple(IMAGE, np.ones((4, 2, 3, 3))), r"conv2d_simple: W takes 2 channels but x has 3"),
    (lambda: F.deconv2d(IMAGE, np.ones((2, 4, 3, 3))), r"deconv2d: W takes 2 channels but x has 3 \(x \(1, 3, 8, 8\)"),
    (lambda: F.conv2d(IMAGE[0], KERNEL), r"conv2d: x must have shape \(N, C, H, W\), got \(3, 8, 8\).*x\[None\]"),
    (lambda: F.conv2d(IMAGE, KERNEL[0]), r"conv2d: W must have shape \(OC, C, KH, KW\), got \(3, 3, 3\)"),
    (lambda: F.deconv2d(IMAGE, KERNEL[0]), r"deconv2d: W must have shape \(C, OC, KH, KW\), got \(3, 3, 3\)"),
    (lambda: F.conv2d(IMAGE, KERNEL, np.ones(3)), r"conv2d: b must have shape \(4,\).*got \(3,\)"),
    (lambda: F.conv2d_simple(IMAGE, KERNEL, np.ones(3)), r"conv2d_simple: b must have shape \(4,\).*got \(3,\)"),
    (lambda: F.conv2d(IMAGE, KERNEL, np.ones((4, 1))), r"conv2d: b must have shape \(4,\).*got \(4, 1\)"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=0), r"conv2d: stride must be at least 1, got 0"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=(1, 2, 3)), r"conv2d: stride must be an int or a pair.*got \(1, 2, 3\)"),
    (lambda: F.conv2d(IMAGE, KERNEL, stride=1.5), r"conv2d: stride must be an int or a pair.*got 1\.5"),
    (lambda: F.conv2d(IMAGE, KERNEL, pad=-1), r"conv2d: pad must be at least 0, got -1"),
    (lambda: F.conv2d(IMAGE, KERNEL, pad="same"), r"conv2d: pad must be an int or a pair.*got 'same'"),
    (lambda: F.conv2d(IMAGE[:, :, :2], KERNEL), r"conv2d: a 3x3 kernel does not fit into 2x8 images"),
    (lambda: F.conv2d_simple(IMAGE[:, :, :2], KERNEL), r"conv2d_simple: a 3x3 kernel does not fit into 2x8 images"),
    (lambda: F.conv2d(IMAGE[:, :, :0], KERNEL, pad=1), r"conv2d: a 3x3 kernel does not fit into 0x8 images"),
    (
        lambda: F.deconv2d(IMAGE, np.ones((3, 4, 3, 3)), outsize=(9, 9)),
        r"deconv2d: outsize \(9, 9\) does not lead back",
    ),
    (lambda: F.deconv2d(IMAGE, np.ones((3, 4, 3, 3)), pad=5), r"deconv2d: outsize"),
    (
        lambda: F.deconv2d(IMAGE, np.ones((3, 4, 3, 3)), outsize=(1, 2, 3)),
        r"deconv2d: outsize must be an int or a pair",
    ),
    (lambda: F.pooling(IMAGE, 9), r"pooling: a 9x9 kernel does not fit into 8x8 images padded by \(0, 0\)"),
    (lambda: F.pooling(IMAGE, 2.0), r"pooling: kernel_size must be an int or a pair of ints.*got 2\.0"),
    (lambda: F.pooling(IMAGE, 0), r"pooling: kernel_size must be at least 1, got 0"),
    (lambda: F.pooling(IMAGE, 2, 0), r"pooling: stride must be at least 1, got 0"),
    (lambda: F.pooling(IMAGE, 2, 2, 2), r"pooling: pad 2 must be smaller than the kernel 2"),
    (lambda: F.pooling(IMAGE, (3, 2), 2, (0, 2)), r"pooling: pad \(0, 2\) must be smaller than the kernel \(3, 2\)"),
    (lambda: F.pooling(IMAGE[0], 2), r"pooling: x must have shape \(N, C, H, W\), got \(3, 8, 8\)"),
    (lambda: F.pooling_simple(IMAGE, 2, 2, 2), r"pooling_simple: pad 2 must be smaller than the kernel 2"),
    (lambda: F.pooling_simple(IMAGE, 9), r"pooling_simple: a 9x9 kernel does not fit"),
    (lambda: F.average_pooling(IMAGE, 9), r"average_pooling: a 9x9 kernel does not fit"),
    (lambda: F.average_pooling(IMAGE, 2, 2, 3), r"average_pooling: pad 3 must be smaller than the kernel 2"),
    (lambda: F.im2col(IMAGE, 9), r"im2col: a 9x9 kernel does not fit into 8x8 images"),
    (lambda: F.im2col(IMAGE[0], 3), r"im2col: x must have shape \(N, C, H, W\), got \(3, 8, 8\)"),
    (lambda: F.im2col(IMAGE, (1, 2, 3)), r"im2col: kernel_size must be an int or a pair"),
    (lambda: F.im2col_array(IMAGE, 9, 1, 0), r"im2col: a 9x9 kernel does not fit"),
    (
        lambda: F.col2im(np.ones((36, 26)), (1, 3, 8, 8), 3),
        r"col2im: expected col \(36, 27\) for images \(1, 3, 8, 8\)",
    ),
    (lambda: F.col2im(np.ones((36, 27)), (3, 8, 8), 3), r"col2im: .*\(N, C, H, W\).*\(3, 8, 8\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_shapes_and_sizes_are_errors_that_say_so(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()


@pytest.mark.parametrize("bad", [[[1.0]], "image", None], ids=lambda b: type(b).__name__)
@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("conv2d", lambda x: F.conv2d(x, KERNEL)),
        ("conv2d_simple", lambda x: F.conv2d_simple(x, KERNEL)),
        ("deconv2d", lambda x: F.deconv2d(x, KERNEL)),
        ("depthwise_conv2d", lambda x: F.depthwise_conv2d(x, KERNEL)),
        ("depthwise_conv2d", lambda b: F.depthwise_conv2d(IMAGE, KERNEL[:3, :1], b or "none")),
        ("conv1d", lambda x: F.conv1d(x, KERNEL[0])),
        ("conv1d", lambda W: F.conv1d(IMAGE[0], W)),
        ("pooling", lambda x: F.pooling(x, 2)),
        ("pooling_simple", lambda x: F.pooling_simple(x, 2)),
        ("average_pooling", lambda x: F.average_pooling(x, 2)),
        ("im2col", lambda x: F.im2col(x, 2)),
        ("col2im", lambda x: F.col2im(x, (1, 1, 3, 3), 2)),
    ],
)
def test_images_that_are_no_arrays_are_refused_by_name(name, f, bad):
    with pytest.raises(TypeError, match=f"^{name}: "):
        f(bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2d(0),
        lambda: Conv2d(dilation=0),
        lambda: Conv2d(groups=0),
        lambda: Deconv2d(1, -1),
        lambda: Deconv2d(dilation=(1, 0)),
        lambda: Deconv2d(groups=1.0),
        lambda: Pooling(2, 1, 2),
        lambda: AveragePooling("2"),
    ],
)
def test_the_classes_check_their_sizes_when_they_are_made(make):
    with pytest.raises(ValueError, match=r"(conv2d|deconv2d|pooling|average_pooling): "):
        make()
