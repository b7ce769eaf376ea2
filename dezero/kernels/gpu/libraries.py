"""What cuBLAS's file and cuDNN's have in common: how one of NVIDIA's libraries is found, and who has its handles."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib
import threading
from collections.abc import Callable
from typing import Any


def load(name: str, version: int) -> Any:
    """Return one of CUDA's libraries, of that major version, wherever it is; None without it."""
    with contextlib.suppress(Exception):  # not installed, or it does not find the library
        importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib(name)
    with contextlib.suppress(OSError):
        return ctypes.CDLL(f"lib{name}.so.{version}")  # the name alone finds what has been loaded, by CuPy or above
    return None


def load_any(name: str) -> Any:
    """Return that library in whatever version the system's loader knows; None without it."""
    path = ctypes.util.find_library(name)
    with contextlib.suppress(OSError):
        return ctypes.CDLL(path) if path else None
    return None


class _Lent:
    """A handle as long as a thread has it. It goes back when the thread ends: another one takes it."""

    def __init__(self, handle: Any, idle: list[Any]) -> None:
        self.handle, self.idle = handle, idle

    def __del__(self) -> None:
        self.idle.append(self.handle)


class _Thread(threading.local):
    """What a thread has of its own: a handle for each device that it worked on."""

    def __init__(self) -> None:
        self.lent: dict[int, _Lent] = {}


class Handles:
    """The handles of a library. One serves a single device, and a single thread at a time."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.idle: dict[int, list[Any]] = {}  # those that no thread has, by device
        self.thread = _Thread()

    def of(self, device: int) -> Any:
        """Return this thread's handle for a device, which is the current one."""
        lent = self.thread.lent.get(device)
        return self._lend(device) if lent is None else lent.handle

    def _lend(self, device: int) -> Any:
        idle = self.idle.setdefault(device, [])
        try:
            handle = idle.pop()
        except IndexError:
            handle = self.make()
        self.thread.lent[device] = _Lent(handle, idle)
        return handle


def in_a_line(error: Exception) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
