"""Which kernels work on an array; what they compute is in the table (test_operations.py, test_functions_conv.py)."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from dezero import functions as F
from dezero import kernels
from dezero.kernels import blocked, reference, using_kernels
from dezero.testing import check_grads

X = np.zeros((1, 1, 3, 3))


def test_the_default_is_blocked():
    assert kernels.for_array(X) is blocked


def test_using_kernels_holds_inside_the_block_and_in_its_thread():
    seen = []
    with using_kernels("reference"):
        assert kernels.for_array(X) is reference
        thread = threading.Thread(target=lambda: seen.append(kernels.for_array(X)))
        thread.start()
        thread.join()
        with using_kernels("blocked"):
            assert kernels.for_array(X) is blocked
        assert kernels.for_array(X) is reference
    assert kernels.for_array(X) is blocked
    assert seen == [blocked]


def test_an_error_inside_gives_the_choice_back():
    with pytest.raises(KeyError), using_kernels("reference"):
        raise KeyError
    assert kernels.for_array(X) is blocked


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="using_kernels: there are no kernels 'fast'; there are reference, blocked"):
        using_kernels("fast").__enter__()


@pytest.mark.parametrize(("name", "said"), [("reference", "reference"), ("fast", "there are no kernels 'fast'")])
def test_the_environment_chooses_what_to_begin_with(name, said):
    program = "import numpy, dezero; print(dezero.kernels.for_array(numpy.zeros(1)).__name__)"
    environment = {**os.environ, "DEZERO_KERNELS": name, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_a_pass_may_go_forward_with_one_and_backward_with_another(forward):
    def f(x, W):
        with using_kernels(forward):
            return F.pooling(F.conv2d(x, W, pad=1), 2, 2)

    rng = np.random.default_rng(0)
    check_grads(f, rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), order=3, rtol=1e-4)


def test_a_convolution_keeps_channels_last_through_a_network():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    y = F.pooling(F.relu(F.conv2d(x, np.ones((4, 3, 3, 3), np.float32))), 2, 2)
    assert y.shape == (2, 4, 3, 3)
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous


# ----------------------------------------------------------------------------------------------------------------------
# Blocks
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_at_a_time", [1, 500, 5_000, 50_000])
@pytest.mark.parametrize(("stride", "pad", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 2))])
def test_the_size_of_the_blocks_does_not_matter(bytes_at_a_time, stride, pad, dilation, monkeypatch):
    monkeypatch.setattr(blocked, "BUFFER", bytes_at_a_time)
    rng = np.random.default_rng(0)
    x, W, b = rng.standard_normal((5, 3, 9, 8)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    y = reference.conv2d(x, W, b, stride, pad, dilation, 1)
    np.testing.assert_allclose(blocked.conv2d(x, W, b, stride, pad, dilation, 1), y)
    for back in (reference, blocked):
        assert back.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1).shape == x.shape
    np.testing.assert_allclose(
        blocked.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1),
        reference.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1),
    )
    np.testing.assert_allclose(
        blocked.conv2d_grad_w(x, y, (3, 2), stride, pad, dilation, 1),
        reference.conv2d_grad_w(x, y, (3, 2), stride, pad, dilation, 1),
    )


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1)])
def test_infinity_and_nan_in_a_maximum(special, pad):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    x[0, 0, :3, :3] = special
    x[1, 2] = special
    (y, indexes), (expected, places) = (k.max_pool(x, (3, 3), (2, 2), pad) for k in (blocked, reference))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indexes, places)


def test_an_infinite_gradient_goes_to_its_pixel_alone():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    _, indexes = blocked.max_pool(x, (2, 2), (2, 2), (0, 0))
    gx = blocked.max_pool_scatter(np.full((1, 1, 2, 2), np.inf), indexes, (4, 4), (2, 2), (2, 2), (0, 0))
    assert np.isposinf(gx).sum() == 4
    assert (gx[np.isfinite(gx)] == 0).all()
