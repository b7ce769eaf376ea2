"""CuPy's functions, as many of them as are used: SIGNATURES is the list, with the arguments that CuPy's take.

Whoever needs another one looks whether CuPy has it, in the oldest version that DeZero works with too, and adds a line.
A test compares the lines with CuPy where it is installed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .array import BaseArray, check_dtype, from_host, is_number, silently
from .capture import operation

UFUNCS = """
    add subtract multiply true_divide divide floor_divide remainder mod fmod power float_power negative positive
    absolute sign reciprocal square sqrt cbrt exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2
    sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh hypot copysign
    maximum minimum fmax fmin floor ceil trunc rint isfinite isinf isnan signbit
    greater greater_equal less less_equal equal not_equal
    logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert left_shift right_shift
    conjugate nextafter ldexp
"""

SIGNATURES = """
    all(a, axis=None, out=None, keepdims=False)
    amax(a, axis=None, out=None, keepdims=False)
    amin(a, axis=None, out=None, keepdims=False)
    any(a, axis=None, out=None, keepdims=False)
    argmax(a, axis=None, dtype=None, out=None, keepdims=False)
    argmin(a, axis=None, dtype=None, out=None, keepdims=False)
    argsort(a, axis=-1, kind=None)
    around(a, decimals=0, out=None)
    array_equal(a1, a2, equal_nan=False)
    array_split(ary, indices_or_sections, axis=0)
    ascontiguousarray(a, dtype=None)
    atleast_1d(*arys)
    bincount(x, weights=None, minlength=None)
    broadcast_arrays(*args)
    broadcast_to(array, shape)
    clip(a, a_min, a_max, out=None)
    concatenate(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
    copy(a, order='K')
    copyto(dst, src, casting='same_kind', where=None)
    count_nonzero(a, axis=None)
    cumprod(a, axis=None, dtype=None, out=None)
    cumsum(a, axis=None, dtype=None, out=None)
    diag(v, k=0)
    diagonal(a, offset=0, axis1=0, axis2=1)
    dot(a, b, out=None)
    einsum(*operands, **kwargs)
    expand_dims(a, axis)
    flip(a, axis=None)
    flatnonzero(a)
    hstack(tup, *, dtype=None, casting='same_kind')
    isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
    allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
    linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)
    matmul(x1, x2, out=None)
    max(a, axis=None, out=None, keepdims=False)
    mean(a, axis=None, dtype=None, out=None, keepdims=False)
    min(a, axis=None, out=None, keepdims=False)
    moveaxis(a, source, destination)
    nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None)
    nonzero(a)
    outer(a, b, out=None)
    pad(array, pad_width, mode='constant', **kwargs)
    prod(a, axis=None, dtype=None, out=None, keepdims=False)
    ptp(a, axis=None, out=None, keepdims=False)
    ravel(a, order='C')
    repeat(a, repeats, axis=None)
    reshape(a, newshape, order='C')
    roll(a, shift, axis=None)
    rollaxis(a, axis, start=0)
    round(a, decimals=0, out=None)
    searchsorted(a, v, side='left', sorter=None)
    sort(a, axis=-1, kind=None)
    split(ary, indices_or_sections, axis=0)
    squeeze(a, axis=None)
    stack(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
    std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    sum(a, axis=None, dtype=None, out=None, keepdims=False)
    swapaxes(a, axis1, axis2)
    take(a, indices, axis=None, out=None)
    take_along_axis(a, indices, axis)
    tensordot(a, b, axes=2)
    tile(A, reps)
    trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None)
    transpose(a, axes=None)
    tril(m, k=0)
    triu(m, k=0)
    unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True)
    var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    vdot(a, b)
    vstack(tup, *, dtype=None, casting='same_kind')
    where(condition, x=None, y=None)
"""

MAKERS = """
    array(obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False)
    asarray(a, dtype=None, order=None, *, blocking=False)
    asnumpy(a, stream=None, order='C', out=None, *, blocking=True)
    arange(start, stop=None, step=1, dtype=None)
    empty(shape, dtype=float, order='C')
    empty_like(prototype, dtype=None, order='K', subok=None, shape=None)
    eye(N, M=None, k=0, dtype=float, order='C')
    full(shape, fill_value, dtype=None, order='C')
    full_like(a, fill_value, dtype=None, order='K', subok=None, shape=None)
    identity(n, dtype=float)
    ones(shape, dtype=float, order='C')
    ones_like(a, dtype=None, order='K', subok=None, shape=None)
    zeros(shape, dtype=float, order='C')
    zeros_like(a, dtype=None, order='K', subok=None, shape=None)
"""

# What is NumPy's own in CuPy.
OF_NUMPY = """
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128
    dtype finfo iinfo issubdtype promote_types generic number integer floating inexact
    nan inf pi e newaxis broadcast_shapes isscalar
"""

READING = {"flatnonzero", "unique", "bincount"}  # they read a size before they return
PRODUCTS = {"matmul", "dot", "tensordot", "outer", "vdot"}  # NumPy has none of bfloat16


@functools.cache
def signatures() -> dict[str, inspect.Signature]:
    """Return the signatures that the lines of the tables stand for, by name."""
    lines = (line.strip()[:-1].split("(", 1) for line in (SIGNATURES + MAKERS).splitlines() if line.strip())
    return {name: inspect.signature(eval(f"lambda {parameters}: None")) for name, parameters in lines}


def refuse_hosts_arrays(x: Any) -> None:
    """A NumPy array among CuPy's is an error."""
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        for part in x:
            refuse_hosts_arrays(part)


def is_half(x: Any) -> bool:
    """Whether x is a NumPy array of bfloat16."""
    return isinstance(x, np.ndarray) and x.dtype.name == "bfloat16"


def host_of(x: Any) -> Any:
    """Put the host's view in place of arrays, in lists and tuples too."""
    if isinstance(x, BaseArray):
        return x._host
    if type(x) in (list, tuple):
        return type(x)(host_of(part) for part in x)
    return x


class Ufunc:
    """An elementwise function on arrays and numbers."""

    def __init__(self, name: str, cls: type[BaseArray]):
        self._numpy, self._cls, self._machine = getattr(np, name), cls, cls._machine
        self.__name__ = self._numpy.__name__
        self.name = f"cupy_{self._numpy.__name__}"
        self.nin, self.nout, self.nargs = self._numpy.nin, self._numpy.nout, self._numpy.nargs

    @operation
    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        if not self.nin <= len(args) <= self.nin + 1 or (len(args) > self.nin and out is not None):
            raise TypeError(f"Wrong number of arguments for {self.name}")
        args, out = args[: self.nin], args[self.nin] if len(args) > self.nin else out
        for x in args:
            if not (isinstance(x, BaseArray) or is_number(x)):
                raise TypeError(f"Unsupported type {type(x)}")
        if out is not None and not isinstance(out, BaseArray):
            raise TypeError(f"return arrays must be of ArrayType, not {type(out)}")
        hosts = [np.asarray(x._host) if isinstance(x, BaseArray) else x for x in args]
        options = {} if dtype is None else {"dtype": dtype}
        with silently():
            y = self._numpy(*hosts, **options)
            if self._numpy is np.power and is_half(hosts[0]) and isinstance(hosts[1], float):
                y = np.asarray(y, np.float64)  # what CuPy makes of it
            if out is None:
                return self._cls._new(y)
            if out.shape != np.broadcast_shapes(out.shape, np.shape(y)):
                raise ValueError(f"non-broadcastable output operand with shape {out.shape}: {np.shape(y)} is needed")
            if not np.can_cast(np.asarray(y).dtype, out.dtype, casting):
                raise TypeError(
                    f"output (typecode {out.dtype.char!r}) could not be coerced to provided output parameter"
                )
            out._write(y)
        return out

    @operation
    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        if self._numpy is not np.add:  # CuPy has it for a few other ones, not for all dtypes
            raise TypeError(f"the stand-in has no cupy.{self.__name__}.at")
        a._scatter_add(indices, b)


def _arrays_of(name: str, cls: type[BaseArray], result: Any, operands: list[BaseArray]) -> Any:
    """Arrays of the machine for what NumPy returned: views of operands where NumPy's result is one."""
    if isinstance(result, (list, tuple)):
        return type(result)([_arrays_of(name, cls, y, operands) for y in result])
    if isinstance(result, bool) and name in ("array_equal", "allclose"):
        return cls._new(result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    if name == "pad":
        return cls._new(result, "F" if operands[0].flags.fnc else "C")
    if name == "einsum" and len(operands) > 1:
        return cls._new(result, order="F")  # CuPy's need not be in C order: what relies on it is seen
    for x in operands:
        if isinstance(result, np.ndarray) and result.size and np.may_share_memory(result, x._host):
            return x._view(result)
    return cls._new(result)


def _find_arrays(x: Any) -> list[BaseArray]:
    if isinstance(x, BaseArray):
        return [x]
    return [y for part in x for y in _find_arrays(part)] if isinstance(x, (list, tuple)) else []


TAKES_NUMBERS_FIRST = {"linspace", "where", "einsum", "isclose", "allclose", "concatenate", "stack", "hstack", "vstack"}


def _bound(name: str, signature: inspect.Signature, args: Any, options: Any) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None


def _wrapped(name: str, signature: inspect.Signature, cls: type[BaseArray]) -> Callable[..., Any]:
    """Return CuPy's function `name`: NumPy's, on what the arrays hold, with the arguments that CuPy's takes."""
    function = getattr(np, name)
    first = next(iter(signature.parameters.values()))
    needs_array = first.kind is not first.VAR_POSITIONAL and name not in TAKES_NUMBERS_FIRST

    def call(*args: Any, **options: Any) -> Any:
        bound = _bound(name, signature, args, options)
        given = bound.arguments
        for x in given.values():
            refuse_hosts_arrays(x)
        if needs_array and not _find_arrays(given[first.name]):
            raise TypeError(f"{name}: {first.name} must be cupy.ndarray, not {type(given[first.name])}")
        out = given.pop("out", None)
        operands = _find_arrays(list(bound.args) + list(bound.kwargs.values()))
        if name in READING or (name == "linspace" and operands):
            operands[0]._refuse_copies("D2H")
        _refuse_cublas(cls, name, host_of(bound.args))
        result = _numpys(name, function, host_of(bound.args), {k: host_of(x) for k, x in bound.kwargs.items()})
        return _arrays_of(name, cls, result, operands) if out is None else operands[0]._into(out, result)

    return call


def _method(name: str, signature: inspect.Signature, cls: type[BaseArray]) -> Callable[..., Any]:
    """Return CuPy's function `name` that is a method of the array too."""
    method = {"amax": "max", "amin": "min", "around": "round"}.get(name, name)
    first = next(iter(signature.parameters))

    def call(*args: Any, **options: Any) -> Any:
        given = _bound(name, signature, args, options).arguments
        x = given.pop(first)
        if not isinstance(x, BaseArray):
            raise TypeError(f"{name}: {first} must be cupy.ndarray, not {type(x)}")
        return getattr(x, method)(**given)

    return call


def _numpys(name: str, function: Any, args: Any, options: Any) -> Any:
    if name == "pad":
        _check_wrap(*args, **options)
    if name == "reshape":
        return args[0].reshape(args[1], order=args[2] if len(args) > 2 else "C")
    with silently():
        if not any(is_half(x) for x in args):
            return function(*args, **options)
        if name in ("tril", "triu"):
            return function(args[0].astype(np.float32), *args[1:])  # CuPy's answer is float32, too
        if sum(map(is_half, args)) > 1 and (name == "einsum" or (name == "matmul" and max(x.ndim for x in args) > 2)):
            raise TypeError("data type 'E' not understood")
        if name in PRODUCTS:
            half = next(x.dtype for x in args if is_half(x))
            widened = [x.astype(np.float32) if is_half(x) else x for x in args]
            y = np.asarray(function(*widened, **options))
            return y.astype(half) if all(map(is_half, args[:2])) else y
        return function(*args, **options)


def _refuse_cublas(cls: type[BaseArray], name: str, args: Any) -> None:
    stream = cls._machine.current_stream()
    if stream._capture is not None and _is_cublas(name, args):
        stream._refuse_library("cuBLAS")


def _is_cublas(name: str, args: Any) -> bool:
    """Whether CuPy gives a product to cuBLAS. It does sums to one number by itself, and products of integers."""
    arrays = [x for x in args if isinstance(x, np.ndarray)]
    if name not in ("matmul", "dot", "tensordot", "einsum") or np.result_type(*arrays).kind in "biu":
        return False
    if not all(x.size for x in arrays):
        return False
    if name == "einsum":
        return _contracts(args)
    batches = name == "matmul" and max(x.ndim for x in arrays) > 2
    return all(x.ndim for x in arrays) and (batches or _result_size(name, args) > 1)


def _result_size(name: str, args: Any) -> int:
    return np.size(getattr(np, name)(*(np.zeros(x.shape) if isinstance(x, np.ndarray) else x for x in args)))


def _contracts(args: Any) -> bool:
    """Whether an einsum sums over an axis, longer than 1, of two operands at once."""
    kept: Any
    if isinstance(args[0], str):
        inputs, arrow, kept = args[0].replace(" ", "").replace("...", ".").partition("->")
        subscripts, operands, explicit = inputs.split(","), args[1:], bool(arrow)
    else:
        operands, subscripts, explicit = args[0 : len(args) // 2 * 2 : 2], args[1::2], len(args) % 2 == 1
        kept = args[-1]
    sizes = [_sizes_of(list(labels), x.shape) for labels, x in zip(subscripts, operands, strict=True)]
    return any(
        sum(of.get(label, 1) > 1 for of in sizes) > 1 and not (explicit and label in kept)
        for label in {label for of in sizes for label in of}
    )


def _sizes_of(labels: list[Any], shape: tuple[int, ...]) -> dict[Any, int]:
    """How long the axis of each label is; there may be more axes where the labels have an ellipsis."""
    wild = next((i for i, label in enumerate(labels) if label in (".", Ellipsis)), len(labels))
    behind = labels[wild + 1 :]
    return {
        **dict(zip(labels[:wild], shape, strict=False)),
        **dict(zip(behind, shape[len(shape) - len(behind) :], strict=True)),
    }


def _check_wrap(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> None:
    widths = np.broadcast_to(pad_width, (array.ndim, 2)).max(axis=1)
    if mode == "wrap" and any(width > size for width, size in zip(widths, array.shape, strict=True)):
        raise NotImplementedError("pad: CuPy wraps a second time in another way than NumPy")


METHODS = """
    all any amax amin argmax argmin argsort around cumprod cumsum diagonal max mean min nonzero prod ptp
    repeat round std sum swapaxes take trace var squeeze ravel
"""


def functions(cls: type[BaseArray]) -> dict[str, Any]:
    """Return all that the module cupy offers by way of functions, by name."""
    made = {**_special(cls), **_makers(cls)}
    for name, signature in signatures().items():
        if name not in made:
            made[name] = (_method if name in METHODS.split() else _wrapped)(name, signature, cls)
        made[name].__name__ = made[name].__qualname__ = name
        made[name] = operation(made[name], cls._machine)
        made[name].__module__ = "cupy"
        made[name].__signature__ = signature
    ufuncs: dict[str, Any] = {name: Ufunc(name, cls) for name in UFUNCS.split()}
    ufuncs |= {"abs": ufuncs["absolute"], "conj": ufuncs["conjugate"]}
    return {**{name: getattr(np, name) for name in OF_NUMPY.split()}, **ufuncs, **made}


def _special(cls: type[BaseArray]) -> dict[str, Any]:
    """Functions whose meaning in CuPy is not NumPy's."""

    def take_along_axis(a: Any, indices: Any, axis: Any) -> Any:
        if indices.dtype.kind not in "iu":
            raise IndexError("`indices` must be an integer array")
        if axis is None:
            a, axis = a.ravel(), 0
        size = a.shape[axis]
        places = indices._host % size if size else indices._host
        return cls._new(np.take_along_axis(a._host, places, axis))

    def where(condition: Any, x: Any = None, y: Any = None) -> Any:
        if (x is None) != (y is None):
            raise ValueError("Must provide both 'x' and 'y' or neither.")
        if x is None:
            return condition.nonzero()
        if not isinstance(condition, BaseArray):
            raise TypeError(f"where: condition must be cupy.ndarray, not {type(condition)}")
        for value in (x, y):
            if not (isinstance(value, BaseArray) or is_number(value)):
                raise TypeError(f"Unsupported type {type(value)}")
        found = np.where(condition._host, host_of(x), host_of(y))
        return cls._new(found.astype(np.float32) if is_half(found) else found)  # which CuPy 14 has no `where` of

    def matmul(x1: Any, x2: Any, out: Any = None) -> Any:
        for x in (x1, x2):
            if not isinstance(x, BaseArray):
                raise TypeError(f"Unsupported type {type(x)}")
        _refuse_cublas(cls, "matmul", (x1._host, x2._host))
        y = _numpys("matmul", np.matmul, (x1._host, x2._host), {})
        return cls._new(y) if out is None else x1._into(out, y)

    def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
        refuse_hosts_arrays(src)
        refuse_hosts_arrays(where)
        dst._machine.launching()
        with silently():
            np.copyto(dst._host, host_of(src), casting, True if where is None else host_of(where))

    def expand_dims(a: Any, axis: Any) -> Any:
        return a._view(np.expand_dims(a._host, axis))

    def broadcast_to(array: Any, shape: Any) -> Any:
        if not isinstance(array, BaseArray):
            raise TypeError(f"Argument 'array' has incorrect type (expected cupy.ndarray, got {type(array)})")
        return array._view(np.broadcast_to(array._host, shape))

    def clip(a: Any, a_min: Any, a_max: Any, out: Any = None) -> Any:
        for limit in (a_min, a_max):
            if not (limit is None or isinstance(limit, BaseArray) or is_number(limit)):
                raise TypeError(f"Unsupported type {type(limit)}")
        if not isinstance(a, BaseArray):
            raise TypeError(f"clip: a must be cupy.ndarray, not {type(a)}")
        with silently():
            return a._into(out, np.clip(a._host, host_of(a_min), host_of(a_max)))

    def ascontiguousarray(a: Any, dtype: Any = None) -> Any:
        if not isinstance(a, BaseArray):
            raise TypeError(f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(a)})")
        if not a.ndim:
            a = a.reshape(1)
        if a.flags.c_contiguous and (dtype is None or np.dtype(dtype) == a.dtype):
            return a
        return cls._new(np.ascontiguousarray(a._host, dtype))

    def dot(a: Any, b: Any, out: Any = None) -> Any:
        for x in (a, b):
            if not isinstance(x, BaseArray):
                raise TypeError(f"Argument has incorrect type (expected cupy.ndarray, got {type(x)})")
        _refuse_cublas(cls, "dot", (a._host, b._host))
        return a._into(out, _numpys("dot", np.dot, (a._host, b._host), {}))

    def diag(v: Any, k: int = 0) -> Any:
        return cls._new(np.diag(v._host, k))

    def check_kind(kind: Any) -> None:
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")

    def argsort(a: Any, axis: int = -1, kind: Any = None) -> Any:
        check_kind(kind)
        return a.argsort(axis)

    def sort(a: Any, axis: int = -1, kind: Any = None) -> Any:
        check_kind(kind)
        y = a.copy()
        y.sort(axis)
        return y

    def ndim(a: Any) -> int:
        return a.ndim

    def shape(a: Any) -> tuple[int, ...]:
        return a.shape

    def size(a: Any, axis: Any = None) -> int:
        return a.size if axis is None else a.shape[axis]

    def result_type(*arrays_and_dtypes: Any) -> Any:
        return np.result_type(*(x.dtype if isinstance(x, BaseArray) else x for x in arrays_and_dtypes))

    def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
        return np.can_cast(from_.dtype if isinstance(from_, BaseArray) else from_, to, casting)

    special = [
        diag,
        argsort,
        sort,
        dot,
        ndim,
        shape,
        size,
        result_type,
        can_cast,
        take_along_axis,
        where,
        matmul,
        copyto,
        expand_dims,
        broadcast_to,
        clip,
        ascontiguousarray,
    ]
    return {function.__name__: function for function in special}


def _makers(cls: type[BaseArray]) -> dict[str, Any]:
    """Functions that make arrays."""

    def array(
        obj: Any,
        dtype: Any = None,
        copy: Any = True,
        order: Any = "K",
        subok: bool = False,
        ndmin: int = 0,
        *,
        blocking: bool = False,
    ) -> Any:
        if dtype is not None:
            dtype = check_dtype(dtype)
        order = order or "K"
        if isinstance(obj, BaseArray):
            y = obj.astype(obj.dtype if dtype is None else dtype, order, copy=bool(copy))
        else:
            y = from_host(cls, obj, dtype, order)
        if blocking:
            cls._machine.current_stream().synchronize()
        return y.reshape((1,) * (ndmin - y.ndim) + y.shape) if y.ndim < ndmin else y

    def asarray(a: Any, dtype: Any = None, order: Any = None, *, blocking: bool = False) -> Any:
        return array(a, dtype, False, order or "K", blocking=blocking)

    def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> Any:
        if isinstance(a, BaseArray):
            return a.get(stream, order, out, blocking)
        y = np.asarray(a, order=order)
        if out is None:
            return y
        out[...] = y
        return out

    def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
        for x in (start, stop, step):
            if isinstance(x, np.ndarray) and x.ndim:
                raise TypeError(f"Unsupported type {type(x)}")
        return cls._new(np.arange(0 if stop is None else start, start if stop is None else stop, step, dtype))

    def empty(shape: Any, dtype: Any = float, order: str = "C") -> Any:
        return cls(shape, dtype, order=order)

    def filled(value: Any) -> Any:
        def make(shape: Any, dtype: Any = float, order: str = "C") -> Any:
            y = cls(shape, float if dtype is None else dtype, order=order)
            y.fill(value)
            return y

        return make

    def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> Any:
        if dtype is None:
            dtype = fill_value.dtype if isinstance(fill_value, BaseArray) else np.asarray(fill_value).dtype
        y = cls(shape, dtype, order=order)
        if isinstance(fill_value, BaseArray):
            y[...] = fill_value
        else:
            y.fill(fill_value)
        return y

    def empty_like(prototype: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> Any:
        if subok is not None:
            raise TypeError("subok is not supported yet")
        if not isinstance(prototype, (BaseArray, np.ndarray)):
            raise AttributeError(f"{type(prototype)} has no attribute 'dtype'")
        return cls._like(np.empty_like(host_of(prototype), dtype, order, True, shape), "K")

    def filled_like(value: Any) -> Any:
        def make(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> Any:
            y = empty_like(a, dtype, order, subok, shape)
            y.fill(value)
            return y

        return make

    def full_like(
        a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
    ) -> Any:
        return filled_like(fill_value)(a, dtype, order, subok, shape)

    def eye(N: int, M: Any = None, k: int = 0, dtype: Any = float, order: str = "C") -> Any:
        return cls._new(np.eye(N, M, k, dtype))

    def identity(n: int, dtype: Any = float) -> Any:
        return eye(n, dtype=dtype)

    made = [array, asarray, asnumpy, arange, empty, full, empty_like, full_like, eye, identity]
    named = {"zeros": filled(0), "ones": filled(1), "zeros_like": filled_like(0), "ones_like": filled_like(1)}
    return {**{function.__name__: function for function in made}, **named}


def stride_tricks(cls: type[BaseArray]) -> dict[str, Any]:
    """The functions of cupy.lib.stride_tricks."""

    def as_strided(x: Any, shape: Any = None, strides: Any = None) -> Any:
        return x._view(np.lib.stride_tricks.as_strided(x._host, shape, strides))

    def sliding_window_view(
        x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
    ) -> Any:
        if writeable:
            raise NotImplementedError("Writeable views are not supported.")
        x._refuse_copies("H2D")  # CuPy's takes a shape to the device
        return x._view(np.lib.stride_tricks.sliding_window_view(x._host, window_shape, axis))

    return {"as_strided": as_strided, "sliding_window_view": sliding_window_view}


# ----------------------------------------------------------------------------------------------------------------------
# Random numbers: other ones than NumPy gives for the same seed, as on a device
# ----------------------------------------------------------------------------------------------------------------------


def random_functions(cls: type[BaseArray]) -> dict[str, Any]:
    """All of cupy.random."""
    new = cls._new

    class RandomState:
        def __init__(self, seed: Any = None, method: Any = None):
            cls._machine.check()
            self.seed(seed)

        def seed(self, seed: Any = None) -> None:
            if isinstance(seed, BaseArray):
                seed = int(seed)
            self._state = np.random.RandomState(
                None if seed is None else np.array([seed & 0xFFFFFFFF, 20_260], np.uint32)
            )

        @property
        def _rng(self) -> Any:
            cls._machine.current_stream()._refuse_library("cuRAND")
            return self._state

        def random_sample(self, size: Any = None, dtype: Any = float) -> Any:
            if np.dtype(dtype).char not in "fd":
                raise TypeError("cupy.random only supports float32 and float64")
            return new(self._rng.random_sample(size), dtype=dtype)

        def rand(self, *size: Any, **kwarg: Any) -> Any:
            dtype = kwarg.pop("dtype", float)
            if kwarg:
                raise TypeError(f"rand() got unexpected keyword arguments {sorted(kwarg)}")
            return self.random_sample(size, dtype)

        def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = float) -> Any:
            return new(self._rng.normal(host_of(loc), host_of(scale), size), dtype=dtype)

        def standard_normal(self, size: Any = None, dtype: Any = float) -> Any:
            return self.normal(size=size, dtype=dtype)

        def randn(self, *size: Any, **kwarg: Any) -> Any:
            dtype = kwarg.pop("dtype", float)
            if kwarg:
                raise TypeError(f"randn() got unexpected keyword arguments {sorted(kwarg)}")
            return self.normal(size=size, dtype=dtype)

        def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = float) -> Any:
            return new(self._rng.uniform(host_of(low), host_of(high), size), dtype=dtype)

        def randint(self, low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> Any:
            return new(self._rng.randint(low, high, size), dtype=dtype)

        def binomial(self, n: Any, p: Any, size: Any = None, dtype: Any = int) -> Any:
            return new(self._rng.binomial(host_of(n), host_of(p), size), dtype=dtype)

        def permutation(self, a: Any) -> Any:
            return new(self._rng.permutation(a if isinstance(a, int) else a._host))

        def shuffle(self, a: Any) -> None:
            a._write(a._host[self._rng.permutation(len(a))])

        def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
            return new(self._rng.choice(host_of(a), size, replace, host_of(p)))

    class Generator:
        def __init__(self, bit_generator: Any):
            self._state = np.random.Generator(bit_generator)

        @property
        def _rng(self) -> Any:
            if cls._machine.current_stream()._capture is not None:
                raise NotImplementedError("the stand-in records no numbers of a Generator: nobody has tried it")
            return self._state

        def _dtyped(self, x: Any, dtype: Any, out: Any) -> Any:
            if np.dtype(dtype).char not in "fd":
                raise TypeError("cupy.random.Generator only supports float32 and float64")
            y = np.asarray(x, dtype)
            if out is None:
                return new(y)
            if not out.flags.c_contiguous or out.dtype != y.dtype:
                raise ValueError("Supplied output array is not contiguous, or of another dtype")
            out._write(y)
            return out

        def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
            return self._dtyped(self._rng.random(out.shape if size is None and out is not None else size), dtype, out)

        def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
            size = out.shape if size is None and out is not None else size
            return self._dtyped(self._rng.standard_normal(size), dtype, out)

        def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = np.float64) -> Any:
            return self._dtyped(self._rng.uniform(host_of(low), host_of(high), size), dtype, None)

        def integers(
            self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False
        ) -> Any:
            return new(self._rng.integers(low, high, size, dtype, endpoint))

    state: list[Any] = []

    def current() -> Any:
        if not state:
            state.append(RandomState())
        return state[0]

    def method(name: str) -> Any:
        function = getattr(RandomState, {"random": "random_sample"}.get(name, name))

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            return function(current(), *args, **options)

        parameters = list(inspect.signature(function).parameters.values())[1:]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    def default_rng(seed: Any = None) -> Any:
        cls._machine.check()
        if seed is not None:
            seed = np.random.SeedSequence([int(seed), 20_260])
        return Generator(np.random.PCG64(seed))

    names = (name for name in vars(RandomState) if not name.startswith("_"))
    found = {name: method(name) for name in (*names, "random")}
    return {
        **found,
        "RandomState": RandomState,
        "Generator": Generator,
        "default_rng": default_rng,
        "get_random_state": current,
    }
