"""F: one table of operations, checked alike; then what is particular to each."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from dezero import core
from dezero import functions as F
from dezero.core import Function, Variable, no_grad, test_mode
from dezero.testing import check_grads


def numbers(*shape, low=-2.0, high=2.0, seed=0):
    """Distinct numbers from `low` to `high` in random order: no ties, and for an even count no zero."""
    count = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(np.linspace(low, high, count)).reshape(shape)


LABELS = np.array([2, 0, 1, 2])
ROWS, COLUMNS = np.array([0, 2, 0]), np.array([1, 1, 3])
BITS = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


class Case(NamedTuple):
    f: Callable[..., Any]
    numpy: Callable[..., Any]
    inputs: tuple[Any, ...]
    torch: Callable[..., Any] | None = None
    order: int = 2


def np_softmax(x, axis=1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def np_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def np_batch_norm(x, gamma, beta):
    axes, shape = ((0,), (1, -1)) if x.ndim == 2 else ((0, 2, 3), (1, -1, 1, 1))
    m, v = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return gamma.reshape(shape) * (x - m) / np.sqrt(v + 2e-5) + beta.reshape(shape)


def np_cross_entropy(x):
    return -np.log(np_softmax(x))[np.arange(len(x)), LABELS].mean()


def np_binary_cross_entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / len(p)


def f_batch_norm(x, gamma, beta):
    return F.batch_norm(x, gamma, beta, np.zeros(gamma.shape, np.float32), np.ones(gamma.shape, np.float32))


A, B = numbers(2, 3), numbers(2, 3, low=0.5, high=1.5, seed=1)
POSITIVE, UNIT = numbers(2, 3, low=0.5, high=3.0), numbers(2, 3, low=0.1, high=0.9)
X, CUBE, IMAGE = numbers(4, 3), numbers(2, 3, 4), numbers(3, 2, 2, 3)

CASES = {
    "add": Case(F.add, lambda a, b: a + b, (A, B), lambda t, a, b: a + b),
    "add broadcast": Case(F.add, lambda a, b: a + b, (A, B[0]), lambda t, a, b: a + b),
    "sub": Case(F.sub, lambda a, b: a - b, (A, B), lambda t, a, b: a - b),
    "sub broadcast": Case(F.sub, lambda a, b: a - b, (A[:, :1], B[0]), lambda t, a, b: a - b),
    "rsub": Case(F.rsub, lambda a, b: b - a, (A, B), lambda t, a, b: b - a),
    "mul": Case(F.mul, lambda a, b: a * b, (A, B), lambda t, a, b: a * b, 3),
    "mul broadcast": Case(F.mul, lambda a, b: a * b, (A[0], B), lambda t, a, b: a * b, 3),
    "div": Case(F.div, lambda a, b: a / b, (A, B), lambda t, a, b: a / b, 3),
    "div broadcast": Case(F.div, lambda a, b: a / b, (A, B[0]), lambda t, a, b: a / b, 3),
    "rdiv": Case(F.rdiv, lambda a, b: b / a, (B, A), lambda t, a, b: b / a),
    "neg": Case(F.neg, lambda a: -a, (A,), lambda t, a: -a),
    "pow": Case(lambda a: F.pow(a, 3), lambda a: a**3, (A,), lambda t, a: a**3, 3),
    "pow fraction": Case(lambda a: F.pow(a, 0.5), lambda a: a**0.5, (POSITIVE,), lambda t, a: a**0.5, 3),
    "pow array": Case(F.pow, lambda a, b: a**b, (POSITIVE, A), lambda t, a, b: a**b, 3),
    "pow number base": Case(lambda b: F.pow(2.0, b), lambda b: 2.0**b, (A,), lambda t, b: 2.0**b, 3),
    "sin": Case(F.sin, np.sin, (A,), lambda t, a: t.sin(a), 3),
    "cos": Case(F.cos, np.cos, (A,), lambda t, a: t.cos(a), 3),
    "tanh": Case(F.tanh, np.tanh, (A,), lambda t, a: t.tanh(a), 3),
    "exp": Case(F.exp, np.exp, (A,), lambda t, a: t.exp(a), 3),
    "log": Case(F.log, np.log, (POSITIVE,), lambda t, a: t.log(a), 3),
    "clip": Case(lambda a: F.clip(a, -1, 1), lambda a: np.clip(a, -1, 1), (A,), lambda t, a: t.clip(a, -1, 1)),
    "astype": Case(lambda a: F.astype(a, a.dtype), lambda a: a, (A,)),
    "reshape": Case(lambda a: F.reshape(a, (3, 2)), lambda a: a.reshape(3, 2), (A,), lambda t, a: a.reshape(3, 2)),
    "reshape -1": Case(lambda a: F.reshape(a, -1), lambda a: a.reshape(-1), (A,), lambda t, a: a.reshape(-1)),
    "transpose": Case(F.transpose, np.transpose, (CUBE,), lambda t, a: a.permute(2, 1, 0)),
    "transpose axes": Case(
        lambda a: F.transpose(a, (1, -1, 0)), lambda a: a.transpose(1, 2, 0), (CUBE,), lambda t, a: a.permute(1, 2, 0)
    ),
    "get_item row": Case(lambda a: F.get_item(a, 1), lambda a: a[1], (CUBE,), lambda t, a: a[1]),
    "get_item slices": Case(
        lambda a: F.get_item(a, (..., slice(None, None, 2))), lambda a: a[..., ::2], (CUBE,), lambda t, a: a[..., ::2]
    ),
    "get_item arrays": Case(
        lambda a: F.get_item(a, (ROWS, COLUMNS)), lambda a: a[ROWS, COLUMNS], (X.T @ X[:, :1] * np.arange(1, 5),)
    ),
    "get_item repeated": Case(
        lambda a: F.get_item(a, [0, 1, 0]), lambda a: a[[0, 1, 0]], (A,), lambda t, a: a[[0, 1, 0]]
    ),
    "get_item mask": Case(lambda a: F.get_item(a, A > 0), lambda a: a[A > 0], (A,)),
    "expand_dims": Case(lambda a: F.expand_dims(a, 1), lambda a: a[:, None], (A,), lambda t, a: a.unsqueeze(1)),
    "expand_dims -1": Case(lambda a: F.expand_dims(a, -1), lambda a: a[..., None], (A,), lambda t, a: a.unsqueeze(-1)),
    "flatten": Case(F.flatten, lambda a: a.reshape(2, 12), (CUBE,), lambda t, a: a.flatten(1)),
    "sum": Case(F.sum, np.sum, (A,), lambda t, a: a.sum()),
    "sum axis": Case(lambda a: F.sum(a, 1), lambda a: a.sum(1), (CUBE,), lambda t, a: a.sum(1)),
    "sum axes": Case(
        lambda a: F.sum(a, (-1, 0), True),
        lambda a: a.sum((-1, 0), keepdims=True),
        (CUBE,),
        lambda t, a: a.sum((-1, 0), True),
    ),
    "sum_to": Case(lambda a: F.sum_to(a, (3, 1)), lambda a: a.sum((0, 2)).reshape(3, 1), (CUBE,)),
    "broadcast_to": Case(
        lambda a: F.broadcast_to(a, (4, 2, 3)),
        lambda a: np.broadcast_to(a, (4, 2, 3)),
        (A,),
        lambda t, a: a.expand(4, 2, 3),
    ),
    "broadcast_to stretched": Case(
        lambda a: F.broadcast_to(a, (2, 3)), lambda a: np.broadcast_to(a, (2, 3)), (A[:, :1],)
    ),
    "average": Case(F.average, np.mean, (A,), lambda t, a: a.mean()),
    "mean": Case(
        lambda a: F.mean(a, (0, -1), True),
        lambda a: a.mean((0, -1), keepdims=True),
        (CUBE,),
        lambda t, a: a.mean((0, -1), True),
    ),
    "max": Case(F.max, np.max, (A,), lambda t, a: a.max()),
    "max axis": Case(lambda a: F.max(a, -1), lambda a: a.max(-1), (CUBE,), lambda t, a: a.amax(-1)),
    "max axes": Case(
        lambda a: F.max(a, (0, -1), True),
        lambda a: a.max((0, -1), keepdims=True),
        (CUBE,),
        lambda t, a: a.amax((0, -1), True),
    ),
    "min": Case(F.min, np.min, (A,), lambda t, a: a.min()),
    "min axis": Case(
        lambda a: F.min(a, 0, True), lambda a: a.min(0, keepdims=True), (CUBE,), lambda t, a: a.amin(0, True)
    ),
    "min axes": Case(lambda a: F.min(a, (-2, 2)), lambda a: a.min((-2, 2)), (CUBE,), lambda t, a: a.amin((-2, 2))),
    "linear": Case(F.linear, lambda x, W, b: x @ W + b, (X, A.T, B[0, :2]), lambda t, x, W, b: x @ W + b, 3),
    "linear no bias": Case(F.linear, lambda x, W: x @ W, (X, A.T), lambda t, x, W: x @ W, 3),
    "linear three axes": Case(
        F.linear, lambda x, W, b: x @ W + b, (CUBE, numbers(4, 2), B[0, :2]), lambda t, x, W, b: x @ W + b
    ),
    "linear vector": Case(F.linear, lambda x, W, b: x @ W + b, (A[0], A.T, B[0, :2]), lambda t, x, W, b: x @ W + b),
    "linear_simple": Case(F.linear_simple, lambda x, W, b: x @ W + b, (X, A.T, B[0, :2]), lambda t, x, W, b: x @ W + b),
    "sigmoid": Case(F.sigmoid, np_sigmoid, (A,), lambda t, a: t.sigmoid(a), 3),
    "sigmoid_simple": Case(F.sigmoid_simple, np_sigmoid, (A,), lambda t, a: t.sigmoid(a), 3),
    "relu": Case(F.relu, lambda a: np.maximum(a, 0), (A,), lambda t, a: t.relu(a)),
    "leaky_relu": Case(
        F.leaky_relu, lambda a: np.where(a > 0, a, 0.2 * a), (A,), lambda t, a: t.nn.functional.leaky_relu(a, 0.2)
    ),
    "softmax": Case(F.softmax, np_softmax, (A,), lambda t, a: t.softmax(a, 1), 3),
    "softmax axis": Case(
        lambda a: F.softmax(a, axis=-2), lambda a: np_softmax(a, -2), (CUBE,), lambda t, a: t.softmax(a, -2)
    ),
    "softmax axes": Case(lambda a: F.softmax(a, axis=(0, 2)), lambda a: np_softmax(a, (0, 2)), (CUBE,)),
    "softmax_simple": Case(F.softmax_simple, np_softmax, (A,), lambda t, a: t.softmax(a, 1), 3),
    "log_softmax": Case(F.log_softmax, lambda a: np.log(np_softmax(a)), (A,), lambda t, a: t.log_softmax(a, 1), 3),
    "log_softmax axis": Case(
        lambda a: F.log_softmax(a, axis=0), lambda a: np.log(np_softmax(a, 0)), (A,), lambda t, a: t.log_softmax(a, 0)
    ),
    "batch_norm": Case(
        f_batch_norm,
        np_batch_norm,
        (X, B[0], A[1]),
        lambda t, x, gamma, beta: t.nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.1, 2e-5),
    ),
    "batch_norm images": Case(
        f_batch_norm,
        np_batch_norm,
        (IMAGE, B[0, :2], A[1, :2]),
        lambda t, x, gamma, beta: t.nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.1, 2e-5),
    ),
    "dropout": Case(lambda a: F.dropout(a, 0.0), lambda a: a, (A,)),
    "embed_id": Case(
        lambda W: F.embed_id(np.array([[1, 0], [1, 1]]), W),
        lambda W: W[np.array([[1, 0], [1, 1]])],
        (A,),
        lambda t, W: t.nn.functional.embedding(t.tensor([[1, 0], [1, 1]]), W),
    ),
    "mean_squared_error": Case(
        F.mean_squared_error, lambda a, b: ((a - b) ** 2).sum() / 2, (A, B), lambda t, a, b: ((a - b) ** 2).sum() / 2, 3
    ),
    "mean_squared_error broadcast": Case(
        F.mean_squared_error, lambda a, b: ((a - b) ** 2).sum() / 2, (A, B[0]), lambda t, a, b: ((a - b) ** 2).sum() / 2
    ),
    "mean_squared_error_simple": Case(F.mean_squared_error_simple, lambda a, b: ((a - b) ** 2).sum() / 2, (A, B)),
    "softmax_cross_entropy": Case(
        lambda x: F.softmax_cross_entropy(x, LABELS),
        np_cross_entropy,
        (X,),
        lambda t, x: t.nn.functional.cross_entropy(x, t.tensor(LABELS)),
        3,
    ),
    "softmax_cross_entropy_simple": Case(
        lambda x: F.softmax_cross_entropy_simple(x, LABELS),
        np_cross_entropy,
        (X,),
        lambda t, x: t.nn.functional.cross_entropy(x, t.tensor(LABELS)),
    ),
    "sigmoid_cross_entropy": Case(
        F.sigmoid_cross_entropy,
        lambda x, t: np_binary_cross_entropy(np_sigmoid(x), t),
        (A, UNIT),
        lambda t, x, y: t.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="sum") / len(x),
        3,
    ),
    "binary_cross_entropy": Case(
        lambda p: F.binary_cross_entropy(p, BITS.astype(p.dtype)),
        lambda p: np_binary_cross_entropy(p, BITS),
        (UNIT,),
        lambda t, p: t.nn.functional.binary_cross_entropy(p, t.tensor(BITS), reduction="sum") / len(p),
        3,
    ),
}
PRODUCTS = {
    "matmul": ((2, 3), (3, 4)),
    "matmul matrix by vector": ((2, 3), (3,)),
    "matmul vector by matrix": ((3,), (3, 4)),
    "matmul vectors": ((3,), (3,)),
    "matmul batch by batch": ((5, 2, 3), (5, 3, 4)),
    "matmul batch by matrix": ((5, 2, 3), (3, 4)),
    "matmul matrix by batch": ((2, 3), (5, 3, 4)),
    "matmul batch by vector": ((5, 2, 3), (3,)),
    "matmul vector by batch": ((3,), (5, 3, 4)),
    "matmul broadcast batches": ((5, 1, 2, 3), (6, 3, 4)),
    "matmul columns by rows": ((2, 1), (1, 4)),
}
CASES |= {
    name: Case(F.matmul, lambda a, b: a @ b, (numbers(*a), numbers(*b, seed=1)), lambda t, a, b: a @ b, 3)
    for name, (a, b) in PRODUCTS.items()
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def gradients(case, inputs):
    """Outputs and gradients for a fixed cotangent, all as arrays."""
    xs = [Variable(x) for x in inputs]
    y = case.f(*xs)
    y.grad = Variable(np.asarray(np.cos(np.arange(y.size).reshape(y.shape)), dtype=y.dtype))
    y.backward()
    return y.data, [x.grad.data for x in xs]


# ----------------------------------------------------------------------------------------------------------------------
# What holds for every row of the table
# ----------------------------------------------------------------------------------------------------------------------


@every_case
def test_value(case):
    y = case.f(*case.inputs)
    assert type(y) is Variable
    assert y.shape == np.shape(case.numpy(*case.inputs))
    np.testing.assert_allclose(y.data, case.numpy(*case.inputs), rtol=1e-6, atol=1e-9)


@every_case
def test_gradients_against_finite_differences(case):
    check_grads(case.f, *case.inputs, order=case.order, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.torch], ids=[n for n, c in CASES.items() if c.torch])
def test_value_and_gradients_against_torch(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    tensors = [torch.tensor(x, requires_grad=True) for x in case.inputs]
    expected = case.torch(torch, *tensors)
    y, found = gradients(case, case.inputs)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-6, atol=1e-8)
    expected.backward(torch.tensor(np.cos(np.arange(y.size).reshape(y.shape))))
    for gx, tensor in zip(found, tensors, strict=True):
        np.testing.assert_allclose(gx, tensor.grad.numpy(), rtol=1e-6, atol=1e-8)


@every_case
def test_float32_in_gives_float32_out_and_float32_gradients(case):
    y, found = gradients(case, [x.astype(np.float32) for x in case.inputs])
    assert y.dtype == np.float32
    assert [gx.dtype for gx in found] == [np.float32] * len(found)
    np.testing.assert_allclose(y, case.numpy(*case.inputs), rtol=1e-4, atol=1e-5)


def strided(x):
    """The same numbers, every second element of a larger array, axes in the other order."""
    larger = np.full([2 * n for n in x.shape[::-1]], np.nan)
    view = larger[tuple(slice(None, None, 2) for _ in x.shape)].T
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("arranged", [strided, read_only])
@every_case
def test_the_arrangement_in_memory_does_not_matter(case, arranged):
    y, found = gradients(case, [arranged(x) for x in case.inputs])
    expected, expected_gradients = gradients(case, case.inputs)
    np.testing.assert_allclose(y, expected)
    for gx, expected_gx in zip(found, expected_gradients, strict=True):
        np.testing.assert_allclose(gx, expected_gx, atol=1e-12)


@every_case
def test_inputs_are_left_unchanged(case):
    inputs = [x.copy() for x in case.inputs]
    gradients(case, inputs)
    for x, before in zip(inputs, case.inputs, strict=True):
        np.testing.assert_array_equal(x, before)


@every_case
def test_nothing_is_recorded_under_no_grad(case):
    with no_grad():
        assert case.f(*map(Variable, case.inputs)).creator is None


# accuracy has no gradient; the convolution family has a file of its own
ELSEWHERE = {
    "accuracy", "batch_nrom", "im2col", "col2im", "im2col_array", "col2im_array", "conv2d", "conv2d_simple", "deconv2d",
    "pooling", "pooling_simple", "average_pooling",
}  # fmt: skip
WRAPPERS = {"as_operand", "as_variable"}


def test_every_public_operation_has_a_row():
    public = {
        name
        for name, value in vars(F).items()
        if not name.startswith("_") and getattr(value, "__annotations__", {}).get("return") == "Variable"
    }
    assert {"sin", "sum", "conv2d"} <= public
    rows = {name.split()[0] for name in CASES}
    assert public - WRAPPERS - ELSEWHERE - rows == set()


PRIMITIVES = [
    "Sin", "Cos", "Tanh", "Exp", "Log", "Reshape", "Transpose", "GetItem", "GetItemGrad", "Sum", "SumTo",
    "BroadcastTo", "MatMul", "Linear", "Sigmoid", "ReLU", "Softmax", "LogSoftmax", "LeakyReLU",
    "MeanSquaredError", "SoftmaxCrossEntropy", "BatchNorm", "Max", "Min", "Clip", "Add", "Mul", "Neg", "Sub",
    "Div", "Pow", "Conv2d", "Deconv2d", "Conv2DGradW", "Pooling", "Pooling2DGrad", "Pooling2DWithIndexes",
    "AveragePooling", "Im2col", "Col2im",
]  # fmt: skip


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_primitives_are_function_classes(name):
    assert issubclass(getattr(F, name), Function)


@pytest.mark.parametrize("name", ["Function", "Variable", "as_variable", "as_array"])
def test_f_offers_what_a_new_function_needs(name):
    assert getattr(F, name) is getattr(core, name)


# ----------------------------------------------------------------------------------------------------------------------
# NumPy scalars count as numbers
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.dropout(x, np.float64(0.5)),
        lambda x: F.leaky_relu(x, np.float64(0.1)),
        lambda x: F.clip(x, np.float64(-1), np.float64(1)),
        lambda x: F.pow(x * x, np.float64(1.5)),
        lambda x: F.batch_norm(
            x, np.ones(3, "f"), np.ones(3, "f"), np.ones(3, "f"), np.ones(3, "f"), np.float64(0.9), np.float64(1e-5)
        ),
    ],
    ids=["dropout", "leaky_relu", "clip", "pow", "batch_norm"],
)
def test_a_numpy_scalar_does_not_promote_float32(f):
    x = Variable(A.astype(np.float32))
    y = f(x)
    y.backward()
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("f", [F.sigmoid_cross_entropy, F.binary_cross_entropy])
def test_integer_targets_do_not_promote_a_float32_loss(f):
    assert f(UNIT.astype(np.float32), BITS.astype(int)).dtype == np.float32


@pytest.mark.parametrize("f", [F.sin, F.exp, F.average, F.sigmoid, F.softmax, F.log_softmax, F.leaky_relu, F.tanh])
def test_integer_arrays_give_floating_results(f):
    x = np.arange(6).reshape(2, 3)
    y = f(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.data, f(x.astype(float)).data)


# ----------------------------------------------------------------------------------------------------------------------
# Numerical safety
# ----------------------------------------------------------------------------------------------------------------------

EXTREME = np.array([[1e4, -1e4, 0.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (F.sigmoid, [[1, 0, 0.5]]),
        (F.softmax, [[1, 0, 0]]),
        (F.log_softmax, [[0, -2e4, -1e4]]),
        (F.tanh, [[1, -1, 0]]),
        (F.relu, [[1e4, 0, 0]]),
    ],
)
def test_activations_at_ten_thousand(f, expected, dtype):
    x = Variable(EXTREME.astype(dtype))
    y = f(x)
    y.backward()
    np.testing.assert_allclose(y.data, expected)
    assert np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_cross_entropy_at_ten_thousand(dtype):
    x = Variable(np.array([1e4, -1e4, 1e4, -1e4], dtype))
    y = F.sigmoid_cross_entropy(x, np.array([1, 0, 0, 1], dtype))
    y.backward()
    np.testing.assert_allclose(y.data, 5e3)
    np.testing.assert_allclose(x.grad.data, [0, 0, 0.25, -0.25])


def test_softmax_cross_entropy_at_ten_thousand():
    x = Variable(EXTREME)
    y = F.softmax_cross_entropy(x, np.array([1]))
    y.backward()
    np.testing.assert_allclose(y.data, 2e4)
    np.testing.assert_allclose(x.grad.data, [[1, -1, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_is_finite_at_zero_and_one(dtype):
    p = Variable(np.array([0, 0, 1, 1], dtype))
    y = F.binary_cross_entropy(p, np.array([0, 1, 0, 1], dtype))
    y.backward()
    assert np.isfinite(y.data)
    assert np.isfinite(p.grad.data).all()


@pytest.mark.parametrize("p", [0.9995, 0.99999, 1.0])
def test_binary_cross_entropy_goes_on_learning_near_one(p):
    x = Variable(np.array([p, 1 - p]))
    F.binary_cross_entropy(x, np.array([0.0, 1.0])).backward()
    assert x.grad.data[0] > 100
    assert x.grad.data[1] < -100


def test_softmax_cross_entropy_simple_survives_a_probability_of_zero():
    with np.errstate(under="ignore"):
        y = F.softmax_cross_entropy_simple(np.array([[500.0, -500.0]]), np.array([1]))
    assert np.isfinite(y.data)


# ----------------------------------------------------------------------------------------------------------------------
# Elementwise, shapes, reductions
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "gradient"), [(F.relu, 0.0), (lambda x: F.leaky_relu(x, 0.3), 0.3)])
def test_the_gradient_at_zero_is_that_of_the_left(f, gradient):
    x = Variable(np.array(0.0))
    f(x).backward()
    assert float(x.grad) == gradient


def test_clip_keeps_the_gradient_at_its_ends():
    x = Variable(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    F.clip(x, -1, 1).backward()
    np.testing.assert_array_equal(x.grad.data, [0, 1, 1, 1, 0])


@pytest.mark.parametrize("f", [F.max, F.min])
@pytest.mark.parametrize("axis", [None, 1, -1, (0, 1), (-1, -2), [0, 1]])
def test_ties_share_the_gradient_equally(f, axis):
    x = Variable(np.zeros((2, 4), np.float32))
    f(x, axis=axis).backward()
    share = 1 / 4 if axis in (1, -1) else 1 / 8
    np.testing.assert_array_equal(x.grad.data, np.full((2, 4), share, np.float32))


def test_two_of_three_tie():
    x = Variable(np.array([[3.0, 1.0, 3.0], [0.0, 5.0, 1.0]]))
    F.max(x, axis=1).backward()
    np.testing.assert_array_equal(x.grad.data, [[0.5, 0, 0.5], [0, 1, 0]])


def test_an_element_taken_twice_gets_both_gradients():
    x = Variable(np.array([1.0, 2.0, 3.0]))
    x[np.array([0, 0, 2])].backward()
    np.testing.assert_array_equal(x.grad.data, [2, 0, 1])


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(1),
        slice(1, None),
        slice(None, None, -1),
        None,
        ...,
        (),
        (0, slice(1)),
        [0, 0, 1],
        (ROWS[:2] // 2, [1, 1]),
    ],
    ids=repr,
)
def test_get_item_takes_what_numpy_takes(index):
    x = Variable(np.arange(6.0).reshape(2, 3))
    y = F.get_item(x, index)
    np.testing.assert_array_equal(y.data, x.data[index])
    y.backward()
    counts = np.zeros((2, 3))
    np.add.at(counts, index, 1)
    np.testing.assert_array_equal(x.grad.data, counts)


def test_an_index_may_be_a_variable():
    x, index = Variable(np.arange(6.0).reshape(2, 3)), Variable(np.array([1, 1]))
    np.testing.assert_array_equal(x[index].data, x.data[[1, 1]])
    np.testing.assert_array_equal(x[:, index].data, x.data[:, [1, 1]])


@pytest.mark.parametrize("shape", [6, np.int64(6), -1, (np.int64(2), np.int32(3)), [3, 2], (2, 3)], ids=repr)
def test_reshape_takes_any_integer(shape):
    x = Variable(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(F.reshape(x, shape).data, x.data.reshape(shape))


def test_an_average_over_nothing_is_nan():
    assert np.isnan(F.average(np.zeros((0, 3)), axis=0).data).all()


# ----------------------------------------------------------------------------------------------------------------------
# Batch norm
# ----------------------------------------------------------------------------------------------------------------------

IMAGES = numbers(3, 2, 2, 3, low=-1, high=5)
BATCHES = [(X, (0,)), (IMAGES, (0, 2, 3))]


@pytest.mark.parametrize(("x", "axes"), BATCHES, ids=["rows", "images"])
def test_batch_norm_moves_its_running_statistics_in_place(x, axes):
    C, count = x.shape[1], x.size // x.shape[1]
    mean, var = np.full(C, 10.0), np.full(C, 20.0)
    F.batch_norm(x, np.ones(C), np.zeros(C), mean, var, decay=0.8)
    np.testing.assert_allclose(mean, 0.8 * 10 + 0.2 * x.mean(axis=axes))
    np.testing.assert_allclose(var, 0.8 * 20 + 0.2 * x.var(axis=axes) * count / (count - 1))  # unbiased


def test_batch_norm_of_one_row_keeps_finite_statistics():
    mean, var = np.zeros(3), np.ones(3)
    y = F.batch_norm(X[:1], np.ones(3), np.zeros(3), mean, var)
    np.testing.assert_array_equal(y.data, np.zeros((1, 3)))
    assert np.isfinite(var).all()


@pytest.mark.parametrize(("x", "axes"), BATCHES, ids=["rows", "images"])
def test_batch_norm_in_test_mode_uses_the_running_statistics_and_leaves_them(x, axes):
    C = x.shape[1]
    column = (C,) + (1,) * (x.ndim - 2)
    mean, var = np.arange(1.0, C + 1), np.arange(2.0, C + 2)
    gamma, beta = np.linspace(1, 2, C), np.linspace(-1, 1, C)
    with test_mode():
        y = F.batch_norm(x, gamma, beta, mean, var)
    expected = (x - mean.reshape(column)) / np.sqrt(var.reshape(column) + 2e-5)
    np.testing.assert_allclose(y.data, gamma.reshape(column) * expected + beta.reshape(column))
    np.testing.assert_array_equal(mean, np.arange(1.0, C + 1))
    np.testing.assert_array_equal(var, np.arange(2.0, C + 2))


@pytest.mark.parametrize(("x", "axes"), BATCHES, ids=["rows", "images"])
def test_batch_norm_in_test_mode_has_gradients(x, axes):
    C = x.shape[1]
    with test_mode():
        check_grads(lambda *xs: F.batch_norm(*xs, np.ones(C), np.full(C, 2.0)), x, np.full(C, 1.5), np.ones(C), order=3)


def test_the_mode_of_the_forward_pass_holds_in_backward():
    x = Variable(X)
    with test_mode():
        y = F.batch_norm(x, np.ones(3), np.zeros(3), np.zeros(3), np.full(3, 4.0), eps=0.0)
    y.backward()
    np.testing.assert_allclose(x.grad.data, np.full(X.shape, 0.5))


def test_training_on_does_not_change_a_graph_built_in_test_mode():
    x, mean, var = Variable(X), np.zeros(3), np.full(3, 4.0)
    with test_mode():
        y = F.batch_norm(x, np.ones(3), np.zeros(3), mean, var, eps=0.0)
    F.batch_norm(10 * X, np.ones(3), np.zeros(3), mean, var)
    y.backward()
    np.testing.assert_allclose(x.grad.data, np.full(X.shape, 0.5))


def test_running_statistics_may_be_variables_and_keep_their_dtype():
    mean, var = Variable(np.zeros(3, np.float32)), Variable(np.ones(3, np.float32))
    held = mean.data
    F.batch_norm(X, np.ones(3), np.zeros(3), mean, var)
    assert mean.data is held
    np.testing.assert_allclose(held, 0.1 * X.mean(axis=0), rtol=1e-6)
    assert var.dtype == np.float32


def test_an_integer_batch_is_normalised_with_the_whole_running_mean():
    x = np.arange(6).reshape(2, 3)
    with test_mode():
        y = F.batch_norm(x, np.ones(3), np.zeros(3), np.full(3, 0.5), np.full(3, 0.25), eps=0.0)
    np.testing.assert_allclose(y.data, (x - 0.5) / 0.5)


def test_batch_norm_answers_to_the_name_old_programs_spell():
    assert F.batch_nrom is F.batch_norm


# ----------------------------------------------------------------------------------------------------------------------
# Dropout
# ----------------------------------------------------------------------------------------------------------------------


def test_dropout_keeps_where_numpys_next_draw_is_above_the_ratio():
    np.random.seed(0)
    expected = np.where(np.random.rand(4, 3) > 0.4, X / 0.6, 0)
    np.random.seed(0)
    np.testing.assert_allclose(F.dropout(X, 0.4).data, expected)


def test_dropout_drops_the_gradient_where_it_dropped_the_value():
    x = Variable(np.ones((10, 10)))
    y = F.dropout(x, 0.5)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
    assert set(np.unique(y.data)) == {0.0, 2.0}


def test_dropout_keeps_the_mean():
    np.random.seed(0)
    assert abs(float(F.dropout(np.ones(100_000), 0.3).sum()) / 100_000 - 1) < 0.01


def test_dropout_of_everything_is_zero_and_of_nothing_is_x():
    x = Variable(X)
    y = F.dropout(x, 1.0)
    y.backward()
    np.testing.assert_array_equal(y.data, np.zeros_like(X))
    np.testing.assert_array_equal(x.grad.data, np.zeros_like(X))
    np.testing.assert_array_equal(F.dropout(X, 0.0).data, X)


def test_dropout_in_test_mode_keeps_everything_and_draws_nothing():
    before = np.random.get_state()[1].copy()
    with test_mode():
        np.testing.assert_array_equal(F.dropout(X, 0.5).data, X)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


# ----------------------------------------------------------------------------------------------------------------------
# Embedding, losses, accuracy
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[0, 1, 1], (0, 1, 1), np.array([0, 1, 1]), Variable(np.array([0, 1, 1], np.uint8))])
def test_embed_id_takes_rows_and_adds_up_their_gradients(ids):
    W = Variable(A)
    y = F.embed_id(ids, W)
    np.testing.assert_array_equal(y.data, A[[0, 1, 1]])
    y.backward()
    np.testing.assert_array_equal(W.grad.data, [[1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64])
def test_labels_may_have_any_integer_dtype(dtype):
    assert F.softmax_cross_entropy(X, LABELS.astype(dtype)).data == F.softmax_cross_entropy(X, LABELS).data
    assert F.softmax_cross_entropy_simple(X, LABELS.astype(dtype)).shape == ()


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_labels_may_stand_in_a_column(shape):
    x = Variable(X)
    y = F.softmax_cross_entropy(x, LABELS.reshape(shape))
    y.backward()
    np.testing.assert_allclose(y.data, np_cross_entropy(X))
    np.testing.assert_allclose(x.grad.data, (np_softmax(X) - np.eye(3)[LABELS]) / 4)


def test_labels_as_a_variable_receive_no_gradient():
    x, t = Variable(X), Variable(LABELS)
    F.softmax_cross_entropy(x, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("f", [F.sigmoid_cross_entropy, F.binary_cross_entropy])
def test_targets_of_another_rank_are_reshaped(f):
    x, t = UNIT[0].reshape(3, 1), BITS[0]
    np.testing.assert_allclose(f(x, t).data, f(x, t.reshape(3, 1)).data)
    np.testing.assert_allclose(f(UNIT[0], t.reshape(3, 1)).data, f(UNIT[0], t).data)


@pytest.mark.parametrize(
    "t", [BITS[0], BITS[0].astype(int), BITS[0].reshape(3, 1).astype(int)], ids=["rank", "both", "dtype"]
)
def test_targets_given_as_an_array_stay_constants(t):
    y = F.sigmoid_cross_entropy(Variable(UNIT[0].reshape(3, 1)), t)
    assert [x.requires_grad for x in y.creator.inputs] == [True, False]


def test_binary_cross_entropy_of_a_sigmoid_is_sigmoid_cross_entropy():
    np.testing.assert_allclose(F.binary_cross_entropy(F.sigmoid(A), BITS).data, F.sigmoid_cross_entropy(A, BITS).data)


def test_mean_squared_error_divides_by_the_length_of_the_first_axis():
    assert float(F.mean_squared_error(np.full((2, 5), 3.0), np.full((2, 5), 1.0))) == 20.0
    assert float(F.mean_squared_error(np.full((2, 5), 3.0), 1.0)) == 20.0


def test_mean_squared_error_of_many_small_integers():
    x = np.full(300, 3, np.uint8)
    assert float(F.mean_squared_error(x, np.ones(300, np.uint8))) == 4.0


@pytest.mark.parametrize(("t", "expected"), [([1, 1], 0.5), ([1, 0], 1.0), ([[0], [1]], 0.0)])
def test_accuracy(t, expected):
    y = F.accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array(t))
    assert type(y) is Variable
    assert float(y) == expected


def test_accuracy_takes_variables_and_records_nothing():
    assert F.accuracy(Variable(X), Variable(LABELS)).creator is None


# ----------------------------------------------------------------------------------------------------------------------
# Bad inputs
# ----------------------------------------------------------------------------------------------------------------------

ONE_ARGUMENT = [
    "sin", "cos", "tanh", "exp", "log", "neg", "flatten", "sum", "max", "min", "average", "sigmoid",
    "sigmoid_simple", "relu", "leaky_relu", "softmax", "softmax_simple", "log_softmax", "dropout", "transpose",
]  # fmt: skip


@pytest.mark.parametrize("bad", [[1.0], None, "text"], ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_an_operand_that_is_no_array_is_refused_by_name(name, bad):
    # The _simple ones may name the operation they are composed of.
    with pytest.raises(TypeError, match=rf"^({name}|{name.removesuffix('_simple')}|exp): "):
        getattr(F, name)(bad)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda: F.softmax_cross_entropy([[1.0, 2.0]], np.array([0])), "softmax_cross_entropy"),
        (lambda: F.mean_squared_error([1.0], [2.0]), "mean_squared_error"),
        (lambda: F.sigmoid_cross_entropy([1.0], [1.0]), "sigmoid_cross_entropy"),
        (lambda: F.binary_cross_entropy([1.0], [1.0]), "binary_cross_entropy"),
        (lambda: F.matmul(A, [1.0]), "matmul"),
        (lambda: F.linear(A, [1.0]), "linear"),
        (lambda: F.linear(A, None), "linear"),
        (lambda: F.batch_norm([1.0], np.ones(1), np.ones(1), np.ones(1), np.ones(1)), "batch_norm"),
        (lambda: F.reshape([1.0], (1, 1)), "reshape"),
        (lambda: F.get_item([1.0], 0), "get_item"),
        (lambda: F.broadcast_to([1.0], (2, 1)), "broadcast_to"),
        (lambda: F.sum_to([1.0], (1,)), "sum_to"),
        (lambda: F.expand_dims([1.0], 0), "expand_dims"),
        (lambda: F.clip([1.0], 0, 1), "clip"),
        (lambda: F.accuracy([[1.0, 2.0]], [0]), "accuracy"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_operands_that_are_no_arrays_are_refused_by_name(f, name):
    with pytest.raises(TypeError, match=f"^{name}: "):
        f()


ONES = np.ones(3)
BAD = [
    (
        lambda: F.softmax_cross_entropy(X, np.array([0, 1, 2, 3])),
        ValueError,
        r"softmax_cross_entropy: labels must lie in 0\.\.2, got 3 at index 3",
    ),
    (
        lambda: F.softmax_cross_entropy(X, np.array([0, -1, 2, 1])),
        ValueError,
        r"softmax_cross_entropy: labels must lie in 0\.\.2, got -1 at index 1",
    ),
    (
        lambda: F.softmax_cross_entropy_simple(X, np.array([0, -1, 2, 1])),
        ValueError,
        r"softmax_cross_entropy.*: labels must lie in 0\.\.2, got -1 at index 1",
    ),
    (
        lambda: F.softmax_cross_entropy(X, LABELS.astype(float)),
        TypeError,
        "softmax_cross_entropy: labels must be integers, got float64",
    ),
    (
        lambda: F.softmax_cross_entropy(X, LABELS > 0),
        TypeError,
        "softmax_cross_entropy: labels must be integers, got bool",
    ),
    (
        lambda: F.softmax_cross_entropy(X, LABELS[:3]),
        ValueError,
        r"softmax_cross_entropy: expected x \(N, C\) and t \(N,\), got x \(4, 3\) and t \(3,\)",
    ),
    (lambda: F.softmax_cross_entropy(X, np.eye(3, dtype=int)[LABELS]), ValueError, r"got x \(4, 3\) and t \(4, 3\)"),
    (lambda: F.softmax_cross_entropy(X[0], LABELS[:1]), ValueError, r"softmax_cross_entropy: expected x \(N, C\)"),
    (lambda: F.softmax_cross_entropy(X[:0], LABELS[:0]), ValueError, r"softmax_cross_entropy: x \(0, 3\) is empty"),
    (
        lambda: F.sigmoid_cross_entropy(A, BITS[0]),
        ValueError,
        r"sigmoid_cross_entropy: expected x and t of one shape, got x \(2, 3\) and t \(3,\)",
    ),
    (lambda: F.sigmoid_cross_entropy(A[:0], BITS[:0]), ValueError, "sigmoid_cross_entropy: expected at least one row"),
    (
        lambda: F.binary_cross_entropy(A, BITS.T),
        ValueError,
        r"binary_cross_entropy: expected x and t of one shape, got x \(2, 3\) and t \(3, 2\)",
    ),
    (lambda: F.binary_cross_entropy(A[:0], BITS[:0]), ValueError, "binary_cross_entropy: expected at least one row"),
    (
        lambda: F.mean_squared_error(X[:, :1], X[:, 0]),
        ValueError,
        r"mean_squared_error: shapes \(4, 1\) and \(4,\) would broadcast to \(4, 4\)",
    ),
    (
        lambda: F.mean_squared_error(X, A),
        ValueError,
        r"mean_squared_error: shapes \(4, 3\) and \(2, 3\) cannot broadcast",
    ),
    (lambda: F.mean_squared_error(X[:0], X[:0]), ValueError, "mean_squared_error: expected at least one row"),
    (lambda: F.mean_squared_error(1.0, 2.0), ValueError, "mean_squared_error: expected at least one row"),
    (
        lambda: F.accuracy(X, LABELS[:2]),
        ValueError,
        r"accuracy: expected scores y \(N, C\) and labels t \(N,\), N > 0, got y \(4, 3\) and t \(2,\)",
    ),
    (lambda: F.accuracy(X[:0], LABELS[:0]), ValueError, "accuracy: expected scores"),
    (lambda: F.embed_id(np.array([0.0, 1.0]), A), TypeError, "embed_id: ids must be integers, got float64"),
    (lambda: F.embed_id(np.array([0, 2]), A), IndexError, "2"),
    (lambda: F.embed_id(np.array([0, -1]), A), IndexError, "-1"),
    (lambda: F.linear(X, A), ValueError, r"linear: W takes 2 features but x has 3 \(x \(4, 3\), W \(2, 3\)\)"),
    (lambda: F.linear(X, ONES), ValueError, r"linear: W must have shape \(in, out\), got \(3,\)"),
    (lambda: F.linear(X, A.T, ONES), ValueError, r"linear: b must have shape \(2,\), one for each output, got \(3,\)"),
    (lambda: F.dropout(X, 1.5), ValueError, r"dropout: dropout_ratio must lie in 0\.\.1, got 1\.5"),
    (lambda: F.dropout(X, -0.1), ValueError, r"dropout: dropout_ratio must lie in 0\.\.1, got -0\.1"),
    (
        lambda: F.batch_norm(X, np.ones(2), ONES, ONES, ONES),
        ValueError,
        r"batch_norm: gamma must have shape \(3,\).*got \(2,\)",
    ),
    (lambda: F.batch_norm(X, ONES, ONES, ONES, np.ones(2)), ValueError, r"batch_norm: var must have shape \(3,\)"),
    (
        lambda: F.batch_norm(CUBE, ONES, ONES, ONES, ONES),
        ValueError,
        r"batch_norm: x must have shape \(N, C\) or \(N, C, H, W\), got \(2, 3, 4\)",
    ),
    (lambda: F.batch_norm(X[:0], ONES, ONES, ONES, ONES), ValueError, r"batch_norm: x \(0, 3\) is empty"),
    (lambda: F.expand_dims(A, 3), ValueError, "expand_dims: axis 3 is out of bounds"),
    (lambda: F.expand_dims(A, -4), ValueError, "expand_dims: axis -4 is out of bounds"),
    (lambda: F.flatten(np.array(1.0)), ValueError, "flatten: expected at least one axis"),
    (lambda: F.softmax(ONES), ValueError, "^softmax: axis 1"),
    (lambda: F.log_softmax(A, axis=2), ValueError, "^log_softmax: axis 2"),
    (lambda: F.average(A, axis=2), ValueError, "^(average|sum): axis 2"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message[:45] for _, _, message in BAD])
def test_bad_inputs_are_errors_that_say_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_batch_leaves_the_running_statistics_alone():
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="batch_norm"):
        F.batch_norm(X, ONES, np.ones(2), mean, var)
    np.testing.assert_array_equal(mean, np.zeros(3))


def test_clip_without_a_bound():
    x = Variable(np.array([-2.0, 0.5, 2.0]))
    F.clip(x, None, 1.0).backward()
    np.testing.assert_array_equal(x.grad.data, [1, 1, 0])
    with pytest.raises(TypeError, match="clip: x_min and x_max receive no gradient"):
        F.clip(x, Variable(np.array(0.0)), 1.0)


def test_probabilities_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"binary_cross_entropy: p must lie in 0\.\.1, got .*sigmoid_cross_entropy"):
        F.binary_cross_entropy(np.array([1.5]), np.array([1.0]))


def test_one_label_may_be_a_number():
    assert float(F.softmax_cross_entropy(np.zeros((1, 4)), 3)) == pytest.approx(np.log(4))


def test_probabilities_may_stray_by_rounding():
    p = Variable(np.array([1.0000001, 0.5], np.float32))
    y = F.binary_cross_entropy(p, np.array([1, 0]))
    y.backward()
    assert np.isfinite(y.data)
    assert np.isfinite(p.grad.data).all()


def test_clip_of_integers_without_a_bound_stays_integer():
    np.testing.assert_array_equal(F.clip(np.array([1, 5]), None, 3).data, np.array([1, 3]), strict=True)
