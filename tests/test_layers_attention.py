"""MultiHeadAttention: PyTorch's values and gradients, masks, copies, misuse."""

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


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def make(*args, **options):
    layer = L.MultiHeadAttention(*args, **options)
    for i, part in enumerate((layer.query, layer.key, layer.value, layer.out)):
        if part.b is not None:
            part.b.data[:] = randn(*part.b.shape, seed=i)
    return layer


def torch_twin(torch, layer, dtype):
    E, parts = layer.embed_dim, (layer.query, layer.key, layer.value)
    module = torch.nn.MultiheadAttention(
        E, layer.num_heads, bias=layer.out.b is not None, kdim=layer.kdim, vdim=layer.vdim, batch_first=True
    )
    module = module.double() if dtype == np.float64 else module
    with torch.no_grad():
        if module.in_proj_weight is None:
            for name, part in zip("qkv", parts, strict=True):
                getattr(module, f"{name}_proj_weight").copy_(torch.tensor(part.W.data.T))
        else:
            module.in_proj_weight.copy_(torch.tensor(np.concatenate([part.W.data.T for part in parts])))
        module.out_proj.weight.copy_(torch.tensor(layer.out.W.data.T))
        if layer.out.b is not None:
            module.in_proj_bias.copy_(torch.tensor(np.concatenate([part.b.data for part in parts])))
            module.out_proj.bias.copy_(torch.tensor(layer.out.b.data))
    return module


PADDING = np.array([[False] * 7, [False] * 4 + [True] * 3])
ALLOWED = np.tril(np.ones((5, 7), bool), 2)
CASES = {
    "self": ({}, {}),
    "self, causal": ({}, {"is_causal": True}),
    "cross": ({}, {"cross": True}),
    "cross, other sizes": ({"kdim": 6, "vdim": 10}, {"cross": True}),
    "no biases": ({"nobias": True}, {"cross": True}),
    "padding": ({}, {"cross": True, "key_padding_mask": PADDING}),
    "booleans": ({}, {"cross": True, "attn_mask": ALLOWED}),
    "booleans and padding": ({}, {"cross": True, "attn_mask": ALLOWED, "key_padding_mask": PADDING}),
    "numbers": ({}, {"cross": True, "attn_mask": randn(5, 7, seed=8)}),
    "numbers and padding": ({}, {"cross": True, "attn_mask": randn(5, 7, seed=8), "key_padding_mask": PADDING}),
}


def torch_masks(torch, call, x):
    """PyTorch's masks: booleans are True where nothing is seen, and both masks are of one kind."""
    masks = {name: torch.tensor(mask) for name, mask in call.items() if name != "is_causal"}
    if call.get("is_causal"):
        return {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)}
    mask = masks.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        masks["attn_mask"] = ~mask
    elif mask is not None:
        masks["attn_mask"] = mask.to(x)
        if "key_padding_mask" in masks:
            masks["key_padding_mask"] = torch.zeros(2, 7).to(x).masked_fill(masks["key_padding_mask"], -torch.inf)
    return masks


@pytest.mark.parametrize(("options", "call"), CASES.values(), ids=CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_values_and_gradients_are_those_of_torch(options, call, dtype, tolerance):
    torch = pytest.importorskip("torch")
    layer, call = make(8, 2, dtype=dtype, **options), dict(call)
    module = torch_twin(torch, layer, dtype)
    xs = [Variable(randn(2, 5, 8, dtype=dtype))]
    if call.pop("cross", False):
        xs += [Variable(randn(2, 7, size, seed=i, dtype=dtype)) for i, size in enumerate((layer.kdim, layer.vdim), 1)]
    y = layer(*xs, **call)

    theirs = [torch.tensor(x.data, requires_grad=True) for x in xs]
    masks = torch_masks(torch, call, theirs[0])
    y_torch, _ = module(*(theirs if len(theirs) > 1 else theirs * 3), **masks)

    w = randn(*y.shape, seed=30, dtype=dtype)
    F.sum(y * w).backward()
    (y_torch * torch.tensor(w)).sum().backward()

    def close(found, wanted):
        wanted = wanted.detach().numpy()
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max()))

    close(y.data, y_torch)
    for x, x_torch in zip(xs, theirs, strict=True):
        close(x.grad.data, x_torch.grad)
    close(layer.out.W.grad.data.T, module.out_proj.weight.grad)
    grads = [part.W.grad.data.T for part in (layer.query, layer.key, layer.value)]
    if module.in_proj_weight is not None:
        close(np.concatenate(grads), module.in_proj_weight.grad)
    else:
        for name, grad in zip("qkv", grads, strict=True):
            close(grad, getattr(module, f"{name}_proj_weight").grad)
    if layer.out.b is not None:
        close(np.concatenate([p.b.grad.data for p in (layer.query, layer.key, layer.value)]), module.in_proj_bias.grad)
        close(layer.out.b.grad.data, module.out_proj.bias.grad)


def test_by_default_keys_are_the_queries_and_values_the_keys():
    layer, x, other = make(8, 2), randn(2, 5, 8), randn(2, 7, 8, seed=1)
    np.testing.assert_array_equal(layer(x).data, layer(x, x, x).data)
    np.testing.assert_array_equal(layer(x, other).data, layer(x, key=other, value=other).data)


def test_one_head_is_one_attention():
    layer, x = make(8, 1), randn(2, 5, 8)
    wanted = layer.out(F.scaled_dot_product_attention(layer.query(x), layer.key(x), layer.value(x)))
    np.testing.assert_allclose(layer(x).data, wanted.data, rtol=1e-5, atol=1e-6)


def test_heads_do_not_see_each_other():
    layer, x = make(8, 4), randn(2, 5, 8)
    before = layer(x).data
    layer.out.W.data[2:4] = 0  # the second head counts no more
    without = layer(x).data
    layer.value.W.data[:, 2:4] += 1
    np.testing.assert_array_equal(layer(x).data, without)
    assert not np.allclose(before, without)


@pytest.mark.parametrize("lead", [(), (3,), (3, 2)])
def test_any_number_of_first_axes(lead):
    layer, x = make(8, 2), randn(*lead, 5, 8)
    padding = np.zeros((*lead, 5), bool)
    padding[..., -1] = True
    y = layer(x, key_padding_mask=padding)
    assert y.shape == x.shape
    last = (0,) * len(lead)
    np.testing.assert_allclose(y.data[last], layer(x[last], key_padding_mask=padding[last]).data, rtol=1e-4, atol=1e-6)


def test_a_batch_of_nothing():
    layer = make(6, 2)
    y = layer(randn(0, 4, 6))
    y.sum().backward()
    assert y.shape == (0, 4, 6)
    assert not layer.query.W.grad.data.any()


def test_what_is_padded_does_not_count():
    layer, x = make(8, 2), randn(2, 7, 8)
    y = layer(x, key_padding_mask=PADDING)
    alone = layer(x[1:, :4])
    np.testing.assert_allclose(y.data[1:, :4], alone.data, rtol=1e-4, atol=1e-6)
    x[1, 4:] += 100
    np.testing.assert_array_equal(layer(x, key_padding_mask=PADDING).data[1, :4], y.data[1, :4])


def test_a_query_that_no_key_is_left_for_sees_zeros():
    layer, x = make(8, 2), randn(2, 7, 8)
    given = Variable(x)
    y = layer(given, key_padding_mask=np.array([[True] * 7, [False] * 7]))
    np.testing.assert_allclose(y.data[0], np.broadcast_to(layer.out.b.data, (7, 8)))
    F.sum(y).backward()
    assert np.isfinite(given.grad.data).all()


def test_a_mask_for_each_head():
    layer, x = make(8, 2), randn(2, 5, 8)
    mask = np.ones((2, 2, 5, 5), bool)
    np.testing.assert_array_equal(layer(x, attn_mask=mask).data, layer(x).data)
    mask[0, 1, :, 3] = False
    found = layer(x, attn_mask=mask).data
    np.testing.assert_array_equal(found[1], layer(x).data[1])
    assert not np.allclose(found[0], layer(x).data[0])


def test_the_future_is_not_seen():
    layer, x = make(8, 2), randn(1, 6, 8)
    y = layer(x, is_causal=True).data
    x[0, 4:] += 10
    np.testing.assert_array_equal(layer(x, is_causal=True).data[0, :4], y[0, :4])


def test_dropout_while_training_alone():
    layer, plain, x = make(8, 2, dropout=0.5), make(8, 2), randn(2, 5, 8)
    for p, q in zip(layer.params(), plain.params(), strict=True):
        p.data = q.data
    assert not np.allclose(layer(x).data, plain(x).data)
    with test_mode():
        np.testing.assert_array_equal(layer(x).data, plain(x).data)


def test_weights_names_repr_and_work():
    layer = L.MultiHeadAttention(8, 2, kdim=6)
    parts = ["query", "key", "value", "out"]
    assert [name for name, _ in layer.named_params()] == [f"{part}/{name}" for part in parts for name in ("W", "b")]
    assert layer.key.W.shape == (6, 8)
    assert repr(layer).splitlines()[0].startswith("MultiHeadAttention(embed_dim=8, num_heads=2, kdim=6")
    found = L.MultiHeadAttention(8, 2).summary((2, 5, 8), show=False)
    assert found.multiply_adds == 4 * 2 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 8
    assert (L.MultiHeadAttention(8, 2, init_W="ones", init_b=2).out.W.data == 1).all()
    assert L.MultiHeadAttention(8, 2, dtype=np.float64).out.W.dtype == np.float64


def test_copies_pickles_and_weights_on_disk(tmp_path):
    layer, x = make(8, 2), randn(2, 5, 8)
    y = layer(x).data
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x).data, y)
    layer.save_weights(tmp_path / "w")
    fresh = make(8, 2)
    fresh.load_weights(tmp_path / "w")
    np.testing.assert_array_equal(fresh(x).data, y)


@pytest.mark.parametrize("name", ["self, causal", "booleans and padding", "numbers and padding"])
def test_on_a_gpu(gpu, name):
    options, call = CASES[name]
    call = dict(call)
    layer = make(8, 2, **options)
    twin = copy.deepcopy(layer)
    twin.to_gpu()
    xs = [randn(2, 5, 8)] + ([randn(2, 7, 8, seed=1)] if call.pop("cross", False) else [])
    answers = []
    for net, to in ((layer, lambda x: x), (twin, gpu.to)):
        given = [Variable(to(x)) for x in xs]
        y = net(*given, **{name: to(mask) for name, mask in call.items()})
        F.sum(y * y).backward()
        answers.append([y, *(x.grad for x in given), *(p.grad for p in net.params())])
    for wanted, found in zip(*answers, strict=True):
        assert isinstance(found.data, gpu.cupy.ndarray)
        np.testing.assert_allclose(cuda.as_numpy(found.data), wanted.data, rtol=1e-4, atol=1e-4)


def test_masks_on_the_gpu_of_another_device_are_refused(gpu):
    layer = make(8, 2)
    layer.to_gpu()
    x = gpu.to(randn(2, 7, 8))
    for call in ({"key_padding_mask": PADDING}, {"attn_mask": gpu.to(PADDING[0]), "key_padding_mask": PADDING}):
        with pytest.raises(TypeError, match="different devices"):
            layer(x, **call)


X = randn(2, 7, 8)
BAD = {
    "embed_dim": (lambda: L.MultiHeadAttention(0, 1), ValueError, "embed_dim must be a positive int, got 0"),
    "num_heads": (lambda: L.MultiHeadAttention(8, 1.0), ValueError, r"num_heads must be a positive int, got 1\.0"),
    "division": (lambda: L.MultiHeadAttention(8, 3), ValueError, "num_heads must divide embed_dim, got 3 and 8"),
    "dropout": (lambda: L.MultiHeadAttention(8, 2, dropout=-1), ValueError, r"dropout must lie in 0\.\.1, got -1"),
    "kdim": (lambda: L.MultiHeadAttention(8, 2, kdim=0), ValueError, "kdim must be a positive int, got 0"),
    "query": (lambda: make(8, 2)(X[..., :7]), ValueError, r"expected query \(..., length, 8\), got \(2, 7, 7\)"),
    "query axes": (lambda: make(8, 2)(X[0, 0]), ValueError, r"expected query \(..., length, 8\), got \(8,\)"),
    "key": (lambda: make(8, 2)(X, X[..., :7]), ValueError, r"expected key \(..., length, 8\), got \(2, 7, 7\)"),
    "value": (lambda: make(8, 2, vdim=4)(X, X, X), ValueError, r"expected value \(..., length, 4\), got \(2, 7, 8\)"),
    "batches": (lambda: make(8, 2)(X, X[:1]), ValueError, "expected query, key and value of equal first"),
    "values": (lambda: make(8, 2)(X, X, X[:, :5]), ValueError, "expected query, key and value of equal first"),
    "padding": (lambda: make(8, 2)(X, key_padding_mask=PADDING[:, :5]), ValueError,
                r"key_padding_mask must have shape \(2, 7\), one for each key, got \(2, 5\)"),
    "padding of numbers": (lambda: make(8, 2)(X, key_padding_mask=PADDING.astype(int)), TypeError,
                           "key_padding_mask must be booleans, True where a key is padding, got int64; of 0 and 1"),
    "list": (lambda: make(8, 2)([1.0]), TypeError, "expected Variables, arrays or numbers, got list"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=f"^MultiHeadAttention: {message}"):
        call()


def test_a_mask_that_does_not_fit_is_refused_by_the_operation():
    with pytest.raises(ValueError, match=r"attn_mask \(5, 6\) does not broadcast to the scores \(2, 2, 7, 7\)"):
        make(8, 2)(X, attn_mask=np.ones((5, 6), bool))
