"""Pooling to a given size and upsampling, against loops that spell out the definition and against PyTorch."""

import math

import numpy as np
import pytest
from test_functions_conv import assert_same_as_torch, import_torch, numbers, read_only, strided, value_and_gradients

from dezero import functions as F
from dezero.core import Variable
from dezero.functions_conv import pair
from dezero.testing import check_grads

# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------

POOLED = {
    "sizes that divide": ((2, 2, 4, 6), (2, 3)),
    "windows that share pixels": ((1, 2, 5, 7), (3, 4)),
    "to one pixel": ((2, 3, 4, 3), 1),
    "the same size": ((1, 2, 3, 4), (3, 4)),
    "larger": ((1, 2, 3, 2), (5, 4)),
    "one pixel": ((1, 1, 1, 1), 2),
    "one row": ((1, 2, 1, 7), (1, 3)),
}
every_pooled = pytest.mark.parametrize(("shape", "output_size"), POOLED.values(), ids=POOLED.keys())


def loop_adaptive_average_pooling(x, output_size):
    (H, W), (OH, OW) = x.shape[2:], pair(output_size)
    y = np.zeros((*x.shape[:2], OH, OW))
    for i, j in np.ndindex(OH, OW):
        rows = slice(math.floor(i * H / OH), math.ceil((i + 1) * H / OH))
        columns = slice(math.floor(j * W / OW), math.ceil((j + 1) * W / OW))
        y[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return y


@every_pooled
def test_adaptive_average_pooling(shape, output_size):
    x = numbers(*shape)
    y = F.adaptive_average_pooling(x, output_size)
    np.testing.assert_allclose(y.data, loop_adaptive_average_pooling(x, output_size), atol=1e-12)
    check_grads(lambda x: F.adaptive_average_pooling(x * x, output_size), x, order=3, rtol=1e-4)


@every_pooled
def test_adaptive_average_pooling_against_torch(shape, output_size):
    torch = import_torch()
    adaptive_avg_pool2d = torch.nn.functional.adaptive_avg_pool2d
    assert_same_as_torch(
        torch,
        lambda x: F.adaptive_average_pooling(x, output_size),
        lambda x: adaptive_avg_pool2d(x, output_size),
        numbers(*shape),
    )


@pytest.mark.parametrize("size", range(1, 13))
def test_windows_cover_every_size(size):
    x = numbers(1, 1, 1, size)
    for output_size in range(1, 15):
        y = F.adaptive_average_pooling(x, (1, output_size))
        np.testing.assert_allclose(y.data, loop_adaptive_average_pooling(x, (1, output_size)), atol=1e-12)


def test_adaptive_average_pooling_is_average_pooling_where_sizes_divide():
    x = numbers(2, 3, 6, 8)
    np.testing.assert_allclose(
        F.adaptive_average_pooling(x, (3, 2)).data, F.average_pooling(x, (2, 4), (2, 4)).data, atol=1e-12
    )


@pytest.mark.parametrize(("keepdims", "shape"), [(False, (2, 3)), (True, (2, 3, 1, 1))])
def test_global_average_pooling(keepdims, shape):
    x = numbers(2, 3, 4, 5)
    y = F.global_average_pooling(x, keepdims)
    assert y.shape == shape
    np.testing.assert_allclose(y.data, x.mean(axis=(2, 3), keepdims=keepdims), atol=1e-12)
    check_grads(lambda x: F.global_average_pooling(x * x, keepdims), x, order=3, rtol=1e-4)


# ----------------------------------------------------------------------------------------------------------------------
# Upsampling
# ----------------------------------------------------------------------------------------------------------------------

MODES = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear"},
    "bilinear, corners aligned": {"mode": "bilinear", "align_corners": True},
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())

RESIZED = {
    "twice": ((2, 2, 3, 4), {"scale_factor": 2}),
    "a pair of factors": ((1, 2, 3, 2), {"scale_factor": (3, 2)}),
    "one and a half": ((1, 2, 4, 5), {"scale_factor": 1.5}),
    "factors that leave a rest": ((1, 2, 4, 7), {"scale_factor": (1.7, 2.3)}),
    "shrunk by a factor": ((1, 2, 9, 7), {"scale_factor": (0.5, 0.3)}),
    "a factor that changes nothing": ((1, 1, 5, 4), {"scale_factor": 1.1}),
    "a factor that comes to twice": ((1, 1, 3, 2), {"scale_factor": (2.1, 2.3)}),
    "a size": ((2, 1, 3, 4), {"size": (5, 7)}),
    "a smaller size": ((1, 2, 7, 5), {"size": (3, 2)}),
    "an int": ((1, 2, 3, 4), {"size": 6}),
    "the same size": ((1, 2, 3, 4), {"size": (3, 4)}),
    "to one pixel": ((1, 2, 3, 4), {"size": 1}),
    "of one pixel": ((2, 1, 1, 1), {"size": (3, 2)}),
    "one row": ((1, 2, 1, 5), {"size": (1, 8)}),
}
every_resized = pytest.mark.parametrize(("shape", "to"), RESIZED.values(), ids=RESIZED.keys())


def loop_upsample(x, OH, OW, scales, mode, align_corners=False):
    """One pixel after the other; `scales` are OH / H and OW / W, or the factors that were given."""

    def place(i, size, outsize, scale):
        if mode == "nearest":
            return min(math.floor(i / scale), size - 1), 0.0
        at = i * (size - 1) / max(outsize - 1, 1) if align_corners else max((i + 0.5) / scale - 0.5, 0)
        first = min(math.floor(at), size - 1)
        return first, at - first if first < size - 1 else 0.0

    H, W = x.shape[2:]
    y = np.zeros((*x.shape[:2], OH, OW))
    for i, j in np.ndindex(OH, OW):
        (top, down), (left, right) = place(i, H, OH, scales[0]), place(j, W, OW, scales[1])
        for row, row_weight in ((top, 1 - down), (min(top + 1, H - 1), down)):
            for column, weight in ((left, 1 - right), (min(left + 1, W - 1), right)):
                y[:, :, i, j] += row_weight * weight * x[:, :, row, column]
    return y


@every_mode
@pytest.mark.parametrize("size", [(5, 7), (3, 2), (1, 1), (6, 8), (3, 4)])
def test_upsample_to_a_size(mode, size):
    x = numbers(2, 2, 3, 4)
    expected = loop_upsample(x, *size, (size[0] / 3, size[1] / 4), **mode)
    np.testing.assert_allclose(F.upsample(x, size, **mode).data, expected, atol=1e-12)


@every_mode
@pytest.mark.parametrize(("scale_factor", "outsize"), [((2, 3), (6, 12)), ((1.5, 2.5), (4, 10)), ((0.7, 0.5), (2, 2))])
def test_upsample_by_a_factor(mode, scale_factor, outsize):
    x = numbers(2, 2, 3, 4)
    expected = loop_upsample(x, *outsize, scale_factor, **mode)
    np.testing.assert_allclose(F.upsample(x, scale_factor=scale_factor, **mode).data, expected, atol=1e-12)


def to_torch(options):
    """`interpolate` takes no align_corners with "nearest"."""
    return {**options, "align_corners": options.get("align_corners", False) if options["mode"] == "bilinear" else None}


@every_mode
@every_resized
def test_upsample_against_torch(mode, shape, to):
    torch = import_torch()
    interpolate, options = torch.nn.functional.interpolate, to_torch(mode)
    assert_same_as_torch(
        torch, lambda x: F.upsample(x, **to, **mode), lambda x: interpolate(x, **to, **options), numbers(*shape)
    )


@every_mode
def test_upsample_against_torch_at_many_factors(mode):
    torch = import_torch()
    rng = np.random.default_rng(0)
    for factor in [0.3, 0.9, 1.1, 1.2, 4 / 3, 5 / 3, 2.3, 2.6, 3.3, 3.7, *rng.uniform(0.2, 4, 20)]:
        for size in (5, 8, 31, 40):
            x = numbers(1, 1, size, size).astype(np.float32)
            y = F.upsample(x, scale_factor=float(factor), **mode).data
            expected = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=float(factor), **to_torch(mode))
            np.testing.assert_allclose(y, expected.numpy(), atol=1e-4)


@every_mode
@every_resized
def test_upsample_gradients_to_the_third_order(mode, shape, to):
    check_grads(lambda x: F.upsample(x * x, **to, **mode), numbers(*shape), order=3, rtol=1e-4)


def test_nearest_copies_what_it_takes():
    x = np.array([[[[np.inf, 1.0], [np.nan, -np.inf]]]])
    np.testing.assert_array_equal(F.upsample(x, scale_factor=3).data, x.repeat(3, axis=2).repeat(3, axis=3))
    whole = np.array([[[[1, 2]]]])
    assert F.upsample(whole, scale_factor=2).dtype == whole.dtype


# ----------------------------------------------------------------------------------------------------------------------
# What holds for all of them
# ----------------------------------------------------------------------------------------------------------------------

FAMILY = {
    "global_average_pooling": F.global_average_pooling,
    "adaptive_average_pooling": lambda x: F.adaptive_average_pooling(x, (2, 3)),
    "upsample nearest": lambda x: F.upsample(x, scale_factor=(2, 1.5)),
    "upsample bilinear": lambda x: F.upsample(x, size=(7, 3), mode="bilinear"),
}
every_member = pytest.mark.parametrize("f", FAMILY.values(), ids=FAMILY.keys())


@every_member
def test_float32_in_gives_float32_out_and_float32_gradients(f):
    x = numbers(2, 3, 5, 4)
    for got, expected in zip(value_and_gradients(f, [x.astype(np.float32)]), value_and_gradients(f, [x]), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-5)


@every_member
@pytest.mark.parametrize("arranged", [strided, read_only])
def test_the_arrangement_in_memory_does_not_matter(f, arranged):
    x = numbers(2, 3, 5, 4)
    before = x.copy()
    for got, expected in zip(value_and_gradients(f, [arranged(x)]), value_and_gradients(f, [x]), strict=True):
        np.testing.assert_allclose(got, expected)
    np.testing.assert_array_equal(x, before)


@every_member
def test_a_batch_of_no_images_gives_no_results(f):
    x = Variable(np.zeros((0, 3, 5, 4)))
    y = f(x)
    assert y.shape == (0, *f(np.zeros((1, 3, 5, 4))).shape[1:])
    y.backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "upsample nearest"])
def test_means_of_integers_are_floating(name):
    x = np.arange(40).reshape(1, 2, 5, 4)
    y = FAMILY[name](x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.data, FAMILY[name](x.astype(float)).data)


X = np.ones((1, 3, 8, 6))
ONE_OF_TWO = "upsample: give size or scale_factor, one of them, got "
BAD = [
    (lambda: F.upsample(X), ONE_OF_TWO + "None and None"),
    (lambda: F.upsample(X, 4, 2), ONE_OF_TWO + "4 and 2"),
    (lambda: F.upsample(X, 4, mode="cubic"), "upsample: mode must be 'nearest' or 'bilinear', got 'cubic'"),
    (lambda: F.upsample(X, 4, mode=None), "upsample: mode must be 'nearest' or 'bilinear', got None"),
    (
        lambda: F.upsample(X, 4, align_corners=True),
        "upsample: align_corners is for mode='bilinear'; 'nearest' has no corners to align",
    ),
    (lambda: F.upsample(X, 0), "upsample: size must be at least 1, got 0"),
    (
        lambda: F.upsample(X, 2.5),
        "upsample: size must be an int or a pair of ints, a tuple (height, width), got 2.5",
    ),
    *(
        (
            lambda factor=factor: F.upsample(X, scale_factor=factor),
            f"upsample: scale_factor must be a positive number or a pair of them, got {factor!r}",
        )
        for factor in (0, -1.5, "2", (2,), (1, 2, 3), (1, None), True, math.inf, math.nan)
    ),
    (
        lambda: F.upsample(X, scale_factor=(0.1, 1)),
        "upsample: scale_factor (0.1, 1) leaves 0x6 of 8x6 pixels (x (1, 3, 8, 6))",
    ),
    (
        lambda: F.upsample(X[0], 4),
        "upsample: x must have shape (N, C, H, W), got (3, 8, 6); add the batch axis: x[None]",
    ),
    (lambda: F.upsample(X[:, :, :0], 4), "upsample: the images of x (1, 3, 0, 6) have no pixels"),
    (lambda: F.adaptive_average_pooling(X, 0), "adaptive_average_pooling: output_size must be at least 1, got 0"),
    (
        lambda: F.adaptive_average_pooling(X, None),
        "adaptive_average_pooling: output_size must be an int or a pair of ints, a tuple (height, width), got None",
    ),
    (
        lambda: F.adaptive_average_pooling(X[0], 2),
        "adaptive_average_pooling: x must have shape (N, C, H, W), got (3, 8, 6); add the batch axis: x[None]",
    ),
    (
        lambda: F.adaptive_average_pooling(X[..., :0], 2),
        "adaptive_average_pooling: the images of x (1, 3, 8, 0) have no pixels",
    ),
    (
        lambda: F.global_average_pooling(X[0, 0]),
        "global_average_pooling: x must have shape (N, C, H, W), got (8, 6)",
    ),
    (
        lambda: F.global_average_pooling(X[..., :0]),
        "global_average_pooling: the images of x (1, 3, 8, 0) have no pixels",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_inputs_are_errors_word_for_word(call, message):
    with pytest.raises(ValueError, match=":") as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("bad", [[[1.0]], "image", None], ids=lambda b: type(b).__name__)
@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("upsample", lambda x: F.upsample(x, 2)),
        ("adaptive_average_pooling", lambda x: F.adaptive_average_pooling(x, 2)),
        ("global_average_pooling", F.global_average_pooling),
    ],
)
def test_images_that_are_no_arrays_are_refused_by_name(name, f, bad):
    with pytest.raises(TypeError, match=f"^{name}: "):
        f(bad)


def test_numpy_numbers_are_welcome_as_sizes_and_factors():
    assert F.upsample(X, (np.int64(4), np.int32(5))).shape == (1, 3, 4, 5)
    assert F.upsample(X, scale_factor=(np.float32(1.5), np.int64(2))).shape == (1, 3, 12, 12)
    assert F.adaptive_average_pooling(X, np.int64(2)).shape == (1, 3, 2, 2)
