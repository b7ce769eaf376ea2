"""NumPy or CuPy: who owns an array, and moving it there and back.

This is the bottom of the house. `import dezero` never imports CuPy: it is looked for when somebody asks for the GPU
(`gpu_enable`, `use_gpu`, `as_cupy`, `Layer.to_gpu`), and an array can only be CuPy's if CuPy has been imported already.

    python -m dezero.cuda          # what there is: device, memory, libraries, and a small test of it against the CPU

Three settings, for the whole process, are assigned to:

    dezero.cuda.allow_tf32 = True      # float32 products and convolutions in TF32: several times faster, 3 digits exact
    dezero.cuda.deterministic = True   # the same bits in every run, even where that costs time
    dezero.cuda.channels_last = True   # images lie in memory as (N, H, W, C), behind axes (N, C, H, W), as before

The last is for tensor cores, so for TF32, float16 and bfloat16, with numbers of channels that 8 divides: cuDNN then
need not copy images into that order and back. In float32 proper it is the other way round. Measure it. Convolutions by
cuDNN bring images into that order and leave results in it, and what follows keeps it: activations, batch_norm, pooling,
x + y. CuPy's own operations (x * y, exp, so dropout, too) leave it, which costs a copy at the next convolution.
Parameters, their gradients and batches are in C order, as always.
"""

from __future__ import annotations

import functools
import importlib
import math
import re
import sys
import types
import warnings
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

# A module with a path is one that `python -m` runs without a warning that the package has imported it already.
__path__: list[str] = []

allow_tf32 = False
deterministic = False
channels_last = False
_SETTINGS = ("allow_tf32", "deterministic", "channels_last")


class _Module(types.ModuleType):
    """The class of this module: what is assigned to a setting must be True or False, and CuPy is told."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SETTINGS and not isinstance(value, bool):
            raise TypeError(f"cuda.{name} must be True or False, got {value!r:.60}")
        if name not in vars(self) and not name.startswith("__"):
            raise AttributeError(f"cuda has no setting {name!r}; there are {', '.join(_SETTINGS)}")
        super().__setattr__(name, value)
        if name == "allow_tf32" and "cupy" in sys.modules and find_gpu()[0] is not None:
            _set_precision_of_products(sys.modules["cupy"])


sys.modules[__name__].__class__ = _Module

_INSTALL = "pip install 'dezero[gpu13]' for CUDA 13, 'dezero[gpu]' for CUDA 12"


@functools.cache
def find_gpu() -> tuple[Any, str]:
    """Return (CuPy's module, "") where a device answers, and (None, the reason why not) elsewhere."""
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        return None, f"CuPy is not installed: {_INSTALL}" if missing else f"CuPy does not import: {error}"
    except Exception as error:  # a CuPy built for another CUDA fails in ways of its own
        no_folder = isinstance(error, OSError) and error.errno is not None  # a library that is missing has no number
        way_out = "; set CUPY_CACHE_DIR to a folder that can be written to" if no_folder else ""
        return None, f"CuPy does not import: {error}{way_out}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return None, f"CuPy imports but no GPU answers: {_explain_driver(cupy) or error}"
    if not count:
        return None, "CuPy imports but finds no GPU"
    _set_precision_of_products(cupy)  # asked for before there was a CuPy to tell; CUPY_TF32 does not ask
    return cupy, ""


def look_again() -> None:
    """Forget what was found out about GPUs: for tests, which change what there is."""
    find_gpu.cache_clear()
    _count_gpus.cache_clear()


# They stand above the kernels and the operations, and are known by these names here.
_ABOVE = {"info": "dezero.gpu_report", "capture": "dezero.capture"}


def __getattr__(name: str) -> Any:
    # `gpu_enable` and `cupy` are worked out when they are first read, so that importing dezero does not import CuPy.
    if name == "gpu_enable":
        return find_gpu()[0] is not None
    if name == "cupy":
        module, reason = find_gpu()
        if module is None:
            raise AttributeError(f"cuda.cupy: {reason}")
        return module
    if name in _ABOVE:
        return getattr(importlib.import_module(_ABOVE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _explain_driver(cupy: Any) -> str:
    """Say what is amiss with the driver; "" where nothing can be seen."""
    try:
        driver, needed = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception:  # what does not answer says nothing
        return ""
    if driver == 0:
        return "there is no NVIDIA driver on this machine"
    if driver // 1000 < needed // 1000:
        way_out = "install 'dezero[gpu]' in place of CuPy" if driver >= 12000 else "take a newer driver"
        return f"the driver is for CUDA {as_cuda_version(driver)}, CuPy for {as_cuda_version(needed)}; {way_out}"
    return ""


def as_cuda_version(number: int) -> str:
    """Say CUDA's number of a version as people do.

    >>> as_cuda_version(12040)
    '12.4'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def _set_precision_of_products(cupy: Any) -> None:
    """Let CuPy's products of float32 take TF32, or not. It has no public name for that but an environment variable."""
    try:
        set_compute_type, kinds = cupy._core.set_compute_type, cupy._core._routines_linalg
        kind = kinds.COMPUTE_TYPE_TF32 if allow_tf32 else kinds.COMPUTE_TYPE_DEFAULT
    except AttributeError:
        if allow_tf32:
            message = f"cuda.allow_tf32: CuPy {cupy.__version__} has no way to set it; set CUPY_TF32=1 before it starts"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
    else:
        set_compute_type(np.dtype(np.float32), kind)


def need_gpu(operation: str) -> Any:
    """Return the module `cupy`; raise RuntimeError, in the name of `operation`, saying what is missing, without it."""
    module, reason = find_gpu()
    if module is None:
        raise RuntimeError(f"{operation}: {reason}")
    return module


# ----------------------------------------------------------------------------------------------------------------------
# Devices
# ----------------------------------------------------------------------------------------------------------------------


def use_gpu(index: int = 0) -> Any:
    """Make GPU number `index` the one on which this thread makes its arrays, and return the module `cupy`.

    A program that cannot do without a GPU calls it first. Raises RuntimeError, saying what is missing, where there is
    none, and ValueError for a number that there is not.
    """
    cupy = need_gpu("use_gpu")
    _device("use_gpu", cupy, index).use()
    return cupy


def device(index: int) -> AbstractContextManager[Any]:
    """Inside the `with` block, make this thread's arrays on GPU number `index`. Raises what `use_gpu` raises."""
    return _device("device", need_gpu("device"), index)


def _device(operation: str, cupy: Any, index: Any) -> Any:
    count = cupy.cuda.runtime.getDeviceCount()
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
        raise TypeError(f"{operation}: expected the number of a GPU, got {index!r:.60}")
    if not 0 <= index < count:
        raise ValueError(f"{operation}: there is no GPU number {index}; this machine has {count}, counted from 0")
    return cupy.cuda.Device(int(index))


# ----------------------------------------------------------------------------------------------------------------------
# Arrays
# ----------------------------------------------------------------------------------------------------------------------


def _is_cupy_array(x: Any) -> bool:
    loaded = sys.modules.get("cupy")
    return loaded is not None and isinstance(x, getattr(loaded, "ndarray", ()))


def is_array(x: Any) -> bool:
    """Say whether `x` is a NumPy or CuPy array."""
    return isinstance(x, np.ndarray) or _is_cupy_array(x)


def plain(x: Any) -> Any:
    """Return a Variable's array; arrays and numbers as they are (a NumPy scalar's `.data` is something else)."""
    return x if is_array(x) or isinstance(x, np.generic) else getattr(x, "data", x)


def get_array_module(x: Any) -> Any:
    """Return the module that owns `x`, a Variable or an array: `cupy` for a CuPy array, `numpy` for all else.

    >>> get_array_module(np.zeros(3)).__name__
    'numpy'
    """
    if isinstance(x, np.ndarray) or (cupy := sys.modules.get("cupy")) is None:
        return np
    return cupy if _is_cupy_array(x) or _is_cupy_array(plain(x)) else np


def device_of(x: Any) -> int | None:
    """Return the number of the GPU that an array is on, None for the CPU."""
    return x.device.id if _is_cupy_array(x) else None


def check_same_device(operation: str, arrays: list[Any]) -> None:
    """Raise TypeError when an operation's arrays are not all NumPy's, or all on one GPU; None stands for no array.

    Raises RuntimeError when that GPU is not the one on which this thread works.
    """
    if "cupy" not in sys.modules or _are_on_the_only_gpu(arrays):
        return
    owners = {i: _owner(x) for i, x in enumerate(arrays) if x is not None}
    if len(set(owners.values())) > 1:
        where = ", ".join(f"argument {i} is a {owner}" for i, owner in owners.items())
        is_numpy = "numpy array" in owners.values()
        current = "" if is_numpy else f"; this thread works on GPU {_current_gpu()}: see cuda.use_gpu"
        raise TypeError(
            f"{operation}: arrays on different devices: {where}; move them with to_gpu() or to_cpu(){current}"
        )
    for x in arrays:
        if _is_cupy_array(x) and _count_gpus() > 1:
            _check_current(operation, x.device.id)


def _are_on_the_only_gpu(arrays: list[Any]) -> bool:
    """Say yes, at once, to what there is most often; no where it takes a closer look."""
    kind, found = getattr(sys.modules["cupy"], "ndarray", None), False
    for x in arrays:
        if type(x) is kind:
            found = True
        elif x is not None:
            return False
    return found and _count_gpus() == 1


def _owner(x: Any) -> str:
    if not _is_cupy_array(x):
        return "numpy array"
    return "cupy array" if _count_gpus() == 1 else f"cupy array on GPU {x.device.id}"


def _current_gpu() -> int:
    return sys.modules["cupy"].cuda.runtime.getDevice()


def _check_current(operation: str, index: int) -> None:
    if index != _current_gpu():
        raise RuntimeError(
            f"{operation}: the arrays are on GPU {index}, and this thread works on GPU {_current_gpu()}; call "
            f"dezero.cuda.use_gpu({index}), or work inside `with dezero.cuda.device({index}):`"
        )


@functools.cache
def _count_gpus() -> int:
    return sys.modules["cupy"].cuda.runtime.getDeviceCount()


def as_numpy(x: Any) -> np.ndarray:
    """Return `x`, a Variable, an array or a number, as a NumPy array, copied from the GPU where needed.

    >>> as_numpy(3.0)
    array(3.)
    """
    x = plain(x)
    return x.get() if _is_cupy_array(x) else np.asarray(x)


def as_cupy(x: Any) -> Any:
    """Return `x`, a Variable, an array or a number, as a CuPy array.

    Raises RuntimeError where there is no CuPy or no device, saying which of the two it is, and MemoryError where the
    device is full.
    """
    return to_gpu("as_cupy", x)


def to_gpu(operation: str, x: Any) -> Any:
    """`as_cupy`, whose errors speak in the name of `operation`."""
    cupy, x = need_gpu(operation), plain(x)
    if not _is_cupy_array(x) and not _is_numeric(x := np.asarray(x)):
        raise TypeError(f"{operation}: a GPU holds numbers and booleans, got an array of {x.dtype}")
    try:
        return cupy.asarray(x)
    except MemoryError as error:
        explain_out_of_memory(operation, error)
        raise


def _is_numeric(x: np.ndarray) -> bool:
    return x.dtype.kind in "biufc" or x.dtype.name == "bfloat16"


def as_owned_by(like: Any, x: np.ndarray) -> Any:
    """Return NumPy's array `x` where the array `like` is: itself, or a copy on the GPU."""
    return x if get_array_module(like) is np else as_cupy(x)


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def explain_out_of_memory(operation: str, error: MemoryError) -> None:
    """Raise MemoryError that says what `operation` asked for, what is used and what is free, where `error` is CuPy's.

    NumPy's says as much itself.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return
    pool = cupy.get_default_memory_pool()
    free, total = cupy.cuda.Device().mem_info
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = f" for {as_size(int(asked[1].replace(',', '')))} more" if asked else ""
    used, kept = pool.used_bytes(), pool.total_bytes() - pool.used_bytes()
    raise MemoryError(
        f"{operation}: the GPU has no memory left{wanted}: {as_size(used)} in arrays, {as_size(kept)} kept by CuPy's "
        f"pool for the next ones, {as_size(free)} of {as_size(total)} free. Take a smaller batch, or "
        "dezero.checkpoint(f, x), which keeps no intermediate results of f"
    ) from error


def as_size(count: float) -> str:
    """Say a number of bytes as people do.

    >>> as_size(1536), as_size(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    power = min(int(math.log(max(count, 1), 1024)), 3)
    return f"{count / 1024**power:.{min(power, 1)}f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


if __name__ == "__main__":
    importlib.import_module("dezero.gpu_report").main()
