"""The one source of random numbers: initial weights, shuffles and dropout all draw from here, on a GPU by a `key`.

The source is NumPy's global generator, so a program that says `np.random.seed(0)` gets the numbers it always got.
After `dezero.seed(n)` it is a generator of the framework's own, which nothing else draws from.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["drawing_from", "key", "normal", "permutation", "recording", "replaying", "seed", "uniform"]

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


class Draws:
    """What was drawn inside a `recording()`: where the source stood at its start, and at each noted draw since."""

    def __init__(self) -> None:
        self.start = state()
        self.uniforms: list[Any] = []


class _Tapes(threading.local):
    """What this thread is recording, and replaying."""

    def __init__(self) -> None:
        self.recording: list[Draws] = []
        self.replaying: list[Iterator[Any]] = []


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
    uniforms = iter(draws.uniforms)
    _tapes.replaying.append(uniforms)
    go_to(draws.start)
    try:
        yield
    finally:
        _tapes.replaying.remove(uniforms)
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
    return int.from_bytes(_noted_source().bytes(8), "little")


def _noted_source() -> Any:
    """Return the source for a draw that has a place of its own in recordings and replays."""
    if _thread.source is not None:
        return _thread.source  # its draws repeat without being noted
    # A replay that draws more often than the recording did goes on from where it stands.
    place = next(_tapes.replaying[-1], None) if _tapes.replaying else None
    if place is not None:
        go_to(place)
    for draws in _tapes.recording:
        draws.uniforms.append(state())
    return _source()


def permutation(n: int) -> np.ndarray:
    """Draw 0 .. n-1 in random order, as `np.random.permutation` does.

    >>> sorted(permutation(4).tolist())
    [0, 1, 2, 3]
    """
    return _source().permutation(n)
