"""What holds for every input: hypothesis draws shapes, axes, indices and windows, and shrinks what fails.

Examples are the same in every run, and nothing is written to disk. The thorough run draws many more.
"""

import tempfile

import numpy as np
import pytest
from operations import conv as definitions

from dezero import functions as F
from dezero.core import Variable

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import configuration, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import basic_indices, integer_array_indices  # noqa: E402

configuration.set_hypothesis_home_dir(tempfile.gettempdir())
ORDINARY = settings(derandomize=True, deadline=None, database=None, max_examples=100)
THOROUGH = settings(ORDINARY, max_examples=2500)


def for_all(*strategies, **named):
    """Check a property on some examples, and in a thorough run on many more."""

    def decorate(holds):
        @pytest.mark.parametrize("search", [ORDINARY, pytest.param(THOROUGH, marks=pytest.mark.thorough)], ids=str_of)
        def test(search):
            search(given(*strategies, **named)(holds))()

        test.__name__, test.__doc__ = holds.__name__, holds.__doc__
        return test

    return decorate


def str_of(search):
    return f"{search.max_examples} examples"


# ----------------------------------------------------------------------------------------------------------------------
# What is drawn: sizes and places; the numbers in the arrays come from a seed
# ----------------------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([1, 2, 3, 1, 4, 5, 0])
FILLED = st.sampled_from([1, 2, 3, 1, 4])
SEEDS = st.integers(0, 100)


def arrays(shapes):
    """Arrays of normal numbers, and of the shapes that a strategy gives."""
    return st.builds(normal, shapes, SEEDS)


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def shapes(least=0, most=4, sizes=SIZES):
    return st.lists(sizes, min_size=least, max_size=most).map(tuple)


@st.composite
def broadcasting(draw, count=2, most=4):
    """Arrays whose shapes broadcast: each lacks some leading axes of a common shape, and has 1 for some others."""
    common = draw(shapes(most=most))
    given_shapes = [
        tuple(n if draw(st.booleans()) else 1 for n in common[draw(st.integers(0, len(common))) :])
        for _ in range(count)
    ]
    return [normal(shape, draw(SEEDS)) for shape in given_shapes]


def axes(ndim):
    """None, an int of either sign, or a tuple of them."""
    if ndim == 0:
        return st.none()
    one = st.integers(-ndim, ndim - 1)
    return st.none() | one | st.lists(one, unique_by=lambda a: a % ndim).map(tuple)


@st.composite
def with_axes(draw, sizes=SIZES):
    x = draw(arrays(shapes(sizes=sizes)))
    return x, draw(axes(x.ndim))


@st.composite
def with_axis(draw, sizes=SIZES):
    x = draw(arrays(shapes(least=1, sizes=sizes)))
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def windows(draw, dilated=True):
    """kernel_size, stride, pad, dilation, and an image's size into which at least one window fits."""
    kernel, stride, dilation = draw(PAIRS), draw(PAIRS), draw(PAIRS) if dilated else (1, 1)
    pad = tuple(draw(st.integers(0, k if dilated else k - 1)) for k in kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(max(1, r - 2 * p) + draw(st.integers(0, 4)) for r, p in zip(reach, pad, strict=True))
    return kernel, stride, pad, dilation, size


@st.composite
def convolutions(draw):
    """x, W, b and the options of a convolution."""
    kernel, stride, pad, dilation, size = draw(windows())
    N, groups, C, OC = draw(st.integers(0, 2)), *(draw(st.integers(1, 3)) for _ in range(3))
    seed = draw(SEEDS)
    x, W = normal((N, C * groups, *size), seed), normal((OC * groups, C, *kernel), seed + 1)
    return x, W, normal(OC * groups, seed + 2), {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}


# ----------------------------------------------------------------------------------------------------------------------
# What is asked of them
# ----------------------------------------------------------------------------------------------------------------------


def close(found, wanted):
    found = found.data if isinstance(found, Variable) else found
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def dot(a, b):
    return float((a * b).sum())


def check_linear(f, *xs):
    """Check that f, linear in each of xs, has its transposes as gradients, and itself as their gradients.

    <f(x), u> = <x, f'(u)> for each x, where f' is what backward computes; f'(u) is linear in u, with f as its gradient.
    """
    variables = [Variable(x) for x in xs]
    y = f(*variables)
    u = Variable(normal(y.shape, seed=1))
    (y * u).sum().backward(create_graph=True)
    gradients = [x.grad for x in variables]
    for x, gx in zip(variables, gradients, strict=True):
        assert gx.shape == x.shape
        np.testing.assert_allclose(dot(x.data, gx.data), dot(y.data, u.data), rtol=1e-9, atol=1e-9)
    u.cleargrad()
    v = normal(xs[0].shape, seed=2)
    (gradients[0] * v).sum().backward()
    close(u.grad, f(v, *xs[1:]).data)


def refused_by_both(call, reference):
    """Return the reference's value, or None when it refuses the input; then we must, too."""
    try:
        return reference()
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            call()
        return None


# ----------------------------------------------------------------------------------------------------------------------
# Broadcasting, reductions
# ----------------------------------------------------------------------------------------------------------------------

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@for_all(st.sampled_from(list(BINARY)), broadcasting())
def test_binary_operations_broadcast_as_in_numpy(name, pair):
    x0, x1 = map(Variable, pair)
    y = getattr(F, name)(x0, x1)
    close(y, BINARY[name](*pair))
    y.backward()
    assert (x0.grad.shape, x1.grad.shape) == (x0.shape, x1.shape)


@for_all(broadcasting(count=3))
def test_where_broadcasts_all_three_and_divides_the_gradient(three):
    condition, x0, x1 = three[0] > 0, *map(Variable, three[1:])
    y = F.where(condition, x0, x1)
    close(y, np.where(condition, x0.data, x1.data))
    y.backward()
    assert (x0.grad.shape, x1.grad.shape) == (x0.shape, x1.shape)
    assert x0.grad.data.sum() + x1.grad.data.sum() == y.size


@for_all(broadcasting())
def test_a_product_has_each_factor_as_the_gradient_of_the_other(pair):
    check_linear(F.mul, *pair)


@for_all(broadcasting())
def test_broadcast_to_and_sum_to_are_transposes(pair):
    x, shape = pair[0], np.broadcast_shapes(pair[0].shape, pair[1].shape)
    close(F.broadcast_to(x, shape), np.broadcast_to(x, shape))
    check_linear(lambda x: F.broadcast_to(x, shape), x)
    check_linear(lambda y: F.sum_to(y, x.shape), normal(shape, seed=3))


REDUCTIONS = {"sum": np.sum, "average": np.mean, "prod": np.prod, "var": np.var, "std": np.std}


@for_all(st.sampled_from(list(REDUCTIONS)), with_axes(sizes=FILLED), st.booleans())
def test_reductions_are_numpys_over_any_axes(name, x_axis, keepdims):
    x, axis = x_axis
    v = Variable(x)
    y = getattr(F, name)(v, axis=axis, keepdims=keepdims)
    close(y, REDUCTIONS[name](x, axis=axis, keepdims=keepdims))
    y.backward()
    assert v.grad.shape == x.shape


@for_all(st.sampled_from(["max", "min"]), with_axes(), st.booleans())
def test_the_gradient_of_max_and_min_is_one_for_each_result(name, x_axis, keepdims):
    x, axis = x_axis
    x = np.asarray(x.round())  # for ties
    v = Variable(x)
    wanted = refused_by_both(
        lambda: getattr(F, name)(v, axis=axis, keepdims=keepdims),
        lambda: getattr(np, name)(x, axis=axis, keepdims=keepdims),
    )
    if wanted is not None:
        y = getattr(F, name)(v, axis=axis, keepdims=keepdims)
        close(y, wanted)
        y.backward()
        close(v.grad.data.sum(axis=axis, keepdims=keepdims), np.ones_like(wanted))


@for_all(st.sampled_from(["argmax", "argmin"]), with_axis(), st.booleans())
def test_argmax_and_argmin_are_numpys(name, x_axis, keepdims):
    x, axis = x_axis
    call, reference = ((lambda m=m: getattr(m, name)(x, axis=axis, keepdims=keepdims)) for m in (F, np))
    wanted = refused_by_both(call, reference)
    if wanted is not None:
        np.testing.assert_array_equal(call(), wanted, strict=True)


@for_all(with_axes(sizes=FILLED), st.floats(-1000, 1000))
def test_logsumexp_moves_with_its_input(x_axis, shift):
    x, axis = x_axis
    close(F.logsumexp(x, axis=axis), np.log(np.exp(x).sum(axis=axis)))
    np.testing.assert_allclose(F.logsumexp(x + shift, axis=axis).data, F.logsumexp(x, axis=axis).data + shift, 1e-9)


@for_all(with_axis())
def test_cumsum_is_numpys_and_linear(x_axis):
    x, axis = x_axis
    close(F.cumsum(x, axis), np.cumsum(x, axis))
    check_linear(lambda x: F.cumsum(x, axis), x)


@for_all(with_axes())
def test_sums_are_linear(x_axis):
    x, axis = x_axis
    check_linear(lambda x: F.sum(x, axis=axis), x)


# ----------------------------------------------------------------------------------------------------------------------
# Shapes
# ----------------------------------------------------------------------------------------------------------------------


@for_all(st.data())
def test_transpose_and_moveaxis_have_their_inverses(data):
    x = data.draw(arrays(shapes()))
    order = data.draw(st.permutations(range(x.ndim)))
    signed = [a - x.ndim if data.draw(st.booleans()) else a for a in order]
    close(F.transpose(x, signed), x.transpose(order))
    close(F.transpose(F.transpose(x, signed), np.argsort(order).tolist()), x)
    close(F.moveaxis(x, signed, list(range(x.ndim))), np.moveaxis(x, order, range(x.ndim)))
    check_linear(lambda x: F.transpose(x, signed), x)
    check_linear(lambda x: F.moveaxis(x, list(range(x.ndim)), signed), x)


@for_all(st.data())
def test_reshape_squeeze_and_expand_dims_keep_the_elements(data):
    x = data.draw(arrays(shapes(sizes=FILLED)))
    shape = data.draw(st.permutations(x.shape))
    close(F.reshape(F.reshape(x, shape), x.shape), x)
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    close(F.expand_dims(x, axis), np.expand_dims(x, axis))
    close(F.squeeze(F.expand_dims(x, axis), axis), x)
    check_linear(F.squeeze, x)


@for_all(st.data())
def test_slices_are_numpys_and_linear(data):
    x = data.draw(arrays(shapes()))
    index = data.draw(basic_indices(x.shape, allow_newaxis=True))
    close(F.get_item(x, index), x[index])
    check_linear(lambda x: F.get_item(x, index), x)


@for_all(st.data())
def test_index_arrays_are_numpys_and_linear(data):
    x = data.draw(arrays(shapes(least=1, sizes=FILLED)))
    index = data.draw(integer_array_indices(x.shape))
    close(F.get_item(x, index), x[index])
    check_linear(lambda x: F.get_item(x, index), x)


@for_all(with_axis(), st.data())
def test_concat_undoes_split(x_axis, data):
    x, axis = x_axis
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[axis]), max_size=3)))
    parts = F.split(x, cuts, axis)
    for part, wanted in zip(parts, np.split(x, cuts, axis), strict=True):
        close(part, wanted)
    close(F.concat(parts, axis), x)
    check_linear(lambda x: F.concat(F.split(x, cuts, axis)[::-1], axis), x)


@for_all(arrays(shapes(most=3)), st.integers(1, 3), st.data())
def test_stack_puts_arrays_along_a_new_axis(x, count, data):
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    xs = [x * (i + 1) for i in range(count)]
    close(F.stack(xs, axis), np.stack(xs, axis))
    check_linear(lambda x: F.stack([x, x * 2.0], axis), x)


MODES = ["constant", "edge", "reflect", "symmetric", "wrap"]


@for_all(st.sampled_from(MODES), st.data())
def test_pad_is_numpys_and_linear(mode, data):
    x = data.draw(arrays(shapes(least=1, most=3)))
    widths = [data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6))) for _ in x.shape]
    wanted = refused_by_both(lambda: F.pad(x, widths, mode), lambda: np.pad(x, widths, mode))
    if wanted is not None:
        close(F.pad(x, widths, mode), wanted)
        check_linear(lambda x: F.pad(x, widths, mode), x)


@for_all(with_axes())
def test_flip_is_its_own_inverse(x_axis):
    x, axis = x_axis
    close(F.flip(x, axis), np.flip(x, axis))
    close(F.flip(F.flip(x, axis), axis), x)
    check_linear(lambda x: F.flip(x, axis), x)


@for_all(with_axis(), st.data())
def test_tile_repeat_and_take_are_numpys_and_linear(x_axis, data):
    x, axis = x_axis
    reps = data.draw(st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=4).map(tuple))
    size = x.shape[axis]
    repeats = data.draw(st.integers(0, 3) | st.lists(st.integers(0, 2), min_size=max(size, 1), max_size=max(size, 1)))
    indices = np.array(data.draw(st.lists(st.integers(-size, size - 1), max_size=4) if size else st.just([])), int)
    for f, wanted in [
        (lambda x: F.tile(x, reps), np.tile(x, reps)),
        (lambda x: F.repeat(x, repeats, axis), np.repeat(x, repeats, axis)),
        (lambda x: F.take(x, indices, axis), np.take(x, indices, axis)),
    ]:
        close(f(x), wanted)
        check_linear(f, x)


# ----------------------------------------------------------------------------------------------------------------------
# Products
# ----------------------------------------------------------------------------------------------------------------------


@for_all(st.data())
def test_matmul_of_batches_is_numpys(data):
    batch0, batch1 = (x.shape for x in data.draw(broadcasting(most=2)))
    n, k, m = (data.draw(SIZES) for _ in range(3))
    shape0 = (k,) if data.draw(st.integers(0, 3)) == 0 else (*batch0, n, k)
    shape1 = (k,) if data.draw(st.integers(0, 3)) == 0 else (*batch1, k, m)
    x0, x1 = normal(shape0, seed=4), normal(shape1, seed=5)
    close(F.matmul(x0, x1), x0 @ x1)
    check_linear(F.matmul, x0, x1)


@st.composite
def einsums(draw):
    """Subscripts with repeated letters, letters summed over, an explicit or implicit result, and maybe an ellipsis."""
    sizes = {letter: draw(FILLED) for letter in "abcd"}
    terms = [draw(st.lists(st.sampled_from("abcd"), max_size=3).map("".join)) for _ in range(draw(st.integers(1, 3)))]
    dots = draw(shapes(most=2, sizes=FILLED)) if draw(st.integers(0, 2)) == 0 else None
    letters = sorted(set("".join(terms)))
    out = "".join(draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))])
    ellipsis = "" if dots is None else "..."
    xs = [normal((*(dots or ()), *(sizes[letter] for letter in term)), draw(SEEDS)) for term in terms]
    arrow = f"->{ellipsis}{out}" if draw(st.integers(0, 3)) else ""
    return ",".join(ellipsis + term for term in terms) + arrow, xs


@for_all(einsums())
def test_einsum_is_numpys_and_linear_in_each_operand(subscripts_xs):
    subscripts, xs = subscripts_xs
    close(F.einsum(subscripts, *xs), np.einsum(subscripts, *xs))
    check_linear(lambda *xs: F.einsum(subscripts, *xs), *xs)


@for_all(st.data())
def test_tensordot_is_numpys(data):
    shared = data.draw(shapes(most=2, sizes=FILLED))
    x0 = normal((*data.draw(shapes(most=2)), *shared), seed=6)
    x1 = normal((*shared, *data.draw(shapes(most=2))), seed=7)
    close(F.tensordot(x0, x1, axes=len(shared)), np.tensordot(x0, x1, axes=len(shared)))
    check_linear(lambda x0, x1: F.tensordot(x0, x1, axes=len(shared)), x0, x1)


# ----------------------------------------------------------------------------------------------------------------------
# Convolution, pooling, resizing
# ----------------------------------------------------------------------------------------------------------------------


@for_all(convolutions())
def test_conv2d_is_its_definition_and_linear_in_x_and_in_w(drawn):
    x, W, b, options = drawn
    close(F.conv2d(x, W, b, **options), definitions.conv2d(x, W, b, **options))
    check_linear(lambda x, W: F.conv2d(x, W, None, **options), x, W)
    check_linear(lambda W, x: F.conv2d(x, W, None, **options), W, x)


@for_all(convolutions())
def test_deconv2d_is_the_transpose_of_conv2d(drawn):
    x, W, _, options = drawn
    y = F.conv2d(x, W, None, **options)
    u = normal(y.shape, seed=8)
    back = F.deconv2d(u, W, None, outsize=x.shape[2:], **options)
    close(back, definitions.deconv2d(u, W, None, outsize=x.shape[2:], **options))
    np.testing.assert_allclose(dot(y.data, u), dot(x, back.data), rtol=1e-9, atol=1e-9)
    check_linear(lambda u, W: F.deconv2d(u, W, None, outsize=x.shape[2:], **options), u, W)
    check_linear(lambda W, u: F.deconv2d(u, W, None, outsize=x.shape[2:], **options), W, u)


@for_all(windows(), st.booleans())
def test_im2col_and_col2im_are_transposes(window, to_matrix):
    kernel, stride, pad, dilation, size = window
    options = {"stride": stride, "pad": pad, "to_matrix": to_matrix, "dilation": dilation}
    x = normal((2, 2, *size), seed=9)
    close(F.im2col(x, kernel, **options), definitions.im2col(x, kernel, **options))
    check_linear(lambda x: F.im2col(x, kernel, **options), x)
    col = normal(F.im2col(x, kernel, **options).shape, seed=10)
    close(F.col2im(col, x.shape, kernel, **options), definitions.col2im(col, x.shape, kernel, **options))
    check_linear(lambda col: F.col2im(col, x.shape, kernel, **options), col)


@for_all(windows(dilated=False))
def test_pooling_takes_the_largest_and_gives_it_the_gradient(window):
    kernel, stride, pad, _, size = window
    x = Variable(normal((2, 3, *size), seed=11))
    y = F.pooling(x, kernel, stride, pad)
    close(y, definitions.pool(np.max, -np.inf)(x.data, kernel, stride, pad))
    gy = np.random.default_rng(12).random(y.shape)
    y.grad = Variable(gy)
    y.backward()
    np.testing.assert_allclose(x.grad.data.sum(axis=(2, 3)), gy.sum(axis=(2, 3)))
    np.testing.assert_allclose((x.grad.data * x.data).sum(), (gy * y.data).sum())


@for_all(windows(dilated=False))
def test_average_pooling_is_its_definition_and_linear(window):
    kernel, stride, pad, _, size = window
    x = normal((2, 3, *size), seed=13)
    close(F.average_pooling(x, kernel, stride, pad), definitions.pool(np.mean, 0.0)(x, kernel, stride, pad))
    check_linear(lambda x: F.average_pooling(x, kernel, stride, pad), x)


BOXES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@for_all(BOXES, BOXES)
def test_adaptive_average_pooling_is_its_definition_and_linear(size, out):
    x = normal((1, 2, *size), seed=14)
    close(F.adaptive_average_pooling(x, out), definitions.adaptive_average_pooling(x, out))
    check_linear(lambda x: F.adaptive_average_pooling(x, out), x)


@for_all(BOXES, BOXES, st.sampled_from(["nearest", "bilinear"]), st.booleans())
def test_upsample_is_its_definition_and_linear(size, out, mode, align_corners):
    options = {"size": out, "mode": mode, "align_corners": align_corners and mode == "bilinear"}
    x = normal((1, 2, *size), seed=15)
    close(F.upsample(x, **options), definitions.upsample(x, **options))
    check_linear(lambda x: F.upsample(x, **options), x)


# ----------------------------------------------------------------------------------------------------------------------
# Softmax, normalisation, attention, losses
# ----------------------------------------------------------------------------------------------------------------------


@for_all(with_axes(sizes=FILLED), st.sampled_from([1.0, 1e-3, 1e4]))
def test_softmax_is_positive_and_sums_to_one(x_axis, scale):
    x, axis = x_axis
    axis = tuple(range(x.ndim)) if axis is None else axis
    v = Variable(np.asarray(x * scale))
    y = F.softmax(v, axis=axis)
    assert (y.data >= 0).all()
    close(y.data.sum(axis=axis), np.ones_like(x.sum(axis=axis)))
    np.testing.assert_allclose(np.exp(F.log_softmax(v, axis=axis).data), y.data, atol=1e-12)
    y.backward()
    close(v.grad, np.zeros_like(x))  # the sum of the outputs does not move


@for_all(shapes(least=1, sizes=st.integers(2, 4)), st.data())
def test_layer_norm_has_mean_0_and_variance_1(shape, data):
    x = normal(shape, seed=16) * 10 + 3
    last = data.draw(st.integers(1, x.ndim))
    y = F.layer_norm(x, shape[-last:], eps=0.0).data
    over = tuple(range(-last, 0))
    np.testing.assert_allclose(y.mean(axis=over), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(axis=over), 1, rtol=1e-9)


@for_all(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), SEEDS)
def test_attention_is_a_mean_and_sees_no_later_key(queries, keys, size, seed):
    q, k = normal((2, queries, size), seed), normal((2, keys, size), seed + 1)
    close(F.scaled_dot_product_attention(q, k, np.ones((2, keys, 1))), np.ones((2, queries, 1)))
    value = Variable(normal((2, keys, size), seed + 2))
    F.scaled_dot_product_attention(q, k, value, is_causal=True)[:, 0].backward()
    assert not value.grad.data[:, 1:].any()


@for_all(st.integers(1, 4), st.integers(1, 5), shapes(most=2, sizes=FILLED), SEEDS)
def test_the_gradient_of_cross_entropy_sums_to_zero_over_the_classes(N, C, rest, seed):
    x, t = Variable(normal((N, C, *rest), seed)), np.random.default_rng(seed).integers(0, C, (N, *rest))
    loss = F.cross_entropy(x, t)
    close(loss, F.nll_loss(F.log_softmax(x), t).data)
    loss.backward()
    np.testing.assert_allclose(x.grad.data.sum(axis=1), 0, atol=1e-12)
