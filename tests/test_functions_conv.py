"""Convolution and pooling against loops that spell out the definition, against PyTorch, and at their edges."""

import warnings

import numpy as np
import pytest

from dezero import functions as F
from dezero import kernels
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


def windows(image_size, kernel_size, stride, pad):
    """Yield (oh, ow) and the window's slices in the padded image."""
    (H, W), (KH, KW), (SH, SW), (PH, PW) = image_size, pair(kernel_size), pair(stride), pair(pad)
    for oh, top in enumerate(range(0, H + 2 * PH - KH + 1, SH)):
        for ow, left in enumerate(range(0, W + 2 * PW - KW + 1, SW)):
            yield oh, ow, (..., slice(top, top + KH), slice(left, left + KW))


def padded(x, pad, value=0):
    PH, PW = pair(pad)
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=value)


def outsize(image_size, kernel_size, stride, pad):
    last = list(windows(image_size, kernel_size, stride, pad))[-1]
    return last[0] + 1, last[1] + 1


def loop_conv2d(x, W, b, stride, pad):
    N, OC = len(x), len(W)
    y = np.zeros((N, OC, *outsize(x.shape[2:], W.shape[2:], stride, pad)))
    for oh, ow, window in windows(x.shape[2:], W.shape[2:], stride, pad):
        for n in range(N):
            for o in range(OC):
                y[n, o, oh, ow] = (padded(x, pad)[n][window] * W[o]).sum() + b[o]
    return y


def loop_deconv2d(x, W, b, stride, pad, image_size):
    PH, PW = pair(pad)
    H, W_ = image_size
    y = np.zeros((len(x), W.shape[1], H + 2 * PH, W_ + 2 * PW))
    for ih, iw, window in windows(image_size, W.shape[2:], stride, pad):
        for n in range(len(x)):
            for c in range(x.shape[1]):
                y[n][window] += x[n, c, ih, iw] * W[c]
    return y[:, :, PH : PH + H, PW : PW + W_] + b.reshape(-1, 1, 1)


def loop_pool(x, kernel_size, stride, pad, reduce, pad_value):
    y = np.zeros((*x.shape[:2], *outsize(x.shape[2:], kernel_size, stride, pad)))
    for oh, ow, window in windows(x.shape[2:], kernel_size, stride, pad):
        y[:, :, oh, ow] = reduce(padded(x, pad, pad_value)[window], axis=(2, 3))
    return y


def loop_im2col(x, kernel_size, stride, pad):
    KH, KW = pair(kernel_size)
    col = np.zeros((*x.shape[:2], KH, KW, *outsize(x.shape[2:], kernel_size, stride, pad)))
    for oh, ow, window in windows(x.shape[2:], kernel_size, stride, pad):
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


@every_shape
@pytest.mark.parametrize("conv2d", [F.conv2d, F.conv2d_simple])
def test_conv2d_is_the_sum_over_each_window(conv2d, shape, kernel, stride, pad):
    x, (W, b) = numbers(*shape), weights(4, shape[1], kernel)
    np.testing.assert_allclose(conv2d(x, W, b, stride, pad).data, loop_conv2d(x, W, b, stride, pad), atol=1e-12)


@every_shape
def test_deconv2d_spreads_each_pixel_over_its_window(shape, kernel, stride, pad):
    OH, OW = outsize(shape[2:], kernel, stride, pad)
    x, W, b = numbers(2, 3, OH, OW), numbers(3, 4, *pair(kernel), seed=1), numbers(4, seed=2)
    y = F.deconv2d(x, W, b, stride, pad, outsize=shape[2:])
    np.testing.assert_allclose(y.data, loop_deconv2d(x, W, b, stride, pad, shape[2:]), atol=1e-12)


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


@every_shape
def test_im2col_lays_out_each_window(shape, kernel, stride, pad):
    x = numbers(*shape)
    expected = loop_im2col(x, kernel, stride, pad)
    np.testing.assert_array_equal(F.im2col(x, kernel, stride, pad, to_matrix=False).data, expected)
    np.testing.assert_array_equal(F.im2col(x, kernel, stride, pad).data, as_matrix(expected))
    np.testing.assert_array_equal(F.im2col_array(x, kernel, stride, pad), as_matrix(expected))


@every_shape
@pytest.mark.parametrize("to_matrix", [True, False])
def test_col2im_is_the_transpose_of_im2col(to_matrix, shape, kernel, stride, pad):
    x = numbers(*shape)
    col = F.im2col(x, kernel, stride, pad, to_matrix).data
    other = numbers(*col.shape, seed=1)
    image = F.col2im(other, shape, kernel, stride, pad, to_matrix).data
    assert image.shape == shape
    np.testing.assert_allclose((col * other).sum(), (x * image).sum())
    np.testing.assert_array_equal(F.col2im_array(other, shape, kernel, stride, pad, to_matrix), image)


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


@every_shape
def test_conv2d_gradients_to_the_third_order(shape, kernel, stride, pad):
    check_grads(
        lambda *v: F.conv2d(*v, stride, pad), numbers(*shape), *weights(2, shape[1], kernel), order=3, rtol=1e-4
    )


@every_shape
def test_deconv2d_gradients_to_the_third_order(shape, kernel, stride, pad):
    OH, OW = outsize(shape[2:], kernel, stride, pad)
    x, W, b = numbers(2, 3, OH, OW), numbers(3, 2, *pair(kernel), seed=1), numbers(2, seed=2)
    check_grads(lambda *v: F.deconv2d(*v, stride, pad, shape[2:]), x, W, b, order=3, rtol=1e-4)


@every_shape
def test_the_gradient_of_w_has_gradients_to_the_third_order(shape, kernel, stride, pad):
    gy = numbers(shape[0], 2, *outsize(shape[2:], kernel, stride, pad), seed=1)
    check_grads(lambda x, gy: Conv2DGradW(pair(kernel), stride, pad)(x, gy), numbers(*shape), gy, order=3, rtol=1e-4)


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


def test_a_curved_network_to_the_third_order():
    x, (W, b), V = numbers(1, 2, 5, 5), weights(2, 2, 3), numbers(2, 2, 2, 2, seed=3)

    def network(x, W, b, V):
        return F.average_pooling(F.conv2d(F.tanh(F.conv2d(x, W, b, pad=1)), V, stride=2) ** 2, 2)

    check_grads(network, x, W, b, V, order=3, rtol=1e-4, atol=1e-6)


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


@every_shape
def test_conv2d_against_torch(shape, kernel, stride, pad):
    torch = import_torch()
    conv2d = torch.nn.functional.conv2d
    W, b = weights(4, shape[1], kernel)
    assert_same_as_torch(
        torch,
        lambda x, W, b: F.conv2d(x, W, b, stride, pad),
        lambda x, W, b: conv2d(x, W, b, stride, pad),
        numbers(*shape),
        W,
        b,
    )


@every_shape
def test_deconv2d_against_torch(shape, kernel, stride, pad):
    torch = import_torch()
    OH, OW = outsize(shape[2:], kernel, stride, pad)
    smallest = [
        kernels.deconv_outsize(*size) for size in zip((OH, OW), pair(kernel), pair(stride), pair(pad), strict=True)
    ]
    extra = tuple(n - s for n, s in zip(shape[2:], smallest, strict=True))
    conv_transpose2d = torch.nn.functional.conv_transpose2d
    assert_same_as_torch(
        torch,
        lambda x, W, b: F.deconv2d(x, W, b, stride, pad, shape[2:]),
        lambda x, W, b: conv_transpose2d(x, W, b, stride, pad, extra),
        numbers(2, 3, OH, OW),
        numbers(3, 4, *pair(kernel), seed=1),
        numbers(4, seed=2),
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
    "conv2d no bias": (lambda x, W: F.conv2d(x, W), ((2, 3, 5, 5), (4, 3, 3, 3))),
    "deconv2d": (lambda x, W, b: F.deconv2d(x, W, b, 2, 1), ((2, 3, 4, 4), (3, 4, 3, 3), (4,))),
    "deconv2d no bias": (lambda x, W: F.deconv2d(x, W), ((2, 3, 4, 4), (3, 4, 3, 3))),
    "pooling": (lambda x: F.pooling(x, 3, 2, 1), ((2, 3, 5, 5),)),
    "pooling_simple": (lambda x: F.pooling_simple(x, 3, 2), ((2, 3, 5, 5),)),
    "average_pooling": (lambda x: F.average_pooling(x, (2, 3), 2, 1), ((2, 3, 5, 5),)),
    "im2col": (lambda x: F.im2col(x, 3, 2, 1), ((2, 3, 5, 5),)),
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
        assert gradient.flags.owndata


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


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_deconv_outsize_is_the_smallest_that_conv_outsize_leads_back_from(kernel, stride, pad):
    size = kernels.deconv_outsize(5, kernel, stride, pad)
    assert kernels.conv_outsize(size, kernel, stride, pad) == 5
    assert kernels.conv_outsize(size - 1, kernel, stride, pad) == 4


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
    "make", [lambda: Conv2d(0), lambda: Deconv2d(1, -1), lambda: Pooling(2, 1, 2), lambda: AveragePooling("2")]
)
def test_the_classes_check_their_sizes_when_they_are_made(make):
    with pytest.raises(ValueError, match=r"(conv2d|deconv2d|pooling|average_pooling): "):
        make()
