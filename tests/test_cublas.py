"""Products by cuBLAS: what dezero/kernels/gpu/cublas.py asks of the library, and what comes out of it.

A stand-in for libcublas checks what it is asked as the library does, and multiplies what lies at the addresses on the
simulated CuPy: see simulated_cublas.py. Under `-m gpu` the tables run on the real library.
"""

import contextlib
import importlib
import itertools
import math
import sys
import threading

import numpy as np
import pytest
from simulated_cublas import PROTOTYPES, install
from test_kernels import CASES as KERNELS

from dezero import cuda, kernels
from dezero.kernels import reference
from dezero.kernels.gpu import cublas as ours
from dezero.kernels.gpu import libraries, product, slots

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-14}
DTYPES = ["float64", "float32", "float16", "bfloat16"]


def machine_of(cupy):
    return importlib.import_module("simulated_gpu").machine_of(cupy)


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch):
    monkeypatch.delenv("DEZERO_CUBLAS", raising=False)
    ours.reset()
    ours._plan.cache_clear()
    yield
    ours.reset()
    ours._plan.cache_clear()


@contextlib.contextmanager
def simulation(monkeypatch, devices=1):
    """Put the simulated CuPy and the stand-in for cuBLAS where the kernels look for them; yield both."""
    for name, module in importlib.import_module("simulated_gpu").modules(devices=devices).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cudnn", None)
    stand_in = install(monkeypatch, sys.modules["cupy"])
    cuda.look_again()
    yield stand_in.cupy, stand_in
    cuda.look_again()
    assert not stand_in.problems, stand_in.problems


@pytest.fixture
def machine(request, monkeypatch):
    with simulation(monkeypatch, getattr(request, "param", 1)) as made:
        yield made


@pytest.fixture
def cupy(machine):
    return machine[0]


@pytest.fixture
def library(machine):
    return machine[1]


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def either(request, monkeypatch):
    """The simulated CuPy and library, or the real ones."""
    if request.param == "simulated":
        with simulation(monkeypatch) as (cupy, _):
            yield cupy
        return
    cupy = pytest.importorskip("cupy")
    if not cuda.gpu_enable:
        pytest.skip("no device answers")
    serves, line = ours.status()
    assert serves, line  # the real CuPy needs the library, too
    yield cupy


class Recording:
    """As much of slots.Recorder as a product sees."""

    def __init__(self):
        self.kept, self.actions = [], []


@contextlib.contextmanager
def capturing():
    slots.begin(Recording())
    try:
        yield
    finally:
        slots.begin(None)


@pytest.fixture
def captured(cupy, monkeypatch):
    """A step is being captured, and CuPy's cuBLAS refuses."""

    def refuse(*args, **options):
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")

    for name in ("__matmul__", "__rmatmul__"):
        monkeypatch.setattr(cupy.ndarray, name, refuse)
    with capturing():
        yield cupy


# ----------------------------------------------------------------------------------------------------------------------
# What comes out
# ----------------------------------------------------------------------------------------------------------------------

SHAPES = [
    ((4, 3), (3, 5)),
    ((1, 3), (3, 5)),
    ((4, 1), (1, 5)),
    ((4, 3), (3, 1)),
    ((1, 1), (1, 1)),
    ((1, 7), (7, 1)),
    ((3,), (3,)),
    ((3,), (3, 5)),
    ((4, 3), (3,)),
    ((1,), (1,)),
    ((3,), (2, 3, 5)),
    ((2, 4, 3), (3,)),
    ((2, 4, 3), (3, 5)),
    ((2, 4, 3), (1, 3, 5)),
    ((4, 3), (2, 3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((1, 4, 3), (1, 3, 5)),
    ((2, 1, 3), (2, 3, 1)),
    ((6, 2, 4, 3), (6, 2, 3, 5)),
    ((6, 2, 4, 3), (2, 3, 5)),
    ((6, 2, 4, 3), (6, 1, 3, 5)),
    ((6, 1, 4, 3), (6, 2, 3, 5)),
    ((2, 3, 3), (3, 5)),
    ((2, 1, 4, 3), (6, 3, 5)),
    ((2, 1, 3, 4, 3), (1, 5, 1, 3, 2)),
    ((1, 2, 1, 4, 3), (3, 5)),
    ((0, 3), (3, 5)),
    ((4, 3), (3, 0)),
    ((4, 0), (0, 5)),
    ((0,), (0,)),
    ((0, 4, 3), (3, 5)),
    ((2, 4, 0), (2, 0, 5)),
    ((2, 0, 3), (1, 3, 5)),
    ((70, 65), (65, 33)),
]


def arrays(a_shape, b_shape, dtype="float64"):
    rng = np.random.default_rng(0)
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)


def check(y, a, b, plus=0):
    wanted = a.astype(np.float64) @ b.astype(np.float64) + plus
    y = y.get()
    assert y.dtype == a.dtype
    assert y.shape == wanted.shape
    room = TOLERANCE[a.dtype.name] * max(1.0, np.abs(wanted).max(initial=0)) * math.sqrt(a.shape[-1] + 1)
    assert np.abs(y.astype(np.float64) - wanted).max(initial=0) <= room


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES, ids=str)
def test_a_product_is_numpys(either, a_shape, b_shape, dtype):
    a, b = arrays(a_shape, b_shape, dtype)
    y = ours.product(either.asarray(a), either.asarray(b))
    check(y, a, b)
    assert y.flags.c_contiguous


def turned(cupy, x):
    return cupy.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if x.ndim > 1 else x


def fortran(cupy, x):
    return cupy.ascontiguousarray(x.T).T


def axes_of_batches_turned(cupy, x):
    order = (1, 0, *range(2, x.ndim)) if x.ndim > 3 else range(x.ndim)
    return cupy.ascontiguousarray(x.transpose(*order)).transpose(*order)


def heads_inside(cupy, x):
    """As attention has it: (..., T, H, D) seen as (..., H, T, D)."""
    return cupy.ascontiguousarray(x.swapaxes(-2, -3)).swapaxes(-2, -3) if x.ndim > 2 else x


def every_other(cupy, x):
    return cupy.repeat(x, 2, axis=-1)[..., ::2]


def part_of_a_wider_one(cupy, x):
    wide = cupy.full((*x.shape[:-1], x.shape[-1] + 3), 1e3, x.dtype)
    wide[..., 2:-1] = x
    return wide[..., 2:-1]


def part_of_a_longer_one(cupy, x):
    long = cupy.full((*(n + 1 for n in x.shape[:-1]), x.shape[-1]), 1e3, x.dtype)
    inside = (*(slice(1, None) for _ in x.shape[:-1]), slice(None))
    long[inside] = x
    return long[inside]


def backwards(cupy, x):
    back = (slice(None, None, -1),) * x.ndim
    return cupy.ascontiguousarray(x[back])[back]


def batches_backwards(cupy, x):
    return cupy.ascontiguousarray(x[::-1])[::-1]


def as_it_is(cupy, x):
    return x


LAYOUTS = [
    as_it_is,
    turned,
    fortran,
    axes_of_batches_turned,
    heads_inside,
    every_other,
    part_of_a_wider_one,
    part_of_a_longer_one,
    backwards,
    batches_backwards,
]


@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("a_layout", LAYOUTS)
def test_every_layout_gives_the_same(either, a_layout, b_layout):
    for a_shape, b_shape in SHAPES[:-1]:
        a, b = arrays(a_shape, b_shape)
        a_there, b_there = a_layout(either, either.asarray(a)), b_layout(either, either.asarray(b))
        check(ours.product(a_there, b_there), a, b)
        assert (a_there.get() == a).all()
        assert (b_there.get() == b).all()


def test_numbers_that_lie_in_one_place(either):
    a, b = arrays((1, 1), (3, 5))
    ones = either.broadcast_to(either.asarray(a), (4, 3))
    check(ours.product(ones, either.asarray(b)), np.broadcast_to(a, (4, 3)), b)
    check(ours.product(either.asarray(b).T, ones.T), b.T, np.broadcast_to(a, (3, 4)))
    batch = either.broadcast_to(either.asarray(b), (6, 3, 5))
    check(ours.product(ones, batch), np.broadcast_to(a, (4, 3)), np.broadcast_to(b, (6, 3, 5)))


def test_windows_that_share_their_elements(either):
    x = either.arange(12.0)
    windows = either.lib.stride_tricks.as_strided(x, (4, 3), (8, 8))  # rows begin one element apart
    check(ours.product(windows, windows.T), windows.get(), windows.T.get())
    windows = either.lib.stride_tricks.as_strided(x, (3, 4, 2), (8, 16, 8))  # rows do not overlap, matrices do
    check(ours.product(windows, windows[:, :2]), windows.get(), windows[:, :2].get())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("a_shape", "b_shape"), [s for s in SHAPES if len(s[0]) > 1 < len(s[1])], ids=str)
def test_a_product_is_added_in_place(either, a_shape, b_shape, dtype):
    a, b = arrays(a_shape, b_shape, dtype)
    shape = (a.astype("f8") @ b.astype("f8")).shape
    out = either.full((2, *shape), 3, a.dtype)
    assert ours.product(either.asarray(a), either.asarray(b), out[1]) is not None
    check(out[1], a, b, plus=3)
    assert (out[0].get() == 3).all()


def test_a_number_too_large_for_32_bits_takes_the_functions_for_64(either, monkeypatch):
    monkeypatch.setattr(ours, "_LARGEST", 2)
    for a_shape, b_shape in [((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 5))]:
        a, b = arrays(a_shape, b_shape)
        check(ours.product(either.asarray(a), either.asarray(b)), a, b)
    names = [ours._plan(*key, False, False).function for key in KEYS]
    assert names == ["cublasGemmEx_64", "cublasGemmStridedBatchedEx_64"]


F8 = np.dtype("f8")
KEYS = [((4, 3), (24, 8), F8, (3, 5), (40, 8), F8), ((2, 4, 3), (96, 24, 8), F8, (2, 3, 5), (120, 40, 8), F8)]


def test_what_needs_64_bits():
    name, n = "cublasGemmEx", 2**31

    def function(a, a_strides, b, b_strides):
        return ours._plan(a, a_strides, np.dtype("f4"), b, b_strides, np.dtype("f4"), False, False).function

    assert function((1, n - 1), (4 * n, 4), (n - 1, 1), (4, 4)) == name
    assert function((1, n), (4 * n, 4), (n, 1), (4, 4)) == name + "_64"
    assert function((2, 3), (4 * n, 4), (3, 1), (4, 4)) == name + "_64"
    assert function((2, 3), (12, 4), (3, 2), (4 * n, 4)) == name + "_64"


# ----------------------------------------------------------------------------------------------------------------------
# What is asked
# ----------------------------------------------------------------------------------------------------------------------


def asked(library, a, b):
    """The calls that a product takes, and how many of its operands are copied."""
    before, copies = len(library.calls), []
    copy = type(a).copy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(a), "copy", lambda x, *args: copies.append(x) or copy(x, *args))
        ours.product(a, b)
    return library.calls[before:], len(copies)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_transposed_matrices_are_read_where_they_lie(cupy, library, first, second):
    a, b = cupy.ones((3, 4) if first else (4, 3)), cupy.ones((5, 3) if second else (3, 5))
    a, b = a.T if first else a, b.T if second else b
    (call,), copies = asked(library, a, b)
    assert copies == 0
    assert call.transposed == (first, second)
    assert (call.a[0], call.b[0]) == (a.data.ptr, b.data.ptr)
    assert (call.a[2], call.b[2]) == (4 if first else 3, 3 if second else 5)


def test_parts_of_matrices_are_read_where_they_lie(cupy, library):
    x = cupy.ones((9, 8))
    for a, b in [(x[2:6, 1:4], x[:3, 3:]), (x[2:6, 1:4].T, x[1:9:2, :2]), (x[:, 0], x), (x[:1], x[:8]), (x, x[:8, 5])]:
        calls, copies = asked(library, a, b)
        assert (len(calls), copies) == (1, 0)
    calls, copies = asked(library, x[:, 1], x)  # elements that lie apart
    assert (len(calls), copies) == (1, 0)
    calls, copies = asked(library, x[:, ::2], x[:4, ::-1])
    assert (len(calls), copies) == (1, 2)


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "calls", "count"),
    [
        ((2, 4, 3), (2, 3, 5), 1, 2),
        ((2, 4, 3), (3, 5), 1, 0),  # one matrix of 8 rows
        ((2, 6, 4, 3), (3, 5), 1, 0),
        ((2, 4, 3), (1, 3, 5), 1, 0),
        ((4, 3), (2, 3, 5), 1, 2),
        ((1, 4, 3), (1, 3, 5), 1, 0),
        ((2, 6, 4, 3), (2, 6, 3, 5), 1, 12),
        ((2, 6, 4, 3), (6, 3, 5), 2, 6),
        ((6, 2, 4, 3), (2, 3, 5), 2, 6),
        ((2, 1, 4, 3), (6, 3, 5), 2, 6),
    ],
)
def test_batches_take_few_calls(cupy, library, a_shape, b_shape, calls, count):
    made, copies = asked(library, cupy.ones(a_shape), cupy.ones(b_shape))
    assert copies == 0
    assert [call.count for call in made] == [count] * calls


def test_batches_in_unequal_steps_are_copied_alone(cupy, library):
    x = cupy.ones((2, 7, 6, 4))  # (N, T, H, D)
    heads = x.swapaxes(1, 2)
    calls, copies = asked(library, heads, cupy.ones((2, 6, 7, 4)).swapaxes(-1, -2))
    assert ([call.count for call in calls], copies) == ([12], 1)
    calls, copies = asked(library, heads[:1], x[:1].transpose(0, 2, 3, 1))
    assert ([call.count for call in calls], copies) == ([6], 0)


def test_nothing_is_asked_where_there_is_nothing_to_multiply(cupy, library):
    for a_shape, b_shape in SHAPES:
        if 0 in (*a_shape, *b_shape):
            assert asked(library, cupy.ones(a_shape), cupy.ones(b_shape)) == ([], 0)


@pytest.mark.parametrize(
    ("dtype", "allow_tf32", "compute"),
    [("float16", True, 68), ("float32", False, 68), ("float32", True, 77), ("float64", True, 70), ("bfloat16", 1, 68)],
)
def test_what_is_multiplied_in_what(cupy, library, monkeypatch, dtype, allow_tf32, compute):
    for chosen in (False, allow_tf32):  # the second plan is not the first
        monkeypatch.setitem(vars(cuda), "allow_tf32", bool(chosen))
        a, b = arrays((2, 4, 3), (2, 3, 5), dtype)
        ours.product(cupy.asarray(a), cupy.asarray(b))
        ours.product(cupy.asarray(a[0]), cupy.asarray(b[0]))
    assert {call.compute for call in library.calls[-2:]} == {compute}


def test_what_the_library_is_not_asked(cupy, library):
    for a, b in [("i4", "i4"), ("f4", "f8"), ("f8", "i8"), ("?", "?"), ("c8", "c8")]:
        assert ours.product(cupy.ones((2, 2), a), cupy.ones((2, 2), b)) is None
    assert library.calls == []


# ----------------------------------------------------------------------------------------------------------------------
# Streams, workspaces, threads, devices
# ----------------------------------------------------------------------------------------------------------------------


def test_a_workspace_for_each_stream(cupy, library):
    x = cupy.ones((2, 2))
    ours.product(x, x)
    ours.product(x, x)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.ptr = 2**40 + 16  # an address
        ours.product(x, x)
        ours.product(x, x)
    ours.product(x, x)
    assert [call.stream for call in library.calls] == [0, 0, stream.ptr, stream.ptr, 0]
    first, second, third, fourth, _ = (call.workspace for call in library.calls)
    assert first == second
    assert third == fourth
    assert first[1] == ours.WORKSPACE
    assert len(library.handles) == 1


def test_the_workspace_is_kept_and_goes_with_the_library(cupy, library, monkeypatch):
    monkeypatch.setattr(ours, "WORKSPACE", 2**25)
    pool, x = cupy.get_default_memory_pool(), cupy.ones((2, 2))
    before = pool.used_bytes()
    for _ in range(3):
        ours.product(x, x)
    assert pool.used_bytes() == before + 2**25
    ours.reset()
    importlib.import_module("gc").collect()
    assert pool.used_bytes() == before


def test_a_captured_product_leaves_nothing_to_those_after_it(cupy, library):
    pool, x = cupy.get_default_memory_pool(), cupy.ones((2, 2))
    ours.product(x, x)
    places = []
    for _ in range(2):
        with capturing(), pytest.MonkeyPatch.context() as patch:
            empty, taken = cupy.empty, []
            patch.setattr(cupy, "empty", lambda *args, empty=empty, taken=taken: taken.append(args[0]) or empty(*args))
            ours.product(x, x)
            ours.product(x, x)
            assert taken.count(ours.WORKSPACE) == 2  # each from the step's own pool
        places.append(pool.used_bytes())
    assert places[0] == places[1]  # and given back
    before = len(library.calls)
    ours.product(x, x)
    assert library.calls[before].workspace is not None
    assert pool.used_bytes() == places[0] + ours.WORKSPACE


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_a_handle_for_each_thread_and_device(cupy, library):
    def work(device):
        with cupy.cuda.Device(device):
            x = cupy.ones((2, 2))
            for _ in range(3):
                ours.product(x, x)

    for device in (0, 1, 0):
        work(device)
    assert [handle.device for handle in library.handles] == [0, 1]
    go_on = threading.Barrier(2)

    def twice(device):
        work(device)
        go_on.wait(timeout=60)  # both at once
        work(device)

    for _ in range(3):
        threads = [threading.Thread(target=twice, args=(0,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [handle.device for handle in library.handles] == [0, 1, 0, 0]  # those of threads that ended serve again


@pytest.mark.parametrize("machine", [2], indirect=True)
def test_arrays_on_another_device_than_the_current_one(cupy, library):
    with cupy.cuda.Device(1):
        x = cupy.ones((2, 2))
    y = ours.product(x, x)
    assert y.device.id == 1
    assert library.calls[-1].handle.device == 1
    assert ours.product(x, cupy.ones((2, 2))) is None


# ----------------------------------------------------------------------------------------------------------------------
# Errors, and no library
# ----------------------------------------------------------------------------------------------------------------------


def test_an_error_is_told_by_its_name(cupy, library):
    x = cupy.ones((2, 3), "f4")
    library.answers["cublasGemmEx"] = 13
    with pytest.raises(RuntimeError, match=r"matmul: \(2, 3\) @ \(3, 2\) of float32: .*CUBLAS_STATUS_EXECUTION_FAILED"):
        ours.product(x, x.T)
    library.answers = {"cublasSetWorkspace_v2": 7}
    with cupy.cuda.Stream(), pytest.raises(RuntimeError, match="CUBLAS_STATUS_INVALID_VALUE"):
        ours.product(x, x.T)
    library.answers = {"cublasSetStream_v2": 99}
    with cupy.cuda.Stream(), pytest.raises(RuntimeError, match="unknown"):
        ours.product(x, x.T)
    library.answers = {}
    check(ours.product(x, x.T), x.get(), x.T.get())


def cupys(cupy):
    """CuPy's own products still work."""
    x = cupy.ones((2, 3), "f4")
    assert ours.product(x, x.T) is None
    check(product.matmul(x, x.T), x.get(), x.T.get())
    check(product.einsum("ij,kj->ik", x, x), x.get(), x.T.get())
    y = product.linear(x, x.T, cupy.ones(2, "f4"))
    check(y, x.get(), x.T.get(), plus=1)


def refused(cupy, reason):
    cupys(cupy)
    x = cupy.ones((2, 3), "f4")
    with capturing(), pytest.raises(RuntimeError, match=f"cannot be captured without cuBLAS: .*{reason}"):
        product.matmul(x, x.T)
    with capturing(), pytest.raises(RuntimeError, match="cannot be captured without cuBLAS"):
        product.einsum("ij,kj->ik", x, x)
    assert not ours.status()[0]


def test_without_the_library_products_are_cupys(cupy, monkeypatch):
    monkeypatch.setattr(ours, "load", lambda name, version: None)
    monkeypatch.setattr(ours, "load_any", lambda name: None)
    refused(cupy, "libcublas.so.13 is missing: pip install")


def test_a_library_that_is_too_old(cupy, library):
    del library.cublasGemmEx_64
    refused(cupy, "too old")


def test_a_library_that_no_device_answers(cupy, library):
    library.answers["cublasCreate_v2"] = 1
    refused(cupy, "CUBLAS_STATUS_NOT_INITIALIZED")


def test_the_library_is_turned_off(cupy, monkeypatch):
    monkeypatch.setenv("DEZERO_CUBLAS", "0")
    refused(cupy, "turned off by DEZERO_CUBLAS=0")


def test_status_names_the_version(cupy, library):
    assert ours.status() == (True, "cuBLAS 13.1.2")


def test_a_library_of_another_version_is_the_last_resort(cupy, library, monkeypatch):
    monkeypatch.setattr(ours, "load", lambda name, version: None)
    monkeypatch.setattr(ours, "load_any", lambda name: library)
    assert ours.status()[0]


def test_what_is_not_installed_is_not_found():
    assert libraries.load("no_such_library_of_cuda", 13) is None
    assert libraries.load_any("no_such_library_of_cuda") is None


def test_the_real_library_has_all_functions():
    loaded = next(filter(None, (libraries.load("cublas", version) for version in (13, 12))), None)
    if loaded is None:
        pytest.skip("libcublas is not installed")
    assert [name for name in ours._NEEDED if not hasattr(loaded, name)] == []


def test_the_stand_in_has_the_functions_that_are_asked_for():
    assert sorted(ours._NEEDED) == sorted(PROTOTYPES)


# ----------------------------------------------------------------------------------------------------------------------
# The kernels made of products
# ----------------------------------------------------------------------------------------------------------------------

MADE_OF_PRODUCTS = ["matmul", "einsum", "linear", "gates", "gates_grad_x", "gates_grad_w"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", MADE_OF_PRODUCTS)
def test_the_table_of_kernels_agrees_with_the_reference(either, name, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for case in KERNELS[name]:
        host = [x.astype(dtype) if isinstance(x, np.ndarray) else x for x in case]
        exact = [x.astype(np.float64) if isinstance(x, np.ndarray) else x for x in host]
        args = [either.asarray(x) if isinstance(x, np.ndarray) else x for x in host]
        found, wanted = getattr(product, name)(*args), getattr(reference, name)(*exact)
        assert isinstance(found, tuple) == isinstance(wanted, tuple)
        for y, z in zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]:
            assert y.dtype == dtype
            assert y.shape == z.shape
            room = 4 * TOLERANCE[dtype] * max(1.0, np.abs(z).max(initial=0))
            np.testing.assert_allclose(y.get().astype("f8"), z, rtol=0, atol=room)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_integers_are_cupys(cupy, library, dtype):
    for name in MADE_OF_PRODUCTS:
        case = [np.round(3 * x).astype(dtype) if isinstance(x, np.ndarray) else x for x in KERNELS[name][0]]
        if name == "gates":
            continue
        found = getattr(product, name)(*(cupy.asarray(x) if isinstance(x, np.ndarray) else x for x in case))
        wanted = getattr(reference, name)(*case)
        for y, z in zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]:
            assert y.dtype == dtype
            np.testing.assert_array_equal(y.get(), z)
    assert library.calls == []


def launches(cupy, library, f):
    before, products = len(machine_of(cupy).launched), len(library.calls)
    f()
    return len(machine_of(cupy).launched) - before, len(library.calls) - products


def test_how_many_launches_a_kernel_takes(cupy, library):
    x, h, W, U, b = (cupy.ones(shape) for shape in [(4, 3), (4, 5), (3, 5), (5, 5), (5,)])
    gy = cupy.ones((4, 4, 5))
    assert launches(cupy, library, lambda: product.linear(x, W, None)) == (0, 1)
    assert launches(cupy, library, lambda: product.linear(x, W, b)) == (1, 1)
    assert launches(cupy, library, lambda: product.gates(x, h, *[W] * 4, *[b] * 4, *[U] * 4)) == (1, 8)
    assert launches(cupy, library, lambda: product.gates(x, h, *[W] * 5, *[b] * 5, *[U] * 5)) == (2, 10)
    assert launches(cupy, library, lambda: product.gates_grad_x(gy, *[W] * 4)) == (0, 4)
    assert launches(cupy, library, lambda: product.gates_grad_w(x, gy)) == (0, 1)


def test_each_gate_has_its_bias(either):
    for count in (1, 2, 3, 4, 5, 9):
        x, h, W, U = (np.zeros(shape) for shape in [(4, 3), (4, 5), (3, 5), (5, 5)])
        b = [10.0 * j + np.arange(5) for j in range(count)]
        args = [either.asarray(a) for a in (x, h, *[W] * count, *b, *[U] * count)]
        np.testing.assert_array_equal(product.gates(*args).get(), np.repeat(np.array(b)[:, None], 4, axis=1))


def test_the_backend_takes_them_from_here(cupy, library):
    backend = kernels.for_array(cupy.ones(1))
    assert all(getattr(backend, name) is getattr(product, name) for name in MADE_OF_PRODUCTS)


# ----------------------------------------------------------------------------------------------------------------------
# While a step is captured
# ----------------------------------------------------------------------------------------------------------------------

SUBSCRIPTS = {
    "ij,jk->ik": [(4, 3), (3, 5)],
    "ij,kj->ki": [(4, 3), (5, 3)],
    "ji,kj->ik": [(3, 4), (5, 3)],
    "bij,bjk->bik": [(2, 4, 3), (2, 3, 5)],
    "bhtd,bhsd->bhts": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "bthd,bshd->bhts": [(2, 4, 3, 5), (2, 6, 3, 5)],
    "i,i->": [(4,), (4,)],
    "i,j->ij": [(4,), (3,)],
    "i,j->ji": [(4,), (3,)],
    "i,i->i": [(4,), (4,)],
    "ij,ij->i": [(4, 3), (4, 3)],
    "ij,ij->ji": [(4, 3), (4, 3)],
    "ij,ij->": [(4, 3), (4, 3)],
    "ij,k->ki": [(4, 3), (5,)],
    "ij,k->": [(4, 3), (5,)],
    "ijj,jk->ik": [(4, 3, 3), (3, 5)],
    "ii,ii->i": [(3, 3), (3, 3)],
    "ab,bc->ac": [(4, 1), (3, 5)],
    "ab,cb->abc": [(4, 1), (5, 3)],
    "ab,ab->": [(4, 1), (1, 5)],
    "ab,bc->c": [(4, 3), (1, 5)],
    ",ij->ji": [(), (4, 3)],
    "ab,bc,cd->ad": [(4, 3), (3, 5), (5, 2)],
    "ab,bc,cd->da": [(9, 2), (2, 9), (9, 2)],
    "a,b,c->cab": [(2,), (3,), (4,)],
    "ab,ab,ab->ab": [(2, 3), (2, 3), (2, 3)],
    "ab,cd,ef,b->af": [(2, 3), (4, 5), (2, 3), (3,)],
    "ab,bc,ca->": [(2, 3), (3, 4), (4, 2)],
    "ij,jk->": [(0, 3), (3, 5)],
    "ij,jk->ki": [(0, 3), (3, 5)],
    "ij,ik->jk": [(1, 3), (0, 5)],
    "ij,ij->j": [(0, 3), (1, 3)],
    "ij,jk->ik ": [(4, 0), (0, 5)],
    "iij->j": [(3, 3, 2)],
}


@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_an_einstein_sum_is_captured(captured, subscripts, dtype):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(dtype) for shape in SUBSCRIPTS[subscripts]]
    y = product.einsum(subscripts.strip(), *map(captured.asarray, xs))
    wanted = np.einsum(subscripts, *(x.astype("f8") for x in xs))
    assert y.shape == wanted.shape
    assert y.dtype == dtype
    np.testing.assert_allclose(y.get().astype("f8"), wanted, rtol=0, atol=10 * TOLERANCE[dtype])


def test_several_operands_at_once(captured, monkeypatch):
    for subscripts, shapes in SUBSCRIPTS.items():
        if len(shapes) > 2:
            monkeypatch.setattr(product, "_order", lambda labels, out, shapes: [tuple(range(len(labels)))])
            xs = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
            y = product.einsum(subscripts, *map(captured.asarray, xs))
            np.testing.assert_allclose(y.get(), np.einsum(subscripts, *xs), rtol=0, atol=1e-12)


def test_what_sums_over_nothing_is_no_matrix_product(captured, library):
    for subscripts in ("i,i->i", "ij,ij->ji", "i,j->ji", "ij,j->ij"):
        product.einsum(subscripts, *(captured.ones((3,) * len(term)) for term in subscripts.split("->")[0].split(",")))
    assert library.calls == []


def test_the_same_products_are_asked_for_as_elsewhere(cupy, library):
    def work():
        x, W, b = cupy.ones((4, 3), "f4"), cupy.ones((3, 5), "f4"), cupy.ones(5, "f4")
        product.linear(x, W, b)
        product.matmul(x.T, cupy.ones((2, 4, 5), "f4"))
        product.einsum("ij,jk,kl->il", x, W, W.T)
        before.append([(c.transposed, c.sizes, c.count, c.compute, c.beta, c.workspace[1]) for c in library.calls])
        library.calls.clear()

    before = []
    work()
    with capturing():
        work()
    assert before[0] == before[1] != []


def test_two_dtypes_are_brought_to_one(captured, library):
    a, b = arrays((4, 3), (3, 5))
    y = product.matmul(captured.asarray(a), captured.asarray(b.astype("f4")))
    check(y, a, b.astype("f4").astype("f8"))
    y = product.matmul(captured.asarray(np.arange(12).reshape(4, 3)), captured.asarray(b))
    check(y, np.arange(12.0).reshape(4, 3), b)


def test_what_cannot_be_captured_is_named(captured):
    x = captured.ones((2, 2), "complex128")
    with pytest.raises(RuntimeError, match="matmul: a product of complex128 cannot be captured"):
        product.matmul(x, x)


def test_products_in_a_graph(either):
    x, W, b = either.ones((4, 3), "f4"), either.ones((3, 5), "f4"), either.ones(5, "f4")
    batch = either.ones((2, 4, 5), "f4")
    stream, pool = either.cuda.Stream(non_blocking=True), either.cuda.MemoryPool()
    either.cuda.Device().synchronize()

    def step():
        return product.linear(x, W, b), product.matmul(x.T, batch), product.einsum("ij,jk->ki", x, W)

    with stream:
        step()  # compiled and loaded
        with either.cuda.using_allocator(pool.malloc):
            stream.begin_capture(either.cuda.runtime.streamCaptureModeRelaxed)
            with capturing():
                results = step()
            graph = stream.end_capture()
        for value in (1.0, 2.0, 3.0):
            x.fill(value)
            graph.launch(stream)
            wanted = [y.get() for y in step()]
            for y, z in zip(results, wanted, strict=True):
                np.testing.assert_array_equal(y.get(), z)


@pytest.mark.gpu
@pytest.mark.parametrize("either", ["real"], indirect=True)
def test_digits_on_the_device(either, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((700, 700)) for _ in range(2))
    for dtype, room in [("float64", 1e-12), ("float32", 2e-5), ("float16", 4e-2)]:
        x, y = a.astype(dtype), b.astype(dtype)
        z = ours.product(either.asarray(x), either.asarray(y)).get()
        again = ours.product(either.asarray(x), either.asarray(y)).get()
        assert z.tobytes() == again.tobytes()
        np.testing.assert_allclose(z.astype("f8"), x.astype("f8") @ y.astype("f8"), rtol=0, atol=room * 4)
    monkeypatch.setitem(vars(cuda), "allow_tf32", True)
    z = ours.product(either.asarray(a.astype("f4")), either.asarray(b.astype("f4"))).get()
    np.testing.assert_allclose(z, a @ b, rtol=0, atol=0.5)


def test_the_table_of_layouts_is_of_layouts(cupy):
    x = cupy.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 5)))
    for layout, again in itertools.product(LAYOUTS, repeat=2):
        assert (layout(cupy, again(cupy, x)).get() == x.get()).all()
    assert len({layout(cupy, x).strides for layout in LAYOUTS}) == len(LAYOUTS)
