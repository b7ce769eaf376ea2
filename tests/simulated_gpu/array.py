"""The array: CuPy's methods and arguments, on memory of the machine. `_host` is the NumPy array that lies there.

Its own rules are CuPy's: no NumPy array mixes with it, nothing turns it into one but `get`, a sum over everything is an
array of no axes, and a place outside an array wraps around.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import numbers
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .capture import operation
from .machine import Machine, MemoryPointer, is_pinned

KINDS = "?bhilqBHILQefdFD"
SCATTERED = {"int32", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128"}
NO_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


def silently() -> Any:
    """A device warns of nothing."""
    return np.errstate(all="ignore")


@contextlib.contextmanager
def _more_silently() -> Iterator[None]:
    """Nor of means of nothing, of which NumPy warns otherwise."""
    with silently(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def check_dtype(dtype: Any) -> np.dtype:
    """Return the dtype, and raise ValueError for one that CuPy has no arrays of."""
    dtype = np.dtype(dtype)
    if dtype.char not in KINDS and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")
    if dtype.byteorder not in "=|<":
        raise ValueError(f"Unsupported dtype {dtype} (byte order)")
    return dtype


def is_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float, complex, np.generic)) and not isinstance(x, (np.str_, np.bytes_))


def axes_of(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape) if hasattr(shape, "__len__") else (int(shape),)


class Flags:
    """How an array lies in memory."""

    def __init__(self, x: Any):
        self.c_contiguous = x._host.flags.c_contiguous
        self.f_contiguous = x._host.flags.f_contiguous
        self.owndata = x.base is None

    @property
    def forc(self) -> bool:
        return self.c_contiguous or self.f_contiguous

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())

    def __repr__(self) -> str:
        return f"  C_CONTIGUOUS : {self.c_contiguous}\n  F_CONTIGUOUS : {self.f_contiguous}\n  OWNDATA : {self.owndata}"


class BaseArray:
    """cupy.ndarray; each machine has a subclass of its own, which knows the machine and its ufuncs."""

    _machine: Machine
    _cupy: Any  # the module

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    # ------------------------------------------------------------------------------------------------------------------
    # Making
    # ------------------------------------------------------------------------------------------------------------------

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"):
        dtype, shape = check_dtype(dtype), axes_of(shape)
        if any(n < 0 for n in shape):
            raise ValueError("Negative dimensions are not allowed")
        if memptr is None:
            memptr = self._machine.alloc(math.prod(shape) * dtype.itemsize)
        start = memptr.mem.start + memptr.offset
        self._set(np.ndarray(shape, dtype, memptr.mem.buffer, start, strides, order), memptr, None)

    def _set(self, host: np.ndarray, data: MemoryPointer, base: Any) -> None:
        self._host, self.data, self.base = host, data, base

    @property
    def _unowned(self) -> Any:
        """The same array, which keeps its memory from nobody."""
        x = type(self).__new__(type(self))
        x._set(self._host, self.data._unowned, None)
        return x

    def _write(self, value: Any, places: Any = ...) -> None:
        """Change what lies in memory: all but kernels, sorting and sums at places do it here."""
        self._machine.launching()
        with silently():
            self._host[places] = value

    @classmethod
    def _new(cls, value: Any, order: str = "C", dtype: Any = None) -> Any:
        """Return a copy of a NumPy array or number on the current device."""
        value = np.asarray(value, dtype)
        x = cls._like(value, order)
        x._write(value)
        return x

    @classmethod
    def _like(cls, value: np.ndarray, order: str) -> Any:
        """Return a new array of the dtype, shape and, for order K, the order of axes of a NumPy array."""
        x = cls(value.shape, value.dtype)
        strides = np.empty_like(value, order=order).strides
        x._host = np.ndarray(value.shape, value.dtype, x.data.mem.buffer, x.data.mem.start, strides)
        return x

    def _view(self, host: np.ndarray) -> Any:
        """Return an array on memory of this one, where `host` lies in it."""
        mem = self.data.mem
        offset = host.__array_interface__["data"][0] - mem.ptr if host.size else self.data.offset
        view = type(self).__new__(type(self))
        place = np.ndarray(host.shape, host.dtype, mem.buffer, mem.start + offset, host.strides if host.size else None)
        view._set(place, MemoryPointer(mem, offset), self if self.base is None else self.base)
        return view

    def _moved(self, host: np.ndarray) -> Any:
        """Return a view where `host` is one of this array's memory, else a new array of it."""
        return self._view(host) if np.may_share_memory(host, self._host) else self._new(host)

    def _into(self, out: Any, value: Any) -> Any:
        """Return `value` as an array, or `out` with it."""
        if out is None:
            return self._new(value)
        if not isinstance(out, BaseArray):
            raise TypeError(f"Output array must be cupy.ndarray, not {type(out)}")
        value = np.asarray(value)
        if out.shape != value.shape:
            raise ValueError(f"Output shape is mismatched: {out.shape} and {value.shape}")
        out._write(value)
        return out

    # ------------------------------------------------------------------------------------------------------------------
    # What it is
    # ------------------------------------------------------------------------------------------------------------------

    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(Flags)
    T = property(lambda self: self._view(self._host.T))
    device = property(lambda self: self.data.device)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        view = self._host.view()
        view.shape = shape
        self._host = view

    @property
    def real(self) -> Any:
        return self._view(self._host.real) if self.dtype.kind == "c" else self

    @property
    def imag(self) -> Any:
        return self._view(self._host.imag) if self.dtype.kind == "c" else self._cupy.zeros_like(self)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = self._machine.current_stream()
        if stream._capture is None:
            stream.synchronize()
        strides = None if self.flags.c_contiguous else self.strides
        interface = {"shape": self.shape, "typestr": self.dtype.str, "descr": self.dtype.descr, "version": 3}
        return {**interface, "stream": 1, "strides": strides, "data": (self.data.ptr, False)}

    # ------------------------------------------------------------------------------------------------------------------
    # There and back
    # ------------------------------------------------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if out is None:
            order = ("F" if self._host.flags.fnc else "C") if order in "AK" else order
            out = np.empty(self.shape, self.dtype, order)
        elif not isinstance(out, np.ndarray):
            raise TypeError(f"Only numpy.ndarray can be obtained from cupy.ndarray, not {type(out)}")
        elif out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        elif out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        stream = self._machine.current_stream() if stream is None else stream
        stream._refuse_copies("D2H")
        host = self._host
        stream._submit(lambda: np.copyto(out, host))
        if blocking or not is_pinned(out):
            stream.synchronize()
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._fill_from(arr, self._machine.current_stream() if stream is None else stream)

    def _fill_from(self, arr: np.ndarray, stream: Any) -> None:
        """Copy from the host. What is not pinned is copied aside at once, as the driver does."""
        stream._refuse_copies("H2D")
        self._machine.launching()
        source = arr if is_pinned(arr) else arr.copy()
        host = self._host
        stream._submit(lambda: np.copyto(host, source))

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(NO_CONVERSION)

    def __reduce__(self) -> Any:
        return self._cupy.array, (self.get(),)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        with self.device:
            return self.copy()

    # ------------------------------------------------------------------------------------------------------------------
    # Functions of NumPy's that are given one
    # ------------------------------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        found = getattr(self._cupy, ufunc.__name__, None)
        if method != "__call__" or found is None:
            return NotImplemented
        if ufunc in COMPARED.values():  # NumPy makes an array of a number that it compares
            inputs = tuple(x.item() if isinstance(x, np.ndarray) and not x.ndim else x for x in inputs)
        out = options.pop("out", (None,))
        if len(out) != 1:
            raise ValueError("The 'out' parameter must have exactly one array value")
        return found(*inputs, **options, **({} if out[0] is None else {"out": out[0]}))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        path = [*function.__module__.split(".")[1:], function.__name__]
        try:
            found = functools.reduce(getattr, path, self._cupy)
        except AttributeError:
            return NotImplemented
        if not all(issubclass(t, (BaseArray, np.ndarray)) for t in types):
            return NotImplemented
        return found(*args, **options)

    # ------------------------------------------------------------------------------------------------------------------
    # Reductions
    # ------------------------------------------------------------------------------------------------------------------

    def _reduce(self, name: str, axis: Any, out: Any, **options: Any) -> Any:
        if self.dtype.name == "bfloat16" and options.get("dtype", self) is None:
            # Which NumPy takes no sums of. CuPy takes them in float32, and answers to var and std in float64.
            kind = np.float64 if name in ("var", "std") else np.float32
            y = self.astype(kind)._reduce(name, axis, None, **options)._host
            return self._into(out, y if kind is np.float64 else y.astype(self.dtype))
        with silently() if self.size and not options.get("ddof") else _more_silently():
            y = getattr(self._host, name)(axis=axis, **options)
        return self._into(out, y)

    def sum(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("sum", axis, out, dtype=dtype, keepdims=keepdims)

    def prod(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("prod", axis, out, dtype=dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("mean", axis, out, dtype=dtype, keepdims=keepdims)

    def var(self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
        return self._reduce("var", axis, out, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
        return self._reduce("std", axis, out, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("max", axis, out, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("min", axis, out, keepdims=keepdims)

    def ptp(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._into(out, np.ptp(self._host, axis=axis, keepdims=keepdims))

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("all", axis, out, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce("any", axis, out, keepdims=keepdims)

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        return self._into(out, np.asarray(self._host.argmax(axis=axis, keepdims=keepdims), dtype))

    def argmin(self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        return self._into(out, np.asarray(self._host.argmin(axis=axis, keepdims=keepdims), dtype))

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        with silently():
            return self._into(out, self._host.cumsum(axis, dtype))

    def cumprod(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        with silently():
            return self._into(out, self._host.cumprod(axis, dtype))

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
        return self._into(out, self._host.trace(offset, axis1, axis2, dtype))

    def dot(self, b: Any, out: Any = None) -> Any:
        return self._cupy.dot(self, b, out)

    # ------------------------------------------------------------------------------------------------------------------
    # Shapes and copies
    # ------------------------------------------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> Any:
        return self._new(self._host.copy(order), order="K")

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> Any:
        dtype = check_dtype(dtype)
        if casting is not None or subok is not None:
            raise TypeError("casting is not supported yet" if casting is not None else "subok is not supported yet")
        if not copy and dtype == self.dtype:
            in_order = {"C": self.flags.c_contiguous, "F": self.flags.f_contiguous}
            if in_order.get(order, True):
                return self
        with silently():
            return self._new(self._host.astype(dtype, order), order="K")

    def view(self, dtype: Any = None, type: Any = None) -> Any:
        return self._view(self._host.view() if dtype is None else self._host.view(check_dtype(dtype)))

    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if isinstance(value, BaseArray):
            if value.ndim:
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            value = value.get()  # as CuPy does
        elif not is_number(value):
            raise ValueError(f"{type(value)} cannot be used for fill")
        self._write(value)

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        if len(shape) == 1:
            shape = shape[0]
        host = self._host.reshape(shape, order=order)
        return self._view(host) if np.may_share_memory(host, self._host) else self._new(host, order)

    def ravel(self, order: str = "C") -> Any:
        return self._moved(self._host.ravel(order))

    def flatten(self, order: str = "C") -> Any:
        return self._new(self._host.flatten(order))

    def transpose(self, *axes: Any) -> Any:
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return self._view(self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> Any:
        return self._view(self._host.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return self._view(self._host.diagonal(offset, axis1, axis2))

    def repeat(self, repeats: Any, axis: Any = None) -> Any:
        if isinstance(repeats, (np.ndarray, BaseArray)):  # CuPy 13 takes no array of its own either
            raise TypeError(f"'repeats' does not accept {type(repeats)}")
        if isinstance(repeats, (list, tuple)) and len(repeats) > 1:
            self._refuse_copies("H2D")
        return self._new(self._host.repeat(repeats, axis))

    def sort(self, axis: int = -1) -> None:
        self._machine.launching()
        self._host.sort(axis, kind="stable")

    def argsort(self, axis: int = -1) -> Any:
        places = self._new(np.moveaxis(self._host, axis, -1).argsort(-1, kind="stable"))
        return places._view(np.moveaxis(places._host, -1, axis))  # not contiguous unless the axis is the last one

    def nonzero(self) -> tuple[Any, ...]:
        if not self.ndim:
            raise ValueError("Calling nonzero on 0d arrays is not allowed.")
        self._refuse_copies("D2H")
        places = self._new(np.argwhere(self._host))  # their columns, which are not contiguous, are what CuPy returns
        return tuple(places[:, axis] for axis in range(self.ndim))

    def conj(self) -> Any:
        return self._new(self._host.conj()) if self.dtype.kind == "c" else self

    conjugate = conj

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:
        return self._cupy.clip(self, min, max, out)

    def round(self, decimals: int = 0, out: Any = None) -> Any:
        host = self._host.astype(np.float32) if self.dtype.name == "bfloat16" else self._host  # as CuPy does
        with silently():
            return self._into(out, host.round(decimals))

    # ------------------------------------------------------------------------------------------------------------------
    # Indexes
    # ------------------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._host)

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def take(self, indices: Any, axis: Any = None, out: Any = None) -> Any:
        places = indices._host if isinstance(indices, BaseArray) else self._sent(np.asarray(indices))
        if places.dtype.kind not in "iu":
            raise TypeError("take: indices must be integers")
        return self._into(out, np.take(self._host, places, axis, mode="wrap"))

    def _places(self, key: Any) -> tuple[Any, bool]:
        """Return an index for NumPy that finds what CuPy would, and whether there are arrays in it: then it copies."""
        parts = [self._part(part) for part in (key if isinstance(key, tuple) else (key,))]
        if not any(isinstance(part, np.ndarray) for part in parts):
            return tuple(parts), False
        left_out = self.ndim - sum(_axes_taken(part) for part in parts)
        axis = 0
        for i, part in enumerate(parts):
            if isinstance(part, np.ndarray) and part.dtype != bool and axis < self.ndim and self.shape[axis]:
                parts[i] = part % self.shape[axis]  # a device does not look whether a place is there
            axis += left_out if part is Ellipsis else _axes_taken(part)
        return tuple(parts), True

    def _part(self, part: Any) -> Any:
        if isinstance(part, slice):
            ends = (part.start, part.stop, part.step)
            return slice(*(None if end is None else operator.index(self._read(end)) for end in ends))
        if part is None or part is Ellipsis or (isinstance(part, (int, np.integer)) and not isinstance(part, bool)):
            return part
        if isinstance(part, (list, np.ndarray, bool, np.bool_)):
            part = self._sent(np.asarray([self._read(x) for x in part] if isinstance(part, list) else part))
            part = part.astype(np.int64) if part.size == 0 and part.dtype.kind == "f" else part
        elif isinstance(part, BaseArray):
            if part.dtype == bool:  # how many there are is read
                self._refuse_copies("D2H")
            part = part._host
        else:
            with contextlib.suppress(TypeError):
                return operator.index(part)
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays "
                "are valid indices"
            )
        if part.dtype.kind not in "iub":
            raise IndexError(f"arrays used as indices must be of integer or boolean type. (actual: {part.dtype.type})")
        return part

    @staticmethod
    def _item(x: Any) -> Any:
        return x._host if isinstance(x, BaseArray) else x

    @staticmethod
    def _read(x: Any) -> Any:
        return x.get() if isinstance(x, BaseArray) else x

    def _refuse_copies(self, way: str) -> None:
        self._machine.current_stream()._refuse_copies(way)

    def _sent(self, places: np.ndarray) -> np.ndarray:
        """An index array of the host's goes to the device; a number does not, and of a bool CuPy reads it back."""
        if places.ndim or places.dtype == bool:
            self._refuse_copies("H2D" if places.ndim else "D2H")
        return places

    def __getitem__(self, key: Any) -> Any:
        places, copies = self._places(key)
        if copies:
            return self._new(self._host[places])
        found = self._host[places]
        if not isinstance(found, np.ndarray):  # all axes were indexed: still an array
            found = self._host[(*places, ...)]
        return self._view(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        places, copies = self._places(key)
        if isinstance(value, BaseArray):
            value = value._host
        elif not copies:
            self[places].fill(value)
            return
        self._write(value, places)

    def __delitem__(self, key: Any) -> None:
        raise ValueError("cannot delete array elements")

    def _scatter_add(self, slices: Any, value: Any) -> None:
        places, copies = self._places(slices)
        if copies and self.dtype.name not in SCATTERED:
            raise TypeError(f"cupy.add.at only supports {', '.join(sorted(SCATTERED))}, as data type, not {self.dtype}")
        value = value._host if isinstance(value, BaseArray) else np.asarray(value)
        self._machine.launching()
        with silently():
            np.add.at(self._host, places, value.astype(self.dtype))

    def scatter_add(self, slices: Any, value: Any) -> None:
        warnings.warn("`ndarray.scatter_add` is deprecated. Please use `cupy.add.at` instead.", DeprecationWarning, 2)
        self._scatter_add(slices, value)

    def put(self, indices: Any, values: Any, mode: str = "wrap") -> None:
        if not isinstance(indices, BaseArray):
            self._sent(np.asarray(indices))
        self._machine.launching()
        self._host.put(self._item(indices), self._item(values), mode=mode)


def _axes_taken(part: Any) -> int:
    """How many axes one part of an index stands for."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


# ----------------------------------------------------------------------------------------------------------------------
# Operators
# ----------------------------------------------------------------------------------------------------------------------


def _gives_way(x: Any, y: Any) -> bool:
    """Whether `y`, a Variable for instance, knows better than an array what x + y is."""
    return not isinstance(y, BaseArray) and getattr(y, "__array_priority__", 0) > BaseArray.__array_priority__


def _binary(ufunc: Any) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    def forward(self: Any, other: Any, *_: Any) -> Any:
        return NotImplemented if _gives_way(self, other) else ufunc(self, other)

    def backward(self: Any, other: Any, *_: Any) -> Any:
        return NotImplemented if _gives_way(self, other) else ufunc(other, self)

    def in_place(self: Any, other: Any) -> Any:
        return NotImplemented if _gives_way(self, other) else ufunc(self, other, out=self)

    return forward, backward, in_place


def _comparison(ufunc: Any) -> Callable[..., Any]:
    def compare(self: Any, other: Any) -> Any:
        if _gives_way(self, other):
            return NotImplemented
        if other is None and ufunc in (np.equal, np.not_equal):
            return self._new(np.full(self.shape, ufunc is np.not_equal))
        return ufunc(self, other)

    return compare


def _unary(ufunc: Any) -> Callable[..., Any]:
    return lambda self: ufunc(self)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
COMPARED = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}
for _name, _ufunc in BINARY.items():
    _ways = _binary(_ufunc)
    for _prefix, _way in zip(("", "r", "i"), _ways, strict=True):
        setattr(BaseArray, f"__{_prefix}{_name}__", _way)
BaseArray.__matmul__, BaseArray.__rmatmul__, _ = _binary(np.matmul)  # type: ignore[attr-defined]
for _name, _ufunc in COMPARED.items():
    setattr(BaseArray, f"__{_name}__", _comparison(_ufunc))
for _name, _ufunc in UNARY.items():
    setattr(BaseArray, f"__{_name}__", _unary(_ufunc))

# What is recorded while a stream captures: all methods that are public or here. Those that read refuse by themselves.
_READING = {"get", "set", "item", "tolist", "tobytes"}
_SPECIAL = {"getitem", "setitem", "copy", "deepcopy", "matmul", "rmatmul", *COMPARED, *UNARY} | {
    prefix + name for name in BINARY for prefix in ("", "r", "i")
}
for _name, _f in list(vars(BaseArray).items()):
    if inspect.isfunction(_f) and (_name[2:-2] in _SPECIAL or not (_name.startswith("_") or _name in _READING)):
        _f.__name__ = _name
        setattr(BaseArray, _name, operation(_f))

# ----------------------------------------------------------------------------------------------------------------------
# From the host
# ----------------------------------------------------------------------------------------------------------------------


def array_class(machine: Machine, cupy: Any) -> type[BaseArray]:
    """Return the class cupy.ndarray of one machine."""
    name = {"__module__": "cupy", "__qualname__": "ndarray", "_machine": machine, "_cupy": cupy}
    return type("ndarray", (BaseArray,), name)


def from_host(cls: type[BaseArray], x: Any, dtype: Any, order: str) -> Any:
    """A copy of lists, numbers and NumPy arrays, with CuPy arrays among them, on the current device."""
    of_arrays = False
    if isinstance(x, (list, tuple)):
        parts = list(_leaves(x))
        of_arrays = any(isinstance(part, BaseArray) for part in parts)
        if of_arrays:
            if not all(isinstance(part, BaseArray) for part in parts):
                raise TypeError(NO_CONVERSION)
            x = _nested(x)
    if not isinstance(x, (np.ndarray, np.generic, numbers.Number)):
        x = np.asarray(x)
    with silently():
        host = np.asarray(x, dtype)
    host = host.astype(check_dtype(host.dtype.newbyteorder("=")), copy=False)
    order = ("F" if host.flags.fnc else "C") if order in "KA" else order
    y = cls(host.shape, host.dtype, order=order)
    if not host.ndim or of_arrays:  # a number is the argument of a kernel
        y._write(host)
    elif host is x:
        y._fill_from(host, cls._machine.current_stream())
    else:
        y._refuse_copies("H2D")
        y._write(host)
    return y


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple)):
        for part in x:
            yield from _leaves(part)
    else:
        yield x


def _nested(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return [_nested(part) for part in x]
    return x._host if isinstance(x, BaseArray) else x
