"""F: what is particular to a function. What holds for all of them is in the table: operations/, test_operations.py."""

import math

import numpy as np
import pytest
from operations.activation import softmax
from operations.loss import cross_entropy
from operations.row import numbers

from dezero import core
from dezero import functions as F
from dezero.core import Function, Variable, test_mode
from dezero.testing import check_grads

LABELS = np.array([2, 0, 1, 2])
ROWS, COLUMNS = np.array([0, 2, 0]), np.array([1, 1, 3])
BITS = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
A, UNIT = numbers(2, 3), numbers(2, 3, low=0.1, high=0.9)
X, CUBE = numbers(4, 3), numbers(2, 3, 4)

PRIMITIVES = [
    "Sin", "Cos", "Tanh", "Exp", "Log", "Reshape", "Transpose", "GetItem", "GetItemGrad", "Sum", "SumTo",
    "BroadcastTo", "MatMul", "Linear", "Sigmoid", "ReLU", "Softmax", "LogSoftmax", "LeakyReLU",
    "MeanSquaredError", "SoftmaxCrossEntropy", "BatchNorm", "Max", "Min", "Clip", "Add", "Mul", "Neg", "Sub",
    "Div", "Pow", "Conv2d", "Conv2dReLU", "Deconv2d", "Conv2DGradW", "Pooling", "Pooling2DGrad", "Pooling2DWithIndexes",
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
        (F.gelu, [[1e4, 0, 0]]),
        (lambda x: F.gelu(x, approximate="tanh"), [[1e4, 0, 0]]),
        (F.silu, [[1e4, 0, 0]]),
        (F.elu, [[1e4, -1, 0]]),
        (F.softplus, [[1e4, 0, np.log(2)]]),
        (F.hard_swish, [[1e4, 0, 0]]),
        (lambda x: F.logsumexp(x, axis=1), [1e4]),
    ],
)
def test_activations_at_ten_thousand(f, expected, dtype):
    x = Variable(EXTREME.astype(dtype))
    y = f(x)
    y.backward()
    np.testing.assert_allclose(y.data, expected, atol=1e-30)
    assert np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_cross_entropy_at_ten_thousand(dtype):
    x = Variable(np.array([1e4, -1e4, 1e4, -1e4], dtype))
    y = F.sigmoid_cross_entropy(x, np.array([1, 0, 0, 1], dtype))
    y.backward()
    np.testing.assert_allclose(y.data, 5e3)
    np.testing.assert_allclose(x.grad.data, [0, 0, 0.25, -0.25])


@pytest.mark.parametrize("f", [F.softmax_cross_entropy, F.cross_entropy])
def test_cross_entropy_at_ten_thousand(f):
    x = Variable(EXTREME)
    y = f(x, np.array([1]))
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


@pytest.mark.parametrize("f", [F.maximum, F.minimum])
def test_two_arrays_that_tie_share_the_gradient_equally(f):
    x0, x1 = Variable(np.array([1.0, 2.0], np.float32)), Variable(np.array([1.0, 2.0], np.float32))
    f(x0, x1).backward()
    np.testing.assert_array_equal([x0.grad.data, x1.grad.data], np.full((2, 2), 0.5, np.float32))


@pytest.mark.parametrize("f", [F.abs, F.sign, F.square, F.std, F.norm, lambda x: F.norm(x, 1), lambda x: F.norm(x, 3)])
def test_the_gradient_at_zero_is_zero(f):
    x = Variable(np.zeros(3))
    f(x).backward()
    np.testing.assert_array_equal(x.grad.data, np.zeros(3))


@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 4e-16), (np.float32, 2e-7)])
def test_erf_is_right_to_the_last_digits(dtype, digits):
    x = np.concatenate([np.linspace(-7, 7, 5001), np.logspace(-300 if dtype == np.float64 else -30, 0, 301)])
    x = x.astype(dtype)
    np.testing.assert_allclose(F.erf(x).data, np.vectorize(math.erf)(x), rtol=digits)


def test_the_logarithm_of_a_sum_of_nothing_is_minus_infinity():
    x = Variable(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]))
    y = F.logsumexp(x, axis=1)
    np.testing.assert_array_equal(y.data, [-np.inf, 0])
    y[1].backward()
    np.testing.assert_array_equal(x.grad.data[1], [0, 1])


def test_the_logarithm_of_a_sum_with_infinity_is_infinity():
    assert float(F.logsumexp(np.array([np.inf, 0.0]))) == np.inf


def test_a_part_of_a_split_that_nobody_uses_has_zero_gradient():
    x = Variable(np.arange(6.0))
    _, middle, _ = F.split(x, 3)
    (middle * 2).backward()
    np.testing.assert_array_equal(x.grad.data, [0, 0, 2, 2, 0, 0])


@pytest.mark.parametrize("f", [F.argmax, F.argmin])
def test_positions_are_plain_integers(f):
    positions = f(Variable(A), axis=1)
    assert type(positions) is np.ndarray
    assert positions.dtype.kind == "i"
    assert isinstance(f(Variable(A)), (int, np.integer))


@pytest.mark.parametrize(
    ("name", "other"),
    [("concat", "concatenate"), ("power", "pow"), ("mean", "average"), ("batch_norm", "batch_nrom")],
)
def test_some_functions_answer_to_two_names(name, other):
    assert getattr(F, name) is getattr(F, other)


def test_the_operators_of_abs_and_floor_division():
    v = Variable(np.array([-3.5, 2.0]))
    np.testing.assert_array_equal(abs(v).data, [3.5, 2.0])
    np.testing.assert_array_equal((v // 2).data, [-2.0, 1.0])
    np.testing.assert_array_equal((7 // v).data, [-2.0, 3.0])
    np.testing.assert_array_equal((np.array([7.0, 7.0]) // v).data, [-2.0, 3.0])


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
    np.testing.assert_allclose(y.data, cross_entropy(X, LABELS))
    np.testing.assert_allclose(x.grad.data, (softmax(X) - np.eye(3)[LABELS]) / 4)


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


def test_one_hot_makes_constants_of_the_dtype_asked_for():
    y = F.one_hot(Variable(LABELS), dtype=np.float64)
    np.testing.assert_array_equal(y.data, np.eye(3)[LABELS], strict=True)
    assert (F.one_hot(LABELS).dtype, y.creator) == (np.float32, None)


def test_a_query_that_may_look_at_no_key_gets_zeros_and_no_gradient():
    q, k, v = (Variable(numbers(2, 3, seed=i)) for i in range(3))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=np.array([[True, True], [False, False]]))
    np.testing.assert_array_equal(y.data[1], np.zeros(3))
    y.backward()
    np.testing.assert_array_equal(q.grad.data[1], np.zeros(3))
    assert np.isfinite(k.grad.data).all()


def test_minus_infinity_in_a_mask_of_floats_shuts_out_a_key():
    q, k, v = numbers(2, 3), numbers(2, 3, seed=1), numbers(2, 3, seed=2)
    mask = np.array([[True, False], [False, False]])
    floats = np.where(mask, 0.0, -np.inf)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=floats).data
    np.testing.assert_array_equal(y, F.scaled_dot_product_attention(q, k, v, attn_mask=mask).data)


def test_attention_drops_out_only_while_training():
    q, k, v = (numbers(4, 3, seed=i) for i in range(3))
    plain = F.scaled_dot_product_attention(q, k, v).data
    with test_mode():
        np.testing.assert_array_equal(F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).data, plain)
    np.random.seed(0)
    assert not np.allclose(F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).data, plain)
    np.testing.assert_array_equal(F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).data, np.zeros((4, 3)))


def test_kl_divergence_counts_0_log_0_as_0():
    x, t = Variable(np.log(np.array([[0.25, 0.75]]))), np.array([[0.0, 1.0]])
    y = F.kl_divergence(x, t)
    np.testing.assert_allclose(y.data, -np.log(0.75))
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [[0, -1]])


def test_a_score_of_minus_infinity_costs_nothing_where_it_is_not_the_label():
    x = Variable(np.array([[0.0, -np.inf, 0.0]]))
    y = F.cross_entropy(x, np.array([0]))
    y.backward()
    np.testing.assert_allclose(y.data, np.log(2))
    np.testing.assert_allclose(x.grad.data, [[-0.5, 0, 0.5]])


def test_ignored_labels_receive_no_gradient_and_do_not_count():
    x = Variable(X)
    y = F.cross_entropy(x, np.array([2, -100, 1, -100]))
    y.backward()
    np.testing.assert_allclose(y.data, F.cross_entropy(X[[0, 2]], np.array([2, 1])).data)
    np.testing.assert_array_equal(x.grad.data[[1, 3]], np.zeros((2, 3)))


@pytest.mark.parametrize("f", [lambda x: F.layer_norm(x, 3), lambda x: F.group_norm(x, 3), F.silu])
def test_what_has_no_running_statistics_does_the_same_in_test_mode(f):
    with test_mode():
        y = f(X)
    np.testing.assert_array_equal(y.data, f(X).data)


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
# Bad inputs, more than the table says
# ----------------------------------------------------------------------------------------------------------------------


def test_a_refused_batch_leaves_the_running_statistics_alone():
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="batch_norm"):
        F.batch_norm(X, np.ones(3), np.ones(2), mean, var)
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


# ----------------------------------------------------------------------------------------------------------------------
# Numbers that are large, small, or of few bits
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e3, 1e5, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_softmax_is_as_precise_for_large_scores_as_for_small(size, dtype):
    x = Variable(np.array([[size, -size, size]], dtype))
    losses = [F.cross_entropy(x, np.array([0])), F.softmax_cross_entropy(x, np.array([0])), -F.log_softmax(x)[0, 0]]
    for loss in losses:
        x.cleargrad()
        loss.backward()
        np.testing.assert_allclose(loss.data, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(x.grad.data, [[-0.5, 0, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logsumexp_has_the_gradient_of_softmax_for_large_numbers_too(dtype):
    x = Variable(np.array([1e30, -1e30, 1e30], dtype))
    F.logsumexp(x).backward()
    np.testing.assert_array_equal(x.grad.data, np.array([0.5, 0, 0.5], dtype))


@pytest.mark.parametrize(("dtype", "x"), [(np.float32, -80.0), (np.float64, -700.0)])
def test_the_tail_of_a_sigmoid_is_not_cut_off(dtype, x):
    x = Variable(np.array(x, dtype))
    y = F.sigmoid(x)
    F.log(y).backward()
    np.testing.assert_allclose(y.data, np.exp(np.float64(x.data)), rtol=1e-5)
    np.testing.assert_allclose(x.grad.data, 1.0)
    np.testing.assert_allclose(F.silu(x).data, x.data * np.exp(np.float64(x.data)), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: F.softmax(np.array([[-128, 127]], np.int8)), [[0, 1]]),
        (lambda: F.softplus(np.array([100], np.int8), 2), [100]),
        (lambda: F.hard_swish(np.array([127], np.int8)), [127]),
        (lambda: F.prelu(np.array([-100], np.int8), 2), [-200]),
        (lambda: F.l1_loss(np.array([0], np.uint8), np.array([1], np.uint8)), 1),
        (lambda: F.huber_loss(np.array([0], np.uint8), np.array([200], np.uint8)), 199.5),
    ],
)
def test_small_integers_do_not_overflow(call, expected):
    y = call()
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.data, expected, atol=1e-50)


@pytest.mark.parametrize("n", [3, 41, 49, 98, 103, 1000])
def test_the_mean_of_ones_is_one(n):
    assert float(F.mean(np.ones(n))) == 1.0
    assert float(F.var(np.full(n, 3.0))) == 0.0
    np.testing.assert_array_equal(F.layer_norm(np.full((1, n), 123456.0), n).data, np.zeros((1, n)))


def test_a_norm_below_one_has_finite_gradients_at_zero():
    x = Variable(np.array([0.0, 1.0, -2.0]))
    F.norm(x, 0.5).backward(create_graph=True)
    gx = x.grad
    x.cleargrad()
    gx.sum().backward()
    assert np.isfinite(gx.data).all()
    assert gx.data[0] == 0.0
    assert np.isfinite(x.grad.data).all()


def test_a_lone_number_of_numpys_keeps_its_dtype():
    assert F.sqrt(np.float32(2)).dtype == np.float32
    assert (Variable(np.ones(3, np.float32)) * np.float64(2)).dtype == np.float32


def test_a_mask_does_not_promote_the_scores():
    x = np.ones((2, 3), np.float32)
    y = F.scaled_dot_product_attention(x, x, x, np.where(np.eye(2) > 0, 0.0, -np.inf))
    assert y.dtype == np.float32


W3 = Variable(np.ones(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.pad(A, 1, constant_values=Variable(np.ones(()))),
            TypeError,
            "pad: constant_values receives",
        ),
        (lambda: F.cross_entropy(X, LABELS, weight=W3), TypeError, "cross_entropy: weight receives no gradient"),
        (lambda: F.softplus(A, W3), TypeError, "softplus: beta must be a number, got Variable"),
        (lambda: F.leaky_relu(A, None), TypeError, "leaky_relu: slope must be a number, got NoneType"),
        (lambda: F.huber_loss(A, A, "mean"), TypeError, "huber_loss: delta must be a number, got str"),
        (lambda: F.layer_norm(A, 3, eps=-1.0), ValueError, "layer_norm: eps must be at least 0, got -1.0"),
        (
            lambda: F.kl_divergence(A, -np.abs(A)),
            ValueError,
            "kl_divergence: t must be probabilities, at least 0, got -",
        ),
        (
            lambda: F.scaled_dot_product_attention(A, A, A, np.eye(2, dtype=int)),
            TypeError,
            "scaled_dot_product_attention: attn_mask must be booleans, .* got int64",
        ),
        (lambda: F.concat([A, A], axis=None), TypeError, "concat: axis must be an int, got None"),
        (lambda: F.stack([A, A], axis=(0,)), TypeError, r"stack: axis must be an int, got \(0,\)"),
        (lambda: F.split(A, 2, axis=(0, 1)), TypeError, r"split: axis must be an int, got \(0, 1\)"),
        (lambda: F.expand_dims(A, True), TypeError, "expand_dims: axis must be an int, got True"),
        (lambda: F.one_hot(LABELS, 3.0), ValueError, "one_hot: num_classes must be an int"),
        (lambda: F.pad(A, [(1, 2), (3,)]), ValueError, "pad: pad_width must be .* lists of different lengths"),
        (lambda: F.pad(np.array(1.0), 1), ValueError, "pad: x is 0-dimensional"),
        (lambda: F.maximum(np.ones(2, np.int8), 300), ValueError, "maximum: the number 300 is out of bounds for int8"),
        (lambda: F.einsum("ii->i", np.ones((1, 3))), ValueError, "einsum: 'i' of 'ii->i' is 1 long and 3 long"),
        (lambda: F.tensordot(A, A, (None, None)), TypeError, "tensordot: axes must be an int or a pair"),
        (lambda: W3.register_hook("x"), TypeError, "register_hook: expected a function of the gradient, got str"),
    ],
)
def test_what_a_slip_of_the_pen_makes_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
