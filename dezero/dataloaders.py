"""Datasets in batches: `for x, t in DataLoader(dataset, 100)` is one epoch, in a new order each time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, random
from dezero.datasets import Dataset, collate

__all__ = ["DataLoader", "SeqDataLoader"]


class DataLoader:
    """Iterate over a dataset in batches `(x, t)`, as arrays: x (batch_size, ...), t (batch_size, ...) or None.

    The last batch of an epoch may be smaller. One permutation is drawn when the loader is made, and one at the end of
    each epoch. A loader is its own iterator: a new `for` starts over if the last one was left part-way. So a `for` over
    a loader inside a `for` over the same loader never ends; make two.

    Args:
        dataset: a `Dataset`, or any sequence of pairs (x, t).
        batch_size: how many items a batch holds.
        shuffle: whether to draw a new order for each epoch (default: True).
        gpu: whether the batches are CuPy's arrays (default: False).

    Raises ValueError for a batch size below 1, and RuntimeError, at the first batch, where `gpu` finds none.

    >>> loader = DataLoader([(0.5, 0), (1.5, 1), (2.5, 0)], batch_size=2, shuffle=False)
    >>> for x, t in loader:
    ...     print(x, t)
    [0.5 1.5] [0 1]
    [2.5] [0]
    >>> len(loader)
    2
    """

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool = True, gpu: bool = False) -> None:
        if not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"{type(self).__name__}: batch_size must be an int, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"{type(self).__name__}: batch_size must be at least 1, got {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.data_size = len(dataset)
        self.max_iter = math.ceil(self.data_size / batch_size)
        self.gpu = gpu
        self.reset()

    def reset(self) -> None:
        """Go back to the start of an epoch, in a new order if the loader shuffles."""
        self.iteration = 0
        self.index = random.permutation(self.data_size) if self.shuffle else np.arange(self.data_size)

    def __len__(self) -> int:
        return self.max_iter

    def __iter__(self) -> DataLoader:
        if self.iteration > 0:
            self.reset()
        return self

    def __next__(self) -> tuple[Any, Any]:
        if self.iteration >= self.max_iter:
            self.reset()
            raise StopIteration
        rows = self._rows()
        self.iteration += 1
        if isinstance(self.dataset, Dataset):
            x, t = self.dataset.batch(rows)
        else:
            x, t = collate([self.dataset[row] for row in rows])
        return self._place(x), self._place(t)

    def next(self) -> tuple[Any, Any]:
        """Return the next batch; raises StopIteration at the end of an epoch."""
        return self.__next__()

    def to_cpu(self) -> None:
        """Give NumPy's arrays from now on."""
        self.gpu = False

    def to_gpu(self) -> None:
        """Give CuPy's arrays from now on."""
        self.gpu = True

    def _rows(self) -> np.ndarray:
        start = self.iteration * self.batch_size
        return self.index[start : start + self.batch_size]

    def _place(self, array: np.ndarray | None) -> Any:
        if array is None:
            return None
        # Rows taken out of a transposed array come in its order.
        array = np.ascontiguousarray(array)
        return cuda.as_cupy(array) if self.gpu else array


class SeqDataLoader(DataLoader):
    """Iterate over a sequence in `batch_size` places at once: row i of a batch walks on from i * (size // batch_size).

    Each step moves every row on by one item, ceil(size / batch_size) steps an epoch. Nothing is shuffled.

    Args:
        dataset: a `Dataset`, or any sequence of pairs (x, t).
        batch_size: how many places are read at once.
        gpu: whether the batches are CuPy's arrays (default: False).

    >>> x, t = next(SeqDataLoader([(i, i + 1) for i in range(10)], batch_size=3))
    >>> x
    array([0, 3, 6])
    """

    def __init__(self, dataset: Any, batch_size: int, gpu: bool = False) -> None:
        super().__init__(dataset, batch_size, shuffle=False, gpu=gpu)
        if batch_size > self.data_size:
            raise ValueError(f"SeqDataLoader: cannot read {self.data_size} items in {batch_size} places at once")

    def _rows(self) -> np.ndarray:
        jump = self.data_size // self.batch_size
        return np.arange(self.batch_size) * jump + self.iteration
