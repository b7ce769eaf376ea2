"""Data sets made of arrays, of parts of others, and of several in a row."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dezero import random, random_items
from dezero.core import Variable
from dezero.datasets_base import Dataset, as_rows, batch_of, collate, items_of
from dezero.transforms import Transform

__all__ = ["ConcatDataset", "Subset", "TensorDataset", "random_split"]


class TensorDataset(Dataset):
    """Arrays as a data set: item i is `(x[i], t[i])`.

    Args:
        x: an array (N, ...), kept as it is, not copied.
        t: an array (N, ...) of labels (default: none).
        transform: applied to each x (default: none).
        target_transform: applied to each t (default: none).

    Raises ValueError if x and t have not as many rows as each other, or one of them has no axis.

    >>> data = TensorDataset(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 1]))
    >>> data[1]
    (array([3., 4.]), np.int64(1))
    """

    def __init__(
        self, x: Any, t: Any = None, transform: Transform | None = None, target_transform: Transform | None = None
    ) -> None:
        x, t = (array.data if isinstance(array, Variable) else array for array in (x, t))
        x, t = np.asarray(x), None if t is None else np.asarray(t)
        if x.ndim == 0 or (t is not None and t.shape[:1] != x.shape[:1]):
            shapes = f"{x.shape}" if t is None else f"{x.shape} and {t.shape}"
            raise ValueError(f"TensorDataset: expected arrays with as many rows as each other, got shapes {shapes}")
        super().__init__(transform=transform, target_transform=target_transform)
        self.data, self.label = x, t


class _Selection(Dataset):
    """A data set whose items are others' items, transforms and all."""

    def __init__(self) -> None:
        super().__init__()

    def _counted(self, index: Any) -> int:
        """Return `index` as a number from 0, or raise IndexError."""
        try:
            number = operator.index(index)
        except TypeError:
            name, kind = type(self).__name__, type(index).__name__
            raise TypeError(f"{name}[i]: i must be one integer, got {kind} (.batch takes many)") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"{type(self).__name__}: there is no item {number} of {len(self)}")
        return number % len(self)


class Subset(_Selection):
    """The items of a data set that have these indexes, in their order.

    Args:
        dataset: a `Dataset`, or any sequence of pairs (x, t).
        indexes: a sequence of integers; negative ones count from the end.

    Raises TypeError for indexes that are no integers, and IndexError for one that `dataset` has not.

    >>> odd = Subset([(0.0, 0), (0.1, 1), (0.2, 0), (0.3, 1)], [1, 3])
    >>> len(odd), odd[1]
    (2, (0.3, 1))
    """

    def __init__(self, dataset: Any, indexes: Sequence[int] | np.ndarray) -> None:
        super().__init__()
        rows, size = np.asarray(indexes), len(dataset)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(f"Subset: expected a sequence of integers, got shape {rows.shape} of {rows.dtype}")
        rows = rows.astype(np.intp)
        wrong = rows[(rows < -size) | (rows >= size)]
        if wrong.size:
            raise IndexError(f"Subset: there is no item {wrong[0]} of {size}")
        self.dataset = dataset
        self.indexes = np.where(rows < 0, rows + size, rows)

    def __len__(self) -> int:
        return len(self.indexes)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indexes[self._counted(index)])]

    def batch(self, indexes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return batch_of(self.dataset, self.indexes[as_rows("Subset", indexes)])


class ConcatDataset(_Selection):
    """Data sets one after the other.

    Args:
        datasets: a sequence of data sets, or of sequences of pairs (x, t).

    Raises ValueError without any, and TypeError for a data set in place of a sequence of them.

    >>> both = ConcatDataset([[(0.0, 0), (0.1, 1)], [(0.2, 2)]])
    >>> len(both), both[2]
    (3, (0.2, 2))
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        super().__init__()
        if isinstance(datasets, Dataset):
            raise TypeError("ConcatDataset: expected a sequence of data sets, got one; put them in a list")
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: expected at least one data set, got none")
        self.ends = np.cumsum([len(dataset) for dataset in self.datasets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Any:
        number = self._counted(index)
        which = int(np.searchsorted(self.ends, number, side="right"))
        return self.datasets[which][number - self._start(which)]

    def _start(self, which: int) -> int:
        return int(self.ends[which - 1]) if which else 0

    def batch(self, indexes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        rows = np.array([self._counted(row) for row in as_rows("ConcatDataset", indexes)], np.intp)
        which = np.searchsorted(self.ends, rows, side="right")
        if len(set(which.tolist())) == 1:  # all in one: at once, if it can
            return batch_of(self.datasets[which[0]], rows - self._start(which[0]))
        return collate(items_of(self, rows))


def random_split(dataset: Any, lengths: Sequence[float], seed: int | None = None) -> list[Subset]:
    """Return `dataset` in parts of these `lengths`, its items dealt out at random.

    Args:
        dataset: a `Dataset`, or any sequence of pairs (x, t).
        lengths: a number of items for each part, or a fraction for each; fractions are rounded down, and what is left
            goes to the first parts, one item each.
        seed: the same seed deals alike every time (default: one permutation is drawn from `dezero.random`).

    Raises ValueError unless the lengths add up to the data set's, or the fractions to 1.

    >>> train, check = random_split([(i, i) for i in range(10)], [0.8, 0.2], seed=0)
    >>> len(train), len(check)
    (8, 2)
    """
    random_items.check_seed("random_split", seed)
    sizes = _sizes(list(lengths), len(dataset))
    with random_items.epoch_source(seed, 0):
        order = random.permutation(len(dataset))
    return [Subset(dataset, rows) for rows in np.split(order, np.cumsum(sizes)[:-1])]


def _sizes(lengths: list[Any], total: int) -> list[int]:
    fractions = any(isinstance(length, (float, np.floating)) for length in lengths)
    wanted = 1 if fractions else total
    if not lengths or min(lengths) < 0 or not math.isclose(sum(lengths), wanted, rel_tol=1e-6):
        raise ValueError(f"random_split: expected lengths that add up to {total}, or fractions to 1, got {lengths}")
    if not fractions:
        return [operator.index(length) for length in lengths]
    sizes = [math.floor(total * fraction + 1e-6) for fraction in lengths]
    for number in range(total - sum(sizes)):
        sizes[number % len(sizes)] += 1
    return sizes
