"""repr's tree and summary's table: what they say, and that a summary leaves no trace."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest

import dezero
from dezero import Model, Parameter, Variable, cuda, summary
from dezero import functions as F
from dezero import layers as L
from dezero.core import Function
from dezero.models import MLP, Sequential


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Block(Model):
    def __init__(self, channels, stride=1):
        super().__init__()
        self.channels = channels
        self.conv = L.Conv2d(channels, 3, stride, 1, nobias=True)
        self.norm = L.BatchNorm()
        self.scale = Parameter(np.ones(1, np.float32))
        self.activation = F.relu

    def forward(self, x):
        return self.activation(self.norm(self.conv(x))) * self.scale


def net():
    return Sequential(L.Conv2d(4, 3), F.relu, Block(6, stride=2), F.flatten, L.Linear(10))


# ----------------------------------------------------------------------------------------------------------------------
# repr
# ----------------------------------------------------------------------------------------------------------------------


def columns(text):
    """The lines of a text, their columns apart, and how deep each line is."""
    return [(len(line) - len(line.lstrip()), *re.split(r"  +", line.strip())) for line in str(text).splitlines()]


def test_repr_is_a_tree_with_arguments_and_counts():
    model = net()
    model(randn(2, 3, 8, 8))
    assert columns(repr(model)) == [
        (0, "Sequential()", "891 parameters"),
        (2, "l0: Conv2d(out_channels=4, kernel_size=3, in_channels=3)", "112"),
        (2, "l1: relu"),
        (2, "l2: Block(channels=6)", "229"),
        (4, "conv: Conv2d(out_channels=6, kernel_size=3, stride=2, pad=1, nobias=True, in_channels=4)", "216"),
        (4, "norm: BatchNorm()", "12"),
        (4, "scale: Parameter", "1"),
        (4, "activation: relu"),
        (2, "l3: flatten"),
        (2, "l4: Linear(out_size=10, in_size=54)", "550"),
    ]


def test_repr_says_which_weights_are_not_made_yet():
    assert columns(repr(net())) == [
        (0, "Sequential()", "15 parameters + 7 arrays not made yet"),
        (2, "l0: Conv2d(out_channels=4, kernel_size=3)", "4 + W not made yet"),
        (2, "l1: relu"),
        (2, "l2: Block(channels=6)", "1 + 5 arrays not made yet"),
        (4, "conv: Conv2d(out_channels=6, kernel_size=3, stride=2, pad=1, nobias=True)", "W not made yet"),
        (4, "norm: BatchNorm()", "avg_mean, avg_var, gamma, beta not made yet"),
        (4, "scale: Parameter", "1"),
        (4, "activation: relu"),
        (2, "l3: flatten"),
        (2, "l4: Linear(out_size=10)", "10 + W not made yet"),
    ]


def test_counts_stand_in_one_column():
    lines = repr(MLP((100, 10))).splitlines()
    assert lines == [
        "MLP()                       110 parameters + 2 arrays not made yet",
        "  l0: Linear(out_size=100)  100 + W not made yet",
        "  l1: Linear(out_size=10)   10 + W not made yet",
    ]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (L.Linear(3, in_size=2), "Linear(out_size=3, in_size=2)  9 parameters"),
        (L.Linear(3, in_size=1000), "Linear(out_size=3, in_size=1000)  3,003 parameters"),
        (L.Linear(3, dtype=np.float64), "Linear(out_size=3, dtype=float64)  3 parameters + W not made yet"),
        (L.Linear(3, dtype="float64"), "Linear(out_size=3, dtype='float64')  3 parameters + W not made yet"),
        (L.Conv2d(np.int64(1), (3, np.int64(2)), nobias=True),
         "Conv2d(out_channels=1, kernel_size=(3, 2), nobias=True)  W not made yet"),
        (L.Linear(1, init_W="orthogonal"), "Linear(out_size=1, init_W='orthogonal')  1 parameters + W not made yet"),
        (L.Layer(), "Layer()  0 parameters"),
        (L.EmbedID(5, 2), "EmbedID(in_size=5, out_size=2)  10 parameters"),
    ],
)  # fmt: skip
def test_repr_of_one_layer(layer, text):
    assert repr(layer) == text


def test_an_activation_is_an_argument_or_a_part():
    assert repr(MLP((2,), activation=F.relu)).startswith("MLP(activation=relu)  ")
    assert "l1: <lambda>" in repr(Sequential(L.Linear(1), lambda x: x))
    assert columns(repr(Sequential(F.sin, F.cos))) == [
        (0, "Sequential()", "0 parameters"),
        (2, "l0: sin"),
        (2, "l1: cos"),
    ]


def test_shared_parts_are_shown_once_and_named_again():
    model = Model()
    model.encoder = L.Linear(2, in_size=2)
    model.decoder = L.Linear(2, in_size=2)
    model.decoder.W = model.encoder.W
    model.twice = model.encoder
    model.bias = model.decoder.b
    model.itself = model
    assert columns(repr(model)) == [
        (0, "Model()", "8 parameters"),
        (2, "encoder: Linear(out_size=2, in_size=2)", "6"),
        (2, "decoder: Linear(out_size=2, in_size=2)", "6"),
        (2, "twice: encoder again"),
        (2, "bias: decoder/b again"),
        (2, "itself: the whole again"),
    ]


def test_lists_and_dicts_are_in_the_tree_in_their_order():
    model = Model()
    model.blocks = [L.Linear(1, in_size=1), L.Linear(2, in_size=1)]
    model.norm = L.BatchNorm()
    model.heads = {"cat": L.Linear(3, in_size=1)}
    model.list = L.LayerList([L.Linear(4, in_size=1)])
    names = [line[1].partition("(")[0] for line in columns(repr(model))]
    assert names == [
        *("Model", "blocks.0: Linear", "blocks.1: Linear", "norm: BatchNorm", "heads.cat: Linear"),
        *("list: LayerList", "0: Linear"),
    ]


def test_a_layer_with_odd_arguments_has_a_repr():
    class Odd(L.Layer):
        def __init__(self, *sizes, x=None, kind=L.Linear, **options):
            super().__init__()
            self.sizes, self.x, self.kind, self.options = sizes, x, kind, options
            self.array = np.zeros(3)

    assert repr(Odd(1, 2, x=np.zeros(2), kind=L.Conv2d)) == "Odd(kind=Conv2d)  0 parameters"


def test_running_statistics_are_not_learned():
    norm = L.BatchNorm()
    norm(randn(4, 3))
    assert repr(norm) == "BatchNorm()  6 parameters"


# ----------------------------------------------------------------------------------------------------------------------
# The table
# ----------------------------------------------------------------------------------------------------------------------


def table(layer, *inputs):
    return columns(layer.summary(*inputs, show=False))[2:]


def test_the_table():
    assert str(net().summary((2, 3, 8, 8), show=False)).splitlines() == [
        "layer                output shape  parameters  multiply-adds",
        "------------------------------------------------------------",
        "Sequential           (2, 10)              891         12,744",
        "  l0: Conv2d         (2, 4, 6, 6)         112          7,776",  # 2 * 4 * 6 * 6 * 3 * 3 * 3
        "  l2: Block          (2, 6, 3, 3)         229          3,888",
        "    conv: Conv2d     (2, 6, 3, 3)         216          3,888",  # 2 * 6 * 3 * 3 * 4 * 3 * 3
        "    norm: BatchNorm  (2, 6, 3, 3)          12              0",
        "  l4: Linear         (2, 10)              550          1,080",  # 2 * 54 * 10
        "------------------------------------------------------------",
        "parameters: 891 learned, 12 running statistics, 3.612 KB; multiply-adds: 12,744",
    ]


def test_it_is_printed_and_returned(capsys):
    found = net().summary((2, 3, 8, 8))
    assert capsys.readouterr().out == f"{found}\n"
    assert net().summary((2, 3, 8, 8), show=False).rows == found.rows
    assert capsys.readouterr().out == ""
    assert repr(found) == "Summary(parameters=891, buffers=12, multiply_adds=12744)"
    assert (found.parameters, found.buffers, found.bytes, found.multiply_adds) == (891, 12, 4 * 903, 12744)
    assert found.rows[1] == ("  l0: Conv2d", "(2, 4, 6, 6)", 112, 7776)


def test_arrays_and_variables_are_inputs_as_well():
    for x in (randn(2, 3, 8, 8), Variable(randn(2, 3, 8, 8))):
        assert str(net().summary(x, show=False)) == str(net().summary((2, 3, 8, 8), show=False))
    assert table(L.EmbedID(5, 2), np.array([[1, 2]]))[0][1:] == ("EmbedID", "(1, 2, 2)", "10", "0")


def test_several_inputs_and_outputs():
    class Two(Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = L.Linear(3), L.Linear(4)

        def forward(self, x, y):
            return self.a(x), (self.b(y), "text")

    assert table(Two(), (2, 5), randn(1, 6))[0][1:] == ("Two", "(2, 3), (1, 4), str", "46", "54")


def test_a_layer_called_twice_counts_its_work_twice_and_its_parameters_once():
    linear = L.Linear(3)
    model = Sequential(linear, linear)
    assert table(model, (5, 3))[:3] == [
        (0, "Sequential", "(5, 3)", "12", "90"),
        (2, "l0: Linear", "(5, 3), the last of 2", "12", "90"),
        (2, "l1: l0 again"),
    ]


def test_a_layer_that_calls_itself_counts_its_work_once():
    class Again(Model):
        def __init__(self):
            super().__init__()
            self.linear = L.Linear(3)

        def forward(self, x, depth=2):
            x = self.linear(x)
            return self(x, depth - 1) if depth else x

    assert Again()(randn(1, 3)).shape == (1, 3)
    assert table(Again(), (5, 3))[:2] == [
        (0, "Again", "(5, 3), the last of 3", "12", "135"),
        (2, "linear: Linear", "(5, 3), the last of 3", "12", "135"),
    ]


def test_layers_that_were_not_called_are_said_so():
    model = Sequential(L.Linear(2))
    model.head = L.Linear(7)
    found = table(model, (1, 4))
    assert found[2] == (2, "head: Linear", "not called", "7", "0")
    assert found[-1][1] == "not made, as the call did not reach them: 1 array"


def test_parts_that_a_layer_uses_without_calling_them():
    class Inside(Model):
        def __init__(self):
            super().__init__()
            self.linear = L.Linear(3, in_size=2)

        def forward(self, x):
            return F.linear(x, self.linear.W, self.linear.b)

    assert table(Inside(), (5, 2))[:2] == [
        (0, "Inside", "(5, 3)", "9", "30"),
        (2, "linear: Linear", "within the above", "9", "0"),
    ]


def test_products_in_a_models_own_forward_are_counted_in_it():
    class Attend(Model):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x)

    assert table(Attend(), (2, 7, 5))[0][1:] == ("Attend", "(2, 7, 5)", "0", f"{2 * 2 * 7 * 7 * 5:,}")


@pytest.mark.parametrize(("size", "text"), [(3, "12 bytes"), (300, "1.2 KB"), (10**6, "4 MB"), (10**7, "40 MB")])
def test_bytes_are_said_in_units(size, text):
    model = Model()
    model.p = Parameter(np.broadcast_to(np.float32(0), (size,)))
    model.forward = lambda x: Variable(x)
    assert f"running statistics, {text};" in str(model.summary((1,), show=False))


# ----------------------------------------------------------------------------------------------------------------------
# Multiply-adds
# ----------------------------------------------------------------------------------------------------------------------

# An operation, and the multiply-adds that plain loops would make of it.
OPERATIONS = {
    "linear": (lambda: F.linear(randn(5, 2), randn(2, 3), randn(3)), 5 * 2 * 3),
    "linear on three axes": (lambda: F.linear(randn(7, 5, 2), randn(2, 3)), 7 * 5 * 2 * 3),
    "matmul": (lambda: F.matmul(randn(5, 2), randn(2, 3)), 5 * 2 * 3),
    "matmul of batches": (lambda: F.matmul(randn(4, 1, 5, 2), randn(6, 2, 3)), 4 * 6 * 5 * 2 * 3),
    "vectors": (lambda: F.matmul(randn(7), randn(7)), 7),
    "matrix by vector": (lambda: F.matmul(randn(5, 7), randn(7)), 5 * 7),
    "conv2d": (lambda: F.conv2d(randn(2, 4, 6, 5), randn(6, 4, 3, 2)), 2 * 6 * 4 * 4 * 4 * 3 * 2),
    "conv2d groups": (lambda: F.conv2d(randn(2, 4, 6, 5), randn(6, 2, 3, 2), groups=2), 2 * 6 * 4 * 4 * 2 * 3 * 2),
    "conv1d": (lambda: F.conv1d(randn(2, 4, 6), randn(6, 4, 3)), 2 * 6 * 4 * 4 * 3),
    "deconv2d": (lambda: F.deconv2d(randn(2, 4, 3, 3), randn(4, 6, 2, 2), stride=2), 2 * 4 * 9 * 6 * 4),
    "deconv2d groups": (lambda: F.deconv2d(randn(2, 4, 3, 3), randn(4, 6, 2, 2), groups=2), 2 * 4 * 9 * 6 * 4),
    "einsum": (lambda: F.einsum("bij,bjk->bik", randn(2, 3, 4), randn(2, 4, 5)), 2 * 3 * 4 * 5),
    "einsum of one": (lambda: F.einsum("ij->i", randn(3, 4)), 0),
    "relu": (lambda: F.relu(randn(3, 4)), 0),
    "pooling": (lambda: F.pooling(randn(1, 1, 4, 4), 2), 0),
}


class Counter:
    def __init__(self):
        self.count = 0

    def after_forward(self, node, inputs, outputs):
        self.count += summary.multiply_adds(node, inputs, outputs)


@pytest.mark.parametrize(("operation", "expected"), OPERATIONS.values(), ids=OPERATIONS)
def test_multiply_adds_of_operations(operation, expected):
    counter = Counter()
    with dezero.core.mode("observer", counter):
        operation()
    assert counter.count == expected


def test_a_step_of_an_lstm_counts_alike_in_one_node_and_in_many():
    lstm = L.LSTM(4, in_size=3)
    counts = []
    for _ in range(3):  # the first step has no state yet, the others are one node
        counter = Counter()
        with dezero.core.mode("observer", counter):
            lstm(randn(2, 3))
        counts.append(counter.count)
    assert counts == [4 * 2 * 4 * 3, 4 * 2 * 4 * 7, 4 * 2 * 4 * 7]


def kinds_within(kind):
    for subclass in kind.__subclasses__():
        yield subclass
        yield from kinds_within(subclass)


def test_every_operation_made_of_products_is_counted():
    """Those are the ones that `autocast` computes in halves."""
    products = [k for k in kinds_within(Function) if k.__module__.startswith("dezero.") and k.precision == "half"]
    assert [k.__name__ for k in products if not {*k.__mro__} & {*summary.COUNTS}] == []
    assert len(products) >= 7


# ----------------------------------------------------------------------------------------------------------------------
# Without a trace
# ----------------------------------------------------------------------------------------------------------------------


class Stateful(Model):
    """What a call can change: weights not made yet, statistics, states, attributes, lists, and random draws."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = L.Conv2d(2, 3), L.BatchNorm()
        self.rnn, self.lstm = L.RNN(3), L.LSTM(3)
        self.calls, self.seen, self.notes = 0, [], {"sizes": 0}
        self.total = Parameter(np.zeros(2, np.float32))
        self.total.is_buffer = True

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        self.notes["sizes"] = self.calls
        self.made = L.Linear(2)
        self.total.data += 1
        x = F.dropout(F.flatten(self.norm(self.conv(x))))
        np.random.rand()
        return self.made(self.lstm(self.rnn(x)))


def everything(layer):
    """All that there is of a layer, as bytes, and the identity of what must stay itself."""
    params = list(layer.params())
    return (
        pickle.dumps(layer),
        [(id(p), id(p.data), None if p.grad is None else (id(p.grad), p.grad.data.tobytes())) for p in params],
        [id(part) for part in vars(layer).values()],
        np.random.get_state()[1].tobytes(),
        np.random.get_state()[2],
    )


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_summary_leaves_no_trace(steps):
    model, x = Stateful(), randn(2, 1, 6, 6)
    for _ in range(steps):
        model.cleargrads()
        y = model(x)
        y.sum().backward()
    kept = [x() for x in model.outputs] if steps else None
    before = everything(model)
    text = str(model.summary((5, 1, 6, 6), show=False))  # another batch than that of the states
    assert everything(model) == before
    assert "(5, 2, 4, 4)" in text
    if steps:
        assert [x() for x in model.outputs] == kept == [y]
        assert model.lstm.h.creator is not None


def test_a_summary_that_fails_leaves_no_trace_either():
    model = Stateful()
    model(randn(2, 1, 6, 6))
    before = everything(model)
    with pytest.raises(ValueError, match="conv2d: W takes 1 channels but x has 3"):
        model.summary((2, 3, 6, 6))
    assert everything(model) == before
    assert summary.watch.get() is None


def test_training_goes_on_as_if_there_had_been_no_summary():
    losses = []
    for look in (False, True):
        np.random.seed(0)
        model, x = net(), randn(4, 3, 8, 8)
        found = []
        for _ in range(3):
            if look:
                model.summary((1, 3, 8, 8), show=False)
            loss = F.mean_squared_error(F.dropout(model(x)), np.zeros((4, 10), np.float32))
            model.cleargrads()
            loss.backward()
            for p in model.params():
                if p.grad is not None:
                    p.data -= 0.01 * p.grad.data
            found.append(float(loss))
        losses.append(found)
    assert losses[0] == losses[1]


def test_with_a_generator_of_the_frameworks_own():
    dezero.seed(5)
    first = dezero.random.normal(3)
    dezero.seed(5)
    net().summary((1, 3, 8, 8), show=False)
    np.testing.assert_array_equal(dezero.random.normal(3), first)
    dezero.seed(None)


def test_no_graph_is_recorded_and_dropout_keeps_all():
    seen = []

    class Look(Model):
        def __init__(self):
            super().__init__()
            self.linear = L.Linear(2, in_size=2)

        def forward(self, x):
            y = F.dropout(self.linear(x))
            seen.append((y.creator, dezero.Config.train, dezero.Config.enable_backprop))
            return y

    Look().summary((1, 2), show=False)
    assert seen == [(None, False, False)]
    assert (dezero.Config.train, dezero.Config.enable_backprop) == (True, True)


def test_a_copy_and_a_pickle_of_what_was_summed_up():
    model = net()
    model.summary((2, 3, 8, 8), show=False)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(Sequential(L.Linear(2))))):
        assert repr(twin).startswith("Sequential()")


# ----------------------------------------------------------------------------------------------------------------------
# What is refused, and where it works
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, -3), (2.0, 3), ("a",), (None, 4)])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"summary: expected an array, or a shape such as \(1, 3, 224, 224\), got"):
        net().summary(shape)


def test_what_a_call_refuses_is_refused():
    with pytest.raises(TypeError, match=r"embed_id: ids must be integers"):
        L.EmbedID(3, 2).summary((1, 4))
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        L.Layer().summary((1,))


def test_on_a_gpu(gpu):
    wanted = str(net().summary((2, 3, 8, 8), show=False))
    model = net()
    model(randn(2, 3, 8, 8))
    model.to_gpu()
    arrays = [id(p.data) for p in model.params()]
    mean = cuda.as_numpy(model.l2.norm.avg_mean.data).copy()
    assert str(model.summary((2, 3, 8, 8), show=False)) == wanted  # zeros are made where the weights are
    assert str(model.summary(gpu.to(randn(2, 3, 8, 8)), show=False)) == wanted
    assert [id(p.data) for p in model.params()] == arrays
    np.testing.assert_array_equal(cuda.as_numpy(model.l2.norm.avg_mean.data), mean)
    assert "891 parameters" in repr(model)


def test_calls_are_watched_in_this_thread_alone():
    other = L.Linear(3, in_size=2)

    class Threaded(Model):
        def forward(self, x):
            thread = threading.Thread(target=other, args=(randn(1, 2),))
            thread.start()
            thread.join()
            return x

    model = Threaded()
    model.other = other
    assert table(model, (1, 2))[1] == (2, "other: Linear", "not called", "9", "0")
