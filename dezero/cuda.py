"""NumPy or CuPy: who owns an array, and moving it there and back.

This is the bottom of the house. `import dezero` never imports CuPy: it is looked for when somebody asks for the GPU
(`gpu_enable`, `as_cupy`, `Layer.to_gpu`), and an array can only be CuPy's if CuPy has been imported already.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np


@functools.cache
def _find_gpu() -> tuple[Any, str]:
    """Return (CuPy's module, "") where a device answers, and (None, the reason why not) elsewhere."""
    try:
        import cupy
    except ImportError:
        return None, "CuPy is not installed: pip install 'dezero[gpu]'"
    except Exception as error:  # a CuPy built for another CUDA fails in ways of its own
        return None, f"CuPy is installed but does not import: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return None, f"CuPy imports but no GPU answers: {error}"
    return (cupy, "") if count else (None, "CuPy imports but finds no GPU")


def __getattr__(name: str) -> Any:
    # `gpu_enable` and `cupy` are worked out when they are first read, so that importing dezero does not import CuPy.
    if name == "gpu_enable":
        return _find_gpu()[0] is not None
    if name == "cupy":
        module, reason = _find_gpu()
        if module is None:
            raise AttributeError(f"cuda.cupy: {reason}")
        return module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    return sys.modules["cupy"] if "cupy" in sys.modules and _is_cupy_array(plain(x)) else np


def check_same_device(operation: str, arrays: list[Any]) -> None:
    """Raise TypeError when some of an operation's arrays are NumPy's and some CuPy's; None stands for no array."""
    if "cupy" not in sys.modules:
        return
    owners = {i: get_array_module(x).__name__ for i, x in enumerate(arrays) if x is not None}
    if len(set(owners.values())) > 1:
        where = ", ".join(f"argument {i} is a {owner} array" for i, owner in owners.items())
        raise TypeError(f"{operation}: arrays on different devices: {where}; move them with to_gpu() or to_cpu()")


def as_numpy(x: Any) -> np.ndarray:
    """Return `x`, a Variable, an array or a number, as a NumPy array, copied from the GPU where needed.

    >>> as_numpy(3.0)
    array(3.)
    """
    x = plain(x)
    return x.get() if _is_cupy_array(x) else np.asarray(x)


def as_cupy(x: Any) -> Any:
    """Return `x`, a Variable, an array or a number, as a CuPy array.

    Raises RuntimeError where there is no CuPy or no device, saying which of the two it is.
    """
    module, reason = _find_gpu()
    if module is None:
        raise RuntimeError(f"as_cupy: {reason}")
    return module.asarray(plain(x))
