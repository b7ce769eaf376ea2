"""Where did that NaN come from? A mode for finding the operation, and the line, at fault.

Every operation is looked at twice: after forward, what it made of finite numbers; before and after backward, whether
the arrays it goes back to are still what they were, and what it made of finite gradients. That costs time: the mode is
for finding a fault, not for training.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import weakref
import zlib
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dezero import cuda
from dezero.core import Variable, as_array, is_floating, mode

__all__ = ["detect_anomaly"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Inside the `with` block, raise an error where something first goes wrong, naming the operation and the line.

    - FloatingPointError when an operation makes NaN out of numbers, or infinity out of finite ones, in the forward or
      the backward pass; and when it is handed an array with a NaN in it that no operation made.
    - ValueError when a backward pass reads an array that was changed since the forward pass used it, as by
      `x.data += 1`: the gradient would be that of another program.

    Forward and backward pass must both run inside the block. Infinity that was put in on purpose, as in a mask, is no
    anomaly. NumPy's own warnings are silent inside.

    >>> x = Variable(np.array([1.0, 0.0]))
    >>> with detect_anomaly():
    ...     x / x  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FloatingPointError: div: made NaN at index (1,) of its output ...
    """
    with mode("observer", _Observer()), np.errstate(all="ignore"):
        yield


class _Note(NamedTuple):
    """What is kept of a node: the user's line, and fingerprints of its inputs and outputs."""

    line: str
    fingerprints: list[Any]


_notes: MutableMapping[Any, _Note] = weakref.WeakKeyDictionary()


class _Observer:
    """What core calls for every operation while the mode is on.

    Within the backward of a node, that node answers for the operations it is made of: those that run while `frame` is
    the user's innermost. Where a checkpoint calls the user's function again, a deeper frame is.
    """

    def __init__(self, within: str = "", frame: Any = None) -> None:
        self.within = within
        self.frame = frame

    def after_forward(self, node: Any, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> None:
        frame = _users_frame()
        line = self.within if frame is self.frame else _line_of(frame)
        arrays = [x.data for x in inputs]
        for y in () if frame is self.frame else outputs:
            _check_handed_in(node, inputs, y.data, line)
            _check_made(f"{node.operation}: made", "its output", y.data, arrays, line)
        if node.inputs is inputs:
            _notes[node] = _Note(line, [_fingerprint(x) for x in (*inputs, *outputs)])

    def run_backward(self, node: Any, gys: Sequence[Variable]) -> Any:
        note = _notes.get(node)
        if note is None:  # recorded outside the mode
            return node.backward(*gys)
        within = _Observer(f"\n  in the backward of {node.operation}{note.line}", _users_frame())
        with _forbidden_to_read(_changed(node, note), node.operation, note.line), mode("observer", within):
            gxs = node.backward(*gys)
        arrays = [x.data for x in (*gys, *node.inputs)]
        for i, gx in enumerate(gxs if isinstance(gxs, (tuple, list)) else [gxs]):
            what = f"the gradient of argument {i}{_name(node.inputs[i]) if i < len(node.inputs) else ''}"
            _check_made(f"{node.operation}: backward made", what, cuda.plain(gx), arrays, note.line)
        return gxs


# ----------------------------------------------------------------------------------------------------------------------
# Numbers that are none
# ----------------------------------------------------------------------------------------------------------------------


def _check_made(says: str, what: str, y: Any, arrays: Sequence[Any], line: str) -> None:
    """Raise FloatingPointError when `y` has NaN but none of the arrays it was made from, or infinity likewise."""
    if _all(y, "isfinite"):
        return
    if not _all(y, "isnan", wanted=False):
        if all(_all(x, "isnan", wanted=False) for x in arrays):
            raise FloatingPointError(f"{says} NaN at index {_first(y, 'isnan')} of {what}{line}")
    elif all(_all(x, "isfinite") for x in arrays):
        raise FloatingPointError(f"{says} infinity at index {_first(y, 'isinf')} of {what}{line}")


def _check_handed_in(node: Any, inputs: Sequence[Variable], y: Any, line: str) -> None:
    """Raise FloatingPointError when `y` has a NaN that came in with an array that no operation made."""
    if _all(y, "isnan", wanted=False):
        return
    carriers = [(i, x) for i, x in enumerate(inputs) if not _all(x.data, "isnan", wanted=False)]
    if carriers and all(x.creator is None for _, x in carriers):
        i, x = carriers[0]
        where = _first(x.data, "isnan")
        raise FloatingPointError(f"{node.operation}: was given NaN at index {where} of argument {i}{_name(x)}{line}")


def _all(x: Any, test: str, wanted: bool = True) -> bool:
    """Say whether the test, NumPy's function of this name, gives `wanted` everywhere; only floats can fail it."""
    x = as_array(x)
    if not cuda.is_array(x) or not is_floating(x.dtype):
        return True
    return bool((getattr(cuda.get_array_module(x), test)(x) == wanted).all())


def _first(x: Any, test: str) -> tuple[int, ...]:
    x = cuda.as_numpy(x)
    return tuple(int(i) for i in np.argwhere(getattr(np, test)(x))[0])


# ----------------------------------------------------------------------------------------------------------------------
# Arrays that changed
# ----------------------------------------------------------------------------------------------------------------------


def _fingerprint(x: Variable | None) -> Any:
    if x is None or x.data is None:
        return None
    return x.data.shape, zlib.crc32(cuda.as_numpy(x.data).tobytes())


def _changed(node: Any, note: _Note) -> dict[Variable, str]:
    """Return the node's inputs and outputs whose arrays are not what they were in forward, and what they are to it."""
    roles = [f"argument {i}{_name(x)}" for i, x in enumerate(node.inputs)] + ["the output"] * len(node.outputs)
    variables = [*node.inputs, *(reference() for reference in node.outputs)]
    changed = {}
    for x, role, before in zip(variables, roles, note.fingerprints, strict=True):
        now = _fingerprint(x)
        if None not in (now, before) and now != before:  # None: a program may give arrays back to save memory
            changed[x] = role
    return changed


@contextlib.contextmanager
def _forbidden_to_read(changed: dict[Variable, str], operation: str, line: str) -> Iterator[None]:
    """Inside the `with` block, reading `data` of these Variables is a ValueError. Many a backward does not need it."""
    kinds = {x: type(x) for x in changed}
    for x, role in changed.items():
        x.__class__ = _unreadable(
            kinds[x],
            f"{operation}: {role} was changed since the forward pass used it, and backward needs it as it was; "
            f"compute a new Variable from it, or change it after backward(){line}",
        )
    try:
        yield
    finally:
        for x, kind in kinds.items():
            x.__class__ = kind


def _unreadable(kind: type[Variable], message: str) -> type[Variable]:
    """Return `kind` with a `data` that raises; shape and dtype are as readable as ever."""

    def refuse(x: Variable) -> Any:
        raise ValueError(message)

    def of_array(name: str) -> Any:
        return property(lambda x: getattr(vars(x)["data"], name))

    harmless = {name: of_array(name) for name in ("shape", "ndim", "size", "dtype")}
    harmless["__len__"] = lambda x: len(vars(x)["data"])
    return type(kind.__name__, (kind,), {"data": property(refuse), **harmless})


# ----------------------------------------------------------------------------------------------------------------------
# Whose line
# ----------------------------------------------------------------------------------------------------------------------


def _users_frame() -> Any:
    """Return the innermost frame outside the package."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def _line_of(frame: Any) -> str:
    """Return the line that a frame is at, as errors end with it."""
    path, number = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(path, number).strip()
    return f"\n  {path}, line {number}: {text}"


def _name(x: Variable) -> str:
    return f" ({x.name!r})" if x.name else ""
