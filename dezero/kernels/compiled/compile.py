"""Turning Python into machine code with Numba: once, seen, and kept for the next process.

Numba compiles a function the first time it is called with arrays of a dtype. What came out is kept in
`~/.dezero/kernels-...` (below the environment variable DEZERO_HOME where that is set), which works where the package's
own folder is read-only, and where two processes compile at once: Numba writes a file beside its place and then moves
it. The folder's name holds a digest of everything that goes into the code, so that nothing old is ever run. Where no
folder can be written, or a file in it is damaged, each process compiles for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core import event

from dezero.files import cache_folder

_config: Any = numba.config
if _config.DISABLE_JIT:
    raise ImportError("the environment variable NUMBA_DISABLE_JIT turns compiling off")

__all__ = ["compiled", "compiled_in_order", "inlined"]


def _digest() -> str:
    """Name everything that the machine code depends on: also the processor, whose vectors `simd` asks for."""
    features = sorted(name for name, there in llvmlite.binding.get_host_cpu_features().items() if there)
    content = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {features}".encode())
    folder = Path(__file__).parent
    for source in (folder.parent / "winograd.py", *sorted(folder.glob("*.py"))):
        content.update(source.read_bytes())
    return content.hexdigest()[:16]


_FOLDER = Path(cache_folder(), f"kernels-{_digest()}")


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


_can_be_kept = _is_writable(_FOLDER)


@contextlib.contextmanager
def _numba_keeps_code_in(folder: Path) -> Iterator[None]:
    """Numba asks for the place when a function is decorated; other people's functions go where they went."""
    before, _config.CACHE_DIR = _config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        _config.CACHE_DIR = before


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called. It runs without the interpreter's lock, so that threads help.

    Of what "fast" arithmetic may do, two things are allowed: to multiply and add with one rounding, and to sum in
    another order, the same one each time, in as many partial sums as a vector has lanes.
    """
    return _compiled(function, {"contract", "reassoc"})


def compiled_in_order(function: Callable[..., Any]) -> Any:
    """As `compiled`, with sums in the order in which they are written: for what rests on how a sum is rounded."""
    return _compiled(function, {"contract"})


def inlined(function: Callable[..., Any]) -> Any:
    """As `compiled_in_order`, as a part of whatever calls it: a loop with a call in it is not made of vectors."""
    return _compiled(function, {"contract"}, forceinline=True)


def _compiled(function: Callable[..., Any], allowed: set[str], **more: Any) -> Any:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": allowed, **more}
    if not _can_be_kept:
        return numba.njit(**options)(function)
    with _numba_keeps_code_in(_FOLDER):
        dispatcher = numba.njit(cache=True, **options)(function)
    dispatcher._cache = _Forgiving(dispatcher._cache)
    return dispatcher


class _Forgiving:
    """Numba's cache of a function, to which a damaged file or a full disk is no more than code that is not there."""

    def __init__(self, cache: Any) -> None:
        self._kept = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def load_overload(self, *args: Any) -> Any:
        with contextlib.suppress(Exception):
            return self._kept.load_overload(*args)

    def save_overload(self, *args: Any) -> None:
        try:
            self._kept.save_overload(*args)
        except Exception:
            with contextlib.suppress(Exception):
                self._kept.flush()  # forget the damaged list of what there is
                self._kept.save_overload(*args)


class _Announcer(event.Listener):
    """Says on stderr, once a process, why the first step takes so long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def on_start(self, event: Any) -> None:
        if not _is_of_this_folder(event):
            return
        with self._lock:
            self._count += 1
            if sys.stderr is not None:
                name = event.data["dispatcher"].py_func.__name__
                kept = "once for this machine" if _can_be_kept else f"each time, as {_FOLDER} cannot be written"
                line = f"dezero: compiling kernels, {kept}: {self._count} {name}"
                if sys.stderr.isatty():
                    print(f"\r{line:<90}", end="", file=sys.stderr, flush=True)
                elif self._count == 1:
                    print(line, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        if _is_of_this_folder(event) and sys.stderr is not None and sys.stderr.isatty():
            print(f"\r{'':<90}\r", end="", file=sys.stderr, flush=True)


def _is_of_this_folder(event: Any) -> bool:
    return event.data["dispatcher"].py_func.__module__.startswith(__package__)


event.register("numba:compile", _Announcer())
