"""Convolution by cuDNN, NVIDIA's own library, through nvidia-cudnn-frontend. Nothing outside this file knows of it.

A convolution is put to cuDNN as a graph of one node, or of two with its bias. Of what the library can do for that
graph, its heuristics first, a plan is the first that keeps to the settings; finding it takes milliseconds, so plans are
kept by everything that they depend on, a `_Case`. To run one takes pointers, a workspace from CuPy's pool, and a
handle, of this thread and device, set to CuPy's current stream.

Not every convolution has a plan (integers, empty arrays, bfloat16 on a device from before it), and not everybody has
the library. The kernels here return None then, which says: do it in another way.

    allow_tf32     without it, no plan for float32 that rounds its factors to fewer digits
    using_winograd without it, no plan for float32 by Winograd's method or Fourier's
    deterministic  with it, no plan whose sums are added in whatever order threads come by
    channels_last  with it, images with their channels last in memory: see `channels`

The bias is in the graph where there is a plan for both, and is else added to what comes out, in one more pass. Plans
with it are others, and fewer, so that a convolution with a bias and one without may differ in their last digits.
libcudnn 9.28 has them for convolutions of all kinds, and for no deconvolution: so that is not asked for.

A relu is not in the graph: it has to let NaN through, as `reference.relu` does. The frontend asks for that, but of
cuDNN's engines only one notes that it keeps to it (STRICT_NAN_PROP), and the heuristics prefer others.

The environment variable DEZERO_CUDNN=0 turns the library off. How the frontend's graphs are built is in NVIDIA's
documentation of it: https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import itertools
import math
import operator
import os
import threading
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

from dezero import cuda
from dezero.kernels import winograd
from dezero.kernels.gpu import channels
from dezero.kernels.gpu.elementwise import add_and_rectify
from dezero.kernels.gpu.libraries import Handles, in_a_line
from dezero.kernels.gpu.libraries import load as _load
from dezero.kernels.sizes import conv_outsize

Pair = tuple[int, int]

PLANS_KEPT = 512
_OLDEST = 90000  # libcudnn 9.0, as its own number of its version
_ALIGNMENT = 16  # bytes: what plans are made for, unless they are told of less
_LARGEST = 2**31  # elements: not all plans count beyond
_WORKSPACE = 2**30  # bytes: a plan may always ask for as much

# By the name of a dtype: cuDNN's names for it, and for what it is multiplied and added in.
_TYPES = {
    "float16": ("HALF", "FLOAT"),
    "bfloat16": ("BFLOAT16", "FLOAT"),
    "float32": ("FLOAT", "FLOAT"),
    "float64": ("DOUBLE", "DOUBLE"),
}


def status() -> tuple[bool, str]:
    """Say whether cuDNN can be used, and in one line which version, or why not. Worked out once for each CuPy."""
    library, line = _found()
    return library is not None, line


def reset() -> None:
    """Forget the library and all plans; the next call looks for it again."""
    _find.cache_clear()


# ----------------------------------------------------------------------------------------------------------------------
# The kernels: those of `reference`, or None
# ----------------------------------------------------------------------------------------------------------------------


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """y[n, oc] = sum over the c of oc's group of x[n, c] correlated with W[oc, c], plus b[oc]; None without a plan."""
    return _add_bias(*_convolve("fprop", x, W, _result(x, W, stride, pad, dilation), stride, pad, dilation, b))


def conv2d_relu(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """The same, and 0 where it is negative; None without a plan."""
    y, b = _convolve("fprop", x, W, _result(x, W, stride, pad, dilation), stride, pad, dilation, b)
    return None if y is None else add_and_rectify(y, b)


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """conv2d backward in x: x (N, C, H, W), W (C, OC / groups, KH, KW) -> (N, OC, *outsize); None without a plan."""
    shape = (len(x), W.shape[1] * groups, *outsize)
    return _add_bias(_convolve("dgrad", x, W, shape, stride, pad, dilation)[0], b)


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """conv2d backward in W: x (N, C, H, W), gy (N, OC, OH, OW) -> (OC, C / groups, KH, KW); None without a plan."""
    shape = (gy.shape[1], x.shape[1] // groups, *kernel_size)
    return _convolve("wgrad", x, gy, shape, stride, pad, dilation)[0]


def _add_bias(y: Any, b: Any) -> Any:
    if y is not None and b is not None:
        y = channels.elementwise(operator.iadd, y, b[None, :, None, None])
    return y


def _result(x: Any, W: Any, stride: Pair, pad: Pair, dilation: Pair) -> tuple[int, ...]:
    return len(x), len(W), *_outsizes(x.shape, W.shape, stride, pad, dilation)


def _outsizes(image: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, pad: Pair, dilation: Pair) -> Pair:
    height, width = map(conv_outsize, image[2:], kernel[2:], stride, pad, dilation)
    return height, width


def _convolve(
    kind: str, first: Any, second: Any, shape: tuple[int, ...], stride: Pair, pad: Pair, dilation: Pair, b: Any = None
) -> tuple[Any, Any]:
    """Return the array of `shape` that a plan makes of two arrays, and the bias where it is left to add.

    None in place of the array where there is no plan. All that are images have their channels last in memory, where the
    first has, or the setting wants it, and there is a plan for that. Weights are read as they lie, and their gradient
    is in C order: cuDNN brings them into the order that it needs by itself.
    """
    library, _ = _found()
    if library is None or not _are_alike(first, second):
        return None, b
    device = first.device
    with device:
        settings = cuda.allow_tf32, cuda.deterministic, winograd.is_on(), device.id
        last = cuda.channels_last or channels.lie_last(first)
        orders = {(last, channels.lie_last(second) or (last and kind == "wgrad")): None, (False, False): None}
        biases = (b, None) if b is not None and _are_alike(first, b) else (None,)
        for order, bias in itertools.product(orders, biases):
            shapes = first.shape, second.shape, shape
            case = _Case(kind, *shapes, *order, first.dtype, stride, pad, dilation, *settings, bias is not None)
            plan = library.plan(case)
            if plan is None:
                continue
            arrays = list(map(_readable, (first, second), order))
            if bias is not None:
                arrays.append(_readable(bias[None, :, None, None], last=False))
            if (y := library.run(case, plan, *arrays)) is not None:
                return y, b if bias is None else None
    return None, b


def _are_alike(x: Any, other: Any) -> bool:
    """Say whether two arrays are of one dtype and on one device."""
    return bool(x.dtype == other.dtype and x.data.device_id == other.data.device_id)


def _readable(x: Any, last: bool) -> Any:
    """Return `x` in that order and at an address that plans can read from: itself, or a copy."""
    x = channels.in_order(x, last)
    return x if x.data.ptr % _ALIGNMENT == 0 else x.copy(order="K")


# ----------------------------------------------------------------------------------------------------------------------
# Plans
# ----------------------------------------------------------------------------------------------------------------------


class _Case(NamedTuple):
    """All that a plan depends on: two arrays and what is made of them, by a convolution or one of its gradients.

    With a bias, one number for each channel of the result is added to it.

    fprop  x, W -> y        dgrad  gy, W -> gx        wgrad  x, gy -> gW
    """

    kind: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    result: tuple[int, ...]
    first_is_last: bool
    second_is_last: bool
    dtype: Any
    stride: Pair
    pad: Pair
    dilation: Pair
    allow_tf32: bool
    deterministic: bool
    winograd: bool
    device: int
    has_bias: bool = False

    @property
    def result_is_last(self) -> bool:
        return self.first_is_last and self.kind != "wgrad"


class _Plan(NamedTuple):
    """A graph that can be run, the bytes of workspace that it needs, and the lock under which it is run."""

    graph: Any
    workspace: int
    lock: Any


_NAMES = {"fprop": ("image", "weight"), "dgrad": ("loss", "filter"), "wgrad": ("image", "loss")}
_FIRST, _SECOND, _RESULT, _BIAS = 1, 2, 3, 4  # the tensors of a graph


def _can_have_a_plan(case: _Case) -> bool:
    """Say whether a graph of this case would mean what `reference` means by it."""
    if case.kind == "fprop":
        image, kernel, y = case.first, case.second, case.result
    elif case.kind == "dgrad":
        image, kernel, y = case.result, case.second, case.first
    else:
        image, kernel, y = case.first, case.result, case.second
    shapes = image, kernel, y
    return (
        case.dtype.name in _TYPES
        and all(min(shape) > 0 and math.prod(shape) < _LARGEST for shape in shapes)
        and y[2:] == _outsizes(image, kernel, case.stride, case.pad, case.dilation)
    )


def _graph(cudnn: Any, case: _Case, handle: Any) -> Any:
    """The graph of a case: two tensors, one node, its result; with a bias that, and the result of a second node."""
    kind, accumulated = (getattr(cudnn.data_type, name) for name in _TYPES[case.dtype.name])
    graph = cudnn.pygraph(
        io_data_type=kind, intermediate_data_type=accumulated, compute_data_type=accumulated, handle=handle
    )
    names = _NAMES[case.kind]
    tensors = {}
    for name, uid, shape, is_last in (
        (names[0], _FIRST, case.first, case.first_is_last),
        (names[1], _SECOND, case.second, case.second_is_last),
    ):
        tensors[name] = graph.tensor(name=name, dim=list(shape), stride=_strides(shape, is_last), data_type=kind)
        tensors[name].set_uid(uid)
    node = getattr(graph, f"conv_{case.kind}")
    result = node(**tensors, padding=list(case.pad), stride=list(case.stride), dilation=list(case.dilation))
    # Gradients' shapes do not follow from those of their operands, and the library guesses strides: say both.
    strides = _strides(case.result, case.result_is_last)
    result.set_dim(list(case.result)).set_stride(strides)
    if case.has_bias:
        shape = 1, case.result[1], 1, 1
        b = graph.tensor(name="b", dim=list(shape), stride=_strides(shape, is_last=False), data_type=kind)
        result = graph.bias(input=result, bias=b.set_uid(_BIAS))  # of what is not rounded yet, and nowhere in memory
        result.set_dim(list(case.result)).set_stride(strides)
    result.set_output(True).set_data_type(kind).set_uid(_RESULT)
    return graph


def _strides(shape: tuple[int, ...], is_last: bool) -> list[int]:
    """How many elements lie from one to the next along each axis, (N, C, H, W) in C order or with channels last.

    Not an array's own: those of an axis of one element may be anything, and cuDNN reads a layout out of them.

    >>> _strides((2, 3, 4, 5), is_last=False), _strides((2, 3, 4, 5), is_last=True)
    ([60, 20, 5, 1], [60, 1, 15, 3])
    """
    _, C, H, W = shape
    return [C * H * W, 1, W * C, C] if is_last else [C * H * W, H * W, W, 1]


def _unwanted(cudnn: Any, case: _Case) -> list[Any]:
    """What a plan for this case may not do, in cuDNN's words."""
    names = ["DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"]
    if case.dtype.name == "float32" and not case.allow_tf32:
        names += ["TENSOR_CORE"]  # which have no float32 other than TF32
    if case.dtype.name == "float64" or not case.winograd:
        names += ["FFT", "WINOGRAD"]
    if case.deterministic:
        names += ["NONDETERMINISTIC"]
    return [getattr(cudnn.numerical_note, name) for name in names]


def _make_plan(cudnn: Any, case: _Case, handle: Any) -> _Plan:
    """Find the plan of a case; whatever cuDNN raises where there is none."""
    graph = _graph(cudnn, case, handle)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.deselect_numeric_notes(_unwanted(cudnn, case))
    graph.deselect_workspace_greater_than(_largest_workspace(case))
    graph.check_support()
    graph.build_plans()
    return _Plan(graph, graph.get_workspace_size(), threading.Lock())


def _largest_workspace(case: _Case) -> int:
    """Bytes enough for a copy of every array in another layout, twice over, as the fastest plans make."""
    arrays = sum(math.prod(shape) for shape in (case.first, case.second, case.result))
    return max(_WORKSPACE, 2 * arrays * case.dtype.itemsize)


# ----------------------------------------------------------------------------------------------------------------------
# The library
# ----------------------------------------------------------------------------------------------------------------------


class _Library:
    """nvidia-cudnn-frontend at work for one CuPy: its plans and handles."""

    def __init__(self, cupy: Any, cudnn: Any) -> None:
        self.cupy, self.cudnn = cupy, cudnn
        self.plans: OrderedDict[_Case, _Plan | None] = OrderedDict()  # None: there is none; the latest used stands last
        self.lock = threading.RLock()
        self.handles = Handles(cudnn.create_handle)
        self.has_warned = False

    def plan(self, case: _Case) -> _Plan | None:
        """Return the plan of a case, from those that are kept or made now; None where there is none."""
        with self.lock:
            if case in self.plans:
                self.plans.move_to_end(case)
                return self.plans[case]
            plan = self._new_plan(case)
            self._keep(case, plan)
            return plan

    def run(self, case: _Case, plan: _Plan, first: Any, second: Any, b: Any = None) -> Any:
        """Return what a plan makes of its arrays; None, and never again this plan, if it fails."""
        handle = self.handles.of(case.device)
        y = channels.empty(case.result, case.dtype, case.result_is_last)
        try:
            workspace = self._workspace(plan)
        except MemoryError:
            return None  # this time; the other way takes its windows in parts
        pointers = {_FIRST: int(first.data.ptr), _SECOND: int(second.data.ptr), _RESULT: int(y.data.ptr)}
        if b is not None:
            pointers[_BIAS] = int(b.data.ptr)
        try:
            with plan.lock:
                self.cudnn.set_stream(handle=handle, stream=self.cupy.cuda.get_current_stream().ptr)
                plan.graph.execute(pointers, 0 if workspace is None else int(workspace.data.ptr), handle=handle)
        except Exception as error:
            with self.lock:
                self._keep(case, None)
            self._warn("fails to run", error)
            return None
        return y

    def _workspace(self, plan: _Plan) -> Any:
        # Given back to the pool while the plan runs: whoever gets it next runs behind it on the same stream.
        return self.cupy.empty(plan.workspace, "uint8") if plan.workspace else None

    def _new_plan(self, case: _Case) -> _Plan | None:
        if not _can_have_a_plan(case):
            return None
        try:
            return _make_plan(self.cudnn, case, self.handles.of(case.device))
        except self.cudnn.cudnnGraphNotSupportedError:
            return None
        except Exception as error:
            self._warn("finds no plan for", error)
            return None

    def _keep(self, case: _Case, plan: _Plan | None) -> None:
        self.plans[case] = plan
        self.plans.move_to_end(case)
        while len(self.plans) > PLANS_KEPT:
            self.plans.popitem(last=False)

    def _warn(self, what: str, error: Exception) -> None:
        """Say, once, that a convolution goes a slower way; a broken library would not be noticed otherwise."""
        if not self.has_warned:
            self.has_warned = True
            message = f"cuDNN {what} a convolution, which another way computes instead: {in_a_line(error)}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def _found() -> tuple[_Library | None, str]:
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:
        return None, f"CuPy does not import: {error}"
    return _find(cupy)


@functools.lru_cache(maxsize=1)
def _find(cupy: Any) -> tuple[_Library | None, str]:
    """Return the library and its versions in a line; or None and, in a line, what is missing."""
    if os.environ.get("DEZERO_CUDNN") == "0":
        return None, "turned off by DEZERO_CUDNN=0"
    cuda_version = cupy.cuda.runtime.runtimeGetVersion() // 1000
    install = f"pip install 'dezero[{'gpu' if cuda_version <= 12 else f'gpu{cuda_version}'}]'"
    try:
        cudnn = importlib.import_module("cudnn")
    except ModuleNotFoundError:
        return None, f"nvidia-cudnn-frontend is not installed: {install}"
    except Exception as error:
        return None, f"nvidia-cudnn-frontend does not import: {in_a_line(error)}"
    try:
        version = cudnn.backend_version()
    except Exception as error:
        return None, f"libcudnn is missing: {install} ({in_a_line(error)})"
    if version < _OLDEST:
        return None, f"libcudnn {version} is too old, 9.0 is needed: {install}"
    missing = _load_what_it_needs(_cuda_of_libcudnn() or cuda_version)
    if missing:
        return None, f"{missing} is missing, without which libcudnn ends the process: {install}"
    library = _Library(cupy, cudnn)
    try:
        library.handles.of(cupy.cuda.Device().id)
    except Exception as error:
        return None, f"the device answers with: {in_a_line(error)}"
    major, minor, patch = version // 10000, version // 100 % 100, version % 100
    frontend = getattr(cudnn, "__version__", "of an unknown version")
    return library, f"cuDNN {major}.{minor}.{patch}, nvidia-cudnn-frontend {frontend}"


def _load_what_it_needs(cuda_version: int) -> str:
    """Load the libraries that libcudnn looks for by name alone, and would not find in wheels; say which is missing.

    Without cuBLASLt it ends the process. Without the others some plans fail, with an error.
    """
    for name in ("cudart", "nvrtc"):
        _load(name, cuda_version)
    return "" if _load("cublasLt", cuda_version) else f"libcublasLt.so.{cuda_version}"


def _cuda_of_libcudnn() -> int | None:
    """The CUDA, 12 or 13, that the libcudnn now loaded was made for; CuPy may be of another."""
    try:
        ask = ctypes.CDLL("libcudnn.so.9").cudnnGetCudartVersion
    except (OSError, AttributeError):
        return None
    ask.restype = ctypes.c_size_t
    return int(ask()) // 1000
