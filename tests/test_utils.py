"""The porch: every name that DeZero programs import from dezero.utils is there and means what it meant."""

import inspect
import os

import numpy as np
import pytest

from dezero import functions as F
from dezero import utils
from dezero.core import Variable

PARAMETERS = {
    "get_dot_graph": "output verbose",
    "plot_dot_graph": "output verbose to_file",
    "sum_to": "x shape",
    "reshape_sum_backward": "gy x_shape axis keepdims",
    "logsumexp": "x axis",
    "max_backward_shape": "x axis",
    "gradient_check": "f x args rtol atol kwargs",
    "numerical_grad": "f x args kwargs",
    "array_equal": "a b",
    "array_allclose": "a b rtol atol",
    "get_file": "url file_name",
    "get_conv_outsize": "input_size kernel_size stride pad",
    "get_deconv_outsize": "size k s p",
    "pair": "x",
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_have_their_names_and_places(name, parameters):
    expected = parameters.split()
    assert list(inspect.signature(getattr(utils, name)).parameters)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("x_shape", "shape"),
    [((2, 3), (1, 3)), ((2, 3), (2, 1)), ((2, 3), (3,)), ((2, 3), ()), ((2, 3), (2, 3)), ((4, 2, 3), (1, 1, 3))],
)
def test_sum_to_undoes_a_broadcast_on_plain_arrays(x_shape, shape):
    x = np.arange(np.prod(x_shape, dtype=float)).reshape(x_shape)
    y = utils.sum_to(x, shape)
    assert type(y) in (np.ndarray, np.float64)
    assert y.shape == shape
    assert y.sum() == x.sum()
    np.testing.assert_array_equal(y, F.sum_to(x, shape).data)


def test_sum_to_a_shape_that_does_not_broadcast():
    with pytest.raises(ValueError, match=r"sum_to: x \(2, 3\) cannot be summed to \(2,\)"):
        utils.sum_to(np.zeros((2, 3)), (2,))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1), (-3,)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_reshape_sum_backward_makes_a_sums_gradient_broadcast_again(axis, keepdims):
    x = np.arange(24.0).reshape(2, 3, 4)
    gy = Variable(np.asarray(x.sum(axis=axis, keepdims=keepdims)))
    gx = utils.reshape_sum_backward(gy, x.shape, axis, keepdims)
    np.testing.assert_array_equal(gx.data, x.sum(axis=axis, keepdims=True))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1)])
def test_max_backward_shape_is_a_reductions_shape_with_its_axes_kept(axis):
    x = np.zeros((2, 3, 4))
    assert tuple(utils.max_backward_shape(x, axis)) == x.max(axis=axis, keepdims=True).shape


def test_logsumexp_keeps_the_axis_and_does_not_overflow():
    x = np.array([[0.0, 1.0, 2.0], [1000.0, 1000.0, 999.0], [-1000.0, -1001.0, -1000.0]])
    y = utils.logsumexp(x)
    assert y.shape == (3, 1)
    largest = x.max(axis=1, keepdims=True)
    np.testing.assert_allclose(y, largest + np.log(np.exp(x - largest).sum(axis=1, keepdims=True)))
    assert utils.logsumexp(x, axis=0).shape == (1, 3)
    np.testing.assert_allclose(utils.logsumexp(x[:1], axis=1), np.log(np.exp(x[:1]).sum(axis=1, keepdims=True)))


@pytest.mark.parametrize(
    ("sizes", "out"), [((28, 3, 1, 1), 28), ((4, 3, 1, 0), 2), ((5, 2, 2, 0), 2), ((7, 3, 2, 1), 4), ((1, 1, 1, 0), 1)]
)
def test_get_conv_outsize_counts_windows(sizes, out):
    size, kernel, stride, pad = sizes
    assert utils.get_conv_outsize(*sizes) == out == len(range(0, size + 2 * pad - kernel + 1, stride))


@pytest.mark.parametrize(
    ("sizes", "out"), [((2, 3, 1, 0), 4), ((14, 3, 2, 1), 27), ((4, 2, 2, 0), 8), ((1, 5, 3, 2), 1)]
)
def test_get_deconv_outsize_is_the_smallest_size_that_gives_that_many(sizes, out):
    size, kernel, stride, pad = sizes
    assert utils.get_deconv_outsize(*sizes) == out
    assert utils.get_conv_outsize(out, kernel, stride, pad) == size
    assert utils.get_conv_outsize(out - 1, kernel, stride, pad) < size


def test_pair():
    assert utils.pair(3) == (3, 3)
    assert utils.pair((1, 2)) == (1, 2)
    for bad in ((1, 2, 3), 1.5, "ab", None):
        with pytest.raises(ValueError, match="pair: x must be an int or a pair"):
            utils.pair(bad)


def test_numerical_grad_takes_variables_and_arrays_and_further_arguments():
    x = np.array([[1.0, 2.0], [3.0, -1.0]])
    for given in (x, Variable(x)):
        np.testing.assert_allclose(
            utils.numerical_grad(lambda x, c, power=1: c * x**power, given, 2.0, power=3), 6 * x**2
        )
    np.testing.assert_array_equal(x, [[1.0, 2.0], [3.0, -1.0]])


@pytest.mark.parametrize("f", [F.sin, F.softmax, lambda x: F.sum(x**2, axis=0)])
def test_gradient_check_agrees_with_right_gradients(f):
    assert utils.gradient_check(f, np.random.default_rng(0).standard_normal((3, 4))) is True


def test_gradient_check_finds_a_wrong_gradient_and_shows_both(capsys):
    class WrongSquare(F.Function):
        def forward(self, x):
            return x * x

        def backward(self, gy):
            (x,) = self.inputs
            return gy * x

    assert utils.gradient_check(lambda x: WrongSquare()(x), np.array([1.0, 2.0])) is False
    said = capsys.readouterr().out
    assert "[2. 4.]" in said
    assert "[1. 2.]" in said


def test_gradient_check_hands_arguments_on():
    assert utils.gradient_check(lambda x, W, b=None: F.linear(x, W, b), np.ones((2, 3)), np.ones((3, 2)), b=np.ones(2))


def test_array_comparisons_take_variables_and_arrays():
    a = np.array([1.0, 2.0])
    assert utils.array_equal(Variable(a), a.copy())
    assert not utils.array_equal(a, a + 1e-12)
    assert not utils.array_equal(a, np.array([[1.0, 2.0]]))
    assert utils.array_allclose(Variable(a), a + 1e-5)
    assert not utils.array_allclose(a, a + 1e-3)
    assert utils.array_allclose(a, a + 1e-3, rtol=0, atol=1e-2)


def test_cache_dir_is_a_string_that_follows_dezero_home(monkeypatch, tmp_path):
    monkeypatch.setenv("DEZERO_HOME", str(tmp_path / "here"))
    assert utils.cache_dir == str(tmp_path / "here")
    monkeypatch.delenv("DEZERO_HOME")
    assert utils.cache_dir == os.path.join(os.path.expanduser("~"), ".dezero")
    assert not (tmp_path / "here").exists()  # asking makes no folder


def test_cache_dir_can_be_imported_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("DEZERO_HOME", str(tmp_path))
    from dezero.utils import cache_dir

    assert cache_dir == str(tmp_path)


def test_get_file_gives_the_path_of_a_file_that_is_there_already(monkeypatch, tmp_path):
    monkeypatch.setenv("DEZERO_HOME", str(tmp_path))
    (tmp_path / "weights.npz").write_bytes(b"content")
    assert utils.get_file("http://localhost:9/v1/weights.npz") == str(tmp_path / "weights.npz")
    assert utils.get_file("http://localhost:9/other", "weights.npz") == str(tmp_path / "weights.npz")


def test_the_graphs_description_is_drawings():
    x = Variable(np.array(1.0), name="x")
    text = utils.get_dot_graph(x * 2.0)
    assert text.startswith("digraph g {")
    assert "Mul" in text


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"dezero\.utils.*no_such_name"):
        _ = utils.no_such_name
