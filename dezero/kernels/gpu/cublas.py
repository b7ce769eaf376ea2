"""Products by cuBLAS through handles of our own. Nothing outside this file knows of the library.

CuPy refuses its own cuBLAS while a step is captured; and a step that is replayed must give the bits that it gives
elsewhere, so the same routine multiplies always. `product` returns None where it does not serve (integers, two dtypes,
no library), which says: do it in another way.

cuBLAS counts rows and columns as Fortran does, and a matrix in C order is to it the transposed one. So that y = a b
comes out in C order it is asked for y' = b' a': the second operand goes first, and *not* transposed where it lies in C
order. A matrix of which one axis lies densely is read where it is, either way; others are copied.

All that follows from shapes and strides, a `_Plan`, is worked out once. Batches are one call where one stride leads
from matrix to matrix in both operands, 0 where an operand has a single one for all.

    float32    is multiplied in float32, with cuda.allow_tf32 in TF32
    float64    in float64
    the halves are multiplied exactly and added in float32

A handle belongs to a thread and a device. It works on CuPy's current stream, with a workspace of its own: that which
the library would take by itself is not part of a captured step. The environment variable DEZERO_CUBLAS=0 turns the
library off. Its functions: https://docs.nvidia.com/cuda/cublas/
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from dezero import cuda
from dezero.kernels.gpu import slots
from dezero.kernels.gpu.libraries import Handles, in_a_line, load, load_any

Shape = tuple[int, ...]

WORKSPACE = 2**25  # bytes: what NVIDIA advises for the H100, and more than it does for others
PLANS_KEPT = 4096

_MATH_MODE = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: sums of the halves are those of float32 throughout
_ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT
_LARGEST = 2**31 - 1  # what an int holds
_NEEDED = (
    *("cublasCreate_v2", "cublasSetMathMode", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGetVersion_v2"),
    *("cublasGetStatusName", "cublasGetStatusString"),
    *("cublasGemmEx", "cublasGemmEx_64", "cublasGemmStridedBatchedEx", "cublasGemmStridedBatchedEx_64"),
)


class _Type(NamedTuple):
    """A dtype: cuBLAS's numbers for it and for how it is multiplied, and the type of the factors alpha and beta."""

    kind: int  # cudaDataType_t
    compute: int  # cublasComputeType_t
    factor: Any


_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
_TYPES = {
    "float16": _Type(2, 68, ctypes.c_float),
    "bfloat16": _Type(14, 68, ctypes.c_float),
    "float32": _Type(0, 68, ctypes.c_float),
    "float64": _Type(1, 70, ctypes.c_double),
}
_FACTORS = {(kind, value): kind(value) for kind in (ctypes.c_float, ctypes.c_double) for value in (0, 1)}


def status() -> tuple[bool, str]:
    """Say whether cuBLAS can be used, and in one line which version, or why not. Worked out once for each CuPy."""
    library, line = _find(sys.modules["cupy"])
    return library is not None, line


def reset() -> None:
    """Forget the library and its handles; the next call looks for it again."""
    _find.cache_clear()


def product(a: Any, b: Any, out: Any = None) -> Any:
    """Return the matrix product of two arrays as `a @ b` has it, added to `out`, where there is one, in its place.

    `out` must be in C order. None, and nothing done, where cuBLAS does not serve. Raises RuntimeError where it answers
    with an error, and while a step is captured where there is no library.
    """
    library, why_not = _find(sys.modules["cupy"])
    if library is None and not slots.capturing():
        return None
    plan = _plan(a.shape, a.strides, a.dtype, b.shape, b.strides, b.dtype, out is not None, cuda.allow_tf32)
    if plan is None or a.data.device_id != b.data.device_id:
        return None
    if library is None:
        raise RuntimeError(f"matmul: a step with a product cannot be captured without cuBLAS: {why_not}")
    if plan.copies_a or plan.copies_b:
        return product(a.copy() if plan.copies_a else a, b.copy() if plan.copies_b else b, out)
    if a.data.device_id != library.current_device():
        with a.device:
            return library.multiply(plan, a, b, out)
    return library.multiply(plan, a, b, out)


# ----------------------------------------------------------------------------------------------------------------------
# Plans
# ----------------------------------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """What cuBLAS is asked for: a function, and its arguments between the handle and the three pointers.

    It is called once for each of `offsets`, bytes from the first element of a, b and y: not at all for a product
    without elements, or of no terms.
    """

    copies_a: bool
    copies_b: bool
    shape: Shape = ()  # of the result
    offsets: Sequence[tuple[int, int, int]] = ()
    function: str = ""
    first: tuple[Any, ...] = ()
    after_b: tuple[Any, ...] = ()
    after_a: tuple[Any, ...] = ()
    after_y: tuple[Any, ...] = ()


class _Batch(NamedTuple):
    """An axis of batches: its length, and how many elements lie from one to the next in a, b and y."""

    length: int
    a: int
    b: int
    y: int


@functools.lru_cache(maxsize=PLANS_KEPT)
def _plan(
    a_shape: Shape,
    a_strides: Shape,
    a_dtype: Any,
    b_shape: Shape,
    b_strides: Shape,
    b_dtype: Any,
    adds: bool,
    allow_tf32: bool,
) -> _Plan | None:
    """Return the plan of a product; None of dtypes that cuBLAS does not multiply."""
    type_ = _TYPES.get(a_dtype.name)
    if type_ is None or a_dtype != b_dtype:
        return None
    shape = (*_spread(a_shape[:-2], b_shape[:-2]), *a_shape[-2:-1], *b_shape[-1:] * (len(b_shape) > 1))
    if 0 in shape or 0 in a_shape:
        return _Plan(False, False, shape)
    size = a_dtype.itemsize
    if len(a_shape) == 1:
        a_shape, a_strides = (1, *a_shape), (0, *a_strides)
    if len(b_shape) == 1:
        b_shape, b_strides = (*b_shape, 1), (*b_strides, 0)
    a, b = _matrix(a_shape, a_strides, size), _matrix(b_shape, b_strides, size)
    if a is None or b is None:
        return _Plan(a is None, b is None)
    (M, K), N = a_shape[-2:], b_shape[-1]
    batches = _batches(a_shape, a_strides, b_shape, b_strides, M * N, size)
    if len(batches) == 1 and not (a.transposed or batches[0].b) and batches[0].a == M * a.leading:
        M, batches = M * batches[0].length, []  # the rows of all, one under another, make one matrix
    batches.sort(key=lambda batch: batch.length)
    inner = batches.pop() if batches else None
    return _Plan(
        False, False, shape, _offsets(batches, size), *_arguments(type_, M, N, K, a, b, inner, adds, allow_tf32)
    )


def _arguments(
    type_: _Type, M: int, N: int, K: int, a: _Matrix, b: _Matrix, batch: _Batch | None, adds: bool, allow_tf32: bool
) -> tuple[Any, ...]:
    """Return the function that multiplies, and its arguments in four parts, in the order of cuBLAS's declaration."""
    numbers = [M, N, K, a.leading, b.leading, batch.length if batch else 1]
    is_wide = max(numbers) > _LARGEST
    M, N, K, lda, ldb, count = map(ctypes.c_int64, numbers) if is_wide else numbers  # type: ignore[assignment]
    one, beta = (_address(_FACTORS[type_.factor, value]) for value in (1, int(adds)))
    compute = _TF32 if allow_tf32 and type_.kind == 0 else type_.compute
    function = "cublasGemmStridedBatchedEx" if batch else "cublasGemmEx"
    step = {name: (ctypes.c_int64(getattr(batch, name)),) if batch else () for name in "aby"}
    return (
        function + "_64" * is_wide,
        (int(b.transposed), int(a.transposed), N, M, K, one),
        (type_.kind, ldb, *step["b"]),
        (type_.kind, lda, *step["a"], beta),
        (type_.kind, N, *step["y"], *((count,) if batch else ()), compute, _ALGORITHM),
    )


def _address(factor: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(ctypes.addressof(factor))


class _Matrix(NamedTuple):
    """How the last two axes lie: as columns if transposed, else as rows; elements from one of these to the next."""

    transposed: bool
    leading: int


def _matrix(shape: Shape, strides: Shape, size: int) -> _Matrix | None:
    """Return how a matrix, or a batch, of elements of so many bytes lies; None where it has to be copied.

    That is where neither rows nor columns lie densely, or matrices in unequal steps.

    >>> _matrix((2, 3), (24, 8), 8), _matrix((2, 3), (8, 16), 8), _matrix((2, 3), (48, 16), 8)
    (_Matrix(transposed=False, leading=3), _Matrix(transposed=True, leading=2), None)
    """
    rows, columns = shape[-2:]
    # The stride of an axis of one element may be anything.
    if not _has_one_step(shape[:-2], strides[:-2], size):
        return None
    down = strides[-2] if rows > 1 else columns * size
    right = strides[-1] if columns > 1 else size
    if right == size and down >= columns * size and down % size == 0:
        return _Matrix(False, down // size)
    right = strides[-1] if columns > 1 else rows * size
    down = strides[-2] if rows > 1 else size
    if down == size and right >= rows * size and right % size == 0:
        return _Matrix(True, right // size)
    return None


def _has_one_step(counts: Shape, strides: Shape, size: int) -> bool:
    """Say whether one stride, of whole elements and not backwards, leads along all axes of more than one element."""
    axes = [(count, stride) for count, stride in zip(counts, strides, strict=True) if count > 1]
    steps = (stride == inner * count for (_, stride), (count, inner) in itertools.pairwise(axes))
    return all(steps) and all(stride >= 0 and stride % size == 0 for _, stride in axes)


def _spread(a: Shape, b: Shape) -> Shape:
    """The shape to which two broadcast: they do, Functions have checked.

    >>> _spread((2, 1), (5, 3, 4))
    (5, 2, 4)
    """
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    return tuple(n if m == 1 else m for n, m in zip(longer, shorter, strict=True))


def _batches(
    a_shape: Shape, a_strides: Shape, b_shape: Shape, b_strides: Shape, matrix: int, size: int
) -> list[_Batch]:
    """Return the axes before the last two, outermost first: of these as few as strides lead along, in both operands."""
    counts = _spread(a_shape[:-2], b_shape[:-2])
    a_steps, b_steps = (
        [0] * (len(counts) + 2 - len(shape))
        + [0 if n == 1 else stride // size for n, stride in zip(shape[:-2], strides, strict=False)]
        for shape, strides in ((a_shape, a_strides), (b_shape, b_strides))
    )
    found: list[_Batch] = []  # innermost first
    for count, a, b in reversed(list(zip(counts, a_steps, b_steps, strict=True))):
        if count > 1:
            inner = found[-1] if found else None
            if inner and (a, b) == (inner.a * inner.length, inner.b * inner.length):
                found[-1] = inner._replace(length=inner.length * count)
            else:
                found.append(_Batch(count, a, b, matrix))
        matrix *= count
    return found[::-1]


def _offsets(batches: list[_Batch], size: int) -> list[tuple[int, int, int]]:
    """Where the matrices of a, b and y lie, in bytes."""
    found = []
    for places in itertools.product(*(range(batch.length) for batch in batches)):
        steps = [(i * batch.a, i * batch.b, i * batch.y) for i, batch in zip(places, batches, strict=True)]
        a, b, y = (size * sum(step) for step in zip(*steps, strict=True)) if steps else (0, 0, 0)
        found.append((a, b, y))
    return found


# ----------------------------------------------------------------------------------------------------------------------
# The library
# ----------------------------------------------------------------------------------------------------------------------


class _Handle:
    """cublasHandle_t, the stream that it is set to, and its workspace."""

    def __init__(self, library: _Library) -> None:
        self.library = library
        self.handle = ctypes.c_void_p()
        library.check(library.functions["cublasCreate_v2"](ctypes.byref(self.handle)))
        library.check(library.functions["cublasSetMathMode"](self.handle, _MATH_MODE))
        self.stream: int | None = None
        self.workspace: Any = None

    def use(self, stream: int) -> Any:
        """Work on that stream from now on, and return the workspace there, which must live until cuBLAS was called.

        Another stream has another workspace, since both may be at work at once; the first goes back to CuPy's pool,
        which gives it to nobody but those behind it on its own stream. While a step is captured, each product takes
        its workspace and gives it back to the pool, which is the step's: it lives as long, and serves all in turn.
        """
        is_captured = slots.capturing()
        if stream == self.stream and not is_captured:
            return self.workspace
        library, functions = self.library, self.library.functions
        self.stream = self.workspace = None
        workspace = library.cupy.empty(WORKSPACE, "uint8")
        library.check(functions["cublasSetStream_v2"](self.handle, ctypes.c_void_p(stream)))
        pointer = ctypes.c_void_p(workspace.data.ptr)  # set after the stream, which takes any other away
        library.check(functions["cublasSetWorkspace_v2"](self.handle, pointer, ctypes.c_size_t(WORKSPACE)))
        if not is_captured:
            self.stream, self.workspace = stream, workspace
        return workspace


class _Library:
    """libcublas at work for one CuPy. Its functions have no declared arguments: to convert them takes microseconds."""

    def __init__(self, cupy: Any, loaded: Any) -> None:
        self.cupy = cupy
        self.functions = {name: getattr(loaded, name) for name in _NEEDED}
        for name in ("cublasGetStatusName", "cublasGetStatusString"):
            self.functions[name].restype = ctypes.c_char_p
        self.handles = Handles(lambda: _Handle(self))
        self.empty = cupy.ndarray  # faster than cupy.empty
        self.current_device = cupy.cuda.runtime.getDevice
        self.current_stream = cupy.cuda.get_current_stream

    def version(self) -> str:
        number = ctypes.c_int()
        handle = self.handles.of(self.current_device()).handle
        self.check(self.functions["cublasGetVersion_v2"](handle, ctypes.byref(number)))
        return f"{number.value // 10000}.{number.value // 100 % 100}.{number.value % 100}"

    def multiply(self, plan: _Plan, a: Any, b: Any, out: Any) -> Any:
        """Return what a plan makes of two arrays."""
        if out is None:
            make = self.empty if plan.offsets else self.cupy.zeros
            out = make(plan.shape, a.dtype)
        if not plan.offsets:
            return out
        owned = self.handles.of(self.current_device())
        workspace = owned.use(self.current_stream().ptr)
        function, pointer = self.functions[plan.function], ctypes.c_void_p
        a_start, b_start, y_start = a.data.ptr, b.data.ptr, out.data.ptr
        for a_offset, b_offset, y_offset in plan.offsets:
            answer = function(
                owned.handle,
                *plan.first,
                pointer(b_start + b_offset),
                *plan.after_b,
                pointer(a_start + a_offset),
                *plan.after_a,
                pointer(y_start + y_offset),
                *plan.after_y,
            )
            if answer:
                self.check(answer, f"matmul: {a.shape} @ {b.shape} of {a.dtype.name}: ")
        del workspace  # not before
        return out

    def check(self, answer: int, what: str = "") -> None:
        """Raise RuntimeError where a function's answer is an error's number."""
        if answer:
            name, text = (self.functions[f"cublasGetStatus{kind}"](answer) for kind in ("Name", "String"))
            name, text = ((words or b"unknown error").decode(errors="replace") for words in (name, text))
            raise RuntimeError(f"{what}cuBLAS answers {name} ({answer}: {text})")


@functools.lru_cache(maxsize=1)
def _find(cupy: Any) -> tuple[_Library | None, str]:
    """Return the library and its version in a line; or None and, in a line, what is missing."""
    if os.environ.get("DEZERO_CUBLAS") == "0":
        return None, "turned off by DEZERO_CUBLAS=0"
    try:
        version = cupy.cuda.runtime.runtimeGetVersion() // 1000
        loaded = load("cublas", version) or load_any("cublas")
        if loaded is None:
            return None, f"libcublas.so.{version} is missing: pip install 'cupy-cuda{version}x[ctk]', which brings it"
        missing = [name for name in _NEEDED if not hasattr(loaded, name)]
        if missing:
            return None, f"libcublas is too old, CUDA 12's is needed (it has no {missing[0]})"
        library = _Library(cupy, loaded)
        return library, f"cuBLAS {library.version()}"
    except Exception as error:
        return None, f"the device answers with: {in_a_line(error)}"
