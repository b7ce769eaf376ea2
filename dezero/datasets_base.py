"""What a data set is: a sequence of pairs (x, t), and how pairs become a batch."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from dezero import random_items
from dezero.transforms import Compose, Transform, batch_form

__all__ = ["Dataset", "as_rows", "batch_of", "collate", "hold_out", "items_of"]


class Dataset:
    """A sequence of pairs: `ds[i]` is `(transform(data[i]), target_transform(label[i]))`.

    A subclass fills `data`, and `label` if there are any, in `prepare()`; without labels the second of the pair is
    None.

    Args:
        train: which part of the set `prepare` should make, for training or for testing (default: True).
        transform: applied to each item of data (default: none). See `dezero.transforms`.
        target_transform: applied to each label (default: none).

    >>> class Squares(Dataset):
    ...     def prepare(self):
    ...         self.data = np.arange(5)
    ...         self.label = self.data**2
    >>> int(Squares()[3][1]), len(Squares())
    (9, 5)
    >>> from dezero.transforms import ToFloat
    >>> Squares(transform=ToFloat()).batch([1, 3])
    (array([1., 3.], dtype=float32), array([1, 9]))
    """

    data: Any
    label: Any

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        self.train = train
        self.transform = Compose() if transform is None else transform
        self.target_transform = Compose() if target_transform is None else target_transform
        self.data = None
        self.label = None
        self.prepare()

    def prepare(self) -> None:
        """Fill `data` and `label`: a subclass's work."""

    def __len__(self) -> int:
        if self.data is None:
            raise ValueError(f"{type(self).__name__}: there is no data yet: prepare() is where self.data is filled")
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            index = operator.index(index)
        except TypeError:
            name, kind = type(self).__name__, type(index).__name__
            raise TypeError(f"{name}[i]: i must be one integer, got {kind} (.batch takes many)") from None
        if self.data is None:
            len(self)  # says what is missing
        x = self.transform(self.data[index])
        return x, None if self.label is None else self.target_transform(self.label[index])

    def batch(self, indexes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the items at `indexes` as one array of data and one of labels (None without labels).

        Where data and labels are arrays, and the transforms can do a batch at once, each is taken out in one
        operation. Otherwise, and in a subclass with its own `__getitem__`, the batch is built item by item, to the
        same result.

        Args:
            indexes: a sequence or an array of integers.
        """
        rows = as_rows(type(self).__name__, indexes)
        if type(self).__getitem__ is Dataset.__getitem__:
            x_form, t_form = batch_form(self.transform), batch_form(self.target_transform)
            if x_form and t_form and _is_table(self.data) and (self.label is None or _is_table(self.label)):
                return x_form(self.data[rows]), None if self.label is None else t_form(self.label[rows])
        return collate(items_of(self, rows))


def as_rows(name: str, indexes: Any) -> np.ndarray:
    """Return `indexes` as an array (N,) of integers, or raise TypeError: they are an argument of `name`'s batch."""
    rows = np.asarray(indexes)
    if rows.size == 0:
        return rows.astype(np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"{name}.batch: expected a sequence of integers, got shape {rows.shape} of {rows.dtype}")
    return rows


def _is_table(array: Any) -> bool:
    # An array of objects holds arrays of its own: those are stacked one by one.
    return type(array) is np.ndarray and array.dtype != object


def items_of(dataset: Any, rows: Sequence[int] | np.ndarray) -> list[Any]:
    """Return `dataset[row]` for each of `rows`; what is drawn for an item belongs to its place among them."""
    items = []
    for number, row in enumerate(rows):
        with random_items.item(number, len(rows)):
            items.append(dataset[row])
    return items


def batch_of(dataset: Any, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the items at `rows` of any sequence of pairs (x, t) as two arrays: a `Dataset` has its own way."""
    return dataset.batch(rows) if isinstance(dataset, Dataset) else collate(items_of(dataset, rows))


_PAIRS = "a batch is made of pairs (x, t), but the dataset gave"
_OTHERS = "the argument collate of DataLoader makes batches of other items"


def collate(items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the first halves of the pairs `items` as one array, and the second halves, or None if all are None.

    >>> collate([(0.5, 1), (1.5, 0)])
    (array([0.5, 1.5]), array([1, 0]))
    """
    for item in items:
        if isinstance(item, (str, bytes)) or (isinstance(item, np.ndarray) and item.shape[:1] != (2,)):
            raise TypeError(f"{_PAIRS} {type(item).__name__} {item!r:.60}; {_OTHERS}")
        if isinstance(item, (tuple, list)) and len(item) != 2:
            raise TypeError(f"{_PAIRS} a {type(item).__name__} of {len(item)}; {_OTHERS}")
    try:
        xs, ts = [item[0] for item in items], [item[1] for item in items]
    except (TypeError, IndexError, KeyError) as error:
        raise TypeError(f"{_PAIRS} {type(items[0]).__name__}; {_OTHERS}") from error
    return _stack("x", xs), None if all(t is None for t in ts) else _stack("t", ts)


def _stack(name: str, parts: list[Any]) -> np.ndarray:
    shapes = {np.shape(part) for part in parts}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise ValueError(f"a batch needs every {name} in one shape, got {a} and {b}: a transform can make them alike")
    return np.array(parts)


AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def hold_out(dataset: AnyDataset, count: int) -> tuple[AnyDataset, AnyDataset]:
    """Return `dataset` in two parts of its own kind: all but the last `count` items, and those last ones.

    Nothing is drawn and nothing copied: the parts are views, with the dataset's own transforms.

    Args:
        dataset: one that keeps its items in `data` and `label`.
        count: how many items to hold out.

    Raises ValueError if there are not that many, and TypeError for a dataset with its own `__getitem__` or `__len__`.

    >>> from dezero.datasets import Spiral
    >>> train, check = hold_out(Spiral(), 50)
    >>> len(train), len(check)
    (250, 50)
    """
    kind = type(dataset)
    if kind.__getitem__ is not Dataset.__getitem__ or kind.__len__ is not Dataset.__len__:
        raise TypeError(f"hold_out: {kind.__name__} has its own __getitem__ or __len__: divide it there")
    size = len(dataset)
    if not isinstance(count, (int, np.integer)) or not 0 <= count <= size:
        raise ValueError(f"hold_out: cannot hold out {count} of {size} items")
    parts = copy.copy(dataset), copy.copy(dataset)
    for part, rows in zip(parts, (slice(0, size - count), slice(size - count, size)), strict=True):
        part.data = dataset.data[rows]
        part.label = None if dataset.label is None else dataset.label[rows]
    return parts
