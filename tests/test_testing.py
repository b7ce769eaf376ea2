"""The checker is checked: it must refuse Functions that are wrong on purpose, and accept right ones."""

import numpy as np
import pytest

from dezero import functions as F
from dezero.core import Function, Variable, no_grad
from dezero.testing import array_allclose, array_equal, check_grads, gradient_check, numerical_grad

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
Y = np.array([[1.0, 2.0, -0.5], [0.5, -1.5, 1.25]])


def function(forward, backward):
    """A function of Variables out of forward(*arrays) and backward(inputs, output, gy)."""
    body = {
        "forward": lambda self, *xs: forward(*xs),
        "backward": lambda self, gy: backward(self.inputs, self.outputs[0](), gy),
    }
    return lambda *xs: type("Mine", (Function,), body)()(*xs)


def np_softmax(x):
    e = np.exp(x)
    return e / e.sum(axis=1, keepdims=True)


RIGHT = {
    "square": (function(lambda x: x * x, lambda xs, y, gy: 2 * xs[0] * gy), (X,)),
    "product": (function(lambda a, b: a * b, lambda xs, y, gy: (gy * xs[1], gy * xs[0])), (X, Y)),
    "broadcast product": (function(lambda a, b: a * b, lambda xs, y, gy: (gy * xs[1], gy * xs[0])), (X, Y[0])),
    "exponential by its output": (function(np.exp, lambda xs, y, gy: gy * y), (X,)),
    "a constant": (function(lambda x: np.ones(3), lambda xs, y, gy: None), (X,)),
    "one number": (function(lambda x: x**3, lambda xs, y, gy: 3 * xs[0] ** 2 * gy), (np.array(2.0),)),
    "softmax": (F.softmax, (X,)),
    "float32 and integer arrays": (F.mul, (X.astype(np.float32), np.array([1, 2, 3]))),
}


@pytest.mark.parametrize(("f", "inputs"), RIGHT.values(), ids=RIGHT.keys())
def test_right_functions_pass_to_the_third_order(f, inputs):
    check_grads(f, *inputs, order=3, rtol=1e-4)


# name: (f, inputs, the order at which it is wrong)
WRONG = {
    "sign": (function(np.sin, lambda xs, y, gy: -gy * F.cos(xs[0])), (X,), 1),
    "missing factor": (function(lambda x: x * x, lambda xs, y, gy: xs[0] * gy), (X,), 1),
    "forgets gy": (function(lambda x: x * x, lambda xs, y, gy: 2 * xs[0]), (X,), 1),
    "softmax without a gradient": (function(np_softmax, lambda xs, y, gy: gy * 0.0), (X,), 1),
    "softmax without its cross terms": (function(np_softmax, lambda xs, y, gy: gy * y * (1 - y)), (X,), 1),
    "no gradient at all": (function(np.sin, lambda xs, y, gy: None), (X,), 1),
    "forgets the second input": (function(lambda a, b: a * b, lambda xs, y, gy: gy * xs[1]), (X, Y), 1),
    "forgets the first input": (function(lambda a, b: a * b, lambda xs, y, gy: (None, gy * xs[0])), (X, Y), 1),
    "inputs swapped": (function(lambda a, b: a * b, lambda xs, y, gy: (gy * xs[0], gy * xs[1])), (X, Y), 1),
    "transposed": (
        function(lambda x: x * np.arange(9.0).reshape(3, 3), lambda xs, y, gy: (gy * np.arange(9.0).reshape(3, 3)).T),
        (X[:1].T @ Y[:1],),
        1,
    ),
    "broadcast the wrong way": (
        function(lambda a, b: a + b, lambda xs, y, gy: (gy, F.broadcast_to(gy[0], (2, 3)).sum(axis=0))),
        (X, Y[0]),
        1,
    ),
    "sum not spread": (function(lambda x: x.sum(axis=0), lambda xs, y, gy: F.broadcast_to(gy * 0.5, (2, 3))), (X,), 1),
    "not a number": (function(np.sin, lambda xs, y, gy: gy * np.nan), (X,), 1),
    "only one of many elements": (function(np.sin, lambda xs, y, gy: gy * F.cos(xs[0]) * (X < 2)), (X,), 1),
    "second order from .data": (function(lambda x: x**3, lambda xs, y, gy: gy * (3 * xs[0].data ** 2)), (X,), 2),
    "second order from an array": (function(np.exp, lambda xs, y, gy: gy.data * y.data), (X,), 2),
    "second order under no_grad": (function(np.sin, lambda xs, y, gy: gy * without_graph(F.cos, xs[0])), (X,), 2),
    "third order from .data": (
        function(lambda x: x**4, lambda xs, y, gy: gy * held_square(xs[0])),
        (X,),
        3,
    ),
}


def without_graph(f, x):
    with no_grad():
        return f(x)


def held_square(x):
    """4 x^3 whose own derivative 12 x^2 is right, but ends there."""
    return function(lambda x: 4 * x**3, lambda xs, y, gy: gy * (12 * xs[0].data ** 2))(x)


@pytest.mark.parametrize(("f", "inputs", "order"), WRONG.values(), ids=WRONG.keys())
def test_wrong_functions_are_refused_with_both_figures(f, inputs, order):
    with pytest.raises(
        AssertionError, match=rf"check_grads: order {order}: backward gives slope .*, finite differences"
    ):
        check_grads(f, *inputs, order=order)


@pytest.mark.parametrize("name", [name for name, (_, _, order) in WRONG.items() if order > 1])
def test_what_is_wrong_in_a_higher_order_passes_below_it(name):
    f, inputs, order = WRONG[name]
    check_grads(f, *inputs, order=order - 1, rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_function_is_refused_whatever_the_seed(seed):
    f, inputs, _ = WRONG["softmax without its cross terms"]
    with pytest.raises(AssertionError, match="check_grads"):
        check_grads(f, *inputs, order=1, seed=seed)


def test_functions_of_several_outputs_are_checked():
    class SinCos(Function):
        factor = 1

        def forward(self, x):
            return np.sin(x), np.cos(x)

        def backward(self, gs, gc):
            (x,) = self.inputs
            return gs * F.cos(x) - gc * F.sin(x) * self.factor

    class Wrong(SinCos):
        factor = -1

    check_grads(lambda x: SinCos()(x), X, order=3, rtol=1e-4)
    with pytest.raises(AssertionError, match="order 1"):
        check_grads(lambda x: Wrong()(x), X)


def test_the_inputs_are_left_alone():
    x = X.copy()
    check_grads(F.sin, x)
    np.testing.assert_array_equal(x, X)


# ----------------------------------------------------------------------------------------------------------------------
# numerical_grad, gradient_check
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [Variable, lambda x: x])
def test_numerical_grad_of_a_sum_of_squares(wrap):
    gradient = numerical_grad(lambda x: x * x, wrap(X.copy()))
    assert type(gradient) is np.ndarray
    np.testing.assert_allclose(gradient, 2 * X, atol=1e-7)


def test_numerical_grad_passes_further_arguments_on():
    np.testing.assert_allclose(numerical_grad(lambda x, a, b: x * a * b, X, 2.0, b=3.0), np.full((2, 3), 6.0))


def test_numerical_grad_of_a_function_of_integers():
    np.testing.assert_allclose(numerical_grad(lambda x: x * 3.0, np.array([1, 2])), [3.0, 3.0])


def test_gradient_check_says_yes():
    assert gradient_check(F.tanh, X) is True
    assert gradient_check(F.clip, Variable(X), -0.9, x_max=1.7) is True
    assert gradient_check(F.sin, X.astype(np.float32)) is True


@pytest.mark.parametrize("name", ["sign", "missing factor"])
def test_gradient_check_says_no_and_prints_both(name, capsys):
    f, inputs, _ = WRONG[name]
    assert gradient_check(f, *inputs) is False
    printed = capsys.readouterr().out
    assert "numerical" in printed
    assert "backward" in printed


def test_gradient_check_can_be_made_stricter_and_laxer():
    almost = function(lambda x: x * x, lambda xs, y, gy: 2.02 * xs[0] * gy)
    assert gradient_check(almost, X) is False
    assert gradient_check(almost, X, rtol=0.1) is True


# ----------------------------------------------------------------------------------------------------------------------
# Comparisons
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "equal", "close"),
    [
        (X, X.copy(), True, True),
        (Variable(X), X, True, True),
        (Variable(X), Variable(X), True, True),
        (X, X + 1e-7, False, True),
        (X, X + 0.1, False, False),
        (X, -X, False, False),
        (2.0, Variable(np.array(2.0)), True, True),
    ],
)
def test_array_equal_and_array_allclose(a, b, equal, close):
    assert array_equal(a, b) is equal
    assert array_allclose(a, b) is close


def test_arrays_of_different_shapes_are_not_equal():
    assert array_equal(np.ones((2, 1)), np.ones(2)) is False


def test_array_allclose_takes_tolerances():
    assert array_allclose(1.0, 1.05, rtol=0.1) is True
    assert array_allclose(0.0, 0.05, atol=0.1) is True
