"""The machine that is simulated: devices, their memory, streams and events.

Memory is NumPy memory between two guards. Guards and fresh memory hold one pattern, BAD, which is not a number in every
floating type: what a kernel reads outside an array or before anything was written shows in its results, and what it
writes outside is found in the guards when it has run.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from typing import Any

import numpy as np

from .capture import (
    CAPTURED_EVENT,
    ILLEGAL_STATE,
    IMPLICIT,
    RELAXED,
    UNSUPPORTED,
    Capture,
    CUDARuntimeError,
    wait_while_capturing,
)

BAD = 0xFFFD  # twice or four times over it is a quiet NaN of float32 or float64, and in float16 and bfloat16 as it is
GUARD = 4096  # bytes before and after an array
UNIT = 512  # CuPy's pool hands out memory in multiples of so many bytes
GIBIBYTE = 2**30


class OutOfMemoryError(MemoryError):
    """There is not so much memory, or not within the pool's limit."""

    def __init__(self, size: int, total: int, limit: int = 0):
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited}).")


class _Memory:
    """`nbytes` bytes of one device's memory from the address `ptr` on; they begin at `buffer[start]`."""

    _machine: Machine
    device_id: int
    buffer: np.ndarray
    start: int
    ptr: int
    nbytes: int

    @property
    def device(self) -> Device:
        return Device(self.device_id, self._machine)

    def check_guards(self, who: str) -> None:
        """Raise MemoryError when something was written before or behind the array; then mend the guards."""
        end = self.start + self.nbytes
        before = self.buffer[: self.start].view(np.uint16)
        odd = end % 2  # a guard begins in the middle of a pattern after an odd number of bytes
        behind = self.buffer[end + odd :].view(np.uint16)
        where = None
        if (before != BAD).any():
            where = f"{self.start - 2 * int(np.flatnonzero(before != BAD)[-1])} bytes before"
        elif (behind != BAD).any() or (odd and self.buffer[end] != BAD >> 8):
            where = f"{2 * int(np.flatnonzero(behind != BAD)[0]) if (behind != BAD).any() else 0} bytes behind"
        if where is not None:
            before.fill(BAD)
            behind.fill(BAD)
            if odd:
                self.buffer[end] = BAD >> 8
            raise MemoryError(f"{who} wrote {where} an array of {self.nbytes} bytes")


class Block(_Memory):
    """Memory that the driver gave to a pool, whoever has it just now. What is recorded knows blocks, and owns none."""

    def __init__(self, machine: Machine, device_id: int, size: int):
        self._machine, self.device_id, self.nbytes = machine, device_id, size
        self.buffer = np.empty(size + 2 * GUARD + UNIT, np.uint8)
        start = self.buffer.__array_interface__["data"][0]
        self.ptr = -(-(start + GUARD) // UNIT) * UNIT
        self.start = self.ptr - start  # where in the buffer the array begins
        self.gone = False  # whether the driver has it back
        machine.blocks.add(self)

    @property
    def block(self) -> Block:
        return self

    def spoil(self) -> None:
        """Fill it as memory is filled that nobody wrote to."""
        self.buffer.view(np.uint16).fill(BAD)


class Allocation(_Memory):
    """A block in use, by one array and its views. Then it goes back to its pool, if that is still there."""

    def __init__(self, machine: Machine, pool: MemoryPool | None, device_id: int, size: int):
        self._machine, self.device_id, self.nbytes = machine, device_id, size
        self._size = -(-size // UNIT) * UNIT
        self._pool = None if pool is None else weakref.ref(pool)
        self._stream = machine.current_stream()
        if pool is None:
            machine.take(device_id, self._size)
        found = None if pool is None else pool._take(device_id, self._size, self._stream.ptr)
        if found is not None:
            self._stream._catch_up()  # a pool is in order with its stream
        self.block = Block(machine, device_id, self._size) if found is None else found
        self.buffer, self.start, self.ptr = self.block.buffer, self.block.start, self.block.ptr
        self.block.spoil()
        machine.live[self.ptr] = self

    def __del__(self) -> None:
        if not hasattr(self, "block"):
            return
        pool = None if self._pool is None else self._pool()
        if pool is None:
            self._machine.give_back(self.block)
        else:
            pool._keep(self.block, self._stream.ptr)


class MemoryPointer:
    """A place in an allocation."""

    def __init__(self, mem: Any, offset: int):
        self.mem, self.offset = mem, offset
        self.ptr = mem.ptr + offset

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)

    @property
    def device_id(self) -> int:
        return self.mem.device_id

    @property
    def device(self) -> Device:
        return self.mem.device

    @property
    def _unowned(self) -> MemoryPointer:
        """The same place, which keeps nothing from its pool."""
        return MemoryPointer(self.mem.block, self.offset)

    def _bytes(self, size: int) -> np.ndarray:
        start = self.mem.start + self.offset
        return self.mem.buffer[start : start + size]

    def memset(self, value: int, size: int) -> None:
        self.mem._machine.current_stream()._refuse_waiting()
        self.memset_async(value, size)

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        place = self._bytes(size)
        self.mem._machine.record(lambda: place.fill(value), stream)

    def copy_from_device(self, src: MemoryPointer, size: int) -> None:
        self.mem._machine.current_stream()._refuse_waiting()
        self.copy_from_device_async(src, size)

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        place, source = self._bytes(size), src._bytes(size)
        self.mem._machine.record(lambda: np.copyto(place, source), stream)


class _Local(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, Stream] = {}
        self.allocators: list[Any] = []
        self.work: Any = None  # a capture.Rehearsal or capture.Replay while there is one


class Machine:
    """Devices with so many bytes of memory each, and what is in use of them."""

    def __init__(self, devices: int = 1, memory: int = 16 * GIBIBYTE):
        self.devices = devices
        self.memory = memory
        self.local = _Local()
        self.live: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self.blocks: weakref.WeakSet[Block] = weakref.WeakSet()
        self.taken: Counter[int] = Counter()  # bytes that the driver has given away, by device
        self.lock = threading.RLock()
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.null: Any = None  # the stream of those who ask for none
        self.launched: deque[str] = deque(maxlen=10_000)  # the names of kernels, in the order in which they ran
        self.captures: list[Any] = []  # those that go on
        self.has_captured = False  # then somebody may know an address of memory that is given back: it must stay
        self.pool: Any = None  # the memory of those who ask for none
        self.allocator: Any = None  # or what they set in its place

    def check(self) -> None:
        if not self.devices:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    # Memory

    def take(self, device: int, size: int) -> bool:
        """Count memory as given away by the driver, and say whether there was so much."""
        self.check()
        for capture in self.captures:
            if not capture.lets_be_taken():
                capture.refuse()
        with self.lock:
            if self.taken[device] + size > self.memory:
                return False
            self.taken[device] += size
        return True

    def give_back(self, block: Block | None, size: int = 0, device: int = 0) -> None:
        """Let the driver have a block, or so many bytes of one that is no more."""
        with self.lock:
            self.taken[device if block is None else block.device_id] -= size if block is None else block.nbytes
        if block is not None:
            block.gone = True

    def alloc(self, size: int) -> MemoryPointer:
        """Return memory of the current device from the thread's allocator."""
        work = self.local.work
        if work is not None and work.replays:
            return MemoryPointer(work.next_block(), 0)
        found = self.current_allocator()(size)
        if work is not None:
            work.took(found.mem.block)
        return found

    def current_allocator(self) -> Any:
        return self.local.allocators[-1] if self.local.allocators else self.allocator or self.pool.malloc

    def raw_alloc(self, size: int) -> MemoryPointer:
        return MemoryPointer(Allocation(self, None, self.local.device, size), 0)

    def find(self, pointer: int, nbytes: int = 1) -> MemoryPointer:
        """Return the place that an address names, and raise where no array has `nbytes` bytes from there on.

        For what is replayed, a block of a pool that no array has will do.
        """
        known: list[Any] = list(self.live.values())
        if self.local.work is not None and self.local.work.replays:
            known += [block for block in self.blocks if not block.gone]
        for mem in known:
            if mem.ptr <= pointer and pointer + nbytes <= mem.ptr + mem.nbytes:
                return MemoryPointer(mem, pointer - mem.ptr)
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    # Streams

    def current_stream(self) -> Stream:
        return self.local.streams.get(self.local.device, self.null)

    def synchronize(self) -> None:
        """Wait for all streams."""
        for capture in self.captures:
            capture.refuse()
        for stream in list(self.streams):
            stream.synchronize()

    # Work

    def launching(self) -> bool:
        """To be called before anything is done to memory of a device; say whether it is to be done now."""
        work = self.local.work
        if work is not None:
            return work.launches()
        stream = self.current_stream()
        if stream._capture is not None:
            raise AssertionError("the stand-in does something that is not recorded, while a stream captures")
        stream._check_order()
        return True

    def record(self, f: Any, stream: Any = None) -> None:
        """Have `f()` done in a stream, the current one by default: now, or at each launch of what the stream captures.

        The stream may be given by its number, as libraries have it.
        """
        if stream is None:
            stream = self.current_stream()
        elif not isinstance(stream, Stream):
            stream = next(x for x in self.streams if x.ptr == int(stream))
        if self.local.work is None and stream._capture is not None:
            stream._capture.append(f, stream)
        elif self.local.work is None:
            stream._check_order()
            stream._catch_up()
            f()
        elif self.launching():
            f()


class MemoryPool:
    """Memory that is kept when nobody uses it any more, for whoever asks for as much in the same stream.

    Its contents are kept once a stream has captured: what was captured may write to it. Before that only its size is.
    """

    _machine: Machine

    def __init__(self, allocator: Any = None):
        if allocator is not None:
            raise NotImplementedError("the stand-in's pools take their memory from the device")
        self._used: Counter[int] = Counter()  # bytes, by device
        self._idle: dict[int, dict[tuple[int, int], list[Block | None]]] = {}  # by device; by stream and size
        self._limit: Counter[int] = Counter()

    @property
    def _device(self) -> int:
        return self._machine.local.device

    def _take(self, device: int, size: int, stream: int) -> Block | None:
        """Count memory as used, and return a block that lay idle, if there is one."""
        machine = self._machine
        machine.check()
        with machine.lock:
            idle = self._idle.setdefault(device, {}).get((stream, size))
            found = idle.pop() if idle else self._grow(device, size)
            self._used[device] += size
        return found

    def _grow(self, device: int, size: int) -> None:
        for tidied in (False, True):
            if tidied:
                self._free(device)
            within = not self._limit[device] or self._total(device) + size <= self._limit[device]
            if within and self._machine.take(device, size):
                return
        raise OutOfMemoryError(size, self._used[device], self._limit[device])

    def _keep(self, block: Block, stream: int) -> None:
        machine = self._machine
        with machine.lock:
            self._used[block.device_id] -= block.nbytes
            idle = self._idle.setdefault(block.device_id, {}).setdefault((stream, block.nbytes), [])
            idle.append(block if machine.has_captured else None)

    def _free(self, device: int, stream: int | None = None) -> None:
        with self._machine.lock:
            for (owner, size), blocks in self._idle.get(device, {}).items():
                while blocks and stream in (None, owner):
                    self._machine.give_back(blocks.pop(), size, device)

    def _total(self, device: int) -> int:
        return self._used[device] + sum(size * len(x) for (_, size), x in self._idle.get(device, {}).items())

    def __del__(self) -> None:
        for device in self._idle:
            self._free(device)

    def used_bytes(self) -> int:
        return self._used[self._device]

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def total_bytes(self) -> int:
        return self._total(self._device)

    def n_free_blocks(self) -> int:
        return sum(map(len, self._idle.get(self._device, {}).values()))

    def free_all_blocks(self, stream: Any = None) -> None:
        self._free(self._device, None if stream is None else stream.ptr)

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        self._limit[self._device] = int(fraction * self._machine.memory) if fraction else size or 0

    def get_limit(self) -> int:
        return self._limit[self._device]

    def malloc(self, size: int) -> MemoryPointer:
        return MemoryPointer(Allocation(self._machine, self, self._device, size), 0)


class Device:
    """A device, by its number; as a context manager, the current one."""

    _machine: Machine

    def __init__(self, device: int | Device | None = None, machine: Machine | None = None):
        if machine is not None:
            self._machine = machine
        if device is None:
            device = self._machine.local.device
        self.id = device.id if isinstance(device, Device) else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def _check(self) -> None:
        self._machine.check()
        if not 0 <= self.id < self._machine.devices:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def use(self) -> None:
        self._check()
        self._machine.local.device = self.id

    def __enter__(self) -> Device:
        self._check()
        self._before.append(self._machine.local.device)
        self._machine.local.device = self.id
        return self

    def __exit__(self, *error: Any) -> None:
        self._machine.local.device = self._before.pop()

    def synchronize(self) -> None:
        self._check()
        self._machine.synchronize()

    @property
    def compute_capability(self) -> str:
        self._check()
        return "90"

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    @property
    def mem_info(self) -> tuple[int, int]:
        self._check()
        return self._machine.memory - self._machine.taken[self.id], self._machine.memory

    @property
    def attributes(self) -> dict[str, int]:
        self._check()
        return {
            "MultiProcessorCount": 132,
            "MaxThreadsPerBlock": 1024,
            "WarpSize": 32,
            "MaxSharedMemoryPerBlock": 49152,
        }


class Stream:
    """A queue of work. Only graphs and copies of pinned memory wait in one, and only where it is non-blocking.

    They are done when somebody waits for them, or does something else in that stream: what reads too early, or writes
    the source too early, is seen to be wrong.
    """

    _machine: Machine
    _count = 0
    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self._machine.check()
        Stream._count += 1
        self._begin(self._machine, 0 if null else 0x5000 + 16 * Stream._count, non_blocking and not null)

    def _begin(self, machine: Machine, ptr: int, non_blocking: bool) -> None:
        self._machine, self.ptr, self._non_blocking = machine, ptr, non_blocking
        self.device_id = -1 if ptr == 0 else machine.local.device
        self._queue: list[Any] = []
        self._done = 0
        self._before: list[Stream] = []
        self._capture: Capture | None = None
        machine.streams.add(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def _submit(self, work: Any) -> None:
        if self._non_blocking:
            self._queue.append(work)
        else:
            work()

    def _run(self, count: int) -> None:
        """Do the first `count` pieces of work, counted from the stream's beginning."""
        while self._queue and self._done < count:
            self._done += 1
            self._queue.pop(0)()

    @property
    def _length(self) -> int:
        return self._done + len(self._queue)

    def _catch_up(self) -> None:
        """Do all that waits."""
        if self._queue:
            self._run(self._length)

    @property
    def done(self) -> bool:
        if self._capture is not None:
            self._capture.valid = False
            return False
        return not self._queue

    def synchronize(self) -> None:
        if self._capture is not None:
            self._capture.refuse()
        self._check_order()
        self._catch_up()

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event._mark, event._captured = (self, self._length), self._capture
        if self._capture is not None:
            event._mark = (self, self._capture.pieces[self])
        return event

    def wait_event(self, event: Event) -> None:
        """What is in front of `event` in its stream is done before what this stream gets from now on."""
        stream, count = event._mark
        if self._capture is not None or event._captured is not None:
            wait_while_capturing(self, event)
        elif stream is not self and stream is not None:
            self._submit(lambda: stream._run(count))
            if not self._non_blocking:
                stream._run(count)

    def use(self) -> Stream:
        self._machine.local.streams[self._machine.local.device] = self
        return self

    def __enter__(self) -> Stream:
        self._before.append(self._machine.current_stream())
        return self.use()

    def __exit__(self, *error: Any) -> None:
        self._before.pop().use()

    # Capturing

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise CUDARuntimeError(UNSUPPORTED)
        if self._capture is not None:
            raise CUDARuntimeError(ILLEGAL_STATE)
        self._catch_up()
        self._capture = Capture(self, RELAXED if mode is None else mode)

    def end_capture(self) -> Any:
        if self._capture is None:
            raise CUDARuntimeError(ILLEGAL_STATE)
        return self._capture.end(self)

    def is_capturing(self) -> bool:
        if self._capture is not None and not self._capture.valid:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return self._capture is not None

    def _refuse_copies(self, way: str) -> None:
        """What CuPy says of copies from and to the host while a stream captures: it does not ask CUDA."""
        if self.is_capturing():
            raise RuntimeError(f"the current stream is capturing, so {way} transfers are disallowed")

    def _refuse_waiting(self) -> None:
        if self.is_capturing():
            raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")

    def _refuse_library(self, name: str) -> None:
        if self.is_capturing():
            raise NotImplementedError(f"calling {name} API during stream capture is currently unsupported")

    def _check_order(self) -> None:
        """Raise where work in the null stream would wait for a stream that captures."""
        if self.ptr == 0:
            for capture in self._machine.captures:
                if any(not stream._non_blocking for stream in capture.pieces):
                    capture.refuse(IMPLICIT)


class Event:
    """A mark in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._mark: tuple[Any, int] = (None, 0)
        self._captured: Capture | None = None
        self.ptr = id(self)

    _machine: Machine

    def record(self, stream: Stream | None = None) -> None:
        (self._machine.current_stream() if stream is None else stream).record(self)

    def synchronize(self) -> None:
        stream, count = self._mark
        if self._captured is not None:
            self._captured.refuse(CAPTURED_EVENT)
        elif stream is not None:
            stream._run(count)

    @property
    def done(self) -> bool:
        stream, count = self._mark
        if self._captured is not None:
            self._captured.valid = False
            return False
        return stream is None or stream._done >= count


class PinnedMemory(bytearray):
    """Bytes of host memory that a device can reach by itself."""


def alloc_pinned_memory(size: int) -> Any:
    return PinnedMemory(size)


def is_pinned(x: Any) -> bool:
    while x is not None:
        if isinstance(x, PinnedMemory):
            return True
        x = x.obj if isinstance(x, memoryview) else getattr(x, "base", None)
    return False
