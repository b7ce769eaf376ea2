"""Turning Python into machine code with Numba: once, seen, and kept for the next process.

Numba compiles a function the first time it is called with arrays of a dtype. What came out is kept in
`~/.dezero/kernels-...` (below the environment variable DEZERO_HOME where that is set), which works where the package's
own folder is read-only, and where two processes compile at once: Numba writes a file beside its place and then moves
it. The folder's name holds a digest of everything that goes into the code, so that nothing old is ever run. Where no
folder can be written, each process compiles for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import event

from dezero.files import cache_folder

__all__ = ["compiled"]


def _digest() -> str:
    """Name everything that the machine code depends on, but for the processor, which Numba looks at itself."""
    content = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        content.update(source.read_bytes())
    return content.hexdigest()[:16]


_FOLDER = Path(cache_folder(), f"kernels-{_digest()}")


@contextlib.contextmanager
def _numba_keeps_code_in(folder: Path) -> Iterator[None]:
    """Numba asks for the place when a function is decorated; other people's functions go where they went."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called. It runs without the interpreter's lock, so that threads help.

    Of what "fast" arithmetic may do, two things are allowed: to multiply and add with one rounding, and to sum in
    another order, the same one each time, in as many partial sums as a vector has lanes.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}
    try:
        with _numba_keeps_code_in(_FOLDER):
            return numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # no folder can be written
        return numba.njit(**options)(function)


class _Announcer(event.Listener):
    """Says on stderr, once a process, why the first step takes so long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def on_start(self, event: Any) -> None:
        if not _is_ours(event):
            return
        with self._lock:
            self._count += 1
            if sys.stderr is not None:
                name = event.data["dispatcher"].py_func.__name__
                line = f"dezero: compiling kernels, once for this machine: {self._count} {name}"
                end = "" if sys.stderr.isatty() else "\n"
                if sys.stderr.isatty() or self._count == 1:
                    print(f"\r{line:<90}", end=end, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        if _is_ours(event) and sys.stderr is not None and sys.stderr.isatty():
            print(f"\r{'':<90}\r", end="", file=sys.stderr, flush=True)


def _is_ours(event: Any) -> bool:
    return event.data["dispatcher"].py_func.__module__.startswith(__package__)


event.register("numba:compile", _Announcer())
