"""Graphs: while a stream captures, what is done in it is recorded, and done when the graph is launched.

Everything that arrays are made and changed by is an *operation*: a function or method that `operation` wraps. In a
stream that captures it is rehearsed: it runs once, for the shape of what it returns and the memory that it takes. Then
all memory is as before, the results hold what fresh memory holds, and what is recorded is the operation on the same
places. When it is replayed it gets the memory that it took while it was rehearsed. Kernels are not run in a rehearsal.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

GLOBAL, THREAD_LOCAL, RELAXED = range(3)

UNSUPPORTED = "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
INVALIDATED = "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
INVALIDATED_LAUNCH = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: operation failed due to a previous error during capture"
MERGE = "cudaErrorStreamCaptureMerge: operation would result in a merge of separate capture sequences"
UNMATCHED = "cudaErrorStreamCaptureUnmatched: capture was not ended in the same stream as it began"
UNJOINED = "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work"
ISOLATION = "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream"
IMPLICIT = (
    "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream"
)
CAPTURED_EVENT = "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream"
WRONG_THREAD = (
    "cudaErrorStreamCaptureWrongThread: attempt to terminate a thread-local capture sequence from another thread"
)
ILLEGAL_STATE = "cudaErrorIllegalState: the operation cannot be performed in the present state"
ILLEGAL_ADDRESS = "cudaErrorIllegalAddress: an illegal memory access was encountered"


class CUDARuntimeError(RuntimeError):
    """What the driver answers."""


class CUDADriverError(RuntimeError):
    """What the driver answers."""


# ----------------------------------------------------------------------------------------------------------------------
# Operations
# ----------------------------------------------------------------------------------------------------------------------


def operation(f: Callable[..., Any], machine: Any = None) -> Callable[..., Any]:
    """Return `f`, a function or method, such that it is recorded where the current stream captures.

    A method's machine is that of its first argument.
    """

    @functools.wraps(f)
    def call(*args: Any, **options: Any) -> Any:
        here = args[0]._machine if machine is None else machine
        if here.local.work is None:
            stream = here.current_stream()
            if stream._capture is not None:
                return stream._capture.record(stream, f, args, options)
            stream._catch_up()
        return f(*args, **options)

    return call


# ----------------------------------------------------------------------------------------------------------------------
# Rehearsed and replayed
# ----------------------------------------------------------------------------------------------------------------------


def _unowned(x: Any, blocks: dict[Any, None]) -> Any:
    """Put arrays and pointers that own nothing in place of those in `x`, and add their blocks to `blocks`.

    What the host has is frozen.
    """
    if type(x) in (list, tuple):
        return type(x)(_unowned(part, blocks) for part in x)
    if type(x) is dict:
        return {name: _unowned(part, blocks) for name, part in x.items()}
    if type(x) is np.ndarray:
        return x.copy()
    if hasattr(type(x), "_unowned"):
        x = x._unowned
        blocks[getattr(x, "data", x).mem.block] = None
    return x


class Rehearsal:
    """An operation that is run for its results' shapes."""

    replays = False

    def __init__(self) -> None:
        self.wrote = False
        self.taken: list[Any] = []

    def took(self, block: Any) -> None:
        self.taken.append(block)

    def launches(self) -> bool:
        self.wrote = True
        return False

    def run(self, machine: Any, blocks: dict[Any, None], f: Callable[..., Any], args: Any, options: Any) -> Any:
        before = {block: block.buffer.copy() for block in blocks}
        machine.local.work = self
        try:
            return f(*args, **options)
        finally:
            machine.local.work = None
            for block, contents in before.items():
                block.buffer[:] = contents
            for block in self.taken:
                block.spoil()


class Replay:
    """A piece of work that gets the blocks that it took when it was recorded."""

    replays = True

    def __init__(self, taken: list[Any]) -> None:
        self._taken: Iterator[Any] = iter(taken)

    def next_block(self) -> Any:
        block = next(self._taken, None)
        if block is None:
            raise AssertionError("what is replayed takes more memory than it did when it was recorded")
        return block

    def launches(self) -> bool:
        return True


class Piece:
    """A piece of recorded work, and the blocks it works on."""

    def __init__(self, name: str, f: Callable[[], Any], blocks: list[Any], taken: list[Any]) -> None:
        self.name, self.f, self.blocks, self.taken = name, f, blocks, taken

    def run(self, machine: Any) -> None:
        if any(block.gone for block in [*self.blocks, *self.taken]):
            raise CUDARuntimeError(f"{ILLEGAL_ADDRESS} (by {self.name}, which was captured)")
        before, machine.local.work = machine.local.work, Replay(self.taken)
        try:
            self.f()
        finally:
            machine.local.work = before


# ----------------------------------------------------------------------------------------------------------------------
# Captures and graphs
# ----------------------------------------------------------------------------------------------------------------------


class Capture:
    """What a stream, and those that wait for it, got since begin_capture()."""

    def __init__(self, origin: Any, mode: int) -> None:
        self.machine, self.origin, self.mode = origin._machine, origin, mode
        self.thread = threading.get_ident()
        self.valid = True
        self.work: list[Piece] = []
        self.pieces: Counter[Any] = Counter({origin: 0})  # how many, by stream
        self.unjoined: set[Any] = set()
        self.machine.captures.append(self)
        self.machine.has_captured = True

    def record(self, stream: Any, f: Callable[..., Any], args: Any, options: Any) -> Any:
        """Return what the operation will return, and record it if there is anything to do on the device."""
        blocks: dict[Any, None] = {}
        args_then, options_then = _unowned(args, blocks), _unowned(options, blocks)
        rehearsal = Rehearsal()
        found = rehearsal.run(self.machine, blocks, f, args, options)
        if rehearsal.wrote:
            name = getattr(args[0], "name", f.__name__)  # that of a kernel, if it is one
            self._add(stream, Piece(name, lambda: f(*args_then, **options_then), [*blocks], rehearsal.taken))
        return found

    def append(self, f: Callable[[], Any], stream: Any) -> None:
        """Record a function of no arguments."""
        self._add(stream, Piece(getattr(f, "__name__", "work"), f, [], []))

    def _add(self, stream: Any, piece: Piece) -> None:
        if not self.valid:
            raise CUDADriverError(INVALIDATED_LAUNCH)
        self.work.append(piece)
        self.pieces[stream] += 1
        if stream is not self.origin:
            self.unjoined.add(stream)

    def lets_be_taken(self) -> bool:
        """Say whether this thread may take memory from the driver meanwhile."""
        return self.mode == RELAXED or (self.mode == THREAD_LOCAL and self.thread != threading.get_ident())

    def refuse(self, message: str = UNSUPPORTED) -> None:
        """What CUDA refuses makes the capture invalid."""
        self.valid = False
        raise CUDARuntimeError(message)

    def join(self, stream: Any, event: Any) -> None:
        """Let a stream wait for an event of this capture's: then it takes part."""
        other, count = event._mark
        stream._capture = self
        if count == self.pieces[other]:
            self.unjoined.discard(other)
        self.pieces[stream] += 0
        if stream is not self.origin:
            self.unjoined.add(stream)

    def end(self, stream: Any) -> Graph:
        if stream is not self.origin:
            self.refuse(UNMATCHED)
        if self.mode != RELAXED and self.thread != threading.get_ident():
            raise CUDARuntimeError(WRONG_THREAD)
        self.machine.captures.remove(self)
        for each in self.pieces:
            each._capture = None
        if not self.valid:
            raise CUDARuntimeError(INVALIDATED)
        if self.unjoined:
            raise CUDARuntimeError(UNJOINED)
        graph = Graph.__new__(Graph)
        graph._machine, graph._work = self.machine, self.work
        return graph


def wait_while_capturing(stream: Any, event: Any) -> None:
    """Let a stream wait for an event, where one of them belongs to a capture."""
    theirs, ours = event._captured, stream._capture
    if theirs is None:
        if event._mark[0] is not None:  # an event that was never recorded is nothing to wait for
            ours.refuse(ISOLATION)
    elif theirs not in stream._machine.captures:
        raise CUDARuntimeError(CAPTURED_EVENT)
    elif stream.ptr == 0:
        theirs.refuse(IMPLICIT)
    elif ours not in (None, theirs):
        ours.valid = False
        theirs.refuse(MERGE)
    else:
        theirs.join(stream, event)


class Graph:
    """What was captured. It knows the places of arrays, and owns none of them."""

    _machine: Any
    _work: list[Piece]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    def launch(self, stream: Any = None) -> None:
        stream = self._machine.current_stream() if stream is None else stream
        if stream._capture is not None:
            stream._capture.append(self._run, stream)
        else:
            stream._check_order()
            stream._submit(self._run)

    def upload(self, stream: Any = None) -> None:
        pass

    def _run(self) -> None:
        for piece in self._work:
            piece.run(self._machine)
