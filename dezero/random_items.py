"""Random numbers that belong to an item's place in an epoch: the same, whichever thread or process loads the item.

A word of 64 bits stands for each item, scrambled from its number in the epoch and from seeds. Its random numbers are
scrambled from the word and a counter, so threads share no generator whose state would depend on who came first, and
the numbers of a whole batch are one operation.

G. L. Steele, D. Lea, C. H. Flood: Fast splittable pseudorandom number generators (SplitMix64), 2014.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from dezero import random

__all__ = ["check_seed", "draw", "epoch_source", "item", "loading", "part", "places", "uniforms", "words"]

_STEP = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiples of it are spread evenly
_ORDER = 0x6F72646572  # sets the words of orders apart from those of items


def _scrambled(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27)) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> 31)


def words(*parts: Any) -> np.ndarray:
    """Return a word of 64 bits for each row of `parts`, which are integers or arrays (N,) of them.

    >>> len(set(words(7, np.arange(1000)).tolist()))
    1000
    """
    word = np.zeros(1, np.uint64)
    for part in parts:
        bits = part.astype(np.uint64) if isinstance(part, np.ndarray) else np.uint64(int(part) % 2**64)
        word = _scrambled((word + np.uint64(_STEP)) ^ bits)
    return word


def uniforms(word: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Return numbers `start` .. `start + count - 1` of each word's: word (N,) -> (N, count) float64 in [0, 1).

    >>> bool((uniforms(words(3), 2, start=5) == uniforms(words(3), 7)[:, 5:]).all())
    True
    """
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(_STEP)
    return (_scrambled(word[:, np.newaxis] + steps) >> 11) * 2.0**-53


def check_seed(operation: str, seed: Any) -> None:
    """Raise TypeError unless `seed` is an integer or None."""
    if seed is not None and not isinstance(seed, (int, np.integer)):
        raise TypeError(f"{operation}: seed must be an int or None, got {seed!r}")


class _Source:
    """Stands in for NumPy's generator while seeded items are loaded: one word for each of them."""

    def __init__(self, word: np.ndarray, drawn: int = 0) -> None:
        self.word = word
        self.drawn = drawn  # how many numbers each item has got

    def rows(self, n: int, count: int) -> np.ndarray:
        numbers = uniforms(_fitted(self.word, n), count, self.drawn)
        self.drawn += count
        return numbers

    def rand(self, *shape: int) -> np.ndarray:
        one = len(self.word) == 1
        return self.rows(1, math.prod(shape)).reshape(shape) if one else self._other.rand(*shape)

    def randn(self, *shape: int) -> Any:
        return self._other.randn(*shape)

    def permutation(self, n: int) -> np.ndarray:
        return self._other.permutation(n)

    def bytes(self, n: int) -> bytes:
        return self._other.bytes(n)

    @cached_property
    def _other(self) -> np.random.RandomState:
        return np.random.RandomState(np.random.Philox(key=int(words(self.word[0])[0])))


class _Batch:
    """The items that a thread loads: the word of each one's place, and their source if they have one of their own."""

    def __init__(self, places: np.ndarray, source: _Source | None) -> None:
        self.places = places
        self.source = source

    def part(self, rows: Any, of: int) -> _Batch:
        source = self.source
        places = _fitted(self.places, of)[rows]
        return _Batch(places, source and _Source(_fitted(source.word, of)[rows], source.drawn))


class _Thread(threading.local):
    """What this thread is loading."""

    batch: _Batch | None = None


_thread = _Thread()


def _fitted(word: np.ndarray, n: int) -> np.ndarray:
    # Whoever asks for another number of items than are loaded gets words that follow from the first one's.
    return word if len(word) == n else words(np.repeat(word[:1], n), np.arange(n))


@contextlib.contextmanager
def _working_on(batch: _Batch) -> Iterator[None]:
    before, _thread.batch = _thread.batch, batch
    try:
        with random.drawing_from(batch.source) if batch.source else contextlib.nullcontext():
            yield
    finally:
        _thread.batch = before


def loading(epoch: int, numbers: np.ndarray, seed: int | None = None) -> contextlib.AbstractContextManager[None]:
    """Inside the `with` block this thread loads the items that have these `numbers` in an epoch.

    Args:
        epoch: the epoch's number.
        numbers: the items' (N,).
        seed: with one, all that is drawn for an item, through `dezero.random` too, follows from it, the epoch and the
            item's number (default: none; what has no seed of its own draws from the one source).

    >>> def flip(number):
    ...     with loading(0, np.array([number]), seed=1):
    ...         return random.uniform()
    >>> bool(flip(3) == flip(3)), bool(flip(3) == flip(4))
    (True, False)
    """
    places = words(epoch, numbers)
    return _working_on(_Batch(places, None if seed is None else _Source(words(seed, places))))


def part(rows: Any, of: int) -> contextlib.AbstractContextManager[None]:
    """Inside the `with` block this thread works on the items at `rows`, counted from 0, of its batch of `of` items."""
    batch = _thread.batch
    return contextlib.nullcontext() if batch is None else _working_on(batch.part(rows, of))


def item(row: int, of: int) -> contextlib.AbstractContextManager[None]:
    """Inside the `with` block this thread works on one item, at `row`, of its batch of `of` items."""
    return part(slice(row, row + 1), of)


def epoch_source(seed: int | None, epoch: int) -> contextlib.AbstractContextManager[None]:
    """Inside the `with` block all draws follow from `seed` and `epoch`, if there is a seed: for an epoch's order."""
    return contextlib.nullcontext() if seed is None else random.drawing_from(_Source(words(seed, epoch, _ORDER)))


def places(n: int) -> np.ndarray | None:
    """Return the words of the `n` items that this thread is loading, or None where no loader is at work."""
    return None if _thread.batch is None else _fitted(_thread.batch.places, n)


def draw(n: int, count: int) -> np.ndarray:
    """Draw `count` numbers for each of `n` items, (n, count) in [0, 1), as drawing them item by item would.

    >>> np.random.seed(0)
    >>> one_by_one = [random.uniform(2) for _ in range(3)]
    >>> np.random.seed(0)
    >>> bool((draw(3, 2) == one_by_one).all())
    True
    """
    batch = _thread.batch
    if batch is None or batch.source is None:
        return random.uniform(n * count).reshape(n, count)
    return batch.source.rows(n, count)
