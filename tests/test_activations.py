"""Activations with kernels of their own: digits, tails, infinities, and the two ways to a gradient."""

import math

import numpy as np
import pytest
from simulated_gpu import pieces_of

import dezero
from dezero import Variable, kernels
from dezero import functions as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "elu": lambda x: F.elu(x, 0.7),
    "softplus": lambda x: F.softplus(x, 1.5),
    "hard_swish": F.hard_swish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
}
each = pytest.mark.parametrize("f", ACTIVATIONS.values(), ids=list(ACTIVATIONS))


def sigmoid(x):
    z = math.exp(-abs(x))
    return (z if x < 0 else 1) / (1 + z)


def gelu(x):
    below = 0.5 * math.erfc(-x / math.sqrt(2))
    return x * below, below + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(x):
    w = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    rate = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return x * sigmoid(w), sigmoid(w) + x * sigmoid(w) * sigmoid(-w) * rate


# A value and a slope each, by Python's own functions and in ways that keep the digits of what is small.
EXACT = {
    "gelu": gelu,
    "gelu, tanh": gelu_tanh,
    "silu": lambda x: (x * sigmoid(x), sigmoid(x) + x * sigmoid(x) * sigmoid(-x)),
    "elu": lambda x: (x, 1.0) if x > 0 else (0.7 * math.expm1(x), 0.7 * math.exp(x)),
    "softplus": lambda x: ((max(1.5 * x, 0) + math.log1p(math.exp(-1.5 * abs(x)))) / 1.5, sigmoid(1.5 * x)),
    "hard_swish": lambda x: (x * min(max(x + 3, 0), 6) / 6, (2 * x + 3) / 6 if -3 < x < 3 else float(x > 0)),
    "leaky_relu": lambda x: (x, 1.0) if x > 0 else (0.3 * x, 0.3),
}


def value_and_gradient(f, x, create_graph=False):
    x = Variable(x)
    y = f(x)
    y.backward(create_graph=create_graph)
    return y.data, x.grad.data


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_digits_are_right_from_tail_to_tail(name, dtype, backend):
    """Where a slope crosses 0, digits are those of its terms; where an exponent is rounded first, fewer in a tail."""
    x = np.concatenate([np.linspace(-7, 7, 3001), [1e-8, -1e-8, -1e-3, 30.0, 1e-30]]).astype(dtype)
    with kernels.using_kernels(backend):
        y, gx = value_and_gradient(ACTIVATIONS[name], x)
    exact_y, slope = np.array([EXACT[name](float(each)) for each in x]).T
    terms = np.abs(exact_y) + np.abs(slope)
    if backend == "numba" and dtype == np.float32 and name != "leaky_relu":  # computed in float64, and rounded once
        assert (np.abs(y - exact_y) <= 0.501 * np.spacing(np.abs(exact_y).astype(dtype))).all()
        assert (np.abs(gx - slope) <= 0.501 * np.spacing(np.abs(slope).astype(dtype)) + 1e-14 * terms).all()
        return
    ulp = np.finfo(dtype).eps * (6 + 3 * x.astype(float) ** 2 * (x < -1))
    assert (y.dtype, gx.dtype) == (dtype, dtype)
    assert (np.abs(y - exact_y) <= ulp * np.abs(exact_y)).all()
    assert (np.abs(gx - slope) <= ulp * terms).all()


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize(("dtype", "x"), [(np.float32, -80.0), (np.float64, -450.0)])
@pytest.mark.parametrize("name", ["gelu", "gelu, tanh", "silu", "softplus"])
def test_no_tail_is_cut_off(name, dtype, x, backend):
    """Down to where the dtype's own numbers end; 1 + erf and 1 + tanh would be 0 long before."""
    if name != "silu":
        x = {"gelu": -math.sqrt(-1.8 * x), "gelu, tanh": -((-10 * x) ** (1 / 3)), "softplus": x / 1.5}[name]
    with kernels.using_kernels(backend):
        y, gx = value_and_gradient(ACTIVATIONS[name], np.full(3, x, dtype))
    value, slope = EXACT[name](float(dtype(x)))
    assert abs(value) < 1e-30
    np.testing.assert_allclose(y, value, rtol=3e-5 if dtype == np.float32 else 1e-7)
    np.testing.assert_allclose(gx, slope, rtol=3e-5 if dtype == np.float32 else 1e-7)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each
def test_at_infinity_and_where_there_is_no_number(f, dtype, create_graph, backend):
    with kernels.using_kernels(backend):
        y, gx = value_and_gradient(f, np.array([np.inf, -np.inf, np.nan, 1e30, -1e30], dtype), create_graph)
        limits, slopes = value_and_gradient(f, np.array([1e3, -1e3], dtype), create_graph)
    assert np.isnan(y[2])
    np.testing.assert_array_equal(gx[[0, 1, 3, 4]], np.tile(slopes, 2))
    assert y[0] == np.inf
    assert y[1] == (-np.inf if limits[1] < -1 else limits[1])


@each
def test_a_half_is_computed_in_float32_and_rounded_once(f):
    x = np.linspace(-5, 5, 401).astype(np.float16)
    for half, wide in zip(value_and_gradient(f, x), value_and_gradient(f, x.astype(np.float32)), strict=True):
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, wide, rtol=2**-10, atol=2**-24)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("backend", kernels.BACKENDS)
@each
def test_the_kernel_of_a_gradient_is_the_graph_of_it(f, backend, dtype, monkeypatch):
    """In many pieces, of which the last is a short one."""
    if backend == "numba":
        monkeypatch.setattr("dezero.kernels.compiled.activation.PIECE", 999)
    x = np.random.default_rng(0).standard_normal((40, 5, 50)).astype(dtype) * 3
    with kernels.using_kernels(backend):
        (_, plain), (_, recorded) = (value_and_gradient(f, x, create_graph) for create_graph in (False, True))
    np.testing.assert_allclose(plain, recorded, rtol=20 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps)


@each
def test_a_pass_of_kernels_and_one_of_graphs_go_on_to_the_same_second_order(f):
    x = Variable(np.linspace(-2.4, 2.6, 11))
    gx, step = dezero.grad(F.sum(f(x)), x, create_graph=True), 1e-6
    gx_near = [value_and_gradient(f, x.data + h)[1] for h in (step, -step)]
    found = dezero.grad(F.sum(gx * x), x).data - gx.data
    np.testing.assert_allclose(found, x.data * (gx_near[0] - gx_near[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_integers_become_float64():
    for f in ACTIVATIONS.values():
        y, gx = value_and_gradient(f, np.array([-2, 0, 3]))
        assert (y.dtype, gx.dtype) == (np.float64, np.float64)
        np.testing.assert_array_equal(y, f(np.array([-2.0, 0.0, 3.0])).data)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_a_launch_forward_and_one_back(simulated, name):
    x = Variable(simulated.to(np.linspace(-3, 3, 50, dtype=np.float32)))
    gy = Variable(simulated.cupy.ones(50, np.float32))
    stream = simulated.cupy.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(2):  # the first compiles
            stream.begin_capture()
            x.cleargrad()
            y = ACTIVATIONS[name](x)
            y.grad = gy
            y.backward()
            launches = pieces_of(stream.end_capture())
    kernel = {"gelu, tanh": "gelu_tanh"}.get(name, name)
    assert launches == [f"dezero_{kernel}", f"dezero_{kernel}_grad"]
