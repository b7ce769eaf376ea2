"""L: how parameters are made, named, walked and copied, and each layer's values against PyTorch's."""

import copy
import gc
import pickle
import re
import weakref

import numpy as np
import pytest

import dezero
from dezero import functions as F
from dezero import kernels
from dezero import layers as L
from dezero.core import Parameter, Variable, no_grad, nodes_behind, test_mode
from dezero.functions_recurrent import LSTMStep, lstm_step_simple
from dezero.layers import Layer


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def names(layer):
    return [name for name, _ in layer.named_params()]


def number(value=0.0):
    return Parameter(np.array(value, np.float32))


@pytest.fixture
def no_gc():
    """Reference counting alone: what survives is held by somebody or by a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ----------------------------------------------------------------------------------------------------------------------
# How weights are made
# ----------------------------------------------------------------------------------------------------------------------


# A layer without its input's size, x, the layer with it, the shape of W, and how many numbers go into one output.
WEIGHTED = {
    "linear": (lambda **k: L.Linear(5, **k), (2, 4), {"in_size": 4}, (4, 5), 4),
    "linear on three axes": (lambda **k: L.Linear(5, **k), (2, 3, 4), {"in_size": 4}, (4, 5), 4),
    "conv2d": (lambda **k: L.Conv2d(5, 3, **k), (2, 4, 6, 6), {"in_channels": 4}, (5, 4, 3, 3), 36),
    "conv2d pairs": (lambda **k: L.Conv2d(5, (3, 2), (2, 1), (1, 0), **k), (2, 4, 6, 6), {"in_channels": 4},
                     (5, 4, 3, 2), 24),
    "conv2d groups": (lambda **k: L.Conv2d(5, 3, groups=5, dilation=2, **k), (2, 10, 6, 6), {"in_channels": 10},
                      (5, 2, 3, 3), 18),
    "conv1d": (lambda **k: L.Conv1d(5, 3, **k), (2, 4, 6), {"in_channels": 4}, (5, 4, 3), 12),
    "deconv2d": (lambda **k: L.Deconv2d(5, 3, **k), (2, 4, 6, 6), {"in_channels": 4}, (4, 5, 3, 3), 36),
    "deconv2d groups": (lambda **k: L.Deconv2d(5, 3, groups=5, **k), (2, 10, 6, 6), {"in_channels": 10},
                        (10, 1, 3, 3), 18),
}  # fmt: skip
weighted = pytest.mark.parametrize(("make", "x_shape", "size", "W_shape", "fan_in"), WEIGHTED.values(), ids=WEIGHTED)


@weighted
def test_weights_are_drawn_at_the_first_call_and_stay(make, x_shape, size, W_shape, fan_in):
    layer = make()
    assert layer.W.data is None
    np.random.seed(0)
    layer(randn(*x_shape))
    np.random.seed(0)
    expected = np.random.randn(*W_shape).astype(np.float32) * np.float32(np.sqrt(1 / fan_in))
    assert layer.W.dtype == np.float32
    np.testing.assert_array_equal(layer.W.data, expected)
    assert layer.W.data.flags.c_contiguous
    W = layer.W.data
    layer(randn(*x_shape))
    assert layer.W.data is W


@weighted
def test_weights_are_drawn_at_construction_when_the_input_size_is_given(make, x_shape, size, W_shape, fan_in):
    np.random.seed(0)
    early = make(**size)
    np.random.seed(0)
    late = make()
    late(randn(*x_shape))
    np.testing.assert_array_equal(early.W.data, late.W.data)
    np.testing.assert_array_equal(early(randn(*x_shape)).data, late(randn(*x_shape)).data)


@weighted
def test_weights_assigned_before_the_first_call_are_used_as_they_are(make, x_shape, size, W_shape, fan_in):
    layer = make()
    W = layer.W.data = randn(*W_shape, seed=1)
    state = np.random.get_state()[1].copy()
    layer(randn(*x_shape))
    assert layer.W.data is W
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@weighted
def test_bias_starts_at_zero_for_each_output_and_may_be_left_out(make, x_shape, size, W_shape, fan_in):
    layer, bare = make(**size), make(nobias=True, **size)
    assert layer.b.dtype == np.float32
    np.testing.assert_array_equal(layer.b.data, np.zeros(5))
    assert bare.b is None
    assert names(layer) == ["W", "b"]
    assert names(bare) == ["W"]
    bare.W.data = layer.W.data
    np.testing.assert_array_equal(layer(randn(*x_shape)).data, bare(randn(*x_shape)).data)


@weighted
def test_float64_weights_on_request(make, x_shape, size, W_shape, fan_in):
    layer = make(dtype=np.float64)
    y = layer(randn(*x_shape))
    assert (layer.W.dtype, layer.b.dtype, y.dtype) == (np.float64,) * 3
    y.sum().backward()
    assert layer.W.grad.dtype == np.float64


@weighted
def test_float32_goes_in_and_out(make, x_shape, size, W_shape, fan_in):
    layer = make()
    x = Variable(randn(*x_shape))
    y = layer(x)
    y.sum().backward()
    assert {y.dtype, x.grad.dtype, layer.W.grad.dtype, layer.b.grad.dtype} == {np.dtype(np.float32)}


def test_the_scale_keeps_the_outputs_spread_near_one():
    np.random.seed(0)
    assert 0.9 < L.Linear(400)(randn(300, 500)).data.std() < 1.1
    assert 0.9 < L.Conv2d(64, 5)(randn(8, 16, 12, 12)).data.std() < 1.1


def test_names_of_parts_are_those_of_the_published_layers():
    assert names(L.LSTM(2, in_size=3)) == [
        *("x2f/W", "x2f/b", "x2i/W", "x2i/b", "x2o/W", "x2o/b", "x2u/W", "x2u/b", "h2f/W", "h2i/W", "h2o/W", "h2u/W")
    ]
    assert names(L.RNN(2, in_size=3)) == ["x2h/W", "x2h/b", "h2h/W"]
    assert names(L.BatchNorm()) == ["avg_mean", "avg_var", "gamma", "beta"]


def test_rnn_makes_h2h_at_the_second_step_and_at_once_when_given_in_size():
    rnn = L.RNN(6)
    rnn(randn(2, 3))
    assert (rnn.x2h.W.shape, rnn.h2h.W.data) == ((3, 6), None)
    rnn(randn(2, 3))
    assert (rnn.h2h.W.shape, rnn.h2h.b) == ((6, 6), None)
    assert L.RNN(6, in_size=3).h2h.W.shape == (6, 6)


def test_lstm_makes_its_h2_weights_at_construction_in_order():
    np.random.seed(0)
    lstm = L.LSTM(3)
    np.random.seed(0)
    for part in (lstm.h2f, lstm.h2i, lstm.h2o, lstm.h2u):
        expected = np.random.randn(3, 3).astype(np.float32) * np.float32(np.sqrt(1 / 3))
        np.testing.assert_array_equal(part.W.data, expected)
        assert part.b is None
    assert lstm.x2f.W.data is None


def test_embed_id_draws_its_rows():
    np.random.seed(0)
    layer = L.EmbedID(4, 3)
    np.random.seed(0)
    np.testing.assert_array_equal(layer.W.data, np.random.randn(4, 3).astype(np.float32))
    assert layer.W.dtype == np.float32
    np.testing.assert_array_equal(layer(np.array([[2, 0], [3, 3]])).data, layer.W.data[[[2, 0], [3, 3]]])


BAD = {
    "Linear out_size": (lambda: L.Linear(0), "Linear: out_size must be a positive int, got 0"),
    "Linear float": (lambda: L.Linear(2.0), "Linear: out_size must be a positive int, got 2.0"),
    "Linear bool": (lambda: L.Linear(True), "Linear: out_size must be a positive int, got True"),
    "Linear in_size": (lambda: L.Linear(2, in_size=-1), "Linear: in_size must be a positive int, got -1"),
    "Linear dtype": (lambda: L.Linear(2, dtype=np.int32), "Linear: dtype must be floating.*int32"),
    "Conv2d out_channels": (lambda: L.Conv2d(0, 3), "Conv2d: out_channels must be a positive int"),
    "Conv2d in_channels": (lambda: L.Conv2d(1, 3, in_channels=0), "Conv2d: in_channels must be a positive int"),
    "Conv2d kernel": (lambda: L.Conv2d(1, 0), "Conv2d: kernel_size must be at least 1, got 0"),
    "Conv2d kernel triple": (lambda: L.Conv2d(1, (3, 3, 3)), "Conv2d: kernel_size must be an int or a pair"),
    "Conv2d stride": (lambda: L.Conv2d(1, 3, stride=0), "Conv2d: stride must be at least 1, got 0"),
    "Conv2d pad": (lambda: L.Conv2d(1, 3, pad=-1), "Conv2d: pad must be at least 0, got -1"),
    "Conv2d dtype": (lambda: L.Conv2d(1, 3, dtype=int), "Conv2d: dtype must be floating"),
    "Deconv2d kernel": (lambda: L.Deconv2d(1, 2.5), "Deconv2d: kernel_size must be an int or a pair"),
    "Conv2d dilation": (lambda: L.Conv2d(1, 3, dilation=0), "Conv2d: dilation must be at least 1, got 0"),
    "Conv2d groups": (lambda: L.Conv2d(1, 3, groups=0), "Conv2d: groups must be a positive int, got 0"),
    "Conv2d groups out": (lambda: L.Conv2d(3, 3, groups=2), "Conv2d: groups must divide out_channels, got 2 "),
    "Conv2d groups in": (lambda: L.Conv2d(4, 3, groups=2, in_channels=3), "Conv2d: groups must divide in_channels"),
    "Conv2d groups x": (lambda: L.Conv2d(4, 3, groups=2)(np.zeros((1, 3, 8, 8))),
                        "Conv2d: groups must divide the number of channels of x, got 2 groups and 3"),
    "Deconv2d groups": (lambda: L.Deconv2d(3, 3, groups=2), "Deconv2d: groups must divide out_channels"),
    "Conv1d kernel": (lambda: L.Conv1d(1, (3, 3)), r"Conv1d: kernel_size must be a positive int, got \(3, 3\)"),
    "Conv1d pad": (lambda: L.Conv1d(1, 3, pad=-1), "Conv1d: pad must be an int of at least 0, got -1"),
    "Conv1d dilation": (lambda: L.Conv1d(1, 3, dilation=0), "Conv1d: dilation must be a positive int, got 0"),
    "Conv1d x": (lambda: L.Conv1d(1, 3)(np.zeros((3, 8))), r"Conv1d: x must have shape \(N, C, L\), got \(3, 8\); "),
    "Conv1d small": (lambda: L.Conv1d(1, 3, dilation=4)(np.zeros((1, 2, 8))),
                     r"Conv1d: a kernel of 3 with dilation 4 does not fit into 8 padded by 0 \(x \(1, 2, 8\)\); use a"),
    "RNN": (lambda: L.RNN(0), "RNN: hidden_size must be a positive int, got 0"),
    "LSTM": (lambda: L.LSTM(3, in_size="3"), "LSTM: in_size must be a positive int, got '3'"),
    "GRU": (lambda: L.GRU(2.5), "GRU: hidden_size must be a positive int, got 2.5"),
    "EmbedID in": (lambda: L.EmbedID(0, 3), "EmbedID: in_size must be a positive int, got 0"),
    "EmbedID out": (lambda: L.EmbedID(3, 0), "EmbedID: out_size must be a positive int, got 0"),
    "Linear x": (lambda: L.Linear(2)(np.array(1.0)), r"Linear: expected x \(N, in\) with in > 0, got \(\)"),
    "Linear empty": (lambda: L.Linear(2)(np.zeros((3, 0))), r"Linear: expected .* got \(3, 0\)"),
    "Linear features": (lambda: L.Linear(2, in_size=3)(np.zeros((1, 4))), "linear: W takes 3 features but x has 4"),
    "Conv2d x": (lambda: L.Conv2d(1, 3)(np.zeros((3, 8, 8))), r"Conv2d: x must .*\(3, 8, 8\); add the batch axis"),
    "Conv2d no channel": (lambda: L.Conv2d(1, 3)(np.zeros((2, 0, 8, 8))), "Conv2d: the number of channels of x"),
    "Conv2d channels": (lambda: L.Conv2d(1, 3, in_channels=2)(np.zeros((1, 3, 8, 8))), "W takes 2 channels but x "),
    "BatchNorm x": (lambda: L.BatchNorm()(np.zeros(3)), r"BatchNorm: x must have shape .* got \(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_sizes_are_refused_with_the_layers_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ACTIVATIONS = {"relu": F.relu, "sigmoid": F.sigmoid, "lambda": lambda y: y * 2 - 1, "layer": L.BatchNorm()}


@pytest.mark.parametrize("backend", list(kernels.BACKENDS))
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_a_convolution_and_its_activation_are_both_one_after_the_other(activation, backend):
    activation = copy.deepcopy(activation)
    layer = L.Conv2d(4, 3, 2, 1, in_channels=3, activation=activation)
    layer.b.data = randn(4)
    x, found = Variable(randn(2, 3, 7, 6)), []
    with kernels.using_kernels(backend):
        for f in (layer, lambda x: activation(F.conv2d(x, layer.W, layer.b, 2, 1))):
            x.cleargrad()
            layer.cleargrads()
            y = f(x)
            (y * y).backward()
            found.append([y.data, x.grad.data, layer.W.grad.data, layer.b.grad.data])
    for together, apart in zip(*found, strict=True):
        np.testing.assert_array_equal(together, apart)


def test_relu_behind_a_convolution_is_computed_with_it_and_others_are_called():
    x, kinds = randn(1, 2, 4, 4), []
    for activation in (None, F.relu, F.sigmoid):
        y = L.Conv2d(3, 3, activation=activation)(x)
        kinds.append(type(y.creator).__name__)
    assert kinds == ["Conv2d", "Conv2dReLU", "Sigmoid"]
    assert L.Conv2d(3, 3, 1, 0, True, np.float64, 2, activation=F.relu)(x.astype(np.float64)).dtype == np.float64


def test_an_activation_that_is_a_layer_is_part_of_its_convolution():
    layer = L.Conv2d(3, 3, in_channels=2, activation=L.BatchNorm())
    layer(randn(1, 2, 4, 4))
    assert names(layer)[:3] == ["W", "b", "activation/avg_mean"]


@pytest.mark.parametrize("activation", ["relu", 1, np.zeros(3)])
def test_an_activation_that_cannot_be_called_is_refused_before_anything_is_drawn(activation):
    state = np.random.get_state()[1].copy()
    with pytest.raises(TypeError, match=r"Conv2d: activation must be a function or a layer, such as F\.relu, got "):
        L.Conv2d(3, 3, in_channels=2, activation=activation)
    assert (np.random.get_state()[1] == state).all()


def test_numpy_ints_are_sizes():
    assert L.Linear(np.int64(3), in_size=np.int64(2)).W.shape == (2, 3)
    assert L.Conv2d(np.int64(3), np.int64(2), in_channels=np.int64(1)).W.shape == (3, 1, 2, 2)


def test_a_layer_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        Layer()(np.zeros(1))


# ----------------------------------------------------------------------------------------------------------------------
# Names and order
# ----------------------------------------------------------------------------------------------------------------------


def test_parameters_come_in_the_order_of_assignment():
    layer = Layer()
    for name in ("z", "a", "m", "b"):
        setattr(layer, name, number())
    layer.late = L.Linear(1, in_size=1)
    layer.a2 = number()
    assert names(layer) == ["z", "a", "m", "b", "late/W", "late/b", "a2"]
    assert list(layer.params()) == [layer.z, layer.a, layer.m, layer.b, layer.late.W, layer.late.b, layer.a2]


def test_an_attribute_assigned_again_or_deleted_counts_once_or_no_more():
    layer = Layer()
    layer.p, layer.q = number(), number()
    layer.p = replacement = number()
    assert list(layer.params()) == [replacement, layer.q]
    del layer.q
    assert names(layer) == ["p"]
    layer.p = None
    assert names(layer) == []


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_of_layers_register(kind):
    layer = Layer()
    layer.blocks = kind([L.Linear(1, in_size=1), L.Linear(1, in_size=1, nobias=True)])
    layer.scales = kind([number(), number()])
    assert names(layer) == ["blocks.0/W", "blocks.0/b", "blocks.1/W", "scales.0", "scales.1"]


def test_dicts_of_layers_register_by_key():
    layer = Layer()
    layer.heads = {"cat": L.Linear(1, in_size=1, nobias=True), "dog": number(), 3: number()}
    assert names(layer) == ["heads.cat/W", "heads.dog", "heads.3"]


def test_a_layer_appended_later_registers():
    layer = Layer()
    layer.blocks = []
    assert names(layer) == []
    layer.blocks.append(L.Linear(1, nobias=True))
    assert names(layer) == ["blocks.0/W"]


@pytest.mark.parametrize("container", [[number(), 3], (number(), None), {"a": number(), "b": "text"}])
def test_a_container_with_anything_else_in_it_does_not_register(container):
    layer = Layer()
    layer.things = container
    assert names(layer) == []


def test_an_attributes_name_wins_over_a_place_in_a_list():
    class BookMLP(Layer):  # as DeZero's own is written: the list comes first, the attributes one by one
        def __init__(self):
            super().__init__()
            self.layers = []
            for i in range(2):
                layer = L.Linear(2, nobias=True)
                setattr(self, f"l{i}", layer)
                self.layers.append(layer)

    assert names(BookMLP()) == ["l0/W", "l1/W"]


def test_a_parameter_reached_twice_counts_once_under_its_first_name():
    layer = Layer()
    layer.encoder, layer.decoder = L.Linear(2, in_size=2, nobias=True), L.Linear(2, in_size=2)
    layer.decoder.W = layer.encoder.W
    assert names(layer) == ["encoder/W", "decoder/b"]


def test_a_layer_reached_twice_counts_once():
    layer = Layer()
    layer.a = layer.b = L.Linear(1)
    layer.more = [layer.a, layer.a]
    assert names(layer) == ["a/W", "a/b"]


def test_layers_that_refer_to_each_other_are_walked_once():
    parent, child = Layer(), Layer()
    parent.child, child.parent = child, parent
    parent.p, child.q = number(1), number(2)
    parent.itself = parent
    assert names(parent) == ["child/q", "p"]
    assert names(child) == ["parent/p", "q"]
    parent.cleargrads()


def test_a_variable_is_not_a_parameter():
    layer = Layer()
    layer.x = Variable(np.zeros(1))
    assert names(layer) == []


# ----------------------------------------------------------------------------------------------------------------------
# LayerList
# ----------------------------------------------------------------------------------------------------------------------


def linears(*sizes):
    return [L.Linear(n, in_size=1, nobias=True) for n in sizes]


def sizes(layers):
    return [layer.out_size for layer in layers]


def test_a_layer_list_registers_its_layers_by_place():
    model = Layer()
    model.blocks = L.LayerList(linears(1, 2))
    model.blocks.append(L.Linear(3))
    assert names(model) == ["blocks/0/W", "blocks/1/W", "blocks/2/W", "blocks/2/b"]
    model.blocks.insert(0, L.LayerList(linears(4)))
    assert names(model)[:2] == ["blocks/0/0/W", "blocks/1/W"]


def test_a_layer_list_does_what_a_list_does():
    first, second, third = linears(1, 2, 3)
    layers = L.LayerList()
    layers.append(first)
    layers.extend([third])
    layers.insert(1, second)
    layers += linears(4)
    assert (sizes(layers), len(layers)) == ([1, 2, 3, 4], 4)
    assert (layers[0], layers[-3], layers.index(third)) == (first, second, 2)
    assert second in layers
    assert L.Linear(2) not in layers
    assert sizes(reversed(layers)) == [4, 3, 2, 1]
    assert layers.pop().out_size == 4
    layers[0] = third
    layers[1:2] = linears(7, 8)
    assert sizes(layers) == [3, 7, 8, 3]
    del layers[0], layers[:1]
    assert sizes(layers) == [8, 3]
    layers.remove(third)
    layers.clear()
    assert names(layers) == []


def test_a_slice_of_a_layer_list_holds_the_same_layers():
    layers = L.LayerList(linears(1, 2, 3))
    part = layers[::2]
    assert isinstance(part, L.LayerList)
    assert (part[0], part[1]) == (layers[0], layers[2])
    model = Layer()
    model.part = part
    assert names(model) == ["part/0/W", "part/1/W"]


def test_a_layer_in_a_layer_list_twice_counts_once():
    layer = L.Linear(1, in_size=1)
    assert names(L.LayerList([layer, layer])) == ["0/W", "0/b"]


def test_a_layer_list_is_called_layer_by_layer():
    with pytest.raises(
        NotImplementedError, match="LayerList has no forward method: call its layers one by one, or use S"
    ):
        L.LayerList(linears(1))(randn(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: L.LayerList([F.relu]),
        lambda layers: layers.append(F.relu),
        lambda layers: layers.insert(0, F.relu),
        lambda layers: layers.extend([F.relu]),
        lambda layers: layers.__setitem__(0, F.relu),
        lambda layers: layers.__setitem__(slice(0, 1), [F.relu]),
    ],
)
def test_a_layer_list_refuses_what_is_no_layer(change):
    layers = L.LayerList(linears(1))
    with pytest.raises(TypeError, match="LayerList: expected layers, got function; Sequential takes functions, too"):
        change(layers)
    assert sizes(layers) == [1]


def test_a_place_that_is_not_in_a_layer_list():
    with pytest.raises(IndexError):
        L.LayerList()[0]


def test_a_layer_list_is_copied_and_pickled(tmp_path):
    model = Layer()
    model.blocks = L.LayerList(linears(1, 2))
    for twin in (copy.deepcopy(model), clone_by_pickle(model)):
        assert names(twin) == names(model)
        np.testing.assert_array_equal(twin.blocks[1].W.data, model.blocks[1].W.data)
    model.save_weights(tmp_path / "w")
    other = Layer()
    other.blocks = L.LayerList([L.Linear(1, nobias=True), L.Linear(2, nobias=True)])
    other.load_weights(tmp_path / "w")
    np.testing.assert_array_equal(other.blocks[1].W.data, model.blocks[1].W.data)


def test_a_call_hands_on_options():
    class Scale(Layer):
        def forward(self, x, by=1):
            return x * by

    layer, x = Scale(), Variable(np.array(2.0))
    assert layer(x, by=3).data == 6
    assert [r() for r in layer.inputs] == [x]


def test_cleargrads_forgets_all_gradients_in_the_tree():
    layer = Layer()
    layer.scale, layer.blocks = number(2), [L.Linear(2), L.Linear(1)]
    (layer.blocks[1](layer.blocks[0](randn(3, 2))) * layer.scale).sum().backward()
    assert all(p.grad is not None for p in layer.params())
    layer.cleargrads()
    assert all(p.grad is None for p in layer.params())


def test_a_shared_layer_adds_up_both_gradients():
    layer = L.Linear(2, nobias=True)
    x = randn(3, 2)
    layer(layer(x)).sum().backward()
    W, ones = layer.W.data, np.ones((3, 2), np.float32)
    np.testing.assert_allclose(layer.W.grad.data, (x @ W).T @ ones + x.T @ (ones @ W.T), rtol=1e-5)


def test_to_cpu_without_a_gpu_leaves_all_as_it_is():
    layer = L.Linear(2, in_size=2)
    W = layer.W.data
    layer.to_cpu()
    L.Linear(2).to_cpu()  # no weights yet
    assert layer.W.data is W


# ----------------------------------------------------------------------------------------------------------------------
# What a layer holds after a call
# ----------------------------------------------------------------------------------------------------------------------


class SumAndDifference(Layer):
    def forward(self, x, y):
        return x + y, x - y


def test_inputs_and_outputs_are_weak_references():
    layer = SumAndDifference()
    x, y = Variable(randn(2)), randn(2)
    a, b = layer(x, y)
    assert [r() for r in layer.inputs] == [x, y]
    assert [r() for r in layer.outputs] == [a, b]
    del a
    assert layer.outputs[0]() is None


def test_a_single_output_is_a_list_of_one():
    layer = L.Linear(2)
    y = layer(randn(1, 2))
    assert [r() for r in layer.outputs] == [y]


def test_inputs_that_take_no_weak_reference_are_let_through():
    class Scale(Layer):
        def forward(self, x, factors):
            return x * factors[0]

    layer, x = Scale(), Variable(np.array(2.0))
    assert layer(x, (3.0,)).data == 6.0
    assert [r() is None for r in layer.inputs] == [False, True]


def test_the_graph_dies_with_its_output_though_the_layer_lives(no_gc):
    layers = [L.Conv2d(2, 3), F.flatten, L.BatchNorm(), L.Linear(3)]
    y = x = Variable(randn(2, 1, 5, 5))
    nodes = []
    for layer in layers:
        y = layer(y)
        nodes.append(weakref.ref(y))
    y.sum().backward()
    del y, x
    assert [node() for node in nodes] == [None] * 4


# ----------------------------------------------------------------------------------------------------------------------
# Copies
# ----------------------------------------------------------------------------------------------------------------------


class Net(Layer):
    """A bit of everything; a class of the module, so that it can be pickled."""

    def __init__(self):
        super().__init__()
        self.conv = L.Conv2d(2, 3)
        self.bn = L.BatchNorm()
        self.blocks = [L.Linear(4), L.Linear(4)]
        self.lstm = L.LSTM(3)
        self.rnn = L.RNN(3)
        self.tied = self.blocks[1].W

    def forward(self, x):
        x = F.flatten(F.relu(self.bn(self.conv(x))))
        return self.rnn(self.lstm(self.blocks[1](self.blocks[0](x))))


def clone_by_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


@pytest.fixture(params=[copy.deepcopy, clone_by_pickle], ids=["deepcopy", "pickle"])
def clone(request):
    return request.param


def test_a_copy_after_a_call_has_the_weights_and_works(clone):
    net, x = Net(), randn(2, 1, 5, 5)
    for _ in range(2):
        y = net(x)
    twin = clone(net)
    assert names(twin) == names(net)
    for p, q in zip(net.params(), twin.params(), strict=True):
        assert q is not p
        assert not np.shares_memory(q.data, p.data)
        np.testing.assert_array_equal(q.data, p.data)
    assert twin.tied is twin.blocks[1].W
    assert (twin.bn.avg_mean.is_buffer, twin.bn.gamma.is_buffer) == (True, False)
    np.testing.assert_array_equal(twin(x).data, net(x).data)
    assert y.creator is not None  # the original keeps its graph


def test_a_copy_drops_the_graph_and_the_weak_references(clone):
    net = Net()
    net(randn(2, 1, 5, 5))
    twin = clone(net)
    for layer in (twin, twin.conv, twin.lstm):
        assert not hasattr(layer, "inputs")
        assert not hasattr(layer, "outputs")
    assert twin.lstm.h.creator is None
    assert len(net.inputs) == 1


@pytest.mark.parametrize("kind", [L.RNN, L.LSTM])
def test_a_copy_keeps_the_state_as_a_value(clone, kind):
    layer = kind(3)
    layer(randn(2, 4))
    layer(randn(2, 4))
    twin = clone(layer)
    np.testing.assert_array_equal(twin.h.data, layer.h.data)
    np.testing.assert_array_equal(twin(randn(2, 4, seed=1)).data, layer(randn(2, 4, seed=1)).data)


def test_a_copy_before_the_first_call_makes_its_own_weights(clone):
    layer = L.Linear(3)
    twin = clone(layer)
    twin(randn(2, 2))
    assert (layer.W.data, twin.W.shape) == (None, (2, 3))


@pytest.mark.parametrize(
    ("layer", "x"),
    [(L.Linear(3), (2, 4)), (L.Conv2d(3, 2), (2, 4, 5, 5)), (L.Deconv2d(3, 2), (2, 4, 5, 5)), (L.BatchNorm(), (2, 4))],
    ids=["Linear", "Conv2d", "Deconv2d", "BatchNorm"],
)
def test_a_pickle_from_before_a_layer_could_choose_is_what_it_was(layer, x):
    state = vars(pickle.loads(pickle.dumps(layer)))
    twin = type(layer).__new__(type(layer))
    new = ("init_W", "nobias", "dilation", "groups", "decay", "eps")
    vars(twin).update({name: value for name, value in state.items() if name not in new})
    np.random.seed(0)
    wanted = layer(randn(*x)).data
    np.random.seed(0)
    np.testing.assert_array_equal(twin(randn(*x)).data, wanted)
    assert repr(twin).startswith(type(layer).__name__)


def test_a_pickle_does_not_grow_with_the_graph():
    layer = L.RNN(3)
    layer(randn(2, 4))
    layer(randn(2, 4))
    size = len(pickle.dumps(layer))
    for _ in range(20):
        layer(randn(2, 4))
    assert len(pickle.dumps(layer)) == size


# ----------------------------------------------------------------------------------------------------------------------
# Values against PyTorch
# ----------------------------------------------------------------------------------------------------------------------


def compare(layer, module, x, parts, rtol=1e-4, atol=1e-5):
    """Give the PyTorch module our weights, and hold outputs and all gradients against its own."""
    torch = pytest.importorskip("torch")
    x, x_torch = Variable(x), torch.tensor(x, requires_grad=True)
    y = layer(x)
    with torch.no_grad():
        for ours, (theirs, turn) in parts.items():
            getattr(module, theirs).copy_(torch.tensor(turn(getattr(layer, ours).data)))
    y_torch = module(x_torch)
    weights = np.cos(np.arange(y.size)).reshape(y.shape).astype(np.float32)
    np.testing.assert_allclose(y.data, y_torch.detach().numpy(), rtol=rtol, atol=atol)
    (y * weights).sum().backward()
    y_torch.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad.data, x_torch.grad.numpy(), rtol=rtol, atol=atol)
    for ours, (theirs, turn) in parts.items():
        expected = getattr(module, theirs).grad.numpy()
        np.testing.assert_allclose(turn(getattr(layer, ours).grad.data), expected, rtol=rtol, atol=10 * atol)


def same(x):
    return x


def test_linear_against_torch():
    torch = pytest.importorskip("torch")
    parts = {"W": ("weight", np.transpose), "b": ("bias", same)}
    layer = L.Linear(3, in_size=4)
    layer.b.data = randn(3)
    compare(layer, torch.nn.Linear(4, 3), randn(5, 4), parts)


@pytest.mark.parametrize("kind", ["Conv2d", "Deconv2d"])
@pytest.mark.parametrize(("kernel_size", "stride", "pad"), [(3, 1, 0), (3, 2, 1), ((3, 2), (1, 2), (1, 0))])
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (2, 2), ((1, 2), 4)])
def test_convolutions_against_torch(kind, kernel_size, stride, pad, dilation, groups):
    torch = pytest.importorskip("torch")
    options = {"dilation": dilation, "groups": groups}
    layer = getattr(L, kind)(8, kernel_size, stride, pad, in_channels=4, **options)
    layer.b.data = randn(8)
    module = {"Conv2d": torch.nn.Conv2d, "Deconv2d": torch.nn.ConvTranspose2d}[kind]
    module = module(4, 8, kernel_size, stride, pad, **options)
    compare(layer, module, randn(2, 4, 7, 6), {"W": ("weight", same), "b": ("bias", same)})


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 0, 1, 4)]
)
def test_conv1d_against_torch(stride, pad, dilation, groups):
    torch = pytest.importorskip("torch")
    layer = L.Conv1d(8, 3, stride, pad, dilation=dilation, groups=groups)
    module = torch.nn.Conv1d(4, 8, 3, stride, pad, dilation, groups)
    layer.b.data = randn(8)
    compare(layer, module, randn(2, 4, 9), {"W": ("weight", same), "b": ("bias", same)})


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 5, 2)])
def test_batch_norm_against_torch_training_and_judging(shape):
    torch = pytest.importorskip("torch")
    kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
    layer, module = L.BatchNorm(), kind(3, eps=2e-5, momentum=0.1)
    layer(np.ones(shape, np.float32))  # makes the four arrays
    layer.gamma.data, layer.beta.data = randn(3, seed=1), randn(3, seed=2)
    layer.avg_mean.data[:], layer.avg_var.data[:] = 0, 1
    parts = {"gamma": ("weight", same), "beta": ("bias", same)}
    for seed in range(3):
        layer.cleargrads()
        module.zero_grad()
        compare(layer, module, 2 + 3 * randn(*shape, seed=seed), parts)
    np.testing.assert_allclose(layer.avg_mean.data, module.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.avg_var.data, module.running_var.numpy(), rtol=1e-5, atol=1e-6)
    layer.cleargrads()
    module.zero_grad()
    module.eval()
    with test_mode():
        compare(layer, module, 2 + 3 * randn(*shape, seed=9), parts)


def torch_rnn(torch, layer, in_size, hidden):
    module = torch.nn.RNN(in_size, hidden)
    values = {
        "weight_ih_l0": layer.x2h.W.data.T,
        "weight_hh_l0": layer.h2h.W.data.T,
        "bias_ih_l0": layer.x2h.b.data,
        "bias_hh_l0": np.zeros(hidden, np.float32),
    }
    return module, values


def torch_lstm(torch, layer, in_size, hidden):
    module = torch.nn.LSTM(in_size, hidden)
    order = "ifuo"  # PyTorch's: input, forget, cell, output
    values = {
        "weight_ih_l0": np.concatenate([getattr(layer, f"x2{k}").W.data.T for k in order]),
        "weight_hh_l0": np.concatenate([getattr(layer, f"h2{k}").W.data.T for k in order]),
        "bias_ih_l0": np.concatenate([getattr(layer, f"x2{k}").b.data for k in order]),
        "bias_hh_l0": np.zeros(4 * hidden, np.float32),
    }
    return module, values


@pytest.mark.parametrize(("kind", "translate"), [(L.RNN, torch_rnn), (L.LSTM, torch_lstm)])
def test_recurrent_layers_against_torch_over_time(kind, translate):
    torch = pytest.importorskip("torch")
    layer = kind(4, in_size=3)
    for p in layer.params():
        p.data = randn(*p.shape, seed=p.size)
    module, values = translate(torch, layer, 3, 4)
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(torch.tensor(value))
    xs = [Variable(randn(2, 3, seed=t)) for t in range(5)]
    x_torch = torch.tensor(np.stack([x.data for x in xs]), requires_grad=True)
    ys = [layer(x) for x in xs]
    y_torch = module(x_torch)[0]
    np.testing.assert_allclose([y.data for y in ys], y_torch.detach().numpy(), rtol=1e-4, atol=1e-5)
    ys[-1].sum().backward()
    y_torch[-1].sum().backward()
    np.testing.assert_allclose([x.grad.data for x in xs], x_torch.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_embed_id_against_torch():
    torch = pytest.importorskip("torch")
    layer, module = L.EmbedID(5, 3), torch.nn.Embedding(5, 3)
    ids = np.array([[1, 4, 1], [0, 1, 4]])
    y = layer(ids)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(layer.W.data))
    y_torch = module(torch.tensor(ids))
    np.testing.assert_array_equal(y.data, y_torch.detach().numpy())
    (y * y).sum().backward()
    (y_torch * y_torch).sum().backward()
    np.testing.assert_allclose(layer.W.grad.data, module.weight.grad.numpy(), rtol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# State
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [L.RNN, L.LSTM])
def test_the_state_goes_on_from_call_to_call_until_it_is_reset(kind):
    layer, x = kind(3), randn(2, 4)
    assert layer.h is None
    first = layer(x)
    assert layer.h is first
    second = layer(x)
    assert not np.allclose(first.data, second.data)
    layer.reset_state()
    assert layer.h is None
    assert getattr(layer, "c", None) is None
    np.testing.assert_array_equal(layer(x).data, first.data)


@pytest.mark.parametrize("kind", [L.RNN, L.LSTM])
def test_unchain_backward_keeps_the_state_and_cuts_what_came_before(kind):
    layer = kind(3)
    early, late = Variable(randn(2, 4)), Variable(randn(2, 4, seed=1))
    loss = layer(early).sum()
    loss.unchain_backward()
    h = layer.h
    layer(late).sum().backward()
    assert h is not None
    assert early.grad is None
    assert late.grad is not None


STEP = [(6, 3), (6, 4), (6, 4), *[(3, 4)] * 4, *[(4,)] * 4, *[(4, 4)] * 4]  # x, h, c, Wx, b, Wh


def step_inputs():
    return [Variable(randn(*shape, seed=i).astype(np.float64)) for i, shape in enumerate(STEP)]


def close(found, wanted):
    for y, z in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y.data, z.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_step_in_one_node_is_that_of_f(order):
    """Gradients of the first order come from arrays, those of the others from a graph."""
    answers = []
    for step in (lambda *xs: LSTMStep()(*xs), lstm_step_simple):
        xs = step_inputs()
        results = [*step(*xs)]
        y = sum(F.sum(F.sin(a) * randn(6, 4, seed=20)) for a in results)
        for turn in range(1, order + 1):
            results = [*results, *dezero.grad(y, xs, create_graph=turn < order)]
            if turn < order:
                y = sum(F.sum(F.sin(g)) for g in results[-len(xs) :])
        answers.append(results)
    close(*answers)


@pytest.mark.parametrize("backend", list(kernels.BACKENDS))
def test_many_steps_are_those_of_the_gates_one_by_one(backend, monkeypatch):
    """Of a size at which kernels change, and back through time into x, and into a layer that is used twice."""
    answers = []
    for one_node in (True, False):
        np.random.seed(0)
        layer, xs = L.LSTM(64, in_size=64), [Variable(randn(20, 64, seed=i)) for i in range(4)]
        layer.x2i = layer.x2f
        if not one_node:
            monkeypatch.setattr(L.LSTM, "_plain_weights", lambda self, x: None)
        with kernels.using_kernels(backend):
            for x in xs:
                y = layer(x)
            steps = [node for node in nodes_behind([y], lambda x: False) if isinstance(node, LSTMStep)]
            assert len(steps) == 3 * one_node  # the first has no state to begin with
            F.sum(y * layer.c).backward()
        answers.append([y, *(x.grad for x in xs), *(p.grad for p in layer.params())])
    for y, z in zip(*answers, strict=True):
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y.data, z.data, rtol=1e-3, atol=1e-5 * np.abs(z.data).max())


class Doubled(L.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda lstm: setattr(lstm, "h2u", Doubled(4, nobias=True, in_size=4)),
        lambda lstm: setattr(lstm, "x2o", L.Linear(4, nobias=True, in_size=4)),
        lambda lstm: setattr(lstm, "h2f", L.Linear(4, in_size=4)),
        lambda lstm: setattr(lstm, "h", lstm.h[:1]),
        lambda lstm: setattr(lstm, "c", lstm.c[:1]),
        lambda lstm: setattr(lstm.x2i.b, "data", np.zeros(1, np.float32)),
    ],
)
def test_a_step_of_other_parts_goes_through_each_of_them(change, monkeypatch):
    np.random.seed(0)
    lstm = L.LSTM(4, in_size=4)
    x = randn(3, 4)
    lstm(x)
    change(lstm)
    twin = copy.deepcopy(lstm)
    monkeypatch.setattr(LSTMStep, "forward", lambda *_: pytest.fail("in one node"))
    try:
        found = lstm(x).data
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            _by_hand(twin, x)
    else:
        np.testing.assert_allclose(found, _by_hand(twin, x).data, rtol=1e-6)


def _by_hand(lstm, x):
    f, i, o = (F.sigmoid(getattr(lstm, f"x2{k}")(x) + getattr(lstm, f"h2{k}")(lstm.h)) for k in "fio")
    c = f * lstm.c + i * F.tanh(lstm.x2u(x) + lstm.h2u(lstm.h))
    return o * F.tanh(c)


def test_the_state_is_no_parameter():
    layer = L.LSTM(2)
    before = names(layer)
    layer(randn(1, 2))
    assert names(layer) == before


# ----------------------------------------------------------------------------------------------------------------------
# Batch normalisation
# ----------------------------------------------------------------------------------------------------------------------


def test_batch_norms_running_statistics_are_buffers_among_the_params():
    layer = L.BatchNorm()
    assert [p.is_buffer for p in layer.params()] == [True, True, False, False]
    assert [p.data for p in layer.params()] == [None] * 4
    layer(randn(4, 3))
    assert [p.shape for p in layer.params()] == [(3,)] * 4
    assert {p.dtype for p in layer.params()} == {np.dtype(np.float32)}


def test_batch_norms_running_statistics_follow_the_formula_and_get_no_gradient():
    layer, x = L.BatchNorm(), 5 + 2 * randn(10, 3)
    layer(x).sum().backward()
    np.testing.assert_allclose(layer.avg_mean.data, 0.1 * x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(layer.avg_var.data, 0.9 + 0.1 * x.var(axis=0, ddof=1), rtol=1e-5)
    assert [p.grad is None for p in layer.params()] == [True, True, False, False]


def test_batch_norm_changes_no_statistics_in_test_mode():
    layer = L.BatchNorm()
    layer(randn(4, 3))
    before = [layer.avg_mean.data.copy(), layer.avg_var.data.copy()]
    with test_mode():
        layer(randn(4, 3, seed=1))
    np.testing.assert_array_equal([layer.avg_mean.data, layer.avg_var.data], before)


def test_batch_norm_called_first_in_test_mode_leaves_x_nearly_alone():
    x = randn(4, 3)
    with test_mode(), no_grad():
        np.testing.assert_allclose(L.BatchNorm()(x).data, x / np.sqrt(1 + 2e-5), rtol=1e-5)


def test_batch_norms_parameters_are_in_the_machines_own_order():
    layer = L.BatchNorm()
    layer(np.ones((2, 3), ">f4"))
    assert all(param.dtype.isnative for param in layer.params())


@pytest.mark.parametrize(("dtype", "expected"), [(np.float64, np.float64), (np.int64, np.float32)])
def test_batch_norm_takes_xs_dtype_when_that_is_floating(dtype, expected):
    layer = L.BatchNorm()
    layer(np.arange(6).reshape(3, 2).astype(dtype))
    assert {p.dtype for p in layer.params()} == {np.dtype(expected)}


def test_batch_norm_keeps_arrays_assigned_before_the_first_call():
    layer = L.BatchNorm()
    gamma = layer.gamma.data = np.array([2.0, 3.0], np.float32)
    layer(randn(4, 2))
    assert layer.gamma.data is gamma
    assert layer.beta.shape == (2,)


def test_the_names_of_a_layers_own_parts_are_where_the_book_looks_for_them():
    layer = L.Layer()
    layer.p1, layer.p2 = Parameter(np.array(1.0)), Parameter(np.array(2.0))
    layer.p3, layer.p4 = Variable(np.array(3.0)), "text"
    assert list(layer._params) == ["p1", "p2"]
    assert all(isinstance(layer.__dict__[name], Parameter) for name in layer._params)


# ----------------------------------------------------------------------------------------------------------------------
# Misuse that would pass in silence
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: L.Linear(784, 10), lambda: L.Conv2d(8, 3, 1, 0, 10)])
def test_a_number_where_nobias_belongs_is_refused(make):
    with pytest.raises(TypeError, match=r"nobias must be True or False, got 10; input sizes are given by name"):
        make()


@pytest.mark.parametrize("layer", [L.RNN(3), L.LSTM(3)], ids=["RNN", "LSTM"])
@pytest.mark.parametrize(("first", "second"), [(4, 1), (4, 3)])
def test_the_state_of_another_batch_size_is_refused(layer, first, second):
    layer.reset_state()
    layer(np.ones((first, 2)))
    with pytest.raises(ValueError, match=rf"state is that of a batch of {first}, but x has {second}; call reset_state"):
        layer(np.ones((second, 2)))


@pytest.mark.parametrize(
    ("layer", "wrong", "right"),
    [
        (L.Conv2d(4, 5), (2, 8, 4, 1), (2, 1, 8, 8)),
        (L.Conv2d(4, 3, groups=2), (2, 3, 8, 8), (2, 4, 8, 8)),
        (L.Conv1d(4, 5), (2, 8, 4), (2, 1, 8)),
        (L.BatchNorm(), (2, 3, 4, 1, 1), (2, 5)),
        (L.BatchNorm(), (2, 0), (2, 5)),
        (L.Linear(3), (2, 0), (2, 4)),
    ],
    ids=["Conv2d", "Conv2d groups", "Conv1d", "BatchNorm", "BatchNorm empty", "Linear"],
)
def test_a_first_call_that_fails_makes_no_weights(layer, wrong, right):
    with pytest.raises(ValueError, match=f"^{type(layer).__name__}: "):
        layer(np.ones(wrong, np.float32))
    layer(np.ones(right, np.float32))


@pytest.mark.parametrize("layer", [L.Linear(3), L.Conv2d(3, 3), L.Deconv2d(3, 3), L.BatchNorm(), L.RNN(3)])
@pytest.mark.parametrize("bad", [[[1.0, 2.0]], None, "text"], ids=lambda bad: type(bad).__name__)
def test_what_is_no_array_is_refused(layer, bad):
    with pytest.raises(TypeError, match=r"^\w+: expected Variables, arrays or numbers, got"):
        layer(bad)


def test_a_state_of_one_row_serves_every_row():
    rnn = L.RNN(3)
    rnn.h = Variable(np.zeros((1, 3), np.float32))
    assert rnn(np.ones((5, 2), np.float32)).shape == (5, 3)
