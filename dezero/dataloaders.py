"""Datasets in batches: `for x, t in DataLoader(dataset, 100)` is one epoch, in a new order each time."""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dezero import cuda, random, random_items
from dezero.core import Config, using_config
from dezero.datasets import batch_of, items_of
from dezero.workers import KINDS, Crew, ProcessCrew, Ticket

__all__ = ["DataLoader", "SeqDataLoader", "WeightedSampler"]


class DataLoader:
    """Iterate over a dataset in batches `(x, t)`, as arrays: x (batch_size, ...), t (batch_size, ...) or None.

    The last batch of an epoch may be smaller. One permutation is drawn when the loader is made, and one at the end of
    each epoch. A loader is its own iterator: a new `for` starts over if the last one was left part-way. So a `for` over
    a loader inside a `for` over the same loader never ends; make two.

    With workers, batches are loaded while the program works on others, in the modes (`test_mode()`, `no_grad()`) of who
    asks for them, and come in the same order. An error of a worker's comes up in its batch's turn, with its traceback.
    Threads are right where loading waits for files or works in NumPy or Pillow, which let other threads run meanwhile;
    processes where it works in Python itself. Processes are started for each epoch, get the dataset by pickle, and live
    to its end: of an epoch that is left part-way, until the loader is used again, closed by `close()`, or gone.

    Args:
        dataset: a `Dataset`, or any sequence of pairs (x, t).
        batch_size: how many items a batch holds.
        shuffle: whether to draw a new order for each epoch (default: True).
        gpu: whether the batches are CuPy's arrays (default: False). Then, from the second on, the next batch is loaded
            and copied while one is worked on; random transforms draw that much earlier.
        drop_last: whether to leave out a last batch that is smaller (default: False).
        sampler: says which items an epoch has, in place of `shuffle`: an iterable of indexes, or of batches of indexes,
            or a function that returns one and is called for each epoch (default: all items, once).
        num_workers: how many threads or processes load batches (default: 0, the program itself does).
        worker_type: `"thread"`, `"process"`, or how processes start: `"fork"`, `"forkserver"`, `"spawn"`
            (default: thread).
        prefetch: how many batches are loaded ahead for each worker (default: 2).
        seed: with one, orders and all that transforms draw from `dezero.random` follow from it, the epoch and each
            item's place in it: the same to the last bit with any workers or none (default: drawn from `dezero.random`;
            with workers one seed for the items of an epoch, by which they are the same with any workers).
        collate: a function of the list of a batch's items that returns the batch, a tuple of arrays or other things
            (default: `Dataset.batch`, or `datasets.collate`).

    Raises ValueError for sizes below 1, IndexError for a sampler's index that the dataset has not, TypeError where
    processes cannot get the dataset, and RuntimeError where a worker process ends, or, at the first batch, where `gpu`
    finds none.

    >>> loader = DataLoader([(0.5, 0), (1.5, 1), (2.5, 0)], batch_size=2, shuffle=False)
    >>> for x, t in loader:
    ...     print(x, t)
    [0.5 1.5] [0 1]
    [2.5] [0]
    >>> len(loader)
    2
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = True,
        gpu: bool = False,
        drop_last: bool = False,
        sampler: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        num_workers: int = 0,
        worker_type: str = "thread",
        prefetch: int = 2,
        seed: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        name = type(self).__name__
        _check_dataset(name, dataset)
        _check_count(name, "batch_size", batch_size, least=1)
        _check_count(name, "num_workers", num_workers, least=0)
        _check_count(name, "prefetch", prefetch, least=1)
        random_items.check_seed(name, seed)
        if worker_type not in KINDS:
            raise ValueError(f"{name}: worker_type must be one of {', '.join(KINDS)}, got {worker_type!r}")
        _check_sampler(name, sampler)
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.sampler = sampler
        self.num_workers = num_workers
        self.worker_type = worker_type
        self.prefetch = prefetch
        self.seed = seed
        self.collate = collate
        self.data_size = len(dataset)
        self.gpu = gpu
        self.epoch = -1  # reset() begins the first, number 0
        self._upload: _Upload | None = None
        self._crew: Crew | None = None
        self.reset()

    def reset(self, epoch: int | None = None) -> None:
        """Go back to the start of an epoch, in a new order if the loader shuffles.

        Args:
            epoch: its number, from which what is drawn with a `seed` follows: to go on where another run ended
                (default: the number after the last one's).
        """
        self.close()
        self.iteration = 0
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self._items_seed: int | None = self.seed
        self._next: list[Any] | None = None  # the batch on its way to the GPU
        with random_items.epoch_source(self.seed, self.epoch):
            self.index = self._order()
        self.max_iter = self._count()

    def _order(self) -> Any:
        """Return the rows of the epoch as an array, or as a list of arrays where a sampler gives batches."""
        if self.sampler is None:
            return random.permutation(self.data_size) if self.shuffle else np.arange(self.data_size)
        rows = list(self.sampler if isinstance(self.sampler, Iterable) else self.sampler())
        if any(np.ndim(row) for row in rows):
            return [self._checked(row) for row in rows]
        return self._checked(rows)

    def _checked(self, rows: Any) -> np.ndarray:
        indexes = np.asarray(rows)
        if indexes.ndim != 1 or not indexes.size or indexes.dtype.kind not in "iu":
            raise TypeError(f"{type(self).__name__}: a sampler gives indexes, or batches of them, got {rows!r:.60}")
        wrong = indexes[(indexes < 0) | (indexes >= self.data_size)]
        if wrong.size:
            name = type(self).__name__
            raise IndexError(f"{name}: the sampler gave index {wrong[0]}, the dataset has {self.data_size} items")
        return indexes

    def _count(self) -> int:
        if isinstance(self.index, list):
            return len(self.index)
        batches = len(self.index) / self.batch_size
        if self.drop_last and 0 < batches < 1:
            name, size = type(self).__name__, len(self.index)
            raise ValueError(f"{name}: drop_last leaves no batch of {self.batch_size}: there are {size} items")
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __len__(self) -> int:
        return self.max_iter

    def __iter__(self) -> DataLoader:
        if self.iteration > 0:
            self.reset()
        return self

    def __next__(self) -> tuple[Any, ...]:
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
        if ahead and self.iteration < self.max_iter and self._is_at_hand():
            with contextlib.suppress(Exception):  # it comes up again, in its turn, when the batch is asked for
                self._next = self._upload.send(self._load())
        return batch

    def _load(self) -> tuple[Any, ...]:
        """Return batch number `iteration` as NumPy's arrays."""
        if self.num_workers == 0:
            return _Reader(self.dataset, self.collate)(self._task(self.iteration))
        crew = self._at_work()
        try:
            batch = crew.wait(self._tickets[0])
        except BaseException:
            if self._tickets[0].done.is_set():  # else it was Ctrl-C
                self._tickets.clear()
                self.close()  # whoever asks again gets the batch loaded again
            raise
        self._tickets.popleft()
        self._submit(crew)
        return batch

    def _at_work(self) -> Crew:
        """Return the crew, with batch number `iteration` as the next that it gives."""
        crew = self._crew
        # A fork leaves threads behind, and Ctrl-C can strike anywhere: then it begins anew.
        if crew is None or crew.process != os.getpid() or not self._is_next():
            self.close()
            self._crew = crew = self._hire()
            self._end = weakref.finalize(self, crew.stop)  # when the loader goes, or the program ends
            self._submitted = self.iteration
            self._submit(crew)
        return crew

    def _is_next(self) -> bool:
        return bool(self._tickets) and self._tickets[0].task.number == self.iteration

    def _hire(self) -> Crew:
        if self._items_seed is None:
            self._items_seed = random.key()  # workers draw from no state that they would have to share
        reader = _Reader(self.dataset, self.collate)
        if self.worker_type == "thread":
            return Crew(reader, self.num_workers)
        return ProcessCrew(_InProcess(reader), self.num_workers, self.worker_type)

    def _submit(self, crew: Crew) -> None:
        while self._submitted < self.max_iter and len(self._tickets) < self.num_workers * self.prefetch:
            self._tickets.append(crew.submit(self._task(self._submitted)))
            self._submitted += 1
        if not self._tickets and isinstance(crew, ProcessCrew):
            crew.dismiss()

    def _is_at_hand(self) -> bool:
        """Say whether the next batch can be had without waiting for workers."""
        return self.num_workers == 0 or (self._is_next() and self._tickets[0].done.is_set())

    def close(self) -> None:
        """End the workers, if there are any; they come again when a batch is asked for."""
        if self._crew is not None:
            self._end()
        self._crew = None
        self._tickets: deque[Ticket] = deque()

    def next(self) -> tuple[Any, ...]:
        """Return the next batch; raises StopIteration at the end of an epoch."""
        return self.__next__()

    def to_cpu(self) -> None:
        """Give NumPy's arrays from now on."""
        self.gpu = False
        self._next = None

    def to_gpu(self) -> None:
        """Give CuPy's arrays from now on."""
        self.gpu = True

    def _task(self, number: int) -> _Task:
        rows, first = self._rows(number), number * self.batch_size
        if isinstance(self.index, list):
            first = sum(len(batch) for batch in self.index[:number])
        return _Task(number, rows, first, self.epoch, self._items_seed, Config.train, Config.enable_backprop)

    def _rows(self, number: int) -> np.ndarray:
        start = number * self.batch_size
        return self.index[number] if isinstance(self.index, list) else self.index[start : start + self.batch_size]

    def __getstate__(self) -> dict[str, Any]:
        # A copy sends its batches itself, and has workers of its own.
        kept = {name: value for name, value in vars(self).items() if name != "_end"}
        return {**kept, "_upload": None, "_next": None, "_crew": None, "_tickets": deque()}


def _check_dataset(name: str, dataset: Any) -> None:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        kind = type(dataset).__name__
        raise TypeError(f"{name}: expected a Dataset or a sequence of pairs (x, t), got {kind}; list(...) makes one")


def _check_sampler(name: str, sampler: Any) -> None:
    if sampler is not None and not isinstance(sampler, Iterable) and not callable(sampler):
        raise TypeError(f"{name}: sampler must be an iterable, or a function that returns one, got {sampler!r:.60}")
    if isinstance(sampler, Iterator):
        raise TypeError(f"{name}: the sampler is used up after an epoch; give a list, or a function that makes one")


def _check_count(name: str, argument: str, count: Any, least: int) -> None:
    if not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name}: {argument} must be an int, got {count!r}")
    if count < least:
        raise ValueError(f"{name}: {argument} must be at least {least}, got {count}")


class _Task(NamedTuple):
    """What is to know to load a batch, whoever does it."""

    number: int  # of the batch in its epoch
    rows: np.ndarray
    first: int  # the number of its first item in the epoch
    epoch: int
    seed: int | None
    train: bool  # the modes of who asks: a worker's own are none of his
    enable_backprop: bool


class _Reader:
    """Loads batches: `reader(task)` is one, a tuple of NumPy's arrays."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        self.dataset = dataset
        self.collate = collate

    def __call__(self, task: _Task) -> tuple[Any, ...]:
        train, records = using_config("train", task.train), using_config("enable_backprop", task.enable_backprop)
        loading = random_items.loading(task.epoch, task.first + np.arange(len(task.rows)), task.seed)
        try:
            with train, records, loading:
                batch = self._read(task.rows)
        except StopIteration as error:
            raise RuntimeError("DataLoader: the dataset raised StopIteration, which would end the loop") from error
        if any(cuda.get_array_module(array) is not np for array in batch):
            raise TypeError(
                "DataLoader: the dataset's items are on the GPU; keep them as NumPy's arrays, it moves batches"
            )
        # Rows taken out of a transposed array come in its order.
        return tuple(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part for part in batch)

    def _read(self, rows: np.ndarray) -> tuple[Any, ...]:
        if self.collate is None:
            return batch_of(self.dataset, rows)
        batch = self.collate(items_of(self.dataset, rows))
        if not isinstance(batch, tuple):
            raise TypeError(f"DataLoader: collate must return a tuple such as (x, t), got {type(batch).__name__}")
        return batch


class _InProcess:
    """A reader in a process of its own, where others' generators are seeded, too: a fork would repeat its siblings."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def __call__(self, task: _Task) -> tuple[Any, ...]:
        import random as pythons

        word = int(random_items.words(task.seed, task.epoch, task.first)[0])
        np.random.seed(word % 2**32)
        pythons.seed(word)
        return self.reader(task)


class WeightedSampler:
    """Draw items for a DataLoader again and again, each as often as its weight says.

    Args:
        weights: a number for each item, (N,), not negative; they need not add up to 1.
        count: how many items an epoch has (default: N).

    Raises ValueError for weights that are none, and for a count below 1.

    >>> pairs = [(0.0, 0), (0.1, 1), (0.2, 2)]
    >>> loader = DataLoader(pairs, 4, sampler=WeightedSampler([0, 1, 0], count=4))
    >>> next(loader)[1]
    array([1, 1, 1, 1])
    """

    def __init__(self, weights: Sequence[float] | np.ndarray, count: int | None = None) -> None:
        array = np.asarray(weights, dtype=float)
        if array.ndim != 1 or not (np.isfinite(array).all() and (array >= 0).all() and array.sum() > 0):
            raise ValueError(f"WeightedSampler: expected weights from 0 on, some above it, got {weights!r:.60}")
        self.count = len(array) if count is None else count
        _check_count("WeightedSampler", "count", self.count, least=1)
        ends = np.cumsum(array)
        self.ends = ends / ends[-1]  # the last is exactly 1, which no draw reaches

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.searchsorted(self.ends, random.uniform(self.count), side="right").tolist())


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
            sent = [self.cupy.empty(x.shape, x.dtype) if isinstance(x, np.ndarray) else x for x in arrays]
        except MemoryError as error:
            cuda.explain_out_of_memory("DataLoader", error)
            raise
        pinned = list(map(self._pinned, arrays))  # all that can fail, before a copy begins
        self.stream.wait_event(self.cupy.cuda.get_current_stream().record())
        for x, y in zip(pinned, sent, strict=True):
            if x is not None:
                y.set(x, stream=self.stream)
        # The copy reads and writes some time later. Until it has, both ends are kept, even where nobody asks for them.
        self.under_way.append((self.stream.record(), pinned, sent))
        if len(self.under_way) > 2:
            self.under_way.popleft()[0].synchronize()
        return sent

    def _pinned(self, x: Any) -> Any:
        from cupyx import empty_pinned

        if not isinstance(x, np.ndarray):
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

    def _rows(self, number: int) -> np.ndarray:
        jump = self.data_size // self.batch_size
        return np.arange(self.batch_size) * jump + number
