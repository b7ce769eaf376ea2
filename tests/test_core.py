"""The engine: Variables and their operators, modes, the Function contract, and the backward pass."""

import asyncio
import contextlib
import copy
import gc
import operator
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest

from dezero import core
from dezero import functions as F
from dezero.core import (
    Config,
    Function,
    Parameter,
    Variable,
    as_array,
    as_variable,
    no_grad,
    setup_variable,
    test_mode,
    using_config,
)


def var(*values, dtype=np.float64):
    """A Variable of one number, or of several."""
    return Variable(np.array(values[0] if len(values) == 1 else values, dtype=dtype))


@pytest.fixture
def calls(monkeypatch):
    """The names of all Functions called during the test, in order."""
    names = []
    plain_call = Function.__call__

    def spy(self, *inputs):
        names.append(type(self).__name__)
        return plain_call(self, *inputs)

    monkeypatch.setattr(Function, "__call__", spy)
    return names


@pytest.fixture
def no_gc():
    """Reference counting alone: what survives is held by somebody or by a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ----------------------------------------------------------------------------------------------------------------------
# A box around one array
# ----------------------------------------------------------------------------------------------------------------------


def test_a_new_variable_holds_its_array_and_nothing_else():
    data = np.ones((2, 3), np.float32)
    x = Variable(data, name="x")
    assert x.data is data
    assert (x.name, x.grad, x.creator, x.generation) == ("x", None, None, 0)
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float32, 2)


@pytest.mark.parametrize("data", [1.0, 1, [1.0, 2.0], (1.0,), "text", np.float64(1.0), True])
def test_data_that_is_no_array_is_refused(data):
    with pytest.raises(TypeError, match="Variable: data must be an array, got " + type(data).__name__):
        Variable(data)


def test_the_error_for_a_number_shows_the_way_out():
    with pytest.raises(TypeError, match=r"write Variable\(np\.array\(1\.0\)\)"):
        Variable(1.0)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "variable(None)"),
        (np.array(1.5), "variable(1.5)"),
        (np.array([1, 2, 3]), "variable([1 2 3])"),
        (np.array([[1, 2], [3, 4]]), "variable([[1 2]\n          [3 4]])"),
        (np.zeros((2, 1, 1), int), "variable([[[0]]\n         \n          [[0]]])"),
    ],
)
def test_repr_aligns_rows_under_the_first(data, text):
    lines = [line.rstrip() for line in repr(Variable(data)).split("\n")]
    assert lines == [line.rstrip() for line in text.split("\n")]
    assert str(Variable(data)) == repr(Variable(data))


def test_one_number_formats_as_a_number():
    assert f"{var(3.14159):.2f}" == "3.14"
    assert f"{Variable(np.array([[2.5]])):5.1f}" == "  2.5"
    assert f"{var(2.0)}" == "variable(2.0)"


def test_several_numbers_do_not_format_as_one():
    with pytest.raises(TypeError, match=r"format.*shape \(2,\)"):
        format(var(1.0, 2.0), ".2f")


@pytest.mark.parametrize(("data", "number"), [(np.array(2.75), 2.75), (np.array([2.75]), 2.75), (np.array([[3]]), 3.0)])
def test_float_and_int_of_one_element(data, number):
    assert float(Variable(data)) == number
    assert int(Variable(data)) == int(number)
    assert type(float(Variable(data))) is float


@pytest.mark.parametrize("convert", [float, int])
def test_float_and_int_refuse_several_elements(convert):
    with pytest.raises(TypeError, match=r"expected a Variable of one element, got shape \(2,\)"):
        convert(var(1.0, 2.0))


@pytest.mark.parametrize(
    ("data", "truth"),
    [
        (np.array(0.0), False),
        (np.array(2.0), True),
        (np.zeros(3), True),
        (np.zeros(0), False),
        (np.zeros((1, 1)), True),
    ],
)
def test_truth_is_a_numbers_own_or_having_rows(data, truth):
    assert bool(Variable(data)) is truth


def test_len_of_a_number_is_an_error():
    with pytest.raises(TypeError, match="unsized"):
        len(var(1.0))


def test_iteration_gives_the_rows_with_their_graph():
    x = Variable(np.arange(6.0).reshape(3, 2))
    first, _, third = x
    (first * 2 + third).sum().backward()
    np.testing.assert_array_equal(first.data, [0.0, 1.0])
    np.testing.assert_array_equal(x.grad.data, [[2, 2], [0, 0], [1, 1]])


def test_asarray_is_the_array_itself():
    x = var(1.0, 2.0)
    assert np.asarray(x) is x.data
    assert np.array(x) is not x.data
    assert np.asarray(x, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "other", [2.0, np.float64(2.0), np.array(2.0), Variable(np.array(2.0)), np.full(3, 2.0)], ids=repr
)
@pytest.mark.parametrize(
    ("compare", "mirrored", "expected"),
    [
        (operator.lt, operator.gt, [True, False, False]),
        (operator.le, operator.ge, [True, True, False]),
        (operator.gt, operator.lt, [False, False, True]),
        (operator.ge, operator.le, [False, True, True]),
    ],
)
def test_comparisons_give_plain_boolean_arrays_from_either_side(compare, mirrored, expected, other):
    x = var(1.0, 2.0, 3.0)
    for got in (compare(x, other), mirrored(other, x)):
        assert type(got) is np.ndarray
        assert got.dtype == bool
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("other", [None, 1.0, np.float64(1.0), np.ones(2), "x", Variable(np.ones(2))])
def test_equality_is_identity(other):
    x = Variable(np.ones(2))
    assert (x == x) is True
    assert (x == other) is False
    assert (x != other) is True
    assert (other == x) is False
    assert (other != x) is True


def test_variables_live_in_sets_dicts_and_lists():
    a, b = Variable(np.ones(3)), Variable(np.ones(3))
    assert len({a, b, a}) == 2
    assert {a: 1, b: 2}[b] == 2
    assert b in [a, b]
    assert b not in [a, np.ones(3)]
    assert [a, b].index(b) == 1


def test_attributes_may_be_added():
    x = Parameter(np.ones(1))
    x.note = "mine"
    assert x.note == "mine"


def test_as_array_wraps_numbers_only():
    array = np.ones(2)
    assert as_array(array) is array
    assert as_array(2.0).shape == ()
    assert isinstance(as_array(np.float32(2.0)), np.ndarray)


def test_as_variable_leaves_a_variable_alone():
    x = var(1.0)
    assert as_variable(x) is x
    assert as_variable(np.ones(2)).shape == (2,)
    assert as_variable(3.0).shape == ()


def test_setup_variable_may_be_called_again():
    before = Variable.__add__
    setup_variable()
    assert Variable.__add__ is before


def test_to_cpu_leaves_numpy_arrays_and_empty_variables_alone():
    x, empty = var(1.0), Variable(None)
    data = x.data
    x.to_cpu()
    empty.to_cpu()
    assert x.data is data
    assert empty.data is None


# ----------------------------------------------------------------------------------------------------------------------
# Operators
# ----------------------------------------------------------------------------------------------------------------------

BINARY = [
    ("add", operator.add),
    ("sub", operator.sub),
    ("mul", operator.mul),
    ("div", operator.truediv),
    ("pow", operator.pow),
]
OTHERS = [3, 3.0, np.float64(3.0), np.float32(3.0), np.int64(3), np.array(3.0), np.array([1.0, 2.0]), np.ones((3, 1))]


@pytest.mark.parametrize("other", OTHERS, ids=repr)
@pytest.mark.parametrize(("name", "binary"), BINARY)
def test_operators_take_numbers_and_arrays_on_either_side(name, binary, other):
    data = np.array([2.0, 5.0])
    for got, expected in [
        (binary(Variable(data), other), binary(data, other)),
        (binary(other, Variable(data)), binary(other, data)),
    ]:
        assert type(got) is Variable
        np.testing.assert_allclose(got.data, expected)


@pytest.mark.parametrize("other", [3.0, np.float64(3.0), np.array([1.0, 2.0])], ids=repr)
@pytest.mark.parametrize(("name", "binary"), BINARY)
def test_operators_record_the_graph_from_either_side(name, binary, other):
    for f in (lambda x: binary(x, other), lambda x: binary(other, x)):
        x = var(2.0, 5.0)
        f(x).backward()
        eps = 1e-6
        slope = (f(x.data + eps) - f(x.data - eps)) / (2 * eps)
        np.testing.assert_allclose(x.grad.data, slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda a, b: a + b, (1, 1)),
        (lambda a, b: a - b, (1, -1)),
        (lambda a, b: a * b, (3, 2)),
        (lambda a, b: a / b, (1 / 3, -2 / 9)),
        (lambda a, b: a**b, (12, 8 * np.log(2))),
        (lambda a, b: -a * +b, (-3, -2)),
        (lambda a, b: core.rsub(a, b), (-1, 1)),
        (lambda a, b: core.rdiv(a, b), (-3 / 4, 1 / 2)),
    ],
)
def test_gradients_of_two_variables(f, expected):
    a, b = var(2.0), var(3.0)
    f(a, b).backward()
    np.testing.assert_allclose((float(a.grad), float(b.grad)), expected)


@pytest.mark.parametrize("name", ["sum", "mean", "dot", "concatenate", "where", "transpose"])
def test_numpy_functions_do_not_detach_in_silence(name):
    x = var(1.0, 2.0)
    args = {"dot": (x, x), "concatenate": ([x, x],), "where": (x.data > 1, x, 0.0)}.get(name, (x,))
    with pytest.raises(TypeError, match=rf"^np\.{name}: would lose the graph"):
        getattr(np, name)(*args)


def test_the_hint_names_only_what_exists():
    with pytest.raises(TypeError, match=r"use F\.exp of dezero\.functions, or np\.exp\(v\.data\)"):
        np.exp(var(1.0))
    with pytest.raises(TypeError, match=r"graph of a Variable; use np\.arctan2\(v\.data\)"):
        np.arctan2(var(1.0), 2.0)


def test_numpy_may_ask_what_has_no_gradient():
    x = var(1.0, 3.0, 2.0)
    assert np.array_equal(x, [1.0, 3.0, 2.0])
    assert np.allclose(x, x)
    assert np.shape(x) == (3,)
    assert np.argmax(x) == 1
    assert type(np.zeros_like(x)) is np.ndarray


def test_an_array_in_place_operator_becomes_a_variable():
    total, x = np.zeros(2), var(1.0, 2.0)
    total += x
    assert isinstance(total, Variable)
    total.backward()
    np.testing.assert_array_equal(x.grad.data, [1.0, 1.0])


@pytest.mark.parametrize(
    "options",
    [{"out": np.zeros(2)}, {"where": np.array([True, False])}, {"dtype": np.float32}],
    ids=lambda options: next(iter(options)),
)
def test_a_ufunc_with_options_is_refused(options):
    with pytest.raises(TypeError, match=r"np\.add: .*F\.add"):
        np.add(np.ones(2), var(1.0, 2.0), **options)


def test_an_in_place_ufunc_with_a_mask_is_refused():
    array = np.zeros(2)
    with pytest.raises(TypeError, match=r"np\.add: .*F\.add"):
        np.add(array, var(1.0, 2.0), out=array, where=np.array([True, False]))


def test_matmul_operator_from_both_sides():
    a, x = np.arange(6.0).reshape(2, 3), Variable(np.ones((3, 2)))
    np.testing.assert_array_equal((a @ x).data, a @ x.data)
    np.testing.assert_array_equal((x @ a).data, x.data @ a)
    np.testing.assert_array_equal(x.dot(a).data, x.matmul(a).data)


@pytest.mark.parametrize("name", ["exp", "sin", "log", "tanh"])
def test_a_numpy_function_names_its_replacement_instead_of_losing_the_graph(name):
    with pytest.raises(TypeError, match=rf"np\.{name}: .*F\.{name}"):
        getattr(np, name)(var(1.0))


@pytest.mark.parametrize("call", [lambda v: np.maximum(v, 0), np.add.reduce, lambda v: np.multiply.outer(v, v)])
def test_other_numpy_ufuncs_raise_too(call):
    with pytest.raises(TypeError, match="would lose the graph"):
        call(var(1.0, 2.0))


@pytest.mark.parametrize(
    ("f", "shape"),
    [
        (lambda x: x.reshape(3, 2), (3, 2)),
        (lambda x: x.reshape((3, 2)), (3, 2)),
        (lambda x: x.reshape([3, 2]), (3, 2)),
        (lambda x: x.reshape(-1), (6,)),
        (lambda x: x.reshape(np.int64(6)), (6,)),
        (lambda x: x.T, (3, 2)),
        (lambda x: x.transpose(), (3, 2)),
        (lambda x: x.transpose(1, 0), (3, 2)),
        (lambda x: x.transpose((1, 0)), (3, 2)),
        (lambda x: x.transpose([-1, 0]), (3, 2)),
        (lambda x: x.sum(), ()),
        (lambda x: x.sum(axis=0), (3,)),
        (lambda x: x.sum(1, True), (2, 1)),
        (lambda x: x.max(axis=1), (2,)),
        (lambda x: x.min(axis=0, keepdims=True), (1, 3)),
        (lambda x: x[0], (3,)),
        (lambda x: x[:, np.newaxis, 1:], (2, 1, 2)),
    ],
)
def test_methods_give_the_shape_they_promise_and_a_gradient_of_the_inputs(f, shape):
    x = Variable(np.arange(6.0).reshape(2, 3))
    y = f(x)
    y.backward()
    assert y.shape == shape
    assert x.grad.shape == (2, 3)


# ----------------------------------------------------------------------------------------------------------------------
# Bad operands
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [[1.0, 2.0], (1.0, 2.0), "text", None, {}, object()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize(("name", "binary"), BINARY)
def test_operands_that_are_no_arrays_are_refused(name, binary, other):
    for left, right in [(var(1.0, 2.0), other), (other, var(1.0, 2.0))]:
        with pytest.raises(TypeError, match=f"^{name}: "):
            binary(left, right)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_shapes_that_cannot_broadcast_are_both_named(name):
    for _ in range(2):  # shapes that broadcast are remembered
        with pytest.raises(ValueError, match=rf"^{name}: shapes \(2, 3\) and \(2,\) cannot broadcast"):
            getattr(core, name)(Variable(np.ones((2, 3))), Variable(np.ones(2)))


def test_a_variable_without_data_is_named():
    with pytest.raises(TypeError, match=r"^add: "):
        Variable(None) + 1.0


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: x.reshape(4, 2), ValueError, r"^reshape: x \(2, 3\) has 6 elements.*\(4, 2\)"),
        (lambda x: x.transpose(0, 0), ValueError, r"^transpose: axes \(0, 0\)"),
        (lambda x: x.transpose(0), ValueError, r"^transpose: axes \(0,\)"),
        (lambda x: x.transpose(0, 3), ValueError, r"^transpose: axes \(0, 3\)"),
        (lambda x: x.sum(axis=2), ValueError, r"^sum: axis 2"),
        (lambda x: x.max(axis=2), ValueError, r"^max: axis 2"),
        (lambda x: x.min(axis=-3), ValueError, r"^min: axis -3"),
        (lambda x: x[2], IndexError, "out of bounds"),
        (lambda x: x[0, 0, 0], IndexError, "too many indices"),
        (
            lambda x: core.broadcast_to(x, (3, 3)),
            ValueError,
            r"^broadcast_to: x \(2, 3\) does not broadcast to \(3, 3\)",
        ),
        (lambda x: core.broadcast_to(x, (3,)), ValueError, r"^broadcast_to: x \(2, 3\) does not broadcast to \(3,\)"),
        (lambda x: core.sum_to(x, (3, 2)), ValueError, r"^sum_to: x \(2, 3\) cannot be summed to \(3, 2\)"),
        (
            lambda x: x @ np.ones((2, 3)),
            ValueError,
            r"^matmul: W takes 2 features but x has 3 \(x \(2, 3\), W \(2, 3\)\)",
        ),
        (lambda x: x @ np.array(2.0), ValueError, r"^matmul: expected vectors, matrices.*\(2, 3\) and \(\)"),
        (lambda x: np.ones((4, 5, 2)) @ x.reshape(1, 2, 3) @ np.ones((3, 3, 1)), ValueError, "^matmul: "),
    ],
)
def test_bad_shapes_and_axes_are_errors_that_say_so(f, error, message):
    with pytest.raises(error, match=message):
        f(Variable(np.ones((2, 3))))


def test_an_empty_maximum_names_the_operation():
    with pytest.raises(ValueError, match=r"^max: "):
        F.max(np.zeros((0, 3)), axis=0)


# ----------------------------------------------------------------------------------------------------------------------
# Dtypes
# ----------------------------------------------------------------------------------------------------------------------

F32, F64, I64 = np.ones(2, np.float32), np.ones(2), np.ones(2, np.int64)


@pytest.mark.parametrize(("name", "binary"), BINARY)
@pytest.mark.parametrize(
    ("data", "other", "dtype"),
    [
        (F32, 2, np.float32),
        (F32, 2.0, np.float32),
        (F32, np.float64(2.0), np.float32),
        (F32, np.int64(2), np.float32),
        (F32, True, np.float32),
        (F32, F64, np.float64),
        (F32, np.array(2.0), np.float64),
        (F64, np.float32(2.0), np.float64),
        (I64, 0.5, np.float64),
        (I64, np.float32(0.5), np.float64),
        (np.ones(2, np.float16), 2.0, np.float16),
    ],
    ids=lambda v: getattr(getattr(v, "dtype", None), "name", None) or getattr(v, "__name__", repr(v)),
)
def test_result_dtype_from_either_side(name, binary, data, other, dtype):
    assert binary(Variable(data), other).dtype == dtype
    assert binary(other, Variable(data)).dtype == dtype


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2.0), True])
def test_a_number_takes_its_dtype_from_all_that_stand_beside_it(number):
    y = Join()(Variable(F32), F64, number)
    assert y.creator.inputs[2].dtype == np.float64
    assert Join()(F32, Variable(np.ones(2, np.float16)), number).creator.inputs[2].dtype == np.float32


def test_integers_stay_integers_among_themselves():
    assert (Variable(I64) * 2 + Variable(I64)).dtype == np.int64


def test_integer_division_is_floating():
    assert (Variable(I64) / 2).dtype == np.float64


def test_gradients_take_their_inputs_dtype():
    a, b = var(1.0, 2.0, dtype=np.float32), var(3.0, 4.0, dtype=np.float64)
    (a * b).sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool])
def test_integer_variables_receive_floating_gradients(dtype):
    x = var(1, 2, dtype=dtype)
    (x * np.array([0.5, 0.25])).sum().backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.data, [0.5, 0.25])


def test_an_integer_result_starts_from_floating_ones():
    x = var(3, dtype=np.int64)
    (x * x).backward()
    assert (x.grad.dtype, float(x.grad)) == (np.float64, 6.0)


# ----------------------------------------------------------------------------------------------------------------------
# Modes
# ----------------------------------------------------------------------------------------------------------------------


def in_a_thread(f):
    """Run f in a thread of its own and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(f()))
    thread.start()
    thread.join()
    return results[0]


def test_both_modes_are_on_by_default():
    assert Config.enable_backprop is True
    assert Config.train is True


def test_modes_nest_and_come_back():
    with no_grad():
        with using_config("enable_backprop", True), test_mode():
            assert (Config.enable_backprop, Config.train) == (True, False)
        assert (Config.enable_backprop, Config.train) == (False, True)
    assert Config.enable_backprop is True


def test_modes_come_back_after_an_exception():
    with contextlib.suppress(KeyError), no_grad(), test_mode():
        raise KeyError
    assert (Config.enable_backprop, Config.train) == (True, True)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match=r"there is no mode 'trian'"), using_config("trian", False):
        pass
    with pytest.raises(AttributeError):
        _ = Config.trian


def test_no_grad_records_no_graph():
    x = var(2.0)
    with no_grad():
        y = x * x
    assert y.creator is None


def test_a_with_block_changes_this_thread_alone():
    with no_grad(), test_mode():
        assert in_a_thread(lambda: (Config.enable_backprop, Config.train)) == (True, True)


def test_assigning_to_config_changes_every_thread():
    try:
        Config.train = False
        assert Config.train is False
        assert in_a_thread(lambda: Config.train) is False
    finally:
        Config.train = True


def test_a_with_block_wins_over_the_process_default_and_gives_way_to_it_after():
    try:
        with test_mode():
            Config.train = True
            assert Config.train is False
        assert Config.train is True
        with using_config("train", True):
            Config.train = False
            assert Config.train is True
        assert Config.train is False
    finally:
        Config.train = True


def test_two_threads_build_graphs_under_different_modes_at_once():
    both_inside, x = threading.Barrier(2, timeout=10), var(2.0)
    results = {}

    def work(name, mode):
        with mode:
            both_inside.wait()
            results[name] = x * x
            both_inside.wait()

    threads = [
        threading.Thread(target=work, args=("without", no_grad())),
        threading.Thread(target=work, args=("with", contextlib.nullcontext())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["without"].creator is None
    results["with"].backward()
    assert float(x.grad) == 4.0


def test_a_with_block_changes_this_task_alone():
    seen = []

    async def without():
        with no_grad(), test_mode():
            await asyncio.sleep(0)
            seen.append(("without", Config.enable_backprop, Config.train))

    async def other():
        seen.append(("other", Config.enable_backprop, Config.train))
        await asyncio.sleep(0)

    async def both():
        await asyncio.gather(without(), other())

    asyncio.run(both())
    assert seen == [("other", True, True), ("without", False, False)]


def test_blocks_that_do_not_nest_end_each_for_itself():
    outer, inner = no_grad(), test_mode()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert (Config.enable_backprop, Config.train) == (True, False)
    inner.__exit__(None, None, None)
    assert (Config.enable_backprop, Config.train) == (True, True)


def test_a_process_default_reaches_threads_that_are_inside_a_block():
    try:
        with test_mode():
            Config.enable_backprop = False
            assert Config.enable_backprop is False
        assert Config.enable_backprop is False
    finally:
        Config.enable_backprop = True


def test_backward_leaves_the_modes_as_they_were():
    x = var(2.0)
    (x * x).backward(create_graph=True)
    assert Config.enable_backprop is True
    y = x * x
    with no_grad():
        y.backward(create_graph=True)
        assert Config.enable_backprop is False


# ----------------------------------------------------------------------------------------------------------------------
# Function: what a user's subclass may do
# ----------------------------------------------------------------------------------------------------------------------


class Square(Function):
    def forward(self, x):
        return x * x

    def backward(self, gy):
        (x,) = self.inputs
        return 2 * x * gy


def backward_returning(gradients, forward=lambda *xs: xs[0] * 1.0):
    """A Function whose backward returns `gradients(gy)`."""
    body = {"forward": lambda self, *xs: forward(*xs), "backward": lambda self, gy: gradients(gy)}
    return type("Mine", (Function,), body)


def test_inputs_and_outputs_are_there_in_backward():
    seen = {}

    class Spy(Square):
        def backward(self, gy):
            seen.update(inputs=self.inputs, output=self.outputs[0]())
            return super().backward(gy)

    x = var(3.0)
    y = Spy()(x)
    y.backward()
    assert seen["inputs"] == [x]
    assert seen["output"] is y
    assert isinstance(y.creator.outputs[0], weakref.ref)


def test_super_init_may_be_skipped():
    class Scale(Function):
        def __init__(self, factor):
            self.factor = factor

        def forward(self, x):
            return x * self.factor

        def backward(self, gy):
            return gy * self.factor

    x = var(3.0)
    Scale(2.0)(x).backward()
    assert float(x.grad) == 2.0


def test_none_among_the_inputs_is_a_variable_without_data():
    class AddMaybe(Function):
        def forward(self, x, b):
            return x if b is None else x + b

        def backward(self, gy):
            return gy, None if self.inputs[1].data is None else gy

    x = var(3.0)
    AddMaybe()(x, None).backward()
    assert float(x.grad) == 1.0


def test_a_function_called_again_records_a_node_of_its_own():
    f, a, b = Square(), var(3.0), var(5.0)
    y, z = f(a), f(b)
    assert y.creator is f
    assert z.creator is not f
    (y + z).backward()
    assert (float(a.grad), float(b.grad)) == (6.0, 10.0)


def test_a_function_called_on_its_own_result():
    f, x = Square(), var(2.0)
    f(f(x)).backward()
    assert float(x.grad) == 32.0


def test_fewer_gradients_than_inputs_mean_none_for_the_last():
    a, b = var(2.0), var(3.0)
    backward_returning(lambda gy: gy)()(a, b).backward()
    assert float(a.grad) == 1.0
    assert b.grad is None


@pytest.mark.parametrize(
    "gradients", [lambda gy: gy.data * 3, lambda gy: (gy.data * 3,), lambda gy: [gy * 3], lambda gy: 3.0]
)
def test_backward_may_return_arrays_tuples_lists_and_numbers(gradients):
    x = var(2.0)
    backward_returning(gradients)()(x).backward()
    assert isinstance(x.grad, Variable)
    assert float(x.grad) == 3.0


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (np.arange(6.0).reshape(2, 3), [[3], [12]]),  # broadcast in forward: summed
        (np.array(5.0), [[5], [5]]),  # spreads
        (np.array([1.0, 2.0]), [[1], [2]]),  # as many elements: reshapes
    ],
    ids=["sums", "broadcasts", "reshapes"],
)
def test_a_gradient_of_another_shape_is_fitted_to_its_input(returned, expected):
    x = Variable(np.ones((2, 1)))
    backward_returning(lambda gy: Variable(returned))()(x).backward()
    np.testing.assert_array_equal(x.grad.data, expected)


def test_a_gradient_that_fits_no_way_is_an_error_that_names_the_function():
    y = backward_returning(lambda gy: Variable(np.ones((3, 2))))()(Variable(np.ones((2, 3, 5))))
    with pytest.raises(ValueError, match=r"Mine\.backward: returned a gradient of shape \(3, 2\).*\(2, 3, 5\)"):
        y.backward()


def test_too_many_gradients_are_an_error_that_names_the_function():
    y = backward_returning(lambda gy: (gy, gy))()(var(1.0))
    with pytest.raises(ValueError, match=r"Mine\.backward: returned 2 gradients for 1 inputs"):
        y.backward()


@pytest.mark.parametrize("returned", ["text", object(), {}], ids=lambda r: type(r).__name__)
def test_a_gradient_that_is_no_array_is_an_error_that_names_the_function(returned):
    y = backward_returning(lambda gy: returned)()(var(1.0))
    with pytest.raises(TypeError, match=r"Mine\.backward"):
        y.backward()


@pytest.mark.parametrize("returned", [None, "text", [1.0], Variable(np.ones(1))], ids=lambda r: type(r).__name__)
def test_forward_must_return_arrays(returned):
    f = backward_returning(lambda gy: gy, forward=lambda x: returned)()
    with pytest.raises(TypeError, match=r"Mine\.forward: must return an array or a tuple of arrays"):
        f(var(1.0))


def test_forward_may_return_a_number():
    y = backward_returning(lambda gy: gy, forward=lambda x: 2.0)()(var(1.0))
    assert isinstance(y.data, np.ndarray)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_an_unwritten_method_is_named(method):
    class Half(Function):
        pass

    if method == "backward":
        Half.forward = lambda self, x: x
    with pytest.raises(NotImplementedError, match=f"Half has no {method} method"):
        Half()(var(1.0)).backward()


def test_several_outputs_come_as_a_list_and_unused_ones_receive_zeros():
    received = []

    class Split(Function):
        def forward(self, x):
            return x[:1] * 1, x[1:] * 1

        def backward(self, ga, gb):
            received.extend([ga, gb])
            return F.get_item(ga, 0) + gb.sum()

    x = var(1.0, 2.0, 3.0, dtype=np.float32)
    _, b = outputs = Split()(x)
    assert isinstance(outputs, list)
    del _, outputs
    b.sum().backward()
    np.testing.assert_array_equal(received[0].data, [0.0])
    assert received[0].dtype == np.float32
    np.testing.assert_array_equal(received[1].data, [1.0, 1.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda t: t + 1.0,
        lambda t: 1.0 - t,
        lambda t: -t,
        lambda t: t * 2.0,
        lambda t: t / 2.0,
        lambda t: t.reshape(3, 2),
        lambda t: t.T,
        lambda t: t.sum(axis=0),
        lambda t: t[0],
        lambda t: F.broadcast_to(t, (4, 2, 3)),
        lambda t: F.sum_to(t, (1, 3)),
        lambda t: F.average(t, axis=1),
        lambda t: F.exp(t),
        lambda t: F.softmax(t),
        lambda t: F.linear(t, np.ones((3, 2))),
        lambda t: t @ np.ones((3, 2)),
        lambda t: F.pooling(t.reshape(1, 1, 2, 3), 2),
        lambda t: F.average_pooling(t.reshape(1, 1, 2, 3), 2),
        lambda t: F.im2col(t.reshape(1, 1, 2, 3), 2),
    ],
)
def test_intermediate_data_may_be_dropped_to_save_memory(f):
    x = Variable(np.arange(6.0).reshape(2, 3))
    t = x * 2.0
    f(t).backward()
    expected = x.grad.data
    x.cleargrad()
    t = x * 2.0
    y = f(t)
    t.data = None
    y.backward()
    np.testing.assert_array_equal(x.grad.data, expected)


# ----------------------------------------------------------------------------------------------------------------------
# Who receives a gradient
# ----------------------------------------------------------------------------------------------------------------------


def test_operations_on_constants_alone_record_no_graph():
    assert F.sin(np.ones(2)).creator is None
    assert core.add(np.ones(2), 1.0).creator is None


@pytest.mark.parametrize(
    ("f", "in_backward"),
    [
        (lambda x: x * np.ones(2), ["Mul"]),
        (lambda x: np.ones(2) * x, ["Mul"]),
        (lambda x: x / np.ones(2), ["Div"]),
        (lambda x: x - np.ones(2), []),
        (lambda x: x + np.ones(2), []),
        (lambda x: x ** np.array([2.0, 3.0]), ["Sub", "Add", "Mul", "Power", "Mul"]),
        (lambda x: F.matmul(x, np.ones((2, 5))), ["MatMul"]),
        (lambda x: F.linear(x, np.ones((2, 5)), np.ones(5)), ["MatMul"]),
        (lambda x: F.mean_squared_error(x, np.ones(2)), ["Sub", "Mul", "Mul"]),
    ],
)
def test_no_work_is_done_for_a_constants_gradient(f, in_backward, calls):
    y = f(var(2.0, 3.0))
    calls.clear()
    y.backward(create_graph=True)  # with a graph every piece of work is an operation: without, sums are made directly
    ignored = {"Transpose", "Reshape", "Copy", "SumTo", "BroadcastTo"}
    assert [name for name in calls if name not in ignored] == in_backward


ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("f", ARITHMETIC)
@pytest.mark.parametrize(
    ("x0", "x1"),
    [
        (np.float32(2.0), np.float32(3.0)),
        (np.ones((2, 3)), np.full((2, 3), 2.0)),
        (np.ones((2, 3), np.float32), np.full((2, 3), 2.0)),
        (np.ones((2, 3), np.float32), np.ones(3, np.float32)),
        (np.ones(3), 2),
        (2.0, np.ones(3, np.float32)),
        (np.arange(1, 3), np.arange(1, 3)),
        (np.arange(1, 3), 0.5),
        (np.ones(2, np.float16), np.ones(2, np.int64)),
    ],
    ids=str,
)
def test_arithmetic_that_is_not_recorded_is_the_same(f, x0, x1):
    x0, x1 = (x if isinstance(x, (int, float)) else Variable(np.asarray(x)) for x in (x0, x1))
    recorded = f(x0, x1)
    with no_grad():
        y = f(x0, x1)
    assert (type(y), type(y.data), y.dtype, y.shape) == (Variable, np.ndarray, recorded.dtype, recorded.shape)
    np.testing.assert_array_equal(y.data, recorded.data)
    assert (y.creator, y.generation, y.requires_grad, y.grad, y.name) == (None, 0, True, None, None)
    assert recorded.creator is not None


def test_a_number_beside_two_arrays_has_the_dtype_of_both():
    class Sum3(Function):
        def forward(self, x0, x1, x2):
            return x0 + x1 + x2

    x0, x2 = Variable(np.zeros(2, np.float32)), Variable(np.zeros(2))
    np.testing.assert_array_equal(Sum3()(x0, 0.1, x2).data, [0.1, 0.1])  # not float32's 0.1


@pytest.mark.parametrize("f", ARITHMETIC)
def test_arithmetic_that_is_not_recorded_has_the_same_errors(f):
    name = {"truediv": "div"}.get(f.__name__, f.__name__)
    with no_grad():
        with pytest.raises(ValueError, match=rf"^{name}: shapes \(2,\) and \(3,\) cannot broadcast"):
            f(var(1.0, 2.0), var(1.0, 2.0, 3.0))
        with pytest.raises(TypeError, match=rf"^{name}: expected Variables, arrays or numbers, got None"):
            f(var(1.0, 2.0), Variable(None))
        with pytest.raises(TypeError, match=rf"^{name}: expected Variables, arrays or numbers, got str"):
            f(var(1.0, 2.0), "2")


def test_a_wrong_shape_is_one_error_in_the_words_of_the_operation():
    with pytest.raises(ValueError, match="cannot broadcast") as caught:
        var(1.0, 2.0) * var(1.0, 2.0, 3.0)
    assert caught.value.__suppress_context__


def test_a_variable_has_what_a_variable_has_whoever_made_it():
    made = var(2.0) * 3.0
    for name, value in {"name": None, "grad": None, "requires_grad": True}.items():
        assert getattr(made, name) is value
    made.name, made.grad, made.own = "made", var(1.0), 7  # its own, not its class's
    other = var(2.0) * 3.0
    assert (other.name, other.grad, hasattr(other, "own")) == (None, None, False)
    assert (Variable.name, Variable.grad, Variable.creator) == (None, None, None)


def test_a_gradient_that_passes_through_is_not_shared_with_the_result_that_keeps_its_own():
    x = var(1.0, 2.0)
    y = x + 1.0
    (y * 2.0).backward(retain_grad=True)
    np.testing.assert_array_equal(x.grad.data, y.grad.data)
    assert not np.shares_memory(x.grad.data, y.grad.data)


def test_a_leafs_gradient_is_not_an_array_that_was_there_before():
    class Same(Function):
        def forward(self, x):
            return x

        def backward(self, gy):
            return gy

    class Itself(Function):
        def forward(self, x, as_it_is):
            return x * 1.0 + as_it_is

        def backward(self, gy):
            x, as_it_is = self.inputs
            return Same()(x), as_it_is

    x, as_it_is = var(1.0, 2.0), var(3.0, 4.0)
    Itself()(x, as_it_is).backward()
    np.testing.assert_array_equal(x.grad.data, x.data)
    np.testing.assert_array_equal(as_it_is.grad.data, as_it_is.data)
    assert not np.shares_memory(x.grad.data, x.data)
    assert not np.shares_memory(as_it_is.grad.data, as_it_is.data)


@pytest.mark.parametrize(
    ("given", "seen"),
    [("ff", "ff"), ("fd", "dd"), ("df", "dd"), ("fld", "dld"), ("lf", "lf"), ("efl", "ffl"), ("ffd", "ddd")],
)
def test_forward_sees_one_floating_dtype(given, seen):
    class Kinds(Function):
        def forward(self, *xs):
            self.chars = "".join(x.dtype.char for x in xs)
            return xs[0] * 1.0

    function = Kinds()
    function(*(Variable(np.ones(2, char)) for char in given))
    assert function.chars == seen


def test_a_value_error_of_forward_stays_what_it_is():
    class Picky(Function):
        def forward(self, x, W):
            raise ValueError("picky: the mode None is not known")

    with pytest.raises(ValueError, match=r"^picky: the mode None is not known$"):
        Picky()(var(1.0), Variable(None))


def test_two_gradients_that_are_one_variable_become_arrays_of_their_own():
    class Twice(Function):
        def forward(self, x0, x1, x2):
            return x0 + x1 + x2

        def backward(self, gy):
            gx = gy * 2.0
            return gx, gx, gx

    x0, x1, x2 = var(1.0), var(2.0), var(3.0)
    Twice()(x0, x1, x2 * 1.0).backward()
    arrays = [x.grad.data for x in (x0, x1, x2)]
    assert [float(a) for a in arrays] == [2.0, 2.0, 2.0]
    assert len({a.ctypes.data for a in arrays}) == 3


def test_nothing_behind_a_function_of_constants_is_visited():
    visited = []

    class Spy(Square):
        def backward(self, gy):
            visited.append(self)
            return super().backward(gy)

    x = var(2.0)
    (Spy()(np.array(3.0)) * x).backward()
    assert visited == []
    assert float(x.grad) == 9.0


def test_what_the_user_made_receives_a_gradient():
    with no_grad():
        result = var(2.0) * 3.0
    unchained = var(2.0) * 3.0
    unchained.unchain()
    for leaf in (Variable(np.array(6.0)), as_variable(np.array(6.0)), as_variable(6.0), result, unchained):
        (leaf * leaf).backward()
        assert float(leaf.grad) == 12.0


def test_requires_grad_false_stops_the_gradient(calls):
    x, frozen = var(2.0), var(3.0)
    frozen.requires_grad = False
    y = x * frozen
    calls.clear()
    y.backward(create_graph=True)
    assert frozen.grad is None
    assert calls == ["Mul"]
    assert (frozen * frozen).creator is None


# ----------------------------------------------------------------------------------------------------------------------
# The backward pass
# ----------------------------------------------------------------------------------------------------------------------


def test_a_value_used_twice_gets_both_gradients():
    x = var(2.0)
    a = x * x
    (a * a + a * a).backward()
    assert float(x.grad) == 64.0


def test_generations_order_the_visit():
    # The long way round must come in before x's own Function is visited.
    x = var(1.0)
    a = x * 2.0
    b = a
    for _ in range(5):
        b = b * 1.0
    (a + b).backward()
    assert float(x.grad) == 4.0


def test_broadcast_gradients_are_summed_back():
    a, b = Variable(np.ones((2, 3))), Variable(np.ones((3,)))
    c = Variable(np.ones((2, 1)))
    (a * b + c).backward()
    assert (a.grad.shape, b.grad.shape, c.grad.shape) == ((2, 3), (3,), (2, 1))
    np.testing.assert_array_equal(b.grad.data, [2, 2, 2])
    np.testing.assert_array_equal(c.grad.data, [[3], [3]])


def test_leaf_gradients_add_up_until_cleargrad():
    x = var(2.0)
    for expected in (3.0, 6.0):
        (x * 3.0).backward()
        assert float(x.grad) == expected
    x.cleargrad()
    (x * 3.0).backward()
    assert float(x.grad) == 3.0


def test_adding_up_does_not_change_the_earlier_gradient():
    x = var(2.0)
    (x * 3.0).backward()
    first = x.grad
    (x * 3.0).backward()
    assert float(first) == 3.0


def test_intermediate_gradients_are_dropped():
    x = var(2.0)
    t = x * 3.0
    y = t * t
    y.backward()
    assert (t.grad, y.grad) == (None, None)


def test_a_starting_gradient_is_dropped_too():
    x = var(2.0)
    y = x * 3.0
    y.grad = Variable(np.array(10.0))
    y.backward()
    assert y.grad is None


def test_a_later_backward_drops_what_an_earlier_one_retained():
    x = var(2.0)
    t = x * 3.0
    y = t * t
    y.backward(retain_grad=True)
    y.backward()
    assert (t.grad, y.grad) == (None, None)


def test_retain_grad_keeps_them():
    x = var(2.0)
    t = x * 3.0
    y = t * t
    y.backward(retain_grad=True)
    assert (float(y.grad), float(t.grad)) == (1.0, 12.0)


@pytest.mark.parametrize("retain_first", [False, True])
def test_a_second_backward_does_not_accumulate_into_intermediates(retain_first):
    x = var(2.0)
    t = x * 3.0
    y = t * t
    y.backward(retain_grad=retain_first)
    y.backward(retain_grad=True)
    assert (float(y.grad), float(t.grad), float(x.grad)) == (1.0, 12.0, 72.0)


def test_an_earlier_backward_through_a_shared_part_does_not_leak_into_a_later_one():
    x = var(2.0)
    t = x * 3.0
    (t * 1.0).backward(retain_grad=True)
    x.cleargrad()
    (t * 10.0).backward()
    assert float(x.grad) == 30.0


def test_backward_starts_from_the_gradient_it_is_given():
    x = var(1.0, 2.0)
    y = x * 3.0
    y.grad = Variable(np.array([1.0, 10.0]))
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [3.0, 30.0])


def test_a_starting_gradient_of_another_shape_is_an_error():
    y = var(1.0, 2.0) * 3.0
    y.grad = Variable(np.ones(3))
    with pytest.raises(ValueError, match=r"backward: grad has shape \(3,\) but the Variable has shape \(2,\)"):
        y.backward()


def leaf():
    return var(1.0)


def result_under_no_grad():
    with no_grad():
        return var(1.0) * 2.0


def result_of_constants():
    return F.sin(np.ones(2))


def unchained():
    y = var(1.0) * 2.0
    y.unchain()
    return y


@pytest.mark.parametrize("make", [leaf, result_under_no_grad, result_of_constants, unchained])
def test_backward_without_a_graph_is_a_clear_error(make):
    with pytest.raises(ValueError, match="backward: no graph leads to this Variable"):
        make().backward()


def test_an_error_in_backward_leaves_no_half_made_gradients():
    a, b = var(1.0), var(2.0)
    y = Square()(a) + backward_returning(lambda gy: 1 / 0)()(b)
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert (a.grad, b.grad) == (None, None)
    assert Config.enable_backprop is True


def test_unchain_cuts_right_behind():
    x = var(2.0)
    t = x * 3.0
    t.unchain()
    (t * t).backward()
    assert float(t.grad) == 12.0
    assert x.grad is None


def test_unchain_backward_cuts_everything_behind():
    x = var(2.0)
    a = x * 3.0
    b = a * 2.0
    y = b + a
    y.unchain_backward()
    assert (a.creator, b.creator) == (None, None)
    y.backward()
    assert x.grad is None


def lattice(x, levels):
    """x + x, added to itself again and again: 2 ** levels paths lead to x."""
    for _ in range(levels):
        x = x + x
    return x


def test_unchain_backward_visits_each_variable_once(monkeypatch):
    y = lattice(var(1.0), 18)
    cut = []
    monkeypatch.setattr(Variable, "unchain", lambda self: (cut.append(self), setattr(self, "creator", None)))
    y.unchain_backward()
    assert len(cut) == len(set(cut)) == 17


def test_backward_visits_each_function_once(monkeypatch):
    x = var(1.0)
    y = lattice(x, 18)
    visited = []
    plain_backward = core.Add.backward
    monkeypatch.setattr(core.Add, "backward", lambda self, gy: (visited.append(self), plain_backward(self, gy))[1])
    y.backward()
    assert len(visited) == 18
    assert float(x.grad) == 2.0**18


# ----------------------------------------------------------------------------------------------------------------------
# A leaf's gradient is its own
# ----------------------------------------------------------------------------------------------------------------------

SHARED = [
    ("a + b", lambda a, b: a + b),
    ("(a + b) * 1", lambda a, b: (a + b) * 1.0),
    ("a - b + a", lambda a, b: a - b + a),
    ("neg of neg", lambda a, b: core.neg(-a) + b),
    ("reshape", lambda a, b: a.reshape(3, 2) + b.reshape(3, 2)),
    ("transpose", lambda a, b: a.T + b.T),
    ("sum", lambda a, b: a.sum() + b.sum()),
    ("sum over an axis", lambda a, b: a.sum(axis=0) + b.sum(axis=1, keepdims=True)),
    ("broadcast_to", lambda a, b: F.broadcast_to(a, (4, 2, 3)) + b),
    ("sum_to", lambda a, b: F.sum_to(a, (1, 3)) + b),
    ("matmul with a transpose", lambda a, b: a @ b.T),
    ("get_item", lambda a, b: a[:, ::2] + b[:, 1:]),
    ("a slice of everything", lambda a, b: a[...] + b[:]),
]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("name", "f"), SHARED, ids=[name for name, _ in SHARED])
def test_leaf_gradients_are_writable_contiguous_and_nobody_elses(name, f, create_graph):
    a, b = Variable(np.ones((2, 3))), Variable(np.ones((2, 3)))
    y = f(a, b)
    y.grad = start = Variable(np.ones(y.shape))
    y.backward(create_graph=create_graph, retain_grad=True)
    for x, others in [(a, [b.grad, start]), (b, [a.grad, start])]:
        gradient = x.grad.data
        assert gradient.flags.writeable
        assert gradient.flags.c_contiguous
        assert not any(np.shares_memory(gradient, other.data) for other in [*others, a, b])


def test_a_hook_that_scales_in_place_changes_one_gradient_only():
    a, b = var(1.0, 2.0), var(3.0, 4.0)
    (a + b).backward()
    a.grad.data *= 10
    np.testing.assert_array_equal(b.grad.data, [1.0, 1.0])


@pytest.mark.parametrize("wrap", [Variable, lambda array: array], ids=["Variable", "array"])
def test_an_array_kept_by_a_function_does_not_become_a_leafs_gradient(wrap):
    kept = np.ones(2)
    f = backward_returning(lambda gy: wrap(kept))
    x = var(1.0, 2.0)
    f()(x).backward()
    x.grad.data *= 10
    np.testing.assert_array_equal(kept, [1.0, 1.0])


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("ones", [np.ones(()), np.ones(2), np.ones((2, 3)).T], ids=["number", "vector", "transposed"])
def test_gradients_that_add_up_change_none_that_others_hold(ones, backwards, create_graph):
    x, w = Variable(ones.copy()), Variable(ones.copy())
    seen = []
    t = x * 1.0
    p = t + w  # hands the sum of its gradients to both
    p.register_hook(seen.append)
    terms = [p * 2.0, p * 3.0, p * 4.0, t * 10.0, t * 100.0, t * 1000.0, x * 1e4, x * 1e5, x * 1e6]
    y = Join()(*(reversed(terms) if backwards else terms))
    y.backward(retain_grad=True, create_graph=create_graph)
    gradients = [seen[0], p.grad, w.grad, t.grad, x.grad]
    for gradient, expected in zip(gradients, [9.0, 9.0, 9.0, 1119.0, 1111119.0], strict=True):
        np.testing.assert_array_equal(gradient.data, np.array(ones * expected), strict=True)
    for leaf in (w, x):
        assert leaf.grad.data.flags.c_contiguous
        others = [gradient for gradient in gradients if gradient is not leaf.grad]
        assert not any(np.shares_memory(leaf.grad.data, other.data) for other in others)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_gradients_of_different_dtypes_add_up_in_the_wider_one(shape, order):
    x = Variable(np.ones(shape, np.int64))  # a floating Variable receives gradients of its own dtype only
    third = np.full(shape, 1 / 3)
    dtypes = np.array([np.float32, np.float32, np.float64])[list(order)]
    Join()(*[backward_returning(lambda gy, d=d: third.astype(d))()(x) for d in dtypes]).backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad.data, 1 / 3 + 2 * float(np.float32(1 / 3)), rtol=1e-15)


def test_a_leaf_whose_data_is_transposed_still_gets_a_contiguous_gradient():
    x = Variable(np.ones((3, 2)).T)
    (x * np.ones((3, 2)).T).backward()
    assert x.grad.data.flags.c_contiguous


# ----------------------------------------------------------------------------------------------------------------------
# Derivatives of derivatives
# ----------------------------------------------------------------------------------------------------------------------


def derivatives(f, value, order):
    """[f(x), f'(x), f''(x), ...] for an f of one number."""
    x = var(value)
    y = f(x)
    found = [float(y)]
    for _ in range(order):
        x.cleargrad()
        y.backward(create_graph=True)
        y = x.grad
        found.append(float(y))
    return found


def test_sine_to_order_six():
    s, c = np.sin(1.0), np.cos(1.0)
    np.testing.assert_allclose(derivatives(F.sin, 1.0, 6), [s, c, -s, -c, s, c, -s])


@pytest.mark.parametrize("value", [2.0, 0.0, -1.5])
@pytest.mark.parametrize("f", [lambda x: x**3, lambda x: x ** np.float64(3)], ids=["number", "scalar"])
def test_cube_to_order_four(f, value):
    np.testing.assert_allclose(derivatives(f, value, 4), [value**3, 3 * value**2, 6 * value, 6.0, 0.0])


@pytest.mark.parametrize("value", [2.0, 0.0])
def test_cube_with_an_array_exponent_to_order_three(value):
    np.testing.assert_allclose(
        derivatives(lambda x: x ** np.array(3.0), value, 3), [value**3, 3 * value**2, 6 * value, 6]
    )


def test_a_quotient_to_order_three():
    np.testing.assert_allclose(derivatives(lambda x: 1 / x, 2.0, 3), [1 / 2, -1 / 4, 1 / 4, -3 / 8])


@pytest.mark.parametrize(("base", "exponent"), [(2.0, 3.0), (2.0, 0.0), (0.5, -1.0)])
def test_the_mixed_derivative_of_a_power(base, exponent):
    x, c = var(base), var(exponent)
    (x**c).backward(create_graph=True)
    gx = x.grad
    c.cleargrad()
    gx.backward()
    expected = base ** (exponent - 1) * (1 + exponent * np.log(base))
    np.testing.assert_allclose(float(c.grad), expected)


@pytest.mark.parametrize("f", [lambda x: x**0, lambda x: x ** np.array(0.0), lambda x: x**1, lambda x: x**2])
def test_powers_have_finite_gradients_at_zero(f):
    x = var(0.0)
    f(x).backward()
    assert np.isfinite(float(x.grad))


def test_a_gradient_inside_a_loss():
    # The book's step 36: z = (dy/dx)^3 + y for y = x^2, so dz/dx = 24 x^2 + 2 x.
    x = var(2.0)
    y = x**2
    y.backward(create_graph=True)
    gx = x.grad
    x.cleargrad()
    (gx**3 + y).backward()
    assert float(x.grad) == 100.0


def test_newtons_method_finds_the_minimum():
    x = var(2.0)
    for _ in range(10):
        y = x**4 - 2 * x**2
        x.cleargrad()
        y.backward(create_graph=True)
        gx = x.grad
        x.cleargrad()
        gx.backward()
        x.data = x.data - gx.data / x.grad.data
    assert float(x) == 1.0


def test_without_create_graph_the_gradient_has_no_graph():
    x = var(2.0)
    (x * x).backward()
    assert x.grad.creator is None


def test_fitting_a_shape_or_dtype_records_its_graph_too():
    a, b = Variable(np.ones((2, 3), np.float32)), Variable(np.full(3, 2.0))
    (a * b * b).sum().backward(create_graph=True)
    gb = b.grad
    b.cleargrad()
    (gb * gb).sum().backward()
    # gb = 2 b sum(a) = 4 b, so d(gb . gb)/db = 32 b
    np.testing.assert_allclose(b.grad.data, [64.0, 64.0, 64.0])


# ----------------------------------------------------------------------------------------------------------------------
# Large graphs
# ----------------------------------------------------------------------------------------------------------------------


def test_functions_of_one_generation_are_visited_in_the_order_they_were_met():
    visited = []

    class Spy(Function):
        def __init__(self, name):
            self.name = name

        def forward(self, *xs):
            return sum(xs)

        def backward(self, gy):
            visited.append(self.name)
            return tuple(gy * 1.0 for _ in self.inputs)

    x = var(1.0)
    a, b, c = (Spy(name)(x) for name in "abc")
    (Spy("last")(c, Spy("ba")(b, a), b, a)).backward()
    assert visited == ["last", "ba", "c", "b", "a"]


class CountedInt(int):
    """A generation whose comparisons are Python calls, so that a profile sees them."""

    def __add__(self, other):
        return CountedInt(int(self) + other)

    def __neg__(self):
        return CountedInt(-int(self))

    def __lt__(self, other):
        return int(self) < int(other)

    def __eq__(self, other):
        return int(self) == int(other)

    __hash__ = int.__hash__


class Join(Function):
    """The sum of any number of inputs, in one node."""

    def forward(self, *xs):
        return sum(xs)

    def backward(self, gy):
        return tuple(gy * 1.0 for _ in self.inputs)


def chain(x, n):
    for _ in range(n):
        x = -x
    return x


def fan_out(x, n):
    y = x * 0.0
    for i in range(n):
        y = y + x * float(i)
    return y


def fan_in(x, n):
    return Join()(*[Variable(x.data) for _ in range(n)])


def two_layers(x, n):
    return Join()(*[-x for _ in range(n)])


@pytest.mark.parametrize("build", [chain, fan_out, fan_in, two_layers])
def test_the_work_of_backward_grows_about_linearly(build, monkeypatch):
    # Calls are counted, not seconds. Comparisons of Variables and of generations happen inside C (a list's count, a
    # sort), so both are made Python calls first.
    identical = lambda self, other: self is other  # noqa: E731
    monkeypatch.setattr(Variable, "__eq__", identical, raising=False)

    def work(n):
        x = var(1.0)
        x.generation = CountedInt(0)
        y = build(x, n)
        count = 0

        def on_event(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(on_event)
        try:
            y.backward()
        finally:
            sys.setprofile(None)
        return count

    assert work(800) < 6 * work(200)  # n log n: 5.2; n squared: 16


@pytest.mark.parametrize(("build", "n", "gradient"), [(chain, 100_000, 1.0), (fan_out, 10_000, 49_995_000.0)])
def test_deep_and_wide_graphs_finish(build, n, gradient):
    x = var(1.0)
    y = build(x, n)
    y.backward()
    assert float(x.grad) == gradient
    del y  # taking the graph down needs no recursion either


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def references_into(y):
    """Weak references to every Function behind y, and to every intermediate Variable and array."""
    functions, variables = [y.creator], [y]
    for func in functions:
        for x in func.inputs:
            if x.creator is not None and x not in variables:
                variables.append(x)
                functions.append(x.creator)
    return [weakref.ref(part) for part in (*functions, *variables, *(v.data for v in variables))]


def small_graph():
    x = Variable(np.ones((2, 3)))
    h = F.tanh(x * 2.0 + 1.0)
    return [x], (h * h / (h + 3.0)).reshape(3, 2).T.sum()


def convolution_graph():
    rng = np.random.default_rng(0)
    shapes = [(3, 2, 3, 3), (3,), (4, 3, 2, 2), (4,), (16, 5), (5,)]
    x, W1, b1, W2, b2, W3, b3 = leaves = [Variable(rng.standard_normal(s)) for s in [(2, 2, 8, 8), *shapes]]
    gamma, beta = Variable(np.ones(3)), Variable(np.zeros(3))
    h = F.relu(F.batch_norm(F.conv2d(x, W1, b1, pad=1), gamma, beta, np.zeros(3), np.ones(3)))
    h = F.conv2d(F.pooling(h, 2, 2), W2, b2, stride=2)
    h = F.dropout(F.flatten(F.leaky_relu(h)), 0.2)
    return [*leaves, gamma, beta], F.softmax_cross_entropy(F.linear(h, W3, b3), np.array([0, 3]))


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("build", [small_graph, convolution_graph])
def test_reference_counting_alone_frees_a_first_order_graph(build, passes, no_gc):
    leaves, y = build()
    references = references_into(y)
    assert all(r() is not None for r in references)
    for _ in range(passes):
        y.backward()
    del y
    assert [r() for r in references if r() is not None] == []
    assert all(passes == 0 or x.grad is not None for x in leaves)


def test_under_no_grad_intermediates_go_at_once(no_gc):
    with no_grad():
        t = var(1.0) * 2.0
        reference = weakref.ref(t.data)
        y = F.exp(t)
        del t
    assert reference() is None
    assert y.creator is None


def test_unchain_backward_lets_the_past_go(no_gc):
    x = var(1.0)
    t = x * 2.0
    reference = weakref.ref(t)
    y = t * 3.0
    del t
    y.unchain_backward()
    y.unchain()
    assert reference() is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
@pytest.mark.parametrize("kind", [Variable, Parameter])
def test_a_copy_holds_values_and_drops_the_graph(kind, copied):
    x = kind(np.array([1.0, 2.0]), name="x")
    y = Square()(x)
    y.name = "y"
    y.backward(create_graph=True)
    x_copy, y_copy = copied(x), copied(y)
    assert type(x_copy) is kind
    assert (x_copy.name, y_copy.name) == ("x", "y")
    assert (y_copy.creator, y_copy.generation) == (None, 0)
    np.testing.assert_array_equal(y_copy.data, y.data)
    np.testing.assert_array_equal(x_copy.grad.data, [2.0, 4.0])


def test_a_pickle_of_a_result_does_not_drag_its_graph_along():
    y = Variable(np.ones(100_000)).sum()
    assert len(pickle.dumps(y)) < 5_000


def test_a_copy_keeps_requires_grad():
    x = var(1.0)
    x.requires_grad = False
    assert copy.deepcopy(x).requires_grad is False


# ----------------------------------------------------------------------------------------------------------------------
# Misuse that would pass in silence
# ----------------------------------------------------------------------------------------------------------------------


def test_a_step_by_hand_that_forgets_data_is_told_so():
    p = var(1.0, 2.0)
    (p * p).sum().backward()
    p.data -= 0.1 * p.grad
    with pytest.raises(
        TypeError, match=r"data must be an array, got Variable; a step by hand is p\.data -= lr \* p\.grad"
    ):
        p * p


def test_a_number_put_into_data_becomes_an_array_again():
    x = Variable(np.array(2.0))
    x.data = x.data - 0.5
    y = x * x
    y.backward()
    assert (float(y), float(x.grad)) == (2.25, 3.0)
    assert isinstance(x.data, np.ndarray)


@pytest.mark.parametrize("name", ["trian", "backward_pass", "__module__"])
def test_there_are_two_modes_and_no_others(name):
    with pytest.raises(ValueError, match=rf"there is no mode '{name}'; the modes are"):
        setattr(Config, name, False)
    with pytest.raises(ValueError, match=rf"there is no mode '{name}'; the modes are"), using_config(name, False):
        pass


def test_a_gradient_of_another_shape_is_not_added_to():
    x = var(1.0, 2.0)
    x.grad = Variable(np.ones((2, 1)))
    with pytest.raises(
        ValueError, match=r"backward: grad was given the shape \(2, 1\) but the Variable has shape \(2,\)"
    ):
        (x * x).backward()


def test_complex_numbers_have_no_gradient():
    x = Variable(np.array([1 + 2j]))
    with pytest.raises(TypeError, match="gradients of complex numbers are not supported"):
        (x * x).backward()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.reshape(x, 2.0),
        lambda x: F.broadcast_to(x, (3.0, 2)),
        lambda x: F.sum_to(x, "2"),
        lambda x: x.reshape(None),
    ],
)
def test_a_shape_is_made_of_ints(f):
    with pytest.raises(TypeError, match=r"^\w+: a shape must be an int or a tuple of ints, got"):
        f(var(1.0, 2.0))


def test_an_axis_is_an_int():
    with pytest.raises(TypeError, match=r"^sum: axis must be an int, a tuple of ints, or None, got 1\.0"):
        F.sum(var(1.0, 2.0), 1.0)


@pytest.mark.parametrize("axes", [np.array([2, 0, 1]), range(3)], ids=["array", "range"])
def test_axes_and_shapes_may_be_any_sequence_of_ints(axes):
    x = Variable(np.zeros((2, 3, 4)))
    assert F.transpose(x, axes).shape == x.data.transpose(tuple(axes)).shape
    assert F.reshape(x, np.array([4, -1])).shape == (4, 6)


def test_a_leaf_may_drop_its_data_before_backward_adds_to_its_gradient():
    x = var(1.0, 2.0)
    x.grad = Variable(np.ones(2))
    y = F.sum(x * 2.0)
    x.data = None
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [3.0, 3.0])
