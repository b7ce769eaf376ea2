"""Hooks on Variables: what is called when a gradient is complete, and may put another in its place."""

import contextlib
import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest

import dezero
from dezero import functions as F
from dezero import layers as L
from dezero.core import Config, Function, Parameter, Variable, no_grad, test_mode


def var(*values, dtype=np.float64):
    """A Variable of one number, or of several."""
    return Variable(np.array(values[0] if len(values) == 1 else values, dtype=dtype))


def times(factor):
    return lambda gx: gx * factor


class Log(list):
    """A hook that notes copies of the gradients it sees, and returns None."""

    def __call__(self, gx):
        self.append(gx.data.copy().tolist())


# ----------------------------------------------------------------------------------------------------------------------
# When it runs, and what it sees
# ----------------------------------------------------------------------------------------------------------------------


def test_on_a_leaf_an_intermediate_result_and_the_output():
    x, seen = var(2.0), []
    t = x * 3.0
    y = t * t
    for name, v in (("x", x), ("t", t), ("y", y)):
        v.register_hook(lambda gx, name=name: seen.append((name, float(gx))))
    y.backward()
    assert seen == [("y", 1.0), ("t", 12.0), ("x", 36.0)]
    assert float(x.grad) == 36.0


def test_it_sees_the_complete_gradient_once_however_often_the_variable_is_used():
    x, log = var(1.0, 2.0), Log()
    t = F.sin(x) * 0.0 + 1.0
    for v in (x, t):
        v.register_hook(log)
    y = t * 2.0 + F.exp(t * 0.0) + t * t
    (y + x + x * 3.0).backward()
    assert log == [[4.0, 4.0], [4.0, 4.0]]


def test_an_early_and_a_late_use_are_both_in_it():
    x, log = var(1.0), Log()
    t = x * 2.0
    t.register_hook(log)
    late = t
    for _ in range(5):
        late = late * 1.0
    (t + late).backward()
    assert log == [2.0]


def test_it_runs_in_every_pass_with_that_passs_gradient():
    x, log = var(2.0), Log()
    t = x * 3.0
    for v in (x, t):
        v.register_hook(log)
    y = t * 5.0
    y.backward()
    y.backward()
    assert log == [5.0, 15.0] * 2
    assert float(x.grad) == 30.0


def test_it_does_not_run_where_no_gradient_passes():
    x, z, log = var(1.0), var(1.0), Log()
    t = z * 2.0
    for v in (z, t):
        v.register_hook(log)
    (x * 2.0).backward()
    with no_grad():
        z * 2.0
    dezero.grad(x * t, x)
    assert log == []


def test_only_the_result_that_is_hooked_among_several():
    class Two(Function):
        def forward(self, x):
            return x * 2, x * 3

        def backward(self, ga, gb):
            return ga * 2.0 + gb * 3.0

    x, log = var(1.0), Log()
    a, b = Two()(x)
    a.register_hook(log)
    (b * 5.0).backward()
    assert (log, float(x.grad)) == ([], 15.0)
    x.cleargrad()
    (a * 7.0 + b).backward()
    assert (log, float(x.grad)) == ([7.0], 17.0)


def test_the_starting_gradient_passes_through_the_outputs_hook():
    x, log = var(1.0, 2.0), Log()
    y = x * 3.0
    y.register_hook(log)
    y.register_hook(times(10.0))
    y.grad = Variable(np.array([1.0, 2.0]))
    y.backward(retain_grad=True)
    assert log == [[1.0, 2.0]]
    np.testing.assert_array_equal(x.grad.data, [30.0, 60.0])
    np.testing.assert_array_equal(y.grad.data, [10.0, 20.0])


def test_a_retained_gradient_is_the_one_after_the_hooks():
    x = var(2.0)
    t = x * 3.0
    t.register_hook(times(10.0))
    (t * t).backward(retain_grad=True)
    assert float(t.grad) == 120.0


def test_on_a_parameter_of_a_layer():
    linear, log = L.Linear(2, in_size=3), []
    for name, p in linear.named_params():
        p.register_hook(lambda gp, name=name: log.append((name, gp.shape)))
    F.sum(linear(np.ones((4, 3), np.float32))).backward()
    assert sorted(log) == [("W", (3, 2)), ("b", (2,))]


# ----------------------------------------------------------------------------------------------------------------------
# What it returns
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [Variable, lambda array: array], ids=["Variable", "array"])
def test_what_it_returns_takes_the_gradients_place_here_and_behind(wrap):
    x = var(1.0, 2.0)
    t = x * 3.0
    t.register_hook(lambda gt: wrap(np.array([10.0, 100.0])))
    y = t * 5.0
    y.backward(retain_grad=True)
    np.testing.assert_array_equal(t.grad.data, [10.0, 100.0])
    np.testing.assert_array_equal(x.grad.data, [30.0, 300.0])


def test_none_keeps_the_gradient():
    x = var(2.0)
    x.register_hook(lambda gx: None)
    (x * x).backward()
    assert float(x.grad) == 4.0


def test_several_run_in_the_order_of_registration_each_on_what_the_last_returned():
    x, log = var(2.0), Log()
    for hook in (log, lambda gx: gx + 1.0, log, times(10.0), lambda gx: None, log):
        x.register_hook(hook)
    (x * x).backward()
    assert log == [4.0, 5.0, 50.0]
    assert float(x.grad) == 50.0


def test_one_function_may_be_registered_twice():
    x, double = var(2.0), times(2.0)
    first, _ = x.register_hook(double), x.register_hook(double)
    (x * x).backward()
    assert float(x.grad) == 16.0
    first.remove()
    x.cleargrad()
    (x * x).backward()
    assert float(x.grad) == 8.0


def test_passes_add_up_what_the_hooks_returned():
    x = var(2.0)
    x.register_hook(times(10.0))
    for expected in (40.0, 80.0):
        (x * x).backward()
        assert float(x.grad) == expected


@pytest.mark.parametrize("place", ["leaf", "intermediate", "output"])
@pytest.mark.parametrize("shape", [(), (1, 2), (3,)])
def test_another_shape_is_an_error(place, shape):
    x = var(1.0, 2.0)
    t = x * 3.0
    y = t * 2.0
    {"leaf": x, "intermediate": t, "output": y}[place].register_hook(lambda gx: np.ones(shape))
    with pytest.raises(ValueError, match=r"register_hook: a hook returned shape .* for a gradient \(2,\)"):
        y.backward()
    assert x.grad is None


def test_what_is_no_array_is_an_error():
    x = var(1.0, 2.0)
    x.register_hook(lambda gx: "zero")
    with pytest.raises(TypeError):
        (x * x).backward()


@pytest.mark.parametrize("place", ["leaf", "intermediate"])
def test_float32_stays_float32(place):
    x = var(1.0, 2.0, dtype=np.float32)
    t = x * 2.0
    (x if place == "leaf" else t).register_hook(lambda gx: gx.data.astype(np.float64) * 3)
    y = t * t
    y.backward(retain_grad=True)
    assert (x.grad.dtype, t.grad.dtype) == (np.float32, np.float32)
    assert dezero.grad(y, x).dtype == np.float32


# ----------------------------------------------------------------------------------------------------------------------
# Whose array it is
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a.reshape(3, 2) + b.reshape(3, 2),
        lambda a, b: a.sum() + b.sum(),
        lambda a, b: a + a + b,
    ],
)
def test_changing_a_leafs_gradient_in_place_changes_that_leaf_only(f):
    a, b = Variable(np.ones((2, 3))), Variable(np.ones((2, 3)))
    y = f(a, b)
    y.grad = start = Variable(np.ones(y.shape))
    expected = dezero.grad(y, [a, b])

    def in_place(ga):
        ga.data *= 100

    a.register_hook(in_place)
    y.backward(retain_grad=True)
    np.testing.assert_array_equal(a.grad.data, 100 * expected[0].data)
    np.testing.assert_array_equal(b.grad.data, expected[1].data)
    np.testing.assert_array_equal(start.data, np.ones(y.shape))


@pytest.mark.parametrize("keep", [lambda gx, mine: mine, lambda gx, mine: Variable(mine), lambda gx, mine: mine.T.T])
def test_what_a_hook_returned_is_copied(keep):
    a, b, mine = Variable(np.ones((2, 3))), Variable(np.ones((2, 3))), np.full((2, 3), 7.0)
    for x in (a, b):
        x.register_hook(lambda gx: keep(gx, mine))
    (a * b).backward()
    a.grad.data *= 100
    np.testing.assert_array_equal(b.grad.data, np.full((2, 3), 7.0))
    np.testing.assert_array_equal(mine, np.full((2, 3), 7.0))


def test_a_gradient_replaced_by_a_view_is_contiguous_and_writable():
    x = Variable(np.ones((2, 2)))
    x.register_hook(lambda gx: np.broadcast_to(np.array([1.0, 2.0]), (2, 2)).T)
    (x * x).backward()
    assert x.grad.data.flags.c_contiguous
    assert x.grad.data.flags.writeable
    np.testing.assert_array_equal(x.grad.data, [[1.0, 1.0], [2.0, 2.0]])


def test_a_hook_that_is_handed_back_the_variable_itself():
    x = var(1.0, 2.0)
    x.register_hook(lambda gx: x)
    (x * 5.0).backward()
    np.testing.assert_array_equal(x.grad.data, [1.0, 2.0])
    x.grad.data *= 10
    np.testing.assert_array_equal(x.data, [1.0, 2.0])


# ----------------------------------------------------------------------------------------------------------------------
# Removal
# ----------------------------------------------------------------------------------------------------------------------


def test_a_removed_hook_runs_no_more_and_twice_does_no_harm():
    x, log = var(2.0), Log()
    handle = x.register_hook(times(10.0))
    x.register_hook(log)
    handle.remove()
    handle.remove()
    (x * x).backward()
    assert (log, float(x.grad)) == ([4.0], 4.0)


def test_an_old_handle_removes_its_own_hook_only():
    x = var(2.0)
    old = x.register_hook(times(10.0))
    old.remove()
    x.register_hook(times(10.0))
    old.remove()
    (x * x).backward()
    assert float(x.grad) == 40.0


@pytest.mark.parametrize("place", ["leaf", "intermediate"])
def test_a_hook_may_remove_itself_and_others(place):
    x, log = var(2.0), Log()
    t = x * 1.0
    v = x if place == "leaf" else t
    handles = []

    def once(gx):
        for handle in handles:
            handle.remove()
        return gx * 10.0

    handles += [v.register_hook(once), v.register_hook(log)]
    y = t * t
    y.backward()
    y.backward()
    assert float(x.grad) == 44.0
    assert len(log) <= 1


def test_a_handle_survives_its_variable():
    x = var(2.0)
    handle = x.register_hook(times(10.0))
    del x
    handle.remove()


@pytest.mark.parametrize("place", ["leaf", "intermediate"])
def test_hooks_go_with_their_variable_by_reference_counting(place):
    gc.collect()
    gc.disable()
    try:
        x, hook = var(2.0), times(10.0)
        t = x * 3.0
        v = x if place == "leaf" else t
        handle = v.register_hook(hook)
        y = t * t
        y.backward()
        gone = weakref.ref(hook)
        del hook, handle, x, t, y, v
        assert gone() is None
    finally:
        gc.enable()


# ----------------------------------------------------------------------------------------------------------------------
# Higher orders
# ----------------------------------------------------------------------------------------------------------------------


def test_the_second_order_sees_what_the_hook_did():
    x, w = var(2.0), var(5.0)
    x.register_hook(lambda gx: gx * w * gx)
    (x * x).backward(create_graph=True)
    gx = x.grad  # w (2 x)^2
    x.cleargrad()
    assert float(gx) == 80.0
    assert float(dezero.grad(gx, w)) == 16.0


def test_the_second_order_is_that_of_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")

    def derive(sin, x, grad):
        t = sin(x)
        t.register_hook(lambda gt: gt * gt * x)
        y = (t * t * t).sum()
        (gx,) = grad(y, [x], create_graph=True)
        (ggx,) = grad((gx * gx).sum(), [x], create_graph=True)
        return gx, ggx

    found = derive(F.sin, var(0.5, 1.0, 1.5), dezero.grad)
    expected = derive(
        torch.sin, torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64, requires_grad=True), torch.autograd.grad
    )
    for gx, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(gx.data, wanted.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_records_a_graph_where_the_pass_does(create_graph):
    x, seen = var(2.0), []
    x.register_hook(lambda gx: seen.append((Config.enable_backprop, (gx * 2.0).creator is not None)))
    (x * x * x).backward(create_graph=create_graph)
    assert seen == [(create_graph, create_graph)]


def test_a_hook_may_run_a_backward_pass_of_its_own():
    x, z = var(2.0), var(3.0)
    inner = z * z

    def hook(gx):
        inner.backward()
        return gx * z.grad

    x.register_hook(hook)
    (x * x).backward()
    assert (float(z.grad), float(x.grad)) == (6.0, 24.0)


# ----------------------------------------------------------------------------------------------------------------------
# Copies, errors
# ----------------------------------------------------------------------------------------------------------------------

COPIES = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


@pytest.mark.parametrize("duplicate", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("kind", [Variable, Parameter])
def test_copies_of_variables_have_no_hooks(duplicate, kind):
    x, log = kind(np.array(2.0)), []
    x.register_hook(lambda gx: log.append(float(gx)))
    twin = duplicate(x)
    (twin * twin).backward()
    assert (log, float(twin.grad)) == ([], 4.0)
    twin.register_hook(times(10.0))
    (x * x).backward()
    assert (log, float(x.grad)) == ([4.0], 4.0)


@pytest.mark.parametrize("duplicate", COPIES[1:], ids=["deepcopy", "pickle"])
def test_copies_of_layers_have_no_hooks(duplicate):
    linear, log = L.Linear(1, in_size=2), []
    linear.W.register_hook(lambda gW: log.append(gW))
    twin = duplicate(linear)
    F.sum(twin(np.ones((1, 2), np.float32))).backward()
    assert log == []
    np.testing.assert_array_equal(twin.W.grad.data, np.ones((2, 1)))


@pytest.mark.parametrize("place", ["leaf", "intermediate", "output"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_an_error_in_a_hook_comes_through_and_modes_are_restored(place, create_graph):
    x = var(2.0)
    t = x * 3.0
    y = t * t
    handle = {"leaf": x, "intermediate": t, "output": y}[place].register_hook(lambda gx: 1 / 0)
    with test_mode(), contextlib.nullcontext() if create_graph else no_grad():
        enabled = Config.enable_backprop
        with pytest.raises(ZeroDivisionError):
            y.backward(create_graph=create_graph)
        with pytest.raises(ZeroDivisionError):
            dezero.grad(y, x, create_graph=create_graph)
        assert (Config.enable_backprop, Config.train) == (enabled, False)
    assert (Config.enable_backprop, Config.train) == (True, True)
    assert x.grad is None
    handle.remove()
    y.backward()
    assert float(x.grad) == 36.0
