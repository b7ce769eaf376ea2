"""What is measured: a name, a group, and a spec that every contender turns into the same work.

A spec is a dict that travels to the workers as JSON. Its `kind` is the name of a function in with_dezero.py and in
with_torch.py; the rest are sizes. Nothing here needs NumPy: the process that asks for the work stays small.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Workload(NamedTuple):
    """One row of the table. `units` is how many nodes or images a call works on, where growth asks for cost per one."""

    name: str
    group: str
    spec: dict[str, Any]
    units: int = 1
    unit: str = ""


class Bar(NamedTuple):
    """What a group of rows must reach, ours / PyTorch, as a geometric mean: with Numba's kernels, and with NumPy alone.

    `against` is "NumPy" where import time is held against that of NumPy.
    """

    name: str
    rows: tuple[str, ...]
    with_numba: float
    numpy_alone: float
    against: str = "PyTorch"

    def value(self, backend: str) -> float:
        return self.with_numba if backend == "numba" else self.numpy_alone


# So small that the weights stay where they are: a network that has learned its one batch by heart has gradients that
# vanish, and numbers below 1e-38 are slow.
LEARNING_RATE = 1e-5

# N, C, H = W, OC, kernel size, stride, pad
CONVOLUTIONS = [
    (128, 1, 28, 32, 3, 1, 1),
    (128, 32, 14, 64, 3, 1, 1),
    (32, 64, 28, 64, 3, 1, 1),
    (8, 64, 56, 64, 3, 1, 1),
    (16, 128, 28, 128, 3, 1, 1),
    (64, 16, 32, 16, 3, 1, 1),
    (128, 16, 24, 32, 5, 1, 2),
    (64, 64, 28, 128, 3, 2, 1),
    (32, 256, 14, 64, 1, 1, 0),
]

IMAGES = [64, 32, 28, 28]
OPERATIONS = {
    "max pool 2": {"kind": "max_pool", "kernel_size": 2, "stride": 2},
    "max pool 3, stride 2": {"kind": "max_pool", "kernel_size": 3, "stride": 2},
    "average pool 2": {"kind": "average_pool", "kernel_size": 2, "stride": 2},
    "relu": {"kind": "relu"},
    "batch norm": {"kind": "batch_norm"},
}


def cnn(batch: int) -> dict[str, Any]:
    return {"kind": "cnn", "batch": batch, "lr": LEARNING_RATE}


def convolution(sizes: tuple[int, ...], backward: bool) -> dict[str, Any]:
    return {"kind": "convolution", "sizes": list(sizes), "backward": backward}


def convolution_name(sizes: tuple[int, ...], backward: bool) -> str:
    N, C, H, OC, K, stride, _ = sizes
    strided = f", stride {stride}" if stride > 1 else ""
    return f"conv {N}x{C}x{H}x{H} to {OC}, {K}x{K}{strided}, {'forward + backward' if backward else 'forward'}"


def table() -> list[Workload]:
    """The rows that are timed in calls. Import time and memory need fresh processes: see cpu.py."""
    rows = [Workload(f"CNN step, batch {batch}", "cnn", cnn(batch)) for batch in (32, 128)]
    for rule in ("Adam", "SGD"):
        spec = {"kind": "mlp", "batch": 128, "optimizer": rule, "lr": LEARNING_RATE}
        rows.append(Workload(f"MLP step, {rule}", "mlp", spec))
    rows.append(Workload("LSTM, 30 steps", "lstm", {"kind": "lstm", "steps": 30, "batch": 32, "hidden": 128}))
    rows.append(Workload("chain of 1,000 scalar operations", "scalars", {"kind": "chain", "nodes": 1000}))
    rows.append(Workload("fan of 1,000 scalar products", "scalars", {"kind": "fan", "products": 1000}))
    for backward in (False, True):
        for sizes in CONVOLUTIONS:
            rows.append(Workload(convolution_name(sizes, backward), "conv", convolution(sizes, backward)))
    for name, spec in OPERATIONS.items():
        rows.append(Workload(name, "ops", {**spec, "shape": IMAGES}))
    rows.append(Workload("MiniMNIST, an epoch of loading", "loading", {"kind": "loading", "batch": 100}))
    return rows


def growth(quick: bool) -> list[Workload]:
    """The rows of the second table: the same work at sizes that double, or grow tenfold."""
    rows = []
    for nodes in (10**3, 10**4, 10**5, 10**6)[: 3 if quick else 4]:
        rows.append(Workload(f"chain of {nodes:,} nodes", "nodes", {"kind": "chain", "nodes": nodes}, nodes, "node"))
    for batch in (16, 32, 64, 128, 256, 512, 1024):
        rows.append(Workload(f"CNN step, batch {batch}", "batch", cnn(batch), batch, "image"))
    for C in (16, 32, 64, 128, 256, 512):
        sizes = (8, C, 28, C, 3, 1, 1)
        flops_of_a_pixel = 3 * 2 * 9 * C * C  # forward, grad x and grad W: a product and a sum for each weight
        name = f"conv 8x{C}x28x28 to {C}, 3x3, forward + backward"
        rows.append(Workload(name, "channels", convolution(sizes, True), 8 * 28 * 28 * flops_of_a_pixel, "flop"))
    return rows


BARS = [
    Bar("CNN step, batch 128", ("CNN step, batch 128",), 0.5, 1.5),
    Bar(
        "nine convolutions, forward + backward",
        tuple(convolution_name(sizes, True) for sizes in CONVOLUTIONS),
        0.7,
        1.5,
    ),
    Bar("pooling, relu, batch norm", tuple(OPERATIONS), 0.7, 1.5),
    Bar("MLP step", ("MLP step, Adam", "MLP step, SGD"), 0.9, 1.0),
    Bar("LSTM, 30 steps", ("LSTM, 30 steps",), 1.0, 1.2),
    Bar(
        "chain and fan of 1,000 scalar operations",
        ("chain of 1,000 scalar operations", "fan of 1,000 scalar products"),
        1.0,
        1.0,
    ),
    Bar("import dezero / import numpy", ("import",), 1.3, 1.3, against="NumPy"),
    Bar("peak memory of the CNN step, batch 128", ("peak memory of the CNN step, batch 128",), 1.0, 1.0),
]
