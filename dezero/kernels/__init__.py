"""Work on plain arrays that deserves a fast version: convolution, pooling, products, normalisation, updates.

A backend is one module. Each has the functions of `reference`, under the same names with the same meaning, and is
tested against it:

    reference  plain NumPy: says what is computed in the fewest steps
    blocked    NumPy in blocks that stay in the cache, channels last in memory; what there is without Numba
    numba      compiled, on all threads: the default where Numba can be imported (pip install "dezero[fast]")
    cupy       for CuPy's arrays, which no other works on, and it on no others (the folder gpu/)

    >>> serving(np.zeros(3)) in list(BACKENDS)          # which backend works on an array
    True
    >>> with using_kernels("reference"):                # another one, in this thread, until the block ends
    ...     serving(np.zeros(3))
    'reference'
    >>> "conv2d" in provided("blocked")                 # the functions that a backend has a way of its own for
    True

The environment variable DEZERO_KERNELS names the backend to begin with. Convolutions of float32 by Winograd's method,
which is faster and loses a digit, can be turned off: see `using_winograd`.

Kernels know nothing of Variables, and rely on their caller: arrays of one device and one floating dtype, sizes that
fit, and pairs (height, width) for every `kernel_size`, `stride`, `pad` and `dilation`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import threading
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dezero import cuda
from dezero.kernels import blocked, memory, reference, scratch
from dezero.kernels.memory import has_own_memory
from dezero.kernels.sizes import conv_outsize, deconv_outsize, span
from dezero.kernels.threads import get_num_threads, set_num_threads
from dezero.kernels.winograd import using_winograd

__all__ = [
    "BACKENDS",
    "conv_outsize",
    "deconv_outsize",
    "for_array",
    "get_num_threads",
    "has_own_memory",
    "provided",
    "release_memory",
    "serving",
    "set_num_threads",
    "span",
    "using_kernels",
    "using_winograd",
]


class _Backends(Mapping[str, Any]):
    """The backends that there are, by name. The one that needs Numba is imported when it is asked for."""

    def __init__(self) -> None:
        self.modules = {"reference": reference, "blocked": blocked}

    def __iter__(self) -> Iterator[str]:
        yield from ("reference", "blocked")
        if importlib.util.find_spec("numba") is not None:
            yield "numba"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Any:
        if name == "numba" and name not in self.modules:
            self.modules[name] = importlib.import_module("dezero.kernels.compiled")
        return self.modules[name]


BACKENDS = _Backends()


class _Choice(threading.local):
    """The backend of this thread: its name, and the module once it was needed."""

    name: str | None = None
    module: Any = None


_choice = _Choice()


def _load(name: str, where: str) -> Any:
    if name not in ("numba", *BACKENDS):
        raise ValueError(f"{where}: there are no kernels {name!r}; there are {', '.join(BACKENDS)}")
    try:
        return BACKENDS[name]
    except Exception as error:  # a broken installation fails in many ways
        install = '; install it: pip install "dezero[fast]"' if isinstance(error, ModuleNotFoundError) else ""
        raise ImportError(f'{where}: the kernels "numba" need Numba, which cannot be used: {error}{install}') from error


def _begin() -> str:
    """Choose what a thread begins with."""
    name = os.environ.get("DEZERO_KERNELS")
    if not name:
        name = "numba" if "numba" in list(BACKENDS) else "blocked"
        try:
            _load(name, "kernels")
        except ImportError as error:  # installed, but broken or too old
            warnings.warn(f"{error}; going on without it", RuntimeWarning, stacklevel=4)
            name = "blocked"
    _choice.name, _choice.module = name, _load(name, "DEZERO_KERNELS")
    return name


def for_array(x: Any) -> Any:
    """Return the backend, a module, that works on the array `x`."""
    if cuda.get_array_module(x) is not np:
        return _gpu or _import_gpu()
    if _choice.module is None:
        _begin()
    return _choice.module


_gpu: Any = None  # the folder gpu/, once all of it is imported: sys.modules has it while another thread imports it


def _import_gpu() -> Any:
    global _gpu
    _gpu = importlib.import_module("dezero.kernels.gpu")
    return _gpu


def serving(x: Any) -> str:
    """Return the name of the backend that works on the array `x`, here and now."""
    if cuda.get_array_module(x) is not np:
        return "cupy"
    return _choice.name or _begin()


def provided(name: str) -> list[str]:
    """List the kernels that the backend `name` has a way of its own for; others it takes from the one before it."""
    module = _load(name, "provided")
    package = module.__name__
    kernels = [name for name, f in vars(reference).items() if _is_kernel(name, f)]
    return sorted(name for name in kernels if getattr(module, name).__module__.startswith(package))


def _is_kernel(name: str, f: Any) -> bool:
    return isinstance(f, types.FunctionType) and f.__module__ == reference.__name__ and not name.startswith("_")


def release_memory() -> None:
    """Give back to the system what kernels keep for the next call: results' memory that lies idle, and scratch memory.

    At most 256 MB lie idle, and 64 MB of scratch a thread; other threads let go of theirs when they next work.
    """
    memory.release()
    scratch.release()
    if "numba" in BACKENDS.modules:
        BACKENDS["numba"].forget_tables()


@contextlib.contextmanager
def using_kernels(name: str) -> Iterator[None]:
    """Inside the `with` block, in this thread, take the kernels of the backend `name`.

    Raises ValueError for a name that there is not, and ImportError, saying what to install, for "numba" without Numba.

    >>> with using_kernels("reference"):
    ...     for_array(np.zeros(3)).__name__
    'dezero.kernels.reference'
    """
    module = _load(name, "using_kernels")
    before = _choice.name, _choice.module
    _choice.name, _choice.module = name, module
    try:
        yield
    finally:
        _choice.name, _choice.module = before
