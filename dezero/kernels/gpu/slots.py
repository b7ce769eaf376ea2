"""Numbers that change from step to step while the launches of a step stay the same: what `capture` needs of kernels.

A captured step is a list of launches with their arguments, played again. A learning rate that was an argument would
stay what it was. So, while a step is captured, such a number gets a place in device memory, a *slot*, from which
kernels read it, and before every replay all slots are filled anew, in the order in which the step asked for them: the
same calls in the same order as if its Python ran again. Outside a capture a number is a number.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

ROOM = 4096  # bytes for the slots of a step
_ALIGNMENT = 16


class Recorder:
    """The slots of one captured step, what is to be done before a replay, and what must live as long."""

    def __init__(self) -> None:
        cupy = sys.modules["cupy"]
        self.host = np.zeros(ROOM, np.uint8)
        self.device = cupy.zeros(ROOM, np.uint8)
        self.used = 0
        self.actions: list[Callable[[], Any]] = []
        self.kept: list[Any] = []

    def slot(self, values: Callable[[], Any], dtype: Any) -> Any:
        """Return device memory that `values()`, a number or a tuple of numbers, is written to before every replay."""
        now = np.asarray(values(), dtype)
        start, end = self.used, self.used + now.nbytes
        if end > ROOM:
            raise RuntimeError(
                f"capture: a step has room for {ROOM} bytes of numbers that change, and this one has more"
            )
        self.used = -(-end // _ALIGNMENT) * _ALIGNMENT
        place = self.host[start:end].view(now.dtype).reshape(now.shape)
        place[...] = now

        def fill() -> None:
            place[...] = values()

        self.actions.append(fill)
        return self.device[start:end].view(now.dtype).reshape(now.shape)

    def upload(self) -> None:
        """Copy the slots to the device, behind what the current stream has to do; nothing waits."""
        if self.used:
            stream = sys.modules["cupy"].cuda.get_current_stream()
            self.device[: self.used].set(self.host[: self.used], stream=stream)

    def before_replay(self) -> None:
        """Do what the step's Python would do, in its order, and fill the slots."""
        for act in self.actions:
            act()
        self.upload()


class _Thread(threading.local):
    recorder: Recorder | None = None
    optimizers: dict[Any, None] | None = None  # those that took part, while somebody wants to know


_thread = _Thread()


def begin(recorder: Recorder | None) -> None:
    """Let this thread's numbers be slots of `recorder` from now on; None ends that."""
    _thread.recorder = recorder


def capturing() -> bool:
    """Say whether this thread captures a step."""
    return _thread.recorder is not None


def number(value: Callable[[], float], dtype: Any) -> Any:
    """Return `value()`; while a step is captured, a slot of no axes with it."""
    recorder = _thread.recorder
    return value() if recorder is None else recorder.slot(value, dtype)


def numbers(values: Callable[[], tuple[Any, ...]], dtype: Any) -> Any:
    """Return `values()`, a tuple; while a step is captured, a slot of one axis with them."""
    recorder = _thread.recorder
    return values() if recorder is None else recorder.slot(values, dtype)


def action(act: Callable[[], Any]) -> None:
    """While a step is captured, have `act` done before every replay, but not now."""
    if _thread.recorder is not None:
        _thread.recorder.actions.append(act)


def watch(optimizers: dict[Any, None] | None) -> None:
    """Note in `optimizers` which of them update parameters in this thread from now on; None ends that."""
    _thread.optimizers = optimizers


def take_part(optimizer: Any) -> None:
    """Say that an optimizer updates parameters: what it remembers is part of the step."""
    if _thread.optimizers is not None:
        _thread.optimizers[optimizer] = None


def keep(x: Any) -> None:
    """While a step is captured, keep `x` alive as long as what is captured."""
    if _thread.recorder is not None:
        _thread.recorder.kept.append(x)
