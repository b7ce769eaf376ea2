"""checkpoint: the same values, gradients, random numbers and running statistics for less memory."""

import copy
import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import dezero
from dezero import functions as F
from dezero import layers as L
from dezero import optimizers
from dezero.core import Config, Function, Parameter, Variable, no_grad, test_mode
from dezero.derivatives import checkpoint


def call(f, *xs):
    """What checkpoint is held against: a plain call."""
    return f(*xs)


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.fixture(autouse=True)
def own_random_numbers():
    state = np.random.get_state()
    yield
    dezero.seed(None)
    np.random.set_state(state)


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def arrays(variables):
    return [x.data for x in variables]


def assert_equal(found, expected):
    """Check that lists of arrays are the same, bit for bit."""
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


# ----------------------------------------------------------------------------------------------------------------------
# The same values and gradients
# ----------------------------------------------------------------------------------------------------------------------

# Programs of which `part` calls a piece, plainly or behind a checkpoint; and the shapes of their leaves.


def mlp(part, x, W1, b1, W2):
    h = part(lambda x: F.tanh(F.linear(x, W1, b1)), x)
    return part(lambda h: F.linear(h, W2), h)


def convolutions(part, x, W1, b1, W2):
    h = part(lambda x: F.average_pooling(F.tanh(F.conv2d(x, W1, b1, pad=1)), 2, 2), x)
    return part(lambda h: F.sigmoid(F.conv2d(h, W2)), h)


def a_captured_result(part, x, W):
    h = F.sin(x @ W)
    return part(lambda z: F.tanh(z @ W) * h + h, x)


def an_argument_and_what_it_came_from(part, x):
    h = F.sin(x)
    return part(lambda h: h * x * h, h)


def captured_alone(part, x):
    h = F.exp(x)
    return part(lambda: F.sin(h) * x)


def arguments_of_all_kinds(part, x):
    def f(x, nothing, times, name, c, options):
        assert (nothing, name, options) == (None, "tanh", {"scale": 2.0})
        return F.tanh(x * times) * c * options["scale"]

    return part(f, x, None, 3, "tanh", np.array([1.0, 2.0, 3.0]), {"scale": 2.0})


def several_outputs(part, x):
    u, v = part(lambda x: (F.sin(x), x * x), x)
    return u * v + v


def one_output_of_several_is_used(part, x):
    _, v, _ = part(lambda x: (F.sin(x), x * x * x, x.sum()), x)
    return v


def one_result_twice(part, x):
    def f(x):
        y = F.sin(x)
        return y, y

    u, v = part(f, x)
    return u * v


def a_result_behind_another(part, x):
    def f(x):
        y = F.sin(x)
        return y, y * y

    u, v = part(f, x)
    return u * v


def a_result_used_often(part, x):
    y = part(F.sin, x)
    return y * y + F.exp(y)


def nested(part, x, W):
    def inner(x):
        return F.tanh(x @ W)

    def outer(x):
        return part(inner, part(inner, x)) * F.sin(x)

    return part(outer, x)


def its_argument(part, x):
    return part(lambda x: x, x) * F.sin(part(lambda x: x, F.sin(x)))


def its_argument_and_more(part, x):
    u, v = part(lambda x: (x, F.sin(x)), F.exp(x * 0.1))
    return u * v


def a_captured_result_itself(part, x):
    h = F.sin(x)
    return part(lambda x: h, x) * x


def one_argument_twice(part, x):
    return part(lambda a, b: a * F.sin(b), x, x)


def a_weight_in_two_parts(part, x, W):
    for _ in range(3):
        x = part(lambda x: F.tanh(x @ W), x)
    return x @ W


def a_variable_of_its_own(part, x):
    return part(lambda x: x * F.sin(x * Variable(np.array([1.0, 2.0, 3.0]))), x)


def no_grad_inside(part, x):
    def f(x):
        with no_grad():
            c = F.sin(x)
        return x * x * c

    return part(f, x)


def a_derivative_inside(part, x):
    return part(lambda x: dezero.vjp(lambda x: F.sum(x**4), x, create_graph=True)[1], x)


def views(part, x):
    return part(lambda x: x.T[1:], x) * part(lambda x: F.broadcast_to(x[0, :2], (2, 2)), x)


PROGRAMS = {
    mlp: [(4, 3), (3, 5), (5,), (5, 2)],
    convolutions: [(1, 2, 4, 4), (2, 2, 3, 3), (2,), (1, 2, 2, 2)],
    a_captured_result: [(2, 3), (3, 3)],
    an_argument_and_what_it_came_from: [(3,)],
    captured_alone: [(3,)],
    arguments_of_all_kinds: [(2, 3)],
    several_outputs: [(3,)],
    one_output_of_several_is_used: [(3,)],
    one_result_twice: [(3,)],
    a_result_behind_another: [(3,)],
    a_result_used_often: [(3,)],
    nested: [(2, 3), (3, 3)],
    its_argument: [(3,)],
    its_argument_and_more: [(3,)],
    a_captured_result_itself: [(3,)],
    one_argument_twice: [(3,)],
    a_weight_in_two_parts: [(2, 3), (3, 3)],
    a_variable_of_its_own: [(3,)],
    no_grad_inside: [(3,)],
    a_derivative_inside: [(3,)],
    views: [(2, 3)],
}


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.__name__)
def program(request):
    return request.param


def leaves_of(program, dtype=np.float64):
    return [Variable(numbers(*shape, seed=i).astype(dtype)) for i, shape in enumerate(PROGRAMS[program])]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_values_and_derivatives_are_those_without(program, order):
    def derive(part):
        leaves = leaves_of(program)
        y = program(part, *leaves)
        found = [y.data]
        for n in range(order):
            y = F.sum(y * numbers(*y.shape, seed=7))
            gradients = dezero.grad(y, leaves, create_graph=n < order - 1, allow_unused=True)
            found += [np.zeros(x.shape) if gx is None else gx.data for x, gx in zip(leaves, gradients, strict=True)]
            y = sum(F.sum(gx * numbers(*gx.shape, seed=9)) for gx in gradients if gx is not None)
        return found

    expected, found = derive(call), derive(checkpoint)
    np.testing.assert_array_equal(found[0], expected[0], strict=True)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11, strict=True)


@pytest.mark.parametrize("f", [mlp, convolutions, several_outputs, arguments_of_all_kinds], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_sums_have_one_order_gradients_are_the_same_bit_for_bit(f, dtype):
    def derive(part):
        leaves = leaves_of(f, dtype)
        y = f(part, *leaves)
        F.sum(y * y).backward()
        return [y.data, *(x.grad.data for x in leaves)]

    assert_equal(derive(checkpoint), derive(call))


def test_backward_and_dezero_grad_agree(program):
    leaves = leaves_of(program)
    y = F.sum(program(checkpoint, *leaves))
    expected = dezero.grad(y, leaves)
    assert all(x.grad is None for x in leaves)
    y.backward()
    assert_equal(arrays(x.grad for x in leaves), arrays(expected))


def test_leaf_gradients_are_writable_and_nobody_elses(program):
    leaves = leaves_of(program)
    y = program(checkpoint, *leaves)
    y.grad = start = Variable(np.ones(y.shape))
    y.backward()
    gradients = arrays(x.grad for x in leaves)
    for i, gx in enumerate(gradients):
        assert gx.flags.writeable
        others = [*gradients[:i], *gradients[i + 1 :], start.data, y.data, *arrays(leaves)]
        assert not any(np.shares_memory(gx, other) for other in others)


class Weighed(Function):
    """y = p * t, for a gy of ones: the gradient is t itself, no copy."""

    def __init__(self, t):
        self.t = t

    def forward(self, p):
        return p * self.t.data

    def backward(self, gy):
        return self.t


def test_gradients_that_are_one_result_inside_are_copied():
    p, q = Parameter(np.ones(3)), Parameter(np.ones(3))

    def f(x):
        t = F.sin(x)
        return Weighed(t)(p) + Weighed(t)(q)

    checkpoint(f, np.ones(3)).backward()
    p.grad.data *= 100
    assert_equal([q.grad.data], [np.sin(np.ones(3))])


def test_a_gradient_that_is_a_result_somebody_keeps_is_copied():
    p, kept = Parameter(np.ones(3)), []

    def f(x):
        kept.append(F.sin(x))
        return Weighed(kept[-1])(p)

    checkpoint(f, np.ones(3)).backward()
    assert_equal([p.grad.data], [np.sin(np.ones(3))])
    assert not any(np.shares_memory(p.grad.data, t.data) for t in kept)


def test_grad_in_results_and_captured_results():
    x = Variable(numbers(3))

    def derive(part):
        h = F.sin(x)
        y = part(lambda z: z * h, x)
        return arrays(dezero.grad(F.exp(y), [y, h, x]))

    assert_equal(derive(checkpoint), derive(call))


DERIVATIVES = {
    "vjp": lambda f, x: dezero.vjp(f, x, np.ones(2))[1],
    "jvp": lambda f, x: dezero.jvp(f, x, np.arange(3.0))[1],
    "jacobian": dezero.jacobian,
    "hessian": lambda f, x: dezero.hessian(lambda x: F.sum(f(x)), x),
    "hvp": lambda f, x: dezero.hvp(lambda x: F.sum(f(x)), x, np.arange(3.0))[1],
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_inside_a_derivative_of_a_function(name):
    W = Parameter(numbers(3, 2))

    def derive(part):
        return DERIVATIVES[name](lambda x: part(lambda x: F.tanh(part(F.sin, x) @ W), x), numbers(3)).data

    np.testing.assert_allclose(derive(checkpoint), derive(call), rtol=1e-12, atol=1e-12)
    assert W.grad is None


# ----------------------------------------------------------------------------------------------------------------------
# What it returns, and how often it calls f
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 2.0,
        lambda x: (x * 2.0, x * 3.0),
        lambda x: (x * 2.0,),
        lambda x: [x * 2.0, x * 3.0],
        lambda x: Variable(np.ones(3)),
        lambda x: (x, Variable(np.ones(3))),
    ],
)
def test_it_returns_what_f_returns(f, enabled):
    x = Variable(numbers(3))
    with dezero.using_config("enable_backprop", enabled):
        expected, found = f(x), checkpoint(f, x)
    assert type(found) is type(expected)
    if not isinstance(expected, Variable):
        assert_equal(arrays(found), arrays(expected))


class Counted:
    """F.sin that notes the circumstances of each call."""

    def __init__(self):
        self.calls = []

    def __call__(self, x):
        self.calls.append((Config.recomputing, Config.enable_backprop, Config.train))
        return F.sin(x)


def test_f_is_called_once_forward_and_once_a_backward_pass():
    f, x = Counted(), Variable(numbers(3))
    y = checkpoint(f, x)
    z = y * y
    assert f.calls == [(False, True, True)]
    for passes in (1, 2):
        z.backward()
        assert f.calls[1:] == [(True, True, True)] * passes
    assert_equal([x.grad.data], [2 * (2 * np.sin(x.data) * np.cos(x.data))])
    assert Config.recomputing is False


def test_f_is_called_once_however_many_outputs_and_uses():
    f, x = Counted(), Variable(numbers(3))
    u, v = checkpoint(lambda x: (f(x), f(x)), x)
    (u * v + u * u).backward()
    assert len(f.calls) == 4


def test_f_is_not_called_again_where_no_gradient_passes():
    f, x, z = Counted(), Variable(numbers(3)), Variable(numbers(3))
    dezero.grad(checkpoint(f, x) * z, z)
    assert len(f.calls) == 1


def test_under_no_grad_it_just_calls_f():
    f, x, made = Counted(), Variable(numbers(3)), []
    with no_grad():
        y = checkpoint(lambda x: (made.append(f(x)), made[0])[1], x)
    assert y is made[0]
    assert y.creator is None
    assert f.calls == [(False, False, True)]


def test_f_is_handed_the_very_arguments():
    x, array, thing = Variable(numbers(3)), np.ones(3), object()
    given = []
    y = checkpoint(lambda *xs: (given.append(xs), xs[0] * xs[1])[1], x, array, thing, None)
    y.backward()
    assert len(given) == 2
    for xs in given:
        assert all(one is other for one, other in zip(xs, (x, array, thing, None), strict=True))


def test_of_constants_it_records_nothing():
    y = checkpoint(lambda a: F.sin(a), np.ones(3))
    assert y.creator is None


def test_frozen_variables_receive_nothing():
    x, W = Variable(numbers(2, 3)), Parameter(numbers(3, 2))
    W.requires_grad = False
    F.sum(checkpoint(lambda x: x @ W, x)).backward()
    assert W.grad is None
    np.testing.assert_allclose(x.grad.data, np.ones((2, 2)) @ W.data.T)


@pytest.mark.parametrize("f", [lambda x: x.data, lambda x: None, lambda x: (x, 1.0)])
def test_f_that_returns_no_variables_is_refused(f):
    with pytest.raises(TypeError, match="checkpoint: the outputs of f: expected Variables, got"):
        checkpoint(f, Variable(np.ones(3)))


@pytest.mark.parametrize("second", [lambda x: x[:2], lambda x: (x, x), lambda x: x.reshape(1, 3)])
def test_f_that_returns_other_shapes_the_second_time_is_refused(second):
    answers = [F.sin, second]
    y = checkpoint(lambda x: answers.pop(0)(x), Variable(np.ones(3)))
    with pytest.raises(ValueError, match=r"checkpoint: f returned \[\(3,\)\] at first and .* when called again"):
        y.backward()


def test_f_that_fails_the_second_time_leaves_modes_and_random_numbers_alone():
    divisors = [1, 0]
    np.random.seed(0)
    y = checkpoint(lambda x: F.dropout(x) * (1 // divisors.pop(0)), Variable(np.ones(3)))
    expected = np.random.get_state()[1:3]
    with test_mode(), pytest.raises(ZeroDivisionError):
        y.backward()
    assert (Config.recomputing, Config.train, Config.enable_backprop) == (False, True, True)
    now = np.random.get_state()[1:3]
    assert_equal(now[:1], expected[:1])
    assert now[1] == expected[1]


def test_the_mode_recomputing_is_not_the_users_to_set():
    with pytest.raises(ValueError, match="no mode 'recomputing'"):
        Config.recomputing = True


# ----------------------------------------------------------------------------------------------------------------------
# Random numbers and running statistics
# ----------------------------------------------------------------------------------------------------------------------


def seeded_numpy():
    dezero.seed(None)
    np.random.seed(3)


def seeded_dezero():
    np.random.seed(3)
    dezero.seed(4)


def drop(x):
    return F.dropout(F.sin(F.dropout(x)), 0.3)


RANDOM_PARTS = {
    "dropout": lambda part, x: part(drop, x),
    "two parts": lambda part, x: part(drop, F.dropout(part(drop, x))),
    "nested": lambda part, x: part(lambda x: drop(part(drop, drop(x))), x),
    "lazy weights": lambda part, x: part(lambda x: drop(L.Linear(5, dtype=np.float64)(x)), x),
}


@pytest.mark.parametrize("seeded", [seeded_numpy, seeded_dezero])
@pytest.mark.parametrize("name", RANDOM_PARTS)
def test_dropout_and_the_random_stream_are_as_without(name, seeded):
    def run(part):
        seeded()
        x = Variable(numbers(8, 6))
        y = RANDOM_PARTS[name](part, x)
        found = [y.data, dezero.random.uniform(4)]
        y.backward()
        return [*found, x.grad.data, dezero.random.uniform(4), np.random.rand(4)]

    assert_equal(run(checkpoint), run(call))


@pytest.mark.parametrize("seeded", [seeded_numpy, seeded_dezero])
def test_weights_made_at_the_first_call_do_not_shift_the_mask(seeded):
    def run(part):
        seeded()
        x, linear = Variable(numbers(8, 6)), L.Linear(5, dtype=np.float64)
        y = part(lambda x: F.dropout(linear(x)), x)
        y.backward()
        return [y.data, x.grad.data, linear.W.grad.data, linear.b.grad.data, dezero.random.uniform(4)]

    assert_equal(run(checkpoint), run(call))


@pytest.mark.parametrize("seeded", [seeded_numpy, seeded_dezero])
def test_numbers_that_f_draws_from_numpy_itself_are_repeated(seeded):
    def f(x):
        return F.dropout(x * np.random.rand(8, 6)) * np.random.rand(6)

    def run(part):
        seeded()
        x = Variable(numbers(8, 6))
        part(f, x).backward()
        return [x.grad.data, np.random.rand(4), dezero.random.uniform(4)]

    assert_equal(run(checkpoint), run(call))


def test_the_source_may_change_between_forward_and_backward():
    seeded_numpy()
    x = Variable(numbers(8, 6))
    y = checkpoint(F.dropout, x)
    dezero.seed(5)
    y.backward()
    assert_equal([x.grad.data], [np.where(y.data != 0, 2.0, 0.0)])
    after = dezero.random.uniform(4)
    dezero.seed(5)
    assert_equal([after], [dezero.random.uniform(4)])


def test_two_backward_passes_repeat_the_same_mask():
    x = Variable(np.ones((8, 6)))
    y = checkpoint(F.dropout, x)
    y.backward()
    y.backward()
    assert_equal([x.grad.data], [2 * y.data])


def test_the_mode_is_that_of_the_first_call():
    x = Variable(np.ones((8, 6)))
    with test_mode():
        kept = checkpoint(lambda x: F.dropout(x * 1.0), x)
    kept.backward()
    assert_equal([x.grad.data], [np.ones((8, 6))])
    x.cleargrad()
    dropped = checkpoint(F.dropout, x)
    with test_mode():
        dropped.backward()
    assert_equal([x.grad.data], [dropped.data])
    assert (dropped.data == 0).any()


def running(layer):
    return [p.data for p in layer.params() if p.is_buffer]


@pytest.mark.parametrize("nest", [False, True])
def test_batch_norm_updates_its_running_statistics_once(nest):
    def run(part):
        norm, x = L.BatchNorm(), Variable(numbers(6, 3))
        y = part(lambda x: part(norm, x) if nest else norm(x), x)
        found = copy.deepcopy(running(norm))
        for _ in range(2):
            F.sum(y * y * y).backward()
            found += copy.deepcopy(running(norm))
        return [*found, y.data, x.grad.data, *(p.grad.data for p in norm.params() if not p.is_buffer)]

    expected = run(call)
    assert len(expected) == 10
    assert not (expected[0] == 0).any()
    assert_equal(run(checkpoint), expected)


@pytest.mark.parametrize("create_graph", [False, True])
def test_batch_norm_is_left_alone_by_every_order(create_graph):
    norm, x = L.BatchNorm(), Variable(numbers(6, 3))
    y = F.sum(checkpoint(norm, x) ** 3)
    before = copy.deepcopy(running(norm))
    gx = dezero.grad(y, x, create_graph=create_graph)
    if create_graph:
        dezero.grad(F.sum(gx * gx), x)
    assert_equal(running(norm), before)


def test_batch_norm_in_use_keeps_its_statistics_for_backward():
    norm, x = L.BatchNorm(), Variable(numbers(6, 3))
    norm(x)
    with test_mode():
        y = checkpoint(norm, x)
        before = copy.deepcopy(running(norm))
    y.backward()
    assert_equal(running(norm), before)
    scale = 1 / np.sqrt(running(norm)[1] + 2e-5)
    np.testing.assert_allclose(x.grad.data, np.broadcast_to(scale, (6, 3)), rtol=1e-5)


class Network(L.Layer):
    """Convolutions, batch norm, dropout, and weights that are made at the first call."""

    def __init__(self, part):
        super().__init__()
        self.part = part
        self.conv1, self.norm1 = L.Conv2d(4, 3, pad=1), L.BatchNorm()
        self.conv2, self.norm2 = L.Conv2d(4, 3, pad=1), L.BatchNorm()
        self.fc = L.Linear(3)

    def first(self, x):
        return F.pooling(F.relu(self.norm1(self.conv1(x))), 2, 2)

    def second(self, x):
        return F.relu(self.norm2(self.conv2(x)))

    def last(self, x):
        return self.fc(F.dropout(F.flatten(x)))

    def forward(self, x):
        for f in (self.first, self.second, self.last):
            x = self.part(f, x)
        return x


def train(part):
    dezero.seed(1)
    x, t = numbers(6, 2, 8, 8).astype(np.float32), np.arange(6) % 3
    model = Network(part)
    optimizer = optimizers.Adam().setup(model)
    losses = []
    for _ in range(3):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        losses.append(loss.data)
    return [*losses, *arrays(model.params())]


def test_training_a_network_is_the_same_bit_for_bit():
    expected = train(call)
    assert len(expected) == 3 + 14
    assert_equal(train(checkpoint), expected)


# ----------------------------------------------------------------------------------------------------------------------
# Hooks
# ----------------------------------------------------------------------------------------------------------------------


def test_hooks_run_once_with_the_complete_gradient():
    def run(part):
        x, W = Variable(numbers(2, 3)), Parameter(numbers(3, 3))
        h = F.sin(x)
        seen = []
        for name, v in (("x", x), ("W", W), ("h", h)):
            v.register_hook(lambda gx, name=name: (seen.append((name, gx.data.copy())), gx * 2.0)[1])
        y = part(lambda x: (x @ W @ W) * h + h, x)
        y.register_hook(lambda gy: (seen.append(("y", gy.data.copy())), gy * 3.0)[1])
        F.sum(y * y).backward()
        return sorted(seen, key=lambda pair: pair[0]), [x.grad.data, W.grad.data]

    (found, gradients), (expected, wanted) = run(checkpoint), run(call)
    assert [name for name, _ in found] == [name for name, _ in expected] == ["W", "h", "x", "y"]
    for x, y in zip([*(gx for _, gx in found), *gradients], [*(gx for _, gx in expected), *wanted], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_hooks_on_results_inside_run_in_the_backward_pass():
    seen = []

    def f(x):
        t = F.sin(x)
        t.register_hook(lambda gt: (seen.append(gt.data), gt * 10.0)[1])
        return t * 3.0

    x = Variable(np.zeros(2))
    checkpoint(f, x).backward()
    assert_equal(seen, [np.full(2, 3.0)])
    assert_equal([x.grad.data], [np.full(2, 30.0)])


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------

PARTS, INSIDE = 32, 6


def deep(x):
    for _ in range(INSIDE):
        x = F.sin(x)
    return x


def peak_of_a_chain(part):
    """Megabytes at most, and after forward, of a chain of parts with six results of 1 MB inside each."""
    x = Variable(np.ones(2**17))
    tracemalloc.start()
    try:
        y = x
        for _ in range(PARTS):
            y = part(deep, y)
        held, _ = tracemalloc.get_traced_memory()
        y.backward()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak / 2**20, held / 2**20, x.grad.data


def test_the_peak_of_memory_is_less_than_a_third(no_gc):
    plain_peak, plain_held, expected = peak_of_a_chain(call)
    peak, held, gradient = peak_of_a_chain(checkpoint)
    assert_equal([gradient], [expected])
    assert plain_peak > plain_held > PARTS * INSIDE
    assert held < PARTS + 1
    assert peak < PARTS + 3 * INSIDE
    assert peak < plain_peak / 3


def test_nothing_inside_outlives_the_call_and_the_pass(no_gc):
    inside = []

    def f(x):
        t = F.sin(x)
        inside.extend([weakref.ref(t), weakref.ref(t.creator)])
        return F.exp(t)

    x = Variable(numbers(3))
    y = checkpoint(f, x)
    assert [reference() for reference in inside] == [None] * 2
    y.backward()
    assert [reference() for reference in inside] == [None] * 4
    node = weakref.ref(y.creator)
    del y
    assert node() is None


def test_nested_parts_leave_nothing_behind_either(no_gc):
    x = Variable(numbers(3))
    y = checkpoint(lambda x: checkpoint(F.sin, checkpoint(F.exp, x)), x)
    y.backward()
    node, argument = weakref.ref(y.creator), weakref.ref(x)
    del y, x
    assert (node(), argument()) == (None, None)


class Watched(Function):
    """y = -x, which notes when a walk asks for what it was made of."""

    asked = 0

    @property
    def inputs(self):
        Watched.asked += 1
        return vars(self).get("inputs")

    @inputs.setter
    def inputs(self, inputs):
        vars(self)["inputs"] = inputs

    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


def test_it_does_not_walk_the_graph_behind_its_arguments():
    x = Variable(numbers(3))
    for _ in range(50):
        x = Watched()(x)
    before = Watched.asked
    y = checkpoint(lambda z: F.sin(z) * x, x)
    assert Watched.asked - before < 5
    y.backward()


def test_a_long_chain_of_parts_needs_no_recursion():
    x = Variable(np.array(1.0))
    y = x
    for _ in range(2000):
        y = checkpoint(lambda y: -y, y)
    y.backward()
    assert float(x.grad) == 1.0
