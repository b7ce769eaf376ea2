"""The kernels for CuPy's arrays compute what the reference does: on a GPU, and without one, run on the processor.

The table of cases is that of test_kernels.py. Without a GPU, the stand-in of simulated_gpu compiles the kernels' own
sources with g++; and NVRTC, where it is installed, compiles them for GPUs that there are.
"""

import importlib.util
import itertools
import math
import os
import pathlib
import re

import numpy as np
import pytest
from test_kernels import (
    CASES,
    IMAGES,
    NONE,
    ONE,
    POOLED,
    REFERENCE,
    TIED,
    TOLERANCES,
    UPDATES,
    far_from_zero,
    is_leaf,
    numbers,
    run,
)

from dezero import cuda, kernels
from dezero.kernels import reference
from dezero.kernels.gpu import conv, elementwise, launch, norm, rows

# ----------------------------------------------------------------------------------------------------------------------
# The table, in every arrangement that arrays can have on a device
# ----------------------------------------------------------------------------------------------------------------------


def as_made(xp, x):
    return x


def channels_last(xp, x):
    if x.ndim < 3:
        return fortran(xp, x)
    away, back = (0, *range(2, x.ndim), 1), (0, x.ndim - 1, *range(1, x.ndim - 1))
    return xp.ascontiguousarray(x.transpose(away)).transpose(back)


def fortran(xp, x):
    return xp.ascontiguousarray(x.T).T if x.ndim > 1 else x


def strided(xp, x):
    return xp.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x


def reversed_(xp, x):
    back = (slice(None, None, -1),) * x.ndim
    return xp.ascontiguousarray(x[back])[back] if x.ndim else x


ARRANGEMENTS = [as_made, channels_last, strided, reversed_, fortran]

# Whose results lie as their first argument of images; those of others lie in C order, but cuDNN's.
KEEPING = {
    *("add", "astype", "tanh", *({*elementwise.OPERATIONS} & ({*CASES} - {*UPDATES}))),
    *("batch_norm", "batch_norm_grad", "scale_and_shift"),
    *("max_pool", "max_pool_gather", "max_pool_scatter", "average_pool", "average_pool_grad"),
}
CUDNNS = {"conv2d", "conv2d_relu", "deconv2d"}


def lies_last(x):
    """Say whether images are in no C order, but have their channels last in memory."""
    return not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous


def lies_as_it_should(name, y, args):
    if y.ndim != 4 or name in {"einsum", "matmul", *UPDATES} or (name in CUDNNS and lies_last(y)):
        return True
    images = next(x for x in args if hasattr(x, "flags"))
    wanted = name in KEEPING and images.ndim == 4 and lies_last(images)
    if wanted:
        return lies_last(y) or 1 in y.shape
    return y.flags.c_contiguous or name == "astype"  # which keeps any order


def same_kind(x, dtype):
    return x.dtype == dtype or (x.dtype.kind in "iu" and dtype.kind in "iu")


def check(gpu, name, dtype, arrangements, cases=None, largest=math.inf):
    """Hold a kernel against the reference in float64, with its results' shapes and dtypes those of the reference."""
    f = getattr(kernels.for_array(gpu.to(np.zeros(1))), name)
    tolerance = TOLERANCES[dtype]
    for (number, case), arrange in itertools.product(enumerate(cases or CASES[name]), arrangements):
        if any(is_leaf(x) and x.size > largest for x in case):
            continue
        case = [np.asarray(x) if isinstance(x, np.generic) else x for x in case]
        host = [x.astype(dtype) if is_leaf(x) else x for x in case]
        exact = [x.astype(np.float64) if is_leaf(x) else x for x in host]
        like = run(REFERENCE[name], [x.copy() if isinstance(x, np.ndarray) else x for x in host])
        args = gpu.to(host)
        args = [arrange(gpu.cupy, x) if is_leaf(h) else x for x, h in zip(args, host, strict=True)]
        where = f"{name}, case {number}, {arrange.__name__}, {dtype}"
        found = f(*args)
        if found is None:  # an update: all that it changes stands before g
            found = [x for x, h in zip(args, host, strict=True) if is_leaf(h)][:-1]
        wanted = run(REFERENCE[name], exact)
        for y, z, kind in zip(found if isinstance(found, (tuple, list)) else [found], wanted, like, strict=True):
            assert isinstance(y, gpu.cupy.ndarray), where
            assert y.shape == np.shape(z), where
            assert same_kind(y, np.asarray(kind).dtype), (where, y.dtype)
            assert lies_as_it_should(name, y, args), f"{where}: strides {y.strides}"
            room = tolerance * max(1.0, np.abs(np.asarray(z)[np.isfinite(z)]).max(initial=0))
            np.testing.assert_allclose(gpu.back(y), z, rtol=tolerance, atol=room, err_msg=where)
        if name not in UPDATES:
            for x, old in zip(args, host, strict=True):
                if isinstance(old, np.ndarray):
                    np.testing.assert_array_equal(gpu.back(x), old, err_msg=f"{where}: changed an argument")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_computes_what_the_reference_does(gpu, name, dtype):
    check(gpu, name, dtype, ARRANGEMENTS)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", sorted(set(CASES) - {"log_softmax"}))
def test_a_kernel_takes_float16(gpu, name):
    check(gpu, name, "float16", [as_made, channels_last], largest=1000)  # the reference's sums of more lose all digits


def test_log_softmax_takes_float16(gpu):
    check(
        gpu, "log_softmax", "float16", [as_made], cases=[case for case in CASES["log_softmax"] if (case[0] < 50).all()]
    )


@pytest.mark.parametrize(
    "name", sorted(set(CASES) - {"astype", "gates", "gates_grad_w", "gates_grad_x", "tanh", *UPDATES})
)
def test_a_kernel_takes_bfloat16(gpu, name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for case in CASES[name]:
        if any(is_leaf(x) and (x.size > 1000 or np.abs(x).max(initial=0) > 100) for x in case):
            continue
        args = [gpu.to(x).astype(ml_dtypes.bfloat16) if is_leaf(x) else x for x in case]
        rounded = [gpu.back(y.astype(np.float64)) if is_leaf(x) else x for x, y in zip(case, args, strict=True)]
        found = getattr(kernels.for_array(args[0] if is_leaf(case[0]) else args[-1]), name)(*on_device(gpu, args))
        for y, z in zip(found if isinstance(found, tuple) else [found], run(REFERENCE[name], rounded), strict=True):
            assert y.dtype == ml_dtypes.bfloat16 or (z.dtype.kind == "i" and y.dtype.kind == "i")
            largest = max(1.0, np.abs(z).max(initial=0))
            np.testing.assert_allclose(gpu.back(y.astype(z.dtype)), z, rtol=0.01, atol=0.01 * largest)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_kernel_computes_the_same_with_long_indexes(gpu, name, monkeypatch):
    monkeypatch.setattr(launch, "WIDE", 0)
    check(gpu, name, "float32", [as_made, channels_last])


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_grad", "normalise", "normalise_grad", "channel_sum"])
@pytest.mark.parametrize(("piece", "pieces", "width"), [(1, 1000, 32), (5, 1000, 1), (7, 3, 2), (64, 1000, 4)])
def test_into_how_many_pieces_a_channel_is_cut_does_not_matter(gpu, name, piece, pieces, width, monkeypatch):
    monkeypatch.setattr(norm, "PIECE", piece)
    monkeypatch.setattr(norm, "PIECES", pieces)
    monkeypatch.setattr(norm, "WIDTH", width)
    cases = [case for case in CASES[name] if case[0].size < 5000]
    check(gpu, name, "float64", [as_made, channels_last], cases=cases)


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_grad", "channel_sum", "scale_and_shift"])
@pytest.mark.parametrize("shape", [(3, 70, 5, 7), (2, 32, 3, 3), (40, 65), (300, 40, 1, 1), (5, 33, 1, 2)])
@pytest.mark.parametrize("piece", [8192, 100])
def test_many_channels_side_by_side(gpu, name, shape, piece, monkeypatch):
    monkeypatch.setattr(norm, "PIECE", piece)
    x, gy, *per_channel = (numbers(*size, seed=i) for i, size in enumerate([shape, shape, *[shape[1:2]] * 3]))
    mean, var = per_channel[1], per_channel[2] ** 2
    cases = {
        "batch_norm": (x, *per_channel[:2], 1e-3),
        "batch_norm_grad": (x, gy, per_channel[0], mean, var, 1e-3),
        "channel_sum": (x,),
        "scale_and_shift": (x, *per_channel[:2]),
    }
    check(gpu, name, "float64", [as_made, channels_last], cases=[cases[name]])


def test_channels_side_by_side_are_read_side_by_side(gpu, monkeypatch):
    """Neighbouring threads read neighbours in memory: a block has 32 channels, and so many fewer elements of each."""
    cuts = {}
    monkeypatch.setattr(norm, "in_blocks", lambda *args, **options: cuts.update({args[1]: (*args[2:4], args[5])}))
    x = gpu.to(numbers(16, 64, 32, 32).astype(np.float32))
    backend = kernels.for_array(x)
    backend.channel_sum(channels_last(gpu.cupy, x))
    assert cuts["sums"] == (2 * 64, 256, (64, 1, 16384, 64, 32))
    backend.channel_sum(x)
    assert cuts["sums"] == (64 * 2, 256, (64, 1024, 16384, 2, 1))
    backend.channel_sum(x[:, :, 0, 0])
    assert cuts["sums"] == (2, 256, (64, 1, 16, 1, 32))
    backend.channel_sum(x[:, :1, 0, 0])
    assert cuts["sums"] == (1, 32, (1, 1, 16, 1, 1))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", sorted(KEEPING - {"batch_norm", "batch_norm_grad"}))
def test_the_order_in_memory_changes_no_bit(gpu, name, dtype):
    for case in CASES[name]:
        if case[0].ndim != 4:
            continue
        args = gpu.to([x.astype(dtype) if is_leaf(x) else x for x in case])
        f = getattr(kernels.for_array(args[0]), name)
        last = [channels_last(gpu.cupy, x) if hasattr(x, "ndim") else x for x in args]
        for others in (args, last):  # the first alone lies so, or all do
            found, wanted = f(last[0], *others[1:]), f(*args)
            for y, z in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, wanted)), strict=True):
                np.testing.assert_array_equal(gpu.back(y), gpu.back(z))
                assert lies_as_it_should(name, y, last)


def test_a_maximum_that_was_found_with_channels_last_gives_its_gradient_so(gpu):
    x = channels_last(gpu.cupy, gpu.to(numbers(2, 3, 8, 8)))
    backend = kernels.for_array(x)
    y, indexes = backend.max_pool(x, (2, 2), (2, 2), NONE)
    gy = gpu.cupy.ascontiguousarray(y)  # as it comes from a reshape
    gx = backend.max_pool_scatter(gy, indexes, (8, 8), (2, 2), (2, 2), NONE)
    assert lies_last(gx)
    np.testing.assert_array_equal(
        gpu.back(gx), reference.max_pool_scatter(*map(gpu.back, (gy, indexes)), (8, 8), (2, 2), (2, 2), NONE)
    )


def test_a_sum_of_images_and_something_that_broadcasts_lies_as_the_images(gpu):
    x = channels_last(gpu.cupy, gpu.to(numbers(2, 3, 4, 5)))
    backend = kernels.for_array(x)
    for shape in [(1, 3, 1, 1), (2, 3, 4, 5), (2, 1, 4, 1)]:
        other = numbers(*shape, seed=1)
        y = backend.add(x, gpu.to(other))
        assert lies_last(y)
        np.testing.assert_array_equal(gpu.back(y), gpu.back(x) + other)
    for shape in [(), (5,), (4, 5), (2, 2, 3, 4, 5)]:  # of other axes: CuPy adds them in C order
        other = numbers(*shape, seed=1)
        np.testing.assert_array_equal(gpu.back(backend.add(x, gpu.to(other))), gpu.back(x) + other)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_relu", "deconv2d", "conv2d_grad_w"])
@pytest.mark.parametrize("workspace", [1, 6000, 20000])
def test_into_how_many_parts_a_batch_is_cut_does_not_matter(gpu, name, workspace, monkeypatch):
    monkeypatch.setattr(conv, "WORKSPACE", workspace)
    check(gpu, name, "float64", [as_made])


# ----------------------------------------------------------------------------------------------------------------------
# Windows of all kinds
# ----------------------------------------------------------------------------------------------------------------------


def random_windows(seed):
    """(image_size, kernel_size, stride, pad, dilation) with at least one window."""
    rng = np.random.default_rng(seed)
    while True:
        image, kernel, stride, pad, dilation = (
            tuple(map(int, rng.integers(low, high, 2))) for low, high in [(1, 9), (1, 5), (1, 5), (0, 4), (1, 4)]
        )
        if min(map(kernels.conv_outsize, image, kernel, stride, pad, dilation)) > 0:
            return rng, image, kernel, stride, pad, dilation


def random_cases(seed):
    """(name, arguments) of all kernels with windows, for random sizes."""
    rng, image, kernel, stride, pad, dilation = random_windows(seed)
    groups, C, OC, N = (int(n) for n in rng.integers(1, 4, 4))
    x, W = rng.standard_normal((N, groups * C, *image)), rng.standard_normal((groups * OC, C, *kernel))
    b = rng.standard_normal(groups * OC) if seed % 2 else None
    y = reference.conv2d(x, W, b, stride, pad, dilation, groups)
    yield "conv2d", (x, W, b, stride, pad, dilation, groups)
    yield "conv2d_relu", (x, W, b, stride, pad, dilation, groups)
    c = rng.standard_normal(groups * C) if seed % 2 else None
    yield "deconv2d", (y, W, c, stride, pad, image, dilation, groups)
    yield "conv2d_grad_w", (x, y, kernel, stride, pad, dilation, groups)
    col = reference.im2col(x, kernel, stride, pad, dilation, 0.5)
    yield "im2col", (x, kernel, stride, pad, dilation, 0.5)
    yield "col2im", (col, image, stride, pad, dilation)
    pad = tuple(min(p, k - 1) for p, k in zip(pad, kernel, strict=True))
    if min(map(kernels.conv_outsize, image, kernel, stride, pad)) < 1:
        return
    x = np.round(x) if seed % 3 else x  # many ties
    y, indexes = reference.max_pool(x, kernel, stride, pad)
    yield "max_pool", (x, kernel, stride, pad)
    yield "max_pool_gather", (x, indexes, kernel, stride, pad)
    yield "max_pool_scatter", (y, indexes, image, kernel, stride, pad)
    yield "average_pool", (x, kernel, stride, pad)
    yield "average_pool_grad", (y, image, kernel, stride, pad)


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 200, 20)], ids=str)
def test_windows_of_all_kinds(gpu, seeds):
    for seed in seeds:
        for name, args in random_cases(seed):
            try:
                check(gpu, name, "float64", [as_made], cases=[args])
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {[x.shape if is_leaf(x) else x for x in args]}: {error}") from error


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_relu_is_to_the_bit_the_relu_of_conv2d(gpu, dtype, groups):
    arrays = numbers(3, 4, 7, 8), numbers(6, 4 // groups, 3, 2, seed=1), numbers(6, seed=2)
    x, W, b = (a.astype(dtype) for a in arrays)
    x[0, 0, 2, 2] = np.nan  # which relu lets through
    x, W, b = gpu.to((x, W, b))
    backend = kernels.for_array(x)
    for bias in (b, None):
        args = x, W, bias, ONE, ONE, ONE, groups
        wanted = gpu.back(backend.relu(backend.conv2d(*args)))
        assert np.isnan(wanted).any()
        assert (wanted == 0).any()
        np.testing.assert_array_equal(gpu.back(backend.conv2d_relu(*args)), wanted)


def test_conv2d_relu_launches_no_more_than_conv2d(simulated):
    from simulated_gpu import machine_of

    x, W, b = simulated.to((numbers(3, 4, 7, 8), numbers(6, 4, 3, 2, seed=1), numbers(6, seed=2)))
    launched, found = machine_of(simulated.cupy).launched, []
    for name in ("conv2d", "conv2d_relu"):
        launched.clear()
        getattr(kernels.for_array(x), name)(x, W, b, ONE, ONE, ONE, 1)
        found.append(list(launched))
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [*launch.FLOATING, "int32", "uint8"])
def test_a_bias_and_a_relu_are_one_launch_in_place(gpu, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    y, b = (np.abs(numbers(*shape) * 3).astype(dtype) - np.array(1, dtype) for shape in [(2, 3, 4, 5), (3,)])
    for bias in (b, None):
        z, c = gpu.to(y), None if bias is None else gpu.to(bias)
        assert elementwise.add_and_rectify(z, c) is z
        wanted = np.maximum(y if bias is None else y + bias[:, None, None], np.array(0, dtype))
        np.testing.assert_array_equal(gpu.back(z), wanted)


# ----------------------------------------------------------------------------------------------------------------------
# Maxima
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("pad", [NONE, ONE])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_infinity_and_nan_in_a_maximum(gpu, special, pad, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(dtype)
    x[0, 0, :3, :3] = special
    x[1, 2] = special
    x[1, 1, ::2, ::3] = np.nan
    y, indexes = kernels.for_array(gpu.to(x)).max_pool(gpu.to(x), (3, 3), (2, 2), pad)
    wanted, places = reference.max_pool(x, (3, 3), (2, 2), pad)
    np.testing.assert_array_equal(gpu.back(y), wanted)
    np.testing.assert_array_equal(gpu.back(indexes), places)


def test_the_first_of_equal_cells_is_the_largest(gpu):
    for x, *window in TIED:
        _, indexes = kernels.for_array(gpu.to(x)).max_pool(gpu.to(x), *window)
        np.testing.assert_array_equal(gpu.back(indexes), reference.max_pool(x, *window)[1])


def test_where_a_maximum_stands_takes_a_byte_or_four(gpu):
    x = numbers(1, 1, 13, 13)
    for kernel, dtype in [((8, 16), np.int8), ((12, 11), np.int32), ((3, 3), np.int8)]:
        pad = (2, 7)
        y, indexes = kernels.for_array(gpu.to(x)).max_pool(gpu.to(x), kernel, ONE, pad)
        assert indexes.dtype == dtype
        np.testing.assert_array_equal(gpu.back(indexes), reference.max_pool(x, kernel, ONE, pad)[1])
        np.testing.assert_array_equal(gpu.back(y), reference.max_pool(x, kernel, ONE, pad)[0])


def test_an_index_that_names_the_padding_takes_nothing_and_gives_nothing(gpu):
    x, indexes = numbers(2, 1, 4, 4), np.random.default_rng(0).integers(0, 9, (2, 1, 4, 4))
    backend = kernels.for_array(gpu.to(x))
    for name, sizes in [("max_pool_gather", ()), ("max_pool_scatter", ((4, 4),))]:
        args = x, indexes, *sizes, (3, 3), ONE, ONE
        np.testing.assert_allclose(
            gpu.back(getattr(backend, name)(*on_device(gpu, args))), getattr(reference, name)(*args)
        )


def test_an_infinite_gradient_goes_to_its_pixel_alone(gpu):
    x = gpu.to(np.arange(16.0).reshape(1, 1, 4, 4))
    kernel = kernels.for_array(x)
    _, indexes = kernel.max_pool(x, (2, 2), (2, 2), NONE)
    gx = gpu.back(kernel.max_pool_scatter(gpu.to(np.full((1, 1, 2, 2), np.inf)), indexes, (4, 4), (2, 2), (2, 2), NONE))
    assert np.isposinf(gx).sum() == 4
    assert (gx[np.isfinite(gx)] == 0).all()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
@pytest.mark.parametrize(
    "name",
    ["relu", "relu_grad", "channel_sum", "tanh", "max_pool", "average_pool", "im2col", "conv2d", "conv2d_relu"]
    + ["col2im"],
)
def test_a_kernel_takes_integers_where_its_function_does(gpu, name, dtype):
    for case in CASES[name]:
        if case[0].ndim != 4 and name != "col2im":
            continue
        args = [np.abs(x * 2).astype(dtype) if is_leaf(x) else abs(x) if isinstance(x, float) else x for x in case]
        found = getattr(kernels.for_array(gpu.to(args[0])), name)(*on_device(gpu, args))
        wanted = run(REFERENCE[name], args)
        for y, z in zip(found if isinstance(found, tuple) else [found], wanted, strict=True):
            assert same_kind(y, z.dtype)
            np.testing.assert_allclose(gpu.back(y), z, rtol=1e-3 if z.dtype == np.float16 else 1e-6)


def on_device(gpu, args):
    return gpu.to(list(args))


# ----------------------------------------------------------------------------------------------------------------------
# Precision, and what is not a number
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "name",
    ["relu", "relu_grad", "sigmoid", "tanh", "batch_norm", "batch_norm_grad", "scale_and_shift", "normalise"]
    + ["log_softmax", "channel_sum", "softmax_cross_entropy", "average_pool"],
)
def test_infinity_and_nan_come_out_where_the_reference_has_them(gpu, name, special):
    for case in CASES[name]:
        args = [x.copy() if is_leaf(x) else x for x in case]
        if args[0].size < 2 or not np.isfinite(args[0]).all():
            continue
        args[0].flat[1] = special
        found = getattr(kernels.for_array(gpu.to(args[0])), name)(*on_device(gpu, args))
        wanted = run(REFERENCE[name], args)
        for y, z in zip(found if isinstance(found, tuple) else [found], wanted, strict=True):
            np.testing.assert_allclose(gpu.back(y), z, rtol=1e-10, atol=1e-12)


def test_normalisation_keeps_its_digits_far_from_zero(gpu):
    backend = kernels.for_array(gpu.to(np.zeros(1)))
    for x in far_from_zero():
        ones = np.ones(x.shape[1], np.float32)
        y, mean, var = map(gpu.back, backend.batch_norm(*map(gpu.to, (x, ones, 0 * ones)), 1e-5))
        exact, exact_mean, exact_var = reference.batch_norm(*(a.astype(np.float64) for a in (x, ones, 0 * ones)), 1e-5)
        np.testing.assert_allclose(mean, exact_mean, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(var, exact_var, rtol=2e-5)
        np.testing.assert_allclose(y, exact, rtol=2e-5, atol=2e-5)
        matrix = x.reshape(len(x), -1)
        exact = reference.normalise(matrix.astype(np.float64), 1e-5)[0]
        found = backend.normalise(gpu.to(matrix), 1e-5)[0]
        np.testing.assert_allclose(gpu.back(found), exact, rtol=2e-5, atol=2e-5)


def test_a_variance_as_small_as_the_mean_is_rounded_keeps_its_digits(gpu):
    """The numbers are 4096 and the next few that there are in float32, and their mean is none of these."""
    x = (4096 + np.random.default_rng(0).integers(0, 4, (1000, 60)) * 2.0**-11).astype(np.float32)
    exact = x.astype(np.float64)
    backend, ones = kernels.for_array(gpu.to(x)), np.ones(60, np.float32)
    _, mean, var = backend.batch_norm(*map(gpu.to, (x, ones, ones)), 1e-12)
    np.testing.assert_array_equal(gpu.back(mean), exact.mean(axis=0).astype(np.float32))
    np.testing.assert_allclose(gpu.back(var), exact.var(axis=0), rtol=1e-5)
    y, _, _ = backend.normalise(gpu.to(np.ascontiguousarray(x.T)), 1e-12)
    np.testing.assert_allclose(gpu.back(y), reference.normalise(exact.T, 1e-12)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1_000_000, 1), (1, 1, 1000, 1000), (10, 2, 500, 100), (300_000, 3)])
def test_sums_of_a_million_numbers_keep_their_digits(gpu, shape):
    x = (np.random.default_rng(0).random(shape) + 0.5).astype(np.float32)
    gy = np.random.default_rng(1).random(shape).astype(np.float32)
    exact = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    backend = kernels.for_array(gpu.to(x))
    np.testing.assert_allclose(gpu.back(backend.channel_sum(gpu.to(x))), exact.sum(axis=axes), rtol=1e-6)
    last = backend.channel_sum(channels_last(gpu.cupy, gpu.to(x)))
    np.testing.assert_allclose(gpu.back(last), exact.sum(axis=axes), rtol=1e-6)
    ones = np.ones(shape[1], np.float32)
    _, mean, var = backend.batch_norm(*map(gpu.to, (x, ones, ones)), 1e-5)
    np.testing.assert_allclose(gpu.back(mean), exact.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(gpu.back(var), exact.var(axis=axes), rtol=1e-6)
    args = x, gy, ones, gpu.back(mean), gpu.back(var)
    _, ggamma, gbeta = backend.batch_norm_grad(*map(gpu.to, args), 1e-5)
    _, exact_ggamma, exact_gbeta = reference.batch_norm_grad(*(a.astype(np.float64) for a in args), 1e-5)
    np.testing.assert_allclose(gpu.back(gbeta), exact_gbeta, rtol=1e-6)
    np.testing.assert_allclose(gpu.back(ggamma), exact_ggamma, atol=1e-6 * np.abs(gy).sum())  # terms of either sign
    scores = x.reshape(1, -1)[:, :500_000]
    log_p = gpu.back(backend.log_softmax(gpu.to(scores), 1))
    np.testing.assert_allclose(log_p, reference.log_softmax(scores.astype(np.float64), 1), rtol=1e-6)


def test_sums_of_many_halves_are_taken_in_float32(gpu, monkeypatch):
    x = np.full((3000, 2), 8.0, np.float16)
    assert gpu.back(kernels.for_array(gpu.to(x)).channel_sum(gpu.to(x))).tolist() == [24000.0, 24000.0]
    x = np.full((1, 1, 64, 64), 20.0, np.float16)  # whose sum is too large for a half
    y = kernels.for_array(gpu.to(x)).average_pool(gpu.to(x), (64, 64), ONE, NONE)
    assert gpu.back(y).item() == 20.0
    rows_, gy = np.zeros(3000, int), np.ones((3000, 1), np.float16)  # one by one they would come to 2048
    for deterministic in (False, True):
        monkeypatch.setattr(cuda, "deterministic", deterministic)
        assert gpu.back(kernels.for_array(y).add_rows((2, 1), gpu.to(rows_), gpu.to(gy))).tolist() == [[3000.0], [0.0]]


# ----------------------------------------------------------------------------------------------------------------------
# Classes and rows
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [-1, 7, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_a_label_that_is_no_class_gives_a_loss_that_is_not_a_number(gpu, label, dtype):
    x, t = numbers(5, 7), np.array([0, 6, label, 3, 1], dtype)
    backend = kernels.for_array(gpu.to(x))
    loss, log_p = backend.softmax_cross_entropy(gpu.to(x), gpu.to(t))
    assert np.isnan(gpu.back(loss))
    np.testing.assert_allclose(gpu.back(log_p), reference.log_softmax(x, 1))
    gx = gpu.back(backend.softmax_cross_entropy_grad(log_p, gpu.to(t), gpu.to(np.array(1.0))))
    assert np.isnan(gx).all(axis=1).tolist() == [False, False, True, False, False]
    assert not np.isnan(gx[[0, 1, 3, 4]]).any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint64, np.int64])
def test_labels_and_rows_may_be_any_integers(gpu, dtype, monkeypatch):
    x, t = numbers(5, 7), np.array([0, 6, 3, 3, 1], dtype)
    backend = kernels.for_array(gpu.to(x))
    loss, _ = backend.softmax_cross_entropy(gpu.to(x), gpu.to(t))
    np.testing.assert_allclose(gpu.back(loss), reference.softmax_cross_entropy(x, t)[0])
    many = np.repeat(t, 2)[::2]  # strided
    for deterministic in (False, True):
        monkeypatch.setattr(cuda, "deterministic", deterministic)
        found = backend.add_rows((1000, 7), gpu.to(many), gpu.to(x))
        np.testing.assert_allclose(gpu.back(found), reference.add_rows((1000, 7), t, x))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_rows_are_added_up_in_order(gpu, dtype, monkeypatch):
    monkeypatch.setattr(cuda, "deterministic", True)
    monkeypatch.setattr(rows, "_by_atomics", None)
    check(gpu, "add_rows", dtype, ARRANGEMENTS)
    rng = np.random.default_rng(0)
    places, gy = rng.integers(-6, 6, 300), rng.standard_normal((300, 5)).astype(np.float32)
    gx = np.zeros((6, 5), np.float32)
    for place, row in zip(places, gy, strict=True):
        gx[place] += row  # to the last bit: one after the other, as they were named
    np.testing.assert_array_equal(
        gpu.back(kernels.for_array(gpu.to(gy)).add_rows((6, 5), gpu.to(places), gpu.to(gy))), gx
    )


INDEXES = [
    ((5, 4), (np.array([4, 0, 4]),)),
    ((5, 4), (np.array([[4, -1], [0, 4]]), np.array([0, 0]))),
    ((5, 4), (slice(1, 3), np.array([1, 1, 2]))),
    ((3, 4, 5), (np.array([1, 1]), slice(None), np.array([0, 0]))),
    ((7,), (np.array([True, False] * 3 + [True]),)),
    ((3, 2), (np.array([], int),)),
]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(("shape", "index"), INDEXES, ids=str)
def test_what_an_index_takes_is_added_back(gpu, deterministic, dtype, shape, index, monkeypatch):
    monkeypatch.setattr(cuda, "deterministic", deterministic)
    wanted = np.zeros(shape, dtype)
    gy = np.asarray(np.random.default_rng(0).integers(-8, 8, wanted[index].shape)).astype(dtype)
    np.add.at(wanted, index, gy)
    found = rows.add_at(shape, tuple(gpu.to(i) if isinstance(i, np.ndarray) else i for i in index), gpu.to(gy))
    assert found.dtype == dtype
    np.testing.assert_array_equal(gpu.back(found), wanted)


# ----------------------------------------------------------------------------------------------------------------------
# Updates
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g_dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(UPDATES))
def test_an_update_takes_a_gradient_of_another_dtype_and_keeps_its_own(gpu, name, g_dtype):
    *changed, last = [i for i, x in enumerate(CASES[name][0]) if is_leaf(x)]
    for p_dtype in (np.float32, np.float64):
        kinds = {**dict.fromkeys(changed, p_dtype), last: g_dtype}
        args = [x.astype(kinds[i]) if is_leaf(x) else x for i, x in enumerate(CASES[name][0])]
        on_gpu = on_device(gpu, args)
        assert getattr(kernels.for_array(on_gpu[0]), name)(*on_gpu) is None
        exact = [x.astype(p_dtype) if is_leaf(x) else x for x in args]
        for i, z in zip(changed, run(REFERENCE[name], exact), strict=True):
            assert on_gpu[i].dtype == p_dtype
            np.testing.assert_allclose(gpu.back(on_gpu[i]), z, rtol=1e-5, atol=1e-6)


def test_an_update_keeps_the_digits_of_one_minus_beta(gpu):
    p, m, v, g = (np.full(3, x, np.float32) for x in (0, 0, 0, 1))
    args = on_device(gpu, [p, m, v, g])
    kernels.for_array(args[0]).adam(*args, 0.1, 0.9, 0.999, 1e-8)
    np.testing.assert_allclose(gpu.back(args[2]), 0.001, rtol=1e-7)


# ----------------------------------------------------------------------------------------------------------------------
# Launches
# ----------------------------------------------------------------------------------------------------------------------


def test_the_kernels_are_those_of_the_reference(gpu):
    backend = kernels.for_array(gpu.to(np.zeros(1)))
    assert all(hasattr(backend, name) for name in REFERENCE)
    assert all(getattr(backend, name).__module__.startswith("dezero.kernels.gpu") for name in ROOMS)


ROOMS = sorted(set(REFERENCE) - {"copy", "gates", "gates_grad_w", "gates_grad_x", "linear", "tanh"})


def test_what_has_no_images_or_gradients_of_weights_lies_in_c_order(gpu):
    backend = kernels.for_array(gpu.to(np.zeros(1)))
    for name in ("conv2d_grad_w", "im2col", "col2im"):
        for case in CASES[name]:
            args = [channels_last(gpu.cupy, gpu.to(x)) if is_leaf(x) else x for x in case]
            y = getattr(backend, name)(*args)
            assert (y[0] if isinstance(y, tuple) else y).flags.c_contiguous, name


def test_a_kernel_is_compiled_once_for_each_cupy(gpu, monkeypatch):
    launch.remembered("something", lambda cupy: None)  # those of a CuPy before this one are forgotten
    x = gpu.to(numbers(*IMAGES[0]))
    kernels.for_array(x).max_pool(x, *POOLED[0][1:])
    monkeypatch.setattr(gpu.cupy, "RawModule", None)
    kernels.for_array(x).max_pool(x, *POOLED[1][1:])


def test_none_of_our_sources_adds_atomically_or_counts_in_int():
    for name, code in launch.sources():
        code = re.sub("//.*", "", code)
        assert not re.search(r"atomic|__shfl|asm", code), name
        ints = set(re.findall(r"\bint (\w+)", code.split(" I;\n", 1)[1].replace("unsigned int", "")))
        assert ints <= {"half", "round", "j"}, name  # of a block's threads, or of very few
        assert "j" not in ints or "j < 4" in code, name
        assert "blockIdx.x *" not in code.replace("(I)blockIdx.x *", ""), name  # else it is 32 bits wide


@pytest.mark.gpu
def test_arrays_of_more_elements_than_an_int_counts():
    if not cuda.gpu_enable:
        pytest.skip("needs a GPU")
    cupy = cuda.cupy
    x = cupy.zeros((2, 1, 2**15, 2**15 + 64), np.int8)
    if cupy.cuda.Device().mem_info[0] < 8 * x.nbytes:
        pytest.skip("the device has not so much memory")
    assert x.size > 2**31
    x[-1, -1, -1, -1] = 3
    y, indexes = kernels.for_array(x).max_pool(x, (2, 2), (2, 2), NONE)
    assert (int(y[-1, -1, -1, -1]), int(indexes[-1, -1, -1, -1]), int(y.sum())) == (3, 3, 3)
    gx = kernels.for_array(x).max_pool_scatter(y, indexes, x.shape[2:], (2, 2), (2, 2), NONE)
    assert int(gx[-1, -1, -1, -1]) == 3


# ----------------------------------------------------------------------------------------------------------------------
# NVRTC
# ----------------------------------------------------------------------------------------------------------------------


def header_folders(cupy):
    """Where CuPy's headers are, and those of CUDA that they include."""
    nvidia = importlib.util.find_spec("nvidia")
    places = [*(nvidia.submodule_search_locations if nvidia else ()), os.environ.get("CUDA_PATH", "/usr/local/cuda")]
    found = [path.parent for place in places for path in pathlib.Path(place).glob("**/cuda_fp16.h")]
    return [pathlib.Path(cupy.__file__).parent / "_core" / "include", *found[:1]]


def complaints(arch, code, folders):
    """Compile as CuPy does, without a device; return what the compiler says where it cannot."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(code, "kernel.cu", (), ())
    options = "-std=c++17", "--device-as-default-execution-space", "-ftz=true", f"-arch=sm_{arch}"
    try:
        nvrtc.compileProgram(program, (*options, *(f"-I{folder}" for folder in folders)))
    except nvrtc.NVRTCError:
        return nvrtc.getProgramLog(program)
    return "" if nvrtc.getCUBIN(program) else "nothing came out"


ARCHITECTURES = [pytest.param(arch, marks=[pytest.mark.thorough] if arch != 90 else []) for arch in (75, 80, 90, 100)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvrtc_compiles_every_source_for_every_type(arch):
    cupy = pytest.importorskip("cupy")
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    folders = header_folders(cupy)
    every = [*launch.sources(), *elementwise_sources()]
    assert len(every) > 200
    for name, code in every:
        if len(folders) == 1 and "#include" in code:
            continue  # classes of halves need CUDA's headers
        assert complaints(arch, code, folders) == "", f"{name}\n{code}"
    assert "expected" in complaints(arch, every[0][1] + "}", folders)


def elementwise_sources():
    """What CuPy makes, in the main, of an operation: a function called with an element of each array."""
    for T, (name, spec) in itertools.product(launch.FLOATING, elementwise.OPERATIONS.items()):
        yield f"{name} {T}", as_function(spec, T)
    for T in launch.INTEGERS:
        yield f"relu {T}", as_function(elementwise.OPERATIONS["relu"], T)
        yield f"relu_grad {T}", as_function(elementwise.OPERATIONS["relu_grad"], T)


def as_function(spec, T):
    inputs, outputs, operation = spec
    arguments = [f"const {x}" for x in inputs.split(", ")] + [x.replace(" ", "& ") for x in outputs.split(", ")]
    types = "typedef T X, Y, U; typedef double float64;"
    preamble = elementwise.PREAMBLE if T in launch.FLOATING else ""
    return f"{launch.header(T)}\n{types}{preamble}\n__device__ void f({', '.join(arguments)}) {{ {operation}; }}"
