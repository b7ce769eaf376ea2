"""`python -m dezero.cuda`: what there is of a GPU and its libraries, and a small test of it against the CPU."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dezero import cuda, kernels, optimizers, random
from dezero import functions as F
from dezero import layers as L
from dezero.core import Variable, no_grad, using_config
from dezero.kernels.gpu import cublas, cudnn
from dezero.models import Sequential

TOLERANCE = 1e-4  # of float32, relative to the largest number of a result; TF32 has three digits
TOLERANCE_TF32 = 1e-2


def info() -> str:
    """Say, a line each, which device, driver and libraries there are, and what convolves, and why.

    Without a GPU it says what is missing.

    >>> print(info())  # doctest: +ELLIPSIS
    device ...
    """
    lines = dict(_lines())
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def _lines() -> Iterator[tuple[str, str]]:
    cupy, reason = cuda.find_gpu()
    if cupy is None:
        yield "device", f"none: {reason}"
        with contextlib.suppress(Exception):  # without a device CuPy need not answer
            yield from _lines_of_cupy(sys.modules["cupy"])
    else:
        yield from _lines_of_gpu(cupy)
    settings = (f"{name} {getattr(cuda, name)}" for name in ("allow_tf32", "deterministic", "channels_last"))
    yield "settings", ", ".join(settings)
    yield "versions", f"dezero {_version()}, NumPy {np.__version__}, Python {platform.python_version()}"


def _version() -> str:
    return sys.modules["dezero"].__version__


def _lines_of_gpu(cupy: Any) -> Iterator[tuple[str, str]]:
    runtime = cupy.cuda.runtime
    current = cupy.cuda.Device().id
    for i in range(runtime.getDeviceCount()):
        of = runtime.getDeviceProperties(i)  # which wakes no other device up
        name = of["name"].decode() if isinstance(of["name"], bytes) else of["name"]
        memory = f"{cuda.as_size(of['totalGlobalMem'])} of memory"
        if i == current:
            memory += f", {cuda.as_size(cupy.cuda.Device(i).mem_info[0])} free"
        here = " (current)" if i == current else ""
        yield f"device {i}{here}", f"{name}, capability {of['major']}.{of['minor']}, {memory}"
    yield from _lines_of_cupy(cupy)
    serves, line = cublas.status()
    how = line if serves else f"cuBLAS as CuPy calls it, because {line}; steps with products cannot be captured"
    yield "products", f"{how}; float32 in {'TF32' if cuda.allow_tf32 else 'float32'}"
    serves, line = cudnn.status()
    yield "convolutions", line if serves else f"im2col and cuBLAS, because {line}"
    yield "bfloat16", "yes" if _has_bfloat16(cupy) else "no: it needs CuPy 14 and the package ml_dtypes"


def _lines_of_cupy(cupy: Any) -> Iterator[tuple[str, str]]:
    runtime = cupy.cuda.runtime
    driver, toolkit = map(cuda.as_cuda_version, (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    yield "CUDA", f"{f'the driver is for {driver}' if driver != '0.0' else 'no driver'}, CuPy for {toolkit}"
    yield "CuPy", f"{cupy.__version__}{_wheel()}"


def _wheel() -> str:
    """Which of CuPy's packages is installed; two of them at once get in each other's way."""
    found = [name for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy") if _is_installed(name)]
    return f" ({' and '.join(found)}{': remove one' if len(found) > 1 else ''})" if found else ""


def _is_installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def _has_bfloat16(cupy: Any) -> bool:
    return int(cupy.__version__.partition(".")[0]) >= 14 and importlib.util.find_spec("ml_dtypes") is not None


# ----------------------------------------------------------------------------------------------------------------------
# The test
# ----------------------------------------------------------------------------------------------------------------------


def self_test() -> Iterator[tuple[str, float]]:
    """Yield (what was computed, the largest difference between GPU and CPU relative to the largest number).

    Values and gradients in float32, of what small networks are made of, and three steps of training one.
    """
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x, W = numbers(4, 8, 12, 12), numbers(8, 8, 3, 3)
    t = rng.integers(0, 10, 16)
    yield "conv2d", _difference(lambda x, W, b: F.conv2d(x, W, b, 1, 1), x, W, numbers(8))
    yield (
        "conv2d, groups, dilation",
        _difference(lambda x, W: F.conv2d(x, W, None, 2, 2, dilation=2, groups=4), x, numbers(8, 2, 3, 3)),
    )
    yield "deconv2d", _difference(lambda x, W, b: F.deconv2d(x, W, b, 2, 1), x, W, numbers(8))
    yield "max pooling", _difference(lambda x: F.pooling(x, 3, 2, 1), x)
    yield "average pooling", _difference(lambda x: F.average_pooling(x, 2, 2), x)
    yield (
        "batch norm",
        _difference(
            lambda x, g, b: F.batch_norm(x, g, b, *(cuda.as_owned_by(x.data, np.ones(8, np.float32)) for _ in "mv")),
            *(x, numbers(8), numbers(8)),
        ),
    )
    yield (
        "linear, relu",
        _difference(lambda x, W, b: F.relu(F.linear(x, W, b)), numbers(64, 32), numbers(32, 16), numbers(16)),
    )
    yield (
        "softmax cross entropy",
        _difference(lambda x: F.softmax_cross_entropy(x, cuda.as_owned_by(x.data, t)), numbers(16, 10)),
    )
    yield "embedding", _difference(lambda W: F.embedding(cuda.as_owned_by(W.data, t), W), numbers(10, 6))
    yield "three steps of training", _difference_of_training(x)


def _difference(f: Callable[..., Any], *arrays: Any) -> float:
    """Compare f's value, and its gradients for a random cotangent, on the two sides."""
    arrays = tuple(x.astype(np.float32) for x in arrays)
    on_cpu, on_gpu = (_value_and_gradients(f, list(map(place, arrays))) for place in (cuda.as_numpy, cuda.as_cupy))
    return max(map(_apart, on_cpu, on_gpu))


def _value_and_gradients(f: Callable[..., Any], arrays: list[Any]) -> list[Any]:
    xs = list(map(Variable, arrays))
    y = f(*xs)
    cotangent = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    (y * cuda.as_owned_by(y.data, cotangent)).sum().backward()
    return [cuda.as_numpy(y), *(cuda.as_numpy(x.grad) for x in xs)]


def _difference_of_training(x: Any) -> float:
    return max(map(_apart, *(_train(x, gpu) for gpu in (False, True))))


def _train(x: Any, gpu: bool) -> list[Any]:
    """Return the parameters after three steps: the same on both sides, where weights are drawn alike."""
    with random.recording() as draws:
        pass  # where the source stands
    with random.replaying(draws):
        model = Sequential(L.Conv2d(4, 3, pad=1, nobias=True), L.BatchNorm(), F.relu, F.flatten, L.Linear(10))
        with no_grad(), using_config("train", False):
            model(x[:1])
    optimizer = optimizers.MomentumSGD(0.1).setup(model)
    place = cuda.as_cupy if gpu else cuda.as_numpy
    if gpu:
        model.to_gpu()
    for _ in range(3):
        loss = F.softmax_cross_entropy(model(place(x)), place(np.arange(len(x))))
        model.cleargrads()
        loss.backward()
        optimizer.update()
    return [cuda.as_numpy(param) for param in model.params()]


def _apart(y: Any, z: Any) -> float:
    return float(np.abs(y - z).max() / max(np.abs(y).max(), 1e-30))


def main() -> None:
    """Print `info()` and the self-test. Exits with 1 where there is no GPU, or one that computes something else."""
    print(info())
    if not cuda.gpu_enable:
        sys.exit(1)
    tolerance = TOLERANCE_TF32 if cuda.allow_tf32 else TOLERANCE
    print(f"\nthe GPU beside the CPU (largest relative difference, at most {tolerance:.0e}):")
    failed = 0
    with kernels.using_kernels("reference"):
        for name, apart in self_test():
            good = apart <= tolerance
            failed += not good
            print(f"  {name:26} {apart:.1e}  {'ok' if good else 'WRONG'}")
    print("all is well" if not failed else f"{failed} results are wrong: see the versions above")
    sys.exit(1 if failed else 0)
