"""The small core: the programs of the book's steps 23 to 32, and agreement with the core on the same programs."""

import gc
import weakref

import numpy as np
import pytest

from dezero import core, core_simple
from dezero.core_simple import Config, Function, Variable, as_array, as_variable, no_grad, setup_variable, using_config


def var(*values):
    return Variable(np.array(values[0] if len(values) == 1 else values, dtype=float))


def sphere(x, y):
    return x**2 + y**2


def matyas(x, y):
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


def goldstein_price(x, y):
    return (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )


def rosenbrock(x0, x1):
    return 100 * (x1 - x0**2) ** 2 + (x0 - 1) ** 2


def quotients(x, y):
    return -x / y + 3.0 / x - (2.0 - y) / (x - 1.0) ** 3


PROGRAMS = [sphere, matyas, goldstein_price, rosenbrock, quotients]


@pytest.mark.parametrize(
    ("f", "value", "gradient"),
    [(sphere, 2.0, (2.0, 2.0)), (matyas, 0.04, (0.04, 0.04)), (goldstein_price, 1876.0, (-5376.0, 8064.0))],
)
def test_the_books_functions_at_one(f, value, gradient):
    x, y = var(1.0), var(1.0)
    z = f(x, y)
    z.backward()
    np.testing.assert_allclose(z.data, value)
    np.testing.assert_allclose([x.grad, y.grad], gradient)


def test_gradient_descent_on_rosenbrocks_function_goes_the_way_of_its_formula():
    x0, x1 = var(0.0), var(2.0)
    a, b = 0.0, 2.0
    for _ in range(1000):
        x0.cleargrad()
        x1.cleargrad()
        rosenbrock(x0, x1).backward()
        x0.data -= 0.001 * x0.grad
        x1.data -= 0.001 * x1.grad
        ga, gb = -400 * a * (b - a**2) + 2 * (a - 1), 200 * (b - a**2)
        a, b = a - 0.001 * ga, b - 0.001 * gb
    np.testing.assert_allclose([x0.data, x1.data], [a, b], rtol=1e-9)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("start", [(1.5, 0.5), ([0.3, 2.0, -1.0], [1.0, -2.0, 0.7])])
def test_values_and_gradients_are_the_cores(f, start):
    def run(module):
        x, y = (module.Variable(np.array(v)) for v in start)
        z = f(x, y)
        z.backward()
        return z.data, x.grad, y.grad

    value, gx, gy = run(core_simple)
    expected, gx_core, gy_core = run(core)
    assert type(gx) is not Variable  # gradients are plain arrays here
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gx, gx_core.data, rtol=1e-12)
    np.testing.assert_allclose(gy, gy_core.data, rtol=1e-12)


OPERATORS = {
    "x + 3": (lambda x: x + 3.0, 5.0, 1.0),
    "3 + x": (lambda x: 3.0 + x, 5.0, 1.0),
    "x - 3": (lambda x: x - 3.0, -1.0, 1.0),
    "3 - x": (lambda x: 3.0 - x, 1.0, -1.0),
    "x * 3": (lambda x: x * 3.0, 6.0, 3.0),
    "3 * x": (lambda x: 3.0 * x, 6.0, 3.0),
    "x / 4": (lambda x: x / 4.0, 0.5, 0.25),
    "4 / x": (lambda x: 4.0 / x, 2.0, -1.0),
    "x ** 3": (lambda x: x**3, 8.0, 12.0),
    "-x": (lambda x: -x, -2.0, -1.0),
    "array + x": (lambda x: np.array(3.0) + x, 5.0, 1.0),
    "array - x": (lambda x: np.array(3.0) - x, 1.0, -1.0),
    "array * x": (lambda x: np.array(3.0) * x, 6.0, 3.0),
    "array / x": (lambda x: np.array(4.0) / x, 2.0, -1.0),
    "float64 * x": (lambda x: np.float64(3.0) * x, 6.0, 3.0),
    "x * array": (lambda x: x * np.array(3.0), 6.0, 3.0),
    "x * x": (lambda x: x * x, 4.0, 4.0),
    "x + x": (lambda x: x + x, 4.0, 2.0),
    "x / x": (lambda x: x / x, 1.0, 0.0),
}


@pytest.mark.parametrize(("f", "value", "gradient"), OPERATORS.values(), ids=OPERATORS)
def test_operators_with_numbers_and_arrays_on_either_side(f, value, gradient):
    x = var(2.0)
    y = f(x)
    assert type(y) is Variable
    y.backward()
    assert (float(y.data), float(x.grad)) == (value, gradient)


def test_an_array_on_the_left_gives_one_variable_and_not_an_array_of_them():
    x = var(1.0, 2.0)
    y = np.array([3.0, 4.0]) * x
    y.backward()
    np.testing.assert_array_equal(y.data, [3.0, 8.0])
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])


def test_a_result_used_twice_gets_its_whole_gradient_first():
    x = var(2.0)
    a = x**2
    y = a**2 + a**2  # the book's complex graph: a's gradient must be whole before it goes on
    y.backward()
    assert (float(y.data), float(x.grad)) == (32.0, 64.0)
    assert (x.generation, a.generation, y.generation) == (0, 1, 3)


@pytest.mark.parametrize("join", [lambda a, b: a + b, lambda a, b: b + a], ids=["short first", "long first"])
def test_a_function_waits_for_the_longest_way_to_it(join):
    x = var(2.0)
    a = x**2
    y = join(a, (a**2) ** 2)
    y.backward()
    assert (float(y.data), float(x.grad)) == (4.0 + 2.0**8, 2 * 2.0 + 8 * 2.0**7)


def test_a_wide_ladder_visits_each_function_once():
    x = var(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5  # without an order by generation: 2 to the 60 visits
    y.backward()
    assert float(x.grad) == 1.0


def test_a_long_chain_needs_no_recursion():
    x = var(1.0)
    y = x
    for _ in range(5000):
        y = y + 0.001
    y.backward()
    assert float(x.grad) == 1.0


def test_gradients_of_several_passes_add_up_until_cleargrad():
    x = var(3.0)
    (x * 2.0).backward()
    (x * 5.0).backward()
    assert float(x.grad) == 7.0
    x.cleargrad()
    assert x.grad is None
    (x + x).backward()
    assert float(x.grad) == 2.0


def test_adding_up_changes_no_gradient_in_place():
    x, y = var(1.0), var(1.0)
    t = x + y  # both get one array
    (t + x).backward()
    assert (float(x.grad), float(y.grad)) == (2.0, 1.0)


def test_gradients_of_intermediate_results_are_kept_on_request_only():
    for retain in (False, True):
        x0, x1 = var(1.0), var(1.0)
        t = x0 + x1
        y = x0 + t
        y.backward(retain_grad=retain)
        assert (float(x0.grad), float(x1.grad)) == (2.0, 1.0)
        assert (y.grad is None, t.grad is None) == (not retain, not retain)


def test_no_graph_is_recorded_under_no_grad():
    x = var(2.0)
    with no_grad():
        y = x**2
    assert (float(y.data), y.creator) == (4.0, None)
    assert (x**2).creator is not None


def test_using_config_puts_the_old_value_back_after_an_error():
    def fail():
        with using_config("enable_backprop", False):
            assert Config.enable_backprop is False
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert Config.enable_backprop is True


def test_the_two_cores_modes_are_apart():
    with core.no_grad():
        assert (var(1.0) * 2.0).creator is not None
    with no_grad():
        assert (core.Variable(np.array(1.0)) * 2.0).creator is not None


def test_a_function_of_the_users_own_with_two_outputs():
    class SumAndDifference(Function):
        def forward(self, x, y):
            return x + y, x - y

        def backward(self, gs, gd):
            return gs + gd, gs - gd

    x, y = var(5.0), var(3.0)
    s, d = SumAndDifference()(x, y)
    z = s * d  # x^2 - y^2
    z.backward()
    assert (float(z.data), float(x.grad), float(y.grad)) == (16.0, 10.0, -6.0)


def test_the_graph_dies_by_reference_counting():
    gc.collect()
    gc.disable()
    try:
        x = var(1.0)
        y = x * x + x
        node = weakref.ref(y.creator)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_variable_is_a_box_around_its_array():
    x = Variable(np.array([[1, 2, 3], [4, 5, 6]]), name="x")
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.name) == ((2, 3), 2, 6, np.int64, 2, "x")
    assert repr(x) == "variable([[1 2 3]\n          [4 5 6]])"
    assert repr(Variable(None)) == "variable(None)"


def test_helpers():
    x = var(1.0)
    assert as_variable(x) is x
    assert as_variable(np.array(2.0)).data == 2.0
    assert as_array(3.0).ndim == 0
    array = np.zeros(2)
    assert as_array(array) is array
    setup_variable()
    setup_variable()
    assert float((x + 1.0).data) == 2.0


# ----------------------------------------------------------------------------------------------------------------------
# Errors
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [1.0, 1, [1.0], "text"])
def test_data_that_is_no_array_is_refused(data):
    with pytest.raises(TypeError, match=r"Variable: data must be an array, got .*; write Variable\(np\.array\("):
        Variable(data)


def test_backward_without_a_graph_says_why():
    with no_grad():
        y = var(1.0) * 2.0
    for v in (var(1.0), y):
        with pytest.raises(ValueError, match="backward: no graph leads to this Variable"):
            v.backward()


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_function_without_its_methods_says_so(method):
    with pytest.raises(NotImplementedError, match=f"Function has no {method} method"):
        getattr(Function(), method)(np.array(1.0))
