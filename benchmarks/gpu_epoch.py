"""Seconds an epoch of the main job's CNN on one GPU: ours, and the same network in PyTorch where that is installed.

    python benchmarks/gpu_epoch.py --out epoch.md

Both get the same weights, the same order of MiniMNIST's 6,000 digits, the same batches through pinned memory, and the
same setting of TF32. They take turns, an epoch each; the first of each warms up and is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Model, cuda, optimizers
from dezero.datasets import MiniMNIST
from dezero.files import open_whole
from dezero.transforms import Compose, Normalize, ToFloat

LR = 0.001


class CNN(Model):
    """The network of examples/train_cnn.py, without dropout, so that both sides compute the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = L.Conv2d(32, 3, pad=1), L.Conv2d(64, 3, pad=1)
        self.fc1, self.fc2 = L.Linear(128), L.Linear(10)

    def forward(self, x: Any) -> Any:
        x = F.pooling(F.relu(self.conv1(x)), 2, 2)
        x = F.pooling(F.relu(self.conv2(x)), 2, 2)
        return self.fc2(F.relu(self.fc1(F.flatten(x))))


def digits() -> Any:
    return MiniMNIST(train=True, transform=Compose([ToFloat(), Normalize(0, 255)]))


# An epoch of a contender returns the losses of its steps.


def ours(weights: dict[str, Any], batch_size: int) -> Callable[[], list[float]]:
    model = CNN()
    loader = DataLoader(digits(), batch_size, gpu=True)
    model(np.zeros((1, 1, 28, 28), np.float32))
    for name, param in model.named_params():
        param.data = weights[name].copy()
    model.to_gpu()
    optimizer = optimizers.Adam(LR).setup(model)

    def epoch() -> list[float]:
        losses = []
        loader.reset()
        for x, t in loader:
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            losses.append(loss.data)
        return [float(loss) for loss in losses]  # which waits for the device

    return epoch


def pytorchs(torch: Any, weights: dict[str, Any], batch_size: int) -> Callable[[], list[float]]:
    nn = torch.nn
    conv1, conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
    fc1, fc2 = nn.Linear(3136, 128), nn.Linear(128, 10)
    blocks = conv1, nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2)
    model = nn.Sequential(*blocks, nn.Flatten(), fc1, nn.ReLU(), fc2)
    with torch.no_grad():
        for name, layer in (("conv1", conv1), ("conv2", conv2), ("fc1", fc1), ("fc2", fc2)):
            W = torch.from_numpy(weights[f"{name}/W"])
            layer.weight.copy_(W.T if isinstance(layer, nn.Linear) else W)
            layer.bias.copy_(torch.from_numpy(weights[f"{name}/b"]))
    model.cuda()
    optimizer, loader = torch.optim.Adam(model.parameters(), LR), DataLoader(digits(), batch_size)

    stream = torch.cuda.Stream()

    def send(arrays: Any) -> list[Any]:
        with torch.cuda.stream(stream):
            return [torch.from_numpy(a).pin_memory().to("cuda", non_blocking=True) for a in arrays]

    def batches() -> Iterator[Any]:
        """Each batch is copied while the one before it is worked on, as ours are."""
        loader.reset()
        arrays = iter(loader)
        ahead: list[Any] | None = send(next(arrays))
        while ahead:
            torch.cuda.current_stream().wait_stream(stream)
            for x in ahead:
                x.record_stream(torch.cuda.current_stream())
            batch, following = ahead, next(arrays, None)
            ahead = send(following) if following else None
            yield batch

    def epoch() -> list[float]:
        losses = []
        for x, t in batches():
            loss = nn.functional.cross_entropy(model(x), t.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    return epoch


def find_torch() -> Any:
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: ours alone", file=sys.stderr)
        return None
    if not torch.cuda.is_available():
        print("PyTorch finds no GPU: ours alone", file=sys.stderr)
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cuda.allow_tf32
    return torch


def first_weights() -> dict[str, Any]:
    dezero.seed(0)
    model = CNN()
    model(np.zeros((1, 1, 28, 28), np.float32))
    return {name: param.data for name, param in model.named_params()}


def measure(batch_size: int, epochs: int) -> Iterator[str]:
    """Yield the lines of the table for one batch size."""
    torch, weights = find_torch(), first_weights()
    contenders = {"dezero": ours(weights, batch_size)}
    if torch:
        contenders[f"PyTorch {torch.__version__}"] = pytorchs(torch, weights, batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(epochs + 1):
        for name, epoch in contenders.items():
            dezero.seed(number)
            start = time.perf_counter()
            losses[name] += epoch()
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        median = statistics.median(times[1:])
        steps = len(losses[name]) // len(times)
        first, last = losses[name][0], statistics.mean(losses[name][-steps:])
        yield f"| {batch_size} | {name} | {median:.3f} | {1000 * median / steps:.2f} | {first:.5f} | {last:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--epochs", type=int, default=5, help="how many are counted (default: 5)")
    parser.add_argument("--tf32", action="store_true", help="let both round the factors of products to TF32")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    args = parser.parse_args()
    if min(*args.batch_size, args.epochs, 1) < 1:
        parser.error("sizes and numbers of epochs must be at least 1")
    if args.out and not args.out.absolute().parent.is_dir():
        parser.error(f"--out {args.out}: there is no such folder")
    try:
        cuda.use_gpu()
    except RuntimeError as error:
        parser.error(str(error))
    cuda.allow_tf32 = args.tf32
    lines = ["```", *cuda.info().splitlines(), "```", ""]
    lines += [
        "| batch | | s an epoch | ms a step | first loss | last epoch's loss |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for batch_size in args.batch_size:
        lines += measure(batch_size, args.epochs)
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        with open_whole(args.out) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
