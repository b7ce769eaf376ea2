"""The stand-in for CuPy: as strict as CuPy, and its processor runs CUDA sources as a device would."""

import copy
import functools
import inspect
import operator
import os
import pickle
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from simulated_gpu import have_compiler, host_view, kernels, machine_of, modules, pieces_of
from simulated_gpu.functions import signatures
from simulated_gpu.machine import BAD

needs_compiler = pytest.mark.skipif(not have_compiler(), reason="needs g++")


@pytest.fixture
def cupy(monkeypatch):
    made = modules(devices=2)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made["cupy"]


@pytest.fixture
def x(cupy):
    return cupy.asarray(np.arange(6.0).reshape(2, 3))


H = np.ones((2, 3))  # an array of the host

# ----------------------------------------------------------------------------------------------------------------------
# Arrays: what CuPy refuses
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (lambda x: x + H, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: H + x, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: x * np.array(2.0), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: operator.iadd(x, H), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: np.maximum(x, H), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: np.concatenate([x, H]), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: np.where(x > 0, x, H), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: x @ H.T, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: x + [1.0, 2.0, 3.0], "Unsupported type <class 'list'>"),
        (lambda x: np.asarray(x), "Implicit conversion to a NumPy array is not allowed"),
        (lambda x: np.array([x, x]), "Implicit conversion to a NumPy array is not allowed"),
        (lambda x: type(x).__array__(x), "Please use `.get()`"),
        (lambda x: np.add.at(x, (0,), 1.0), "all returned NotImplemented"),
        (lambda x: np.polyfit(x, x, 1), "no implementation found"),
        (lambda x: x.max(initial=0.0), "initial"),
        (lambda x: np.max(x, initial=0.0), "initial"),
        (lambda x: x.sum(where=x > 0), "where"),
        (lambda x: np.exp(x, where=x > 0), "where"),
        (lambda x: x.take([0], mode="clip"), "mode"),
        (lambda x: x.astype("f4", casting="safe"), "casting is not supported"),
        (lambda x: hash(x), "unhashable"),
        (lambda x: len(x[0, 0]), "unsized"),
        (lambda x: iter(x[0, 0]), "0-d"),
        (lambda x: range(x[0, 0].astype(int)), "integer"),
        (lambda x: np.add(x, 1, out=H), "return arrays must be of ArrayType"),
        (lambda x: x.__iadd__(1j), "could not be coerced"),
    ],
)
def test_what_cupy_refuses_is_a_type_error(x, f, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        f(x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: operator.setitem(x, 0, H[0]),
        lambda x: operator.setitem(x, ..., H),
        lambda x: operator.setitem(x, 0, H[0, :1]),
        lambda x: operator.setitem(x, 0, [1.0, 2.0, 3.0]),
        lambda x: x.fill(H),
        lambda x: x.max(axis=0).reshape(2),
        lambda x: x[:0].max(),
        lambda x: bool(x),
        lambda x: np.sort(x, kind="quicksort"),
        lambda x: type(x)((2,), object),
    ],
)
def test_what_cupy_refuses_is_a_value_error(x, f):
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        f(x)


def test_the_flags_say_nothing_of_writing(x):
    assert not hasattr(x.flags, "writeable")
    assert x.flags.c_contiguous
    assert x.flags["C_CONTIGUOUS"]
    assert x.T.flags.f_contiguous
    assert not x[:, ::2].flags.forc


def test_nothing_warns(cupy):
    x = cupy.zeros(3)
    assert np.isnan((x / x).get()).all()
    assert np.isnan(float(x[:0].mean()))


def test_scatter_add_is_deprecated_as_in_cupy_14(cupy):
    import cupyx

    with pytest.warns(DeprecationWarning, match=r"cupy\.add\.at"):
        cupyx.scatter_add(cupy.zeros(3), cupy.array([0, 0]), 1.0)


# ----------------------------------------------------------------------------------------------------------------------
# Arrays: what they are
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(),
        lambda x: x.argmax(),
        lambda x: np.max(x),
        lambda x: x[0, 1],
        lambda x: x[0, 1] + 1,
        lambda x: 2.0 * x.mean(),
        lambda x: np.exp(x[1, 1]),
        lambda x: x[np.int64(0), 1] == 1,
        lambda x: x.dot(x.T).trace(),
    ],
)
def test_what_numpy_makes_a_scalar_is_an_array(cupy, x, f):
    y = f(x)
    assert isinstance(y, cupy.ndarray)
    assert y.shape == ()
    np.testing.assert_array_equal(y.get(), f(np.arange(6.0).reshape(2, 3)))


@pytest.mark.parametrize("number", [2, 2.0, True, np.float32(2), np.float64(2), np.int64(2)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_numbers_mix_as_with_numpy(cupy, number, dtype):
    host = np.ones(3, dtype)
    for f in (operator.add, operator.mul, operator.truediv, operator.lt):
        for found, wanted in [
            (f(cupy.asarray(host), number), f(host, number)),
            (f(number, cupy.asarray(host)), f(number, host)),
        ]:
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found.get(), wanted)


def test_an_array_of_places_wraps_around_and_a_number_does_not(cupy):
    x = cupy.arange(3.0)
    np.testing.assert_array_equal(x[cupy.array([3, -4, 1])].get(), [0.0, 2.0, 1.0])
    np.testing.assert_array_equal(x.take(cupy.array([5])).get(), [2.0])
    np.testing.assert_array_equal(cupy.take_along_axis(x, cupy.array([4]), 0).get(), [1.0])
    np.testing.assert_array_equal(x.reshape(1, 3)[..., [4]].get(), [[1.0]])
    with pytest.raises(IndexError):
        x[3]


@pytest.mark.parametrize("key", [1.5, "a", np.array([0.5]), (0, 0, 0), [0.0]])
def test_no_index(x, key):
    with pytest.raises(IndexError):
        x[key]


KEYS = [
    0,
    (0, 1),
    slice(None, None, -1),
    (..., 0),
    None,
    [1, 0],
    np.array([1, 1]),
    (slice(None), [0, 2]),
    [True, False],
]


@pytest.mark.parametrize("key", [*KEYS, ([0, 1], [2, 0]), (np.array(1), 2), (slice(1), None, [0, 1])], ids=repr)
def test_an_index_takes_what_numpys_takes(x, key):
    host = x.get()
    np.testing.assert_array_equal(x[key].get(), host[key])
    x[key] = 7.0
    host[key] = 7.0
    np.testing.assert_array_equal(x.get(), host)


def test_views_share_memory_and_copies_do_not(x):
    assert x[1].data.ptr == x.data.ptr + 24
    assert x.T.base is x
    assert x.reshape(6)[1:].base is x
    assert x.copy().base is None
    assert x.copy().data.ptr != x.data.ptr
    x[1][:] = 0.0
    np.testing.assert_array_equal(x.get()[1], 0.0)
    assert x[[0]].base is None


def test_operations_give_c_order_and_copies_may_keep_it(cupy, x):
    assert (x.T + 1).flags.c_contiguous
    assert np.exp(x.T).flags.c_contiguous
    assert x.T.copy().flags.c_contiguous
    assert x.T.astype("f4").flags.f_contiguous
    y = cupy.zeros((2, 3, 4)).transpose(2, 0, 1)
    assert cupy.empty_like(y).strides == y.strides
    assert not cupy.einsum("ij,kj->ik", x, x).flags.c_contiguous
    assert not cupy.nonzero(x)[0].flags.c_contiguous


def test_uninitialised_memory_shows(cupy):
    for dtype in ("float16", "float32", "float64"):
        assert np.isnan(cupy.empty(5, dtype).get()).all()
    assert cupy.empty((), "int32").item() == np.array([BAD, BAD], np.uint16).view(np.int32)[0]


def test_there_and_back(cupy, x):
    y = cupy.zeros((2, 3))
    y.set(H)
    np.testing.assert_array_equal(y.get(), H)
    assert cupy.asarray(x) is x
    assert cupy.array(x) is not x
    assert isinstance(cupy.asnumpy(x), np.ndarray)
    assert x.get(order="F").flags.f_contiguous
    out = np.empty((2, 3))
    assert x.get(out=out) is out
    np.testing.assert_array_equal(out, x.get())
    with pytest.raises(TypeError, match="float32 array cannot be set to float64 array"):
        y.set(H.astype("f4"))
    with pytest.raises(ValueError, match="Shape mismatch"):
        y.set(H[:1])


@pytest.mark.parametrize("f", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_all_kinds(x, f):
    y = f(x)
    assert type(y) is type(x)
    assert y.data.ptr != x.data.ptr
    np.testing.assert_array_equal(y.get(), x.get())


def test_each_machine_has_arrays_of_its_own(cupy):
    other = modules()["cupy"]
    assert not isinstance(other.zeros(3), cupy.ndarray)
    assert other.get_array_module(other.zeros(3)) is other
    assert cupy.get_array_module(H) is np


def test_additions_at_places(cupy):
    x = cupy.zeros(4, "f4")
    cupy.add.at(x, cupy.array([0, 3, 3, -4]), cupy.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(x.get(), [5.0, 0.0, 0.0, 5.0])
    with pytest.raises(TypeError, match="only supports"):
        cupy.add.at(cupy.zeros(4, int), cupy.array([0]), 1)  # CuPy 13 refuses it


def test_seeds_give_the_same_numbers_again_and_not_numpys(cupy):
    cupy.random.seed(3)
    found = cupy.random.rand(4).get()
    cupy.random.seed(3)
    np.testing.assert_array_equal(found, cupy.random.rand(4).get())
    assert not np.array_equal(found, np.random.RandomState(3).rand(4))
    assert cupy.random.default_rng(0).random((2,), "f4").dtype == np.float32


# ----------------------------------------------------------------------------------------------------------------------
# The machine
# ----------------------------------------------------------------------------------------------------------------------


def test_memory_is_counted_and_comes_back(cupy):
    pool = cupy.get_default_memory_pool()
    assert pool.used_bytes() == 0
    x = cupy.zeros(100)
    y = x[::2]
    assert pool.used_bytes() == 1024  # 800 bytes in blocks of 512
    del x
    assert pool.used_bytes() == 1024  # the view holds it
    del y
    assert (pool.used_bytes(), pool.total_bytes(), pool.n_free_blocks()) == (0, 1024, 1)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_a_limit_that_is_passed_says_so_as_cupy_does(cupy):
    pool = cupy.get_default_memory_pool()
    pool.set_limit(size=4096)
    x = cupy.zeros(300)
    said = r"Out of memory allocating 4,096 bytes \(allocated so far: 2,560 bytes, limit set to: 4,096 bytes\)\."
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match=said) as caught:
        cupy.zeros(512)
    assert isinstance(caught.value, MemoryError)
    del x
    cupy.zeros(512)  # what lay idle makes room


def test_devices(cupy):
    with cupy.cuda.Device(1):
        x = cupy.zeros(3)
        assert cupy.get_default_memory_pool().used_bytes() == 512
    assert (x.device.id, cupy.zeros(3).device.id) == (1, 0)
    assert cupy.cuda.runtime.getDeviceCount() == 2
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="invalid device"):
        cupy.cuda.Device(2).use()


def test_a_machine_without_devices():
    cupy = modules(devices=0)["cupy"]
    assert not cupy.cuda.is_available()
    for f in (cupy.cuda.runtime.getDeviceCount, lambda: cupy.zeros(3), lambda: cupy.random.seed(0)):
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="no CUDA-capable device"):
            f()


def test_a_copy_of_pinned_memory_waits_in_its_stream(cupy):
    import cupyx

    pinned, x = cupyx.zeros_pinned(3), cupy.empty(3)
    stream = cupy.cuda.Stream(non_blocking=True)
    x.set(pinned, stream=stream)
    assert np.isnan(x.get()).all()  # nobody waited
    pinned[:] = 5.0  # too early
    cupy.cuda.get_current_stream().wait_event(stream.record())
    np.testing.assert_array_equal(x.get(), 5.0)


def test_a_copy_of_common_memory_is_made_when_it_is_asked_for(cupy):
    host, x = np.zeros(3), cupy.empty(3)
    stream = cupy.cuda.Stream(non_blocking=True)
    x.set(host, stream=stream)
    host[:] = 5.0
    stream.synchronize()
    np.testing.assert_array_equal(x.get(), 0.0)


def test_streams_are_current_inside_with(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        assert cupy.cuda.get_current_stream() is stream
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    assert cupy.cuda.Stream.null.ptr == 0


def test_what_lies_at_an_address(cupy, x):
    np.testing.assert_array_equal(host_view(cupy, x.data.ptr, (2, 3), float), x.get())
    np.testing.assert_array_equal(host_view(cupy, x.data.ptr, (3, 2), float, (8, 24)), x.T.get())
    host_view(cupy, x[1].data.ptr, (3,), float)[0] = 9.0
    assert x[1, 0] == 9.0
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="illegal memory access"):
        host_view(cupy, x[1].data.ptr, (4,), float)


# ----------------------------------------------------------------------------------------------------------------------
# Kernels
# ----------------------------------------------------------------------------------------------------------------------

DOUBLE = 'extern "C" __global__ void twice(const float* x, float* y, int n) {%s}'
INDEX = "int i = blockIdx.x * blockDim.x + threadIdx.x;"


def kernel(cupy, body, name="twice", parameters="const float* x, float* y, int n", **options):
    code = f'#include <cupy/carray.cuh>\nextern "C" __global__ void {name}({parameters}) {{ {INDEX} {body} }}'
    return cupy.RawModule(code=code, **options).get_function(name)


@pytest.fixture
def floats(cupy):
    return cupy.arange(10, dtype="f4"), cupy.empty(10, "f4")


@needs_compiler
def test_a_kernel_runs(cupy, floats):
    x, y = floats
    kernel(cupy, "if (i < n) y[i] = 2 * x[i];")((3,), (4,), (x, y, np.int32(10)))
    np.testing.assert_array_equal(y.get(), 2 * x.get())
    assert list(machine_of(cupy).launched) == ["twice"]


@needs_compiler
def test_a_kernel_that_forgets_elements_leaves_them_uninitialised(cupy, floats):
    x, y = floats
    kernel(cupy, "if (i < n) y[i] = 2 * x[i];")((2,), (4,), (x, y, np.int32(10)))
    np.testing.assert_array_equal(np.isnan(y.get()), np.arange(10) >= 8)


@needs_compiler
@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("y[i] = 1;", "0 bytes behind"),
        ("if (i < n - 1) y[i + 3] = 1;", "4 bytes behind|0 bytes behind"),
        ("if (i == 0) y[-1] = 1;", "2 bytes before"),
    ],
)
def test_a_kernel_that_writes_outside_its_array_is_caught_once(cupy, floats, body, where):
    x, y = floats
    f = kernel(cupy, body)
    with pytest.raises(MemoryError, match=rf"twice, argument 1 wrote ({where}) an array of 40 bytes"):
        f((3,), (4,), (x, y, np.int32(10)))
    y.data.mem.check_guards("nobody")  # they are mended


@needs_compiler
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_guards_begin_behind_the_last_byte(cupy, dtype):
    parameters = "unsigned char* y"
    y = cupy.empty(3, "uint8")
    kernel(cupy, "if (i < 3) y[i] = 7;", parameters=parameters)((1,), (4,), (y,))
    with pytest.raises(MemoryError, match="0 bytes behind an array of 3 bytes"):
        kernel(cupy, "y[i] = 7;", parameters=parameters)((1,), (4,), (y,))


@needs_compiler
def test_what_is_read_outside_an_array_is_not_a_number(cupy, floats):
    x, y = floats
    kernel(cupy, "if (i < n) y[i] = x[i + 1];")((3,), (4,), (x, y, np.int32(10)))
    assert np.isnan(y.get()[9])


@needs_compiler
def test_a_wild_pointer_is_an_error_and_not_the_end(cupy, floats):
    x, y = floats
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match=r"illegal memory access.*SIGSEGV"):
        kernel(cupy, "y[(long long)1 << 40] = 1;")((1,), (1,), (x, y, np.int32(10)))


SUM = """
__shared__ float parts[128];
float sum = 0;
for (int k = threadIdx.x; k < n; k += blockDim.x) sum += x[blockIdx.x * n + k];
parts[threadIdx.x] = sum;
%s
for (int half = blockDim.x / 2; half; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    %s
}
if (threadIdx.x == 0) y[blockIdx.x] = parts[0];
"""


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 32, 128])
def test_threads_wait_for_each_other_at_a_barrier(cupy, threads):
    x, y = cupy.asarray(np.random.default_rng(0).random((7, 50), "f4")), cupy.empty(7, "f4")
    f = kernel(cupy, SUM % ("__syncthreads();", "__syncthreads();"))
    for _ in range(2):
        f((7,), (threads,), (x, y, np.int32(50)))
        np.testing.assert_allclose(y.get(), x.get().sum(axis=1), rtol=1e-6)


@needs_compiler
@pytest.mark.parametrize("missing", [0, 1])
def test_a_barrier_that_is_missing_shows(cupy, missing):
    x, y = cupy.ones((7, 50), "f4"), cupy.empty(7, "f4")
    barriers = ["__syncthreads();", "__syncthreads();"]
    barriers[missing] = ""
    kernel(cupy, SUM % tuple(barriers))((7,), (32,), (x, y, np.int32(50)))
    assert not (y.get() == 50).all()


@needs_compiler
@pytest.mark.parametrize("other", ["threadIdx.x + 1", "threadIdx.x + 31"])
def test_threads_run_in_more_than_one_order(cupy, other):
    body = f"""__shared__ int s[32]; s[threadIdx.x] = -blockIdx.x - 1; __syncthreads();
    s[threadIdx.x] = i; y[i] = s[({other}) % 32];"""
    y = cupy.empty(64, "i4")
    kernel(cupy, body, parameters="int* y")((2,), (32,), (y,))
    assert (y.get() < 0).sum() > 30  # in one of the blocks threads ran before their neighbours, in the other behind


@needs_compiler
def test_a_barrier_that_not_all_threads_reach_is_an_error(cupy, floats):
    x, y = floats
    f = kernel(cupy, "if (i < n) return; __syncthreads();")
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="some threads of a block have ended"):
        f((1,), (4,), (x, y, np.int32(2)))
    f((1,), (4,), (x, y, np.int32(0)))  # the next launch is well again


@needs_compiler
def test_grids_and_blocks_of_three_axes(cupy):
    body = """int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    y[block * 24 + thread] = 100 * threadIdx.z + 10 * threadIdx.y + threadIdx.x;"""
    y = cupy.empty((6, 2, 3, 4), "i4")
    kernel(cupy, body, parameters="int* y")((1, 2, 3), (4, 3, 2), (y,))
    digits = np.indices((2, 3, 4))
    np.testing.assert_array_equal(y.get(), np.broadcast_to(100 * digits[0] + 10 * digits[1] + digits[2], (6, 2, 3, 4)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda x, y: (x, y, 10), "argument 2 is a int of 8 bytes, the parameter an integer of 4"),
        (lambda x, y: (x, y, np.int64(10)), "argument 2 is a int64 of 8 bytes"),
        (lambda x, y: (x, y, 10.0), "argument 2 is a float of 8 bytes"),
        (lambda x, y: (x, y, np.float32(10)), "argument 2 is a float32 of 4 bytes, the parameter an integer"),
        (lambda x, y: (x, y, True), "argument 2 is a bool of 1 bytes"),
        (lambda x, y: (x, y), "takes 3 arguments, not 2"),
        (lambda x, y: (x, H, np.int32(10)), "Only numpy.ndarrays of size one can be passed by value"),
        (lambda x, y: (x, H[:1, :1], np.int32(10)), "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x, y: (x, y, y), "argument 2 is a pointer"),
        (lambda x, y: (np.int32(0), y, np.int32(10)), "argument 0 is a int32 of 4 bytes, the parameter a pointer"),
        (
            lambda x, y: (x.astype("f8"), y, np.int32(10)),
            "array of float64, the parameter points to elements of 4 bytes",
        ),
        (lambda x, y: (x.astype("i4"), y, np.int32(10)), "array of int32"),
        (lambda x, y: (x, [1], np.int32(10)), "Unsupported type <class 'list'>"),
    ],
)
@needs_compiler
def test_an_argument_that_a_device_would_misread_is_refused(cupy, floats, arguments, said):
    f = kernel(cupy, "if (i < n) y[i] = 2 * x[i];")
    with pytest.raises(TypeError, match=re.escape(said)):
        f((3,), (4,), arguments(*floats))


@needs_compiler
def test_a_structure_goes_by_value_as_an_array_of_one(cupy, stream):
    table = np.zeros((), [("at", "i8", 2), ("n", "i4"), ("rate", "f4")])
    y = cupy.zeros(3, "f4")
    table["at"], table["n"], table["rate"] = [0, y.data.ptr], 3, 0.5
    code = (
        "struct Table { long long at[2]; int n; float rate; };"
        'extern "C" __global__ void f(Table t) { for (int i = 0; i < t.n; ++i) ((float*)t.at[1])[i] += t.rate; }'
    )
    f = cupy.RawKernel(code, "f")
    f((1,), (1,), (table,))
    graph, _ = captured(stream, lambda: f((1,), (1,), (table,)))
    table["rate"] = 9
    graph.launch()  # with what was there
    np.testing.assert_array_equal(y.get(), 1.0)
    with pytest.raises(TypeError, match="the parameter a struct of 24"):
        f((1,), (1,), (table["at"][:1],))


@needs_compiler
def test_numbers_arrive_by_their_own_size(cupy):
    parameters = "double* y, long long a, double b, float c, short d, bool e, const int* f, unsigned char g, float16 h"
    y = cupy.empty(8)
    numbers = (-5, 2.5, np.float32(0.5), np.int16(-7), True, None, np.uint8(200), np.float16(1.5))
    body = "y[0] = a; y[1] = b; y[2] = c; y[3] = d; y[4] = e; y[5] = f == 0; y[6] = g; y[7] = (float)h;"
    kernel(cupy, body, parameters=parameters)((1,), (1,), (y, *numbers))
    np.testing.assert_array_equal(y.get(), [-5, 2.5, 0.5, -7, 1, 1, 200, 1.5])


@needs_compiler
@pytest.mark.parametrize(
    ("grid", "block"), [((0,), (4,)), ((1,), (1025,)), ((1,), (32, 64)), ((1, 70_000), (1,)), ((1,), (1, 1, 65))]
)
def test_sizes_that_a_device_refuses(cupy, floats, grid, block):
    f = kernel(cupy, "if (i < n) y[i] = 2 * x[i];")
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        f(grid, block, (*floats, np.int32(10)))


@needs_compiler
def test_a_source_that_is_wrong_says_what_the_compiler_said(cupy):
    with pytest.raises(
        cupy.cuda.compiler.CompileException, match=r"kernel\.cu:2:\d+: error(.|\n)*nonsense(.|\n)*  2 ext"
    ):
        kernel(cupy, "y[i] = nonsense;")
    with pytest.raises(cupy.cuda.compiler.CompileException, match="unrecognized option --fast"):
        kernel(cupy, "", options=("--fast",))
    with pytest.raises(TypeError, match="expected tuple, got list"):
        cupy.RawModule(code="", options=["-DA"])
    for word in ("atomicAdd(y, 1.0f);", "__shfl_down_sync(~0u, n, 1);"):
        with pytest.raises(cupy.cuda.compiler.CompileException):  # the sources do without them
            kernel(cupy, word)


@needs_compiler
def test_a_kernel_needs_a_name_that_can_be_found(cupy):
    code = "__global__ void a(int* x) {} template <class T> __global__ void b(T* x, T y) { *x = y; }"
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="named symbol not found"):
        cupy.RawModule(code=code.split("template")[0]).get_function("a")
    module = cupy.RawModule(code=code, name_expressions=["b<int>", "b<double>"])
    x = cupy.empty((), "f8")
    module.get_function("b<double>")((1,), (1,), (x, 2.5))
    assert x == 2.5
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="named symbol not found"):
        module.get_function("b<float>")


@needs_compiler
def test_options_define_macros(cupy, floats):
    x, y = floats
    f = kernel(cupy, "if (i < n) y[i] = FACTOR * x[i] + ONE;", options=("-DFACTOR=3", "-DONE", "-std=c++14"))
    f((10,), (1,), (x, y, np.int32(10)))
    np.testing.assert_array_equal(y.get(), 3 * x.get() + 1)
    code = DOUBLE % (INDEX + "if (i < n) y[i] = 2 * x[i];")
    cupy.RawKernel(code, "twice")((10,), (1,), (x, y, np.int32(10)))
    np.testing.assert_array_equal(y.get(), 2 * x.get())


HALF_NUMBERS = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32).view(np.float32)
SPECIAL = [0.0, -0.0, np.inf, np.nan, 65504, 65519.9, 65520, 65536, 2**-14, 2**-24, 2**-25, 1.5 * 2**-25, 1e-30, 2049]


@needs_compiler
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_rounded_as_numpy_rounds_it(cupy, name):
    dtype = np.dtype(name) if name == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = cupy.asarray(np.concatenate([HALF_NUMBERS, np.arange(-1.0, 1.0, 1e-4, "f4"), np.array(SPECIAL, "f4")]))
    y, z = cupy.empty(x.shape, dtype), cupy.empty(x.shape, "f4")
    include = f"#include <cupy/{name}.cuh>\n"
    code = (
        include + f'extern "C" __global__ void f(const float* x, {name}* y, float* z) {{ {INDEX} y[i] = ({name})x[i];'
    )
    cupy.RawModule(code=code + "z[i] = (float)y[i]; }").get_function("f")((len(x),), (1,), (x, y, z))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.get().astype(dtype)
    np.testing.assert_array_equal(y.get().astype("f4"), wanted.astype("f4"))
    np.testing.assert_array_equal(z.get(), wanted.astype("f4"))


@needs_compiler
def test_mathematics_has_overloads_and_order(cupy):
    body = """y[0] = exp(x[0]); y[1] = log(x[0]); y[2] = tanhf(x[0]); y[3] = rsqrt(x[0]); y[4] = max(x[0], 2.0f);
    y[5] = min(n, 2); y[6] = isnan(x[1]); y[7] = pow(x[0], 3); y[8] = fmaxf(x[1], 1.0f); y[9] = __ldg(x);"""
    x, y = cupy.asarray(np.array([1.5, np.nan], "f4")), cupy.empty(10, "f4")
    kernel(cupy, body)((1,), (1,), (x, y, np.int32(5)))
    wanted = [np.exp(1.5), np.log(1.5), np.tanh(1.5), 1.5**-0.5, 2, 2, 1, 1.5**3, 1, 1.5]
    np.testing.assert_allclose(y.get(), wanted, rtol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# Elementwise kernels
# ----------------------------------------------------------------------------------------------------------------------


@needs_compiler
def test_an_elementwise_kernel_broadcasts_and_types_its_numbers(cupy, x):
    f = cupy.ElementwiseKernel("T x, T y, float32 a", "T z", "z = a * x + y", "axpy")
    row = cupy.asarray(np.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(f(x, row, 2).get(), 2 * x.get() + row.get())
    np.testing.assert_array_equal(f(x.T, row[:2], 2).get(), 2 * x.get().T + row.get()[:2])
    assert f(x, 1, 2.0).dtype == np.float64
    assert f(x[0, 0], 1, 2.0).shape == ()
    assert f(x[:0], 1, 2.0).shape == (0, 3)
    assert f(x.astype("f4"), np.float64(1), 2.0).dtype == np.float32
    assert machine_of(cupy).launched[-1] == "axpy"


@needs_compiler
def test_an_elementwise_kernel_writes_to_what_it_is_given(cupy, x):
    before, v = x.get(), cupy.ones((2, 3))
    f = cupy.ElementwiseKernel("T g, T lr", "T p, T v", "v = T(0.5) * v - lr * g; p += v")
    found = f(cupy.ones((2, 3)), 0.1, x, v)
    assert found[0] is x
    assert found[1] is v
    np.testing.assert_allclose(v.get(), 0.4)
    np.testing.assert_allclose(x.get(), before + 0.4)


@needs_compiler
def test_raw_arrays_have_indexes_and_a_size(cupy, x):
    f = cupy.ElementwiseKernel("raw T x, raw int64 at", "T z", "z = at.size() * x[at[_ind.size() - 1 - i]]")
    at = cupy.array([1, 5, 0])
    np.testing.assert_array_equal(f(x, at, size=3).get(), [0.0, 15.0, 3.0])
    f = cupy.ElementwiseKernel("raw T x", "T z", "int at[] = {1, (int)i}; z = x[at]")
    np.testing.assert_array_equal(f(x, size=3).get(), [3.0, 4.0, 5.0])
    np.testing.assert_array_equal(f(x.T, size=2).get(), [1.0, 4.0])


@needs_compiler
def test_parts_of_an_elementwise_kernel(cupy, x):
    f = cupy.ElementwiseKernel(
        "T x",
        "bool y, float16 z",
        "y = small(x); z = (float)x * c",
        preamble="template <class T> __device__ bool small(T x) { return x < 2; }",
        loop_prep="float c = 0.5f",
        options=("-DUNUSED=1",),
        return_tuple=True,
    )
    y, z = f(x)
    np.testing.assert_array_equal(y.get(), x.get() < 2)
    np.testing.assert_array_equal(z.get(), (x.get() / 2).astype("f2"))
    assert cupy.ElementwiseKernel("T x", "T y", "y = x", no_return=True)(x) is None


@needs_compiler
@pytest.mark.parametrize("dtype", kernels.C_TYPES)
def test_every_type_of_an_elementwise_kernel(cupy, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    values = np.array([-100, -1, 0, 1, 100]).astype(dtype)
    y = cupy.ElementwiseKernel("T x", "float64 y, T z", "y = (double)x; z = x")(cupy.asarray(values))
    np.testing.assert_array_equal(y[0].get(), values.astype(float))
    np.testing.assert_array_equal(y[1].get(), values)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (lambda x: (x, x.astype("f4")), TypeError, "Type is mismatched. y float32 float64 T"),
        (lambda x: (x, H), TypeError, "Unsupported type <class 'numpy.ndarray'>"),
        (lambda x: (x, None), TypeError, "Unsupported type <class 'NoneType'>"),
        (lambda x: (x,), TypeError, "takes 2 or 3 arguments, not 1"),
        (lambda x: (x, x, x.astype("f4")), TypeError, "Type is mismatched"),
        (lambda x: (x, x, 1.0), TypeError, "Output arguments must be cupy.ndarray"),
        (lambda x: (x, x, x[0]), ValueError, "Out shape is mismatched"),
        (lambda x: (1, 2), TypeError, "nothing says which type"),
        (lambda x: (x, x[:, :2]), ValueError, "broadcast"),
    ],
)
def test_what_an_elementwise_kernel_refuses(cupy, x, arguments, error, said):
    f = cupy.ElementwiseKernel("T x, T y", "T z", "z = x + y")
    with pytest.raises(error, match=said):
        f(*arguments(x))


@needs_compiler
def test_an_elementwise_kernel_may_not_write_to_its_inputs(cupy, x):
    with pytest.raises(cupy.cuda.compiler.CompileException, match="read-only"):
        cupy.ElementwiseKernel("T x", "T y", "x = 1; y = x")(x)


@needs_compiler
def test_an_elementwise_kernel_that_reaches_beyond_is_caught(cupy, x):
    with pytest.raises(MemoryError, match="kernel, parameter y wrote 0 bytes behind an array of 48 bytes"):
        cupy.ElementwiseKernel("T x", "raw T y", "y[i + 1] = x")(x, x.copy())


# ----------------------------------------------------------------------------------------------------------------------
# Graphs
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def captured(stream, f, mode=None):
    """Return the graph of what `f()` does in a stream, and what it returned."""
    with stream:
        stream.begin_capture(mode)
        found = f()
        return stream.end_capture(), found


OF_NUMBERS = [  # functions of CuPy, a 2 x 3 array, two indexes and a mask, that return something
    lambda cp, x, i, m: x + 1,
    lambda cp, x, i, m: (1 - x) * x / 2 % 3,
    lambda cp, x, i, m: 2**x + -abs(x),
    lambda cp, x, i, m: x > x.mean(),
    lambda cp, x, i, m: ~m & (x == x),
    lambda cp, x, i, m: np.exp(x),
    lambda cp, x, i, m: cp.maximum(x, 1.5),
    lambda cp, x, i, m: cp.add(x, x, out=cp.empty((2, 3))),
    lambda cp, x, i, m: x.sum(),
    lambda cp, x, i, m: np.max(x, axis=1),
    lambda cp, x, i, m: x.mean(axis=0, keepdims=True),
    lambda cp, x, i, m: x.var(axis=0),
    lambda cp, x, i, m: cp.sum(x, axis=0, out=cp.empty(3)),
    lambda cp, x, i, m: x.argmax(axis=1),
    lambda cp, x, i, m: x.cumsum(axis=1),
    lambda cp, x, i, m: x[i],
    lambda cp, x, i, m: x[i[0], 1] + x[0, 0],
    lambda cp, x, i, m: x[1, ::-1].copy(),
    lambda cp, x, i, m: x.T.reshape(6),
    lambda cp, x, i, m: x.take(i, axis=1),
    lambda cp, x, i, m: cp.take_along_axis(x, i[:, None], 1),
    lambda cp, x, i, m: x.astype("f4"),
    lambda cp, x, i, m: cp.asarray(x, "f4"),
    lambda cp, x, i, m: cp.array([x, x]),
    lambda cp, x, i, m: cp.ascontiguousarray(x.T),
    lambda cp, x, i, m: copy.deepcopy(x),
    lambda cp, x, i, m: cp.asarray(2.5) * cp.array(np.float32(3)),
    lambda cp, x, i, m: cp.zeros(3),
    lambda cp, x, i, m: cp.ones((2, 2), "f2"),
    lambda cp, x, i, m: cp.full(2, x[1, 1]),
    lambda cp, x, i, m: cp.full_like(x, 3.0),
    lambda cp, x, i, m: cp.arange(4),
    lambda cp, x, i, m: cp.eye(2),
    lambda cp, x, i, m: cp.linspace(0.0, 1.0, 3),
    lambda cp, x, i, m: x.imag,
    lambda cp, x, i, m: cp.where(m, x, -x),
    lambda cp, x, i, m: cp.clip(x, x[0, 0], 2.0),
    lambda cp, x, i, m: cp.concatenate([x, x[:1]]),
    lambda cp, x, i, m: cp.stack([x, x], axis=2),
    lambda cp, x, i, m: cp.pad(x, 1),
    lambda cp, x, i, m: cp.roll(x, 1, axis=1),
    lambda cp, x, i, m: cp.tril(x),
    lambda cp, x, i, m: cp.sort(-x, axis=1),
    lambda cp, x, i, m: cp.argsort(-x),
    lambda cp, x, i, m: x.repeat(2, axis=0),
    lambda cp, x, i, m: cp.allclose(x, x),
    lambda cp, x, i, m: cp.count_nonzero(m),
    lambda cp, x, i, m: cp.broadcast_to(x.sum(axis=0), (2, 3)),
    # products that CuPy does by itself
    lambda cp, x, i, m: x[0] @ x[1],
    lambda cp, x, i, m: x[:1] @ x[1:].T,
    lambda cp, x, i, m: x.astype(int) @ x.astype(int).T,
    lambda cp, x, i, m: x[:, :0] @ x[:0],
    lambda cp, x, i, m: cp.dot(x, x[0, 0]),
    lambda cp, x, i, m: cp.tensordot(x, x, axes=2),
    lambda cp, x, i, m: cp.outer(x, x),
    lambda cp, x, i, m: cp.einsum("ij->j", x),
    lambda cp, x, i, m: cp.einsum("ij,j->ij", x, x[0]),
    lambda cp, x, i, m: cp.einsum("ij,j->j", x, x[0]),
    lambda cp, x, i, m: cp.einsum("ij,ij->i", x[:, :1], x[:, :1]),
    lambda cp, x, i, m: cp.einsum("ij,kj->ik", x.astype(int), x.astype(int)),
]


IN_PLACE = [  # these change x
    lambda cp, x, i, m: operator.iadd(x, 1),
    lambda cp, x, i, m: operator.itruediv(x, x[0, 1]),
    lambda cp, x, i, m: operator.setitem(x, 0, 7.0),
    lambda cp, x, i, m: operator.setitem(x, i, x[0] + 1),
    lambda cp, x, i, m: operator.setitem(x, (slice(None), 0), x[:, 1]),
    lambda cp, x, i, m: operator.setitem(x[1], ..., x[0]),
    lambda cp, x, i, m: cp.add.at(x, i, x * 2),
    lambda cp, x, i, m: x.fill(2.0),
    lambda cp, x, i, m: np.multiply(x, 2, out=x),
    lambda cp, x, i, m: operator.isub(x, 10) is x.sort(axis=1),
    lambda cp, x, i, m: x.put(i, 5.0),
    lambda cp, x, i, m: cp.copyto(x, -x, where=m),
    lambda cp, x, i, m: x[1].data.memset_async(0, 8),
    lambda cp, x, i, m: x.data.copy_from_device_async(x[1].data, 16),
]


@pytest.mark.parametrize("f", OF_NUMBERS + IN_PLACE, ids=lambda f: inspect.getsource(f).strip()[22:-1])
def test_what_is_recorded_is_done_at_each_launch(cupy, x, stream, f):
    def operands(values):
        return cupy.asarray(values), cupy.array([1, 0]), cupy.asarray(values > 2)

    def done(args):
        """What is to be looked at after f: what it returned, or what it changed."""
        found = f(cupy, *args)
        return args[0] if f in IN_PLACE else found

    x, i, m = operands(np.arange(6.0).reshape(2, 3))
    graph, y = captured(stream, lambda: done((x, i, m)))
    np.testing.assert_array_equal(x.get(), np.arange(6.0).reshape(2, 3))  # nothing has been done
    for values in (np.arange(6.0).reshape(2, 3), np.arange(6.0)[::-1].reshape(2, 3) / 2 + 0.5):
        wanted = done(operands(values))
        assert (y.shape, y.dtype, y.strides) == (wanted.shape, wanted.dtype, wanted.strides)
        if y is not x and y.size:
            bad = np.full(8 * 64, BAD, np.uint16).view(y.dtype)[:1]
            np.testing.assert_array_equal(y.get().ravel()[-1:], bad)
        x[...], m[...] = cupy.asarray(values), cupy.asarray(values > 2)
        graph.launch()
        np.testing.assert_array_equal(y.get(), wanted.get())
        if y is not x and y.size:  # spoilt again
            host_view(cupy, y.data.mem.ptr, (y.data.mem.nbytes // 2,), np.uint16)[...] = BAD


def test_views_and_empty_arrays_are_nothing_to_record(cupy, x, stream):
    def f():
        y = cupy.empty((2, 3))
        return (
            x[1:].T.reshape(3).view(),
            y[0],
            cupy.broadcast_to(x, (4, 2, 3)),
            len(x),
            x.__cuda_array_interface__["data"],
        )

    graph, found = captured(stream, f)
    assert pieces_of(graph) == []
    assert found[0].base is x
    assert pieces_of(captured(stream, lambda: cupy.zeros(3))[0]) == ["zeros"]
    assert pieces_of(captured(stream, lambda: x.T.reshape(6) + x[0, 0])[0]) == ["reshape", "__add__"]


@needs_compiler
def test_kernels_are_recorded(cupy, stream, floats):
    x, y = floats
    twice = kernel(cupy, "if (i < n) y[i] = 2 * x[i];")
    plus = cupy.ElementwiseKernel("T x, T a", "T y", "y = x + a", "plus")
    graph, z = captured(stream, lambda: (twice((3,), (4,), (x, y, np.int32(10))), plus(y, 1))[1])
    assert list(machine_of(cupy).launched) == []
    assert pieces_of(graph) == ["twice", "plus"]
    assert np.isnan(y.get()).all()
    assert np.isnan(z.get()).all()
    for _ in range(2):
        x += 1
        graph.launch()
        np.testing.assert_array_equal(z.get(), 2 * x.get() + 1)
    assert list(machine_of(cupy).launched) == ["twice", "plus"] * 2


@needs_compiler
def test_a_recorded_kernel_is_watched_and_its_arguments_are_looked_at(cupy, stream, floats):
    x, y = floats
    graph, _ = captured(stream, lambda: kernel(cupy, "y[i + 500] = 1;")((1,), (1,), (x, y, np.int32(10))))
    with pytest.raises(MemoryError, match="twice, argument 1 wrote"):
        graph.launch()
    with pytest.raises(TypeError, match="takes 3 arguments"):
        captured(stream, lambda: kernel(cupy, "y[i] = 1;")((1,), (1,), (x, y)))


def test_functions_that_know_addresses_are_recorded(cupy, x, stream):
    machine, y = machine_of(cupy), cupy.zeros(3)

    def add(pointer):
        host_view(cupy, pointer, (3,), float)[...] += 1

    machine.record(functools.partial(add, y.data.ptr))
    np.testing.assert_array_equal(y.get(), 1.0)  # at once

    def f():
        z = cupy.zeros(3)
        machine.record(functools.partial(add, z.data.ptr))
        machine.record(functools.partial(add, y.data.ptr), stream.ptr)
        machine.record(functools.partial(add, y.data.ptr), 0)  # in the null stream, which does not capture
        return z.sum()  # z is given back, and what is replayed finds it still

    graph, total = captured(stream, f)
    np.testing.assert_array_equal(y.get(), 2.0)  # the one in the null stream
    for n in range(3):
        graph.launch()
        assert total == 3
        np.testing.assert_array_equal(y.get(), 3.0 + n)


def test_a_function_is_in_order_with_its_stream(cupy, x, stream):
    import cupyx

    seen = []
    x.set(cupyx.zeros_pinned((2, 3)), stream=stream)
    machine_of(cupy).record(lambda: seen.append(x.get().sum()), stream)
    assert seen == [0]


def test_what_waits_may_be_done_while_another_stream_captures(cupy, x, stream):
    graph, y = captured(stream, lambda: x + 1)
    graph.launch(stream)
    other = cupy.cuda.Stream(non_blocking=True)
    with other:
        other.begin_capture()
        stream.synchronize()
        assert pieces_of(other.end_capture()) == []
    np.testing.assert_array_equal(y.get(), x.get() + 1)


def test_numbers_are_frozen(cupy, x, stream):
    rate = [0.5]
    graph, y = captured(stream, lambda: x * rate[0])
    rate[0] = 2.0
    graph.launch()
    np.testing.assert_array_equal(y.get(), x.get() * 0.5)


def test_an_error_of_shapes_is_an_error_at_once_and_breaks_nothing(cupy, x, stream):
    with stream:
        stream.begin_capture()
        for error, f in [
            (ValueError, lambda: x + x[:, :2]),
            (TypeError, lambda: x + H),
            (IndexError, lambda: x[5]),
            (ValueError, lambda: x.__setitem__(0, cupy.zeros(7))),
        ]:
            with pytest.raises(error):
                f()
        y = x + 1
        graph = stream.end_capture()
    np.testing.assert_array_equal(x.get(), np.arange(6.0).reshape(2, 3))
    graph.launch()
    np.testing.assert_array_equal(y.get(), x.get() + 1)


def test_a_library_of_numpys_that_does_not_know_what_to_do_records_nothing(cupy, x, stream):
    class Knows:
        __array_priority__ = 200

        def __radd__(self, other):
            return other * 2

    graph, y = captured(stream, lambda: x + Knows())
    assert pieces_of(graph) == ["__mul__"]
    graph.launch()
    np.testing.assert_array_equal(y.get(), x.get() * 2)


# Memory


def test_memory_that_is_given_back_within_a_capture_is_taken_again(cupy, x, stream):
    def f():
        y = x + 1
        total, place = y.sum(), y.data.ptr
        del y
        z = x * 2
        assert z.data.ptr == place
        return total, z

    graph, (total, z) = captured(stream, f)
    for _ in range(2):
        x += 1
        graph.launch()
        assert total == (x + 1).sum()
        np.testing.assert_array_equal(z.get(), 2 * x.get())


def test_a_graph_writes_to_memory_that_others_have_by_now(cupy, x, stream):
    graph, y = captured(stream, lambda: x + 1)
    place = y.data.ptr
    assert cupy.get_default_memory_pool().used_bytes() == 1024
    del y
    assert cupy.get_default_memory_pool().used_bytes() == 512  # a graph keeps nothing
    other = cupy.zeros((2, 3))
    assert other.data.ptr != place  # a pool is for one stream
    with stream:
        theirs = cupy.zeros((2, 3))
    assert theirs.data.ptr == place
    graph.launch()
    np.testing.assert_array_equal(theirs.get(), x.get() + 1)
    np.testing.assert_array_equal(other.get(), 0.0)


def test_a_graph_reads_memory_that_others_have_by_now(cupy, stream):
    with stream:
        x = [cupy.ones(3)]
        graph, y = captured(stream, lambda: x[0] + 1)
        x.clear()
        theirs = cupy.full(3, 5.0)
        graph.launch()
        np.testing.assert_array_equal(theirs.get() + 1, y.get())


def test_memory_that_the_driver_has_back_is_an_illegal_address(cupy, x, stream):
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        graph, y = captured(stream, lambda: (x + 1).sum())
    assert (pool.used_bytes(), pool.total_bytes()) == (512, 1024)
    graph.launch()
    assert y == 21
    del pool
    graph, y = graph, None
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="illegal memory access"):
        graph.launch()


def test_a_pool_of_ones_own(cupy):
    default, pool = cupy.get_default_memory_pool(), cupy.cuda.MemoryPool()
    used = default.used_bytes()
    assert cupy.cuda.get_allocator() == default.malloc
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.zeros(100)
        assert cupy.cuda.get_allocator() == pool.malloc
        assert cupy.cuda.alloc(10).ptr != x.data.ptr
        with pytest.raises(ValueError, match="inside `using_allocator`"):
            cupy.cuda.set_allocator(default.malloc)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(cupy.cuda.get_allocator()))
        thread.start()
        thread.join()
        assert seen == [default.malloc]
    assert (pool.used_bytes(), pool.free_bytes(), pool.n_free_blocks()) == (1024, 512, 1)
    assert default.used_bytes() == used
    free = cupy.cuda.Device().mem_info[0]
    pool.free_all_blocks()
    assert cupy.cuda.Device().mem_info[0] == free + 512
    with cupy.cuda.using_allocator(pool.malloc):
        cupy.zeros(1)
        with cupy.cuda.Stream() as stream:
            cupy.zeros(1)
    pool.free_all_blocks(stream)
    assert (pool.n_free_blocks(), cupy.cuda.Device().mem_info[0]) == (1, free)
    del pool
    assert cupy.cuda.Device().mem_info[0] == free + 512
    del x  # its memory goes back with it
    assert cupy.cuda.Device().mem_info[0] == free + 1536
    cupy.cuda.set_allocator(None)  # no pool
    x = cupy.zeros(100)
    assert default.total_bytes() == used
    del x
    assert cupy.cuda.Device().mem_info[0] == free + 1536
    cupy.cuda.set_allocator(default.malloc)


def test_a_pool_is_in_order_with_its_stream(cupy, stream):
    """Memory that is taken again is not spoilt before what waits in the stream has read it, and then it is."""
    with stream:
        x = [cupy.ones(3)]
        graph, y = captured(stream, lambda: x[0] + 1)
        graph.launch()
        x.clear()
        cupy.cuda.alloc(24)
        np.testing.assert_array_equal(y.get(), 2.0)
        assert np.isnan(cupy.empty(3).get()).all()


# What is refused


REFUSED_BY_CUPY = [
    ("D2H", lambda cp, x: x.get()),
    ("D2H", lambda cp, x: x.get(blocking=False)),
    ("D2H", lambda cp, x: x[0, 0].item()),
    ("D2H", lambda cp, x: float(x[0, 0])),
    ("D2H", lambda cp, x: bool(x[0, 0] > 1)),
    ("D2H", lambda cp, x: int(x.argmax())),
    ("D2H", lambda cp, x: f"{x[0, 0]:.2f}"),
    ("D2H", lambda cp, x: repr(x)),
    ("D2H", lambda cp, x: x.tolist()),
    ("D2H", lambda cp, x: cp.asnumpy(x)),
    ("D2H", lambda cp, x: pickle.dumps(x)),
    ("D2H", lambda cp, x: cp.nonzero(x)),
    ("D2H", lambda cp, x: cp.flatnonzero(x)),
    ("D2H", lambda cp, x: cp.where(x > 1)),
    ("D2H", lambda cp, x: x[x > 1]),
    ("D2H", lambda cp, x: operator.setitem(x, x > 1, 0.0)),
    ("D2H", lambda cp, x: x[0, x[0, 1].astype(int) :]),
    ("D2H", lambda cp, x: cp.unique(x)),
    ("D2H", lambda cp, x: cp.bincount(x[0].astype(int))),
    ("D2H", lambda cp, x: cp.linspace(x[0, 0], x[0, 1], 3)),
    ("D2H", lambda cp, x: x.fill(x[0, 0])),
    ("H2D", lambda cp, x: x.set(H)),
    ("H2D", lambda cp, x: x.set(sys.modules["cupyx"].zeros_pinned((2, 3)), stream=cp.cuda.get_current_stream())),
    ("H2D", lambda cp, x: cp.asarray(H)),
    ("H2D", lambda cp, x: cp.array([1.0, 2.0])),
    ("H2D", lambda cp, x: x[[0, 1]]),
    ("H2D", lambda cp, x: x[np.array([1])]),
    ("D2H", lambda cp, x: x[True]),
    ("H2D", lambda cp, x: operator.setitem(x, [0], 1.0)),
    ("H2D", lambda cp, x: x.take([0, 1])),
    ("H2D", lambda cp, x: x.put([0, 1], 0.0)),
    ("H2D", lambda cp, x: x.repeat([1, 2], axis=0)),
    ("H2D", lambda cp, x: cp.lib.stride_tricks.sliding_window_view(x, 2, 1)),
    ("synchronous", lambda cp, x: x.data.memset(0, 8)),
    ("cuBLAS", lambda cp, x: x @ x.T),
    ("cuBLAS", lambda cp, x: x.astype("f2") @ x.astype("f2").T),
    ("cuBLAS", lambda cp, x: cp.matmul(x[None, :1], x[None, :1].transpose(0, 2, 1))),
    ("cuBLAS", lambda cp, x: x @ x[0]),
    ("cuBLAS", lambda cp, x: x.dot(x.T)),
    ("cuBLAS", lambda cp, x: cp.tensordot(x, x, axes=([1], [1]))),
    ("cuBLAS", lambda cp, x: cp.tensordot(x, x, axes=0)),
    ("cuBLAS", lambda cp, x: x @ x.astype(int).T),
    ("cuBLAS", lambda cp, x: cp.einsum("ij,kj->ik", x, x)),
    ("cuBLAS", lambda cp, x: cp.einsum("ij,kj", x, x)),
    ("cuBLAS", lambda cp, x: cp.einsum("i...,i...->...", x, x)),
    ("cuBLAS", lambda cp, x: cp.einsum("...j,j->...", x[:1], x[0])),
    ("cuBLAS", lambda cp, x: cp.einsum(x, [0, 1], x, [2, 1], [0, 2])),
    ("cuBLAS", lambda cp, x: cp.einsum("ij,ij->", x, x)),
    ("cuRAND", lambda cp, x: cp.random.rand(3)),
    ("cuRAND", lambda cp, x: cp.random.RandomState(1).normal(size=3)),
    ("cuRAND", lambda cp, x: cp.random.permutation(3)),
    ("Generator", lambda cp, x: cp.random.default_rng(0).random(3)),
]


@pytest.mark.parametrize(
    ("said", "f"), REFUSED_BY_CUPY, ids=lambda f: callable(f) and inspect.getsource(f).strip()[-40:]
)
def test_what_cupy_refuses_while_a_stream_captures_leaves_the_capture_valid(cupy, x, stream, said, f):
    error = RuntimeError if said in ("D2H", "H2D", "synchronous") else NotImplementedError
    f(cupy, x.copy())  # is nothing wrong otherwise
    with stream:
        stream.begin_capture()
        y = x + 1
        with pytest.raises(error, match=said) as caught:
            f(cupy, x)
        assert not isinstance(caught.value, cupy.cuda.runtime.CUDARuntimeError)
        assert stream.is_capturing()
        graph = stream.end_capture()
    assert not stream.is_capturing()
    graph.launch()
    np.testing.assert_array_equal(y.get(), np.arange(6.0).reshape(2, 3) + 1)


def refused(cupy, name, f):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match=name):
        f()


@pytest.mark.parametrize(
    "f",
    [
        lambda cp, stream: stream.synchronize(),
        lambda cp, stream: cp.cuda.Device().synchronize(),
        lambda cp, stream: cp.cuda.runtime.deviceSynchronize(),
    ],
)
def test_what_cuda_refuses_makes_a_capture_invalid(cupy, x, stream, f):
    with stream:
        stream.begin_capture()
        y = x + 1
        refused(cupy, "cudaErrorStreamCaptureUnsupported: operation not permitted", lambda: f(cupy, stream))
        with pytest.raises(RuntimeError, match="an error has invalidated the capture sequence"):
            stream.is_capturing()
        with pytest.raises(RuntimeError, match="an error has invalidated the capture sequence"):
            x.get()
        with pytest.raises(cupy.cuda.driver.CUDADriverError, match="STREAM_CAPTURE_INVALIDATED"):
            x + 1
        refused(cupy, "cudaErrorStreamCaptureInvalidated", stream.end_capture)
        assert not stream.is_capturing()
        assert np.isnan(y.get()).all()
        np.testing.assert_array_equal((x + 1).get(), x.get() + 1)  # and the stream is as it was
        graph, y = captured(stream, lambda: x + 2)
        graph.launch()
        np.testing.assert_array_equal(y.get(), x.get() + 2)


def test_asking_whether_a_capture_is_done_makes_it_invalid(cupy, stream):
    stream.begin_capture()
    assert not stream.done
    refused(cupy, "Invalidated", stream.end_capture)
    stream.begin_capture()
    event = stream.record()
    assert not event.done
    refused(cupy, "Invalidated", stream.end_capture)
    stream.begin_capture()
    event = stream.record()
    refused(cupy, "cudaErrorCapturedEvent", event.synchronize)
    refused(cupy, "Invalidated", stream.end_capture)


def test_what_can_not_begin_or_end(cupy, stream):
    refused(cupy, "cudaErrorStreamCaptureUnsupported", cupy.cuda.Stream.null.begin_capture)
    refused(cupy, "cudaErrorIllegalState", stream.end_capture)
    stream.begin_capture()
    refused(cupy, "cudaErrorIllegalState", stream.begin_capture)
    assert pieces_of(stream.end_capture()) == []
    with pytest.raises(NotImplementedError, match="must be created via stream capture"):
        cupy.cuda.Graph()
    assert cupy.cuda.graph.Graph is cupy.cuda.Graph


def test_an_exception_leaves_the_stream_usable(cupy, x, stream):
    def f():
        found.append(x + 1)
        raise KeyError

    found = []
    with pytest.raises(KeyError):
        captured(stream, f)
    assert stream.is_capturing()
    assert pieces_of(stream.end_capture()) == ["__add__"]
    (y,) = found
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    assert np.isnan(y.get()).all()
    with stream:
        np.testing.assert_array_equal((x + 1).get(), x.get() + 1)


def test_new_memory_is_for_relaxed_captures(cupy, x, stream):
    runtime = cupy.cuda.runtime
    for mode in (runtime.streamCaptureModeGlobal, runtime.streamCaptureModeThreadLocal):
        stream.begin_capture(mode)
        with stream:
            refused(cupy, "cudaErrorStreamCaptureUnsupported", lambda: x + 1)
        refused(cupy, "Invalidated", stream.end_capture)
        with stream:
            x + 1  # leaves memory in the stream's pool
            graph, y = captured(stream, lambda: x + 1, mode)
            graph.launch()
            np.testing.assert_array_equal(y.get(), x.get() + 1)
            del y
        cupy.get_default_memory_pool().free_all_blocks()
    captured(stream, lambda: x + 1, runtime.streamCaptureModeRelaxed)


def in_a_thread(f):
    found = []

    def call():
        try:
            found.append(f())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return found[0]


def test_threads(cupy, x, stream):
    runtime = cupy.cuda.runtime
    stream.begin_capture(runtime.streamCaptureModeThreadLocal)
    assert float(in_a_thread(lambda: x.sum())) == 15  # is nothing to the stream that captures
    assert "WrongThread" in str(in_a_thread(stream.end_capture))
    assert pieces_of(stream.end_capture()) == []
    stream.begin_capture(runtime.streamCaptureModeGlobal)
    assert "cudaErrorStreamCaptureUnsupported" in str(in_a_thread(lambda: cupy.zeros(10_000)))
    refused(cupy, "Invalidated", stream.end_capture)
    stream.begin_capture()
    graph = in_a_thread(stream.end_capture)
    assert pieces_of(graph) == []


# Streams


def test_other_streams_go_on_while_one_captures(cupy, x, stream):
    other = cupy.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    for outside in (cupy.cuda.Stream.null, other):
        with outside:
            y = x + 1
            np.testing.assert_array_equal(y.get(), x.get() + 1)
            y.set(H)
            outside.synchronize()
    with stream:
        np.testing.assert_array_equal(x.get(stream=other), x.get(stream=cupy.cuda.Stream.null))
    with other:
        other.begin_capture()
        y = x + 2
        theirs = other.end_capture()
    with stream:
        z = x + 3
    graph = stream.end_capture()
    assert (pieces_of(graph), pieces_of(theirs)) == (["__add__"], ["__add__"])
    graph.launch()
    np.testing.assert_array_equal(z.get(), x.get() + 3)
    assert np.isnan(y.get()).all()


@pytest.mark.parametrize(
    "f",
    [
        lambda x, null, graph: x + 1,
        lambda x, null, graph: x.fill(0),
        lambda x, null, graph: null.synchronize(),
        lambda x, null, graph: graph.launch(),
    ],
)
def test_the_null_stream_can_not_work_beside_a_blocking_stream_that_captures(cupy, x, stream, f):
    graph, _ = captured(stream, lambda: x + 1)
    null, stream = cupy.cuda.Stream.null, cupy.cuda.Stream()
    stream.begin_capture()
    refused(cupy, "cudaErrorStreamCaptureImplicit: .* legacy stream", lambda: f(x, null, graph))
    refused(cupy, "Invalidated", stream.end_capture)
    stream.begin_capture()
    refused(cupy, "cudaErrorStreamCaptureUnsupported", cupy.cuda.Device().synchronize)
    refused(cupy, "Invalidated", stream.end_capture)
    f(x, null, graph)


def test_streams_that_wait_for_one_that_captures_take_part(cupy, x, stream):
    other = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y = x + 1
        other.wait_event(stream.record())
        with other:
            assert other.is_capturing()
            z = y * 2
        w = x - 1
        stream.wait_event(other.record())
        total = z + w
        graph = stream.end_capture()
    assert not other.is_capturing()
    assert pieces_of(graph) == ["__add__", "__mul__", "__sub__", "__add__"]
    graph.launch()
    np.testing.assert_array_equal(total.get(), (x.get() + 1) * 2 + x.get() - 1)


def test_streams_that_get_mixed_up(cupy, x, stream):
    other, third = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    stream.wait_event(cupy.cuda.Event())  # was never recorded
    stream.begin_capture()
    stream.wait_event(cupy.cuda.Event())
    refused(cupy, "cudaErrorStreamCaptureIsolation", lambda: stream.wait_event(other.record()))
    refused(cupy, "Invalidated", stream.end_capture)

    stream.begin_capture()
    event = stream.record()
    other.wait_event(event)
    refused(cupy, "cudaErrorStreamCaptureUnmatched", other.end_capture)
    refused(cupy, "Invalidated", stream.end_capture)
    refused(cupy, "cudaErrorCapturedEvent", lambda: other.wait_event(event))

    stream.begin_capture()
    other.wait_event(stream.record())
    back = other.record()
    with other:
        x + 1
    stream.wait_event(back)  # which was before the addition
    refused(cupy, "cudaErrorStreamCaptureUnjoined", stream.end_capture)

    stream.begin_capture()
    other.wait_event(stream.record())
    stream.wait_event(other.record())
    with other:
        x + 1
    refused(cupy, "cudaErrorStreamCaptureUnjoined", stream.end_capture)

    stream.begin_capture()
    third.begin_capture()
    refused(cupy, "cudaErrorStreamCaptureMerge", lambda: third.wait_event(stream.record()))
    refused(cupy, "Invalidated", stream.end_capture)
    refused(cupy, "Invalidated", third.end_capture)

    stream.begin_capture()
    refused(cupy, "cudaErrorStreamCaptureImplicit", lambda: cupy.cuda.Stream.null.wait_event(stream.record()))
    refused(cupy, "Invalidated", stream.end_capture)


def test_a_graph_waits_in_a_stream_that_does_not_block(cupy, x, stream):
    graph, y = captured(stream, lambda: x + 1)
    graph.upload(stream)
    graph.launch(stream)
    assert np.isnan(y.get()).all()  # nobody waited
    cupy.cuda.get_current_stream().wait_event(stream.record())
    np.testing.assert_array_equal(y.get(), x.get() + 1)
    x += 1
    graph.launch(stream)
    with stream:
        np.testing.assert_array_equal((y + 0).get(), x.get() + 1)  # in one stream all is in order


def test_a_copy_and_a_graph_in_one_stream_are_in_order(cupy, x, stream):
    import cupyx

    pinned = cupyx.zeros_pinned((2, 3))
    graph, y = captured(stream, lambda: x + 1)
    x.set(pinned, stream=stream)
    graph.launch(stream)
    stream.synchronize()
    np.testing.assert_array_equal(y.get(), 1.0)


def test_a_graph_in_a_graph(cupy, x, stream):
    inner, y = captured(stream, lambda: x + 1)

    def f():
        inner.launch()
        return y * 2

    outer, z = captured(stream, f)
    assert np.isnan(y.get()).all()
    x += 1
    outer.launch()
    np.testing.assert_array_equal(z.get(), (x.get() + 1) * 2)


def test_a_capture_of_one_device_is_nothing_to_another(cupy, x, stream):
    stream.begin_capture()
    with stream, cupy.cuda.Device(1):
        y = cupy.arange(3)
        np.testing.assert_array_equal(y.get(), [0, 1, 2])
    assert pieces_of(stream.end_capture()) == []


# ----------------------------------------------------------------------------------------------------------------------
# Compiled kernels are kept
# ----------------------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path[:0] = {path!r}
from simulated_gpu import modules
cupy = modules()["cupy"]
print(cupy.ElementwiseKernel("T x", "T y", "y = x + {number}")(cupy.ones(1)))
"""


@needs_compiler
def test_compiled_kernels_are_found_again_and_many_may_compile_at_once(tmp_path):
    cache = tmp_path / "cache"
    environment = {**os.environ, "DEZERO_TEST_CACHE": str(cache)}
    program = PROGRAM.format(path=[str(Path(__file__).parent)], number=41)
    command = [sys.executable, "-c", program]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in started] == ["[42.]\n"] * 3
    (made,) = cache.iterdir()  # one library, and nothing half done
    about = made.stat()
    assert subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout == "[42.]\n"
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == (about.st_ino, about.st_mtime_ns)


@needs_compiler
def test_what_does_not_compile_leaves_nothing(tmp_path, monkeypatch, cupy, x):
    monkeypatch.setenv("DEZERO_TEST_CACHE", str(tmp_path))
    with pytest.raises(cupy.cuda.compiler.CompileException):
        cupy.ElementwiseKernel("T x", "T y", "y = nothing of the kind")(x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs file modes")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("DEZERO_TEST_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    assert kernels._cache() != tmp_path
    tmp_path.chmod(0o700)
    assert kernels._cache() == tmp_path


def test_without_a_compiler_it_says_so(monkeypatch, cupy, x):
    monkeypatch.setattr(kernels, "_compiler", lambda: None)
    assert not have_compiler()
    with pytest.raises(cupy.cuda.compiler.CompileException, match="no C\\+\\+ compiler"):
        cupy.ElementwiseKernel("T x", "T y", "y = x + 12345.5")(x)


# ----------------------------------------------------------------------------------------------------------------------
# Beside CuPy, where it is installed; no device is needed
# ----------------------------------------------------------------------------------------------------------------------


def parameters_of(f):
    """The names of a function's parameters: by inspection, or from the line that Cython writes into a docstring."""
    try:
        return [p for p in inspect.signature(f).parameters if p != "self"]
    except (TypeError, ValueError):
        line = re.match(r"[\w.]+\((.*)\)(?: -> \w+)?$", (f.__doc__ or "").split("\n")[0])
        if line is None:
            return None
        parts = [part.partition("=")[0].split()[-1].lstrip("*") for part in line[1].split(",") if part.strip()]
        return [part for part in parts if part not in ("self", "")]


def taken_by(f):
    parameters = inspect.signature(f).parameters.values()
    return [p.name for p in parameters if p.name not in ("self", "_") and p.kind is not p.VAR_POSITIONAL]


def everything(module, path):
    """Yield each public thing in a module, in the modules in it, and in their classes, with its path."""
    for name, thing in vars(module).items():
        if name.startswith("_"):
            continue
        yield f"{path}.{name}", thing
        if isinstance(thing, types.ModuleType):
            yield from everything(thing, f"{path}.{name}")
        elif isinstance(thing, type):
            ours = [cls for cls in thing.__mro__ if cls.__module__.startswith(("cupy", "simulated_gpu"))]
            for member in {member for cls in ours for member in vars(cls) if not member.startswith("_")}:
                yield f"{path}.{name}.{member}", getattr(thing, member)


def disagreement(real, path, thing):
    """Say what is wrong with a thing of the stand-in, seen from CuPy's modules `real`; "" where nothing is."""
    root, *names = path.split(".")
    found = real[root]
    for name in names:
        if not hasattr(found, name):
            return f"CuPy has no {path}"
        found = getattr(found, name)
    wanted = parameters_of(found) if inspect.isroutine(thing) else None
    if wanted is None or not {"args", "kwargs"}.isdisjoint(wanted):
        return ""
    taken = taken_by(thing)
    unknown = set(taken) - {*wanted, "args", "kwargs"}
    if unknown:
        return f"CuPy's {path} takes no {unknown}, but {wanted}"
    in_order = [name for name in wanted if name in taken] == [name for name in taken if name in wanted]
    return "" if in_order else f"{path} takes {taken}, and CuPy's {wanted}, in another order"


def test_cupy_has_all_that_the_stand_in_has_with_its_arguments():
    real = {name: pytest.importorskip(name) for name in ("cupy", "cupyx")}
    things = [pair for name in real for pair in everything(modules()[name], name)]
    assert len(things) > 300
    assert [said for path, thing in things if (said := disagreement(real, path, thing))] == []


def test_every_line_of_the_table_is_a_function(cupy):
    for name in signatures():
        assert callable(getattr(cupy, name)), name


def test_cupys_arrays_have_the_operators_of_the_stand_ins():
    real = pytest.importorskip("cupy")
    special = {name for name in dir(modules()["cupy"].ndarray) if name.startswith("__")} - set(dir(type("C", (), {})))
    assert {name for name in special if not hasattr(real.ndarray, name)} == set()
