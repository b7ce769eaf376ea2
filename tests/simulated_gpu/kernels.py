"""Kernels: CUDA sources, compiled by g++ and run on the processor.

Arguments are laid out as CuPy lays them out, by the Python or NumPy type alone: an int is 64 bits wide, whatever the
kernel's parameter is. A GPU would silently read something else; here what does not fit is a TypeError.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from .array import BaseArray, check_dtype, is_number
from .capture import CUDADriverError, operation
from .machine import Machine, MemoryPointer

HERE = Path(__file__).parent / "include"
KERNEL = re.compile(
    r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\("
)
FLAGS = ("-w", "-O1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-ffp-contract=off")
C_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
}


class CompileException(Exception):  # noqa: N818  (its name in CuPy)
    """What the compiler said, and the source with numbered lines."""

    def __init__(self, message: str, source: str):
        super().__init__(message, source)
        self.message, self.source = message, source

    def __str__(self) -> str:
        lines = "\n".join(f"{i:4} {line}" for i, line in enumerate(self.source.splitlines(), 1))
        return f"{self.message}\n{lines}"


# ----------------------------------------------------------------------------------------------------------------------
# Compiling
# ----------------------------------------------------------------------------------------------------------------------


def _compiler() -> str | None:
    return shutil.which("g++") or shutil.which("c++")


def have_compiler() -> bool:
    """Say whether kernels can be compiled here."""
    return os.name == "posix" and _compiler() is not None


def _cache() -> Path:
    """Return the folder of compiled kernels: one of this user's, that nobody else can write to."""
    folder = Path(
        os.environ.get("DEZERO_TEST_CACHE") or Path(tempfile.gettempdir()) / f"dezero-simulated-gpu-{os.getuid()}"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix="dezero-simulated-gpu-"))
    return folder


@functools.cache
def _salt() -> bytes:
    """What compiled code depends on beside its source."""
    compiler = os.path.realpath(_compiler() or "")
    headers = [path.read_bytes() for path in sorted(HERE.rglob("*.*h"))]
    about = f"{compiler} {os.stat(compiler).st_mtime_ns} {FLAGS} {os.uname().machine}"
    return hashlib.sha256(b"\0".join([about.encode(), *headers])).digest()


def _host_options(options: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return what g++ is told, and the lines that define macros, to come behind the stand-in's own header."""
    found, macros = ["-std=c++17"], []
    for option in options:
        if re.match(r"-?-std=", option):
            found[0] = option if option.startswith("-s") else option[1:]
        elif option.startswith("-I"):
            found.append(option)
        elif re.match(r"-D|--define-macro=", option):
            macro, _, value = re.sub(r"^(-D|--define-macro=)", "", option).partition("=")
            macros.append(f"#define {macro} {value or (1 if '=' not in option else '')}")
        elif option not in ("--use_fast_math", "-lineinfo", "--generate-line-info", "--restrict"):
            raise CompileException(f"nvrtc: error: unrecognized option {option}", "")
    return found, macros


@functools.cache
def _library(code: str, options: tuple[str, ...], entries: str = "") -> ctypes.PyDLL:
    """Compile a source, and the entries to its kernels, or find it compiled."""
    compiler = _compiler()
    if compiler is None:
        raise CompileException("there is no C++ compiler", code)
    options, macros = _host_options(options)
    lines = ['#include "cuda_on_cpu.h"', *macros, '#line 1 "kernel.cu"', code, '#line 1 "entries"', entries]
    source, flags = "\n".join(lines), [*FLAGS, *options]
    key = hashlib.sha256(b"\0".join([_salt(), source.encode(), *(flag.encode() for flag in flags)])).hexdigest()[:32]
    done = _cache() / f"{key}.so"
    if not done.exists():
        with tempfile.TemporaryDirectory(dir=done.parent) as room:
            place = Path(room) / "kernel.so"
            command = [compiler, "-x", "c++", *flags, f"-I{HERE}", "-", "-o", str(place)]
            said = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
            if said.returncode:
                raise CompileException(said.stderr, code)
            place.replace(done)
    return ctypes.PyDLL(str(done))


def _check(error: int, name: str) -> None:
    if error == 1:
        raise CUDADriverError(f"{name}: some threads of a block have ended while others wait at __syncthreads()")
    if error > 1000:
        what = signal.Signals(error - 1000).name
        raise CUDADriverError(f"{name}: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered ({what})")
    if error:
        raise MemoryError(f"{name}: no memory for the stacks of its threads")


# ----------------------------------------------------------------------------------------------------------------------
# Raw kernels
# ----------------------------------------------------------------------------------------------------------------------


def _three(sizes: Any, what: str, largest: tuple[int, int, int]) -> tuple[int, int, int]:
    if not isinstance(sizes, (tuple, list)) or not 1 <= len(sizes) <= 3:
        raise ValueError(f"{what} must be a tuple of one to three integers, not {sizes!r}")
    found = (*(int(n) for n in sizes), 1, 1)[:3]
    if any(not 0 < n <= most for n, most in zip(found, largest, strict=True)):
        raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument ({what} {sizes})")
    return found


class _Function:
    """A kernel in a compiled library."""

    def __init__(self, machine: Machine, name: str, library: ctypes.PyDLL, label: str):
        self.name, self._machine = name, machine
        self._launch = getattr(library, f"simulated_launch_{label}")
        about = (ctypes.c_int * 300)()
        count = getattr(library, f"simulated_describe_{label}")(about)
        self._parameters = [(about[3 * i], chr(about[3 * i + 1]), about[3 * i + 2]) for i in range(count)]

    @operation
    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        grid = _three(grid, "grid", (2**31 - 1, 65535, 65535))
        block = _three(block, "block", (1024, 1024, 64))
        if block[0] * block[1] * block[2] > 1024:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument (block {block})")
        if shared_mem:
            raise NotImplementedError("the stand-in knows static shared memory alone")
        if len(args) != len(self._parameters):
            raise TypeError(f"{self.name} takes {len(self._parameters)} arguments, not {len(args)}")
        values = [self._value(i, x) for i, x in enumerate(args)]
        addresses = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(value) for value in values))
        if not self._machine.launching():
            return
        self._machine.launched.append(self.name)
        _check(self._launch(addresses, (ctypes.c_uint * 6)(*grid, *block)), self.name)
        for x in args:
            if isinstance(x, BaseArray):
                x.data.mem.check_guards(f"{self.name}, argument {_place(args, x)}")

    def _value(self, i: int, x: Any) -> Any:
        """Return a C object with the bytes that CuPy hands over for the i-th argument."""
        is_pointer, kind, size = self._parameters[i]
        if x is None or isinstance(x, (BaseArray, MemoryPointer)):
            if not is_pointer:
                raise TypeError(f"{self.name}: argument {i} is a pointer, the parameter is not")
            if isinstance(x, BaseArray):
                self._check_elements(i, x.dtype, kind, size)
            return ctypes.c_void_p(None if x is None else x.ptr if isinstance(x, MemoryPointer) else x.data.ptr)
        if not is_number(x):
            self._check_struct(x, kind)
        value = np.asarray(x)
        if is_pointer:
            kind, size = "i", 8
        fits = {"b": "b", "i": "iu", "c": "iu", "f": "f", "s": "fVc"}[kind]
        if value.itemsize != size or value.dtype.kind not in fits:
            wanted = (
                "a pointer" if is_pointer else {"f": "a float", "b": "a bool", "s": "a struct"}.get(kind, "an integer")
            )
            raise TypeError(
                f"{self.name}: argument {i} is a {type(x).__name__} of {value.itemsize} bytes, the parameter {wanted} "
                f"of {size}: a device would read something else"
            )
        return (ctypes.c_char * size).from_buffer_copy(value.tobytes())

    @staticmethod
    def _check_struct(x: Any, kind: str) -> None:
        """A structure goes by value as a NumPy array of one element."""
        if not isinstance(x, np.ndarray) or (x.size == 1 and kind != "s"):
            raise TypeError(f"Unsupported type {type(x)}")
        if x.size != 1:
            raise TypeError(
                f"You are trying to pass a numpy.ndarray of shape {x.shape} as a kernel parameter. Only numpy.ndarrays "
                "of size one can be passed by value."
            )

    def _check_elements(self, i: int, dtype: np.dtype, kind: str, size: int) -> None:
        kinds = {"b": "b", "c": "biu", "i": "iu", "f": "f", "s": "fVc", "v": dtype.kind}[kind]
        if kind not in "vc" and (dtype.itemsize != size or dtype.kind not in kinds):
            raise TypeError(
                f"{self.name}: argument {i} is an array of {dtype}, the parameter points to elements of {size} bytes"
                f" ({kind}): a device would read something else"
            )


def _place(args: Any, x: Any) -> int:
    return next(i for i, y in enumerate(args) if y is x)


class RawModule:
    """cupy.RawModule, from a source."""

    _machine: Machine

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Any = None,
        jitify: Any = None,
    ):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None or backend != "nvrtc" or translate_cucomplex or enable_cooperative_groups or jitify:
            raise NotImplementedError("the stand-in compiles code, with no extras")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
        self.code, self.options, self.backend = code, options, backend
        self.name_expressions = tuple(name_expressions) if name_expressions is not None else None
        self._functions: dict[str, _Function] = {}
        self._lock = threading.Lock()

    def compile(self, log_stream: Any = None) -> None:
        self._compiled()

    def _compiled(self) -> tuple[ctypes.PyDLL, dict[str, str]]:
        self._machine.check()
        assert self.code is not None
        names = (
            self.name_expressions
            if self.name_expressions is not None
            else tuple(dict.fromkeys(KERNEL.findall(self.code)))
        )
        waits = "true" if "__syncthreads" in self.code else "false"
        entries = "".join(f"SIMULATED_KERNEL({i}, {waits}, {name})\n" for i, name in enumerate(names))
        library = _library(self.code, self.options, entries)
        return library, {name: str(i) for i, name in enumerate(names)}

    def get_function(self, name: str) -> _Function:
        with self._lock:
            if name not in self._functions:
                library, labels = self._compiled()
                if name not in labels or (self.name_expressions is None and not hasattr(library, name)):
                    raise CUDADriverError(f'CUDA_ERROR_NOT_FOUND: named symbol not found ({name}; is it extern "C"?)')
                self._functions[name] = _Function(self._machine, name, library, labels[name])
            return self._functions[name]


class RawKernel:
    """cupy.RawKernel: one kernel of a source."""

    _machine: Machine

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **more: Any):
        module = type("RawModule", (RawModule,), {"_machine": self._machine})
        self._module = module(code=code, options=options, backend=backend, **more)
        self.name = name

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        self._module.get_function(self.name)(grid, block, args, shared_mem=shared_mem)

    def compile(self, log_stream: Any = None) -> None:
        self._module.get_function(self.name)


# ----------------------------------------------------------------------------------------------------------------------
# Elementwise kernels
# ----------------------------------------------------------------------------------------------------------------------

LOOP = """
#include <cupy/carray.cuh>
{bfloat16}
{types}
{preamble}
extern "C" int simulated_elementwise(const CParameter* _p, ptrdiff_t _count, ptrdiff_t _ndim, const ptrdiff_t* _shape)
{{
  return simulated::guarded([&] {{
    CIndexer _ind;
    _ind.size_ = _count;
    {heads}
    {loop_prep};
    for (ptrdiff_t i = _count; i-- > 0;) {{
      ptrdiff_t _left = i;
      for (ptrdiff_t axis = _ndim; axis-- > 0; _left /= _shape[axis]) _ind.index_[axis] = _left % _shape[axis];
      {elements}
      {operation};
    }}
    {after_loop};
    return 0;
  }});
}}
"""


class _Parameter(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_ssize_t),
        ("size", ctypes.c_ssize_t),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
    )


class _Declared:
    """A parameter as an elementwise kernel declares it: "T x", "raw float32 y"."""

    def __init__(self, text: str, is_const: bool):
        words = text.split()
        self.raw = "raw" in words[:-2]
        if len(words) < 2 or not set(words[:-2]) <= {"raw", "_non_const"}:
            raise RuntimeError(f"Failed to parse the parameter {text!r}")
        self.type, self.name = words[-2:]
        if self.name in ("i", "n", "_ind") or self.name.startswith("_"):
            raise ValueError(f"Can not use reserved names: {self.name}")
        self.dtype = None if len(self.type) == 1 else check_dtype(self.type)
        self.const = "const " if is_const else ""


class ElementwiseKernel:
    """cupy.ElementwiseKernel."""

    _machine: Machine
    _array: type[BaseArray]

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        reduce_dims: bool = True,
        preamble: str = "",
        no_return: bool = False,
        return_tuple: bool = False,
        **kwargs: Any,
    ):
        unknown = set(kwargs) - {"options", "loop_prep", "after_loop"}
        if unknown:
            raise TypeError(f"Wrong arguments {sorted(unknown)}")
        self.ins, self.outs = (
            [_Declared(text, is_const) for text in params.split(",") if text.strip()]
            for params, is_const in ((in_params, True), (out_params, False))
        )
        names = [p.name for p in self.ins + self.outs]
        if len(set(names)) < len(names):
            raise ValueError("Some parameters have one name")
        self.nin, self.nout, self.nargs = len(self.ins), len(self.outs), len(names)
        self.operation, self.name, self.preamble = operation, name, preamble
        self.no_return, self.return_tuple, self.kwargs = no_return, return_tuple, kwargs

    @operation
    def __call__(self, *args: Any, size: int | None = None, block_size: int = 128) -> Any:
        self._machine.check()
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(f"{self.name} takes {self.nin} or {self.nargs} arguments, not {len(args)}")
        for x in args:
            if not (isinstance(x, BaseArray) or is_number(x)):
                raise TypeError(f"Unsupported type {type(x)}")
        ins, outs = args[: self.nin], args[self.nin :]
        types = self._types(ins, outs)
        shape = self._shape(ins, outs, size)
        made = list(outs)
        for p in self.outs if not outs else []:
            if p.raw and size is None:
                raise ValueError("Output array size is Undecided")
            made.append(self._array(shape, types[p.type] if p.dtype is None else p.dtype))
        self._run([*ins, *made], types, shape)
        if self.no_return:
            return None
        return made[0] if len(made) == 1 and not self.return_tuple else tuple(made)

    def _types(self, ins: Any, outs: Any) -> dict[str, np.dtype]:
        """Return what each letter stands for: the dtype of the arrays; numbers have no say."""
        types: dict[str, np.dtype] = {}
        for p, x in [*zip(self.outs, outs), *zip(self.ins, ins, strict=True)]:  # noqa: B905
            if not isinstance(x, BaseArray):
                if p in self.outs:
                    raise TypeError("Output arguments must be cupy.ndarray")
                continue
            wanted = p.dtype if p.dtype is not None else types.setdefault(p.type, x.dtype)
            if wanted != x.dtype:
                raise TypeError(f"Type is mismatched. {p.name} {x.dtype} {wanted} {p.type}")
        for p in self.ins + self.outs:
            if p.dtype is None and p.type not in types:
                raise TypeError(f"{self.name}: nothing says which type {p.type!r} is")
        return types

    def _shape(self, ins: Any, outs: Any, size: int | None) -> tuple[int, ...]:
        dense = [x.shape for p, x in zip(self.ins, ins, strict=True) if not p.raw and isinstance(x, BaseArray)]
        given = [x.shape for p, x in zip(self.outs, outs, strict=bool(outs)) if not p.raw]
        if size is not None:
            if dense or given:
                raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
            return (size,)
        if not dense and not given:
            if all(isinstance(x, BaseArray) for x in ins) and ins:
                raise ValueError("Loop size is undecided.")
            return ()
        shape = np.broadcast_shapes(*dense, *given)
        for out in given:
            if out != shape:
                raise ValueError(f"Out shape is mismatched: {out} and {shape}")
        return shape

    def _run(self, args: list[Any], types: dict[str, np.dtype], shape: tuple[int, ...]) -> None:
        kept: list[Any] = []  # alive until the loop is through

        def integers(values: Any) -> int:
            kept.append((ctypes.c_ssize_t * max(len(values), 1))(*values))
            return ctypes.addressof(kept[-1])

        descriptions, arrays = [], []
        for p, x in zip(self.ins + self.outs, args, strict=True):
            if isinstance(x, BaseArray):
                host = x._host if p.raw else np.broadcast_to(x._host, shape)
                arrays.append((p.name, x))
                place = (x.data.ptr, host.ndim, host.size, integers(host.shape), integers(host.strides))
            else:
                number = np.asarray(x).astype(types[p.type] if p.dtype is None else p.dtype)
                kept.append(number)
                place = (number.ctypes.data, 0, 1, integers(()), integers(()))
            descriptions.append(_Parameter(*place))
        library = _library(self._source(args, types), tuple(self.kwargs.get("options", ())))
        if not self._machine.launching():
            return
        self._machine.launched.append(self.name)
        count = int(np.prod(shape, dtype=int))
        table = (_Parameter * max(len(descriptions), 1))(*descriptions)
        sizes = (ctypes.c_ssize_t * max(len(shape), 1))(*shape)
        _check(
            library.simulated_elementwise(table, ctypes.c_ssize_t(count), ctypes.c_ssize_t(len(shape)), sizes),
            self.name,
        )
        for name, x in arrays:
            x.data.mem.check_guards(f"{self.name}, parameter {name}")

    def _source(self, args: list[Any], types: dict[str, np.dtype]) -> str:
        def c_type(p: _Declared) -> str:
            return p.type if p.dtype is None else C_TYPES[p.dtype.name]

        heads, elements = [], []  # what stands before the loop, and in it
        for k, (p, x) in enumerate(zip(self.ins + self.outs, args, strict=True)):
            kind = p.const + c_type(p)
            if not isinstance(x, BaseArray):
                heads.append(f"const {c_type(p)} {p.name} = *(const {c_type(p)}*)_p[{k}].data;")
            elif p.raw:
                heads.append(f"CArray<{kind}> {p.name}(_p[{k}]);")
            else:
                elements.append(f"{kind} &{p.name} = *({kind}*)_p[{k}].at(_ind);")
        return LOOP.format(
            bfloat16="#include <cupy/bfloat16.cuh>" if any(t.name == "bfloat16" for t in types.values()) else "",
            types="\n".join(f"typedef {C_TYPES[dtype.name]} {letter};" for letter, dtype in types.items()),
            preamble=self.preamble,
            heads="\n    ".join(heads),
            loop_prep=self.kwargs.get("loop_prep", ""),
            elements="\n      ".join(elements),
            operation=self.operation,
            after_loop=self.kwargs.get("after_loop", ""),
        )


def kernel_classes(machine: Machine, array: type[BaseArray]) -> dict[str, Any]:
    """Return the classes of kernels of one machine."""
    own = {"_machine": machine, "_array": array, "__module__": "cupy"}
    return {cls.__name__: type(cls.__name__, (cls,), own) for cls in (RawModule, RawKernel, ElementwiseKernel)}
