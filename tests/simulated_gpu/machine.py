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

BAD = 0xFFFD  # twice or four times over it is a quiet NaN of float32 or float64, and in float16 and bfloat16 as it is
GUARD = 4096  # bytes before and after an array
UNIT = 512  # CuPy's pool hands out memory in multiples of so many bytes
GIBIBYTE = 2**30


class OutOfMemoryError(MemoryError):
    """There is not so much memory, or not within the pool's limit."""

    def __init__(self, size: int, total: int, limit: int = 0):
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited}).")


class CUDARuntimeError(RuntimeError):
    """What the driver answers."""


class CUDADriverError(RuntimeError):
    """What the driver answers."""


class Allocation:
    """A piece of one device's memory: `size` bytes from the address `ptr` on."""

    def __init__(self, machine: Machine, device_id: int, size: int):
        self.nbytes = size
        self.size = -(-size // UNIT) * UNIT
        self.device_id = device_id
        machine.take(device_id, self.size)
        self._machine = machine
        self.buffer = np.empty(self.size + 2 * GUARD + UNIT, np.uint8)
        start = self.buffer.__array_interface__["data"][0]
        self.ptr = -(-(start + GUARD) // UNIT) * UNIT
        self.start = self.ptr - start  # where in the buffer the array begins
        self.buffer.view(np.uint16).fill(BAD)
        machine.live[self.ptr] = self

    def __del__(self) -> None:
        if hasattr(self, "_machine"):
            self._machine.give_back(self.device_id, self.size)

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


class MemoryPointer:
    """A place in an allocation."""

    def __init__(self, mem: Allocation, offset: int):
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

    def memset(self, value: int, size: int) -> None:
        start = self.mem.start + self.offset
        self.mem.buffer[start : start + size] = value

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        self.memset(value, size)


class _Local(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, Stream] = {}


class Machine:
    """Devices with so many bytes of memory each, and what is in use of them."""

    def __init__(self, devices: int = 1, memory: int = 16 * GIBIBYTE):
        self.devices = devices
        self.memory = memory
        self.local = _Local()
        self.live: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self.used: Counter[int] = Counter()  # bytes, by device
        self.idle: dict[int, Counter[int]] = {
            i: Counter() for i in range(devices)
        }  # blocks of so many bytes, by device
        self.limit: Counter[int] = Counter()
        self.lock = threading.RLock()
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.null: Any = None  # the stream of those who ask for none
        self.launched: deque[str] = deque(maxlen=10_000)  # the names of kernels, in the order of their launches

    def check(self) -> None:
        if not self.devices:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    # Memory

    def kept(self, device: int) -> int:
        """Bytes in blocks that lie idle in the pool."""
        return sum(size * count for size, count in self.idle[device].items())

    def take(self, device: int, size: int) -> None:
        self.check()
        with self.lock:
            if self.idle[device][size]:
                self.idle[device][size] -= 1
            elif self.used[device] + self.kept(device) + size > (self.limit[device] or self.memory):
                self.idle[device].clear()
                if self.used[device] + size > (self.limit[device] or self.memory):
                    raise OutOfMemoryError(size, self.used[device], self.limit[device])
            self.used[device] += size

    def give_back(self, device: int, size: int) -> None:
        with self.lock:
            self.used[device] -= size
            self.idle[device][size] += 1

    def find(self, pointer: int, nbytes: int = 1) -> MemoryPointer:
        """Return the place that an address names, and raise where no array has `nbytes` bytes from there on."""
        for mem in list(self.live.values()):
            if mem.ptr <= pointer and pointer + nbytes <= mem.ptr + mem.nbytes:
                return MemoryPointer(mem, pointer - mem.ptr)
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    # Streams

    def current_stream(self) -> Stream:
        return self.local.streams.get(self.local.device, self.null)

    def synchronize(self) -> None:
        """Wait for all streams."""
        for stream in list(self.streams):
            stream.synchronize()


class MemoryPool:
    """What CuPy says about the memory of the current device."""

    def __init__(self, machine: Machine | None = None):
        if machine is None:
            raise NotImplementedError("the stand-in has the one pool that get_default_memory_pool() returns")
        self._machine = machine

    @property
    def _device(self) -> int:
        return self._machine.local.device

    def used_bytes(self) -> int:
        return self._machine.used[self._device]

    def free_bytes(self) -> int:
        return self._machine.kept(self._device)

    def total_bytes(self) -> int:
        return self.used_bytes() + self.free_bytes()

    def n_free_blocks(self) -> int:
        return self._machine.idle[self._device].total()

    def free_all_blocks(self, stream: Any = None) -> None:
        self._machine.idle[self._device].clear()

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at one time")
        self._machine.limit[self._device] = int(fraction * self._machine.memory) if fraction else size or 0

    def get_limit(self) -> int:
        return self._machine.limit[self._device]

    def malloc(self, size: int) -> MemoryPointer:
        return MemoryPointer(Allocation(self._machine, self._device, size), 0)


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
        taken = self._machine.used[self.id] + self._machine.kept(self.id)
        return self._machine.memory - taken, self._machine.memory

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
    """A queue of work. Only copies of pinned memory wait in one, and only where it is non-blocking: those are done when
    somebody waits for them, so that what reads too early, or writes the source too early, is seen to be wrong."""

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

    @property
    def done(self) -> bool:
        return not self._queue

    def synchronize(self) -> None:
        self._run(self._length)

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event._mark = (self, self._length)
        return event

    def wait_event(self, event: Event) -> None:
        """What is in front of `event` in its stream is done before what this stream gets from now on."""
        stream, count = event._mark
        if stream is not self:
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


class Event:
    """A mark in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._mark: tuple[Any, int] = (None, 0)
        self.ptr = id(self)

    _machine: Machine

    def record(self, stream: Stream | None = None) -> None:
        (self._machine.current_stream() if stream is None else stream).record(self)

    def synchronize(self) -> None:
        stream, count = self._mark
        if stream is not None:
            stream._run(count)

    @property
    def done(self) -> bool:
        stream, count = self._mark
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
