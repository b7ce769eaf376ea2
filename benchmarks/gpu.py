"""How fast is dezero on one GPU, beside PyTorch on the same one?

    python benchmarks/gpu.py --out gpu.md --out gpu.json     # under four minutes, by estimate
    python benchmarks/gpu.py --quick --only cnn --only conv

Everything runs in one process, on the default stream of both libraries, from the same arrays and weights, with the same
setting of TF32 (--tf32; without it, products are float32's). Contenders take turns, a block of steps between two waits
in each round. README.md beside this file says how to read the figures. Exits with 1 when a contender of ours failed, or
computed something else than PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import functools
import gc
import importlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_with_dezero
import numpy as np
from gpu_tables import Figures, Row, as_json, as_markdown, problems
from gpu_workloads import (
    CAPTURED,
    CHANNELS_LAST,
    OURS,
    TORCH,
    TORCH_COMPILED,
    TORCH_FUSED,
    TORCH_GRAPH,
    Work,
    Workload,
    arrays_of,
    table,
)
from report import number

from dezero import cuda
from dezero.files import open_whole

CHECKED = 6  # steps whose results are compared: those that warm up, the one that is captured, and replays
REPEAT = 10  # convolutions in a graph: what it costs to start one is shared
# Few steps at a time, from an idle device: the driver's queue of about a thousand launches must not fill up, or Python
# would wait for the device.
PYTHON_STEPS, PYTHON_BLOCKS = 2, 30
PROFILED = 3  # steps


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Contenders -----------------------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """A name, and a workload made ready; `repeat` is how often the workload is done by one call."""

    name: str
    work: Work
    repeat: int = 1

    def __call__(self) -> Any:
        return self.work.step(*self.work.batch)


def makers(workload: Workload, torch: Any, options: Any) -> dict[str, Callable[[Any], Contender]]:
    """Return what makes each contender of a workload, from the workload's arrays."""
    spec = workload.spec
    repeat = REPEAT if workload.group == "conv" else 1

    def ours(arrays: Any) -> Contender:
        return Contender(OURS, gpu_with_dezero.prepare(spec, arrays))

    def captured(arrays: Any) -> Contender:
        work = gpu_with_dezero.prepare(spec, arrays, repeat)
        return Contender(CAPTURED, work._replace(step=cuda.capture(work.step)), repeat)

    def channels_last(arrays: Any) -> Contender:
        contender = captured(arrays)
        return Contender(CHANNELS_LAST, contender.work._replace(step=with_channels_last(contender.work.step)))

    if workload.group == "order":
        return {CAPTURED: captured, CHANNELS_LAST: channels_last}
    found = {OURS: ours, CAPTURED: captured}
    if torch is None:
        return found
    side = importlib.import_module("gpu_with_torch")

    def graphed(arrays: Any) -> Contender:
        work = side.prepare(spec, arrays, repeat, capturable=True)
        return Contender(TORCH_GRAPH, work._replace(step=side.Graphed(work.step)), repeat)

    def compiled(arrays: Any) -> Contender:
        torch._dynamo.reset()  # each batch size is compiled for itself
        return Contender(TORCH_COMPILED, side.prepare(spec, arrays, compiled=True))

    found |= {TORCH: lambda arrays: Contender(TORCH, side.prepare(spec, arrays)), TORCH_GRAPH: graphed}
    if workload.group == "cnn" and not options.quick:
        found[TORCH_COMPILED] = compiled
    if workload.group == "lstm":
        found[TORCH_FUSED] = lambda arrays: Contender(TORCH_FUSED, side.fused_lstm(spec, arrays))
    return found


def with_channels_last(step: Any) -> Any:
    @functools.wraps(step)
    def call(*batch: Any) -> Any:
        cuda.channels_last = True
        try:
            return step(*batch)
        finally:
            cuda.channels_last = False

    return call


@contextlib.contextmanager
def precision_of(workload: Workload) -> Iterator[None]:
    """Let float32 be TF32 for the rows that ask for it."""
    before = cuda.allow_tf32
    cuda.allow_tf32 = before or workload.spec.get("precision") == "TF32"
    try:
        yield
    finally:
        cuda.allow_tf32 = before


def find_torch() -> tuple[Any, str]:
    """Return (PyTorch's module, "") where it finds the GPU, and (None, the reason why not) elsewhere."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    if not torch.cuda.is_available():
        return None, "PyTorch finds no GPU"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cuda.allow_tf32
    return torch, ""


# Timing ---------------------------------------------------------------------------------------------------------------


def measure(workload: Workload, torch: Any, options: Any) -> Row:
    """Make all contenders ready, compare what they compute, and time them in turns."""
    row = Row(workload.name, workload.group, workload.images)
    arrays = arrays_of(workload.spec)
    ready, results = [], {}
    for name, make in makers(workload, torch, options).items():
        row.figures[name] = Figures()
        try:
            contender = make(arrays)
            results[name] = first_results(contender)
            count = steps_of_a_block(contender, options.seconds)
        except Exception as error:  # the others go on
            row.figures[name].error = in_short(error)
            continue
        ready.append((contender, count))
    compare(row, results)
    for turn in range(options.rounds):
        for contender, count in ready if turn % 2 == 0 else ready[::-1]:
            events, clock = block(contender, count)
            row.figures[contender.name].events.append(events)
            row.figures[contender.name].clock.append(clock)
    for contender, _ in ready:
        figures = row.figures[contender.name]
        if workload.group != "conv":
            figures.python = python_time(contender)
        if contender.name in (CAPTURED, CHANNELS_LAST):
            figures.kernels, figures.copies = nodes_of(contender)
    return row


def first_results(contender: Contender) -> list[dict[str, np.ndarray]]:
    """Return what the first steps computed: the loss of each, of a convolution what the last one left."""
    found = []
    for step in range(CHECKED):
        out = contender()
        if out is not None or step == CHECKED - 1:
            found.append(contender.work.read(out))  # now: a graph's next replay writes over it
    return found


def in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]


def block(contender: Contender, count: int) -> tuple[float, float]:
    """Time `count` calls between two waits, and return milliseconds a step: by events on the device, and by our clock.

    The events are CuPy's for everyone: both libraries work on the default stream.
    """
    start, end = cuda.cupy.cuda.Event(), cuda.cupy.cuda.Event()
    wait()
    began = time.perf_counter()
    start.record()
    for _ in range(count):
        contender()
    end.record()
    end.synchronize()
    clock = 1000 * (time.perf_counter() - began)
    steps = count * contender.repeat
    return cuda.cupy.cuda.get_elapsed_time(start, end) / steps, clock / steps


def wait() -> None:
    cuda.cupy.cuda.Device().synchronize()


def steps_of_a_block(contender: Contender, seconds: float) -> int:
    """Warm up, and return how many calls take about `seconds`."""
    block(contender, 3)
    ms = max(block(contender, 3)) * contender.repeat
    return max(3, min(5000, math.ceil(1000 * seconds / max(ms, 1e-3))))


def python_time(contender: Contender) -> float:
    """Milliseconds until a step's Python has returned; the device may still be at work then."""
    times = []
    for _ in range(PYTHON_BLOCKS):
        wait()
        start = time.perf_counter()
        for _ in range(PYTHON_STEPS):
            contender()
        times.append(1000 * (time.perf_counter() - start) / PYTHON_STEPS)
    wait()
    return statistics.median(times)


# Equal work -----------------------------------------------------------------------------------------------------------


def compare(row: Row, results: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Note how far everyone's results are from PyTorch's, or from our eager or captured ones without it."""
    reference = next((name for name in (TORCH, OURS, CAPTURED) if name in results), None)
    for name, steps in results.items():
        figures = row.figures[name]
        figures.first_loss = float(steps[0]["loss"]) if "loss" in steps[0] else None
        if reference is not None and name != reference:
            figures.difference = max(map(difference, steps, results[reference]))


def difference(results: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    return max(apart(results[name], expected[name]) for name in expected)


def apart(x: np.ndarray, expected: np.ndarray) -> float:
    if x.shape != expected.shape or not np.isfinite(x).all():
        return math.inf
    return float(np.abs(x - expected).max() / max(np.abs(expected).max(), 1e-30))


# Launches -------------------------------------------------------------------------------------------------------------

_KERNEL, _COPIES = 0, (1, 2)  # cuGraphNodeGetType's numbers: a kernel, a copy, memory that is set


def nodes_of(contender: Contender) -> tuple[float | None, float | None]:
    """Return how many kernels and how many copies a captured step has, by what the driver says of its graph."""
    with contextlib.suppress(Exception):  # a figure less
        driver = ctypes.CDLL("libcuda.so.1")
        recordings = [calls.recording for calls in contender.work.step.calls.values() if calls.recording]
        types = node_types(driver, recordings[0].graph.graph)
        kernels, copies = types.count(_KERNEL), sum(types.count(kind) for kind in _COPIES)
        return kernels / contender.repeat, copies / contender.repeat
    return None, None


def node_types(driver: Any, graph: int) -> list[int]:
    count, kind, types = ctypes.c_size_t(), ctypes.c_int(), []
    check(driver.cuGraphGetNodes(ctypes.c_void_p(graph), None, ctypes.byref(count)))
    nodes = (ctypes.c_void_p * count.value)()
    check(driver.cuGraphGetNodes(ctypes.c_void_p(graph), nodes, ctypes.byref(count)))
    for node in nodes:
        check(driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind)))
        types.append(kind.value)
    return types


def check(status: int) -> None:
    if status:
        raise RuntimeError(f"the driver answers {status}")


def count_launches(workload: Workload, row: Row, torch: Any, options: Any) -> None:
    """Note kernels, copies and the kernels' time of eager steps. PyTorch's profiler sees those of the whole process.

    It comes last, and the contenders are made anew for it, for two reasons: what it has started may go on to slow
    launches down, and it does not get on with graphs that are older than itself in every version of CUDA.
    """
    arrays = arrays_of(workload.spec)
    for name, make in makers(workload, torch, options).items():
        if name in (OURS, TORCH, TORCH_FUSED) and not row.figures[name].error:
            contender = make(arrays)
            for _ in range(CHECKED):
                contender()
            figures = row.figures[name]
            figures.kernels, figures.copies, figures.busy = profile(torch, contender)


def profile(torch: Any, contender: Contender) -> tuple[float, float, float]:
    kinds = torch.profiler.ProfilerActivity
    wait()
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profiler:
        for _ in range(PROFILED):
            contender()
        wait()
    of_device = [
        event
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not is_remark(event)
    ]
    if not of_device:
        raise RuntimeError("PyTorch's profiler saw no kernel")
    kernels = [event for event in of_device if not event.name.startswith(("Memcpy", "Memset"))]
    busy = sum(event.time_range.elapsed_us() for event in of_device) / 1000
    return len(kernels) / PROFILED, (len(of_device) - len(kernels)) / PROFILED, busy / PROFILED


def is_remark(event: Any) -> bool:
    """Say whether it is a span of time with a name, such as an optimizer's step, and no work of the device's."""
    return getattr(event, "is_user_annotation", False) or event.name.startswith(("Optimizer.", "ProfilerStep"))


# The command ----------------------------------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    groups = list(dict.fromkeys(workload.group for workload in table()))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=groups, action="append", metavar="NAME", help=f"of {', '.join(groups)}")
    parser.add_argument("--quick", action="store_true", help="a fast look: 3 short rounds, nothing compiled by PyTorch")
    parser.add_argument("--rounds", type=int, help="default: 7; 3 with --quick")
    parser.add_argument("--seconds", type=float, help="for each contender in each round (default: 0.1; quick: 0.03)")
    parser.add_argument("--tf32", action="store_true", help="let both round the factors of products to TF32")
    parser.add_argument("--out", type=Path, action="append", default=[], help="a .json or .md file; may be repeated")
    args = parser.parse_args()
    args.rounds = (3 if args.quick else 7) if args.rounds is None else args.rounds
    args.seconds = (0.03 if args.quick else 0.1) if args.seconds is None else args.seconds
    if args.rounds < 1 or not 0 < args.seconds < 60:
        parser.error("there must be at least 1 round, of more than 0 and less than 60 seconds")
    for path in args.out:
        if not path.absolute().parent.is_dir() or path.is_dir():
            parser.error(f"--out {path}: {'that is a folder' if path.is_dir() else 'there is no such folder'}")
    try:
        cuda.use_gpu()
    except RuntimeError as error:
        parser.error(str(error))
    return args


def main() -> int:
    options = parse_args()
    cuda.allow_tf32 = options.tf32
    torch, reason = find_torch()
    about, rows = facts(torch, reason, options), []
    workloads = [workload for workload in table() if not options.only or workload.group in options.only]
    for workload in workloads:
        start = time.perf_counter()
        with precision_of(workload):
            rows.append(measure(workload, torch, options))
        tidy_up(torch)
        save(rows, about, options.out)  # whoever stops this has what was measured
        times = ", ".join(f"{name} {number(rows[-1].ms(name))}" for name in rows[-1].figures)
        say(f"[{len(rows)}/{len(workloads)}, {time.perf_counter() - start:.0f} s] {workload.name}: {times} ms")
    for workload, row in zip(workloads, rows, strict=True):
        if torch and workload.group != "conv":
            try:
                count_launches(workload, row, torch, options)
            except Exception as error:
                about["notes"] = [f"launches were not counted: {row.name}: {in_short(error)}"]
                break
            tidy_up(torch)
    save(rows, about, options.out)
    print(as_markdown(rows, about), end="")
    return 1 if problems(rows, about) else 0


def save(rows: list[Row], about: dict[str, Any], paths: list[Path]) -> None:
    for path in paths:
        with open_whole(path) as file:
            file.write((as_json if path.suffix == ".json" else as_markdown)(rows, about).encode())


def facts(torch: Any, reason: str, options: Any) -> dict[str, Any]:
    """Where and with what the figures are made."""
    versions = dict(line.split("  ", 1) for line in cuda.info().splitlines())
    if torch:
        name = torch.cuda.get_device_name()
        cudnn = torch.backends.cudnn
        versions["PyTorch"] = (
            f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()} (benchmark {cudnn.benchmark}), "
            f"float32 in {'TF32' if cudnn.allow_tf32 else 'float32'}, on {name}"
        )
    else:
        versions["PyTorch"] = f"left out: {reason}"
    return {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "versions": {name.strip(): text.strip() for name, text in versions.items()},
        "tf32": cuda.allow_tf32,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "quick": options.quick,
    }


def tidy_up(torch: Any) -> None:
    """Give back what a workload took: models are cycles, and each library keeps memory for itself."""
    gc.collect()
    cuda.cupy.get_default_memory_pool().free_all_blocks()
    if torch:
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
