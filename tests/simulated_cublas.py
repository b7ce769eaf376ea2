"""A stand-in for libcublas on the simulated CuPy, which the kernels call as they call NVIDIA's.

    library = simulated_cublas.install(monkeypatch, cupy)      # cupy: that of simulated_gpu
    ...
    library.calls              # the products that were asked for
    assert not library.problems, library.problems

Its functions are C functions with the arguments of NVIDIA's header. Each checks what it is asked as the library does,
and what only a sanitizer would see: whose handle it is, that matrices and workspace lie in arrays that live. What is
wrong is in `problems`, and answered with an error. While a stream captures, products are recorded. Each overwrites its
workspace.
"""

import ctypes
import importlib
import threading

import numpy as np

from dezero.kernels.gpu import cublas

STATUS = {0: "SUCCESS", 1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 13: "EXECUTION_FAILED"}
KINDS = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}  # cudaDataType_t
COMPUTE = {68: "float32", 77: "float32", 70: "float64"}  # cublasComputeType_t

# The arguments of cublas_api.h: p pointer or handle, i int or enum, l 64 bits, z size_t
PROTOTYPES = {
    "cublasCreate_v2": "p",
    "cublasSetMathMode": "pi",
    "cublasSetStream_v2": "pp",
    "cublasSetWorkspace_v2": "ppz",
    "cublasGetVersion_v2": "pp",
    "cublasGetStatusName": "i",
    "cublasGetStatusString": "i",
    "cublasGemmEx": "piiiiippiipiippiiii",
    "cublasGemmEx_64": "piilllppilpilppilii",
    "cublasGemmStridedBatchedEx": "piiiiippiilpiilppiiliii",
    "cublasGemmStridedBatchedEx_64": "piilllppillpillppilllii",
}
LETTERS = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "z": ctypes.c_size_t}


class Handle:
    """cublasHandle_t: for one device, and one thread at a time."""

    def __init__(self, device):
        self.device, self.stream, self.thread, self.workspace, self.math_mode = device, 0, None, None, 0


class Call:
    """A product that was asked for: what is A and B to cuBLAS, and to us b and a."""

    def __init__(self, handle, **arguments):
        self.handle, self.stream, self.workspace = handle, handle.stream, handle.workspace
        vars(self).update(arguments)


class StandIn:
    """What ctypes.CDLL returns for libcublas, as far as it is needed, and what was asked of it."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.handles, self.calls, self.problems, self.answers = [], [], [], {}
        self.words = [ctypes.c_char_p(b"CUBLAS_STATUS_" + name.encode()) for name in STATUS.values()]
        self.kept = {}
        for name, letters in PROTOTYPES.items():
            kind = ctypes.CFUNCTYPE(ctypes.c_void_p if "Status" in name else ctypes.c_int, *map(LETTERS.get, letters))
            self.kept[name] = kind(self._guarded(name))
            address = ctypes.cast(self.kept[name], ctypes.c_void_p).value
            vars(self)[name] = ctypes.CDLL(None)._FuncPtr(address)  # as the loader gives it: nothing is declared

    def _guarded(self, name):
        short = name.removeprefix("cublas").removesuffix("_v2").removesuffix("_64")
        method = getattr(self, {"GetStatusString": "GetStatusName"}.get(short, short))

        def call(*args):
            if name in self.answers:
                return self.answers[name]
            try:
                return method(*args) or 0
            except BaseException as error:  # ctypes would print it and go on
                self.problems.append(error)
                return 7

        return call

    def Create(self, place):
        self.handles.append(Handle(self.cupy.cuda.Device().id))
        ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))[0] = 1000 + len(self.handles)

    def _handle(self, number):
        handle = self.handles[number - 1001]
        assert handle.device == self.cupy.cuda.Device().id, "another device's handle"
        thread = handle.thread
        assert thread is None or thread is threading.current_thread() or not thread.is_alive(), (
            "another thread's handle"
        )
        handle.thread = threading.current_thread()
        return handle

    def SetMathMode(self, handle, mode):
        self._handle(handle).math_mode = mode

    def SetStream(self, handle, stream):
        handle = self._handle(handle)
        handle.stream, handle.workspace = stream or 0, None

    def SetWorkspace(self, handle, pointer, size):
        assert pointer % 256 == 0
        self._handle(handle).workspace = (pointer, size)

    def GetVersion(self, handle, place):
        self._handle(handle)
        ctypes.cast(place, ctypes.POINTER(ctypes.c_int))[0] = 130102

    def GetStatusName(self, number):
        words = self.words[list(STATUS).index(number)] if number in STATUS else ctypes.c_char_p(b"unknown")
        return ctypes.cast(words, ctypes.c_void_p).value

    def GemmEx(self, h, ta, tb, m, n, k, alpha, A, At, lda, B, Bt, ldb, beta, C, Ct, ldc, compute, algorithm):
        self._multiply(
            h, ta, tb, m, n, k, alpha, (A, At, lda, 0), (B, Bt, ldb, 0), beta, (C, Ct, ldc, 0), 0, compute, algorithm
        )

    def GemmStridedBatchedEx(
        self, h, ta, tb, m, n, k, alpha, A, At, lda, sa, B, Bt, ldb, sb, beta, C, Ct, ldc, sc, count, compute, algorithm
    ):
        assert count > 1
        self._multiply(
            *(h, ta, tb, m, n, k, alpha, (A, At, lda, sa), (B, Bt, ldb, sb), beta, (C, Ct, ldc, sc), count),
            *(compute, algorithm),
        )

    def _multiply(self, h, ta, tb, m, n, k, alpha, A, B, beta, C, count, compute, algorithm):
        handle = self._handle(h)
        assert handle.math_mode == 16
        assert handle.stream == self.cupy.cuda.get_current_stream().ptr
        assert {ta, tb} <= {0, 1}
        assert min(m, n, k) > 0
        assert A[1] == B[1] == C[1], "types differ"
        dtype = np.dtype(KINDS[A[1]])
        factor = ctypes.c_double if compute == 70 else ctypes.c_float
        assert COMPUTE[compute] == ("float64" if dtype == "float64" else "float32")
        alpha, beta = (ctypes.cast(p, ctypes.POINTER(factor))[0] for p in (alpha, beta))
        assert (alpha, algorithm) == (1, -1)
        assert beta in (0, 1)
        assert A[2] >= (k if ta else m), "lda"
        assert B[2] >= (n if tb else k), "ldb"
        assert C[2] == m, "y is in C order"
        assert not count or abs(C[3]) >= m * n, "matrices of y overlap"
        scratch = self._view(*handle.workspace, (handle.workspace[1],), np.uint8)
        a = self._matrices(A, (k, m) if ta else (m, k), count, dtype)
        b = self._matrices(B, (n, k) if tb else (k, n), count, dtype)
        c = self._matrices(C, (m, n), count, dtype)
        a, b = (x.swapaxes(-1, -2) if turned else x for x, turned in ((a, ta), (b, tb)))
        self.calls.append(
            Call(handle, transposed=(tb, ta), sizes=(n, k, m), count=count, compute=compute, beta=beta, a=B, b=A)
        )

        def work():
            scratch[...] = 0xFF
            old = c.astype(COMPUTE[compute]) if beta else 0
            c[...] = a.astype(COMPUTE[compute]) @ b.astype(COMPUTE[compute]) + old

        importlib.import_module("simulated_gpu").machine_of(self.cupy).record(work)

    def _matrices(self, place, shape, count, dtype):
        """What lies there in Fortran's order, a batch of it first."""
        pointer, _, leading, step = place
        assert step >= 0
        shape, strides = (count or 1, *shape), (step, 1, leading)
        return self._view(pointer, 0, shape, dtype, [s * dtype.itemsize for s in strides])

    def _view(self, pointer, size, shape, dtype, strides=None):
        simulated = importlib.import_module("simulated_gpu")
        assert simulated.machine_of(self.cupy).find(pointer, size or 1).device_id == self.cupy.cuda.Device().id
        return simulated.host_view(self.cupy, pointer, shape, dtype, strides)


def install(patch, cupy, workspace=2**10):
    """Put a stand-in where the kernels look for the library of this CuPy, and return it; `patch` is a MonkeyPatch."""
    library = StandIn(cupy)
    patch.delenv("DEZERO_CUBLAS", raising=False)
    patch.setattr(cublas, "load", lambda name, version: library)
    patch.setattr(cublas, "WORKSPACE", workspace)
    cublas.reset()
    return library
