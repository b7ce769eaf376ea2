"""CUDA source -> compiled kernel -> launched: the one way by which the rooms of this folder reach the device.

A room keeps its kernels as text, in a `Source`, and the types they are made for. Before the text stand the types:

    T  of the arrays' elements      K  of other arrays', if any: integers (indexes, labels, rows), or gradients
    A  that sums are taken in       I  of sizes and indexes: int, or long long where an array has 2**31 elements

A holds more than T where T is narrow: float for float16 and bfloat16, which are only loaded, `(A)x[k]`, and stored,
`(T)value`; for all others A is T. CuPy compiles a source when it is first needed for its types, in some tenths of a
second, and keeps what came out on disk. After that a launch is a look into a dict, and one for the sizes: CuPy hands
over the bytes of a NumPy scalar as they are, knowing nothing of the C function, so sizes are made I's and other numbers
A's, and remembered.

Kernels read arrays by pointer, so these must be of the type that was compiled for, and in C order: see `contiguous`. A
few know of images in another one: see `channels`.
Nothing waits for the device, and all runs on CuPy's current stream.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

HALVES = ("float16", "bfloat16")
FLOATING = (*HALVES, "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
INDEXES = ("int32", "int64")  # labels and rows: what people have, and `as_indexes` makes of all others

THREADS = 256  # of a block, at most
WIDE = 2**31 - 2**16  # elements, from which on an index is a long long: the last block may reach beyond the last one

C_TYPES = {
    "bool": "bool",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    **dict(zip(INTEGERS, ("signed char", "short", "int", "long long"), strict=False)),
    **dict(zip(INTEGERS[4:], ("unsigned char", "unsigned short", "unsigned int", "unsigned long long"), strict=True)),
}

# For sources with sums over a block, whose threads, as many as `threads_for` says, must all call it.
BLOCK_SUM = rf"""
// The sum of every thread's value, in the order of a tree: the same bits in every run. With a `width`, a power of two,
// of every width-th thread's: the sums of that many columns, each for the threads of its own.
__device__ A block_sum(A value, I width = 1)
{{
    __shared__ A parts[{THREADS}];
    parts[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half >= width; half /= 2) {{
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        __syncthreads();
    }}
    const A sum = parts[threadIdx.x % width];
    __syncthreads();  // all have read before another sum is begun
    return sum;
}}
"""


class Source:
    """Kernels as CUDA text, and the names of the dtypes that they are made for: T one of `types`, K of `integers`."""

    made: ClassVar[list[Source]] = []  # all that there are

    def __init__(self, text: str, types: tuple[str, ...], integers: tuple[str, ...] = ("",)) -> None:
        self.text, self.types, self.integers = text, types, integers
        self.made.append(self)

    def code(self, T: str, K: str, wide: bool) -> str:
        """The text for one choice of types; K is "" where there are no integers."""
        return f"{header(T, K, wide)}\n{self.text}"


def header(T: str, K: str = "", wide: bool = False) -> str:
    """What stands before a source: its types."""
    types = {"T": C_TYPES[T], "A": C_TYPES[sums_of(T)], "K": C_TYPES.get(K), "I": "long long" if wide else "int"}
    includes = "".join(map(include, dict.fromkeys((T, K))))
    return includes + "\n".join(f"typedef {kind} {letter};" for letter, kind in types.items() if kind)


def include(T: str) -> str:
    """CuPy's own class for a type that C has not; it has been in one header and in another."""
    if T not in HALVES:
        return ""
    return f"#include <cupy/carray.cuh>\n#if __has_include(<cupy/{T}.cuh>)\n#include <cupy/{T}.cuh>\n#endif\n"


def sources() -> Iterator[tuple[str, str]]:
    """Yield every source that can come to be compiled: which it is, and the CUDA text."""
    importlib.import_module("dezero.kernels.gpu")  # whose rooms make them
    for number, source in enumerate(Source.made):
        for T, K, wide in itertools.product(source.types, source.integers, (False, True)):
            yield f"{number} {T} {K} {'long long' if wide else 'int'}", source.code(T, K, wide)


def sums_of(T: str) -> str:
    """The name of the dtype that sums of T are taken in."""
    return "float32" if T in HALVES else T


@functools.cache
def sums_dtype(T: Any) -> Any:
    """The same, of dtypes: NumPy takes a microsecond to tell a dtype's name."""
    return np.dtype(sums_of(T.name))


# ----------------------------------------------------------------------------------------------------------------------
# Made once
# ----------------------------------------------------------------------------------------------------------------------

_made: tuple[Any, dict[Any, Any]] = None, {}  # CuPy's module, and what was made with it


def remembered(key: Any, make: Callable[..., Any], *args: Any) -> Any:
    """Return what make(cupy, *args) made for `key`, with the CuPy that is there now."""
    global _made
    cupy = sys.modules["cupy"]
    owner, things = _made
    if owner is not cupy:
        _made = cupy, (things := {})
    try:
        return things[key]
    except KeyError:
        things[key] = made = make(cupy, *args)
        return made


def _compile(cupy: Any, source: Source, name: str, T: Any, K: Any, wide: bool) -> Any:
    types = T.name, "" if K is None else K.name, wide
    module = remembered((source, *types), lambda cupy: cupy.RawModule(code=source.code(*types)))
    return module.get_function(name)


@functools.lru_cache(maxsize=4096)
def _sizes(wide: bool, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """Ints as I."""
    return tuple(map(np.int64 if wide else np.int32, sizes))


@functools.lru_cache(maxsize=1024)
def _numbers(T: Any, numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers as the A of T."""
    return tuple(map(sums_dtype(T).type, numbers))


# ----------------------------------------------------------------------------------------------------------------------
# Launches. A kernel is called with the arrays, then the sizes, then the numbers; T and K are dtypes
# ----------------------------------------------------------------------------------------------------------------------


def for_each(
    source: Source,
    name: str,
    count: int,
    arrays: tuple[Any, ...],
    sizes: tuple[int, ...],
    numbers: tuple[float, ...] = (),
    *,
    T: Any,
    K: Any = None,
) -> None:
    """Run the kernel `name` on `count` threads; `count` is the first of the sizes, and some threads may be beyond."""
    in_blocks(source, name, -(-count // THREADS), THREADS, arrays, (count, *sizes), numbers, T=T, K=K)


def in_blocks(
    source: Source,
    name: str,
    blocks: int,
    threads: int,
    arrays: tuple[Any, ...],
    sizes: tuple[int, ...],
    numbers: tuple[float, ...] = (),
    *,
    T: Any,
    K: Any = None,
) -> None:
    """Run the kernel `name` on so many blocks of so many threads."""
    if not blocks:
        return  # which CUDA refuses
    wide = False
    for x in arrays:
        if x.size >= WIDE:
            wide = True
    kernel = remembered((source, name, T, K, wide), _compile, source, name, T, K, wide)
    options = _sizes(wide, sizes) + _numbers(T, numbers) if numbers else _sizes(wide, sizes)
    kernel((blocks,), (threads,), arrays + options)


def threads_for(length: int) -> int:
    """How many threads of a block share work of that length: a power of two from 32 to THREADS."""
    return min(max(32, 1 << max(0, length - 1).bit_length()), THREADS)


def contiguous(x: Any, dtype: Any = None) -> Any:
    """`x` in C order and of that dtype, as kernels read it: itself where it is so already."""
    if x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    return sys.modules["cupy"].ascontiguousarray(x, dtype).reshape(x.shape)  # which has an axis at least


def as_indexes(x: Any) -> Any:
    """Integers in C order, of one of the dtypes INDEXES."""
    return contiguous(x, None if x.dtype in (np.int32, np.int64) else np.int64)
