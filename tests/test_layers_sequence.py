"""Recurrent layers over whole sequences: PyTorch's values and gradients, steps one by one, states, and misuse."""

import copy
import pickle

import numpy as np
import pytest
import simulated_cublas

import dezero
from dezero import cuda, functions_sequence, kernels, optimizers
from dezero import functions as F
from dezero import layers as L
from dezero.core import Variable, no_grad, test_mode
from dezero.functions_sequence import GRUSequence, LSTMSequence, RNNSequence

KINDS = ["RNN", "LSTM", "GRU"]
kinds = pytest.mark.parametrize("kind", KINDS)
STATES = {"RNN": 1, "LSTM": 2, "GRU": 1}


def randn(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def make(kind, *args, **options):
    """A layer whose biases are not 0."""
    layer = getattr(L, f"Sequence{kind}")(*args, **options)
    for i, p in enumerate(layer.params()):
        if p.name in ("b", "d"):
            p.data[:] = randn(*p.shape, seed=i)
    return layer


def first_state(kind, shape, dtype=np.float32):
    parts = tuple(Variable(randn(*shape, seed=9 + i, dtype=dtype)) for i in range(STATES[kind]))
    return parts if len(parts) > 1 else parts[0]


def as_tuple(state):
    return state if isinstance(state, tuple) else (state,)


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch
# ----------------------------------------------------------------------------------------------------------------------

# Where our gates stand in PyTorch's order.
GATES = {"RNN": [0], "LSTM": [1, 0, 3, 2], "GRU": [0, 1, 2]}  # i f u o there, f i o u here


def reordered(kind, W):
    """Columns as PyTorch has them."""
    parts = np.split(W, len(GATES[kind]), axis=-1)
    return np.concatenate([parts[i] for i in GATES[kind]], axis=-1)


def of_torch(kind, cell):
    """Our arrays by PyTorch's names."""
    yield "weight_ih", lambda get: reordered(kind, get(cell.Wx)).T
    yield "weight_hh", lambda get: reordered(kind, get(cell.Wh)).T
    yield "bias_ih", lambda get: reordered(kind, get(cell.b))


def torch_twin(torch, layer, kind, in_size):
    options = {name: getattr(layer, name) for name in ("num_layers", "bidirectional", "batch_first", "dropout")}
    dtype = torch.float64 if layer.dtype == np.float64 else torch.float32
    module = getattr(torch.nn, kind)(in_size, layer.hidden_size, dtype=dtype, **options)
    H = layer.hidden_size
    with torch.no_grad():
        for suffix, cell in cells(layer):
            for name, value in of_torch(kind, cell):
                getattr(module, f"{name}_{suffix}").copy_(torch.tensor(value(lambda p: p.data)))
            bias = np.zeros(len(GATES[kind]) * H)
            if kind == "GRU":
                bias[2 * H :] = cell.d.data
            getattr(module, f"bias_hh_{suffix}").copy_(torch.tensor(bias))
    return module


def cells(layer):
    for name, part in vars(layer).items():
        if isinstance(part, L.Layer):
            yield name, part


def close(found, wanted, tolerance):
    """Within `tolerance` of the largest of what is wanted."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max()))


SHAPES = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "both directions": {"bidirectional": True},
    "two layers, both directions, batch first": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


@kinds
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 7, 1]])
def test_values_and_gradients_are_those_of_torch(kind, options, dtype, tolerance, with_state, lengths):
    torch = pytest.importorskip("torch")
    layer = make(kind, 5, in_size=4, dtype=dtype, **options)
    module = torch_twin(torch, layer, kind, 4)
    x = Variable(randn(*((3, 7, 4) if layer.batch_first else (7, 3, 4)), dtype=dtype))
    directions = 2 if layer.bidirectional else 1
    state = first_state(kind, (layer.num_layers * directions, 3, 5), dtype) if with_state else None

    y, last = layer(x, state, lengths)
    x_torch = torch.tensor(x.data, requires_grad=True)
    states_torch = [torch.tensor(s.data, requires_grad=True) for s in as_tuple(state)] if with_state else []
    state_torch = (tuple(states_torch) if kind == "LSTM" else states_torch[0]) if with_state else None
    if lengths is None:
        y_torch, last_torch = module(x_torch, state_torch)
    else:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x_torch, torch.tensor(lengths), layer.batch_first, enforce_sorted=False)
        packed, last_torch = module(packed, state_torch)
        y_torch, _ = rnn.pad_packed_sequence(packed, layer.batch_first)

    outputs, outputs_torch = (y, *as_tuple(last)), (y_torch, *as_tuple(last_torch))
    weights = [randn(*out.shape, seed=20 + i, dtype=dtype) for i, out in enumerate(outputs)]
    for found, wanted in zip(outputs, outputs_torch, strict=True):
        assert found.dtype == dtype
        close(found.data, wanted.detach(), tolerance)
    sum(F.sum(out * w) for out, w in zip(outputs, weights, strict=True)).backward()
    sum((out * torch.tensor(w)).sum() for out, w in zip(outputs_torch, weights, strict=True)).backward()
    close(x.grad.data, x_torch.grad, tolerance)
    for found, wanted in zip(as_tuple(state) if with_state else (), states_torch, strict=True):
        close(found.grad.data, wanted.grad, tolerance)
    for suffix, cell in cells(layer):
        for name, value in of_torch(kind, cell):
            close(value(lambda p: p.grad.data), getattr(module, f"{name}_{suffix}").grad, tolerance)
        if kind == "GRU":
            close(cell.d.grad.data, getattr(module, f"bias_hh_{suffix}").grad[10:], tolerance)
        assert cell.Wx.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gru_a_step_a_call_is_that_of_torch(dtype):
    torch = pytest.importorskip("torch")
    layer = L.GRU(5, in_size=4)
    for i, p in enumerate(layer.params()):
        p.data = randn(*p.shape, seed=i, dtype=dtype)
    module = torch.nn.GRU(4, 5, dtype=torch.float64 if dtype == np.float64 else torch.float32)
    values = {
        "weight_ih_l0": np.concatenate([getattr(layer, f"x2{k}").W.data.T for k in "rzn"]),
        "weight_hh_l0": np.concatenate([getattr(layer, f"h2{k}").W.data.T for k in "rzn"]),
        "bias_ih_l0": np.concatenate([getattr(layer, f"x2{k}").b.data for k in "rzn"]),
        "bias_hh_l0": np.concatenate([np.zeros(10), layer.h2n.b.data]),
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(torch.tensor(value))
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    xs = [Variable(randn(3, 4, seed=t, dtype=dtype)) for t in range(6)]
    x_torch = torch.tensor(np.stack([x.data for x in xs]), requires_grad=True)
    ys = [layer(x) for x in xs]
    y_torch = module(x_torch)[0]
    close(np.stack([y.data for y in ys]), y_torch.detach(), tolerance)
    weights = randn(6, 3, 5, seed=50, dtype=dtype)
    sum(F.sum(y * w) for y, w in zip(ys, weights, strict=True)).backward()
    (y_torch * torch.tensor(weights)).sum().backward()
    close(np.stack([x.grad.data for x in xs]), x_torch.grad, tolerance)
    close(layer.h2n.b.grad.data, module.bias_hh_l0.grad[10:], tolerance)
    for k, grad in zip("rzn", np.split(module.weight_hh_l0.grad.numpy(), 3), strict=True):
        close(getattr(layer, f"h2{k}").W.grad.data.T, grad, tolerance)


# ----------------------------------------------------------------------------------------------------------------------
# Steps one by one
# ----------------------------------------------------------------------------------------------------------------------


def steps_of(kind, cell):
    """The layer that takes a step a call, with the weights of a cell."""
    layer = getattr(L, kind)(cell.hidden_size, in_size=cell.in_size)
    names = {"RNN": "h", "LSTM": "fiou", "GRU": "rzn"}[kind]
    for source, prefix in ((cell.Wx, "x2"), (cell.Wh, "h2")):
        for name, W in zip(names, np.split(source.data, len(names), axis=1), strict=True):
            getattr(layer, prefix + name).W.data = W.copy()
    for name, b in zip(names, np.split(cell.b.data, len(names)), strict=True):
        getattr(layer, f"x2{name}").b.data = b.copy()
    if kind == "GRU":
        layer.h2n.b.data = cell.d.data.copy()
    return layer


@kinds
@pytest.mark.parametrize("backend", list(kernels.BACKENDS))
def test_a_sequence_is_its_steps_one_by_one(kind, backend):
    layer = make(kind, 64, in_size=32, dtype=np.float64)
    steps = steps_of(kind, layer.l0)
    x = randn(5, 20, 32, dtype=np.float64)
    one, other = Variable(x), [Variable(part) for part in x]
    with kernels.using_kernels(backend):
        y, state = layer(one)
        ys = [steps(part) for part in other]
        F.sum(y * y).backward()
        sum(F.sum(part * part) for part in ys).backward()
    close(y.data, [part.data for part in ys], 1e-12)
    close(one.grad.data, [part.grad.data for part in other], 1e-12)
    close(as_tuple(state)[0].data[0], ys[-1].data, 1e-12)
    if kind == "LSTM":
        close(state[1].data[0], steps.c.data, 1e-12)


def simple(sequence, *inputs):
    """The same steps, composed of F's operations."""
    sums, Wh, h, *rest = inputs
    H, ys = Wh.shape[0], []
    c, outputs = (rest[0] if isinstance(sequence, LSTMSequence) else None), []
    for t in range(len(sums)):
        y = sums[t] + F.matmul(h, Wh) if not isinstance(sequence, GRUSequence) else None
        if isinstance(sequence, RNNSequence):
            h = F.tanh(y)
        elif isinstance(sequence, LSTMSequence):
            f, i, o = (F.sigmoid(y[:, k * H : (k + 1) * H]) for k in range(3))
            c = f * c + i * F.tanh(y[:, 3 * H :])
            h = o * F.tanh(c)
            outputs.append(o)
        else:
            m, s = F.matmul(h, Wh), sums[t]
            r, z = (F.sigmoid(s[:, k * H : (k + 1) * H] + m[:, k * H : (k + 1) * H]) for k in range(2))
            n = F.tanh(s[:, 2 * H :] + r * (m[:, 2 * H :] + rest[0]))
            h = (1 - z) * n + z * h
        ys.append(c if isinstance(sequence, LSTMSequence) else h)
    return (F.stack(ys), F.stack(outputs)) if outputs else F.stack(ys)


SEQUENCES = {
    RNNSequence: [(4, 3, 2), (2, 2), (3, 2)],
    LSTMSequence: [(4, 3, 8), (2, 8), (3, 2), (3, 2)],
    GRUSequence: [(4, 3, 6), (2, 6), (3, 2), (2,)],
}


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", SEQUENCES, ids=lambda kind: kind.__name__)
def test_a_sequence_in_one_node_is_that_of_f(kind, order):
    """Gradients of the first order come from arrays, those of the others from a graph."""
    answers = []
    for walk in (lambda *xs: kind()(*xs), lambda *xs: simple(kind(), *xs)):
        xs = [Variable(randn(*shape, seed=i, dtype=np.float64)) for i, shape in enumerate(SEQUENCES[kind])]
        outputs = walk(*xs)
        results = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        y = sum(F.sum(F.sin(a) * randn(*a.shape, seed=20 + i)) for i, a in enumerate(results))
        for turn in range(1, order + 1):
            results = [*results, *dezero.grad(y, xs, create_graph=turn < order)]
            if turn < order:
                y = sum(F.sum(F.sin(g)) for g in results[-len(xs) :])
        answers.append(results)
    for found, wanted in zip(*answers, strict=True):
        np.testing.assert_allclose(found.data, wanted.data, rtol=1e-10, atol=1e-12)


@kinds
def test_gradients_of_the_first_order_come_from_arrays(kind, monkeypatch):
    layer = make(kind, 5)
    y, _ = layer(randn(4, 3, 2))
    monkeypatch.setattr(functions_sequence, "_OnVariables", lambda: pytest.fail("a graph"))
    F.sum(y).backward()


@kinds
def test_a_walk_is_a_few_nodes(kind):
    layer = make(kind, 5)
    y, _ = layer(randn(50, 3, 4))
    assert len(list(dezero.core.nodes_behind([y], lambda x: False))) <= 4


# ----------------------------------------------------------------------------------------------------------------------
# States
# ----------------------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("layers", [1, 2])
def test_a_sequence_in_two_halves_with_the_state_handed_on(kind, layers):
    layer, x = make(kind, 5, num_layers=layers), randn(8, 3, 4)
    whole, last = layer(x)
    first, state = layer(x[:3])
    second, state = layer(x[3:], state)
    close(np.concatenate([first.data, second.data]), whole.data, 1e-6)
    for found, wanted in zip(as_tuple(state), as_tuple(last), strict=True):
        close(found.data, wanted.data, 1e-6)


@kinds
def test_nothing_is_kept_between_calls(kind):
    layer, x = make(kind, 5), randn(8, 3, 4)
    first = layer(x)[0].data
    np.testing.assert_array_equal(layer(x)[0].data, first)


@kinds
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_unchain_backward_cuts_what_came_before_the_state(kind, options):
    """As the book's truncated backpropagation does: the loss of one part is cut before the next part goes on."""
    layer = make(kind, 5, in_size=4, **options)
    early, late = Variable(randn(6, 6, 4)), Variable(randn(6, 6, 4, seed=1))
    y, state = layer(early)
    loss = F.sum(y)
    loss.unchain_backward()
    y, _ = layer(late, state)
    F.sum(y).backward()
    expected = [p.grad.data.copy() for p in layer.params()]
    assert early.grad is None
    layer.cleargrads()
    values = tuple(s.data for s in as_tuple(state))
    y, _ = layer(late.data, values if kind == "LSTM" else values[0])
    F.sum(y).backward()
    for p, wanted in zip(layer.params(), expected, strict=True):
        np.testing.assert_array_equal(p.grad.data, wanted)


@kinds
def test_the_state_carries_gradients_until_it_is_cut(kind):
    layer, x = make(kind, 5), Variable(randn(3, 2, 4))
    _, state = layer(x)
    F.sum(layer(randn(3, 2, 4), state)[0]).backward()
    assert np.abs(x.grad.data).min() > 0


# ----------------------------------------------------------------------------------------------------------------------
# Lengths, directions, dropout
# ----------------------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_each_sequence_of_a_padded_batch_is_as_it_is_alone(kind, options):
    layer = make(kind, 5, in_size=4, **options)
    lengths = [3, 6, 1]
    x = randn(6, 3, 4)
    for n, length in enumerate(lengths):
        x[length:, n] = np.nan  # whatever stands there
    given = Variable(x.swapaxes(0, 1).copy() if layer.batch_first else x)
    y, state = layer(given, lengths=np.array(lengths))
    F.sum(y).backward()
    turned = y.data.swapaxes(0, 1) if layer.batch_first else y.data
    assert all(np.isfinite(p.grad.data).all() for p in layer.params())
    assert np.isfinite(given.grad.data).all()
    for n, length in enumerate(lengths):
        alone = x[:length, n : n + 1]
        wanted, last = layer(alone.swapaxes(0, 1) if layer.batch_first else alone)
        wanted = wanted.data.swapaxes(0, 1) if layer.batch_first else wanted.data
        close(turned[:length, n : n + 1], wanted, 1e-6)
        assert (turned[length:, n] == 0).all()
        for found, part in zip(as_tuple(state), as_tuple(last), strict=True):
            close(found.data[:, n : n + 1], part.data, 1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_lengths_are_ints_of_any_kind(dtype):
    layer, x = make("GRU", 5, bidirectional=True), randn(6, 3, 4)
    np.testing.assert_array_equal(
        layer(x, lengths=np.array([3, 6, 1], dtype))[0].data, layer(x, lengths=[3, 6, 1])[0].data
    )


@kinds
def test_the_walk_from_the_end_is_that_of_the_sequence_turned_around(kind):
    layer, x = make(kind, 5, in_size=4, bidirectional=True), randn(6, 3, 4)
    y, state = layer(x)
    twin = make(kind, 5, in_size=4)
    twin.l0 = layer.l0_reverse
    turned, last = twin(x[::-1])
    np.testing.assert_array_equal(y.data[:, :, 5:], turned.data[::-1])
    np.testing.assert_array_equal(as_tuple(state)[0].data[1], as_tuple(last)[0].data[0])


@kinds
def test_dropout_is_between_layers_while_training(kind):
    layer, x = make(kind, 50, num_layers=2, dropout=0.5), randn(4, 3, 6)
    layer(x)
    np.random.seed(3)
    found = layer(x)[0].data
    plain = make(kind, 50, in_size=6)
    plain.l0 = layer.l0
    between = plain(x)[0]
    np.random.seed(3)
    between = F.dropout(between, 0.5)
    plain.l0, plain.in_size = layer.l1, 50
    np.testing.assert_array_equal(found, plain(between)[0].data)
    with test_mode():
        layer.dropout = 0.0
        wanted = layer(x)[0].data
        layer.dropout = 0.5
        np.testing.assert_array_equal(layer(x)[0].data, wanted)
    layer.num_layers = 1  # nothing follows what would be dropped
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)


# ----------------------------------------------------------------------------------------------------------------------
# Weights
# ----------------------------------------------------------------------------------------------------------------------


def names(layer):
    return [name for name, _ in layer.named_params()]


def test_names_and_shapes_of_the_weights():
    layer = L.SequenceGRU(5, num_layers=2, bidirectional=True)
    parts = ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert names(layer) == [f"{part}/{name}" for part in parts for name in ("Wx", "Wh", "b", "d")]
    assert (layer.l0.Wx.data, layer.l1.Wx.shape, layer.l0.Wh.shape) == (None, (10, 15), (5, 15))
    layer(randn(2, 3, 4))
    assert (layer.l0.Wx.shape, layer.l0_reverse.Wx.shape) == ((4, 15), (4, 15))
    assert names(L.SequenceRNN(5)) == names(L.SequenceLSTM(5)) == ["l0/Wx", "l0/Wh", "l0/b"]


@kinds
def test_weights_are_drawn_gate_by_gate(kind):
    gates = len(GATES[kind])
    np.random.seed(0)
    layer = getattr(L, f"Sequence{kind}")(5, in_size=4)
    np.random.seed(0)
    for W, in_size in ((layer.l0.Wx, 4), (layer.l0.Wh, 5)):
        parts = [
            np.random.randn(in_size, 5).astype(np.float32) * np.float32(np.sqrt(1 / in_size)) for _ in range(gates)
        ]
        np.testing.assert_array_equal(W.data, np.concatenate(parts, axis=1))
        assert W.data.flags.c_contiguous
    assert not layer.l0.b.data.any()


@kinds
def test_initialisers_by_name(kind):
    layer = getattr(L, f"Sequence{kind}")(5, in_size=5, init_x="ones", init_h="orthogonal", init_b=0.5)
    assert (layer.l0.Wx.data == 1).all()
    assert (layer.l0.b.data == 0.5).all()
    for W in np.split(layer.l0.Wh.data, len(GATES[kind]), axis=1):
        close(W @ W.T, np.eye(5), 1e-6)
    step = getattr(L, kind)(5, in_size=5, init_x="ones", init_h="orthogonal", init_b=0.5)
    for name, p in step.named_params():
        if name.endswith("b"):
            assert (p.data == 0.5).all()
        elif name.startswith("x2"):
            assert (p.data == 1).all()
        else:
            close(p.data @ p.data.T, np.eye(5), 1e-6)


@kinds
def test_copies_pickles_and_weights_on_disk(kind, tmp_path):
    layer, x = make(kind, 5, num_layers=2, bidirectional=True), randn(4, 3, 6)
    y = layer(x)[0]
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x)[0].data, y.data)
    layer.save_weights(tmp_path / "w")
    fresh = make(kind, 5, num_layers=2, bidirectional=True)
    fresh.load_weights(tmp_path / "w")
    np.testing.assert_array_equal(fresh(x)[0].data, y.data)
    other = make(kind, 6, num_layers=2, bidirectional=True)
    with pytest.raises(ValueError, match=r"l0/Wx has shape .* in the file but"):
        other.load_weights(tmp_path / "w")


def test_gru_a_step_a_call_has_its_weights_state_and_copies(tmp_path):
    np.random.seed(0)
    gru = L.GRU(3)
    np.random.seed(0)
    for part in (gru.h2r, gru.h2z, gru.h2n):
        np.testing.assert_array_equal(
            part.W.data, np.random.randn(3, 3).astype(np.float32) * np.float32(np.sqrt(1 / 3))
        )
    assert names(gru) == ["x2r/W", "x2r/b", "x2z/W", "x2z/b", "x2n/W", "x2n/b", "h2r/W", "h2z/W", "h2n/W", "h2n/b"]
    x = randn(2, 4)
    first = gru(x)
    assert gru.h is first
    twin = copy.deepcopy(gru)
    np.testing.assert_array_equal(twin(x).data, gru(x).data)
    gru.reset_state()
    assert gru.h is None
    np.testing.assert_array_equal(gru(x).data, first.data)
    with pytest.raises(ValueError, match=r"GRU: the state is that of a batch of 2, but x has 3; call reset_state"):
        gru(randn(3, 4))
    assert "h" not in names(gru)


@kinds
def test_the_tree_and_the_table(kind):
    layer = getattr(L, f"Sequence{kind}")(5, num_layers=2, dropout=0.1)
    gates, d = len(GATES[kind]), 5 * (kind == "GRU")
    assert repr(layer).startswith(f"Sequence{kind}(hidden_size=5, num_layers=2, dropout=0.1)  ")
    found = layer.summary((7, 3, 4), show=False)
    assert found.multiply_adds == 7 * 3 * gates * 5 * (4 + 5 + 5 + 5)
    assert found.parameters == gates * 5 * (4 + 5 + 1 + 5 + 5 + 1) + 2 * d
    assert found.rows[0].output.startswith("(7, 3, 5), (2, 3, 5)")


@kinds
def test_it_learns(kind):
    """The sign of the first number, told at the end."""
    np.random.seed(0)
    layer, head = make(kind, 16), L.Linear(1)
    model = dezero.Model()
    model.layer, model.head = layer, head
    optimizer = optimizers.Adam(0.01).setup(model)
    x = randn(8, 64, 1)
    t = np.sign(x[0])
    for _ in range(150):
        loss = F.mean_squared_error(head(layer(x)[0][-1]), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
    assert float(loss) < 0.2


# ----------------------------------------------------------------------------------------------------------------------
# GPU
# ----------------------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("lengths", [None, [4, 2, 3]])
def test_on_a_gpu(gpu, kind, lengths):
    layer = make(kind, 5, in_size=6, num_layers=2, bidirectional=True)
    twin = copy.deepcopy(layer)
    twin.to_gpu()
    x = randn(4, 3, 6)
    answers = []
    for net, array in ((layer, x), (twin, gpu.to(x))):
        given = Variable(array)
        y, state = net(given, lengths=lengths)
        y, state = net(given, state, lengths)
        F.sum(y * y).backward()
        answers.append([y, *as_tuple(state), given.grad, *(p.grad for p in net.params())])
    for wanted, found in zip(*answers, strict=True):
        assert isinstance(found.data, gpu.cupy.ndarray)
        close(cuda.as_numpy(found.data), wanted.data, 1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "SequenceRNN", "SequenceLSTM", "SequenceGRU"])
def test_weights_made_at_the_first_call_on_a_gpu(gpu, kind):
    x = randn(4, 3, 6)
    np.random.seed(0)
    layer = getattr(L, kind)(5)
    wanted = layer(x if kind.startswith("S") else x[0])
    np.random.seed(0)
    twin = getattr(L, kind)(5)
    twin.to_gpu()
    found = twin(gpu.to(x if kind.startswith("S") else x[0]))
    wanted, found = (y[0] if isinstance(y, tuple) else y for y in (wanted, found))
    close(cuda.as_numpy(found.data), wanted.data, 1e-5)
    twin.to_cpu()
    assert {type(p.data) for p in twin.params() if p.data is not None} == {np.ndarray}
    elsewhere = getattr(L, kind)(5)
    with pytest.raises(TypeError, match="different devices"):
        elsewhere(gpu.to(x if kind.startswith("S") else x[0]))
    waiting = [p for p in elsewhere.params() if p.expected_shape is not None and None in p.expected_shape]
    assert [p.data for p in waiting] == [None] * len(waiting)
    assert waiting


@kinds
def test_in_halves_on_a_gpu(gpu, kind):
    layer = make(kind, 16, in_size=8, num_layers=2)
    layer.to_gpu()
    x = gpu.to(randn(6, 4, 8))
    answers = []
    for enabled in (False, True):
        layer.cleargrads()
        with dezero.autocast("float16", enabled=enabled):
            y, _ = layer(x)
            loss = F.mean(y * y)
        loss.backward()
        answers.append([y, *(p.grad for p in layer.params())])
        assert {p.grad.dtype for p in layer.params()} == {np.dtype(np.float32)}
    for wanted, found in zip(*answers, strict=True):
        wanted, found = cuda.as_numpy(wanted), cuda.as_numpy(found)
        assert not np.array_equal(found, wanted)
        np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())


@kinds
def test_captured_steps_are_eager_ones(simulated, kind, monkeypatch):
    library = simulated_cublas.install(monkeypatch, simulated.cupy)
    answers = []
    for captured in (False, True):
        np.random.seed(0)
        model = dezero.Model()
        model.layer, model.head = make(kind, 8, in_size=4, num_layers=2, bidirectional=True, dropout=0.2), L.Linear(1)
        model.to_gpu()
        optimizer = optimizers.Adam(0.01).setup(model)

        def step(x, t, model=model, optimizer=optimizer):
            loss = F.mean_squared_error(model.head(model.layer(x)[0][-1]), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            return loss

        step = cuda.capture(step) if captured else step
        xs = [randn(3, 5, 4, seed=i) for i in range(8)]
        losses = [step(simulated.to(x), simulated.to(x[0, :, :1])) for x in xs]
        if captured:
            (calls,) = step.calls.values()
            assert calls.recording is not None
        answers.append([float(loss) for loss in losses])
    assert answers[0] == answers[1]
    assert not library.problems


# ----------------------------------------------------------------------------------------------------------------------
# What is refused
# ----------------------------------------------------------------------------------------------------------------------

X = randn(7, 3, 4)
BAD_SIZES = {
    "hidden_size": (lambda new: new(0), "hidden_size must be a positive int, got 0"),
    "in_size": (lambda new: new(5, in_size=2.0), "in_size must be a positive int, got 2.0"),
    "num_layers": (lambda new: new(5, num_layers=0), "num_layers must be a positive int, got 0"),
    "dropout": (lambda new: new(5, dropout=1.5), "dropout must lie in 0..1, got 1.5"),
    "dtype": (lambda new: new(5, dtype=int), "dtype must be floating"),
    "init_x": (lambda new: new(5, init_x="no"), "there is no initialiser 'no' for init_x"),
    "init_b": (lambda new: new(5, init_b="orthogonal"), "init_b: orthogonal: expected a shape of two axes"),
    "x of two axes": (lambda new: new(5)(X[0]), r"expected x \(T, N, in\), no .* got \(3, 4\); .* x\[:, None\]"),
    "x of two axes, batch first": (lambda new: new(5, batch_first=True)(X[0]),
                                   r"expected x \(N, T, in\), no axis of 0, got \(3, 4\); .* x\[None\]"),
    "no steps": (lambda new: new(5)(X[:0]), r"expected x .*, no axis of 0, got \(0, 3, 4\)"),
    "features": (lambda new: new(5, in_size=3)(X), r"expected x \(T, N, in\) with 3 features, got \(7, 3, 4\)"),
    "state": (lambda new: new(5)(X, state_of(new, (1, 2, 5))),
              r"expected a state h of shape \(1, 3, 5\), that is .*, got \(1, 2, 5\); state=None begins anew"),
    "lengths": (lambda new: new(5)(X, lengths=[1, 2]),
                r"lengths must be 3 ints, one for each sequence, got int64 \(2,\)"),
    "lengths of floats": (lambda new: new(5)(X, lengths=[1.0, 2.0, 3.0]), "lengths must be 3 ints, .* got float64"),
    "length 0": (lambda new: new(5)(X, lengths=[1, 0, 7]), r"lengths must lie in 1\.\.7, got 0\.\.7"),
    "length 8": (lambda new: new(5)(X, lengths=[1, 8, 7]), r"lengths must lie in 1\.\.7, got 1\.\.8"),
}  # fmt: skip


def state_of(new, shape):
    part = np.zeros(shape, np.float32)
    return (part, part) if new is L.SequenceLSTM else part


@kinds
@pytest.mark.parametrize(("call", "message"), BAD_SIZES.values(), ids=BAD_SIZES)
def test_what_cannot_be_is_refused_by_name(kind, call, message):
    new = getattr(L, f"Sequence{kind}")
    with pytest.raises(ValueError, match=f"^Sequence{kind}: {message}"):
        call(new)


@pytest.mark.parametrize("state", [3.0, np.zeros((1, 3, 5)), (np.zeros((1, 3, 5)),)], ids=lambda x: type(x).__name__)
def test_a_state_of_an_lstm_that_is_no_pair(state):
    with pytest.raises(TypeError, match=r"SequenceLSTM: expected a state \(h, c\), as a call returns it, got "):
        L.SequenceLSTM(5)(X, state)


@kinds
def test_what_is_of_the_wrong_kind_is_refused(kind):
    new = getattr(L, f"Sequence{kind}")
    for call, message in (
        (lambda: new(5, bidirectional="yes"), f"Sequence{kind}: bidirectional must be True or False, got 'yes'"),
        (lambda: new(5, batch_first=2), f"Sequence{kind}: batch_first must be True or False, got 2"),
        (lambda: new(5, dropout="0.5"), f"Sequence{kind}: dropout must be a number, got str"),
        (lambda: new(5)([[1.0]]), f"Sequence{kind}: expected Variables, arrays or numbers, got list"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


@kinds
def test_a_call_that_is_refused_makes_no_weights(kind):
    layer = getattr(L, f"Sequence{kind}")(5)
    for bad in ({"lengths": [9, 9, 9]}, {"state": state_of(type(layer), (1, 1, 1))}):
        with pytest.raises(ValueError, match=f"^Sequence{kind}: "):
            layer(X, **bad)
    assert (layer.l0.Wx.data, layer.in_size) == (None, None)
    with no_grad():
        assert layer(randn(2, 3, 9))[0].shape == (2, 3, 5)
