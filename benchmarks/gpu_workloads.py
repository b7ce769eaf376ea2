"""What gpu.py measures: workloads, the arrays they start from, and the bar.

A spec's `kind` is the name of a function in gpu_with_dezero.py and in gpu_with_torch.py; the rest are sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import inputs
import numpy as np

OURS, CAPTURED, CHANNELS_LAST = "dezero", "dezero captured", "dezero captured, channels last"
TORCH, TORCH_GRAPH, TORCH_COMPILED = "PyTorch", "PyTorch CUDA graph", "PyTorch compiled"
TORCH_FUSED = "PyTorch nn.LSTM"

# N, C, H = W, OC, kernel size, stride, pad
CONVOLUTIONS = {
    "LeNet, first": (128, 1, 28, 6, 5, 1, 2),
    "LeNet, second": (128, 6, 14, 16, 5, 1, 0),
    "MNIST CNN, second": (128, 32, 14, 64, 3, 1, 1),
    "ResNet-18 on 32x32": (128, 64, 32, 64, 3, 1, 1),
    "ResNet-50, first": (32, 3, 224, 64, 7, 2, 3),
    "ResNet-50, 1x1": (32, 64, 56, 256, 1, 1, 0),
    "ResNet-50, 3x3": (32, 128, 28, 128, 3, 1, 1),
    "ResNet-50, 3x3, stride 2": (32, 256, 28, 256, 3, 2, 1),
}
# Of these also with a bias and a relu, for which cuDNN has other plans.
RECTIFIED = ("MNIST CNN, second", "ResNet-18 on 32x32", "ResNet-50, 3x3", "ResNet-50, 3x3, stride 2")
# An epsilon so small that it does not matter that dezero's Adam adds it before v is corrected, and PyTorch's after.
ADAM = {"lr": 1e-4, "eps": 1e-12}
STAGES = (64, 128, 256, 512)  # channels of ResNet-18's stages, of two blocks each


class Workload(NamedTuple):
    """One row. `images` is how many a step works on, where images a second are asked for."""

    name: str
    group: str
    spec: dict[str, Any]
    images: int = 0


class Work(NamedTuple):
    """A workload made ready by one side: `step(*batch)` does it once, without waiting for the device.

    `read` turns what a step has returned, or left behind, into NumPy's arrays by name.
    """

    step: Callable[..., Any]
    batch: tuple[Any, ...]
    read: Callable[[Any], dict[str, np.ndarray]]


class Bar(NamedTuple):
    """The most that `ours` may take, as a part of `theirs`: a geometric mean over rows."""

    name: str
    rows: tuple[str, ...]
    ours: str
    theirs: str
    most: float


def table() -> list[Workload]:
    rows = [Workload(f"CNN, batch {N}", "cnn", {"kind": "cnn", "batch": N, **ADAM}, N) for N in (32, 128, 512)]
    # A larger rate than 1e-4 drives float32 apart: relus near 0 turn, which in float64 they do alike on both sides.
    rows.append(Workload("ResNet-18, batch 128", "resnet", {"kind": "resnet", "batch": 128, "lr": 1e-4}, 128))
    rows.append(Workload("MLP, batch 128", "mlp", {"kind": "mlp", "batch": 128, **ADAM}, 128))
    rows.append(Workload("LSTM, 30 steps", "lstm", {"kind": "lstm", "steps": 30, "batch": 32, "hidden": 128}))
    for row in rows[1], rows[3]:  # what the order of images in memory matters to
        for precision in ("TF32", "float16"):
            rows.append(Workload(f"{row.name}, {precision}", "order", {**row.spec, "precision": precision}, row.images))
    for name, sizes in CONVOLUTIONS.items():
        for backward in (False, True):
            spec = {"kind": "convolution", "sizes": sizes, "backward": backward}
            rows.append(Workload(convolution_name(name, backward), "conv", spec))
        if name in RECTIFIED:
            spec = {"kind": "convolution", "sizes": sizes, "backward": False, "rectified": True}
            rows.append(Workload(f"{name}: forward with bias and relu", "conv", spec))
    return rows


def convolution_name(name: str, backward: bool) -> str:
    return f"{name}: {'forward + backward' if backward else 'forward'}"


_CONVOLUTION_ROWS = tuple(convolution_name(name, backward) for name in CONVOLUTIONS for backward in (False, True))
BARS = [
    Bar("CNN, batch 128: captured / PyTorch", ("CNN, batch 128",), CAPTURED, TORCH, 0.5),
    Bar("CNN, batch 128: captured / PyTorch's CUDA graph", ("CNN, batch 128",), CAPTURED, TORCH_GRAPH, 1.1),
    Bar("CNN, batch 128: eager / PyTorch", ("CNN, batch 128",), OURS, TORCH, 1.5),
    Bar("convolutions, called one by one", _CONVOLUTION_ROWS, OURS, TORCH, 1.1),
    Bar("convolutions, replayed by both", _CONVOLUTION_ROWS, CAPTURED, TORCH_GRAPH, 1.1),
    Bar("ResNet-18: captured / PyTorch", ("ResNet-18, batch 128",), CAPTURED, TORCH, 1.0),
]


def arrays_of(spec: dict[str, Any]) -> Any:
    """The arrays that a spec starts from: for training x, t, and the weights in the order of the layers."""
    return resnet(spec) if spec["kind"] == "resnet" else getattr(inputs, spec["kind"])(spec)


def weights_of(arrays: inputs.Arrays) -> list[np.ndarray]:
    return [array for name, array in arrays.items() if name not in ("x", "t")]


def resnet(spec: dict[str, Any]) -> inputs.Arrays:
    source, batch = inputs.Source(), spec["batch"]
    shapes = [(STAGES[0], 3, 3, 3)]
    C = STAGES[0]
    for OC in STAGES:
        shapes += [(OC, C, 3, 3), (OC, OC, 3, 3)]
        if OC != C:
            shapes.append((OC, C, 1, 1))
        shapes += [(OC, OC, 3, 3)] * 2
        C = OC
    weights = [source.normal(*shape, scale=math.sqrt(2 / math.prod(shape[1:]))) for shape in shapes]
    return {
        "x": source.images(batch, 3, 32, 32),
        "t": source.labels(batch),
        **{f"conv{i}": W for i, W in enumerate(weights)},
        "fc": source.linear(C, 10),
    }
