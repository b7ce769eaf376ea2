"""How weights begin: the formulas, the names, what layers make of them, and what they refuse."""

import inspect
import math
from functools import partial

import numpy as np
import pytest

import dezero
from dezero import cuda, initializers
from dezero import layers as L

SHAPES = {
    "linear": ((300, 200), 300, 200),
    "conv2d": ((64, 32, 3, 3), 32 * 9, 64 * 9),
    "conv1d": ((128, 64, 5), 64 * 5, 128 * 5),
}
shapes = pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES.values(), ids=SHAPES)

# The standard deviation that each draws with, and whether uniformly.
SPREADS = {
    "xavier_uniform": (lambda i, o: math.sqrt(2 / (i + o)), True),
    "xavier_normal": (lambda i, o: math.sqrt(2 / (i + o)), False),
    "kaiming_uniform": (lambda i, o: math.sqrt(2 / i), True),
    "kaiming_normal": (lambda i, o: math.sqrt(2 / i), False),
    "lecun_uniform": (lambda i, o: math.sqrt(1 / i), True),
    "lecun_normal": (lambda i, o: math.sqrt(1 / i), False),
    "uniform": (lambda i, o: math.sqrt(1 / 12), True),
    "normal": (lambda i, o: 1.0, False),
}
spreads = pytest.mark.parametrize(("name", "spread", "is_uniform"), [(k, *v) for k, v in SPREADS.items()], ids=SPREADS)
MAKERS = [name for name in initializers.__all__ if name not in ("glorot_normal", "glorot_uniform")]


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def largest_and_spread(W):
    return np.abs(W - W.mean()).max(), W.std()


@spreads
@shapes
def test_weights_have_the_spread_of_the_formula(name, spread, is_uniform, shape, fan_in, fan_out):
    W = getattr(initializers, name)(shape, dtype=np.float64)
    wanted = spread(fan_in, fan_out)
    largest, found = largest_and_spread(W)
    assert found == pytest.approx(wanted, rel=0.02)
    assert abs(W.mean() - (0.5 if name == "uniform" else 0)) < 0.02 * wanted
    # A uniform draw ends at sqrt(3) of its standard deviation, where a normal one of this many goes beyond 3.
    assert largest < 1.76 * wanted if is_uniform else largest > 3 * wanted
    if is_uniform:
        assert largest > 1.7 * wanted


# The functions of torch.nn.init, and whether a Linear's W lies as PyTorch's, (out, in), or turned.
TORCH = {
    "xavier_uniform": "xavier_uniform_",
    "xavier_normal": "xavier_normal_",
    "kaiming_uniform": "kaiming_uniform_",
    "kaiming_normal": "kaiming_normal_",
}


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize(("name", "theirs"), TORCH.items())
@pytest.mark.parametrize("shape", [(300, 200), (64, 32, 3, 3), (128, 64, 5)])
def test_the_spread_is_that_of_torch(name, theirs, shape, mode):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"mode": mode} if name.startswith("kaiming") else {}
    ours = getattr(initializers, name)(shape, dtype=np.float64, **options)
    tensor = torch.empty(shape[::-1] if len(shape) == 2 else shape, dtype=torch.float64)
    getattr(torch.nn.init, theirs)(tensor, **options)
    np.testing.assert_allclose(ours.std(), tensor.numpy().std(), rtol=0.02)
    if "uniform" in name:
        np.testing.assert_allclose(np.abs(ours).max(), tensor.abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (40, 2, 3)])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_rows_or_columns_are_at_right_angles(shape, gain):
    W = initializers.orthogonal(shape, dtype=np.float64, gain=gain)
    assert W.shape == shape
    M = W.reshape(shape[0], -1)
    M = M if len(M) <= M.shape[1] else M.T
    np.testing.assert_allclose(M @ M.T, gain**2 * np.eye(len(M)), atol=1e-12)


def test_orthogonal_matrices_are_drawn_without_a_favourite_sign():
    corners = [initializers.orthogonal((2, 2), dtype=np.float64)[0, 0] for _ in range(400)]
    assert abs(np.sign(corners).sum()) < 80  # QR's own R has a sign of its choice


def test_the_gain_scales():
    for name in ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"):
        make = getattr(initializers, name)
        assert make((300, 200), gain=3.0).std() == pytest.approx(3 * make((300, 200), gain=1.0).std(), rel=0.02)


def test_fans_that_are_given_win_over_the_shape():
    assert initializers.lecun_normal((300, 200), 4, 5).std() == pytest.approx(0.5, rel=0.02)
    assert initializers.xavier_normal((300, 200), 4, 4).std() == pytest.approx(0.5, rel=0.02)
    assert initializers.kaiming_normal((300, 200), 4, 8, mode="fan_out").std() == pytest.approx(0.5, rel=0.02)
    assert initializers.lecun_normal((300, 200), fan_out=7).std() == pytest.approx(1 / math.sqrt(300), rel=0.02)


def test_what_draws_nothing():
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(initializers.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.ones((2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(initializers.constant((2,), value=7), [7, 7])
    np.testing.assert_array_equal(initializers.constant((2,)), [0, 0])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_uniform_and_normal_take_their_bounds():
    W = initializers.uniform((1000,), low=-3, high=-1)
    assert -3 <= W.min() < -2.9
    assert -1.1 < W.max() < -1
    W = initializers.normal((1000,), mean=5, std=0.1)
    assert (W.mean(), W.std()) == (pytest.approx(5, abs=0.02), pytest.approx(0.1, rel=0.1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_every_initialiser_keeps_to_shape_and_dtype(name, dtype):
    for shape in ((3, 4), (5, 4, 3, 2)):
        W = getattr(initializers, name)(shape, None, None, dtype)
        assert (W.shape, W.dtype) == (shape, dtype)
        assert W.flags.writeable
    assert getattr(initializers, name)((3, 4)).dtype == np.float32


@pytest.mark.parametrize("name", MAKERS)
def test_draws_come_from_the_one_source(name):
    def draw():
        return getattr(initializers, name)((6, 4))

    dezero.seed(3)
    first = draw()
    np.random.seed(99)
    dezero.seed(3)
    np.testing.assert_array_equal(draw(), first)
    dezero.seed(None)


def test_every_initialiser_takes_the_same_first_arguments():
    for name in initializers.__all__:
        parameters = list(inspect.signature(getattr(initializers, name)).parameters)
        assert parameters[:4] == ["shape", "fan_in", "fan_out", "dtype"], name


def test_aliases_are_the_same():
    assert initializers.glorot_uniform is initializers.xavier_uniform
    assert initializers.glorot_normal is initializers.xavier_normal
    assert initializers.he_uniform is initializers.kaiming_uniform
    assert initializers.he_normal is initializers.kaiming_normal


# ----------------------------------------------------------------------------------------------------------------------
# In layers
# ----------------------------------------------------------------------------------------------------------------------


# A layer, and what it hands on: the shape of W, fan_in and fan_out.
LAYERS = {
    "Linear": (lambda **k: L.Linear(5, in_size=4, **k), (4, 5), 4, 5),
    "Conv2d": (lambda **k: L.Conv2d(6, (3, 2), in_channels=4, **k), (6, 4, 3, 2), 24, 36),
    "Conv2d groups": (lambda **k: L.Conv2d(6, 3, in_channels=4, groups=2, **k), (6, 2, 3, 3), 18, 27),
    "Conv1d": (lambda **k: L.Conv1d(6, 3, in_channels=4, **k), (6, 4, 3), 12, 18),
    "Deconv2d": (lambda **k: L.Deconv2d(6, 3, in_channels=4, **k), (4, 6, 3, 3), 36, 54),
    "Deconv2d groups": (lambda **k: L.Deconv2d(6, 3, in_channels=4, groups=2, **k), (4, 3, 3, 3), 18, 27),
    "EmbedID": (lambda **k: L.EmbedID(4, 5, **k), (4, 5), 4, 5),
}
layers = pytest.mark.parametrize(("make", "shape", "fan_in", "fan_out"), LAYERS.values(), ids=LAYERS)


@layers
def test_layers_hand_on_what_the_initialiser_needs(make, shape, fan_in, fan_out):
    given = []

    def init(*args):
        given.append(args)
        return np.arange(math.prod(shape)).reshape(shape)

    layer = make(init_W=init)
    assert given == [(shape, fan_in, fan_out, np.float32)]
    assert layer.W.dtype == np.float32
    np.testing.assert_array_equal(layer.W.data.reshape(-1), np.arange(math.prod(shape)))


@layers
@pytest.mark.parametrize("name", initializers.__all__)
def test_layers_take_every_name(name, make, shape, fan_in, fan_out):
    np.random.seed(1)
    layer = make(init_W=name)
    np.random.seed(1)
    expected = getattr(initializers, name)(shape, fan_in, fan_out, np.float32)
    np.testing.assert_array_equal(layer.W.data, expected)


@layers
def test_layers_by_themselves_begin_as_they_always_did(make, shape, fan_in, fan_out):
    np.random.seed(1)
    layer = make()
    np.random.seed(1)
    expected = np.random.randn(*shape).astype(np.float32)
    if not isinstance(layer, L.EmbedID):
        expected = expected * np.float32(np.sqrt(1 / fan_in))
    np.testing.assert_array_equal(layer.W.data, expected)


def test_weights_made_at_the_first_call_are_begun_alike():
    late = L.Conv2d(4, 3, init_W="orthogonal")
    np.random.seed(5)
    early = L.Conv2d(4, 3, init_W="orthogonal", in_channels=2)
    np.random.seed(5)
    late(np.zeros((1, 2, 5, 5), np.float32))
    np.testing.assert_array_equal(early.W.data, late.W.data)


def test_biases_take_names_numbers_and_callables():
    assert L.Linear(3, in_size=2, init_b="ones").b.data.tolist() == [1, 1, 1]
    assert L.Linear(3, in_size=2, init_b=0.5).b.data.tolist() == [0.5] * 3
    assert L.Conv2d(3, 3, init_b=np.float64(2)).b.data.tolist() == [2, 2, 2]
    assert L.Conv2d(3, 3, init_b=lambda shape, *_: np.arange(3)).b.data.tolist() == [0, 1, 2]
    assert L.Linear(1000, init_b="normal").b.data.std() == pytest.approx(1, rel=0.1)
    assert L.Linear(3, init_b=1).b.dtype == np.float32


def test_what_an_initialiser_takes_besides_is_bound():
    layer = L.Linear(200, in_size=300, init_W=partial(initializers.normal, std=0.02))
    assert layer.W.data.std() == pytest.approx(0.02, rel=0.02)


def test_weights_are_the_layers_own():
    shared = np.ones((2, 2), np.float32)
    a, b = (L.Linear(2, in_size=2, init_W=lambda *_: shared) for _ in range(2))
    a.W.data += 1
    assert (shared == 1).all()
    assert (b.W.data == 1).all()


def test_weights_are_contiguous_whatever_a_callable_returns():
    layer = L.Linear(3, in_size=2, init_W=lambda *_: np.arange(6.0).reshape(3, 2).T)
    assert layer.W.data.flags.c_contiguous
    assert layer.W.data.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_a_callable_may_return_a_variable():
    layer = L.Linear(2, in_size=2, init_W=lambda *_: dezero.Variable(np.eye(2)))
    assert layer.W.data.tolist() == [[1, 0], [0, 1]]


def test_on_a_gpu_weights_are_drawn_by_numpy_too(gpu):
    for make in (lambda: L.Linear(4, init_W="orthogonal"), lambda: L.Conv1d(4, 1, init_W=0.5)):
        cpu, other = make(), make()
        other.to_gpu()
        x = np.ones((2, 3) if isinstance(cpu, L.Linear) else (2, 3, 4), np.float32)
        np.random.seed(0)
        cpu(x)
        np.random.seed(0)
        other(gpu.to(x))
        assert isinstance(other.W.data, gpu.cupy.ndarray)
        np.testing.assert_array_equal(cuda.as_numpy(other.W.data), cpu.W.data)


BAD = {
    "name": (lambda: L.Linear(2, init_W="xavier"), ValueError,
             r"Linear: there is no initialiser 'xavier' for init_W; there are constant, glorot_normal,"),
    "private name": (lambda: L.Linear(2, init_W="make"), ValueError, "there is no initialiser 'make'"),
    "bias name": (lambda: L.Conv2d(2, 3, init_b="zero"), ValueError,
                  "Conv2d: there is no initialiser 'zero' for init_b"),
    "none": (lambda: L.Linear(2, init_W=None), TypeError,
             r"Linear: init_W must be the name of an initialiser, a callable .* or a number, got NoneType"),
    "bool": (lambda: L.Linear(2, init_b=True), TypeError, "Linear: init_b must be the name .* got bool"),
    "array": (lambda: L.EmbedID(2, 3, init_W=np.zeros((2, 3))), TypeError, "EmbedID: init_W must be .* got ndarray"),
    "a bias has no fans": (lambda: L.Linear(2, init_b="kaiming_normal"), ValueError,
                           r"Linear: init_b: kaiming_normal: expected a shape of two axes or more, got \(2,\); a "),
    "an orthogonal bias": (lambda: L.Conv1d(2, 3, init_b="orthogonal"), ValueError,
                           r"Conv1d: init_b: orthogonal: expected a shape of two axes"),
    "shape": (lambda: L.Linear(2, in_size=3, init_W=lambda shape, *_: np.zeros(shape[::-1])), ValueError,
              r"Linear: init_W: expected the initialiser to return numbers of shape \(3, 2\), got float64 \(2, 3\)"),
    "text": (lambda: L.Linear(1, in_size=1, init_W=lambda *_: [["a"]]), ValueError, "to return numbers of shape"),
    "mode": (lambda: initializers.kaiming_normal((2, 3), mode="fan"), ValueError,
             "kaiming_normal: mode must be 'fan_in' or 'fan_out', got 'fan'"),
    "vector": (lambda: initializers.xavier_normal((3,)), ValueError, r"xavier_normal: expected a shape of two axes"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_initialisers_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_refused_draws_nothing():
    before = np.random.get_state()[1].copy()
    for bad in ({"init_b": "no"}, {"nobias": 3}, {"dtype": int}):
        with pytest.raises((TypeError, ValueError)):
            L.Linear(2, in_size=2, **bad)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
