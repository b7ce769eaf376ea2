"""Worked examples from readers' study notes on convolution and pooling, by hand and cell by cell.

Two of these notes work with the first book's layers, whose `im2col(x, 5, 5)` means a kernel of 5 by 5; in dezero the
third argument is the stride. The figures are theirs.
"""

import numpy as np
import pytest

from dezero import functions as F
from dezero.core import Variable
from dezero.functions_conv import pair


def arange(*shape):
    return np.arange(np.prod(shape)).reshape(shape)


ONE_CHANNEL = [[7, 11, 13, 15], [3, 4, 2, 3], [1, 2, 15, 9], [1, 8, 3, 10]]
OTHER_CHANNEL = [[5, 8, 6, 7], [10, 4, 11, 13], [8, 3, 10, 4], [1, 2, 5, 15]]

# ----------------------------------------------------------------------------------------------------------------------
# im2col: one row for each window
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_shape", "kernel_size", "shape"),
    [
        ((1, 3, 7, 7), 5, (9, 75)),
        ((10, 3, 7, 7), 5, (90, 75)),
        ((10, 3, 7, 7), (5, 5), (90, 75)),
        ((2, 4, 5, 5), 2, (32, 16)),
        ((1, 3, 448, 640), 5, (282384, 75)),
    ],
)
def test_im2col_shape(x_shape, kernel_size, shape):
    assert F.im2col(np.zeros(x_shape, np.float32), kernel_size, stride=1, pad=0, to_matrix=True).shape == shape


@pytest.mark.parametrize("x_shape", [(1, 3, 7, 7), (10, 3, 7, 7)])
def test_im2col_with_pairs(x_shape):
    x = np.random.default_rng(0).random(x_shape)
    np.testing.assert_array_equal(F.im2col(x, (5, 5), (1, 1), (0, 0)).data, F.im2col(x, 5, 1, 0).data)


IM2COL = [
    ((1, 1, 3, 3), [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]),
    (
        (1, 2, 3, 3),
        [
            [0, 1, 3, 4, 9, 10, 12, 13],
            [1, 2, 4, 5, 10, 11, 13, 14],
            [3, 4, 6, 7, 12, 13, 15, 16],
            [4, 5, 7, 8, 13, 14, 16, 17],
        ],
    ),
    (
        (2, 2, 3, 3),
        [
            [0, 1, 3, 4, 9, 10, 12, 13],
            [1, 2, 4, 5, 10, 11, 13, 14],
            [3, 4, 6, 7, 12, 13, 15, 16],
            [4, 5, 7, 8, 13, 14, 16, 17],
            [18, 19, 21, 22, 27, 28, 30, 31],
            [19, 20, 22, 23, 28, 29, 31, 32],
            [21, 22, 24, 25, 30, 31, 33, 34],
            [22, 23, 25, 26, 31, 32, 34, 35],
        ],
    ),
]


@pytest.mark.parametrize(("x_shape", "expected"), IM2COL)
def test_im2col_of_a_2x2_kernel(x_shape, expected):
    np.testing.assert_array_equal(F.im2col(arange(*x_shape), kernel_size=2).data, expected)


def test_im2col_before_the_reshape_to_a_matrix_has_axes_n_c_kh_kw_oh_ow():
    expected = [
        [
            [[[0, 1, 2], [4, 5, 6], [8, 9, 10]], [[1, 2, 3], [5, 6, 7], [9, 10, 11]]],
            [[[4, 5, 6], [8, 9, 10], [12, 13, 14]], [[5, 6, 7], [9, 10, 11], [13, 14, 15]]],
        ]
    ]
    col = F.im2col(arange(1, 1, 4, 4), kernel_size=2, to_matrix=False)
    np.testing.assert_array_equal(col.data, [expected])
    assert col.shape == (1, 1, 2, 2, 3, 3)


def test_col2im_counts_each_pixel_once_per_window():
    x = arange(1, 1, 4, 4)
    image = F.col2im(F.im2col(x, kernel_size=2), x.shape, kernel_size=2)
    np.testing.assert_array_equal(image.data, [[[[0, 2, 4, 3], [8, 20, 24, 14], [16, 36, 40, 22], [12, 26, 28, 15]]]])


# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------

CONV2D = [
    ((1, 1, 4, 4), 1, 0, [[[[13, 17, 21], [29, 33, 37], [45, 49, 53]]]]),
    ((1, 1, 3, 3), 1, 0, [[[[11, 15], [23, 27]]]]),
    ((1, 2, 3, 3), 1, 0, [[[[55, 63], [79, 87]]]]),
    ((1, 2, 3, 3), 3, 0, [[[[55, 63], [79, 87]]] * 3]),
    ((1, 1, 3, 3), 1, 1, [[[[3, 4, 6, 5], [6, 11, 15, 10], [12, 23, 27, 16], [9, 16, 18, 11]]]]),
]


@pytest.mark.parametrize("conv2d", [F.conv2d, F.conv2d_simple])
@pytest.mark.parametrize(("x_shape", "OC", "pad", "expected"), CONV2D)
def test_conv2d_with_a_2x2_kernel_of_ones_and_a_bias_of_three(conv2d, x_shape, OC, pad, expected):
    W, b = np.ones((OC, x_shape[1], 2, 2)), np.full((OC,), 3)
    expected = np.array(expected).reshape(1, OC, *np.shape(expected)[-2:])
    np.testing.assert_array_equal(conv2d(arange(*x_shape), W, b, stride=1, pad=pad).data, expected)


def test_conv2d_of_two_images_two_channels_and_three_kernels():
    assert F.conv2d(arange(2, 2, 3, 3), np.ones((3, 2, 2, 2)), None).shape == (2, 3, 2, 2)


def test_conv2d_simple_leads_back_to_an_image():
    rng = np.random.default_rng(0)
    x, W = Variable(rng.standard_normal((1, 5, 15, 15))), rng.standard_normal((8, 5, 3, 3))
    y = F.conv2d_simple(x, W, b=None, stride=1, pad=1)
    y.backward()
    assert y.shape == (1, 8, 15, 15)
    assert x.grad.shape == (1, 5, 15, 15)


def test_a_conv2d_layer_makes_its_weights_at_the_first_call():
    from dezero import layers as L

    np.random.seed(0)
    layer = L.Conv2d(8, kernel_size=3, stride=1, pad=1)
    assert layer.W.data is None
    y = layer(np.zeros((1, 5, 15, 15), np.float32))
    assert y.shape == (1, 8, 15, 15)
    np.random.seed(0)
    expected = np.random.randn(8, 5, 3, 3) * np.sqrt(1 / (5 * 3 * 3))
    np.testing.assert_allclose(layer.W.data, expected, rtol=1e-6)
    assert layer.W.dtype == np.float32
    np.testing.assert_array_equal(layer.b.data, np.zeros(8, np.float32))


# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ([ONE_CHANNEL], [[[11, 15], [8, 15]]]),
        ([ONE_CHANNEL, OTHER_CHANNEL], [[[11, 15], [8, 15]], [[10, 13], [8, 15]]]),
    ],
    ids=["one channel", "two channels"],
)
@pytest.mark.parametrize("pooling", [F.pooling, F.pooling_simple])
def test_pooling(pooling, image, expected):
    np.testing.assert_array_equal(pooling(np.array([image]), kernel_size=2, stride=2).data, [expected])


@pytest.mark.parametrize("pooling", [F.pooling, F.pooling_simple])
@pytest.mark.parametrize(
    ("image", "gy", "expected"),
    [
        ([ONE_CHANNEL], [[[1, 2], [3, 4]]], [[[0, 1, 0, 2], [0, 0, 0, 0], [0, 0, 4, 0], [0, 3, 0, 0]]]),
        (
            [ONE_CHANNEL, OTHER_CHANNEL],
            [[[1, 1], [1, 1]], [[2, 2], [2, 2]]],
            [
                [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]],
                [[0, 0, 0, 0], [2, 0, 0, 2], [2, 0, 0, 0], [0, 0, 0, 2]],
            ],
        ),
    ],
    ids=["one channel", "two channels"],
)
def test_pooling_hands_the_gradient_to_the_largest(pooling, image, gy, expected):
    x = Variable(np.array([image]))
    y = pooling(x, kernel_size=2, stride=2)
    y.grad = Variable(np.array([gy]))
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [expected])


@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_simple_equals_pooling(stride):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    np.testing.assert_array_equal(F.pooling_simple(x, 2, stride).data, F.pooling(x, 2, stride).data)


# ----------------------------------------------------------------------------------------------------------------------
# pair
# ----------------------------------------------------------------------------------------------------------------------


def test_pair_doubles_an_int_and_leaves_a_pair():
    assert pair(1) == (1, 1)
    assert pair((1, 2)) == (1, 2)


@pytest.mark.parametrize("x", [(1, 2, 3), (1,), 1.5, "1", None, [1, 2]], ids=repr)
def test_pair_refuses_anything_else(x):
    with pytest.raises(ValueError, match="pair"):
        pair(x)
