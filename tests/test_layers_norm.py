"""Normalisation that needs no statistics of other samples, and dropout: PyTorch's values, weights, misuse."""

import copy
import pickle

import numpy as np
import pytest

from dezero import cuda
from dezero import functions as F
from dezero import layers as L
from dezero.core import Variable, test_mode


def randn(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def names(layer):
    return [name for name, _ in layer.named_params()]


# A layer, the shape of its gamma and beta, PyTorch's, and x.
KINDS = {
    "layer": (lambda **k: L.LayerNorm(**k), (5,), lambda nn, **k: nn.LayerNorm(5, **k), (4, 3, 5)),
    "layer, two axes": (lambda **k: L.LayerNorm((3, 5), **k), (3, 5), lambda nn, **k: nn.LayerNorm((3, 5), **k),
                        (4, 3, 5)),
    "layer, an int": (lambda **k: L.LayerNorm(5, **k), (5,), lambda nn, **k: nn.LayerNorm(5, **k), (4, 5)),
    "group": (lambda **k: L.GroupNorm(3, **k), (6,), lambda nn, **k: nn.GroupNorm(3, 6, **k), (4, 6, 5, 2)),
    "group, channels": (lambda **k: L.GroupNorm(2, 6, **k), (6,), lambda nn, **k: nn.GroupNorm(2, 6, **k), (4, 6)),
    "instance": (lambda **k: L.InstanceNorm(affine=True, **k), (6,),
                 lambda nn, **k: nn.InstanceNorm2d(6, affine=True, **k), (4, 6, 5, 2)),
    "instance, channels": (lambda **k: L.InstanceNorm(6, affine=True, **k), (6,),
                           lambda nn, **k: nn.InstanceNorm1d(6, affine=True, **k), (4, 6, 5)),
}  # fmt: skip
norms = pytest.mark.parametrize(("make", "shape", "theirs", "x_shape"), KINDS.values(), ids=KINDS)


@norms
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_values_and_gradients_are_those_of_torch(make, shape, theirs, x_shape, dtype, tolerance):
    torch = pytest.importorskip("torch")
    layer, module = make(dtype=dtype, eps=1e-3), theirs(torch.nn, eps=1e-3)
    module = module.double() if dtype == np.float64 else module
    x, w = 2 + 3 * randn(*x_shape, dtype=dtype), randn(*x_shape, seed=1, dtype=dtype)
    layer(x)
    layer.gamma.data, layer.beta.data = randn(*shape, seed=2, dtype=dtype), randn(*shape, seed=3, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(layer.gamma.data))
        module.bias.copy_(torch.tensor(layer.beta.data))
    given, x_torch = Variable(x), torch.tensor(x, requires_grad=True)
    y, y_torch = layer(given), module(x_torch)
    F.sum(y * w).backward()
    (y_torch * torch.tensor(w)).sum().backward()
    pairs = [(y, y_torch), (given.grad, x_torch.grad), (layer.gamma.grad, module.weight.grad)]
    for found, wanted in [*pairs, (layer.beta.grad, module.bias.grad)]:
        assert found.dtype == dtype
        np.testing.assert_allclose(found.data, wanted.detach().numpy(), rtol=tolerance, atol=10 * tolerance)


@norms
def test_gamma_and_beta_start_at_one_and_zero(make, shape, theirs, x_shape):
    layer = make()
    assert names(layer) == ["gamma", "beta"]
    assert not any(p.is_buffer for p in layer.params())
    layer(randn(*x_shape))
    assert (layer.gamma.shape, layer.gamma.dtype, layer.beta.dtype) == (shape, np.float32, np.float32)
    assert (layer.gamma.data == 1).all()
    assert not layer.beta.data.any()
    gamma = layer.gamma.data
    layer(randn(*x_shape))
    assert layer.gamma.data is gamma


@norms
def test_without_gamma_and_beta(make, shape, theirs, x_shape):
    if make().__class__ is L.InstanceNorm:
        layer = L.InstanceNorm()
    else:
        layer = make(affine=False)
    x = randn(*x_shape)
    assert names(layer) == []
    np.testing.assert_array_equal(layer(x).data, make()(x).data)


@norms
def test_use_is_as_training(make, shape, theirs, x_shape):
    layer, x = make(), randn(*x_shape)
    y = layer(x)
    with test_mode():
        np.testing.assert_array_equal(layer(x).data, y.data)


@norms
def test_copies_pickles_and_weights_on_disk(make, shape, theirs, x_shape, tmp_path):
    layer, x = make(), randn(*x_shape)
    layer(x)
    layer.gamma.data = randn(*shape, seed=4)
    y = layer(x).data
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x).data, y)
    layer.save_weights(tmp_path / "w")
    fresh = make()
    fresh.load_weights(tmp_path / "w")
    np.testing.assert_array_equal(fresh(x).data, y)


@norms
def test_on_a_gpu(gpu, make, shape, theirs, x_shape):
    layer, twin, x = make(), make(), randn(*x_shape)
    wanted = layer(x).data
    if twin.gamma.data is not None:
        twin.to_gpu()  # else gamma and beta are made where x is
    np.testing.assert_allclose(cuda.as_numpy(twin(gpu.to(x)).data), wanted, rtol=1e-5, atol=1e-5)
    assert {type(p.data) for p in twin.params()} == {gpu.cupy.ndarray}
    twin.to_cpu()
    np.testing.assert_array_equal(twin(x).data, wanted)


def test_batch_norm_takes_decay_and_eps():
    norm, x = L.BatchNorm(decay=0.5, eps=1.0), randn(10, 3)
    y = norm(x)
    np.testing.assert_allclose(norm.avg_mean.data, 0.5 * x.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.data, (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1), rtol=1e-4, atol=1e-5)
    assert repr(norm) == "BatchNorm(decay=0.5, eps=1.0)  6 parameters"


# ----------------------------------------------------------------------------------------------------------------------
# Dropout
# ----------------------------------------------------------------------------------------------------------------------


def test_dropout_drops_while_training_and_keeps_in_use():
    layer, x = L.Dropout(0.25), Variable(np.ones((200, 50), np.float32))
    np.random.seed(0)
    y = layer(x)
    np.random.seed(0)
    np.testing.assert_array_equal(y.data, F.dropout(x, 0.25).data)
    assert abs((y.data == 0).mean() - 0.25) < 0.02
    with test_mode():
        assert layer(x) is x
    assert repr(L.Dropout()) == "Dropout()  0 parameters"
    assert repr(layer) == "Dropout(dropout_ratio=0.25)  0 parameters"
    assert names(layer) == []


# ----------------------------------------------------------------------------------------------------------------------
# What is refused
# ----------------------------------------------------------------------------------------------------------------------

BAD = {
    "LayerNorm sizes": (lambda: L.LayerNorm((3, 0)), r"LayerNorm: normalized_shape must be positive ints, got \(3, 0"),
    "LayerNorm no sizes": (lambda: L.LayerNorm(()), r"LayerNorm: normalized_shape must be positive ints, got \(\)"),
    "LayerNorm text": (lambda: L.LayerNorm("5"), "LayerNorm: normalized_shape must be"),
    "LayerNorm eps": (lambda: L.LayerNorm(5, eps=-1.0), r"LayerNorm: eps must be at least 0, got -1\.0"),
    "LayerNorm dtype": (lambda: L.LayerNorm(5, dtype=int), "LayerNorm: dtype must be floating"),
    "LayerNorm number": (lambda: L.LayerNorm()(np.array(1.0)), r"LayerNorm: expected x \(..., D\) with D > 0, got \("),
    "LayerNorm empty": (lambda: L.LayerNorm()(np.zeros((3, 0))), r"LayerNorm: expected x .* got \(3, 0\)"),
    "LayerNorm x": (lambda: L.LayerNorm(5)(np.zeros((3, 4))), r"layer_norm: normalized_shape must be the sizes of"),
    "GroupNorm groups": (lambda: L.GroupNorm(0), "GroupNorm: num_groups must be a positive int, got 0"),
    "GroupNorm channels": (lambda: L.GroupNorm(2, 3), "GroupNorm: num_groups must divide the channels, got 2 and 3"),
    "GroupNorm x": (lambda: L.GroupNorm(2)(np.zeros((1, 3))), "GroupNorm: num_groups must divide the channels, got 2 "),
    "GroupNorm axes": (lambda: L.GroupNorm(2)(np.zeros(4)), r"GroupNorm: x must have shape \(N, C, ...\), got \(4,\)"),
    "GroupNorm other channels": (lambda: L.GroupNorm(2, 4)(np.zeros((1, 6))), "group_norm: gamma must have shape"),
    "InstanceNorm channels": (lambda: L.InstanceNorm(0), "InstanceNorm: channels must be a positive int, got 0"),
    "InstanceNorm x": (lambda: L.InstanceNorm()(np.zeros((2, 3))), r"InstanceNorm: x must have shape .* got \(2, 3\)"),
    "Dropout": (lambda: L.Dropout(1.5), r"Dropout: dropout_ratio must lie in 0\.\.1, got 1\.5"),
    "BatchNorm decay": (lambda: L.BatchNorm(decay=2), r"BatchNorm: decay must lie in 0\.\.1, got 2"),
    "BatchNorm eps": (lambda: L.BatchNorm(eps=-1), "BatchNorm: eps must be at least 0, got -1"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    "call", [lambda: L.LayerNorm(5, affine="no"), lambda: L.GroupNorm(1, affine=3), lambda: L.InstanceNorm(affine=None)]
)
def test_affine_is_true_or_false(call):
    with pytest.raises(TypeError, match="Norm: affine must be True or False, got"):
        call()


@pytest.mark.parametrize(
    ("layer", "wrong", "right"),
    [
        (L.LayerNorm(), (3, 0), (3, 4)),
        (L.GroupNorm(2), (1, 3), (1, 4)),
        (L.InstanceNorm(affine=True), (2, 3), (2, 4, 5)),
    ],
)
def test_a_first_call_that_fails_makes_nothing(layer, wrong, right):
    with pytest.raises(ValueError, match=f"^{type(layer).__name__}: "):
        layer(np.ones(wrong, np.float32))
    assert layer.gamma.data is None
    layer(np.ones(right, np.float32))


@pytest.mark.parametrize("layer", [L.LayerNorm(), L.GroupNorm(1), L.InstanceNorm(), L.Dropout()])
@pytest.mark.parametrize("bad", [[[1.0, 2.0]], None, "text"], ids=lambda bad: type(bad).__name__)
def test_what_is_no_array_is_refused(layer, bad):
    with pytest.raises(TypeError, match=r"^\w+: expected Variables, arrays or numbers, got"):
        layer(bad)
