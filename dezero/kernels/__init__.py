"""Work on plain arrays that deserves a fast version: convolution and pooling.

A backend is one file. Each has the functions of `reference`, under the same names with the same meaning, and is tested
against it:

    reference  plain NumPy: says what is computed in the fewest steps
    blocked    NumPy in blocks that stay in the cache, channels last in memory; the default

Kernels know nothing of Variables, and rely on their caller: arrays of one device and one floating dtype, sizes that
fit, and pairs (height, width) for every `kernel_size`, `stride`, `pad` and `dilation`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from dezero import cuda
from dezero.kernels import blocked, reference
from dezero.kernels.sizes import conv_outsize, deconv_outsize, span

__all__ = ["conv_outsize", "deconv_outsize", "for_array", "span", "using_kernels"]

BACKENDS = {"reference": reference, "blocked": blocked}


def _check(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{where}: there are no kernels {name!r}; there are {', '.join(BACKENDS)}")
    return name


class _Choice(threading.local):
    """The backend of this thread; the environment variable DEZERO_KERNELS says which one to begin with."""

    name = _check(os.environ.get("DEZERO_KERNELS", "blocked"), "DEZERO_KERNELS")


_choice = _Choice()


def for_array(x: Any) -> Any:
    """Return the backend, a module, that works on the array `x`."""
    if cuda.get_array_module(x).__name__ == "cupy":
        raise NotImplementedError(
            "kernels: convolution and pooling have no backend for CuPy arrays; move them with to_cpu()"
        )
    return BACKENDS[_choice.name]


@contextlib.contextmanager
def using_kernels(name: str) -> Iterator[None]:
    """Inside the `with` block, in this thread, take the kernels of the backend `name`: "reference" or "blocked".

    Raises ValueError for another name.

    >>> with using_kernels("reference"):
    ...     for_array(np.zeros(3)).__name__
    'dezero.kernels.reference'
    """
    before, _choice.name = _choice.name, _check(name, "using_kernels")
    try:
        yield
    finally:
        _choice.name = before
