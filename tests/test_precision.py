"""autocast and GradScaler: who computes in which dtype, what gradients are, and what an overflow leaves alone.

Most of it runs on NumPy's arrays that autocast is made to take for a GPU's: which dtype an operation gets is decided in
front of the kernels.
"""

import asyncio
import collections
import contextlib
import contextvars
import functools
import json
import sys
import threading
import types
import warnings

import numpy as np
import pytest

import dezero
from dezero import core, cuda, detect_anomaly, optimizers, precision
from dezero import functions as F
from dezero import layers as L
from dezero.core import Config, Function, Parameter, Variable, no_grad
from dezero.derivatives import checkpoint, grad, hvp, vjp
from dezero.models import Model, Sequential
from dezero.optimizers import SGD, Adam, ClipGrad, MomentumSGD, WeightDecay
from dezero.precision import GradScaler, autocast

f2, f4, f8 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))


@pytest.fixture
def acting(monkeypatch):
    """NumPy's arrays are cast as CuPy's would be. A GPU does not warn of what overflows."""
    monkeypatch.setattr(precision, "_on_gpu", lambda arrays: True)
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def unwarned(monkeypatch):
    monkeypatch.setattr(precision, "_warned", False)


def numbers(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


class Watch:
    """An observer that notes which dtypes go in and come out of every operation."""

    def __init__(self):
        self.seen = []

    def after_forward(self, node, inputs, outputs):
        kinds = [x.dtype for x in inputs if x.data is not None]
        self.seen.append((node.operation, *({*kinds} and sorted({*kinds}, key=str)), "->", outputs[0].dtype))

    def run_backward(self, node, gys):
        return node.backward(*gys)


@contextlib.contextmanager
def watching():
    watch = Watch()
    with core.mode("observer", watch):
        yield watch.seen


def without_casts(seen):
    return [entry for entry in seen if entry[0] != "astype"]


# ----------------------------------------------------------------------------------------------------------------------
# Which Function wants what
# ----------------------------------------------------------------------------------------------------------------------


def all_functions(of=Function):
    for cls in of.__subclasses__():
        if cls.__module__.startswith("dezero."):
            yield cls
        yield from all_functions(cls)


def names(value):
    return {cls.__name__.lstrip("_") for cls in all_functions() if cls.precision == value}


def test_every_function_wants_one_of_three():
    found = {cls.precision for cls in all_functions()}
    assert found == {"half", "any", "full"}
    assert Function.precision == "full"


def test_products_and_convolutions_are_computed_in_half():
    assert names("half") == {
        *("Linear", "MatMul", "Einsum", "Conv2d", "Conv2dReLU", "Deconv2d", "Conv2DGradW", "LSTMStep", "GRUStep"),
        *("Sequence", "RNNSequence", "LSTMSequence", "GRUSequence"),
    }


def test_what_takes_either():
    assert names("any") == {
        *("Add", "Sub", "Mul", "Neg", "Abs", "Sign", "Clip", "Maximum", "Minimum", "Where", "ReLU", "LeakyReLU"),
        *("Reshape", "Transpose", "GetItem", "GetItemGrad", "BroadcastTo", "Concat", "Split", "Pad", "Copy", "AsType"),
        *("Max", "Min", "Pooling", "Im2col", "Embedding", "Alias", "Checkpoint", "Dropout"),
    }


@pytest.mark.parametrize(
    "f", [F.exp, F.log, F.sum, F.softmax, F.sigmoid, F.tanh, F.softplus, F.erf, F.cosh, F.logsumexp, lambda x: 1 / x]
)
def test_what_is_not_exact_in_half_is_computed_in_float32(acting, f):
    x = Variable(np.abs(numbers(3, 4)).astype(np.float16) + np.float16(1))
    with autocast(), watching() as seen:
        y = f(x)
    assert y.dtype == f4
    assert all(f2 not in entry for entry in without_casts(seen))
    F.sum(y * y).backward()
    assert x.grad.dtype == f2


@pytest.mark.parametrize("f", [F.relu, lambda x: F.pooling(x, 2), F.abs, lambda x: x[0], lambda x: x + x * 2.0])
def test_what_is_exact_takes_what_it_gets(acting, f):
    for dtype in f2, f4, f8:
        with autocast(), watching() as seen:
            y = f(Variable(numbers(1, 1, 4, 4, dtype=dtype)))
        assert y.dtype == dtype
        assert without_casts(seen) == seen


PRODUCTS = {
    "matmul": (F.matmul, (3, 4), (4, 2)),
    "linear": (F.linear, (3, 4), (4, 2), (2,)),
    "conv2d": (F.conv2d, (1, 2, 5, 5), (3, 2, 3, 3), (3,)),
    "conv2d_relu": (F.conv2d_relu, (1, 2, 5, 5), (3, 2, 3, 3), (3,)),
    "deconv2d": (F.deconv2d, (1, 3, 5, 5), (3, 2, 3, 3), (2,)),
    "conv1d": (F.conv1d, (1, 2, 5), (3, 2, 3), (3,)),
    "einsum": (lambda x, W: F.einsum("ij,jk->ik", x, W), (3, 4), (4, 2)),
    "tensordot": (lambda x, W: F.tensordot(x, W, 1), (3, 4), (4, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_float32_are_half_and_their_gradients_float32(acting, name):
    f, *shapes = PRODUCTS[name]
    xs = [Variable(numbers(*shape)) for shape in shapes]
    exact = f(*xs)
    F.sum(exact * exact).backward()
    wanted = [x.grad.data for x in xs]
    with autocast():
        y = f(*xs)
    assert y.dtype == f2
    np.testing.assert_allclose(y.data, exact.data, rtol=1e-2, atol=1e-2)
    for x in xs:
        x.cleargrad()
    F.sum(y * y).backward()
    for x, gx in zip(xs, wanted, strict=True):
        assert x.grad.dtype == f4
        np.testing.assert_allclose(x.grad.data, gx, rtol=1e-2, atol=1e-2 * np.abs(gx).max())


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_float64_stay_float64(acting, name):
    f, *shapes = PRODUCTS[name]
    for exact in range(len(shapes)):
        xs = [numbers(*shape, dtype=f8 if i == exact else f4) for i, shape in enumerate(shapes)]
        with autocast():
            y = f(*xs)
        assert y.dtype == f8
        np.testing.assert_array_equal(y.data, f(*xs).data)


def test_what_is_computed_in_float32_leaves_float64_and_promotes_to_it(acting):
    x = numbers(3, 4, dtype=f8)
    with autocast():
        assert F.exp(x).dtype == f8
        assert F.mean_squared_error(x.astype(f2), x).dtype == f8
        assert float(F.sum(x)) == float(x.sum())


def test_products_with_integers_are_as_ever(acting):
    x, W = np.arange(6).reshape(2, 3), numbers(3, 2)
    with autocast():
        y = F.matmul(x, W)
    assert y.dtype == F.matmul(x, W).dtype == f8
    np.testing.assert_array_equal(y.data, F.matmul(x, W).data)
    with autocast():
        assert F.matmul(x, x.T).dtype == x.dtype


def test_mixed_floats_are_promoted_and_each_gets_a_gradient_of_its_own_dtype(acting):
    x, r = Variable(numbers(2, 2).astype(f2)), Variable(numbers(2, 2))
    with autocast():
        y = x * r
    assert y.dtype == f4
    y.backward()
    assert (x.grad.dtype, r.grad.dtype) == (f2, f4)


def test_a_users_function_gets_float32(acting):
    class Cubed(Function):
        def forward(self, x):
            self.dtype = x.dtype
            return x**3

        def backward(self, gy):
            return 3 * self.inputs[0] ** 2 * gy

    f, x = Cubed(), Variable(numbers(2, 2).astype(f2))
    with autocast():
        y = f(x)
    assert (f.dtype, y.dtype) == (f4, f4)
    np.testing.assert_array_equal(y.data, x.data.astype(f4) ** 3)


def test_constants_that_are_cast_stay_constants(acting):
    W = Variable(numbers(3, 2))
    with autocast():
        y = F.matmul(numbers(4, 3), W)
        z = F.matmul(numbers(4, 3), numbers(3, 2))
    assert [x.requires_grad for x in y.creator.inputs] == [False, True]
    assert not z.requires_grad


def test_nothing_is_recorded_under_no_grad(acting):
    W = Variable(numbers(3, 2))
    with autocast(), no_grad():
        y = F.matmul(numbers(4, 3), W)
    assert (y.creator, y.dtype) == (None, f2)


# ----------------------------------------------------------------------------------------------------------------------
# Networks
# ----------------------------------------------------------------------------------------------------------------------


def cnn():
    dezero.seed(0)
    return Sequential(
        L.Conv2d(4, 3, pad=1, in_channels=1), F.relu, lambda x: F.pooling(x, 2, 2), F.flatten, L.Linear(3, in_size=64)
    )


IMAGES, LABELS = numbers(6, 1, 8, 8), np.arange(6) % 3


def cnn_loss(model, place=lambda x: x):
    return F.softmax_cross_entropy(model(place(IMAGES)), place(LABELS))


def lstm_loss(model, place=lambda x: x):
    model.reset_state()
    return sum(
        F.mean_squared_error(model(place(x)), place(t))
        for x, t in zip(numbers(5, 4, 3), numbers(5, 4, 2, seed=1), strict=True)
    )


class Recurrent(Model):
    def __init__(self):
        super().__init__()
        dezero.seed(0)
        self.lstm, self.out = L.LSTM(8, in_size=3), L.Linear(2, in_size=8)

    def reset_state(self):
        self.lstm.reset_state()

    def forward(self, x):
        return self.out(self.lstm(x))


NETWORKS = {
    "cnn": (cnn, cnn_loss),
    "lstm": (Recurrent, lstm_loss),
}


def loss_and_gradients(name, **options):
    make, loss_of = NETWORKS[name]
    model = make()
    with autocast(**options):
        loss = loss_of(model)
    loss.backward()
    return loss, dict(model.named_params())


def test_what_each_operation_of_a_cnn_sees(acting):
    model = cnn()
    with autocast(), watching() as seen:
        cnn_loss(model)
    assert without_casts(seen) == [
        ("conv2d", f2, "->", f2),
        ("relu", f2, "->", f2),
        ("pooling", f2, "->", f2),
        ("reshape", f2, "->", f2),
        ("linear", f2, "->", f2),
        ("softmax_cross_entropy", f4, np.dtype(int), "->", f4),
    ]
    assert len(seen) - 6 == 6  # the images, two weights, two biases, and the scores


def test_what_each_operation_of_an_lstm_sees(acting):
    model = Recurrent()
    with autocast(), watching() as seen:
        lstm_loss(model)
    dtypes = {}
    for operation, *kinds, _, out in without_casts(seen):
        dtypes.setdefault(operation, set()).add((*kinds, "->", out))
    products = dtypes.pop("linear") | dtypes.pop("lstm")
    assert products == {(f2, "->", f2)}
    assert {operation: {entry[-1] for entry in entries} for operation, entries in dtypes.items()} == {
        "sigmoid": {f4},
        "tanh": {f4},
        "lstm_output": {f4},
        "mul": {f4},
        "mean_squared_error": {f4},
        "add": {f4},
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_float32_and_close_to_those_without(acting, name):
    wanted_loss, wanted = loss_and_gradients(name, enabled=False)
    loss, params = loss_and_gradients(name)
    assert loss.dtype == f4
    assert abs(float(loss) / float(wanted_loss) - 1) < 1e-2
    assert float(loss) != float(wanted_loss)
    for key, param in params.items():
        gradient = wanted[key].grad.data
        assert (param.dtype, param.grad.dtype) == (f4, f4)
        np.testing.assert_allclose(param.grad.data, gradient, atol=1e-2 * np.abs(gradient).max(), rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_backward_pass_is_the_same_inside_the_block_and_outside(acting, name):
    make, loss_of = NETWORKS[name]
    _, wanted = loss_and_gradients(name)
    model = make()
    with autocast():
        loss_of(model).backward()
    for key, param in model.named_params():
        np.testing.assert_array_equal(param.grad.data, wanted[key].grad.data)


def test_batch_norm_makes_its_parameters_float32(acting):
    model = Sequential(L.Conv2d(4, 3), L.BatchNorm())
    with autocast(), watching() as seen:
        y = model(IMAGES)
    assert [param.dtype for param in model.params()] == [f4] * 6
    assert without_casts(seen) == [("conv2d", f2, "->", f2), ("batch_norm", f4, "->", f4)]
    assert y.dtype == f4


def test_attention_multiplies_in_half_and_takes_its_softmax_in_float32(acting):
    x = Variable(numbers(2, 4, 3))
    with autocast(), watching() as seen:
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
    assert y.dtype == f2
    assert ("softmax", f4, "->", f4) in seen
    assert seen.count(("matmul", f2, "->", f2)) == 2
    np.testing.assert_allclose(y.data, F.scaled_dot_product_attention(x, x, x, is_causal=True).data, atol=1e-2)


def test_a_weight_changed_in_place_inside_the_block_is_seen(acting):
    x, W = numbers(2, 3), Parameter(numbers(3, 2))
    with autocast():
        before = F.matmul(x, W)
        W.data += 1.0
        after = F.matmul(x, W)
    np.testing.assert_allclose((after.data - before.data), x.sum(axis=1, keepdims=True) + np.zeros(2), atol=1e-2)


def test_a_weight_first_used_under_no_grad_is_recorded_after_it(acting):
    W = Parameter(numbers(3, 2))
    with autocast():
        with no_grad():
            F.matmul(numbers(2, 3), W)
        F.matmul(numbers(2, 3), W).backward()
    assert W.grad.dtype == f4


# ----------------------------------------------------------------------------------------------------------------------
# Derivatives of derivatives, checkpoint, anomaly
# ----------------------------------------------------------------------------------------------------------------------


def cubic(x, W):
    return F.sum(F.matmul(x, W) ** 3)


@pytest.mark.parametrize("inside", [True, False])
def test_second_derivatives(acting, inside):
    x, W = Variable(numbers(2, 3)), Variable(numbers(3, 2))

    def penalty(**options):
        with autocast(**options):
            y = cubic(x, W)
            if inside:
                gx = grad(y, x, create_graph=True)
        if not inside:
            gx = grad(y, x, create_graph=True)
        return gx, grad(F.sum(gx * gx), W)

    (gx, gW), (wanted_gx, wanted_gW) = penalty(), penalty(enabled=False)
    assert (gx.dtype, gW.dtype) == (f4, f4)
    np.testing.assert_allclose(gx.data, wanted_gx.data, atol=1e-2 * np.abs(wanted_gx.data).max())
    np.testing.assert_allclose(gW.data, wanted_gW.data, atol=1e-2 * np.abs(wanted_gW.data).max())
    assert not np.array_equal(gW.data, wanted_gW.data)


def test_derivatives_of_functions(acting):
    x, v = numbers(2, 3), numbers(2, 3, seed=1)
    W = numbers(3, 2)
    _, wanted = hvp(lambda x: cubic(x, W), x, v)
    with autocast():
        _, found = hvp(lambda x: cubic(x, W), x, v)
    assert found.dtype == f4
    np.testing.assert_allclose(found.data, wanted.data, atol=1e-2 * np.abs(wanted.data).max())


def test_a_checkpoint_recomputes_as_it_computed(acting):
    x, W = Variable(numbers(2, 3)), Parameter(numbers(3, 3))

    def f(x):
        return F.tanh(F.matmul(F.matmul(x, W), W))

    def gradients(f):
        with autocast():
            y = F.matmul(F.matmul(x, W), W)  # used before, and after, the checkpoint
            y = f(y)
            loss = F.sum(F.matmul(y, W) ** 2)
        with watching() as seen:
            loss.backward()
        found = x.grad.data, W.grad.data
        x.cleargrad()
        W.cleargrad()
        return loss, found, seen

    plain, wanted, _ = gradients(f)
    loss, found, seen = gradients(lambda y: checkpoint(f, y))
    assert float(loss) == float(plain)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == f4
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)  # the same, added in another order
    assert ("tanh", f4, "->", f4) in seen
    assert ("matmul", f4, "->", f4) not in seen
    assert Config.autocast is None


def test_a_checkpoint_made_without_is_recomputed_without(acting):
    x, W = Variable(numbers(2, 3)), Parameter(numbers(3, 3))
    loss = F.sum(checkpoint(lambda x: F.matmul(x, W), x))
    with autocast(), watching() as seen:
        loss.backward()
    assert seen
    assert all(f2 not in entry for entry in seen)


def test_an_anomaly_in_half_is_named(acting):
    x = Variable(np.array([[300.0]], np.float32))
    with autocast(), detect_anomaly():
        F.matmul(x, np.array([[2.0]], np.float32)).backward()
        with pytest.raises(FloatingPointError, match=r"^matmul: made infinity at index \(0, 0\) of its output"):
            F.matmul(x, x)
        with pytest.raises(FloatingPointError, match=r"^astype: made infinity at index \(0, 0\) of its output"):
            F.matmul(x * 1000.0, x)


def test_a_backward_pass_reads_the_copies_so_that_a_weight_may_change_before_it(acting):
    x, W = Variable(numbers(2, 3)), Parameter(numbers(3, 2))
    with autocast(), detect_anomaly():
        y = F.matmul(x, W)
        W.data += 1.0
        y.backward()
    np.testing.assert_allclose(x.grad.data, (W.data - 1).sum(axis=1) + np.zeros((2, 1)), atol=1e-2)


# ----------------------------------------------------------------------------------------------------------------------
# The mode
# ----------------------------------------------------------------------------------------------------------------------


def dtype_of_product():
    return F.matmul(numbers(2, 2), numbers(2, 2)).dtype


def test_blocks_nest(acting):
    assert dtype_of_product() == f4
    with autocast():
        with autocast(enabled=False):
            assert dtype_of_product() == f4
            with autocast("float16"):
                assert dtype_of_product() == f2
        assert dtype_of_product() == f2
    assert dtype_of_product() == f4


def test_an_error_inside_ends_it(acting):
    with pytest.raises(ZeroDivisionError), autocast():
        _ = 1 / 0
    assert dtype_of_product() == f4


def test_it_decorates(acting):
    @autocast()
    def forward(depth=2):
        """Says so."""
        return [dtype_of_product(), *(forward(depth - 1) if depth else [])]

    assert (forward.__name__, forward.__doc__) == ("forward", "Says so.")
    assert forward() == forward() == [f2] * 3
    assert dtype_of_product() == f4


def test_one_is_entered_in_every_step_and_in_itself(acting):
    half = autocast()
    for _ in range(3):
        with half:
            with half, autocast(enabled=False), half:
                assert dtype_of_product() == f2
            assert dtype_of_product() == f2
        assert dtype_of_product() == f4


def test_one_that_is_off_is_entered_in_every_step(acting):
    off = autocast(enabled=False)
    with autocast():
        for _ in range(2):
            with off:
                with off:
                    assert dtype_of_product() == f4
                assert dtype_of_product() == f4
            assert dtype_of_product() == f2


def test_blocks_that_end_in_another_order(acting):
    """Each restores what it found, so that the mode stays on: in a context of its own, to do no harm."""

    def run():
        outer, inner = autocast(), autocast(enabled=False)
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)
        assert dtype_of_product() == f4
        with pytest.raises(ValueError, match=r"^autocast: a block ends in a thread, or task, that is not in it"):
            outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
        assert dtype_of_product() == f2

    contextvars.Context().run(run)
    assert dtype_of_product() == f4


def test_threads_share_one(acting):
    half, found = autocast(), {}
    entered, left = threading.Event(), threading.Event()

    def other():
        with half:
            entered.set()
            left.wait(10)
            found["other"] = dtype_of_product()
        found["after"] = dtype_of_product()

    thread = threading.Thread(target=other)
    with half:
        thread.start()
        entered.wait(10)
        found["own"] = dtype_of_product()
    found["left"] = dtype_of_product()
    left.set()
    thread.join()
    assert found == {"own": f2, "left": f4, "other": f2, "after": f4}


def test_tasks_share_one(acting):
    half, found = autocast(), []

    async def task(around, turns):
        with autocast(enabled=False) if around else contextlib.nullcontext():
            with half:
                for _ in range(turns):
                    await asyncio.sleep(0)
                found.append(dtype_of_product())
            found.append(dtype_of_product())

    async def both():
        await asyncio.gather(task(False, 3), task(True, 1), task(False, 2))

    asyncio.run(both())
    assert found == [f2, f4] * 3


def test_a_block_that_ends_in_another_thread(acting):
    half, errors = autocast(), []

    def end():
        try:
            half.__exit__(None, None, None)
        except ValueError as error:
            errors.append(str(error))

    with half:
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        assert dtype_of_product() == f2
    assert [error[:21] for error in errors] == ["autocast: a block end"]


def test_without_parentheses_it_says_so():
    with pytest.raises(TypeError, match=r"^autocast: expected a dtype, got <function .*; to .* @autocast\(\)$"):

        @autocast
        def forward():
            pass


def numbers_one_by_one(x=None):
    yield x


async def numbers_awaited(x=None):
    return x


async def numbers_awaited_one_by_one(x=None):
    yield x


class Calls:
    def __call__(self):
        yield


@pytest.mark.parametrize(
    ("f", "kind"),
    [
        (numbers_one_by_one, "a generator function"),
        (functools.partial(numbers_one_by_one, 1), "a generator function"),
        (Calls(), "a generator function"),
        (numbers_awaited, "a coroutine function"),
        (numbers_awaited_one_by_one, "an async generator function"),
    ],
)
def test_it_does_not_decorate_what_runs_later(f, kind):
    with pytest.raises(TypeError, match=f"^autocast: .* is {kind}, whose body .* write `with autocast.*inside"):
        autocast()(f)


@pytest.mark.parametrize("f", [None, 1, Variable, property(lambda self: 1)])
def test_it_decorates_functions_alone(f):
    with pytest.raises(TypeError, match=r"^autocast: @autocast\(\) stands before a function or method, got "):
        autocast()(f)


def test_it_decorates_whatever_is_called_like_a_function(acting):
    for f in dtype_of_product, functools.partial(dtype_of_product), Sequential(lambda x: F.matmul(x, x)).__call__:
        y = autocast()(f)(*([numbers(2, 2)] if isinstance(f, types.MethodType) else []))
        assert getattr(y, "dtype", y) == f2


@pytest.mark.parametrize("make", [autocast, GradScaler])
@pytest.mark.parametrize("enabled", [None, 0, 1, "bfloat16"])
def test_enabled_is_a_bool(make, enabled):
    with pytest.raises(TypeError, match=f"^{make.__name__}: enabled must be True or False, got {enabled!r}$"):
        make(enabled=enabled)


def test_it_is_the_threads_own(acting):
    found = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait(10)
        found["other"] = dtype_of_product()
        with autocast(enabled=False):
            found["off"] = dtype_of_product()
            done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with autocast():
        inside.set()
        done.wait(10)
        found["own"] = dtype_of_product()
    thread.join()
    assert found == {"other": f4, "off": f4, "own": f2}


@pytest.mark.parametrize("dtype", ["float16", np.float16, f2, "half", "e"])
def test_dtypes_that_it_takes(acting, dtype):
    with autocast(dtype):
        assert dtype_of_product() == f2


@pytest.mark.parametrize("dtype", ["float32", np.float64, None, "int8", "no such", object(), [], np.dtype("V2")])
def test_dtypes_that_it_does_not(dtype):
    with pytest.raises(ValueError, match=r"^autocast: dtype must be 'float16' or 'bfloat16', got .*enabled=False"):
        autocast(dtype)


def test_it_does_not_set_a_mode_of_the_users():
    with pytest.raises(ValueError, match="there is no mode 'autocast'"):
        Config.autocast = None


# ----------------------------------------------------------------------------------------------------------------------
# On the CPU
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:autocast")
def test_on_the_cpu_every_bit_is_the_same(name):
    loss, params = loss_and_gradients(name)
    wanted_loss, wanted = loss_and_gradients(name, enabled=False)
    assert float(loss) == float(wanted_loss)
    for key, param in params.items():
        np.testing.assert_array_equal(param.grad.data, wanted[key].grad.data)


def test_on_the_cpu_it_says_so_once_at_the_users_line(unwarned):
    def twice():
        for _ in range(2):
            with autocast():
                cnn()(IMAGES)

    with pytest.warns(UserWarning, match="^autocast: NumPy arrays are computed in float32 throughout") as caught:
        twice()
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_nobody_is_warned_where_it_is_off(unwarned):
    with autocast(enabled=False):
        assert dtype_of_product() == f4
    assert dtype_of_product() == f4


@pytest.mark.filterwarnings("ignore:autocast")
def test_bfloat16_that_is_not_there_does_no_harm_on_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with autocast("bfloat16"):
        assert dtype_of_product() == f4


def test_half_arrays_of_a_program_are_left_to_it(unwarned):
    x = numbers(2, 2).astype(f2)
    with warnings.catch_warnings(), autocast():
        warnings.simplefilter("ignore")
        assert F.exp(x).dtype == f2


# ----------------------------------------------------------------------------------------------------------------------
# bfloat16
# ----------------------------------------------------------------------------------------------------------------------


def test_without_ml_dtypes_bfloat16_is_an_error_that_names_it(acting, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with autocast("bfloat16"), pytest.raises(RuntimeError, match=r"pip install ml_dtypes.*float16"):
        dtype_of_product()


def cupy_of_version(monkeypatch, version):
    module = types.SimpleNamespace(__version__=version, ndarray=type("ndarray", (), {}))
    monkeypatch.setitem(vars(cuda), "cupy", module)


def test_a_cupy_without_bfloat16_is_an_error_that_says_so(acting, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", types.SimpleNamespace(bfloat16=None))
    cupy_of_version(monkeypatch, "13.6.0")
    with autocast("bfloat16"), pytest.raises(RuntimeError, match=r"CuPy 13\.6\.0 has no bfloat16: install CuPy 14"):
        dtype_of_product()


@pytest.fixture
def bf2(acting, monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    cupy_of_version(monkeypatch, "14.2.0")
    return np.dtype(ml_dtypes.bfloat16)


def test_bfloat16_is_floating(bf2):
    assert core.is_floating(bf2)
    assert not core.is_floating(np.dtype("V2"))


def test_bfloat16_intermediates_and_float32_gradients(bf2):
    x, W = Variable(numbers(3, 4)), Variable(numbers(4, 2))
    wanted = F.sum(F.relu(F.matmul(x, W)) ** 2)
    wanted.backward()
    gx, gW = x.grad.data, W.grad.data
    x.cleargrad()
    W.cleargrad()
    with autocast("bfloat16"), watching() as seen:
        y = F.relu(F.matmul(x, W) + 0.0)
        loss = F.sum(y**2)
    assert seen[0] == ("astype", f4, "->", bf2)
    assert seen[2][:-1] == ("matmul", bf2, "->")  # NumPy's own product of two is float32
    assert loss.dtype == f4
    loss.backward()
    assert (x.grad.dtype, W.grad.dtype) == (f4, f4)
    np.testing.assert_allclose(x.grad.data, gx, atol=2e-2 * np.abs(gx).max())
    np.testing.assert_allclose(W.grad.data, gW, atol=2e-2 * np.abs(gW).max())


def test_bfloat16_beside_other_floats_and_numbers(bf2):
    x = Variable(numbers(2, 2).astype(bf2))
    assert F.maximum(x, 0.5).dtype == bf2
    assert [F.maximum(x, numbers(2, 2, dtype=d)).dtype for d in (f2, f4, f8)] == [f4, f4, f8]
    assert F.gelu(F.astype(x, f4)).dtype == f4
    assert core.as_floating("f", x) is x
    F.maximum(x, numbers(2, 2)).backward()
    assert x.grad.dtype == bf2
    x.cleargrad()
    y = F.maximum(x, 0.5)
    y.backward(retain_grad=True)  # starts with ones
    assert (x.grad.dtype, y.grad.dtype) == (bf2, bf2)
    y = F.maximum(x, 0.5)
    assert [gy.dtype for gy in (grad(y, y), grad(y, y, grad_outputs=numbers(2, 2)))] == [bf2, bf2]
    assert vjp(lambda x, unused: F.maximum(x, 0.5), (x, x))[1][1].dtype == bf2


def test_bfloat16_inside_float16(bf2):
    x = numbers(2, 2)
    with autocast("bfloat16"):
        y = F.maximum(Variable(x.astype(f2)), x.astype(bf2))
        with autocast(), watching() as seen:
            F.matmul(x.astype(bf2), x)
    assert y.dtype == f4
    assert seen[-1] == ("matmul", f2, "->", f2)


# ----------------------------------------------------------------------------------------------------------------------
# GradScaler
# ----------------------------------------------------------------------------------------------------------------------


class Group:
    """Not a Layer: all an optimizer asks for is `params()`."""

    def __init__(self, *arrays):
        self.all = [Parameter(np.array(array, np.float32)) for array in arrays]

    def params(self):
        yield from self.all


def loss_of(target):
    return F.sum(target.all[0] * np.array([1.0, 2.0], np.float32)) + 3.0 * target.all[1]


@pytest.fixture
def target():
    return Group([1.0, -1.0], 0.5)


def values(target):
    return [param.data.tolist() for param in target.params()]


def one_step(scaler, optimizer, loss):
    scaler.scale(loss).backward()
    taken = scaler.step(optimizer)
    scaler.update()
    return taken


RULES = [SGD, MomentumSGD, optimizers.AdaGrad, optimizers.RMSprop, optimizers.AdaDelta, Adam]


@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_without(rule, target):
    plain = Group([1.0, -1.0], 0.5)
    optimizer, other = rule().setup(target), rule().setup(plain)
    scaler = GradScaler()
    for _ in range(3):
        assert one_step(scaler, optimizer, loss_of(target)) is True
        loss_of(plain).backward()
        other.update()
        for param in (*target.params(), *plain.params()):
            param.cleargrad()
    assert values(target) == values(plain)  # a power of two changes no digit


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 1])
def test_a_step_with_a_gradient_that_is_none_leaves_everything_alone(rule, bad, place, target):
    optimizer, scaler = rule().setup(target), GradScaler()
    hooked = []
    optimizer.add_hook(hooked.append)
    one_step(scaler, optimizer, loss_of(target))
    before, count = values(target), getattr(optimizer, "t", None)
    kept = {name: {k: x.copy() for k, x in state.items()} for name, state in optimizer.state.items()}
    scaler.scale(loss_of(target)).backward()
    target.all[place].grad.data += np.float32(bad)
    assert scaler.step(optimizer) is False
    scaler.update()
    assert values(target) == before
    assert (getattr(optimizer, "t", None), len(hooked)) == (count, 1)
    for name, state in optimizer.state.items():
        for k, x in state.items():
            np.testing.assert_array_equal(x, kept[name][k])
    assert scaler.get_scale() == 2.0**15


def test_hooks_see_unscaled_gradients(target):
    seen = []
    optimizer = SGD(lr=1.0).setup(target)
    optimizer.add_hook(WeightDecay(0.5))
    optimizer.add_hook(lambda params: seen.extend(param.grad.data.tolist() for param in params))
    optimizer.add_hook(ClipGrad(1.0))
    one_step(GradScaler(), optimizer, loss_of(target))
    assert seen == [[1.5, 1.5], 3.25]
    moved = np.array([1.0, -1.0, 0.5]) - np.hstack([*target.all[0].data, target.all[1].data])
    assert np.isclose(np.linalg.norm(moved), 1.0, atol=1e-4)


def test_gradients_can_be_unscaled_to_look_at_them(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler(init_scale=8.0)
    scaler.scale(loss_of(target)).backward()
    assert target.all[0].grad.data.tolist() == [8.0, 16.0]
    scaler.unscale_(optimizer)
    assert GradScaler.unscale_ is GradScaler.unscale
    assert target.all[0].grad.data.tolist() == [1.0, 2.0]
    scaler.step(optimizer)
    assert target.all[0].data.tolist() == [0.0, -3.0]


def test_losses_add_up_before_a_step(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    for loss in scaler.scale([loss_of(target), loss_of(target)]):
        loss.backward()
    scaler.step(optimizer)
    assert target.all[0].data.tolist() == [-1.0, -5.0]


def test_a_gradient_that_two_share_is_divided_once(target):
    target.all[1] = Parameter(np.zeros(2, np.float32))
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    scaler.scale(F.sum(target.all[0] * 1.0)).backward()
    target.all[1].grad = Variable(target.all[0].grad.data)
    scaler.step(optimizer)
    assert values(target) == [[0.0, -2.0], [-1.0, -1.0]]


def test_parameters_without_a_gradient_stay(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    one_step(scaler, optimizer, F.sum(target.all[0] * 1.0))
    assert values(target) == [[0.0, -2.0], 0.5]


def test_two_optimizers_and_one_update(target):
    other = Group([0.0], 0.0)
    first, second, scaler = SGD(lr=1.0).setup(target), SGD(lr=1.0).setup(other), GradScaler()
    scaler.scale(loss_of(target) + F.sum(other.all[0])).backward()
    other.all[0].grad.data[:] = np.inf
    assert (scaler.step(first), scaler.step(second)) == (True, False)
    assert target.all[0].data.tolist() == [0.0, -3.0]
    assert other.all[0].data.tolist() == [0.0]
    scaler.update()
    assert scaler.get_scale() == 2.0**15


def shared_optimizers(target):
    """Two, of which the second has all parameters of the first, and one more."""
    more = Group()
    more.all = [*target.all, Parameter(np.array(1.0, np.float32))]
    return SGD(lr=1.0).setup(target), SGD(lr=1.0).setup(more)


def loss_of_shared(target, second):
    return loss_of(target) + 5.0 * second.target.all[2]


def stepped(*optimizers):
    for optimizer in optimizers:
        optimizer.update()


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_optimizers_that_share_parameters_step_as_without(target, swapped, by_hand):
    plain = Group([1.0, -1.0], 0.5)
    pairs, scaler = [shared_optimizers(group) for group in (plain, target)], GradScaler(8.0)
    for group, (first, second) in zip((plain, target), pairs, strict=True):
        loss = loss_of_shared(group, second)
        order = (second, first) if swapped else (first, second)
        if group is plain:
            loss.backward()
            stepped(*order)
            continue
        scaler.scale(loss).backward()
        for optimizer in order if by_hand else ():
            scaler.unscale(optimizer)
        assert [scaler.step(optimizer) for optimizer in order] == [True, True]
    wanted, found = (values(second.target) for _, second in pairs)
    assert found == wanted == [[-1.0, -5.0], -5.5, -4.0]


def test_what_optimizers_share_stops_both_where_it_overflows(target):
    (first, second), scaler = shared_optimizers(target), GradScaler(8.0)
    scaler.scale(loss_of_shared(target, second)).backward()
    target.all[1].grad.data[...] = np.inf
    assert [scaler.step(optimizer) for optimizer in (first, second)] == [False, False]
    assert values(second.target) == [[1.0, -1.0], 0.5, 1.0]


def test_a_shared_gradient_changed_in_place_is_not_divided_again(target):
    (first, second), scaler = shared_optimizers(target), GradScaler(8.0)
    first.add_hook(WeightDecay(1.0))
    scaler.scale(loss_of_shared(target, second)).backward()
    scaler.step(first)
    scaler.unscale(second)
    assert [param.grad.data.tolist() for param in second.target.params()] == [[2.0, 1.0], 3.5, 5.0]


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("method", ["unscale", "step"])
def test_a_shared_gradient_that_is_another_one(target, cleared, method):
    (first, second), scaler = shared_optimizers(target), GradScaler(8.0)
    losses = scaler.scale([loss_of(target), loss_of_shared(target, second)])
    losses[0].backward()
    scaler.step(first)
    for param in target.params() if cleared else ():
        param.cleargrad()
    losses[1].backward()
    before, gradients = values(second.target), [param.grad.data.tolist() for param in second.target.params()]
    with pytest.raises(ValueError, match=rf"^GradScaler\.{method}: a parameter of this SGD is another .*update\(\)"):
        getattr(scaler, method)(second)
    assert values(second.target) == before
    assert [param.grad.data.tolist() for param in second.target.params()] == gradients
    scaler.update()
    scaler.scale(loss_of_shared(target, second))
    assert scaler.step(second) is True


def test_a_gradient_array_in_two_optimizers_is_divided_once(target):
    other, scaler = Group([0.0, 0.0]), GradScaler(8.0)
    first, second = SGD(lr=1.0).setup(target), SGD(lr=1.0).setup(other)
    scaler.scale(loss_of(target)).backward()
    other.all[0].grad = Variable(target.all[0].grad.data)
    assert [scaler.step(first), scaler.step(second)] == [True, True]
    assert values(other) == [[-1.0, -2.0]]


def test_the_next_iteration_divides_anew(target):
    (first, second), scaler = shared_optimizers(target), GradScaler(8.0)
    for _ in range(2):
        for param in second.target.params():
            param.cleargrad()
        scaler.scale(loss_of_shared(target, second)).backward()
        kept = [param.grad.data for param in second.target.params()]
        scaler.step(first)
        scaler.step(second)
        scaler.update()
        assert [x.tolist() for x in kept] == [[1.0, 2.0], 3.0, 5.0]
    target.all[0].grad.data *= 8.0  # the array that was divided in the last iteration
    scaler.scale(loss_of(target))
    scaler.unscale(first)
    assert target.all[0].grad.data.tolist() == [1.0, 2.0]


def test_a_loss_scaled_after_unscale_mixes_as_said(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler(8.0)
    scaler.scale(loss_of(target)).backward()
    scaler.unscale(optimizer)
    scaler.scale(loss_of(target)).backward()
    scaler.step(optimizer)
    assert target.all[0].data.tolist() == [1.0 - (1.0 + 8.0), -1.0 - (2.0 + 16.0)]


def test_losses_come_back_as_they_were_given(target):
    pair = collections.namedtuple("pair", "one two")
    for scaler, scale in (GradScaler(8.0), 8.0), (GradScaler(enabled=False), 1.0):
        found = scaler.scale(pair(F.sum(target.all[0] + 1.0), [target.all[1] * 1.0]))
        assert type(found) is pair
        assert (float(found.one), float(found.two[0])) == (2.0 * scale, 0.5 * scale)
        assert type(scaler.scale((target.all[1] * 1.0,))) is tuple


def test_the_scale_grows_after_so_many_steps_in_a_row(target):
    optimizer, scaler = SGD(lr=0.0).setup(target), GradScaler(4.0, 3.0, 0.25, growth_interval=2)
    scales = []
    for bad in False, False, False, True, False, True, False, False:
        for param in target.params():
            param.cleargrad()
        scaler.scale(loss_of(target)).backward()
        target.all[0].grad.data += np.float32(np.inf if bad else 0)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales == [4.0, 12.0, 12.0, 3.0, 3.0, 0.75, 0.75, 2.25]


def test_the_scale_stays_a_number(target):
    optimizer = SGD(lr=0.0).setup(target)
    scaler = GradScaler(2.0**125, growth_factor=8.0, growth_interval=1)
    one_step(scaler, optimizer, 0.0 * loss_of(target))
    assert scaler.get_scale() == 2.0**126
    scaler = GradScaler(2.0**-125, backoff_factor=0.01)
    for _ in range(3):
        assert not one_step(scaler, optimizer, np.float32(np.nan) * loss_of(target))
    assert scaler.get_scale() == 2.0**-126


def test_a_loss_in_half_is_scaled_in_float32():
    x = Variable(np.array(2.0, np.float16))
    assert float(GradScaler().scale(x * 1.0)) == 2.0**17


def test_turned_off_it_is_not_there(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler(enabled=False)
    loss = loss_of(target)
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale(optimizer)
    assert scaler.step(optimizer) is True
    scaler.update()
    assert values(target) == [[0.0, -3.0], -2.5]
    assert scaler.get_scale() == 1.0


# What is called in the wrong order ------------------------------------------------------------------------------------


def test_a_step_before_a_loss_was_scaled(target):
    optimizer, scaler = SGD().setup(target), GradScaler()
    for method in scaler.step, scaler.unscale:
        with pytest.raises(
            ValueError, match=r"no loss was scaled since the last update\(\); call scaler\.scale\(loss\)"
        ):
            method(optimizer)
    one_step(scaler, optimizer, loss_of(target))
    with pytest.raises(ValueError, match=r"^GradScaler\.step: no loss was scaled"):
        scaler.step(optimizer)


def test_a_second_step(target):
    optimizer, scaler = SGD().setup(target), GradScaler()
    scaler.scale(loss_of(target)).backward()
    scaler.step(optimizer)
    for method in scaler.step, scaler.unscale:
        with pytest.raises(ValueError, match=r"this SGD had its step; call update\(\) before the next"):
            method(optimizer)


def test_unscaling_twice(target):
    optimizer, scaler = SGD().setup(target), GradScaler()
    scaler.scale(loss_of(target)).backward()
    scaler.unscale(optimizer)
    with pytest.raises(ValueError, match=r"^GradScaler\.unscale: the gradients of this SGD are unscaled already"):
        scaler.unscale(optimizer)


def test_an_update_without_a_step(target):
    scaler = GradScaler()
    scaler.scale(loss_of(target)).backward()
    with pytest.raises(
        ValueError, match=r"^GradScaler\.update: there was no step since the last update\(\); call step"
    ):
        scaler.update()


@pytest.mark.parametrize("method", ["unscale", "step"])
@pytest.mark.parametrize("enabled", [True, False])
def test_an_optimizer_that_is_none(method, enabled, target):
    scaler = GradScaler(enabled=enabled)
    for scaled in False, True:
        if scaled:
            scaler.scale(loss_of(target)).backward()
        for optimizer in None, [], {}, target, SGD, types.SimpleNamespace(target=target):
            message = rf"^GradScaler\.{method}: expected an optimizer, got {type(optimizer).__name__}$"
            with pytest.raises(TypeError, match=message):
                getattr(scaler, method)(optimizer)
        with pytest.raises(ValueError, match=rf"^GradScaler\.{method}: expected an optimizer with .* SGD; .*setup"):
            getattr(scaler, method)(SGD())


@pytest.mark.parametrize("method", ["unscale", "step"])
def test_a_step_without_any_gradient(method, target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    loss = scaler.scale(loss_of(target))
    with pytest.raises(ValueError, match=rf"^GradScaler\.{method}: no parameter of this SGD has a gradient; call sca"):
        getattr(scaler, method)(optimizer)
    loss.backward()
    assert scaler.step(optimizer) is True
    assert values(target) == [[0.0, -3.0], -2.5]


def test_a_gradient_that_is_no_variable_is_the_optimizers_to_refuse(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    scaler.scale(loss_of(target))
    target.all[0].grad = np.zeros(2)
    with pytest.raises(TypeError, match=r"^SGD\.update: .*grad must be a Variable"):
        scaler.step(optimizer)


def test_a_step_that_failed_can_be_taken_again(target):
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler()
    scaler.scale(loss_of(target)).backward()
    right, target.all[1].grad = target.all[1].grad, np.zeros(3)
    with pytest.raises(TypeError, match="grad must be a Variable"):
        scaler.step(optimizer)
    target.all[1].grad = None
    assert scaler.step(optimizer) is True
    assert target.all[0].data.tolist() == [0.0, -3.0]
    assert right.data == 3.0 * 2.0**16


@pytest.mark.parametrize("loss", [1.0, None, np.ones(1)])
def test_a_loss_that_is_none(loss):
    with pytest.raises(TypeError, match=r"^GradScaler\.scale: expected the loss, a Variable, got "):
        GradScaler().scale(loss)


@pytest.mark.parametrize(
    "options",
    [
        *({"init_scale": 0}, {"init_scale": -1.0}, {"init_scale": np.inf}, {"init_scale": 2.0**127}),
        *({"growth_factor": 0.5}, {"growth_factor": np.inf}, {"backoff_factor": 0}, {"backoff_factor": 1.0}),
        *({"growth_interval": 0}, {"growth_interval": 1.5}, {"init_scale": np.nan}),
    ],
    ids=repr,
)
def test_arguments_that_cannot_be(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^GradScaler: .*{name}"):
        GradScaler(**options)


# State ----------------------------------------------------------------------------------------------------------------


def test_state_goes_to_json_and_back(target):
    optimizer, scaler = SGD(lr=0.0).setup(target), GradScaler(32.0, 4.0, 0.25, 3)
    for _ in range(2):
        one_step(scaler, optimizer, loss_of(target))
    state = json.loads(json.dumps(scaler.state_dict()))
    assert state == {
        "scale": 32.0,
        "growth_factor": 4.0,
        "backoff_factor": 0.25,
        "growth_interval": 3,
        "good_steps": 2,
    }
    other = GradScaler()
    other.load_state_dict(state)
    assert other.state_dict() == state
    one_step(other, optimizer, loss_of(target))
    assert other.get_scale() == 128.0


@pytest.mark.parametrize("state", [None, {}, {"scale": 1.0}, {**GradScaler().state_dict(), "more": 1}])
def test_state_that_is_none(state):
    with pytest.raises(ValueError, match=r"^GradScaler\.load_state_dict: expected a dict of scale, growth_factor"):
        GradScaler().load_state_dict(state)


@pytest.mark.parametrize(("name", "value"), [("scale", 0.0), ("good_steps", -1), ("good_steps", 0.5)])
def test_state_is_checked_like_arguments(name, value):
    with pytest.raises(ValueError, match=f"^GradScaler: {name}"):
        GradScaler().load_state_dict({**GradScaler().state_dict(), name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *(("scale", "1", TypeError), ("growth_factor", None, TypeError), ("backoff_factor", 1.0, ValueError)),
        *(("growth_interval", 0, ValueError), ("good_steps", -1, ValueError), ("good_steps", None, ValueError)),
    ],
)
def test_state_that_cannot_be_changes_nothing(name, value, error):
    scaler = GradScaler(32.0, 4.0, 0.25, 3)
    before = scaler.state_dict()
    good = {"scale": 2.0, "growth_factor": 3.0, "backoff_factor": 0.125, "growth_interval": 5, "good_steps": 1}
    with pytest.raises(error, match=f"^GradScaler: .*{name}"):
        scaler.load_state_dict({**good, name: value})
    assert scaler.state_dict() == before
    scaler.load_state_dict(good)
    assert scaler.state_dict() == good


# ----------------------------------------------------------------------------------------------------------------------
# Both together
# ----------------------------------------------------------------------------------------------------------------------


def train(steps, scaler=None, gpu=None, **options):
    """Return the losses of a CNN, and how many of its steps were taken."""
    model = cnn()
    if gpu is not None:
        model.to_gpu()
    optimizer = Adam(0.01).setup(model)
    scaler = scaler or GradScaler(enabled=False)
    losses, taken = [], 0
    for _ in range(steps):
        with autocast(**options):
            loss = cnn_loss(model, gpu.to if gpu else lambda x: x)
        model.cleargrads()
        scaler.scale(loss).backward()
        taken += scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss))
    return losses, taken


def test_training_recovers_from_an_overflow(acting):
    scaler = GradScaler(init_scale=2.0**40)
    wanted, _ = train(30, enabled=False)
    losses, taken = train(60, scaler)
    assert 30 <= taken < 60
    skipped = 60 - taken
    assert losses[: skipped + 1] == [losses[0]] * (skipped + 1)
    assert scaler.get_scale() == 2.0 ** (40 - skipped)
    np.testing.assert_allclose(losses[skipped : skipped + 30], wanted, rtol=3e-2, atol=3e-2)


def test_small_gradients_vanish_without_a_scale_and_not_with_one(acting):
    x, W = numbers(4, 3), Parameter(numbers(3, 2))
    tiny = np.float32(1e-9)
    found = []
    for scaler in GradScaler(enabled=False), GradScaler():
        W.cleargrad()
        with autocast():
            loss = F.sum(F.matmul(x, W)) * tiny
        scaler.scale(loss).backward()
        found.append(W.grad.data / scaler.get_scale())
    assert not found[0].any()
    np.testing.assert_allclose(found[1], x.sum(axis=0)[:, None] * tiny + np.zeros(2), rtol=1e-2)


# ----------------------------------------------------------------------------------------------------------------------
# On a GPU, or its stand-in
# ----------------------------------------------------------------------------------------------------------------------


def on_gpu(gpu, name, **options):
    """The loss and the gradients of a network on the GPU, and what each operation saw."""
    make, loss_of = NETWORKS[name]
    model = make()
    model.to_gpu()
    with autocast(**options), watching() as seen:
        loss = loss_of(model, gpu.to)
    loss.backward()
    return loss, {key: param.grad for key, param in model.named_params()}, seen


@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_products_are_half_and_gradients_float32(gpu, unwarned, name):
    wanted_loss, wanted = loss_and_gradients(name, enabled=False)
    loss, found, seen = on_gpu(gpu, name)
    assert ("linear", f2, "->", f2) in seen
    assert loss.dtype == f4
    assert abs(float(loss) / float(wanted_loss) - 1) < 1e-2
    for key, param in wanted.items():
        gradient = param.grad.data
        assert found[key].dtype == f4
        np.testing.assert_allclose(cuda.as_numpy(found[key]), gradient, atol=1e-2 * np.abs(gradient).max(), rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_in_bfloat16(gpu, name):
    bf2 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    wanted_loss, wanted = loss_and_gradients(name, enabled=False)
    loss, found, seen = on_gpu(gpu, name, dtype="bfloat16")
    assert ("linear", bf2, "->", bf2) in seen
    assert abs(float(loss) / float(wanted_loss) - 1) < 5e-2
    for key, param in wanted.items():
        gradient = param.grad.data
        assert found[key].dtype == f4
        # a tenth, not a hundredth: what lies right beside relu's edge falls to the other side
        assert np.linalg.norm(cuda.as_numpy(found[key]) - gradient) < 0.1 * np.linalg.norm(gradient)


def test_on_a_gpu_training_recovers_from_an_overflow(gpu):
    scaler = GradScaler(init_scale=2.0**40)
    wanted, _ = train(20, enabled=False)
    losses, taken = train(60, scaler, gpu)
    skipped = 60 - taken
    assert 0 < skipped <= 40
    assert scaler.get_scale() == 2.0 ** (40 - skipped)
    np.testing.assert_allclose(losses[skipped : skipped + 20], wanted, rtol=3e-2, atol=3e-2)


def test_arrays_on_two_devices_are_refused_by_the_operations_own_name(gpu, unwarned):
    x, W = gpu.to(numbers(2, 2)), numbers(2, 2)
    with autocast():
        for f in F.matmul, F.mean_squared_error:
            with pytest.raises(TypeError, match=f"^{f.__name__}: arrays on different devices"):
                f(x, W)


def test_a_model_half_on_the_gpu_steps_as_one(gpu, target):
    target.all[0].to_gpu()
    optimizer, scaler = SGD(lr=1.0).setup(target), GradScaler(2.0)
    for bad in np.inf, 1.0:
        scaler.scale(target.all[1] * np.float32(bad)).backward()
        scaler.scale(F.sum(target.all[0])).backward()
        assert scaler.step(optimizer) is bool(np.isfinite(bad))
        scaler.update()
        target.all[0].cleargrad()
        target.all[1].cleargrad()
    assert cuda.as_numpy(target.all[0]).tolist() == [0.0, -2.0]
    assert float(target.all[1]) == -0.5


def test_a_step_reads_one_number_from_the_gpu(simulated, monkeypatch):
    model = cnn()
    model.to_gpu()
    optimizer, scaler = Adam().setup(model), GradScaler()
    scaler.scale(cnn_loss(model, simulated.to)).backward()
    reads = []

    def counted(name):
        read = getattr(simulated.cupy.ndarray, name)
        return lambda *args, **options: reads.append(name) or read(*args, **options)

    for name in "get", "item", "tolist":  # all others read by one of these
        monkeypatch.setattr(simulated.cupy.ndarray, name, counted(name))
    assert scaler.step(optimizer) is True
    scaler.update()
    assert reads == ["get"]
