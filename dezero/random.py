"""The one source of random numbers: initial weights, shuffles and dropout all draw from here, on a GPU by a `key`.

The source is NumPy's global generator, so a program that says `np.random.seed(0)` gets the numbers it always got.
After `dezero.seed(n)` it is a generator of the framework's own, which nothing else draws from.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["drawing_from", "key", "keys", "normal", "permutation", "recording", "replaying", "seed", "uniform"]

_own: np.random.RandomState | None = None


def seed(n: int | None) -> None:
    """Draw from a generator of the framework's own from now on, started at `n`; `None` goes back to NumPy's global one.

    >>> seed(0)
    >>> first = permutation(5)
    >>> seed(0)
    >>> (permutation(5) == first).all()
    np.True_
    >>> seed(None)
    """
    global _own
    _own = None if n is None else np.random.RandomState(n)


class _Thread(threading.local):
    """Where this thread draws from, if not from the one source."""

    source: Any = None


_thread = _Thread()


@contextlib.contextmanager
def drawing_from(source: Any) -> Iterator[None]:
    """Inside the `with` block this thread draws from `source`, which has NumPy's rand, randn, permutation and bytes.

    >>> with drawing_from(np.random.RandomState(0)):
    ...     first = uniform(3)
    >>> bool((first == np.random.RandomState(0).rand(3)).all())
    True
    """
    before, _thread.source = _thread.source, source
    try:
        yield
    finally:
        _thread.source = before


def _source() -> Any:
    if _thread.source is not None:
        return _thread.source
    return np.random if _own is None else _own


class _Place:
    """Where the source stood when something was drawn."""

    def __init__(self) -> None:
        self.stood = state()


class Draws:
    """What was drawn inside a `recording()`: where the source stood at its start, and at each noted draw since."""

    def __init__(self) -> None:
        self.start = state()
        self.places: list[_Place] = []


class _Tapes(threading.local):
    """What this thread is recording, and replaying."""

    def __init__(self) -> None:
        self.recording: list[Draws] = []
        self.replaying: list[Iterator[_Place]] = []


_tapes = _Tapes()


@contextlib.contextmanager
def recording() -> Iterator[Draws]:
    """Note what is drawn inside the `with` block, for `replaying`."""
    draws = Draws()
    _tapes.recording.append(draws)
    try:
        yield draws
    finally:
        _tapes.recording.remove(draws)


@contextlib.contextmanager
def replaying(draws: Draws) -> Iterator[None]:
    """Inside the `with` block the draws are those of the `recording()`; afterwards all is as it was before.

    Each `uniform` and `key` has a place of its own, so that dropout repeats its numbers even when the first time
    weights were drawn in between.

    >>> with recording() as draws:
    ...     first = uniform(3)
    >>> with replaying(draws):
    ...     second = uniform(3)
    >>> (first == second).all()
    np.True_
    """
    before = state()
    places = iter(draws.places)
    _tapes.replaying.append(places)
    go_to(draws.start)
    try:
        yield
    finally:
        _tapes.replaying.remove(places)
        go_to(before)


def state() -> Any:
    """Return where the source stands, for `go_to`."""
    return _own, None if _own is None else _own.get_state(), np.random.get_state()


def go_to(place: Any) -> None:
    """Have the source go on from where it stood."""
    global _own
    _own, own_place, global_place = place
    if _own is not None:
        _own.set_state(own_place)
    np.random.set_state(global_place)


def normal(*shape: int) -> np.ndarray:
    """Draw a float64 array of `shape` from the standard normal distribution, as `np.random.randn` does."""
    return np.asarray(_source().randn(*shape))


def uniform(*shape: int) -> np.ndarray:
    """Draw a float64 array of `shape` uniformly from [0, 1), as `np.random.rand` does."""
    return np.asarray(_noted_source().rand(*shape))


def key() -> int:
    """Draw 64 bits, with which a GPU makes random numbers of its own: they follow from this source's seed, too."""
    return keys()()


def keys() -> Callable[[], int]:
    """Return a function that draws a `key`, here and now, and when it is called again draws that of another run.

    A captured step calls it before each replay, when no `with` block is open any more: what was drawn in a
    `recording()` is noted anew, and what was drawn in a `replaying` of that is the same again.

    >>> seed(0)
    >>> with recording() as draws:
    ...     draw = keys()
    ...     first = draw()
    >>> with replaying(draws):
    ...     repeat = keys()
    ...     assert repeat() == first
    >>> second = draw()
    >>> second == first, second == repeat()
    (False, True)
    >>> seed(None)
    """
    if _thread.source is not None:
        return lambda: _bits(_source())
    replayed, noted = _begin_draw()
    calls = itertools.count()

    def draw() -> int:
        if next(calls) == 0:
            return _bits(_source())
        before = None if replayed is None else state()
        if replayed is not None:
            go_to(replayed.stood)
        if noted is not None:
            noted.stood = state()
        bits = _bits(_source())
        if before is not None:
            go_to(before)
        return bits

    return draw


def _bits(source: Any) -> int:
    return int.from_bytes(source.bytes(8), "little")


def _noted_source() -> Any:
    """Return the source for a draw that has a place of its own in recordings and replays."""
    if _thread.source is None:  # else its draws repeat without being noted
        _begin_draw()
    return _source()


def _begin_draw() -> tuple[_Place | None, _Place | None]:
    """Go to the place of a draw that is replayed, note that of one that is recorded, and return both."""
    # A replay that draws more often than the recording did goes on from where it stands.
    replayed = next(_tapes.replaying[-1], None) if _tapes.replaying else None
    if replayed is not None:
        go_to(replayed.stood)
    noted = _Place() if _tapes.recording else None
    for draws in _tapes.recording:
        draws.places.append(noted)  # type: ignore[arg-type]
    return replayed, noted


def permutation(n: int) -> np.ndarray:
    """Draw 0 .. n-1 in random order, as `np.random.permutation` does.

    >>> sorted(permutation(4).tolist())
    [0, 1, 2, 3]
    """
    return _source().permutation(n)
