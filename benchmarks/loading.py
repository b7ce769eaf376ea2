"""Whether a DataLoader's workers hide loading behind training: an epoch's time beside that of training alone.

    python benchmarks/loading.py --out loading.md

Training is a small CNN on MiniMNIST, a step a batch, on `--threads` threads. Batches are loaded in three ways: waiting,
as for a disk; in NumPy, a whole batch at once; and in Python, item by item. Everyone takes turns, an epoch each, in
rounds of an order that turns round; a ratio is the median of the rounds' ratios, each to training alone in the same
round. The times include the start of threads and processes at each epoch. What hides loading best is the larger of 1
and of loading alone divided by the workers, while there are cores for them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the cores are for the workers

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Model, kernels, optimizers
from dezero.datasets import MiniMNIST, TensorDataset
from dezero.files import open_whole
from dezero.transforms import Compose, Normalize, RandomCrop, RandomErasing, RandomRotation, ToFloat

WORKERS: dict[str, dict[str, Any]] = {
    "0 workers": {},
    "1 thread": {"num_workers": 1},
    "2 threads": {"num_workers": 2},
    "1 process": {"num_workers": 1, "worker_type": "process"},
    "2 processes": {"num_workers": 2, "worker_type": "process"},
}


class CNN(Model):
    """A step of it takes about as long as loading its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = L.Conv2d(16, 3, pad=1), L.Conv2d(32, 3, pad=1)
        self.fc1, self.fc2 = L.Linear(128), L.Linear(10)

    def forward(self, x: Any) -> Any:
        x = F.pooling(F.relu(self.conv1(x)), 2, 2)
        x = F.pooling(F.relu(self.conv2(x)), 2, 2)
        return self.fc2(F.relu(self.fc1(F.flatten(x))))


# Each kind of loading gives the same digits, as (1, 28, 28) float32.


class Waiting(TensorDataset):
    """As from a slow disk: nobody computes."""

    def batch(self, rows: Any) -> Any:
        time.sleep(0.008)
        return super().batch(rows)


class ByItem(TensorDataset):
    """Augmented item by item: most of the time the interpreter works."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)


def kinds() -> dict[str, Any]:
    digits = MiniMNIST(transform=None)
    scaled = [ToFloat(), Normalize(0, 255)]
    many = Compose([RandomRotation(15), RandomCrop(28, padding=2), RandomErasing(), RandomRotation(5), *scaled])
    few = Compose([RandomCrop(28, padding=2), RandomErasing(), *scaled])
    return {
        "waiting": Waiting(digits.data, digits.label, Compose(scaled)),
        "NumPy, a batch at once": TensorDataset(digits.data, digits.label, many),
        "Python, item by item": ByItem(digits.data, digits.label, few),
    }


def training() -> Callable[[Any, Any], None]:
    dezero.seed(0)
    model = CNN()
    optimizer = optimizers.Adam().setup(model)

    def step(x: Any, t: Any) -> None:
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()

    return step


def seconds(epoch: Callable[[], None]) -> float:
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def epochs(dataset: Any, step: Callable[[Any, Any], None], batches: int, size: int) -> dict[str, Callable[[], None]]:
    """Return an epoch of training alone, of loading alone, and of both with each kind of workers."""
    rows = np.arange(batches * size) % len(dataset)
    ready = dataset.batch(rows[:size])

    def alone() -> None:
        for _ in range(batches):
            step(*ready)

    def both(options: dict[str, Any], act: Callable[[Any, Any], None]) -> Callable[[], None]:
        loader = DataLoader(dataset, size, sampler=rows, seed=0, **options)

        def epoch() -> None:
            for x, t in loader:
                act(x, t)

        return epoch

    found = {"training alone": alone, "loading alone": both({}, lambda x, t: None)}
    return found | {name: both(options, step) for name, options in WORKERS.items()}


def measure(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return for each contender its time divided by that of training alone, of each round."""
    names = list(contenders)
    for name in names:
        contenders[name]()  # kernels are compiled, files are read
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        times = {name: seconds(contenders[name]) for name in turned}
        for name in names:
            ratios[name].append(times[name] / times["training alone"])
    return ratios


def table(results: dict[str, dict[str, list[float]]]) -> list[str]:
    columns = ["loading alone", *WORKERS]
    lines = ["| an epoch / training alone | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for kind, ratios in results.items():
        cells = [f"{statistics.median(ratios[name]):.2f}" for name in columns]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def spread(ratios: dict[str, list[float]]) -> float:
    return max((max(values) - min(values)) / statistics.median(values) for values in ratios.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, default=300, help="steps an epoch (default: 300)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="how many are counted (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of training's kernels (default: 1)")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    args = parser.parse_args()
    if min(args.batches, args.batch_size, args.rounds, args.threads) < 1:
        parser.error("all numbers must be at least 1")
    dezero.set_num_threads(args.threads)
    step, results, notes = training(), {}, []
    for kind, dataset in kinds().items():
        contenders = epochs(dataset, step, args.batches, args.batch_size)
        results[kind] = measure(contenders, args.rounds)
        alone = 1000 * seconds(contenders["training alone"]) / args.batches
        notes.append(f"{kind}: a step alone {alone:.0f} ms, ratios of rounds at most {spread(results[kind]):.0%} apart")
        print(notes[-1], file=sys.stderr)
    served = kernels.serving(np.zeros(3))
    about = (
        f"{os.cpu_count()} cores, training on {args.threads} of them with {served} kernels, {args.rounds} rounds of "
    )
    text = "\n".join([*table(results), "", about + f"{args.batches} batches of {args.batch_size}.", *notes]) + "\n"
    print(text)
    if args.out:
        with open_whole(args.out) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
