"""Data drawn with a formula: points of a spiral, values of a curve."""

from __future__ import annotations

import numpy as np

from dezero import random
from dezero.datasets_base import Dataset

__all__ = ["SinCurve", "Spiral", "get_spiral"]


def get_spiral(train: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return three arms of a spiral, 100 points each, in random order: x (300, 2) float32 and t (300,) int.

    The points are always the same ones: they come from a generator of their own.

    Args:
        train: whether to return the points for training, or those for testing (default: True).

    >>> x, t = get_spiral()
    >>> x.shape, t.shape
    ((300, 2), (300,))
    """
    generator = np.random.RandomState(1984 if train else 2020)
    arms, size = 3, 100
    radius = np.tile(np.arange(size) / size, arms)
    t = np.repeat(np.arange(arms), size)
    theta = 4.0 * t + 4.0 * radius + 0.2 * generator.randn(arms * size)
    x = np.stack([radius * np.sin(theta), radius * np.cos(theta)], axis=1).astype(np.float32)
    order = generator.permutation(arms * size)
    return x[order], t[order]


class Spiral(Dataset):
    """Three arms of a spiral: data (300, 2) float32, label (300,) int. See `get_spiral`."""

    def prepare(self) -> None:
        self.data, self.label = get_spiral(self.train)


class SinCurve(Dataset):
    """A curve whose next value is to be told from the last: data and label are (999, 1) float64, one step apart.

    To train, a sine with noise of up to 0.05 to either side; to test, a clean cosine.
    """

    def prepare(self) -> None:
        size = 1000
        x = np.linspace(0, 2 * np.pi, size)
        # Drawn for the test curve too, as it always was: what a program draws next stays what it was.
        noise = -0.05 + 0.1 * random.uniform(size)
        y = np.sin(x) + noise if self.train else np.cos(x)
        self.data, self.label = y[:-1, np.newaxis], y[1:, np.newaxis]
