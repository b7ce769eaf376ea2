"""What holds for every row of the table of operations: see operations/ for the rows."""

import inspect
import types

import numpy as np
import pytest
from operations import ROOMS, TABLE
from operations.row import (
    as_list,
    call,
    cast,
    evaluate,
    evaluate_torch,
    expected,
    first_gradients,
    with_leaves,
)

from dezero import cuda, kernels
from dezero import functions as F
from dezero.core import Function, Variable, no_grad
from dezero.testing import check_grads


def each(where=lambda row, sample: True):
    """Run a test for each sample of each row."""
    cases = [(row, sample) for row in TABLE.values() for sample in row.samples if where(row, sample)]
    return pytest.mark.parametrize(("row", "sample"), cases, ids=[f"{row.name}-{sample}" for row, sample in cases])


every_sample = each()
every_differentiable = each(where=lambda row, sample: row.order)
every_row = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def assert_close(found, wanted, tolerance):
    assert len(found) == len(wanted)
    for y, z in zip(found, wanted, strict=True):
        assert y.shape == z.shape
        np.testing.assert_allclose(y, z, rtol=tolerance, atol=tolerance)


# ----------------------------------------------------------------------------------------------------------------------
# The table is whole
# ----------------------------------------------------------------------------------------------------------------------

NO_OPERATIONS = {"as_array", "as_variable"}  # they make arrays and Variables


def missing_rows(module, table):
    """The public functions of a module whose function, under this or another name, has no row."""
    with_row = {getattr(module, name, None) for name in table}
    public = {name: f for name, f in vars(module).items() if inspect.isfunction(f) and not name.startswith("_")}
    return {name for name, f in public.items() if f not in with_row} - NO_OPERATIONS


def test_every_public_function_has_a_row():
    assert missing_rows(F, TABLE) == set()


def test_every_row_has_a_public_function():
    assert {name for name in TABLE if not hasattr(F, name)} == set()


def test_no_function_has_two_rows():
    assert len(TABLE) == sum(map(len, ROOMS.values()))


def test_a_missing_row_is_found():
    module = types.SimpleNamespace(sin=F.sin, sinus=F.sin, cos=lambda x: x, _hidden=lambda x: x, Sin=F.Sin)
    assert missing_rows(module, {"sin": None}) == {"cos"}


@every_row
def test_what_a_row_leaves_out_it_says_why(row):
    assert row.samples
    assert row.why or (row.torch and row.order == 3)


# ----------------------------------------------------------------------------------------------------------------------
# Values
# ----------------------------------------------------------------------------------------------------------------------


@every_sample
def test_values_are_those_of_the_reference(row, sample):
    assert_close(evaluate(row, sample).values, expected(row, sample), row.tolerance)


@every_sample
def test_values_in_float32_are_those_of_the_reference(row, sample):
    sample = cast(sample, np.float32)
    assert_close(evaluate(row, sample).values, expected(row, sample), row.tolerance32)


@each(where=lambda row, sample: row.keeps_dtype and row.order and sample.leaves)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_keep_the_dtype(row, sample, dtype):
    result = evaluate(row, cast(sample, dtype))
    found = [*result.values, *result.gradients, *result.second]
    assert {y.dtype for y in found} == {np.dtype(dtype)}


@each(where=lambda row, sample: row.keeps_dtype and row.order and sample.leaves)
def test_nothing_on_the_way_is_wider_than_float32(row, sample, monkeypatch):
    """The engine would narrow a gradient at the end, after twice the work."""
    made, call = set(), Function.__call__

    def watched(self, *inputs):
        ys = call(self, *inputs)
        made.update((type(self).__name__, y.dtype.name) for y in as_list(ys) if y.dtype.kind == "f")
        return ys

    monkeypatch.setattr(Function, "__call__", watched)
    evaluate(row, cast(sample, np.float32))
    assert {dtype for _, dtype in made} == {"float32"}, made


@every_differentiable
def test_nothing_is_recorded_under_no_grad(row, sample):
    with no_grad():
        ys = as_list(call(row, with_leaves(sample, map(Variable, sample.leaves))))
    assert {(type(y), y.creator) for y in ys} == {(Variable, None)}


@every_differentiable
def test_constants_alone_record_nothing_and_make_constants(row, sample):
    ys = as_list(call(row, cast(sample, np.float64)))
    assert {(y.creator, y.requires_grad) for y in ys} == {(None, False)}


@each(where=lambda row, sample: row.order and any(x.ndim == 0 for x in sample.leaves))
def test_a_number_takes_the_dtype_beside_it(row, sample):
    sample = cast(sample, np.float32)
    numbers = with_leaves(sample, [x.item() if x.ndim == 0 else x for x in sample.leaves])
    beside = {x.dtype for x in sample.leaves if x.ndim}
    for y, wanted in zip(as_list(call(row, numbers)), expected(row, sample), strict=True):
        np.testing.assert_allclose(y.data, wanted, row.tolerance32)
        assert y.dtype == (np.float32 if beside else np.float64)


@each(where=lambda row, sample: row.integers and sample.leaves and row.order)
def test_integers_give_what_the_reference_gives(row, sample):
    whole = with_leaves(sample, [np.ceil(x).astype(int) for x in sample.leaves])
    wanted = as_list(row.reference(*whole.args, **whole.options))
    found = [y.data for y in as_list(call(row, whole))]
    assert [y.dtype.kind for y in found] == [np.asarray(z).dtype.kind for z in wanted]
    assert_close(found, list(map(np.asarray, wanted)), row.tolerance)


# ----------------------------------------------------------------------------------------------------------------------
# Gradients
# ----------------------------------------------------------------------------------------------------------------------


@every_differentiable
def test_gradients_are_the_slopes_of_small_steps(row, sample):
    """Of every order, along a random direction, for a random cotangent. A higher order steps in the exact lower one."""
    check_grads(
        lambda *xs: call(row, with_leaves(sample, xs)),
        *sample.leaves,
        order=row.order,
        rtol=1e-4,
        atol=1e-6,
    )


@every_differentiable
def test_gradients_in_float32_are_those_in_float64(row, sample):
    sample = cast(sample, np.float32)
    found, wanted = evaluate(row, sample), evaluate(row, cast(sample, np.float64))
    assert_close(found.gradients, wanted.gradients, row.tolerance32)
    assert_close(found.second, wanted.second, 10 * row.tolerance32)


@every_differentiable
def test_gradients_are_the_same_with_a_graph_and_without(row, sample):
    """Without, a kernel may compute them in one pass; with, Functions do that can be derived again."""
    sample = cast(sample, np.float64)
    _, found = first_gradients(row, sample)
    assert_close(found, evaluate(row, sample).gradients, 1e-12)


@every_differentiable
def test_gradients_lie_in_memory_of_their_own(row, sample):
    xs, gradients = first_gradients(row, sample)
    arrays = [x.data for x in xs]
    for i, gx in enumerate(gradients):
        assert gx.flags.c_contiguous
        assert gx.flags.writeable
        assert not any(np.shares_memory(gx, other) for other in [*arrays, *gradients[:i]])


# ----------------------------------------------------------------------------------------------------------------------
# PyTorch
# ----------------------------------------------------------------------------------------------------------------------


@each(where=lambda row, sample: row.torch and sample.torch)
def test_values_and_gradients_of_two_orders_are_those_of_torch(row, sample):
    found, wanted = evaluate(row, sample), evaluate_torch(row, sample)
    assert_close(found.values, wanted.values, row.tolerance)
    assert_close(found.gradients, wanted.gradients, row.tolerance)
    assert_close(found.second, wanted.second, row.tolerance)


def shuffled(sample, seed):
    """The sample with the elements of each leaf in another order: still in the domain, and without ties."""
    rng = np.random.default_rng(seed)
    return with_leaves(sample, [rng.permutation(x.ravel()).reshape(x.shape) for x in sample.leaves])


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(5))
@every_differentiable
def test_all_this_holds_for_other_numbers(row, sample, seed):
    sample = shuffled(sample, seed)
    test_values_are_those_of_the_reference(row, sample)
    test_gradients_are_the_slopes_of_small_steps(row, sample)
    if row.torch and sample.torch:
        test_values_and_gradients_of_two_orders_are_those_of_torch(row, sample)


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def strided(x):
    """The same numbers, every second element of a larger array, axes in the other order."""
    larger = np.full([2 * n for n in x.shape[::-1]], np.nan, x.dtype)
    view = larger[(..., *(slice(None, None, 2) for _ in x.shape))].T
    view[...] = x
    return view


def reversed_(x):
    """The same numbers, the last first in memory."""
    backward = (..., *(slice(None, None, -1) for _ in x.shape))
    return x[backward].copy()[backward]


def fortran(x):
    return np.array(x, order="F")


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def repeated(x):
    """The first of each row again and again: no strides, one number in memory for many elements."""
    return np.broadcast_to(x[..., :1], x.shape) if x.ndim else x


@each(where=lambda row, sample: sample.leaves)
@pytest.mark.parametrize("arranged", [strided, reversed_, fortran, read_only, repeated])
def test_the_arrangement_in_memory_does_not_matter(row, sample, arranged):
    leaves = list(map(arranged, sample.leaves))
    found = evaluate(row, with_leaves(sample, leaves))
    wanted = evaluate(row, with_leaves(sample, [np.array(x, order="C") for x in leaves]))
    for name in ("values", "gradients", "second"):
        assert_close(getattr(found, name), getattr(wanted, name), 1e-12)


@every_sample
def test_what_goes_in_is_left_as_it_was(row, sample):
    sample = cast(sample, np.float64)
    before = [*map(np.copy, sample.leaves)]
    evaluate(row, sample)
    for x, copy in zip(sample.leaves, before, strict=True):
        assert x.tobytes() == copy.tobytes()


# ----------------------------------------------------------------------------------------------------------------------
# Bad inputs
# ----------------------------------------------------------------------------------------------------------------------

REFUSALS = [(row, refusal) for row in TABLE.values() for refusal in row.bad]


@pytest.mark.parametrize(
    ("row", "refusal"), REFUSALS, ids=[f"{row.name}-{refusal.sample}" for row, refusal in REFUSALS]
)
def test_bad_inputs_are_refused_in_these_words(row, refusal):
    arrays = refusal.sample.leaves
    before, state = [x.tobytes() for x in arrays], np.random.get_state()[1].tobytes()
    with pytest.raises(refusal.error) as error:
        call(row, refusal.sample)
    assert str(error.value) == f"{refusal.by or row.name}: {refusal.message}"
    assert [x.tobytes() for x in arrays] == before
    assert np.random.get_state()[1].tobytes() == state


def operands():
    """Each row with the positions of its leaves; those that may be None are left out."""
    for row in TABLE.values():
        parameters = list(inspect.signature(row.function).parameters.values()) if hasattr(F, row.name) else []
        for i, x in enumerate(row.samples[0].args):
            optional = i < len(parameters) and parameters[i].default is None
            if isinstance(x, np.ndarray) and x.dtype.kind == "f" and not optional:
                yield row, i


OPERANDS = list(operands())


@pytest.mark.parametrize("bad", [None, [1.0], "text"], ids=["None", "list", "text"])
@pytest.mark.parametrize(("row", "position"), OPERANDS, ids=[f"{row.name}-{i}" for row, i in OPERANDS])
def test_an_operand_that_is_no_array_is_refused_by_name(row, position, bad):
    args = list(row.samples[0].args)
    args[position] = bad
    # A conv2d without a W says which shape W must have: None is a wrong value there.
    kinds = (TypeError, ValueError) if bad is None and position else TypeError
    with pytest.raises(kinds) as error:
        row.function(*args, **row.samples[0].options)
    assert str(error.value).partition(":")[0] in (row.name, *row.speaks_as)


# ----------------------------------------------------------------------------------------------------------------------
# Backends of the kernels
# ----------------------------------------------------------------------------------------------------------------------


def public_functions(module):
    return {
        name: f
        for name, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__ and not name.startswith("_")
    }


REFERENCE = public_functions(kernels.reference)
BACKENDS = list(kernels.BACKENDS)


def names_of_parameters(f):
    return list(inspect.signature(f).parameters)


def disagreements(backend, monkeypatch):
    """Run the table's convolutions on a backend; return the names of rows whose results are not the reference's.

    That takes its kernels from one to the next, gradients to the second order; test_kernels.py has each by itself.
    """
    wrong = []
    for row in ROOMS["conv"]:
        for sample in row.samples:
            with kernels.using_kernels("reference"):
                wanted = evaluate(row, sample)
            with monkeypatch.context() as patch:
                patch.setattr(kernels, "for_array", lambda x: backend)
                found = evaluate(row, sample)
            for name in ("values", "gradients", "second"):
                for y, z in zip(getattr(found, name), getattr(wanted, name), strict=True):
                    if not np.allclose(y, z, rtol=1e-10, atol=1e-10):
                        wrong.append(row.name)
    return set(wrong)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_has_the_functions_of_the_reference_and_agrees_with_it(name, monkeypatch):
    backend = kernels.BACKENDS[name]
    for kernel, f in REFERENCE.items():
        assert names_of_parameters(getattr(backend, kernel)) == names_of_parameters(f)
    assert disagreements(backend, monkeypatch) == set()


# ----------------------------------------------------------------------------------------------------------------------
# The checks find what is wrong
# ----------------------------------------------------------------------------------------------------------------------


def sine(forward=np.sin, backward=lambda x, gy: gy * F.cos(x)):
    """A sine of its own forward and backward."""

    class Sin(Function):
        def forward(self, x):
            return forward(x)

        def backward(self, gy):
            return backward(self.inputs[0], gy)

    return lambda x: Sin()(x)


def ignoring_strides(x):
    return np.sin(x.ravel(order="K").reshape(x.shape))


def taking_lists(x):
    return Variable(np.sin(cuda.plain(x)))


WRONG = {
    "value": (sine(lambda x: np.sin(x) + 1e-8), test_values_are_those_of_the_reference),
    "float64": (
        sine(lambda x: np.sin(x).astype(np.float64)),
        lambda row, x: test_values_and_gradients_keep_the_dtype(row, x, np.float32),
    ),
    "sign": (sine(backward=lambda x, gy: -gy * F.cos(x)), test_gradients_are_the_slopes_of_small_steps),
    "sign, says torch": (
        sine(backward=lambda x, gy: -gy * F.cos(x)),
        test_values_and_gradients_of_two_orders_are_those_of_torch,
    ),
    "second order": (sine(backward=lambda x, gy: gy * np.cos(x.data)), test_gradients_are_the_slopes_of_small_steps),
    "second order, says torch": (
        sine(backward=lambda x, gy: gy * np.cos(x.data)),
        test_values_and_gradients_of_two_orders_are_those_of_torch,
    ),
    "strides": (sine(ignoring_strides), lambda row, x: test_the_arrangement_in_memory_does_not_matter(row, x, strided)),
    "read-only": (
        sine(lambda x: np.sin(x, out=x)),
        lambda row, x: test_the_arrangement_in_memory_does_not_matter(row, x, read_only),
    ),
    "input changed": (sine(lambda x: np.sin(x, out=x)), test_what_goes_in_is_left_as_it_was),
    "list": (taking_lists, lambda row, _: test_an_operand_that_is_no_array_is_refused_by_name(row, 0, [1.0])),
}


@pytest.mark.parametrize(("wrong", "check"), WRONG.values(), ids=WRONG)
def test_a_wrong_operation_is_found_out(wrong, check, monkeypatch):
    row = TABLE["sin"]
    check(row, row.samples[0])
    monkeypatch.setattr(F, "sin", wrong)
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        check(row, row.samples[0])
