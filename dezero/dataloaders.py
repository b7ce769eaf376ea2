"""Datasets in batches: `for x, t in DataLoader(dataset, 100)` is one epoch, in a new order each time."""

from __future__ import annotations

import contextlib
import math
from collections import deque
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
        gpu: whether the batches are CuPy's arrays (default: False). Then, from the second on, the next batch is loaded
            and copied while one is worked on; random transforms draw that much earlier.

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
        self._upload: _Upload | None = None
        self.reset()

    def reset(self) -> None:
        """Go back to the start of an epoch, in a new order if the loader shuffles."""
        self.iteration = 0
        self._next: list[Any] | None = None  # the batch on its way to the GPU
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
        if not self.gpu:
            batch = self._load()
            self.iteration += 1
            return batch
        # Nothing is loaded ahead of the first batch: its draws would come before those of a model's first weights.
        ahead = self._upload is not None and self._upload.is_for_this_gpu()
        if self._upload is None or not ahead:
            self._upload, self._next = _Upload(), None
        batch = self._upload.arrived(self._next or self._upload.send(self._load()))
        self.iteration += 1
        self._next = None
        if ahead and self.iteration < self.max_iter:
            with contextlib.suppress(Exception):  # it comes up again, in its turn, when the batch is asked for
                self._next = self._upload.send(self._load())
        return batch

    def _load(self) -> tuple[Any, Any]:
        """Return batch number `iteration` as NumPy's arrays."""
        rows = self._rows()
        if isinstance(self.dataset, Dataset):
            batch = self.dataset.batch(rows)
        else:
            batch = collate([self.dataset[row] for row in rows])
        if any(cuda.get_array_module(array) is not np for array in batch):
            raise TypeError(
                "DataLoader: the dataset's items are on the GPU; keep them as NumPy's arrays, it moves batches"
            )
        # Rows taken out of a transposed array come in its order.
        x, t = (None if array is None else np.ascontiguousarray(array) for array in batch)
        return x, t

    def next(self) -> tuple[Any, Any]:
        """Return the next batch; raises StopIteration at the end of an epoch."""
        return self.__next__()

    def to_cpu(self) -> None:
        """Give NumPy's arrays from now on."""
        self.gpu = False
        self._next = None

    def to_gpu(self) -> None:
        """Give CuPy's arrays from now on."""
        self.gpu = True

    def _rows(self) -> np.ndarray:
        start = self.iteration * self.batch_size
        return self.index[start : start + self.batch_size]

    def __getstate__(self) -> dict[str, Any]:
        # A copy sends its batches itself.
        return {**vars(self), "_upload": None, "_next": None}


class _Upload:
    """The way of batches to the GPU, beside the work that goes on there: from pinned memory, on a stream of its own."""

    def __init__(self) -> None:
        self.cupy = cuda.need_gpu("DataLoader")
        self.gpu = self.cupy.cuda.runtime.getDevice()
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.under_way: deque[tuple[Any, ...]] = deque()

    def is_for_this_gpu(self) -> bool:
        """Say whether its stream is one of the GPU that this thread works on now."""
        return self.gpu == self.cupy.cuda.runtime.getDevice()

    def send(self, arrays: tuple[Any, ...]) -> list[Any]:
        """Begin to copy NumPy's arrays, and return CuPy's, not to be read before `arrived`."""
        # The memory is this thread's stream's: what that stream still has to do with it comes first.
        try:
            sent = [None if x is None else self.cupy.empty(x.shape, x.dtype) for x in arrays]
        except MemoryError as error:
            cuda.explain_out_of_memory("DataLoader", error)
            raise
        pinned = list(map(self._pinned, arrays))  # all that can fail, before a copy begins
        self.stream.wait_event(self.cupy.cuda.get_current_stream().record())
        for x, y in zip(pinned, sent, strict=True):
            if y is not None:
                y.set(x, stream=self.stream)
        # The copy reads and writes some time later. Until it has, both ends are kept, even where nobody asks for them.
        self.under_way.append((self.stream.record(), pinned, sent))
        if len(self.under_way) > 2:
            self.under_way.popleft()[0].synchronize()
        return sent

    def _pinned(self, x: Any) -> Any:
        from cupyx import empty_pinned

        if x is None:
            return None
        pinned = empty_pinned(x.shape, x.dtype)
        pinned[...] = x
        return pinned

    def arrived(self, sent: list[Any]) -> tuple[Any, ...]:
        """Let this thread's stream wait for what was sent, and return it. The program does not wait."""
        self.cupy.cuda.get_current_stream().wait_event(self.under_way[-1][0])
        return tuple(sent)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end there may be nothing left to wait for
            self.stream.synchronize()


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
