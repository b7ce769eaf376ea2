"""The arrays that a workload starts from: the same for every contender, from one seed, float32."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
DIGITS = Path(__file__).parent.parent / "dezero" / "data" / "mini_mnist.npz"


class Source:
    """Draws float32 arrays. Images of `order` "NHWC" have that order in memory, behind the same logical axes."""

    def __init__(self, order: str = "NCHW") -> None:
        self.random = np.random.RandomState(0)
        self.order = order

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def images(self, *shape: int) -> np.ndarray:
        x = self.normal(*shape)
        if self.order == "NCHW":
            return x
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def labels(self, count: int, classes: int = 10) -> np.ndarray:
        return self.random.randint(classes, size=count)

    def linear(self, in_size: int, out_size: int) -> np.ndarray:
        """A weight (in, out), as dezero keeps it; PyTorch's is the transpose."""
        return self.normal(in_size, out_size, scale=1 / math.sqrt(in_size))


def cnn(spec: Any) -> Arrays:
    source, batch = Source(), spec["batch"]
    return {
        "x": source.images(batch, 1, 28, 28),
        "t": source.labels(batch),
        "conv1": source.normal(32, 1, 3, 3, scale=1 / 3),
        "conv2": source.normal(64, 32, 3, 3, scale=1 / math.sqrt(288)),
        "fc1": source.linear(3136, 128),
        "fc2": source.linear(128, 10),
    }


def mlp(spec: Any) -> Arrays:
    source, batch = Source(), spec["batch"]
    sizes = (784, 1000, 1000, 10)
    weights = {f"l{i}": source.linear(*pair) for i, pair in enumerate(itertools.pairwise(sizes))}
    return {"x": source.normal(batch, 784), "t": source.labels(batch), **weights}


def lstm(spec: Any) -> Arrays:
    """xs (steps, N, H), the gradient g (N, H) of the last state, and x2. and h2. for f, i, o and u."""
    source, N, H = Source(), spec["batch"], spec["hidden"]
    weights = {f"{kind}2{gate}": source.linear(H, H) for kind in "xh" for gate in "fiou"}
    return {"xs": source.normal(spec["steps"], N, H), "g": source.normal(N, H), **weights}


def fan(spec: Any) -> np.ndarray:
    return Source().normal(spec["products"], 2)


def convolution(spec: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, W, and a gradient of y."""
    N, C, H, OC, K, stride, pad = spec["sizes"]
    source = Source(spec.get("order", "NCHW"))
    OH = (H + 2 * pad - K) // stride + 1
    W = source.normal(OC, C, K, K, scale=1 / math.sqrt(C * K * K))
    return source.images(N, C, H, H), W, source.images(N, OC, OH, OH)


def operation(spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """x, and a gradient of y."""
    N, C, H, W = spec["shape"]
    K, stride = spec.get("kernel_size", 1), spec.get("stride", 1)
    source = Source(spec.get("order", "NCHW"))
    return source.images(N, C, H, W), source.images(N, C, (H - K) // stride + 1, (W - K) // stride + 1)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The training digits that dezero carries, images (6000, 1, 28, 28) uint8 and labels."""
    with np.load(DIGITS) as file:
        return file["train_images"][:, np.newaxis], file["train_labels"]
