"""Winograd's method: its matrices, its switch, and how much it loses."""

from fractions import Fraction

import numpy as np
import pytest

from dezero import functions as F
from dezero import kernels
from dezero.kernels import reference, using_kernels, using_winograd, winograd

rng = np.random.default_rng(0)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5])
def test_the_matrices_correlate_a_line(r):
    m, At, G, Bt = winograd.matrices(r)
    d, g = rng.standard_normal(winograd.TILE), rng.standard_normal(r)
    np.testing.assert_allclose(At @ ((G @ g) * (Bt @ d)), np.correlate(d, g, "valid"), rtol=1e-12)
    assert At.shape == (m, winograd.TILE)


def test_the_matrices_are_those_of_lavin_and_gray():
    m, At, G, _ = winograd.matrices(3)
    assert m == 4
    expected = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    np.testing.assert_array_equal(At, expected)
    sixth, third = Fraction(1, 24), Fraction(1, 12)
    expected = [
        [Fraction(1, 4), 0, 0],
        [-Fraction(1, 6), -Fraction(1, 6), -Fraction(1, 6)],
        [-Fraction(1, 6), Fraction(1, 6), -Fraction(1, 6)],
        [sixth, third, 2 * third],
        [sixth, -third, 2 * third],
        [0, 0, 1],
    ]
    np.testing.assert_allclose(G, np.array(expected, float), rtol=1e-15)


def largest_error(y, exact):
    return np.abs(y - exact).max() / np.abs(exact).max()


@pytest.mark.parametrize("backend", [name for name in kernels.BACKENDS if name != "reference"])
@pytest.mark.parametrize(
    ("N", "C", "H", "OC", "k", "pad"), [(8, 32, 14, 64, 3, 1), (3, 70, 27, 50, 3, 0), (4, 32, 12, 32, 5, 2)]
)
def test_float32_loses_as_little_as_stated_and_float64_nothing(backend, N, C, H, OC, k, pad):
    x, W, b = rng.standard_normal((N, C, H, H)), rng.standard_normal((OC, C, k, k)), rng.standard_normal(OC)
    one, pads = (1, 1), (pad, pad)
    exact = reference.conv2d(x, W, b, one, pads, one, 1)
    gy = rng.standard_normal(exact.shape)
    exact_gx = reference.deconv2d(gy, W, None, one, pads, (H, H), one, 1)
    exact_gW = reference.conv2d_grad_w(x, gy, (k, k), one, pads, one, 1)
    kernel = kernels.BACKENDS[backend]
    for dtype, limit in ((np.float32, 2e-5), (np.float64, 1e-13)):
        x_, W_, b_, gy_ = (a.astype(dtype) for a in (x, W, b, gy))
        assert largest_error(kernel.conv2d(x_, W_, b_, one, pads, one, 1), exact) < limit
        assert largest_error(kernel.deconv2d(gy_, W_, None, one, pads, (H, H), one, 1), exact_gx) < limit
        assert largest_error(kernel.conv2d_grad_w(x_, gy_, (k, k), one, pads, one, 1), exact_gW) < limit


def test_turned_off_float32_is_computed_plainly():
    pytest.importorskip("numba")
    x = rng.standard_normal((4, 64, 14, 14)).astype(np.float32)
    W = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    exact = F.conv2d(x.astype(np.float64), W.astype(np.float64), pad=1).data
    with using_kernels("numba"):
        fast = F.conv2d(x, W, pad=1).data
        with using_winograd(False):
            assert not winograd.is_on()
            plain = F.conv2d(x, W, pad=1).data
        assert winograd.is_on()
    assert (fast != plain).any()
    assert largest_error(plain, exact) < 1e-6
    assert largest_error(fast, exact) < 1e-5
