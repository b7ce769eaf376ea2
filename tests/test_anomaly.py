"""detect_anomaly: it names the operation and the user's line, reports changed arrays, and leaves nothing behind."""

import copy
import gc
import inspect
import re
import threading
import weakref

import numpy as np
import pytest

import dezero
from dezero import core, detect_anomaly, optimizers
from dezero import functions as F
from dezero import layers as L
from dezero.core import Config, Function, Parameter, Variable, no_grad, test_mode
from dezero.derivatives import checkpoint


def var(*values, dtype=np.float64, name=None):
    return Variable(np.array(values, dtype), name)


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def place(f):
    """How an error names the line of `f` that is marked with a comment."""
    lines, first = inspect.getsourcelines(f)
    (number,) = (i for i, line in enumerate(lines, first) if line.rstrip().endswith("# here"))
    return f"\n  {__file__}, line {number}: {lines[number - first].strip()}"


def check_reported(f, error, says):
    """Run `f` in the mode, and check that its error says `says` and names its marked line, at the end."""
    with pytest.raises(error) as caught, detect_anomaly():
        f()
    message = str(caught.value)
    assert message.startswith(says)
    assert message.endswith(place(f))


class Doubled(Function):
    """y = 2 x, whose derivative is as wrong as the test wants it."""

    def __init__(self, forward=lambda x: x * 2, backward=lambda gy: gy * 2.0):
        self.on_arrays, self.on_variables = forward, backward

    def forward(self, x):
        return self.on_arrays(x)

    def backward(self, gy):
        return self.on_variables(gy)


# ----------------------------------------------------------------------------------------------------------------------
# Forward
# ----------------------------------------------------------------------------------------------------------------------


def log_of_zero():
    x = var(1.0, 0.0)
    y = x + 0.0
    F.log(y)  # here


def log_below_zero():
    F.log(var(0.0, 1.0, -1.0))  # here


def zero_by_zero():
    x = Variable(np.array([[1.0, 2.0], [0.0, 3.0]]))
    return x / x  # here


def a_number_by_zero():
    return 1.0 / var(0.0)  # here


def exp_overflows():
    F.exp(var(1.0, 1000.0))  # here


def float32_overflows():
    x = var(1e30, dtype=np.float32)
    return x * x  # here


def infinity_minus_infinity():
    x = var(np.inf)
    return x - x  # here


def a_power():
    return var(-1.0) ** 0.5  # here


def a_function_of_the_users():
    Doubled(lambda x: x / 0.0)(var(1.0))  # here


def a_scalar():
    Doubled(lambda x: x.sum() * np.inf)(var(1.0))  # here


def one_of_two_outputs():
    class Two(Function):
        def forward(self, x):
            return x, np.log(x)

    Two()(var(0.0))  # here


def in_a_layer():
    linear = L.Linear(2, in_size=2)
    linear.W.data[...] = 1e30
    linear(np.full((1, 2), 1e30, np.float32))  # here


def under_no_grad():
    with no_grad():
        F.log(var(0.0))  # here


def of_constants():
    F.log(np.zeros(1))  # here


def in_a_checkpoint():
    def f(x):
        y = x * 1.0
        return F.log(y)  # here

    checkpoint(f, var(0.0))


def in_a_derivative():
    def f(x):
        return F.sum(F.log(x))  # here

    dezero.hessian(f, np.zeros(1))


FORWARD = {
    log_of_zero: "log: made infinity at index (1,) of its output",
    log_below_zero: "log: made NaN at index (2,) of its output",
    zero_by_zero: "div: made NaN at index (1, 0) of its output",
    a_number_by_zero: "div: made infinity at index (0,) of its output",
    exp_overflows: "exp: made infinity at index (1,) of its output",
    float32_overflows: "mul: made infinity at index (0,) of its output",
    infinity_minus_infinity: "sub: made NaN at index (0,) of its output",
    a_power: "pow: made NaN at index (0,) of its output",
    a_function_of_the_users: "doubled: made infinity at index (0,) of its output",
    a_scalar: "doubled: made infinity at index () of its output",
    one_of_two_outputs: "two: made infinity at index (0,) of its output",
    in_a_layer: "linear: made infinity at index (0, 0) of its output",
    under_no_grad: "log: made infinity at index (0,) of its output",
    of_constants: "log: made infinity at index (0,) of its output",
    in_a_checkpoint: "log: made infinity at index (0,) of its output",
    in_a_derivative: "log: made infinity at index (0,) of its output",
}


@pytest.mark.parametrize(("f", "says"), FORWARD.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_forward_faults(f, says):
    check_reported(f, FloatingPointError, says)


def test_the_line_is_the_innermost_of_the_user():
    def helper(x):
        return F.log(x)  # here

    def f():
        return helper(var(0.0))

    with pytest.raises(FloatingPointError, match=re.escape(place(helper))), detect_anomaly():
        f()


# ----------------------------------------------------------------------------------------------------------------------
# Numbers handed in
# ----------------------------------------------------------------------------------------------------------------------


def a_nan_in_x():
    x = var(1.0, np.nan, name="x")
    F.sin(x)  # here


def a_nan_in_an_array():
    return var(1.0, 2.0) * np.array([np.nan, 1.0])  # here


def a_nan_in_a_batch():
    L.Linear(3)(np.array([[1.0], [np.nan]], np.float32))  # here


def a_nan_in_a_weight():
    linear = L.Linear(2, in_size=2)
    linear.W.data[1, 0] = np.nan
    linear(np.ones((1, 2), np.float32))  # here


HANDED_IN = {
    a_nan_in_x: "sin: was given NaN at index (1,) of argument 0 ('x')\n",
    a_nan_in_an_array: "mul: was given NaN at index (0,) of argument 1\n",
    a_nan_in_a_batch: "linear: was given NaN at index (1, 0) of argument 0\n",
    a_nan_in_a_weight: "linear: was given NaN at index (1, 0) of argument 1 ('W')\n",
}


@pytest.mark.parametrize(("f", "says"), HANDED_IN.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_a_nan_that_was_handed_in(f, says):
    check_reported(f, FloatingPointError, says)


# ----------------------------------------------------------------------------------------------------------------------
# Backward
# ----------------------------------------------------------------------------------------------------------------------


def sqrt_at_zero():
    x = var(4.0, 0.0)
    y = F.sqrt(x)  # here
    F.sum(y).backward()


def with_a_name():
    x = var(0.0, name="x")
    y = F.sqrt(x)  # here
    y.backward()


def the_first_of_several():
    x = F.sqrt(var(0.0))
    y = F.sqrt(x)  # here
    F.sqrt(y + 1.0).backward()


def a_nan_in_backward():
    y = Doubled(backward=lambda gy: Variable(np.array([1.0, np.nan])))(var(1.0, 2.0))  # here
    y.backward()


def an_array_of_the_users():
    y = Doubled(backward=lambda gy: gy.data / 0.0)(var(1.0))  # here
    y.backward()


def a_scalar_of_the_users():
    y = Doubled(backward=lambda gy: gy.data * np.inf)(Variable(np.array(1.0)))  # here
    y.backward()


def a_number_of_the_users():
    y = Doubled(backward=lambda gy: float("nan"))(Variable(np.array(1.0)))  # here
    y.backward()


def overflow_in_the_second_argument():
    x = var(1.0)
    y = np.array([1e10]) * x  # here
    y.grad = var(1e300)
    y.backward()


def in_dezero_grad():
    x = var(0.0)
    y = F.sqrt(x)  # here
    dezero.grad(y, x)


def in_vjp():
    def f(x):
        return F.sqrt(x)  # here

    dezero.vjp(f, np.zeros(1))


def in_a_layers_backward():
    class Root(L.Layer):
        def forward(self, x):
            return F.sqrt(x)  # here

    Root()(var(0.0)).backward()


def in_a_checkpoints_backward():
    def f(x):
        y = x * 1.0
        y = F.sqrt(y)  # here
        return y * 2.0

    checkpoint(f, var(0.0)).backward()


def in_a_checkpoint_in_a_checkpoint():
    def f(x):
        y = F.sqrt(x)  # here
        return y * 2.0

    checkpoint(lambda x: checkpoint(f, x * 1.0), var(0.0)).backward()


BACKWARD = {
    sqrt_at_zero: "sqrt: backward made infinity at index (1,) of the gradient of argument 0\n",
    with_a_name: "sqrt: backward made infinity at index (0,) of the gradient of argument 0 ('x')\n",
    the_first_of_several: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
    a_nan_in_backward: "doubled: backward made NaN at index (1,) of the gradient of argument 0\n",
    an_array_of_the_users: "doubled: backward made infinity at index (0,) of the gradient of argument 0\n",
    a_scalar_of_the_users: "doubled: backward made infinity at index () of the gradient of argument 0\n",
    a_number_of_the_users: "doubled: backward made NaN at index () of the gradient of argument 0\n",
    overflow_in_the_second_argument: "mul: backward made infinity at index (0,) of the gradient of argument 1\n",
    in_dezero_grad: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
    in_vjp: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
    in_a_layers_backward: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
    in_a_checkpoints_backward: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
    in_a_checkpoint_in_a_checkpoint: "sqrt: backward made infinity at index (0,) of the gradient of argument 0\n",
}


@pytest.mark.parametrize(("f", "says"), BACKWARD.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_backward_faults(f, says):
    check_reported(f, FloatingPointError, says)


def second_order():
    x = var(0.0)
    y = x**1.5  # here
    y.backward(create_graph=True)
    gx = x.grad
    x.cleargrad()
    gx.backward()


def third_order():
    x = var(0.0)
    y = x**2.5  # here
    for _ in range(3):
        y = dezero.grad(y, x, create_graph=True)


def second_order_in_a_checkpoint():
    def f(x):
        return x**1.5  # here

    x = var(0.0)
    gx = dezero.grad(checkpoint(f, x), x, create_graph=True)
    dezero.grad(gx, x)


@pytest.mark.parametrize("f", [second_order, third_order, second_order_in_a_checkpoint], ids=lambda f: f.__name__)
def test_faults_of_higher_order_name_the_line_of_the_forward_operation(f):
    with pytest.raises(FloatingPointError, match="pow: backward made infinity at index") as caught, detect_anomaly():
        f()
    assert "\n  in the backward of pow" in str(caught.value)
    assert str(caught.value).endswith(place(f))


def test_a_fault_in_a_hook_names_the_hooks_line():
    def hook(gx):
        return gx / 0.0  # here

    x = var(1.0)
    x.register_hook(hook)
    with pytest.raises(FloatingPointError, match="div: made infinity") as caught, detect_anomaly():
        (x * x).backward()
    assert str(caught.value).endswith(place(hook))


def test_a_fault_in_a_backward_made_of_operations_names_an_operation_and_a_line_of_the_users():
    class Wrong(Doubled):
        def backward(self, gy):
            return gy / 0.0

    with pytest.raises(FloatingPointError, match=rf"(wrong|div): .*made infinity(.|\n)*{re.escape(__file__)}"):  # noqa: SIM117
        with detect_anomaly():
            Wrong()(var(1.0)).backward()


# ----------------------------------------------------------------------------------------------------------------------
# What is no anomaly
# ----------------------------------------------------------------------------------------------------------------------

MASK = np.array([[0.0, -np.inf, 0.0], [-np.inf, 0.0, 0.0]])


def attention(x):
    scores = np.where(np.tri(2, 2) > 0, 0.0, -np.inf)
    return F.scaled_dot_product_attention(x, x, x, attn_mask=scores)


INNOCENT = {
    "a mask before softmax": lambda x: F.softmax(x + MASK),
    "a mask before log_softmax": lambda x: F.log_softmax(x + MASK),
    "a mask before logsumexp": lambda x: F.logsumexp(x + MASK, axis=1),
    "a number as a mask": lambda x: F.softmax(F.where(MASK == 0, x, -np.inf)),
    "attention": attention,
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "NaN is dropped": lambda x: F.where(~np.isnan(np.sqrt(MASK)), x, 0.0),
    "infinity goes through": lambda x: x + np.inf,
    "one by infinity": lambda x: x / np.full((2, 3), np.inf),
    "integers": lambda x: x * np.arange(3),
    "booleans": lambda x: x * (x.data > 0),
    "dropout of all": lambda x: F.dropout(x, 1.0),
    "an empty array": lambda x: F.sin(x[:0]) / x[:0],
    "pooling with a border": lambda x: F.pooling(x.reshape(1, 1, 2, 3), 2, 1, 1),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", INNOCENT)
def test_what_is_no_anomaly(name):
    x = Variable(numbers(2, 3))
    with detect_anomaly():
        y = INNOCENT[name](x)
        y.backward()
    assert np.isfinite(x.grad.data).all()


def test_a_nan_that_is_left_out_is_no_anomaly():
    x = var(1.0, np.nan)
    with detect_anomaly():
        y = F.where(~np.isnan(x.data), x, 0.0)
        (y * y).backward()
    np.testing.assert_array_equal(x.grad.data, [2.0, 0.0])


def test_a_start_that_is_infinite_is_no_anomaly():
    x = var(1.0)
    with detect_anomaly():
        y = x * 2.0
        y.grad = var(np.inf)
        y.backward()
    assert x.grad.data == np.inf


# ----------------------------------------------------------------------------------------------------------------------
# Arrays that changed
# ----------------------------------------------------------------------------------------------------------------------


def an_input():
    x = var(1.0, 2.0, name="x")
    y = F.sin(x)  # here
    x.data += 1
    y.backward()


def an_output():
    y = F.exp(var(1.0, 2.0))  # here
    y.data *= 2
    F.sum(y).backward()


def the_second_argument():
    x, w = var(1.0), var(2.0, name="w")
    y = x * w  # here
    w.data[0] = 5.0
    y.backward()


def a_parameter():
    linear = L.Linear(2, in_size=2)
    x = Variable(np.ones((1, 2), np.float32))
    y = F.sum(linear(x))  # here
    linear.W.data -= 0.1
    y.backward()


def an_optimizers_step_too_early():
    linear = L.Linear(2, in_size=2)
    optimizer = optimizers.SGD().setup(linear)
    h = F.tanh(linear(np.ones((1, 2), np.float32)))
    loss = F.sum(linear(h))  # here
    loss.backward()
    optimizer.update()
    loss.backward()


def a_kernel():
    x, W = Variable(numbers(1, 1, 4, 4)), Parameter(numbers(1, 1, 3, 3), name="W")
    y = F.conv2d(x, W)  # here
    W.data[...] = 0
    y.backward()


def a_batch_that_is_an_array():
    batch = np.ones((2, 2))
    W = Parameter(np.ones((2, 2)))
    y = F.matmul(batch, W)  # here
    batch[0] = 7
    y.backward()


def through_a_view():
    data = np.ones((2, 3))
    x = Variable(data[0])
    y = x * x  # here
    data[:, 1] = 5
    y.backward()


def another_array():
    x = var(1.0)
    y = F.sin(x)  # here
    x.data = np.array([2.0])
    y.backward()


def in_the_middle():
    x = var(1.0)
    t = x * 2.0
    y = t * t  # here
    F.sum(y).backward()
    t.data += 1
    F.sum(y).backward()


def before_dezero_grad():
    x = var(1.0)
    y = F.sin(x)  # here
    x.data += 1
    dezero.grad(y, x)


def before_the_second_order():
    x = var(1.0)
    y = F.sin(x)  # here
    gx = dezero.grad(y, x, create_graph=True)
    x.data += 1
    gx.backward()


def what_a_checkpoint_uses():
    w = var(1.0, name="w")
    y = checkpoint(lambda x: F.sin(x * w), var(1.0))  # here
    w.data += 1
    y.backward()


CHANGED = {
    an_input: "sin: argument 0 ('x') was changed since the forward pass used it",
    an_output: "exp: the output was changed since the forward pass used it",
    the_second_argument: "mul: argument 1 ('w') was changed",
    a_parameter: "linear: argument 1 ('W') was changed",
    an_optimizers_step_too_early: "linear: argument 1 ('W') was changed",
    a_kernel: "conv2d: argument 1 ('W') was changed",
    a_batch_that_is_an_array: "matmul: argument 0 was changed",
    through_a_view: "mul: argument ",
    another_array: "sin: argument 0 was changed",
    in_the_middle: "mul: argument ",
    before_dezero_grad: "sin: argument 0 was changed",
    before_the_second_order: "cos: argument 0 was changed",
    what_a_checkpoint_uses: "checkpoint: argument 1 ('w') was changed",
}


@pytest.mark.parametrize(("f", "says"), CHANGED.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_a_changed_array_that_backward_reads(f, says):
    check_reported(f, ValueError, says)


def changed(x):
    x.data += 1


def rebound(x):
    x.data = x.data + 1


def taken_away(x):
    x.data = None


@pytest.mark.parametrize("change", [changed, rebound, taken_away])
@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: x + 1.0, 1.0),
        (lambda x: 1.0 - x, -1.0),
        (lambda x: x * 3.0, 3.0),
        (lambda x: x / 2.0, 0.5),
        (lambda x: -x, -1.0),
        (lambda x: x.reshape(2, 1), 1.0),
        (lambda x: x.T, 1.0),
        (lambda x: x[:], 1.0),
        (lambda x: x.sum(), 1.0),
        (lambda x: F.broadcast_to(x, (3, 2)), 3.0),
        (lambda x: F.concat([x, x * 1.0], axis=0), 2.0),
        (lambda x: F.linear(x.reshape(1, 2), np.ones((2, 1))), 1.0),
    ],
)
def test_a_changed_array_that_backward_does_not_read_is_no_anomaly(f, slope, change):
    x = var(1.0, 2.0)
    with detect_anomaly():
        y = f(x)
        change(x)
        y.backward()
    np.testing.assert_array_equal(x.grad.data, np.full(2, slope))
    assert type(x) is Variable


def test_an_output_that_backward_does_not_read_may_change():
    x = var(1.0)
    with detect_anomaly():
        y = F.sin(x)
        y.data *= 2
        y.backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([1.0]))


def test_the_array_taken_away_from_a_result_that_nobody_needs():
    x = var(1.0)
    with detect_anomaly():
        t = x * 2.0
        y = t + 1.0
        t.data = None
        y.backward()
    np.testing.assert_array_equal(x.grad.data, [2.0])


def test_an_output_that_is_gone_is_no_change():
    class Two(Function):
        def forward(self, x):
            return x * 2, x * 3

        def backward(self, ga, gb):
            return ga * 2.0 + gb * 3.0

    x = var(1.0)
    with detect_anomaly():
        Two()(x)[1].backward()
    np.testing.assert_array_equal(x.grad.data, [3.0])


def test_a_change_before_the_use_or_after_the_pass_is_no_anomaly():
    x = var(1.0)
    with detect_anomaly():
        x.data += 1
        y = F.sin(x)
        y.backward()
        x.data += 1
        F.sin(x).backward()
    np.testing.assert_allclose(x.grad.data, np.cos([2.0]) + np.cos([3.0]))


def test_the_same_numbers_in_another_array_are_no_change():
    x = var(1.0)
    with detect_anomaly():
        y = F.sin(x)
        x.data = x.data.copy()
        y.backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([1.0]))


def test_a_change_and_its_undoing_are_none():
    x = var(1.0)
    with detect_anomaly():
        y = F.sin(x)
        x.data += 1
        x.data -= 1
        y.backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([1.0]))


def test_the_shape_of_a_changed_array_may_be_read():
    class Sized(Doubled):
        def backward(self, gy):
            (x,) = self.inputs
            assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2,), 1, 2, np.float64, 2)
            assert x.requires_grad
            assert isinstance(x, Variable)
            return gy * 2.0

    x = var(1.0, 2.0)
    with detect_anomaly():
        y = Sized()(x)
        x.data += 1
        y.backward()
    np.testing.assert_array_equal(x.grad.data, [2.0, 2.0])


# ----------------------------------------------------------------------------------------------------------------------
# What it leaves behind: nothing
# ----------------------------------------------------------------------------------------------------------------------


class Mine(Variable):
    """A kind of Variable that only this file knows."""


@pytest.mark.parametrize("kind", [Variable, Parameter, Mine])
def test_classes_are_restored_after_an_error(kind):
    x = kind(np.array([1.0]))
    t = F.sin(x)
    with detect_anomaly():
        y = F.exp(x)
        z = y * x
        for v in (x, y):
            v.data += 1
        with pytest.raises(ValueError, match="was changed"):
            (z + t).backward()
    assert (type(x), type(y), type(z)) == (kind, Variable, Variable)
    np.testing.assert_array_equal(x.data, [2.0])
    assert x.grad is None
    F.sin(x).backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([2.0]))


def faulty():
    F.log(var(0.0))


@pytest.mark.parametrize("f", [lambda x: x / x, lambda x: x * np.inf])
def test_arithmetic_that_is_not_recorded_is_looked_at_too(f):
    with detect_anomaly(), no_grad(), pytest.raises(FloatingPointError, match=r"^(div|mul): "):
        f(Variable(np.zeros(2)))


def test_the_mode_ends_with_the_block():
    with pytest.raises(FloatingPointError), detect_anomaly():
        faulty()
    with np.errstate(divide="ignore"):
        faulty()
    with detect_anomaly():
        pass
    with np.errstate(divide="ignore"):
        faulty()
    assert core._modes.get().observer is None
    assert (Config.enable_backprop, Config.train) == (True, True)


def test_numpys_warnings_are_silent_inside_and_as_before_afterwards():
    with np.errstate(all="raise"):
        before = np.geterr()
        with detect_anomaly():
            np.log(np.zeros(1))
        assert np.geterr() == before
        with pytest.raises(FloatingPointError), detect_anomaly():
            faulty()
        assert np.geterr() == before


def test_nested_blocks():
    with detect_anomaly():
        with detect_anomaly(), pytest.raises(FloatingPointError):
            faulty()
        with pytest.raises(FloatingPointError):
            faulty()
    with np.errstate(divide="ignore"):
        faulty()


def test_it_holds_inside_a_backward_error_too():
    """An error in a backward pass must not leave the mode as it was within that backward."""
    x = var(0.0)
    with detect_anomaly():
        with pytest.raises(FloatingPointError):
            F.sqrt(x).backward()
        with pytest.raises(FloatingPointError) as caught:
            faulty()
    assert str(caught.value).startswith("log: made infinity at index (0,) of its output")
    assert "in the backward of" not in str(caught.value)


def test_other_threads_are_left_alone():
    results = []

    def other():
        with np.errstate(all="ignore"):
            x = var(0.0)
            y = F.sqrt(x)
            y.backward()
            results.extend([F.log(x).data, x.grad.data])

    with detect_anomaly():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with pytest.raises(FloatingPointError):
            faulty()
    np.testing.assert_array_equal(results, [[-np.inf], [np.inf]])


def test_a_graph_from_outside_may_be_gone_through_inside():
    x = var(1.0)
    y = F.sin(x)
    x.data += 1
    with detect_anomaly():
        y.backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([2.0]))


def test_a_graph_from_inside_may_be_gone_through_outside():
    x = var(1.0)
    with detect_anomaly():
        y = F.sin(x)
    x.data += 1
    y.backward()
    np.testing.assert_array_equal(x.grad.data, np.cos([2.0]))


def test_a_function_called_again_outside_is_not_held_against_its_first_call():
    f, a, b = F.Sin(), var(1.0), var(2.0)
    with detect_anomaly():
        f(a)
    y = f(b)
    with detect_anomaly():
        y.backward()
    np.testing.assert_array_equal(b.grad.data, np.cos([2.0]))


def test_the_graph_is_freed_by_reference_counting():
    gc.collect()
    gc.disable()
    try:
        with detect_anomaly():
            x = var(1.0)
            t = F.sin(x)
            y = checkpoint(lambda t: t * t, t)
            y.backward()
            gone = [weakref.ref(v) for v in (x, t, t.creator, y, y.creator)]
            del x, t, y
            assert [reference() for reference in gone] == [None] * 5
    finally:
        gc.enable()


def test_copies_made_inside_are_plain():
    with detect_anomaly():
        linear = L.Linear(2, in_size=2)
        y = F.sum(linear(np.ones((1, 2), np.float32)))
        y.backward()
        twin = copy.deepcopy(linear)
    F.sum(twin(np.ones((1, 2), np.float32))).backward()
    assert type(twin.W) is Parameter


# ----------------------------------------------------------------------------------------------------------------------
# The same numbers as without
# ----------------------------------------------------------------------------------------------------------------------


class Network(L.Layer):
    def __init__(self, part):
        super().__init__()
        self.part = part
        self.conv1, self.norm1 = L.Conv2d(4, 3, pad=1), L.BatchNorm()
        self.conv2, self.norm2 = L.Conv2d(4, 3, pad=1), L.BatchNorm()
        self.fc = L.Linear(3)

    def first(self, x):
        return F.pooling(F.relu(self.norm1(self.conv1(x))), 2, 2)

    def second(self, x):
        return F.average_pooling(F.leaky_relu(self.norm2(self.conv2(x))), 2, 2)

    def last(self, x):
        return self.fc(F.dropout(F.flatten(x)))

    def forward(self, x):
        for f in (self.first, self.second, self.last):
            x = self.part(f, x)
        return x


def train(part=lambda f, *xs: f(*xs)):
    """Three steps of training: losses, gradients, parameters."""
    dezero.seed(1)
    x, t = numbers(6, 2, 8, 8).astype(np.float32), np.arange(6) % 3
    model = Network(part)
    optimizer = optimizers.Adam().setup(model)
    optimizer.add_hook(optimizers.WeightDecay(1e-4))
    optimizer.add_hook(optimizers.ClipGrad(1.0))
    found = []
    for _ in range(3):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        found += [loss.data, *(p.grad.data for p in model.params() if p.grad is not None)]
    with test_mode():
        found.append(model(x).data)
    dezero.seed(None)
    return [*found, *(p.data for p in model.params())]


@pytest.mark.parametrize("part", [lambda f, *xs: f(*xs), checkpoint], ids=["plain", "checkpoint"])
def test_training_a_network_is_silent_and_the_same_bit_for_bit(part):
    expected = train()
    with detect_anomaly():
        found = train(part)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y, strict=True)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: dezero.hessian(lambda x: F.sum(F.tanh(x @ x)), x),
        lambda x: dezero.jvp(F.softmax, x, x)[1],
        lambda x: dezero.jacobian(lambda x: F.layer_norm(x, 3), x),
        lambda x: dezero.hvp(lambda x: F.sum(checkpoint(F.sin, x)), x, x)[1],
    ],
)
def test_derivatives_are_silent_and_the_same_bit_for_bit(f):
    x = numbers(3, 3)
    expected = f(x)
    with detect_anomaly():
        found = f(x)
    np.testing.assert_array_equal(found.data, expected.data, strict=True)
