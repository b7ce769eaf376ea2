"""Convolution by cuDNN: what dezero/kernels/gpu/cudnn.py asks of the library, and what comes out of it.

1. A stand-in for the module `cudnn` checks each graph as the library does, and computes it by the reference, on the
   simulated CuPy. The table CASES runs on it; and, under `-m gpu`, on the real library.
2. Where the real library is installed, and a C compiler, it is asked for a plan of every case for the devices in
   DEVICES, of which it is told what a driver would answer: planning needs no GPU.
"""

import enum
import importlib
import importlib.util
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

from dezero import cuda, kernels
from dezero.kernels import conv_outsize, reference
from dezero.kernels.gpu import cudnn as ours

ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)
BOTH = (False, True)

# (N, C, H, W), OC, kernel_size, stride, pad, dilation, groups
CASES = {
    "same": ((2, 3, 7, 8), 4, (3, 3), ONE, ONE, ONE, 1),
    "uneven": ((2, 3, 7, 8), 4, (3, 2), (2, 1), (1, 0), ONE, 1),
    "gaps": ((3, 4, 7, 8), 6, (3, 2), (1, 2), (2, 0), TWO, 1),
    "two groups": ((3, 4, 7, 8), 6, (3, 2), ONE, NONE, ONE, 2),
    "depthwise": ((2, 8, 9, 9), 8, (3, 3), ONE, ONE, ONE, 8),
    "depthwise, two each": ((2, 6, 9, 9), 12, (3, 3), TWO, ONE, TWO, 6),
    "groups with gaps": ((2, 8, 9, 9), 12, (3, 3), ONE, TWO, TWO, 4),
    "one of all": ((1, 1, 5, 5), 1, (3, 3), ONE, NONE, ONE, 1),
    "one channel": ((4, 1, 12, 12), 5, (5, 5), ONE, TWO, ONE, 1),
    "one image": ((1, 3, 6, 5), 7, (3, 3), ONE, ONE, ONE, 1),
    "one pixel": ((2, 5, 1, 1), 7, ONE, ONE, NONE, ONE, 1),
    "one row": ((2, 5, 1, 9), 7, (1, 3), ONE, (0, 1), ONE, 1),
    "1 x 1": ((3, 5, 6, 7), 4, ONE, ONE, NONE, ONE, 1),
    "1 x 1, every other pixel": ((1, 2, 5, 6), 30, ONE, TWO, NONE, ONE, 1),
    "more padding than half the kernel": ((2, 2, 5, 5), 3, (3, 3), ONE, (2, 2), ONE, 1),
    "more padding than the kernel": ((2, 2, 5, 5), 3, (3, 3), ONE, (4, 4), ONE, 1),
    "padding with stride": ((2, 2, 5, 5), 3, TWO, TWO, (3, 3), ONE, 1),
    "kernel larger than the image": ((2, 2, 3, 3), 3, (7, 7), ONE, (3, 3), ONE, 1),
    "kernel as large as all": ((2, 2, 3, 3), 3, (5, 5), ONE, ONE, ONE, 1),
    "pixels that no window sees": ((2, 2, 9, 10), 3, TWO, (3, 4), NONE, ONE, 1),
    "larger than the smallest, by one": ((2, 3, 8, 8), 4, (3, 3), TWO, ONE, ONE, 1),
    "wide steps": ((2, 4, 12, 12), 4, (3, 3), (4, 4), ONE, (3, 3), 2),
    "large kernel": ((1, 2, 20, 20), 2, (11, 11), ONE, (5, 5), ONE, 1),
    "many channels": ((2, 33, 5, 5), 17, (3, 3), ONE, ONE, ONE, 1),
}
LARGE = {  # planned, and not computed here
    "layer of a VGG": ((64, 64, 32, 32), 128, (3, 3), ONE, ONE, ONE, 1),
    "first layer of a ResNet": ((32, 3, 224, 224), 64, (7, 7), TWO, (3, 3), ONE, 1),
    "layer of a ResNet": ((32, 64, 56, 56), 256, ONE, ONE, NONE, ONE, 1),
    "shortcut of a ResNet": ((32, 64, 56, 56), 128, ONE, TWO, NONE, ONE, 1),
    "depthwise, 7 x 7": ((2, 96, 14, 14), 96, (7, 7), ONE, (3, 3), ONE, 96),
    "digits": ((128, 1, 28, 28), 32, (3, 3), ONE, NONE, ONE, 1),
    "gigabytes": ((512, 64, 224, 224), 64, (3, 3), ONE, ONE, ONE, 1),
    "more than is counted in 31 bits": ((512, 128, 224, 224), 64, (3, 3), ONE, ONE, ONE, 1),
}
KINDS = ["conv2d", "deconv2d", "conv2d_relu", "conv2d_grad_w"]
WITH_BIAS = KINDS[:3]
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-6, "float64": 1e-13}


def shapes(image, OC, kernel, stride, pad, dilation, groups):
    y = tuple(map(conv_outsize, image[2:], kernel, stride, pad, dilation))
    return image, (OC, image[1] // groups, *kernel), (image[0], OC, *y)


def call(kind, case, dtype="float64"):
    """The kernel's arguments, arrays first; the third array of those WITH_BIAS is one."""
    image, OC, kernel, stride, pad, dilation, groups = case
    x, W, y = (np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes(*case)))
    if kind in ("conv2d", "conv2d_relu"):
        arrays, rest = (x, W, np.linspace(-1, 1, OC)), (stride, pad, dilation, groups)
    elif kind == "deconv2d":
        arrays, rest = (y, W, np.linspace(-1, 1, image[1])), (stride, pad, image[2:], dilation, groups)
    else:
        arrays, rest = (x, y), (kernel, stride, pad, dilation, groups)
    return tuple(a.astype(dtype) for a in arrays), rest


def expected(kind, arrays, rest):
    return getattr(reference, kind)(*(None if a is None else a.astype(np.float64) for a in arrays), *rest)


def check_close(y, wanted, dtype, terms=1.0):
    scale = max(1.0, np.abs(wanted).max())
    assert np.abs(np.asarray(y, np.float64) - wanted).max() <= TOLERANCE[str(dtype)] * scale * terms


# ----------------------------------------------------------------------------------------------------------------------
# The stand-in for the library
# ----------------------------------------------------------------------------------------------------------------------


class NotSupportedError(Exception):
    """cudnnGraphNotSupportedError: like the library's, no RuntimeError."""


DataType = enum.Enum("data_type", "HALF BFLOAT16 FLOAT DOUBLE INT8 INT32")
Note = enum.Enum(
    "numerical_note",
    "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT NONDETERMINISTIC WINOGRAD WINOGRAD_TILE_4x4 "
    "WINOGRAD_TILE_6x6 WINOGRAD_TILE_13x13 STRICT_NAN_PROP",
)
Mode = enum.Enum("heur_mode", "A B FALLBACK")
NUMPY = {DataType.HALF: "float16", DataType.BFLOAT16: "bfloat16", DataType.FLOAT: "float32", DataType.DOUBLE: "float64"}

# name, what it does to digits, bytes of workspace: in the order of the heuristics
ENGINES = [
    ("huge", set(), 2**42),
    ("halves", {Note.DOWN_CONVERT_INPUTS}, 0),
    ("narrow sums", {Note.REDUCED_PRECISION_REDUCTION}, 0),
    ("fft", {Note.FFT}, 640),
    ("tensor cores, atomics", {Note.TENSOR_CORE, Note.NONDETERMINISTIC}, 1024),
    ("tensor cores", {Note.TENSOR_CORE}, 513),
    ("winograd", {Note.WINOGRAD, Note.WINOGRAD_TILE_4x4}, 99),
    ("atomics", {Note.NONDETERMINISTIC}, 100),
    ("plain", set(), 0),
]


class Tensor:
    """A tensor of a graph: what was set of it. Like the library's, setters return it."""

    def __init__(self, name="", dim=None, stride=None, data_type=None):
        self.name, self.dim, self.stride, self.data_type, self.uid, self.output = (
            name,
            dim,
            stride,
            data_type,
            None,
            False,
        )

    def _set(self, **what):
        for name, value in what.items():
            assert isinstance(value, {"dim": list, "stride": list, "uid": int}.get(name, object))
            setattr(self, name, value)
        return self

    def set_dim(self, dim):
        return self._set(dim=dim)

    def set_stride(self, stride):
        return self._set(stride=stride)

    def set_uid(self, uid):
        return self._set(uid=uid)

    def set_data_type(self, data_type):
        return self._set(data_type=data_type)

    def set_output(self, output):
        return self._set(output=output)


def dense_strides(shape, last):
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    step, strides = 1, [0] * 4
    for axis in reversed(order):
        strides[axis], step = step, step * shape[axis]
    return strides


class Graph:
    """cudnn.pygraph with a convolution, and perhaps its bias. Its methods must be called in the library's order."""

    ORDER = (
        "validate",
        "build_operation_graph",
        "create_execution_plans",
        "deselect_numeric_notes",
        "deselect_workspace_greater_than",
        "check_support",
        "build_plans",
        "get_workspace_size",
    )

    def __init__(self, library, io_data_type, intermediate_data_type, compute_data_type, handle):
        self.library, self.handle, self.compute = library, handle, compute_data_type
        assert intermediate_data_type is compute_data_type
        library.use(handle)
        self.io_data_type, self.inputs, self.node, self.done = io_data_type, [], None, 0
        self.virtual = None  # what comes out of the convolution, where a bias is added to it
        self.barred, self.limit = set(), math.inf
        library.graphs.append(self)

    def tensor(self, *, name, dim, stride, data_type):
        self.inputs.append(Tensor(name, dim, stride, data_type))
        return self.inputs[-1]

    def conv_fprop(self, *, image, weight, padding, stride, dilation):
        return self._convolve("conv2d", [image, weight], padding, stride, dilation)

    def conv_dgrad(self, *, loss, filter, padding, stride, dilation):
        return self._convolve("deconv2d", [loss, filter], padding, stride, dilation)

    def conv_wgrad(self, *, image, loss, padding, stride, dilation):
        return self._convolve("conv2d_grad_w", [image, loss], padding, stride, dilation)

    def bias(self, *, input, bias):
        assert self.virtual is None
        assert input is self.y
        assert bias is self.inputs[2]
        self.virtual, self.y = self.y, Tensor("Y")
        return self.y

    def _convolve(self, kind, operands, *numbers):
        assert self.node is None
        assert operands == self.inputs
        assert all(isinstance(pair, list) and len(pair) == 2 for pair in numbers)
        self.y = Tensor("Y")
        self.node = (kind, *map(tuple, numbers))
        return self.y

    def _step(self, name):
        assert self.ORDER[self.done] == name, f"{name} comes too early or too late"
        self.done += 1

    def validate(self):
        self._step("validate")
        tensors = [*self.inputs, self.y]
        assert self.y.output
        assert len({t.uid for t in tensors} - {None}) == len(tensors)
        for t in tensors:
            assert None not in (t.dim, t.stride), f"{t.name}: the library would have to guess"
            assert t.stride in (dense_strides(t.dim, False), dense_strides(t.dim, True))
            assert t.data_type is self.io_data_type
            if min(t.dim) < 1:
                raise ValueError("dimensions must be positive")
        if self.virtual:
            assert (self.virtual.output, self.virtual.data_type) == (False, None)  # then it is the intermediate type
            assert (self.virtual.dim, self.virtual.stride) == (self.y.dim, self.y.stride)
            assert self.inputs[2].dim == [1, self.y.dim[1], 1, 1]
        kind, pad, stride, dilation = self.node
        a, b, y = (tuple(t.dim) for t in (*self.inputs[:2], self.y))
        x, W, y = {"conv2d": (a, b, y), "deconv2d": (y, b, a), "conv2d_grad_w": (a, y, b)}[kind]
        self.groups, rest = divmod(x[1], W[1])
        if rest or W[0] % self.groups:
            raise RuntimeError("channels do not fit")
        if y != (x[0], W[0], *map(conv_outsize, x[2:], W[2:], stride, pad, dilation)):
            raise RuntimeError("sizes do not fit")

    def build_operation_graph(self):
        self._step("build_operation_graph")

    def create_execution_plans(self, modes):
        self._step("create_execution_plans")
        assert modes == [Mode.A, Mode.FALLBACK]
        if self.io_data_type in self.library.unsupported:
            raise NotSupportedError("No valid engine configs")
        if self.virtual and (self.library.no_fusion or self.node[0] != "conv2d"):
            raise NotSupportedError("No valid engine configs for Conv_Bias")
        if self.library.broken:
            raise self.library.broken
        tensors = *self.inputs, self.y
        if self.library.refuses_last and not all(t.stride == dense_strides(t.dim, False) for t in tensors):
            raise NotSupportedError("No valid engine configs")

    def deselect_numeric_notes(self, notes):
        self._step("deselect_numeric_notes")
        assert isinstance(notes, list)
        self.barred |= set(notes)

    def deselect_workspace_greater_than(self, limit):
        self._step("deselect_workspace_greater_than")
        self.limit = limit

    def check_support(self):
        self._step("check_support")

    def build_plans(self):
        self._step("build_plans")
        usable = [e for e in self.library.engines if not e[1] & self.barred and e[2] <= self.limit]
        if not usable:
            raise NotSupportedError("No execution plans support the graph.")
        self.engine, _, self.workspace = usable[0]

    def get_workspace_size(self):
        self._step("get_workspace_size")
        return self.workspace

    def execute(self, pointers, workspace, handle):
        assert self.done == len(self.ORDER)
        self.library.use(handle)
        assert handle.device == self.handle.device
        self.library.executed.append((self, handle.stream))
        if self.library.fails:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        assert type(workspace) is int
        assert self.workspace == 0 or workspace
        self.library.read.append((pointers[1], pointers[2]))
        lies = [self._view(workspace, (self.workspace,), np.uint8)] if self.workspace else []
        assert sorted(pointers) == sorted(t.uid for t in (*self.inputs, self.y))
        arrays = [self._array(t, pointers[t.uid]) for t in (*self.inputs, self.y)]
        machine = importlib.import_module("simulated_gpu").machine_of(self.library.cupy)
        machine.record(lambda: self._compute(lies, *arrays), handle.stream or None)

    def _compute(self, workspace, *arrays):
        for room in workspace:
            room[...] = 0xFF
        kind, pad, stride, dilation = self.node
        *operands, y = arrays
        a, b, *bias = (t.astype(NUMPY[self.compute]) for t in operands)
        if kind == "conv2d":
            y[...] = reference.conv2d(a, b, bias[0].ravel() if bias else None, stride, pad, dilation, self.groups)
        elif kind == "deconv2d":
            y[...] = reference.deconv2d(a, b, None, stride, pad, y.shape[2:], dilation, self.groups)
        else:
            y[...] = reference.conv2d_grad_w(a, b, y.shape[2:], stride, pad, dilation, self.groups)

    def _array(self, tensor, pointer):
        assert type(pointer) is int
        if pointer % 16:
            raise RuntimeError("device pointer is not aligned to the tensor's 16-byte alignment")
        dtype = np.dtype(NUMPY[tensor.data_type])
        return self._view(pointer, tuple(tensor.dim), dtype, [s * dtype.itemsize for s in tensor.stride])

    def _view(self, pointer, shape, dtype, strides=None):
        cupy = self.library.cupy
        place = importlib.import_module("simulated_gpu").machine_of(cupy).find(pointer)
        assert place.device_id == cupy.cuda.Device().id == self.handle.device
        return importlib.import_module("simulated_gpu").host_view(cupy, pointer, shape, dtype, strides)


class Handle:
    """cudnnHandle_t: for one device, and one thread at a time."""

    def __init__(self, device):
        self.device, self.stream, self.thread = device, 0, None


class StandIn(types.ModuleType):
    """The module `cudnn`, as far as it is needed, and what was asked of it."""

    __version__ = "1.32.0"
    data_type, numerical_note, heur_mode = DataType, Note, Mode

    def __init__(self, cupy):
        super().__init__("cudnn")
        vars(self)["cudnnGraphNotSupportedError"] = NotSupportedError
        self.cupy = cupy
        self.graphs, self.executed, self.handles = [], [], []
        self.engines, self.unsupported, self.broken, self.fails = ENGINES, set(), None, False
        self.no_fusion = False  # no plan has a bias
        self.refuses_last, self.read = False, []  # of channels; where the arrays lay that were read
        self.version, self.no_device = 92800, None

    def backend_version(self):
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def create_handle(self):
        if self.no_device:
            raise self.no_device
        self.handles.append(Handle(self.cupy.cuda.Device().id))
        return self.handles[-1]

    def set_stream(self, handle, stream):
        self.use(handle)
        assert type(stream) is int
        handle.stream = stream

    def use(self, handle):
        assert isinstance(handle, Handle)
        assert handle.device == self.cupy.cuda.Device().id
        thread = handle.thread
        assert thread is None or thread is threading.current_thread() or not thread.is_alive(), (
            "another thread's handle"
        )
        handle.thread = threading.current_thread()

    def pygraph(self, *, io_data_type, intermediate_data_type, compute_data_type, handle):
        return Graph(self, io_data_type, intermediate_data_type, compute_data_type, handle)


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch):
    monkeypatch.delenv("DEZERO_CUDNN", raising=False)
    ours.reset()
    yield
    ours.reset()


def settings(monkeypatch, allow_tf32=False, deterministic=False, channels_last=False):
    """Set what kernels read, without telling CuPy, which has products of its own."""
    monkeypatch.setitem(vars(cuda), "channels_last", channels_last)
    monkeypatch.setitem(vars(cuda), "allow_tf32", allow_tf32)
    monkeypatch.setitem(vars(cuda), "deterministic", deterministic)


def simulate(monkeypatch, devices=1):
    """Put the simulated CuPy and the stand-in for cuDNN where the kernels look for them; return both."""
    for name, module in importlib.import_module("simulated_gpu").modules(devices=devices).items():
        monkeypatch.setitem(sys.modules, name, module)
    cupy = sys.modules["cupy"]
    monkeypatch.setitem(sys.modules, "cudnn", StandIn(cupy))
    monkeypatch.setattr(ours, "_load", lambda name, cuda_version: True)
    monkeypatch.setattr(ours, "_cuda_of_libcudnn", lambda: None)
    return cupy, sys.modules["cudnn"]


@pytest.fixture
def machine(monkeypatch):
    return simulate(monkeypatch)


@pytest.fixture
def cupy(machine):
    return machine[0]


@pytest.fixture
def cudnn(machine):
    return machine[1]


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def either(request, monkeypatch):
    """The simulated CuPy and library, or the real ones."""
    if request.param == "simulated":
        return simulate(monkeypatch)[0]
    module = pytest.importorskip("cupy")
    if not cuda.gpu_enable:
        pytest.skip("no device answers")
    usable, line = ours.status()
    if not usable:
        pytest.skip(line)
    return module


def run(cupy, kind, arrays, rest):
    return getattr(ours, kind)(*(None if a is None else cupy.asarray(a) for a in arrays), *rest)


def small(kind="conv2d", dtype="float32"):
    return call(kind, CASES["same"], dtype)


# ----------------------------------------------------------------------------------------------------------------------
# What comes out
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_the_table_agrees_with_the_reference(either, kind, name):
    for dtype in ("float16", "float32", "float64"):
        arrays, rest = call(kind, CASES[name], dtype)
        y = run(either, kind, arrays, rest)
        assert y is not None
        assert y.dtype == dtype
        assert y.flags.c_contiguous
        # the real library adds float32 in another order than float64 would be rounded
        check_close(y.get(), expected(kind, arrays, rest), dtype, terms=math.sqrt(arrays[1][0].size))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_added_up_in_float32(either, kind):
    pytest.importorskip("ml_dtypes")
    arrays, rest = small(kind, "bfloat16")
    try:
        either.asarray(arrays[0])
    except (TypeError, ValueError):
        pytest.skip("this CuPy has no bfloat16")
    y = run(either, kind, arrays, rest)
    assert y.dtype.name == "bfloat16"
    check_close(y.get(), expected(kind, arrays, rest), "bfloat16")


def channels_last(cupy, x):
    return cupy.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def every_other(cupy, x):
    wide = cupy.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def unaligned(cupy, x):
    flat = cupy.zeros(x.size + 1, x.dtype)
    flat[1:] = x.ravel()
    return flat[1:].reshape(x.shape)


def unaligned_channels_last(cupy, x):
    return unaligned(cupy, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def backwards(cupy, x):
    return cupy.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]


def fortran(cupy, x):
    return cupy.ascontiguousarray(x.T).T


def as_it_is(cupy, x):
    return x


LAYOUTS = [as_it_is, channels_last, every_other, unaligned, unaligned_channels_last, backwards, fortran]


@pytest.mark.parametrize("name", ["same", "groups with gaps", "one pixel", "one of all"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), [*itertools.product(LAYOUTS[:2], LAYOUTS), (unaligned, fortran)])
def test_every_layout_gives_the_same(either, kind, name, first, second):
    arrays, rest = call(kind, CASES[name], "float64")
    a, b, *bias = (either.asarray(x) for x in arrays)
    a, b = first(either, a), second(either, b)
    before = a.get(), b.get()
    y = getattr(ours, kind)(a, b, *bias, *rest)
    check_close(y.get(), expected(kind, arrays, rest), "float64", terms=8)
    assert y.flags.c_contiguous or (first in (channels_last, unaligned_channels_last) and lie_last(y))
    assert all((x.get() == was).all() for x, was in zip((a, b), before, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_ones_that_lie_in_one_place(either, kind):
    arrays, rest = small(kind)
    a, b, *bias = (either.asarray(x) for x in arrays)
    one = either.ones((1, 1, 1, 1), "float32")
    y = getattr(ours, kind)(a, either.broadcast_to(one, b.shape), *bias, *rest)
    check_close(y.get(), expected(kind, (arrays[0], np.ones_like(arrays[1]), *arrays[2:]), rest), "float32", terms=8)


def test_without_a_bias(either):
    for kind in WITH_BIAS:
        (a, b, _), rest = small(kind)
        y = run(either, kind, (a, b, None), rest)
        check_close(y.get(), expected(kind, (a, b, None), rest), "float32", terms=5)


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize(("x_lies", "b_lies"), [*itertools.product(BOTH, BOTH)])
@pytest.mark.parametrize("kind", KINDS)
def test_in_which_order_arrays_are_read_and_results_are_left(cupy, cudnn, monkeypatch, kind, x_lies, b_lies, on):
    settings(monkeypatch, channels_last=on)
    arrays, rest = small(kind)
    a, b, *bias = map(cupy.asarray, arrays)
    a, b = channels_last(cupy, a) if x_lies else a, channels_last(cupy, b) if b_lies else b
    places = a.data.ptr, b.data.ptr
    y = getattr(ours, kind)(a, b, *bias, *rest)
    (graph,) = cudnn.graphs
    wanted = x_lies or on  # of images; a W is read as it lies, and its gradient comes in C order
    has_kernel = kind != "conv2d_grad_w"
    first, second, result = (wanted, b_lies, wanted) if has_kernel else (wanted, b_lies or wanted, False)
    assert graph.inputs[0].stride == dense_strides(a.shape, first)
    assert graph.inputs[1].stride == dense_strides(b.shape, second)
    assert graph.y.stride == dense_strides(y.shape, result)
    assert lie_last(y) if result else y.flags.c_contiguous
    assert [read == place for read, place in zip(cudnn.read[0], places, strict=True)] == [
        first == x_lies,
        second == b_lies,
    ]
    check_close(y.get(), expected(kind, arrays, rest), "float32", terms=5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_channels_last_the_table_agrees_with_the_reference(either, kind, monkeypatch):
    settings(monkeypatch, channels_last=True)
    for name, dtype in itertools.product(CASES, ("float16", "float32", "float64")):
        arrays, rest = call(kind, CASES[name], dtype)
        y = run(either, kind, arrays, rest)
        check_close(y.get(), expected(kind, arrays, rest), dtype, terms=math.sqrt(arrays[1][0].size))
        assert y.dtype == dtype
        assert y.flags.c_contiguous or (kind != "conv2d_grad_w" and lie_last(y))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_plan_for_channels_last_arrays_are_read_as_they_lie(cupy, cudnn, kind, monkeypatch):
    cudnn.refuses_last = True
    settings(monkeypatch, channels_last=True)
    arrays, rest = small(kind)
    for _ in range(3):
        y = run(cupy, kind, arrays, rest)
        assert y.flags.c_contiguous
        check_close(y.get(), expected(kind, arrays, rest), "float32", terms=5)
    fused = kind in ("conv2d", "conv2d_relu")  # asked for with the bias, and without
    assert len(cudnn.graphs) == 2 + fused
    assert len(cudnn.executed) == 3


def lie_last(x):
    return not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_strides_of_axes_of_one_element_are_not_taken_from_the_array(cupy, cudnn):
    # a column of a wider array: its strides are anything, and cuDNN would read a layout out of them
    x = cupy.zeros((1, 4, 1, 9), "float32")[:, :, :, :1]
    y = ours.conv2d(cupy.zeros((3, 1, 1, 1), "float32")[:, :, :1], cupy.ones((2, 1, 1, 1), "float32"), None, *REST)
    assert y.shape == (3, 2, 1, 1)
    assert ours.conv2d(x, cupy.ones((2, 4, 1, 1), "float32"), None, *REST).shape == (1, 2, 1, 1)
    for graph in cudnn.graphs:
        assert graph.inputs[0].stride == dense_strides(graph.inputs[0].dim, False)


REST = (ONE, NONE, ONE, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("either", ["real"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_large_products_in_float32_are_those_of_float32(either, kind, monkeypatch):
    arrays, rest = call(kind, ((8, 64, 32, 32), 64, (3, 3), ONE, ONE, ONE, 1), "float32")
    settings(monkeypatch, deterministic=True)
    first, again = (run(either, kind, arrays, rest).get() for _ in range(2))
    wanted = run(either, kind, [a.astype("float64") for a in arrays], rest).get()
    assert first.tobytes() == again.tobytes()
    check_close(first, wanted, "float32", terms=10)  # TF32 is three digits off
    settings(monkeypatch, allow_tf32=True)
    check_close(run(either, kind, arrays, rest).get(), wanted, "float32", terms=5000)


# ----------------------------------------------------------------------------------------------------------------------
# Bias and relu
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_BIAS)
def test_a_bias_is_in_the_graph_of_a_convolution(cupy, cudnn, kind):
    run(cupy, kind, *small(kind))
    (graph,) = cudnn.graphs
    assert (graph.virtual is not None) == (kind != "deconv2d")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_where_no_plan_has_a_bias_it_is_added(cupy, cudnn, name, dtype):
    cudnn.no_fusion = True
    for kind in WITH_BIAS:
        arrays, rest = call(kind, CASES[name], dtype)
        y = run(cupy, kind, arrays, rest)
        assert y.dtype == dtype
        check_close(y.get(), expected(kind, arrays, rest), dtype, terms=math.sqrt(arrays[1][0].size))
    graphs, executed = len(cudnn.graphs), len(cudnn.executed)
    run(cupy, "conv2d", *call("conv2d", CASES[name], dtype))
    assert (len(cudnn.graphs), len(cudnn.executed)) == (graphs, executed + 1)  # both answers are remembered


@pytest.mark.parametrize("kind", WITH_BIAS)
def test_a_bias_may_lie_anywhere(either, kind):
    (x, W, b), rest = small(kind)
    x, W, b = map(either.asarray, (x, W, b))
    wide = either.zeros(2 * len(b) + 1, "float32")
    wide[1::2] = b
    late = either.zeros(len(b) + 1, "float32")
    late[1:] = b
    y = getattr(ours, kind)(x, W, b, *rest)
    for other in (wide[1::2], late[1:], either.ascontiguousarray(b[::-1])[::-1]):
        before = other.get()
        assert (getattr(ours, kind)(x, W, other, *rest).get() == y.get()).all()
        assert (other.get() == before).all()


def test_a_bias_of_another_dtype_is_no_part_of_the_graph(cupy, cudnn):
    (x, W, b), rest = small()
    y = run(cupy, "conv2d", (x, W, b.astype("float16")), rest)
    check_close(y.get(), expected("conv2d", (x, W, b.astype("float16")), rest), "float32", terms=5)
    assert [graph.virtual for graph in cudnn.graphs] == [None]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_relu_is_to_the_bit_that_of_the_convolution_and_lets_nan_through(cupy, cudnn, dtype, fused, has_bias):
    cudnn.no_fusion = not fused
    (x, W, b), rest = small("conv2d_relu", dtype)
    x[0, 0, 0, 0], x[1, 1, 6, 7], x[1, 1, 0, 0] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        plain, rectified = (
            run(cupy, kind, (x, W, b if has_bias else None), rest).get() for kind in ("conv2d", "conv2d_relu")
        )
    wanted = reference.relu(plain)
    assert np.isnan(wanted).any()
    assert (wanted == 0).any()
    np.testing.assert_array_equal(rectified, wanted)


@pytest.mark.parametrize(
    ("fused", "has_bias", "launches"),
    [(True, True, ["relu"]), (False, True, ["bias_relu"]), (True, False, ["relu"]), (False, False, ["relu"])],
)
def test_behind_the_convolution_there_is_one_launch(cupy, cudnn, fused, has_bias, launches):
    cudnn.no_fusion = not fused
    (x, W, b), rest = small("conv2d_relu")
    launched = importlib.import_module("simulated_gpu").machine_of(cupy).launched
    launched.clear()
    run(cupy, "conv2d_relu", (x, W, b if has_bias else None), rest)
    assert list(launched) == [f"dezero_{name}" for name in launches]
    assert len(cudnn.executed) == 1


# ----------------------------------------------------------------------------------------------------------------------
# Plans are kept
# ----------------------------------------------------------------------------------------------------------------------


def test_a_plan_is_made_once(cupy, cudnn):
    for kind in KINDS:
        for _ in range(3):
            run(cupy, kind, *small(kind))
    assert len(cudnn.graphs) == 3  # a relu has none of its own
    assert len(cudnn.executed) == 12


def test_all_that_a_plan_depends_on_has_a_plan_of_its_own(cupy, cudnn, monkeypatch):
    x, W = cupy.zeros((2, 4, 8, 8), "float32"), cupy.zeros((4, 4, 3, 3), "float32")
    calls = [
        lambda: ours.conv2d(x, W, None, ONE, ONE, ONE, 1),
        lambda: ours.conv2d(x, W, W[:, 0, 0, 0], ONE, ONE, ONE, 1),
        lambda: ours.conv2d(x, W, None, TWO, ONE, ONE, 1),
        lambda: ours.conv2d(x, W, None, (2, 1), ONE, ONE, 1),
        lambda: ours.conv2d(x, W, None, (1, 2), ONE, ONE, 1),
        lambda: ours.conv2d(x, W, None, ONE, TWO, ONE, 1),
        lambda: ours.conv2d(x, W, None, ONE, TWO, TWO, 1),
        lambda: ours.conv2d(x, W[:, :2], None, ONE, ONE, ONE, 2),
        lambda: ours.conv2d(x[:1], W, None, ONE, ONE, ONE, 1),
        lambda: ours.conv2d(x.astype("float64"), W.astype("float64"), None, ONE, ONE, ONE, 1),
        lambda: ours.conv2d(x.astype("float16"), W.astype("float16"), None, ONE, ONE, ONE, 1),
        lambda: ours.conv2d(channels_last(cupy, x), W, None, ONE, ONE, ONE, 1),
        lambda: ours.conv2d(x, channels_last(cupy, W), None, ONE, ONE, ONE, 1),
        lambda: ours.deconv2d(x, W, None, ONE, ONE, (8, 8), ONE, 1),
        lambda: ours.deconv2d(x, W, None, TWO, ONE, (15, 15), ONE, 1),
        lambda: ours.deconv2d(x, W, None, TWO, ONE, (16, 15), ONE, 1),
        lambda: ours.conv2d_grad_w(x, x, (3, 3), ONE, ONE, ONE, 1),
        lambda: ours.conv2d_grad_w(x, x, (1, 1), ONE, NONE, ONE, 1),
        lambda: ours.conv2d_grad_w(x, x, (1, 1), ONE, NONE, ONE, 2),
    ]
    for _ in range(2):
        for chosen in itertools.product([False, True], repeat=2):  # the order in memory is the arrays'
            settings(monkeypatch, *chosen)
            assert all(call() is not None for call in calls)
    assert len(cudnn.graphs) == 4 * len(calls)


def test_those_used_last_are_kept(cupy, cudnn, monkeypatch):
    monkeypatch.setattr(ours, "PLANS_KEPT", 2)
    W = cupy.zeros((1, 1, 1, 1), "float32")

    def made(n):
        before = len(cudnn.graphs)
        ours.conv2d(cupy.zeros((n, 1, 2, 2), "float32"), W, None, *REST)
        return len(cudnn.graphs) - before

    assert [made(n) for n in (1, 2, 1, 3, 1, 2, 1, 3)] == [1, 1, 0, 1, 0, 1, 0, 1]


def test_plans_go_with_their_cupy(monkeypatch):
    _, first = simulate(monkeypatch)
    run(first.cupy, "conv2d", *small())
    _, second = simulate(monkeypatch)
    run(second.cupy, "conv2d", *small())
    assert (len(first.graphs), len(second.graphs)) == (1, 1)
    ours.reset()
    run(second.cupy, "conv2d", *small())
    assert len(second.graphs) == 2


# ----------------------------------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "allow_tf32", "deterministic", "engine"),
    [
        ("float32", False, False, "winograd"),
        ("float32", True, False, "tensor cores, atomics"),
        ("float32", True, True, "tensor cores"),
        ("float32", False, True, "winograd"),
        ("float16", False, False, "tensor cores, atomics"),
        ("float16", False, True, "tensor cores"),
        ("float64", False, False, "tensor cores, atomics"),
        ("float64", False, True, "tensor cores"),
    ],
)
def test_settings_choose_the_plan(cupy, cudnn, monkeypatch, dtype, allow_tf32, deterministic, engine):
    cudnn.engines = [e for e in ENGINES if e[0] != "fft"]
    settings(monkeypatch, allow_tf32, deterministic)
    for kind in KINDS:
        run(cupy, kind, *small(kind, dtype))
    assert {graph.engine for graph in cudnn.graphs} == {engine}


def test_float64_takes_no_method_that_loses_digits(cupy, cudnn):
    cudnn.engines = [e for e in ENGINES if Note.TENSOR_CORE not in e[1]]
    run(cupy, "conv2d", *small(dtype="float64"))
    run(cupy, "conv2d", *small(dtype="float32"))
    assert [graph.engine for graph in cudnn.graphs] == ["atomics", "fft"]


def test_types_of_sums(cupy, cudnn):
    for dtype in ("float16", "float32", "float64"):
        run(cupy, "conv2d", *small(dtype=dtype))
    assert [(g.io_data_type.name, g.compute.name) for g in cudnn.graphs] == [
        ("HALF", "FLOAT"),
        ("FLOAT", "FLOAT"),
        ("DOUBLE", "DOUBLE"),
    ]


# ----------------------------------------------------------------------------------------------------------------------
# No plan
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_remembered(cupy, cudnn, kind):
    cudnn.unsupported = {DataType.HALF}
    for _ in range(3):
        assert run(cupy, kind, *small(kind, "float16")) is None
    assert [graph.virtual is not None for graph in cudnn.graphs] == {
        "conv2d": [True, False],
        "conv2d_relu": [True, False],
        "deconv2d": [False],
        "conv2d_grad_w": [False],
    }[kind]
    assert run(cupy, kind, *small(kind, "float32")) is not None


def test_no_plan_keeps_to_the_settings(cupy, cudnn, monkeypatch):
    cudnn.engines = [e for e in ENGINES if Note.NONDETERMINISTIC in e[1]]
    assert run(cupy, "conv2d", *small()) is not None
    settings(monkeypatch, deterministic=True)
    assert run(cupy, "conv2d", *small()) is None
    cudnn.engines = ENGINES[:1]
    assert run(cupy, "conv2d_grad_w", *small("conv2d_grad_w")) is None


def zeros(cupy, *shapes, dtype="float32"):
    return [cupy.zeros(shape, dtype) for shape in shapes]


def test_what_the_library_is_not_asked(cupy, cudnn, monkeypatch):
    integers = zeros(cupy, (1, 1, 3, 3), (1, 1, 1, 1), dtype="int32")
    assert ours.conv2d(*integers, None, *REST) is None
    assert ours.conv2d(integers[0].astype("float32"), integers[1].astype("float64"), None, *REST) is None
    assert ours.conv2d(*zeros(cupy, (0, 1, 3, 3), (1, 1, 1, 1)), None, *REST) is None
    assert ours.conv2d(*zeros(cupy, (1, 0, 3, 3), (1, 0, 1, 1)), None, *REST) is None
    assert ours.conv2d(*zeros(cupy, (1, 1, 3, 3), (0, 1, 1, 1)), None, *REST) is None
    assert ours.conv2d(*zeros(cupy, (1, 1, 3, 3), (1, 1, 4, 4)), None, *REST) is None
    assert ours.deconv2d(*zeros(cupy, (0, 1, 3, 3), (1, 1, 1, 1)), None, ONE, NONE, (3, 3), ONE, 1) is None
    assert ours.deconv2d(*zeros(cupy, (1, 1, 3, 3), (1, 1, 1, 1)), None, ONE, NONE, (4, 3), ONE, 1) is None
    assert ours.conv2d_grad_w(*zeros(cupy, (0, 1, 3, 3), (0, 1, 3, 3)), ONE, ONE, NONE, ONE, 1) is None
    monkeypatch.setattr(ours, "_LARGEST", 54)
    assert run(cupy, "conv2d", *call("conv2d", CASES["one of all"])) is not None
    assert run(cupy, "conv2d", *small()) is None
    assert len(cudnn.graphs) == 1


def test_an_error_where_a_plan_is_sought_is_told_once(cupy, cudnn):
    cudnn.broken = RuntimeError("CUDNN_STATUS_INTERNAL_ERROR")
    with pytest.warns(RuntimeWarning, match="finds no plan for a convolution, which another way .*INTERNAL_ERROR"):
        assert run(cupy, "conv2d", *small()) is None
    assert run(cupy, "conv2d", *small()) is None
    assert run(cupy, "deconv2d", *small("deconv2d")) is None
    assert len(cudnn.graphs) == 3


def test_a_plan_that_fails_is_told_once_and_not_tried_again(cupy, cudnn):
    run(cupy, "deconv2d", *small("deconv2d"))
    cudnn.fails = True
    with pytest.warns(RuntimeWarning, match="cuDNN fails to run a convolution, .*CUDNN_STATUS_EXECUTION_FAILED"):
        assert run(cupy, "conv2d", *small()) is None
    assert run(cupy, "deconv2d", *small("deconv2d")) is None  # another plan: no second warning
    cudnn.fails = False
    assert run(cupy, "conv2d", *small()) is None
    assert run(cupy, "conv2d_grad_w", *small("conv2d_grad_w")) is not None
    assert len(cudnn.executed) == 5  # with the bias, and without it


# ----------------------------------------------------------------------------------------------------------------------
# Memory, streams, threads, devices
# ----------------------------------------------------------------------------------------------------------------------


def test_memory_is_the_pools_and_goes_back_to_it(cupy, cudnn):
    pool = cupy.get_default_memory_pool()
    arrays, rest = small(dtype="float16")
    x, W, b = map(cupy.asarray, arrays)
    before = pool.used_bytes()
    y = ours.conv2d(x, W, b, *rest)
    assert pool.used_bytes() - before == -(-y.nbytes // 512) * 512
    assert pool.total_bytes() - before > y.nbytes + cudnn.graphs[0].workspace > y.nbytes
    del y
    for _ in range(20):
        ours.conv2d(x, W, b, *rest)
    assert pool.used_bytes() == before


def test_out_of_memory_is_not_a_refusal(cupy, cudnn):
    (x, W, b), rest = small(dtype="float16")
    x, W, b = map(cupy.asarray, (x, W, b))
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(pool.used_bytes() + 1)
    with pytest.raises(MemoryError, match="Out of memory"):
        ours.conv2d(x, W, b, *rest)
    pool.set_limit(0)
    assert ours.conv2d(x, W, b, *rest) is not None
    assert len(cudnn.graphs) == 1


def test_without_memory_for_the_workspace_the_other_way_serves_this_time(cupy, cudnn):
    (x, W, b), rest = small(dtype="float16")
    x, W, b = map(cupy.asarray, (x, W, b))
    y = ours.conv2d(x, W, b, *rest)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(pool.used_bytes() + -(-y.nbytes // 512) * 512)
    assert ours.conv2d(x, W, b, *rest) is None
    pool.set_limit(0)
    assert ours.conv2d(x, W, b, *rest) is not None


def test_without_winograd_no_plan_takes_its_way(cupy, cudnn):
    arrays, rest = small(dtype="float32")
    arrays = list(map(cupy.asarray, arrays))
    for on in (True, False):
        with kernels.using_winograd(on):
            ours.conv2d(*arrays, *rest)
    with_it, without = (set(graph.barred) for graph in cudnn.graphs)
    assert {str(note).rpartition(".")[2] for note in without - with_it} == {"FFT", "WINOGRAD"}


def test_a_plan_may_take_a_gigabyte_or_twice_its_arrays():
    def limit(N):
        case = ("fprop", (N, 64, 224, 224), (64, 64, 3, 3), (N, 64, 224, 224), False, False, np.dtype("float32"))
        return ours._largest_workspace(ours._Case(*case, ONE, ONE, ONE, False, False, True, 0))

    assert limit(1) == 2**30
    assert limit(512) == 8 * (2 * 512 * 64 * 224**2 + 64 * 64 * 9)


def test_work_goes_to_the_current_stream(cupy, cudnn):
    streams = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    arrays, rest = small()
    arrays = [cupy.asarray(a) for a in arrays]
    ours.conv2d(*arrays, *rest)
    for stream in streams:
        with stream:
            ours.conv2d(*arrays, *rest)
    ours.conv2d(*arrays, *rest)
    assert [stream for _, stream in cudnn.executed] == [0, streams[0].ptr, streams[1].ptr, 0]


def test_each_thread_has_its_handle_and_leaves_it_to_the_next(cupy, cudnn):
    errors = []

    def work():
        try:
            for _ in range(3):
                run(cupy, "conv2d", *small())
        except BaseException as error:
            errors.append(error)

    work()
    for _ in range(4):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(cudnn.handles) == 2
    threads = [threading.Thread(target=work) for _ in range(3)]
    barrier = threading.Barrier(3)
    for thread in threads:
        thread._target = lambda: (barrier.wait(10), work(), barrier.wait(10))
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(cudnn.handles) == 4
    assert len(cudnn.graphs) == 1


def test_work_is_done_where_the_arrays_are(monkeypatch):
    cupy, cudnn = simulate(monkeypatch, devices=2)
    arrays, rest = small()
    with cupy.cuda.Device(1):
        there = [cupy.asarray(a) for a in arrays]
    for _ in range(2):
        y = ours.conv2d(*there, *rest)
        assert y.device.id == 1
        assert cupy.cuda.Device().id == 0
        assert run(cupy, "conv2d", arrays, rest).device.id == 0
    assert [graph.handle.device for graph in cudnn.graphs] == [1, 0]
    assert [handle.device for handle in cudnn.handles] == [0, 1]
    here = [cupy.asarray(a) for a in arrays]
    assert ours.conv2d(here[0], there[1], None, *rest) is None  # one device may not read another's memory
    check_close(y.get(), expected("conv2d", arrays, rest), "float32", terms=5)


# ----------------------------------------------------------------------------------------------------------------------
# What is installed
# ----------------------------------------------------------------------------------------------------------------------

INSTALL = "pip install 'dezero[gpu13]'"


def test_the_line_says_the_versions(cupy, cudnn):
    assert ours.status() == (True, "cuDNN 9.28.0, nvidia-cudnn-frontend 1.32.0")


def test_it_can_be_turned_off(cupy, cudnn, monkeypatch):
    monkeypatch.setenv("DEZERO_CUDNN", "0")
    assert ours.status() == (False, "turned off by DEZERO_CUDNN=0")
    assert run(cupy, "conv2d", *small()) is None
    assert not cudnn.handles
    monkeypatch.setenv("DEZERO_CUDNN", "1")
    ours.reset()
    assert ours.status()[0]


def test_the_frontend_is_missing(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)  # as if it were not installed
    assert ours.status() == (False, f"nvidia-cudnn-frontend is not installed: {INSTALL}")
    for kind in KINDS:
        assert run(cupy, kind, *small(kind)) is None


def test_the_extra_is_that_of_this_cuda(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: 12090)
    assert ours.status()[1].endswith("pip install 'dezero[gpu]'")


def test_the_frontend_is_broken(cupy, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "cudnn")
    (tmp_path / "cudnn.py").write_text("raise ImportError('GLIBC_2.99 not\\nfound')")
    monkeypatch.syspath_prepend(tmp_path)
    assert ours.status() == (False, "nvidia-cudnn-frontend does not import: GLIBC_2.99 not found")


def test_libcudnn_is_missing(cudnn):
    cudnn.version = RuntimeError("Unable to dlopen libcudnn.so.9")
    assert ours.status() == (False, f"libcudnn is missing: {INSTALL} (Unable to dlopen libcudnn.so.9)")


def test_libcudnn_is_old(cudnn):
    cudnn.version = 8907
    assert ours.status() == (False, f"libcudnn 8907 is too old, 9.0 is needed: {INSTALL}")


@pytest.mark.parametrize(("of_libcudnn", "wanted"), [(None, 13), (12, 12)])
def test_without_cublaslt_the_library_is_not_touched(cudnn, monkeypatch, of_libcudnn, wanted):
    monkeypatch.setattr(ours, "_cuda_of_libcudnn", lambda: of_libcudnn)
    monkeypatch.setattr(ours, "_load", lambda name, cuda_version: name != "cublasLt")
    line = f"libcublasLt.so.{wanted} is missing, without which libcudnn ends the process: {INSTALL}"
    assert ours.status() == (False, line)
    assert not cudnn.handles


def test_the_device_does_not_answer(cupy, cudnn):
    cudnn.no_device = RuntimeError("cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED")
    assert ours.status() == (False, "the device answers with: cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED")
    assert run(cupy, "conv2d", *small()) is None


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert ours.status()[0] is False
    assert ours.status()[1].startswith("CuPy does not import: ")


def test_it_is_looked_for_once_and_not_at_import(cudnn, monkeypatch):
    looked = []
    real = importlib.import_module
    monkeypatch.setattr(ours.importlib, "import_module", lambda name: looked.append(name) or real(name))
    importlib.reload(ours)
    assert not looked
    monkeypatch.setattr(ours, "_load", lambda name, cuda_version: True)
    for _ in range(3):
        assert ours.status()[0]
    assert looked.count("cudnn") == 1


def test_a_library_is_found_by_name_or_not():
    assert not ours._load("no_such_library_of_cuda", 13)


# ----------------------------------------------------------------------------------------------------------------------
# The real library, without a device: it plans for one that it is told of
# ----------------------------------------------------------------------------------------------------------------------

# What cuDNN asks a driver, for devices that this machine has not.
H200 = {
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
    "multiProcessorCount": 132,
    "smCountOrigin": 0,
    "warpSize": 32,
    "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448,
    "reservedSharedMemoryPerBlock": 1024,
    "oversizedSharedMemoryPerBlock": 0,
    "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048,
    "pciDeviceId": 0,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
    "totalGlobalMem": 150_000_000_000,
    "smClockRateKHz": 1_980_000,
    "memClockRateKHz": 3_201_000,
    "memoryBusWidth": 6144,
    "l2CacheSize": 62_914_560,
    "cudaDeviceId": 0,
    "deviceVer": 900,
    "driverVer": 13000,
    "deviceName": "NVIDIA H200",
}
A100 = {
    "deviceVer": 800,
    "multiProcessorCount": 108,
    "maxSharedMemoryPerBlockOptin": 166912,
    "deviceName": "NVIDIA A100",
}
T4 = {"deviceVer": 750, "multiProcessorCount": 40, "maxSharedMemoryPerBlockOptin": 65536, "deviceName": "Tesla T4"}
DEVICES = {"H200": H200, "A100": {**H200, **A100}, "T4": {**H200, **T4, "maxThreadsPerSM": 1024, "maxCtasPerSM": 16}}
NO_BFLOAT16 = {"T4"}

# libcudnn is linked to a driver, and the frontend asks the runtime for the kind of device. Both say little here.
DRIVER = r"""
int cuGetErrorString(int error, const char** text) { *text = "there is no driver"; return 0; }
int cuModuleGetFunction(void) { return 100; }
int cuModuleLoadData(void) { return 100; }
int cuModuleUnload(void) { return 100; }
int cuTensorMapEncodeIm2col(void) { return 100; }
int cuTensorMapEncodeTiled(void) { return 100; }
int cudaGetDevice(int* device) { *device = 0; return 0; }
int cudaDeviceGetAttribute(int* value, int attribute, int device)
{
    *value = attribute == 75 ? COMPUTE / 100 : attribute == 76 ? COMPUTE / 10 % 10 : 0;
    return 0;
}
const char* cudaGetErrorString(int error) { return "there is no runtime"; }
int cudaGetLastError(void) { return 0; }
"""


class Told:
    """The module `cudnn`, whose graphs are for a device that it is told of."""

    def __init__(self, cudnn, properties):
        self.cudnn, self.properties = cudnn, cudnn.create_device_properties(json.dumps(properties))

    def __getattr__(self, name):
        return getattr(self.cudnn, name)

    def pygraph(self, **options):
        return self.cudnn.pygraph(device_property=self.properties, **options)


def cases_of(kind, case, dtype):
    """Every _Case of a kernel on a row of the table: layouts and settings."""
    a, b, y = shapes(*case)
    _, _, _, stride, pad, dilation, _ = case
    first, second, result = {"fprop": (a, b, y), "dgrad": (y, b, a), "wgrad": (a, y, b)}[kind]
    tf32 = [False, True] if dtype.name == "float32" else [False]
    biases = BOTH if kind == "fprop" else [False]
    for first_is_last, second_is_last, allowed, ordered, biased in itertools.product(BOTH, BOTH, tf32, BOTH, biases):
        arrays = first, second, result, first_is_last, second_is_last, dtype
        yield ours._Case(kind, *arrays, stride, pad, dilation, allowed, ordered, True, 0, biased)


def plan_everything(device):
    """Print, as JSON, how many plans were found for each dtype, and a line for each case without one."""
    assert not ours._load_what_it_needs(ours._cuda_of_libcudnn() or 13)
    cudnn = importlib.import_module("cudnn")
    told = Told(cudnn, DEVICES[device])
    dtypes = [*map(np.dtype, ("float16", "float32", "float64")), types.SimpleNamespace(name="bfloat16", itemsize=2)]
    found, refused = dict.fromkeys((dtype.name for dtype in dtypes), 0), []
    rows = {**CASES, **LARGE}.items()
    for (name, row), kind, dtype in itertools.product(rows, ("fprop", "dgrad", "wgrad"), dtypes):
        for case in cases_of(kind, row, dtype):
            if not ours._can_have_a_plan(case):
                continue
            try:
                found[dtype.name] += ours._make_plan(told, case, None).workspace >= 0
            except Exception as error:
                known = isinstance(error, cudnn.cudnnGraphNotSupportedError)
                refused.append([dtype.name, known, f"{kind} of {name!r}, {case}: {error!r:.300}"])
    print("RESULT" + json.dumps([found, refused]))


def what_planning_lacks():
    if not sys.platform.startswith("linux"):
        return "it is done on Linux"
    if importlib.util.find_spec("cudnn") is None:
        return "nvidia-cudnn-frontend is not installed"
    if not (shutil.which("gcc") or shutil.which("cc")):
        return "there is no C compiler"
    if not ours._load("cublasLt", ours._cuda_of_libcudnn() or 13):
        return "cuBLAS is not installed"
    return ""


@pytest.mark.parametrize("device", ["H200", *(pytest.param(d, marks=pytest.mark.thorough) for d in ("A100", "T4"))])
def test_the_real_library_plans_the_table(device, tmp_path):
    lacks = what_planning_lacks()
    if lacks:
        pytest.skip(lacks)
    source, library = tmp_path / "driver.c", tmp_path / "libcuda.so.1"
    source.write_text(DRIVER.replace("COMPUTE", str(DEVICES[device]["deviceVer"])))
    compiler = shutil.which("gcc") or shutil.which("cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    here = os.path.dirname(__file__)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "LD_LIBRARY_PATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
        "CUDNN_FRONTEND_CUDART_LIB_NAME": str(library),
    }
    program = f"import test_cudnn; test_cudnn.plan_everything({device!r})"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found, refused = json.loads(done.stdout.split("RESULT")[1])
    without = {"bfloat16"} if device in NO_BFLOAT16 else set()
    assert not [line for dtype, _, line in refused if dtype not in without]
    assert all(known for _, known, _ in refused)  # by the error that is a refusal, of which nobody is warned
    # A convolution with a bias and without, and its gradients; of the largest, not all arrays are small enough.
    count = 4 * (len(CASES) + len(LARGE) - 1)
    for dtype, plans in found.items():
        assert plans >= (0 if dtype in without else 16 * count if dtype == "float32" else 8 * count), dtype
