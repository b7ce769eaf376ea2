"""A stand-in for CuPy that needs no GPU: arrays that are as strict as CuPy's, and CUDA sources run on the processor.

    from simulated_gpu import modules

    for name, module in modules().items():            # in a fixture: a machine of its own for each test
        monkeypatch.setitem(sys.modules, name, module)

    import cupy
    x = cupy.arange(3.0)
    np.exp(x)                 # a CuPy array, as with CuPy
    x + np.ones(3)            # TypeError: Unsupported type <class 'numpy.ndarray'>
    x.max(initial=0)          # TypeError: CuPy's max has no such argument

What there is:

- `cupy.ndarray` (array.py) and the functions listed in functions.py, each with the arguments that CuPy's has. Who needs
  another adds its line there, having looked that CuPy has it.
- `cupy.RawModule`, `cupy.RawKernel` and `cupy.ElementwiseKernel` (kernels.py), whose sources g++ compiles; skip where
  `have_compiler()` is False. All blocks and threads of a launch run one after the other, barriers included.
- Memory is counted (`cupy.get_default_memory_pool().used_bytes()`), limited (`.set_limit`), and guarded: a kernel that
  writes outside its arrays raises MemoryError. Fresh memory holds NaN (of integers, a large negative number), so that
  what nobody wrote is seen.
- `modules(devices=2, memory=2**30)` is another machine; `modules(devices=0)` one on which no device answers.
- Copies of pinned memory, and graphs, in a non-blocking stream happen as late as they may: see machine.Stream.
- Graphs (capture.py): between `stream.begin_capture()` and `stream.end_capture()` what is done in the stream is
  recorded, and each `graph.launch()` does it, in the same memory. What CuPy refuses by itself (copies from and to the
  host, cuBLAS, cupy.random) leaves the capture as it is, as with CuPy: end_capture() gives a graph of the rest. What
  CUDA refuses (waiting, memory from the driver in another mode than the relaxed one, streams that get mixed up) makes
  it invalid: end_capture() raises. A graph owns no memory: that of a pool which gave it back is an illegal address.
  `pieces_of(graph)` lists what was recorded, by the names of kernels, functions and methods.
- `machine_of(cupy).record(f, stream=None)` is for libraries that are given pointers: `f()` is called at once, or at
  each launch of what the stream (a Stream or its number, the current one by default) captures. `f` keeps addresses, or
  what `host_view` returned, and no CuPy array, since a graph keeps none; and it takes no memory of a pool.
- `host_view(cupy, pointer, shape, dtype, strides)` is what lies at an address, for libraries that are given pointers.
- `machine_of(cupy)` is the machine: `.launched` lists the kernels that ran.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any

import numpy as np

from . import capture as _capture
from . import machine as _machine
from .array import array_class
from .functions import functions, random_functions, stride_tricks
from .kernels import CompileException, have_compiler, kernel_classes
from .machine import GIBIBYTE, Machine, alloc_pinned_memory

__all__ = ["have_compiler", "host_view", "machine_of", "modules", "pieces_of"]


def modules(devices: int = 1, memory: int = 16 * GIBIBYTE) -> dict[str, types.ModuleType]:
    """Return fresh modules "cupy", "cupyx" and those in them, on a machine of their own."""
    machine = Machine(devices, memory)
    made: dict[str, types.ModuleType] = {}

    def module(name: str, **contents: Any) -> types.ModuleType:
        made[name] = types.ModuleType(name, "A stand-in: see simulated_gpu.")
        vars(made[name]).update(contents)
        if "." in name:
            parent, _, child = name.rpartition(".")
            setattr(made[parent], child, made[name])
        else:
            made[name].__path__ = []  # a package
        return made[name]

    cupy = module("cupy", __version__="14.2.0")
    ndarray = array_class(machine, cupy)
    vars(cupy).update(functions(ndarray))
    pinned_pool = types.SimpleNamespace(free_all_blocks=lambda: None, n_free_blocks=lambda: 0)
    vars(cupy).update(
        ndarray=ndarray,
        **kernel_classes(machine, ndarray),
        get_array_module=lambda *args: cupy if any(isinstance(x, ndarray) for x in args) else np,
        get_default_memory_pool=lambda: machine.pool,
        get_default_pinned_memory_pool=lambda: pinned_pool,
    )
    module("cupy.random", **random_functions(ndarray))
    precision = dict.fromkeys(map(np.dtype, ("f2", "f4", "f8")), 1)  # of products; they are NumPy's whatever it says
    module("cupy._core", set_compute_type=precision.__setitem__, get_compute_type=precision.__getitem__)
    module("cupy._core._routines_linalg", COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7)
    module("cupy.lib")
    module("cupy.lib.stride_tricks", **stride_tricks(ndarray))
    _add_cuda(module, machine)
    _add_cupyx(module, machine)
    cupy._machine = machine  # type: ignore[attr-defined]
    return made


def _add_cuda(module: Any, machine: Machine) -> None:
    Device, Stream, Event, MemoryPool = (
        type(cls.__name__, (cls,), {"_machine": machine, "__module__": "cupy.cuda"})
        for cls in (_machine.Device, _machine.Stream, _machine.Event, _machine.MemoryPool)
    )
    machine.pool = MemoryPool()
    machine.null = Stream.null = Stream.__new__(Stream)
    machine.null._begin(machine, ptr=0, non_blocking=False)

    def properties(device: int) -> dict[str, Any]:
        Device(device)._check()
        return {
            "name": b"Simulated GPU",
            "totalGlobalMem": machine.memory,
            "major": 9,
            "minor": 0,
            "multiProcessorCount": 132,
        }

    def count() -> int:
        machine.check()
        return machine.devices

    def current_device() -> int:
        machine.check()
        return machine.local.device

    def set_allocator(allocator: Any = None) -> None:
        if machine.local.allocators:
            raise ValueError("Can't change the global allocator inside `using_allocator` context manager")
        machine.allocator = machine.raw_alloc if allocator is None else allocator

    @contextlib.contextmanager
    def using_allocator(allocator: Any = None) -> Any:
        machine.local.allocators.append(machine.raw_alloc if allocator is None else allocator)
        try:
            yield
        finally:
            machine.local.allocators.pop()

    cuda = module(
        "cupy.cuda",
        Device=Device,
        Event=Event,
        Stream=Stream,
        MemoryPointer=_machine.MemoryPointer,
        MemoryPool=MemoryPool,
        Graph=_capture.Graph,
        alloc=lambda size: machine.alloc(size),
        alloc_pinned_memory=alloc_pinned_memory,
        get_allocator=lambda: machine.current_allocator(),
        set_allocator=set_allocator,
        using_allocator=using_allocator,
        get_current_stream=lambda device_id=-1: machine.current_stream(),
        get_device_id=current_device,
        get_local_runtime_version=lambda: 13000,
        is_available=lambda: machine.devices > 0,
    )
    module("cupy.cuda.compiler", CompileException=CompileException)
    module("cupy.cuda.device", Device=Device, get_device_id=current_device)
    module("cupy.cuda.driver", CUDADriverError=_capture.CUDADriverError)
    module("cupy.cuda.graph", Graph=_capture.Graph)
    module("cupy.cuda.stream", Stream=Stream, Event=Event, get_current_stream=cuda.get_current_stream)
    module("cupy.cuda.memory", OutOfMemoryError=_machine.OutOfMemoryError, MemoryPointer=_machine.MemoryPointer)
    module(
        "cupy.cuda.runtime",
        CUDARuntimeError=_capture.CUDARuntimeError,
        streamCaptureModeGlobal=_capture.GLOBAL,
        streamCaptureModeThreadLocal=_capture.THREAD_LOCAL,
        streamCaptureModeRelaxed=_capture.RELAXED,
        deviceSynchronize=machine.synchronize,
        driverGetVersion=lambda: 13000,
        getDevice=current_device,
        getDeviceCount=count,
        getDeviceProperties=properties,
        is_hip=False,
        memGetInfo=lambda: Device().mem_info,
        runtimeGetVersion=lambda: 13000,
        setDevice=lambda device: Device(device).use(),
    )


def _add_cupyx(module: Any, machine: Machine) -> None:
    def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        memory = alloc_pinned_memory(int(np.prod(shape, dtype=int)) * dtype.itemsize)
        return np.ndarray(shape, dtype, memory, order=order)

    def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
        x = empty_pinned(shape, dtype, order)
        x[...] = 0
        return x

    @contextlib.contextmanager
    def errstate(
        *, divide: Any = None, over: Any = None, under: Any = None, invalid: Any = None, linalg: Any = None
    ) -> Any:
        yield

    def scatter_add(a: Any, slices: Any, value: Any) -> None:
        a.scatter_add(slices, value)

    def rsqrt(x: Any) -> Any:
        return 1 / np.sqrt(x)

    module(
        "cupyx",
        empty_pinned=empty_pinned,
        zeros_pinned=zeros_pinned,
        errstate=errstate,
        scatter_add=scatter_add,
        rsqrt=rsqrt,
    )


def machine_of(cupy: Any) -> Machine:
    """Return the machine on which the arrays of a module `cupy` lie."""
    return cupy._machine


def pieces_of(graph: Any) -> list[str]:
    """Return the names of what a graph does when it is launched: of kernels, functions and methods."""
    return [piece.name for piece in graph._work]


def host_view(cupy: Any, pointer: int, shape: Any, dtype: Any, strides: Any = None) -> np.ndarray:
    """Return what lies at an address, as a NumPy array on the same memory; strides are bytes, C order without them.

    Raises CUDARuntimeError where no living array has all of it.
    """
    dtype = np.dtype(dtype)
    if strides is None:
        strides = [dtype.itemsize * int(np.prod(shape[k + 1 :], dtype=int)) for k in range(len(shape))]
    last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if 0 not in shape else -dtype.itemsize
    place = machine_of(cupy).find(pointer, last + dtype.itemsize)
    return np.ndarray(shape, dtype, place.mem.buffer, place.mem.start + place.offset, strides)
