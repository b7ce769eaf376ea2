"""What a transform is, how several are one, and how one draws."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dezero import random_items

__all__ = ["Compose", "RandomStep", "Transform", "batch_form", "check_image", "image_size", "pillow"]

Transform = Callable[[Any], Any]


def batch_form(transform: Transform) -> Transform | None:
    """Return the function that does a whole batch at once as `transform` does its items, or None if there is none.

    That is `transform.batch`, unless a subclass gave `__call__` a new meaning and left the inherited `batch` behind (or
    `apply` and `apply_batch`, of a RandomStep).

    >>> from dezero.transforms import Flatten
    >>> batch_form(Flatten())(np.zeros((5, 1, 28, 28))).shape
    (5, 784)
    >>> batch_form(lambda x: x + 1) is None
    True
    """
    known = _as_new(transform, "batch", "__call__")
    if isinstance(transform, RandomStep):
        known = known and _as_new(transform, "apply_batch", "apply")
    return getattr(transform, "batch", None) if known else None


def _as_new(transform: Transform, one: str, other: str) -> bool:
    """Say whether method `one` was written no earlier in the line of transform's classes than method `other`."""
    owners = [next((cls for cls in type(transform).__mro__ if name in vars(cls)), object) for name in (one, other)]
    return issubclass(*owners)


class Compose:
    """Apply `transforms` one after the other; none at all is the identity.

    Args:
        transforms: a list of callables, first one first (default: none).

    >>> from dezero.transforms import Normalize, ToFloat
    >>> Compose([ToFloat(), Normalize(0, 255)])(np.array([0, 255], dtype=np.uint8))
    array([0., 1.], dtype=float32)
    """

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x

    @property
    def batch(self) -> Transform | None:
        return None if any(batch_form(step) is None for step in self._steps()) else self._batch

    def _batch(self, x: Any) -> Any:
        numbers = self._numbers(len(x))
        for step in self._steps():
            form = batch_form(step)
            x = step.apply_batch(x, next(numbers)) if _draws_from_the_source(step) else form and form(x)
        return x

    def _numbers(self, n: int) -> Iterator[np.ndarray]:
        # Drawn for one item after the other, as when they come one by one, not for one step after the other.
        counts = [step.draws for step in self._steps() if _draws_from_the_source(step)]
        numbers = random_items.draw(n, sum(counts)) if counts else np.empty((n, 0))
        return iter(np.split(numbers, np.cumsum(counts)[:-1], axis=1) if counts else [])

    def _steps(self) -> Iterator[Any]:
        """Yield the steps, those of a Compose among them in its place."""
        for step in self.transforms:
            if type(step) is Compose:
                yield from step._steps()
            else:
                yield step


class RandomStep:
    """A step that draws: a subclass has `draws`, the count of numbers for an item, and what to do with them.

    `apply(x, numbers)` takes one item and its numbers (draws,), which lie in [0, 1); `apply_batch(x, numbers)` as many
    as `numbers` (N, draws) has rows. The same numbers must do the same.

    Args:
        seed: with one, an item's numbers follow from it and the item's place in its epoch: the same whatever thread or
            process of a DataLoader loads the item, and whatever else is drawn. Where no loader is at work, items are
            counted as they come (default: drawn from `dezero.random`, item by item).

    Raises TypeError for a seed that is no integer.

    >>> class Noise(RandomStep):
    ...     def apply(self, x, numbers):
    ...         return x + numbers[0]
    ...     def apply_batch(self, x, numbers):
    ...         return x + numbers[:, 0]
    >>> one_by_one, at_once = Noise(seed=0), Noise(seed=0)
    >>> bool(([one_by_one(1), one_by_one(2)] == at_once.batch(np.array([1, 2]))).all())
    True
    """

    draws = 1
    seed: int | None = None
    _seen = 0

    def __init__(self, seed: int | None = None) -> None:
        random_items.check_seed(type(self).__name__, seed)
        self.seed = seed

    def __call__(self, x: Any) -> Any:
        return self.apply(x, self._numbers(1)[0])

    def batch(self, x: np.ndarray) -> Any:
        return self.apply_batch(x, self._numbers(len(x)))

    def apply(self, x: Any, numbers: np.ndarray) -> Any:
        """Return one item, changed as its numbers say: a subclass's work."""
        raise NotImplementedError(f"{type(self).__name__}: a RandomStep needs a method apply(x, numbers)")

    def apply_batch(self, x: np.ndarray, numbers: np.ndarray) -> Any:
        """Return a batch of items, each changed as its row of numbers says; a step can do without it."""
        raise NotImplementedError(f"{type(self).__name__}: there is no apply_batch(x, numbers)")

    def _numbers(self, n: int) -> np.ndarray:
        if self.seed is None:
            return random_items.draw(n, self.draws)
        places = random_items.places(n)
        if places is None:
            places = random_items.words(_COUNTED, np.arange(self._seen, self._seen + n))
            self._seen += n
        # Two kinds of steps with one seed draw each their own.
        kind = zlib.crc32(type(self).__name__.encode())
        return random_items.uniforms(random_items.words(kind, self.seed, places), self.draws)


_COUNTED = 0x636F756E74  # sets items that are counted apart from those that a loader places


def _draws_from_the_source(step: Any) -> bool:
    return isinstance(step, RandomStep) and step.seed is None and type(step).batch is RandomStep.batch


def pillow(operation: str) -> Any:
    """Return Pillow's module Image, or raise ImportError that names the extra."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{operation}: Pillow is not installed: pip install 'dezero[plot]'") from error
    return Image


def check_image(operation: str, image: Any) -> None:
    """Raise TypeError unless `image` is a PIL image."""
    if not isinstance(image, pillow(operation).Image):
        raise TypeError(f"{operation}: needs a PIL image, got {type(image).__name__}; ToPIL() makes one of an array")


def image_size(operation: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Return `size`, an int or (width, height), as a width and a height, or raise ValueError."""
    sizes = np.asarray(size)
    if sizes.shape not in ((), (2,)) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"{operation}: size must be an int or (width, height), at least 1, got {size!r}")
    width, height = np.broadcast_to(sizes, 2).tolist()
    return width, height
