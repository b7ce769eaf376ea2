"""Derivatives as functions: dezero.grad, vjp, jvp, jacobian, hessian, hvp; nobody's `.grad` is touched."""

import contextlib
import gc
import itertools
import warnings
import weakref

import numpy as np
import pytest

import dezero
from dezero import functions as F
from dezero.core import Config, Function, Parameter, Variable, no_grad, test_mode, using_config


def import_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def var(*shape, seed=0, name=None):
    return Variable(numbers(*shape, seed=seed), name)


def same(x, expected, rtol=1e-10, atol=1e-10):
    """Check that Variables, tensors or arrays, nested in tuples alike, hold the same numbers in the same shapes."""
    if isinstance(x, tuple):
        assert isinstance(expected, (tuple, list))
        assert len(x) == len(expected)
        for one, other in zip(x, expected, strict=True):
            same(one, other)
        return
    expected = np.asarray(expected.detach() if hasattr(expected, "detach") else expected)
    assert isinstance(x, Variable)
    assert x.shape == expected.shape
    np.testing.assert_allclose(x.data, expected, rtol=rtol, atol=atol)


class Noted(Function):
    """y = x, which writes its name down when its backward is called."""

    def __init__(self, name, visited):
        self.name, self.visited = name, visited

    def forward(self, x):
        return x + 0

    def backward(self, gy):
        self.visited.append(self.name)
        return gy * 1.0


class Broken(Noted):
    def backward(self, gy):
        raise ZeroDivisionError("in backward")


# ----------------------------------------------------------------------------------------------------------------------
# grad: values
# ----------------------------------------------------------------------------------------------------------------------

# Graphs of a (2, 3) and b (3,), written alike for dezero and torch: every node, the outputs last.


def chain(m, a, b):
    t = m.sin(a)
    u = m.exp(t)
    return [t, u], [u * b]


def diamond(m, a, b):
    t = m.sin(a)
    u, v = t * b, t + b
    return [t, u, v], [u * v]


def used_by_early_and_late(m, a, b):
    t = a * b
    u = m.tanh(m.exp(m.sin(t)))
    return [t, u], [u * t + t]


def several_outputs(m, a, b):
    t = m.tanh(a)
    return [t], [t * b, m.sin(t).sum(), b * b]


def an_output_behind_another(m, a, b):
    t = m.sin(a * b)
    u = m.exp(t)
    return [], [t, u, u * t]


def shapes(m, a, b):
    t = a.T.reshape((2, 3))
    u = t[:, 1:] @ a[:, :2]
    return [t, u], [(u * u).sum(), t[0] * b]


def squares(m, a, b):
    t = a * a
    return [t], [t * t * b]


GRAPHS = [chain, diamond, used_by_early_and_late, several_outputs, an_output_behind_another, shapes, squares]


@pytest.fixture(params=GRAPHS, ids=lambda graph: graph.__name__)
def graph(request):
    return request.param


def test_grad_gives_what_backward_gives(graph):
    a, b = var(2, 3), var(3)
    for y in graph(F, a, b)[1]:
        y.backward()
    expected = [x.grad.data for x in (a, b)]
    a, b = var(2, 3), var(3)
    same(dezero.grad(graph(F, a, b)[1], [a, b]), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_grad_in_leaves_and_nodes_together_is_that_of_torch(graph, order):
    torch = import_torch()
    weights = [numbers(2, 3), numbers(3)]

    def derive(m, grad, variable, **unused):
        a, b = leaves = [variable(numbers(2, 3)), variable(numbers(3))]
        nodes, ys = graph(m, a, b)
        gradients = grad(ys, [*leaves, *nodes], create_graph=True, grad_outputs=[y * 0 + 2.0 for y in ys])
        for _ in range(order - 1):
            slope = sum((gx * variable(w)).sum() for gx, w in zip(gradients, weights, strict=False))
            gradients = grad(slope, [*leaves, *nodes], create_graph=True, **unused)
        return gradients

    expected = derive(torch, torch.autograd.grad, lambda x: torch.tensor(x, requires_grad=True), materialize_grads=True)
    found = derive(F, dezero.grad, Variable, allow_unused=True)
    for gx, wanted in zip(found, expected, strict=True):
        if gx is None:
            assert not wanted.any()
        else:
            same(gx, wanted)


def test_grad_of_an_output_in_itself_is_its_weight():
    x = var(3)
    y = F.sin(x)
    gy, gx = dezero.grad(y, [y, x], grad_outputs=np.array([1.0, 2.0, 3.0]))
    same(gy, [1.0, 2.0, 3.0])
    same(gx, [1.0, 2.0, 3.0] * np.cos(x.data))
    same(dezero.grad(x, x), np.ones(3))


def test_grad_in_an_input_named_twice():
    x = var(3)
    same(dezero.grad(x * x, [x, x]), [2 * x.data] * 2)


def test_grad_of_an_output_named_twice_counts_it_twice():
    x = var(3)
    y = F.sin(x)
    same(dezero.grad([y, y], x, grad_outputs=[np.ones(3), np.full(3, 10.0)]), 11 * np.cos(x.data))


def test_grad_outputs_may_be_arrays_variables_numbers_or_none():
    x, z = var(3), var()
    ys = [x * x, x * 3.0, z * 1.0]
    gx, gz = dezero.grad(ys, [x, z], grad_outputs=[None, Variable(np.array([1.0, 2.0, 3.0])), 5.0])
    same(gx, 2 * x.data + [3.0, 6.0, 9.0])
    same(gz, np.array(5.0))


def test_the_gradient_is_derivable_in_grad_outputs():
    x, v = var(3), var(3, seed=1)
    gx = dezero.grad(F.sin(x), x, create_graph=True, grad_outputs=v)
    same(dezero.grad(gx, v), np.cos(x.data))


def test_third_order():
    x = Variable(np.array([1.0, 2.0]))
    y = x**4
    for expected in ([4.0, 32.0], [12.0, 48.0], [24.0, 48.0]):
        y = dezero.grad(y, x, create_graph=True)
        same(y, expected)


def test_without_create_graph_the_result_has_no_graph():
    x = var(3)
    y = F.sin(x) * x
    assert dezero.grad(y, x).creator is None
    assert dezero.grad(y, x, create_graph=True).creator is not None


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_under_no_grad_uses_the_graph_that_is_there(create_graph):
    x = var(3)
    y = F.sin(x)
    with no_grad():
        gx = dezero.grad(y, x, create_graph=create_graph)
        assert Config.enable_backprop is False
    same(gx, np.cos(x.data))
    assert (gx.creator is not None) is create_graph


def test_several_passes_through_one_graph_are_alike():
    x = var(3)
    y = F.exp(F.sin(x))
    first = dezero.grad(y, x)
    same(dezero.grad(y, x, create_graph=True), first.data)
    same(dezero.grad(y, x), first.data)
    y.backward()
    same(x.grad, first.data)


def test_one_input_gives_a_variable_several_a_tuple():
    x = var(3)
    y = x * 2.0
    assert isinstance(dezero.grad(y, x), Variable)
    for inputs in ([x], (x,)):
        result = dezero.grad((y,), inputs)
        assert type(result) is tuple
        same(result, [np.full(3, 2.0)])


def test_a_deep_chain_needs_no_recursion():
    x = Variable(np.array(1.0))
    y = x
    for _ in range(50_000):
        y = -y
    assert float(dezero.grad(y, x)) == 1.0


# ----------------------------------------------------------------------------------------------------------------------
# grad: what it leaves alone
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("before", [None, 7.0])
def test_grad_neither_reads_nor_changes_any_grad(graph, create_graph, before):
    a, b = var(2, 3), var(3)
    expected = dezero.grad(graph(F, a, b)[1], [a, b])
    nodes, ys = graph(F, a, b)
    marks = {x: None if before is None else Variable(np.full(x.shape, before)) for x in (a, b, *nodes, *ys)}
    for x, mark in marks.items():
        x.grad = mark
    found = dezero.grad(ys, [a, b, *nodes], create_graph=create_graph, allow_unused=True)
    assert all(x.grad is mark for x, mark in marks.items())
    assert all((mark.data == before).all() for mark in marks.values() if mark is not None)
    same(found[:2], [gx.data for gx in expected])


def test_grad_leaves_retained_gradients_alone():
    x = var(3)
    t = F.sin(x)
    y = t * t
    y.backward(retain_grad=True)
    kept = [x.grad, t.grad, y.grad]
    dezero.grad(y, [x, t])
    assert all(gradient is now for gradient, now in zip(kept, [x.grad, t.grad, y.grad], strict=True))


SHARED = {
    "a + b": lambda a, b: a + b,
    "a + a": lambda a, b: a + a + b,
    "a - b": lambda a, b: a - b,
    "neg": lambda a, b: -a + b,
    "reshape": lambda a, b: a.reshape(3, 2) + b.reshape(3, 2),
    "transpose": lambda a, b: a.T + b.T,
    "sum": lambda a, b: a.sum() + b.sum(),
    "matmul": lambda a, b: a @ b.T,
    "get_item": lambda a, b: a[:, ::2] + b[:, 1:],
    "mul": lambda a, b: a * b,
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_results_share_memory_with_nothing(name, create_graph):
    a, b = Variable(np.ones((2, 3))), Variable(np.ones((2, 3)))
    y = SHARED[name](a, b)
    weights = np.ones(y.shape)
    results = dezero.grad(y, [a, b, y], create_graph=create_graph, grad_outputs=weights)
    for result in results:
        assert result.data.flags.writeable
        assert result.data.flags.c_contiguous
    for one, other in itertools.combinations([*(gx.data for gx in results), weights, a.data, b.data, y.data], 2):
        assert not np.shares_memory(one, other)


class Weighed(Function):
    """y = x * w, for a gy of ones: the gradient is w itself, no copy."""

    def __init__(self, w):
        self.w = w

    def forward(self, x):
        return x * self.w.data

    def backward(self, gy):
        return self.w


@pytest.mark.parametrize("wrap", [lambda array: array, Variable, lambda array: constant(Variable(array))])
def test_results_do_not_share_memory_with_what_a_backward_returns(wrap):
    w = var(3)
    x = Variable(np.ones(3))
    for found in (dezero.grad(Weighed(w)(x), x), dezero.vjp(Weighed(w), wrap(np.ones(3)))[1]):
        same(found, w.data)
        assert not np.shares_memory(found.data, w.data)


def test_results_for_an_input_named_twice_share_nothing():
    x = var(3)
    first, second = dezero.grad(x * x, [x, x])
    first.data[...] = 0
    same(second, 2 * x.data)


def test_changing_a_result_in_place_changes_no_later_pass():
    x = var(3)
    t = x + 1.0
    y = t + x
    for _ in range(2):
        results = dezero.grad(y, [x, t, y])
        same(results, [np.full(3, 2.0), np.ones(3), np.ones(3)])
        for gx in results:
            gx.data *= 100
    same(x, numbers(3))


# ----------------------------------------------------------------------------------------------------------------------
# grad: only the part between
# ----------------------------------------------------------------------------------------------------------------------


def test_branches_that_do_not_lead_to_the_inputs_are_not_visited():
    visited = []
    x, z = var(3), var(3)
    y = Noted("wanted", visited)(x) * Noted("other", visited)(z)
    dezero.grad(y, x)
    assert visited == ["wanted"]


def test_what_lies_behind_the_inputs_is_not_visited():
    visited = []
    x = var(3)
    t = Noted("behind", visited)(x)
    y = Noted("between", visited)(t)
    dezero.grad(y, t)
    assert visited == ["between"]


def test_what_lies_behind_one_input_and_leads_to_another_is_visited():
    visited = []
    x = var(3)
    t = Noted("behind", visited)(x)
    y = Noted("between", visited)(t)
    same(dezero.grad(y * 2.0, [t, x]), [np.full(3, 2.0)] * 2)
    assert visited == ["between", "behind"]


def test_outputs_that_do_not_depend_on_the_inputs_are_not_visited():
    visited = []
    x, z = var(3), var(3)
    ys = [Noted("wanted", visited)(x), Noted("other", visited)(z), Noted("after", visited)(x)]
    same(dezero.grad(ys[:2], x), np.ones(3))
    assert visited == ["wanted"]


def test_each_function_is_visited_once_however_many_paths_lead_there():
    visited = []
    x = Variable(np.array(1.0))
    y = x
    for level in range(20):
        y = Noted(level, visited)(y + y)
    assert float(dezero.grad(y, x)) == 2.0**20
    assert visited == list(range(20))[::-1]


def test_gradients_are_computed_for_wanted_inputs_of_shared_functions_only():
    x, W = var(2, 3), var(3, 2)
    y = F.matmul(x, W)
    gx = dezero.grad(y, x)
    same(gx, np.ones((2, 2)) @ W.data.T)


def test_the_graph_is_freed_by_reference_counting():
    gc.collect()
    gc.disable()
    try:
        x = var(3)
        t = F.sin(x)
        y = F.exp(t)
        node = weakref.ref(t.creator)
        gx, gt = dezero.grad(y, [x, t])
        del t, y
        assert node() is None
        del gx, gt
    finally:
        gc.enable()


# ----------------------------------------------------------------------------------------------------------------------
# grad: dtypes, constants, hooks, modes, errors
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, np.ones(3), np.ones(3, np.float32), np.ones(3, int)], ids=str)
def test_float32_stays_float32(weights):
    x = Variable(np.ones(3, np.float32))
    t = F.sin(x)
    y = t * 2.0
    assert [gx.dtype for gx in dezero.grad(y, [x, t, y], grad_outputs=weights)] == [np.float32] * 3


def test_integer_variables_have_float64_gradients():
    x = Variable(np.array([1, 2]))
    gx = dezero.grad(x * x, x)
    assert gx.dtype == np.float64
    same(gx, [2.0, 4.0])


def test_complex_outputs_are_refused_as_by_backward():
    x = var(3)
    with pytest.raises(TypeError, match="complex"):
        dezero.grad(x * 1j, x)


def test_an_unused_input_is_an_error_that_names_it():
    x, z = var(3), var(2, name="z")
    with pytest.raises(ValueError, match=r"grad: inputs\[1\] \('z', shape \(2,\)\) has no part .* allow_unused=True"):
        dezero.grad(x * 2.0, [x, z])


def test_an_unused_input_is_none_where_that_is_allowed():
    x, z = var(3), var(2)
    gx, gz = dezero.grad(x * 2.0, [x, z], allow_unused=True)
    same(gx, np.full(3, 2.0))
    assert gz is None
    assert dezero.grad(x * 2.0, z, allow_unused=True) is None


def constant(x):
    x.requires_grad = False
    return x


def test_a_constant_has_no_part():
    x, c = var(3), constant(var(3))
    y = x * c
    with pytest.raises(ValueError, match=r"inputs\[0\] \(shape \(3,\)\) has no part"):
        dezero.grad(y, c)
    gx, gc_ = dezero.grad([y, c], [x, c], allow_unused=True)
    same(gx, c.data)
    assert gc_ is None


def test_what_was_computed_under_no_grad_has_no_part():
    x = var(3)
    with no_grad():
        y = x * 2.0
    with pytest.raises(ValueError, match="outside no_grad"):
        dezero.grad(y, x)


def test_an_intermediate_result_that_requires_no_grad_cuts_the_way():
    x = var(3)
    t = constant(F.sin(x))
    assert dezero.grad(t * t, x, allow_unused=True) is None
    same(dezero.grad(t * x, x), t.data)


@pytest.mark.parametrize(
    ("outputs", "inputs", "error", "message"),
    [
        (np.ones(3), "x", TypeError, "grad: outputs: expected Variables, got ndarray"),
        ("y", np.ones(3), TypeError, "grad: inputs: expected Variables, got ndarray"),
        ("y", ["x", 1.0], TypeError, "grad: inputs: expected Variables, got float"),
        ("y", None, TypeError, "grad: inputs: expected Variables, got NoneType"),
        ([], "x", ValueError, "grad: outputs: expected at least one Variable, got none"),
        ("y", (), ValueError, "grad: inputs: expected at least one Variable, got none"),
    ],
)
def test_what_is_no_variable_is_refused(outputs, inputs, error, message):
    x = var(3)
    named = {"x": x, "y": x * 2.0}

    def resolve(given):
        if isinstance(given, (list, tuple)):
            return type(given)(map(resolve, given))
        return named[given] if isinstance(given, str) else given

    with pytest.raises(error, match=message):
        dezero.grad(resolve(outputs), resolve(inputs))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(2), r"grad: an output has shape \(3,\) but its weights \(2,\)"),
        (np.ones((1, 3)), r"grad: an output has shape \(3,\) but its weights \(1, 3\)"),
        ([np.ones(3), np.ones(3)], "grad: expected one weight for each of the 1 outputs"),
        ([], "grad: expected one weight for each of the 1 outputs"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    x = var(3)
    with pytest.raises(ValueError, match=message):
        dezero.grad(x * 2.0, x, grad_outputs=weights)


def test_one_weight_for_two_outputs_is_refused():
    x = var(3)
    with pytest.raises(ValueError, match="grad: expected one weight for each of the 2 outputs"):
        dezero.grad([x * 2.0, x * 3.0], x, grad_outputs=np.ones(3))


@pytest.mark.parametrize("wrap", [Variable, lambda array: array], ids=["Variable", "array"])
def test_hooks_on_the_way_run_once(wrap):
    x = var(3)
    t = x * 3.0
    y = t * t + t
    seen = []
    hooks = {"x": x, "t": t, "y": y}
    for name, v in hooks.items():
        v.register_hook(lambda gx, name=name: (seen.append(name), wrap(gx.data * 10))[1])
    gx, gt = dezero.grad(y, [x, t])
    assert seen == ["y", "t", "x"]
    same(gt, 100 * (2 * t.data + 1))
    same(gx, 10 * 3 * gt.data)


def test_what_a_hook_returns_is_not_shared_with_the_result():
    a, b, mine = var(3), var(3), np.ones(3)
    for x in (a, b):
        x.register_hook(lambda gx: mine)
    ga, gb = dezero.grad(a * b, [a, b])
    ga.data *= 100
    same(gb, np.ones(3))
    np.testing.assert_array_equal(mine, np.ones(3))


@pytest.mark.parametrize("enabled", [True, False])
def test_modes_are_restored_after_an_error(enabled):
    x = var(3)
    y = Broken("", [])(x)
    with using_config("enable_backprop", enabled), test_mode():
        for create_graph in (False, True):
            with pytest.raises(ZeroDivisionError):
                dezero.grad(y, x, create_graph=create_graph)
            assert (Config.enable_backprop, Config.train) == (enabled, False)
    assert (Config.enable_backprop, Config.train) == (True, True)
    y = F.sin(x)
    y.backward()
    same(x.grad, np.cos(x.data))


# ----------------------------------------------------------------------------------------------------------------------
# vjp, jvp, jacobian: values
# ----------------------------------------------------------------------------------------------------------------------

# Functions of Variables or tensors, and the shapes of their arguments.

MAPS = {
    "a number": (lambda m, x: m.sin(x) * x, [()]),
    "elementwise": (lambda m, x: m.exp(x) * x, [(3,)]),
    "two arguments": (lambda m, a, b: m.sin(a) * b, [(2, 3), (2, 3)]),
    "broadcasting": (lambda m, a, b, c: m.tanh(a * b) + c, [(2, 3), (3,), ()]),
    "matmul": (lambda m, a, b: m.matmul(a, b), [(2, 3), (3, 2)]),
    "a batch of products": (lambda m, a, b: m.matmul(a, b), [(2, 2, 3), (2, 3, 1)]),
    "softmax": (lambda m, x: m.softmax(x, 1), [(2, 4)]),
    "log_softmax": (lambda m, x: m.log_softmax(x, 1), [(2, 4)]),
    "conv2d": (lambda m, x, W, b: m.conv2d(x, W, b, 1, 1), [(1, 2, 3, 3), (2, 2, 2, 2), (2,)]),
    "two outputs": (lambda m, a, b: (m.matmul(a, b), m.sin(a).sum()), [(2, 3), (3,)]),
    "an output ignores an argument": (lambda m, a, b: (a * a, a * b), [(2,), (2,)]),
    "ignores an argument": (lambda m, a, b: a * a * a, [(3,), (2,)]),
    "linear": (lambda m, x: x * 3.0 + 1.0, [(3,)]),
    "shapes": (lambda m, x: x.T.reshape((3, 2))[1:], [(2, 3)]),
    "index arrays": (lambda m, x: x[np.array([0, 0, 2])] * x[1], [(3,)]),
    "its argument": (lambda m, x: x, [(2, 2)]),
    "its arguments, swapped": (lambda m, a, b: (b, a), [(2,), (3,)]),
}


class Map:
    """A function, arguments for it, and directions in which to move arguments and weigh outputs."""

    def __init__(self, name):
        self.g, shapes = MAPS[name]
        self.name = name
        self.xs = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
        self.dxs = [numbers(*shape, seed=10 + i) for i, shape in enumerate(shapes)]
        ys = self.f(*map(Variable, self.xs))
        self.one_output = isinstance(ys, Variable)
        self.gys = [numbers(*y.shape, seed=20 + i) for i, y in enumerate([ys] if self.one_output else ys)]

    def f(self, *xs):
        return self.g(F, *xs)

    def with_torch(self, torch):
        return lambda *xs: self.g(torch, *xs)

    def alone(self, results, one=None):
        """One for one, a tuple for several: the arguments by default."""
        one = len(self.xs) == 1 if one is None else one
        return results[0] if one else tuple(results)

    def matrix(self):
        """The Jacobian by finite differences: all outputs in one row, all arguments in one column."""
        point = np.concatenate([x.ravel() for x in self.xs])
        return np.stack([self.slope(step) for step in np.eye(point.size)], axis=1)

    def slope(self, step, eps=1e-6):
        return (self.moved(eps * step) - self.moved(-eps * step)) / (2 * eps)

    def moved(self, step):
        steps = np.split(step, np.cumsum([x.size for x in self.xs])[:-1])
        ys = self.f(*(Variable(np.asarray(x + s.reshape(x.shape))) for x, s in zip(self.xs, steps, strict=True)))
        return np.concatenate([y.data.ravel() for y in ([ys] if self.one_output else ys)])


@pytest.fixture(params=MAPS)
def a_map(request):
    return Map(request.param)


def flat(results):
    return np.concatenate([x.data.ravel() for x in (results if isinstance(results, tuple) else (results,))])


def values(a_map):
    ys = a_map.f(*map(Variable, a_map.xs))
    return ys.data if a_map.one_output else tuple(y.data for y in ys)


def test_vjp_against_finite_differences(a_map):
    ys, gxs = dezero.vjp(a_map.f, a_map.alone(a_map.xs), a_map.alone(a_map.gys, a_map.one_output))
    same(ys, values(a_map))
    np.testing.assert_allclose(flat(gxs), flat_arrays(a_map.gys) @ a_map.matrix(), rtol=1e-6, atol=1e-8)


def test_jvp_against_finite_differences(a_map):
    ys, slopes = dezero.jvp(a_map.f, a_map.alone(a_map.xs), a_map.alone(a_map.dxs))
    same(ys, values(a_map))
    np.testing.assert_allclose(flat(slopes), a_map.matrix() @ flat_arrays(a_map.dxs), rtol=1e-6, atol=1e-8)


def test_jacobian_against_finite_differences(a_map):
    J = dezero.jacobian(a_map.f, a_map.alone(a_map.xs))
    rows = [J] if a_map.one_output else J
    blocks = [[row] if len(a_map.xs) == 1 else row for row in rows]
    for gy, row in zip(a_map.gys, blocks, strict=True):
        assert [block.shape for block in row] == [gy.shape + x.shape for x in a_map.xs]
    matrix = np.block(
        [
            [block.data.reshape(gy.size, x.size) for x, block in zip(a_map.xs, row, strict=True)]
            for gy, row in zip(a_map.gys, blocks, strict=True)
        ]
    )
    np.testing.assert_allclose(matrix, a_map.matrix(), rtol=1e-6, atol=1e-8)


def flat_arrays(arrays):
    return np.concatenate([x.ravel() for x in arrays])


def test_vjp_jvp_and_jacobian_are_those_of_torch(a_map):
    torch = import_torch()
    xs, dxs, gys = ([torch.tensor(x) for x in arrays] for arrays in (a_map.xs, a_map.dxs, a_map.gys))
    f = a_map.with_torch(torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, pull = torch.func.vjp(f, *xs)
        gxs = pull(gys[0] if a_map.one_output else tuple(gys))
        _, slopes = torch.func.jvp(f, tuple(xs), tuple(dxs))
        J = torch.autograd.functional.jacobian(f, a_map.alone(xs))
    x = a_map.alone(a_map.xs)
    same(dezero.vjp(a_map.f, x, a_map.alone(a_map.gys, a_map.one_output)), [y, a_map.alone(gxs)])
    same(dezero.jvp(a_map.f, x, a_map.alone(a_map.dxs)), [y, slopes])
    same(dezero.jacobian(a_map.f, x), J)


def test_vjp_without_vs_weighs_with_ones(a_map):
    _, gxs = dezero.vjp(a_map.f, a_map.alone(a_map.xs))
    np.testing.assert_allclose(flat(gxs), a_map.matrix().sum(axis=0), rtol=1e-6, atol=1e-8)


# ----------------------------------------------------------------------------------------------------------------------
# hvp, hessian: values
# ----------------------------------------------------------------------------------------------------------------------


def one_number(y):
    """Weigh elements unequally and bend, so that even a linear map has a Hessian."""
    ys = y if isinstance(y, (tuple, list)) else [y]
    return sum((y * y * y).sum() + (y * y).sum() * 0.5 for y in ys)


def test_hessian_and_hvp_are_those_of_torch(a_map):
    torch = import_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_f = a_map.with_torch(torch)
        arguments = a_map.alone([torch.tensor(x) for x in a_map.xs])
        H = torch.autograd.functional.hessian(lambda *xs: one_number(torch_f(*xs)), arguments)
        y, Hv = torch.autograd.functional.hvp(
            lambda *xs: one_number(torch_f(*xs)), arguments, a_map.alone([torch.tensor(v) for v in a_map.dxs])
        )

    def f(*xs):
        return one_number(a_map.f(*xs))

    same(dezero.hessian(f, a_map.alone(a_map.xs)), H)
    same(dezero.hvp(f, a_map.alone(a_map.xs), a_map.alone(a_map.dxs)), [y, Hv])


def test_hessian_is_symmetric_and_hvp_its_product(a_map):
    def f(*xs):
        return one_number(a_map.f(*xs))

    H = dezero.hessian(f, tuple(a_map.xs))
    for i, j in itertools.product(range(len(a_map.xs)), repeat=2):
        n = a_map.xs[i].ndim
        axes = (*range(n, H[i][j].ndim), *range(n))
        same(H[j][i], H[i][j].data.transpose(axes))
    _, Hv = dezero.hvp(f, tuple(a_map.xs), tuple(a_map.dxs))
    for row, result in zip(H, Hv, strict=True):
        same(result, sum(np.tensordot(h.data, v, v.ndim) for h, v in zip(row, a_map.dxs, strict=True)))


def test_hessian_against_finite_differences_of_the_gradient():
    x, eps = numbers(2, 2), 1e-6

    def f(x):
        return F.sum(F.sin(x @ x) * x)

    def gradient(x):
        return dezero.vjp(f, x)[1].data

    H = dezero.hessian(f, x)
    for i, j in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[i, j] = eps
        expected = (gradient(x + step) - gradient(x - step)) / (2 * eps)
        np.testing.assert_allclose(H.data[i, j], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("f", [lambda x: (x * 3.0).sum(), lambda x: x[0], lambda x: Variable(np.array(5.0))])
def test_a_linear_function_has_a_zero_hessian(f):
    x = numbers(3)
    same(dezero.hessian(f, x), np.zeros((3, 3)))
    same(dezero.hvp(f, x, np.ones(3))[1], np.zeros(3))


def test_a_constant_function_has_zero_derivatives():
    def f(a, b):
        return Variable(np.ones(2)), a * 2.0

    a, b = np.ones(2), np.ones(3)
    same(dezero.vjp(f, (a, b))[1], [np.full(2, 2.0), np.zeros(3)])
    same(dezero.jvp(f, (a, b), (a, b))[1], [np.zeros(2), np.full(2, 2.0)])
    J = dezero.jacobian(f, (a, b))
    same(J, [[np.zeros((2, 2)), np.zeros((2, 3))], [2 * np.eye(2), np.zeros((2, 3))]])


# ----------------------------------------------------------------------------------------------------------------------
# All five: arguments, results, what they leave alone
# ----------------------------------------------------------------------------------------------------------------------

ALL = {
    "vjp": lambda f, x, **kwargs: dezero.vjp(f, x, **kwargs)[1],
    "jvp": lambda f, x, **kwargs: dezero.jvp(f, x, np.ones(np.shape(x)), **kwargs)[1],
    "jacobian": dezero.jacobian,
    "hessian": dezero.hessian,
    "hvp": lambda f, x, **kwargs: dezero.hvp(f, x, np.ones(np.shape(x)), **kwargs)[1],
}


@pytest.fixture(params=ALL)
def derive(request):
    """One of the five, as a function of f and one x."""
    return ALL[request.param]


def cubes(x):
    return F.sum(x * x * x)


def test_arrays_and_variables_are_the_same_to_them(derive):
    x = numbers(3)
    same(derive(cubes, Variable(x)), derive(cubes, x).data)
    same(derive(cubes, constant(Variable(x))), derive(cubes, x).data)


def test_the_argument_is_left_alone(derive):
    x = var(3)
    x.grad = mark = Variable(np.ones(3))
    before = x.data.copy()
    derive(cubes, x)
    assert x.grad is mark
    assert x.creator is None
    np.testing.assert_array_equal(mark.data, np.ones(3))
    np.testing.assert_array_equal(x.data, before)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("before", [None, 7.0])
def test_captured_parameters_are_constants_whose_grad_is_left_alone(derive, before, create_graph):
    p = Parameter(numbers(3, seed=1))
    p.grad = mark = None if before is None else Variable(np.full(3, before))
    x = numbers(3)
    found = derive(lambda x: F.sum(x * x * x * p), x, create_graph=create_graph)
    weights = p.data
    same(found, derive(lambda x: F.sum(x * x * x * weights), x).data)
    assert p.grad is mark
    assert mark is None or (mark.data == before).all()


def test_what_lies_behind_the_argument_does_not_count(derive):
    leaf = var(3)
    visited = []
    x = Noted("behind", visited)(leaf)
    found = derive(cubes, x)
    same(found, derive(cubes, x.data).data)
    assert found.creator is None
    assert visited == []
    assert leaf.grad is None


def test_a_captured_path_to_the_argument_does_not_count(derive):
    leaf = var(3)
    x, captured = leaf * 1.0, leaf * leaf
    found = derive(lambda x: F.sum(x * x * x * captured * leaf), x)
    weights = captured.data * leaf.data
    same(found, derive(lambda x: F.sum(x * x * x * weights), x.data).data)


def test_with_create_graph_the_result_leads_behind_the_argument(derive):
    leaf = var(3)

    def whole(leaf):
        return F.sum(derive(cubes, F.sin(leaf), create_graph=True) * 2.0)

    whole(leaf).backward()
    step = 1e-6
    for i in range(3):
        e = np.eye(3)[i] * step
        slope = (whole(Variable(leaf.data + e)).data - whole(Variable(leaf.data - e)).data) / (2 * step)
        np.testing.assert_allclose(leaf.grad.data[i], slope, rtol=1e-6, atol=1e-7)


def test_the_result_leads_to_captured_parameters_with_create_graph_only(derive):
    x, p = numbers(3), Parameter(numbers(3, seed=1))
    found = derive(lambda x: F.sum(x * x * x * p), x)
    assert found.creator is None
    F.sum(derive(lambda x: F.sum(x * x * x * p), x, create_graph=True)).backward()
    expected = [F.sum(derive(lambda x, e=e: F.sum(x * x * x * e), x)).data for e in np.eye(3)]
    same(p.grad, np.array(expected))


def test_under_no_grad_they_are_the_same(derive):
    x = numbers(3)
    with no_grad():
        found = derive(cubes, x)
        assert found.creator is None
        assert Config.enable_backprop is False
        assert derive(cubes, x, create_graph=True).creator is not None
    same(found, derive(cubes, x).data)


def test_modes_are_those_of_the_caller_inside_f_but_for_the_graph(derive):
    seen = []

    def f(x):
        seen.append((Config.train, Config.enable_backprop))
        return cubes(x)

    with test_mode(), no_grad():
        derive(f, numbers(3))
    assert seen == [(False, True)]


def test_modes_are_restored_when_f_fails(derive):
    def fails(x):
        raise ZeroDivisionError

    with no_grad():
        for f in (fails, lambda x: F.sum(Broken("", [])(x))):
            with pytest.raises(ZeroDivisionError):
                derive(f, numbers(3))
            assert Config.enable_backprop is False
    assert Config.enable_backprop is True


def test_they_call_f_once(derive):
    calls = []
    derive(lambda x: (calls.append(1), cubes(x))[1], numbers(3))
    assert calls == [1]


def test_they_keep_float32(derive):
    x = numbers(3).astype(np.float32)
    assert derive(cubes, x).dtype == np.float32
    assert derive(lambda x: F.sum(x[:0]), x).dtype == np.float32


def test_integers_have_float64_derivatives(derive):
    found = derive(cubes, np.array([1, 2]))
    assert found.dtype == np.float64
    same(found, derive(cubes, np.array([1.0, 2.0])).data)


def test_a_0_dimensional_argument(derive):
    slope, bend = 3 * 0.5**2, 6 * 0.5
    found = derive(lambda x: x * x * x, np.array(0.5))
    assert found.shape == ()
    assert float(found) in (slope, bend)


def test_results_are_writable_and_nobody_elses(derive):
    x = Variable(np.ones(3))
    for f in (cubes, lambda x: F.sum(x), lambda x: F.sum(x * 0.0)):
        found = derive(f, x).data
        assert found.flags.writeable
        assert not np.shares_memory(found, x.data)


def test_an_empty_argument():
    x = np.ones((0, 2))
    same(dezero.vjp(cubes, x)[1], np.zeros((0, 2)))
    same(dezero.jvp(cubes, x, x)[1], np.zeros(()))
    same(dezero.jvp(F.sin, x, x)[1], np.zeros((0, 2)))
    same(dezero.jacobian(cubes, x), np.zeros((0, 2)))
    same(dezero.jacobian(F.sin, x), np.zeros((0, 2, 0, 2)))
    same(dezero.jacobian(lambda x: x[:0], np.ones(3)), np.zeros((0, 3)))
    same(dezero.hessian(cubes, x), np.zeros((0, 2, 0, 2)))
    same(dezero.hvp(cubes, x, x)[1], np.zeros((0, 2)))


def test_a_sequence_of_one_gives_a_tuple_of_one():
    x, v = np.ones(2), np.ones(2)
    for xs, vs in (([x], [v]), ((x,), (v,))):
        assert type(dezero.vjp(cubes, xs)[1]) is tuple
        assert type(dezero.hvp(cubes, xs, vs)[1]) is tuple
        assert type(dezero.jacobian(cubes, xs)) is tuple
        H = dezero.hessian(cubes, xs)
        assert type(H) is type(H[0]) is tuple
    y, slope = dezero.jvp(lambda x: [x * 2.0], x, v)
    assert type(y) is type(slope) is tuple


def test_one_argument_given_twice_is_two_arguments():
    x = var(3)
    same(dezero.vjp(lambda a, b: a * a * b, (x, x))[1], [2 * x.data**2, x.data**2])
    same(dezero.jvp(lambda a, b: a * b, (x, x), (np.ones(3), np.zeros(3)))[1], x.data)


def test_create_graph_links_values_too():
    x = var(3)
    y, _ = dezero.vjp(lambda x: F.sin(x), x, create_graph=True)
    same(dezero.grad(y, x), np.cos(x.data))
    y, _ = dezero.vjp(lambda x: F.sin(x), x)
    assert y.creator is None


# ----------------------------------------------------------------------------------------------------------------------
# Derivatives of derivatives
# ----------------------------------------------------------------------------------------------------------------------


def test_hvp_of_an_hvp():
    x, v = numbers(3), numbers(3, seed=1)

    def f(x):
        return F.sum(x**4)

    def bend(x):
        return F.sum(dezero.hvp(f, x, v, create_graph=True)[1])

    same(dezero.hvp(bend, x, v)[1], 24 * v * v)


def test_a_jacobian_of_a_gradient_is_the_hessian():
    def f(x):
        return F.sum(F.sin(x) * x[0])

    x = numbers(3)
    same(dezero.jacobian(lambda x: dezero.vjp(f, x, create_graph=True)[1], x), dezero.hessian(f, x).data)
    same(dezero.jacobian(lambda x: dezero.jacobian(f, x, create_graph=True), x), dezero.hessian(f, x).data)


def test_the_jacobian_of_a_hessian_is_the_third_derivative():
    third = dezero.jacobian(lambda x: dezero.hessian(cubes, x, create_graph=True), np.array([1.0, 2.0]))
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 0] = expected[1, 1, 1] = 6.0
    same(third, expected)


def test_jvp_of_a_jvp_is_the_second_directional_derivative():
    x, v = numbers(3), numbers(3, seed=1)

    def slope(x):
        return dezero.jvp(F.sin, x, v, create_graph=True)[1]

    same(dezero.jvp(slope, x, v)[1], -np.sin(x) * v * v)


def test_jvp_is_derivable_in_its_direction():
    x, v = numbers(3), var(3, seed=1)
    _, slope = dezero.jvp(F.sin, x, v, create_graph=True)
    same(dezero.grad(slope, v), np.cos(x))


def test_a_gradient_penalty_is_that_of_torch():
    torch = import_torch()
    x, W1, W2 = numbers(4, 3), numbers(3, 5), numbers(5, 1)

    def critic(m, x, W1, W2):
        return m.matmul(m.tanh(m.matmul(x, W1)), W2)

    parameters = [Parameter(W1), Parameter(W2)]
    _, gx = dezero.vjp(lambda x: F.sum(critic(F, x, *parameters)), x, create_graph=True)
    penalty = F.sum(((gx * gx).sum(axis=1) ** 0.5 - 1.0) ** 2)
    penalty.backward()
    tensors = [torch.tensor(W1, requires_grad=True), torch.tensor(W2, requires_grad=True)]
    points = torch.tensor(x, requires_grad=True)
    (gx,) = torch.autograd.grad(critic(torch, points, *tensors).sum(), points, create_graph=True)
    expected = (((gx * gx).sum(dim=1) ** 0.5 - 1.0) ** 2).sum()
    expected.backward()
    same(penalty, expected)
    for p, tensor in zip(parameters, tensors, strict=True):
        same(p.grad, tensor.grad)


# ----------------------------------------------------------------------------------------------------------------------
# All five: errors
# ----------------------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "vjp": dezero.vjp,
    "jvp": lambda f, xs: dezero.jvp(f, xs, xs),
    "jacobian": dezero.jacobian,
    "hessian": dezero.hessian,
    "hvp": lambda f, xs: dezero.hvp(f, xs, xs),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("f", "xs", "error", "message"),
    [
        (cubes, 1.0, TypeError, "xs must be Variables or arrays, got float"),
        (cubes, None, TypeError, "xs must be Variables or arrays, got NoneType"),
        (cubes, [np.ones(2), "x"], TypeError, "xs must be Variables or arrays, got str"),
        (cubes, [], ValueError, "expected at least one argument for f, got none"),
        (lambda x: x.data, np.ones(2), TypeError, "the outputs of f: expected Variables, got ndarray"),
        (lambda x: None, np.ones(2), TypeError, "the outputs of f: expected Variables, got NoneType"),
        (lambda x: [x.sum(), 1.0], np.ones(2), TypeError, "the outputs of f: expected Variables, got float"),
        (lambda x: [], np.ones(2), ValueError, "the outputs of f: expected at least one Variable, got none"),
    ],
)
def test_arguments_and_outputs_that_are_none_are_refused(operation, f, xs, error, message):
    with pytest.raises(error, match=f"^{operation}: {message}"):
        OPERATIONS[operation](f, xs)


@pytest.mark.parametrize("operation", ["hessian", "hvp"])
@pytest.mark.parametrize(("f", "shapes"), [(F.sin, r"\(3,\)"), (lambda x: (x.sum(), x.sum()), r"\(\), \(\)")])
def test_a_hessian_of_several_numbers_is_refused(operation, f, shapes):
    with pytest.raises(ValueError, match=f"{operation}: f must return one number, got {shapes}; .* jacobian"):
        OPERATIONS[operation](f, np.ones(3))


def test_a_hessian_of_one_element_is_taken():
    same(dezero.hessian(lambda x: (x**3).reshape(1, 1), np.array([2.0])), [[12.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dezero.vjp(F.sin, np.ones(3), np.ones(2)), r"vjp: an output has shape \(3,\) but its weights \(2,\)"),
        (lambda: dezero.vjp(F.sin, np.ones(3), [np.ones(3)] * 2), "vjp: expected one weight for each of the 1"),
        (lambda: dezero.vjp(lambda x: (x, x), np.ones(3), np.ones(3)), "vjp: expected one weight for each of the 2"),
        (lambda: dezero.jvp(F.sin, np.ones(3), np.ones(2)), r"jvp: .*shape \(3,\) but .*\(2,\)"),
        (lambda: dezero.jvp(F.add, (np.ones(3),) * 2, np.ones(3)), "jvp: .* each of the 2"),
        (lambda: dezero.hvp(cubes, np.ones(3), np.ones((3, 1))), r"hvp: .*shape \(3,\) but .*\(3, 1\)"),
        (lambda: dezero.hvp(cubes, np.ones(3), [np.ones(3)] * 2), "hvp: .* each of the 1"),
    ],
)
def test_directions_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_modes_survive_all_of_these_errors():
    for operation in OPERATIONS.values():
        with contextlib.suppress(TypeError):
            operation(cubes, None)
    assert (Config.enable_backprop, Config.train, Config.recomputing) == (True, True, False)
