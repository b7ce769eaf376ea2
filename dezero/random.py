"""The one source of random numbers: initial weights, shuffles and dropout all draw from here.

The source is NumPy's global generator, so a program that says `np.random.seed(0)` gets the numbers it always got.
After `dezero.seed(n)` it is a generator of the framework's own, which nothing else draws from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["normal", "permutation", "seed", "uniform"]

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


def _source() -> Any:
    return np.random if _own is None else _own


def normal(*shape: int) -> np.ndarray:
    """Draw a float64 array of `shape` from the standard normal distribution, as `np.random.randn` does."""
    return np.asarray(_source().randn(*shape))


def uniform(*shape: int) -> np.ndarray:
    """Draw a float64 array of `shape` uniformly from [0, 1), as `np.random.rand` does."""
    return np.asarray(_source().rand(*shape))


def permutation(n: int) -> np.ndarray:
    """Draw 0 .. n-1 in random order, as `np.random.permutation` does.

    >>> sorted(permutation(4).tolist())
    [0, 1, 2, 3]
    """
    return _source().permutation(n)
