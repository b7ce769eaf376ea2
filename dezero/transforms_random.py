"""Augmentations: steps that change an image at random, the same one by one and for a whole batch at once.

They take arrays (..., H, W) of any dtype, which they keep, and most of them PIL images. Without a `seed` they draw from
`dezero.random`, item by item; what a seed does, `RandomStep` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dezero.transforms_base import RandomStep, check_image, image_size, pillow

__all__ = ["RandomCrop", "RandomErasing", "RandomHorizontalFlip", "RandomRotation", "RandomVerticalFlip"]

BILINEAR = 2  # Pillow's own number for it
_GROUP = 1 << 16  # pixels that are rotated at once: what is computed for them stays in the cache


class _OfImages(RandomStep):
    """A step for arrays (..., H, W), one as a batch of one, and for PIL images."""

    def apply(self, x: Any, numbers: np.ndarray) -> Any:
        if isinstance(x, np.ndarray):
            return self.apply_batch(x[np.newaxis], numbers[np.newaxis])[0]
        check_image(type(self).__name__, x)
        return self.apply_to_image(x, numbers)

    def apply_to_image(self, image: Any, numbers: np.ndarray) -> Any:
        raise TypeError(f"{type(self).__name__}: needs an array (C, H, W), got a PIL image; ToArray() makes one of it")


def _colour(image: Any, fill: float) -> Any:
    bands = len(image.getbands())  # Pillow takes a single number for the red one alone
    return int(fill) if bands == 1 else (int(fill),) * bands


def _probability(operation: str, probability: Any) -> float:
    if not isinstance(probability, (int, float, np.number)) or not 0 <= probability <= 1:
        raise ValueError(f"{operation}: probability must be a number from 0 to 1, got {probability!r}")
    return float(probability)


def _range(operation: str, name: str, low_high: Any, least: float, most: float) -> tuple[float, float]:
    ends = np.asarray(low_high, dtype=object)
    if ends.shape == (2,) and all(isinstance(end, (int, float, np.number)) for end in ends):
        low, high = float(ends[0]), float(ends[1])
        if least <= low <= high <= most and math.isfinite(high - low):
            return low, high
    raise ValueError(f"{operation}: {name} must be (low, high) from {least} to {most}, got {low_high!r}")


class _Flip(_OfImages):
    flipped: Any  # the index of a flipped array
    method: str  # Pillow's name for it

    def __init__(self, probability: float = 0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.probability = _probability(type(self).__name__, probability)

    def apply(self, x: Any, numbers: np.ndarray) -> Any:
        if isinstance(x, np.ndarray):
            return x[self.flipped] if numbers[0] < self.probability else x
        return super().apply(x, numbers)

    def apply_batch(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        chosen = numbers[:, 0] < self.probability
        y = x.copy()
        y[chosen] = x[chosen][self.flipped]
        return y

    def apply_to_image(self, image: Any, numbers: np.ndarray) -> Any:
        transpose = pillow(type(self).__name__).Transpose
        return image.transpose(transpose[self.method]) if numbers[0] < self.probability else image


class RandomHorizontalFlip(_Flip):
    """Mirror an image left to right, every second time on average: a PIL image, or an array (..., H, W).

    The coin is one draw, whatever it says.

    Args:
        probability: how often the image is mirrored (default: 0.5).
        seed: as RandomStep's (default: drawn from `dezero.random`).

    Raises ValueError for a probability that is none, and TypeError for what is no image.

    >>> RandomHorizontalFlip(probability=1)(np.array([[[1, 2, 3]]]))
    array([[[3, 2, 1]]])
    """

    flipped = (..., slice(None, None, -1))
    method = "FLIP_LEFT_RIGHT"


class RandomVerticalFlip(_Flip):
    """Turn an image upside down by mirroring it, every second time on average; otherwise as RandomHorizontalFlip.

    Args:
        probability: how often the image is mirrored (default: 0.5).
        seed: as RandomStep's (default: drawn from `dezero.random`).

    >>> RandomVerticalFlip(probability=1)(np.array([[[1], [2]]])).tolist()
    [[[2], [1]]]
    """

    flipped = (..., slice(None, None, -1), slice(None))
    method = "FLIP_TOP_BOTTOM"


class RandomCrop(_OfImages):
    """Cut a window of `size` out of an image, anywhere: (..., H, W) -> (..., height, width), or a PIL image.

    Two draws, for the row and the column.

    Args:
        size: an int, or (width, height).
        padding: how many pixels are put around the image first (default: 0).
        fill: their value (default: 0).
        seed: as RandomStep's (default: drawn from `dezero.random`).

    Raises ValueError for a size or padding that is none, or when the padded image is smaller than `size`.

    >>> x = np.arange(9).reshape(1, 3, 3)
    >>> RandomCrop(2, seed=1)(x).tolist()
    [[[0, 1], [3, 4]]]
    """

    draws = 2

    def __init__(self, size: int | Sequence[int], padding: int = 0, fill: float = 0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.size = image_size("RandomCrop", size)
        if not isinstance(padding, (int, np.integer)) or padding < 0:
            raise ValueError(f"RandomCrop: padding must be an int, at least 0, got {padding!r}")
        self.padding, self.fill = int(padding), fill

    def apply_batch(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        top, left = self._corner(x.shape[-1], x.shape[-2], numbers)
        windows = np.lib.stride_tricks.sliding_window_view(self._padded(x), self.size[::-1], axis=(-2, -1))
        return windows[np.arange(len(x)), ..., top, left, :, :]

    def _padded(self, x: np.ndarray) -> np.ndarray:
        if not self.padding:
            return x
        P, (H, W) = self.padding, x.shape[-2:]
        y = np.full((*x.shape[:-2], H + 2 * P, W + 2 * P), self.fill, x.dtype)
        y[..., P : P + H, P : P + W] = x
        return y

    def _corner(self, W: int, H: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = H + 2 * self.padding - self.size[1] + 1, W + 2 * self.padding - self.size[0] + 1
        if min(rows, columns) < 1:
            raise ValueError(
                f"RandomCrop: cannot cut {self.size} (width, height) out of {(W, H)} with {self.padding} around it; "
                "more padding, or Resize, makes it large enough"
            )
        return (numbers[..., 0] * rows).astype(int), (numbers[..., 1] * columns).astype(int)

    def apply_to_image(self, image: Any, numbers: np.ndarray) -> Any:
        from PIL import ImageOps

        (W, H), (OW, OH) = image.size, self.size
        top, left = (int(place) for place in self._corner(W, H, numbers))
        padded = ImageOps.expand(image, self.padding, _colour(image, self.fill)) if self.padding else image
        return padded.crop((left, top, left + OW, top + OH))


class RandomRotation(_OfImages):
    """Turn an image about its middle by an angle drawn from a range; its size stays: (..., H, W), or a PIL image.

    One draw. A positive angle turns counter-clockwise. Between pixels the image is interpolated bilinearly, in float32
    for arrays of other dtypes than float64, and rounded where the dtype is an integer's; Pillow does it for PIL images,
    with values up to one grey level apart.

    Args:
        degrees: the angle's range (low, high), or a number d for (-d, d).
        fill: the value of what comes from outside the image (default: 0).
        seed: as RandomStep's (default: drawn from `dezero.random`).

    Raises ValueError for degrees that are no range.

    >>> RandomRotation((90, 90))(np.array([[[1, 2], [3, 4]]])).tolist()
    [[[2, 4], [1, 3]]]
    """

    def __init__(self, degrees: float | Sequence[float], fill: float = 0, seed: int | None = None) -> None:
        super().__init__(seed)
        ends = (-degrees, degrees) if isinstance(degrees, (int, float, np.number)) else degrees
        try:
            self.degrees = _range("RandomRotation", "degrees", ends, -math.inf, math.inf)
        except ValueError:
            raise ValueError(
                f"RandomRotation: degrees must be (low, high), or a number of at least 0, got {degrees!r}"
            ) from None
        self.fill = fill

    def _angles(self, numbers: np.ndarray) -> np.ndarray:
        low, high = self.degrees
        return low + numbers[..., 0] * (high - low)

    def apply_to_image(self, image: Any, numbers: np.ndarray) -> Any:
        return image.rotate(float(self._angles(numbers)), resample=BILINEAR, fillcolor=_colour(image, self.fill))

    def apply_batch(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        N, (H, W) = len(x), x.shape[-2:]
        images = x.reshape(N, math.prod(x.shape[1:-2]), H * W)
        y = np.empty_like(images)
        angles, group = np.radians(self._angles(numbers)), max(1, _GROUP // max(1, H * W))
        for start in range(0, N, group):
            rows = slice(start, start + group)
            y[rows] = _rotated(images[rows], angles[rows], H, W, self.fill)
        return y.reshape(x.shape)


def _rotated(x: np.ndarray, angles: np.ndarray, H: int, W: int, fill: float) -> np.ndarray:
    """Return images x (N, C, H*W), each turned by its angle in radians."""
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    # Each pixel asks where it comes from: there the picture is turned back.
    cos, sin = (np.array([[[f(angle)]] for angle in angles]) for f in (math.cos, math.sin))
    down, right = np.arange(H)[:, np.newaxis] - (H - 1) / 2, np.arange(W) - (W - 1) / 2
    row, column = sin * right + cos * down + (H - 1) / 2, cos * right - sin * down + (W - 1) / 2
    inside = (row >= -0.5) & (row < H - 0.5) & (column >= -0.5) & (column < W - 0.5)
    top, left = np.floor(row), np.floor(column)
    a, b = (row - top).astype(dtype), (column - left).astype(dtype)
    y = np.zeros((len(x), x.shape[1], H * W), dtype)
    for i, rows in ((top, 1 - a), (top + 1, a)):
        for j, columns in ((left, 1 - b), (left + 1, b)):
            place = (np.clip(i, 0, H - 1) * W + np.clip(j, 0, W - 1)).astype(np.intp)
            y += (rows * columns).reshape(len(x), 1, -1) * np.take_along_axis(x, place.reshape(len(x), 1, -1), 2)
    if x.dtype.kind in "iu":
        np.rint(y, out=y)
    return np.where(inside.reshape(len(x), 1, -1), y, np.asarray(fill, dtype)).astype(x.dtype)


class RandomErasing(_OfImages):
    """Paint a rectangle over an image, every second time on average: an array (..., H, W).

    Five draws, whatever the first one says: whether, how large, of which proportions, at which row and column. What
    would reach beyond the image is as high or wide as the image.

    Args:
        probability: how often a rectangle is painted (default: 0.5).
        scale: the range of its area, as a part of the image's (default: (0.02, 0.33)).
        ratio: the range of its height divided by its width; tall and wide ones are equally likely, as the logarithm is
            drawn evenly (default: (0.3, 1 / 0.3)).
        value: what is painted (default: 0).
        seed: as RandomStep's (default: drawn from `dezero.random`).

    Raises ValueError for a probability or a range that is none, and TypeError for a PIL image.

    Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang: Random erasing data augmentation, 2017.

    >>> x = np.ones((1, 4, 4), dtype=np.uint8)
    >>> int(RandomErasing(1, scale=(0.25, 0.25), ratio=(1, 1))(x).sum())
    12
    """

    draws = 5

    def __init__(
        self,
        probability: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 1 / 0.3),
        value: float = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.probability = _probability("RandomErasing", probability)
        self.scale = _range("RandomErasing", "scale", scale, 0, 1)
        self.ratio = _range("RandomErasing", "ratio", ratio, 1e-6, 1e6)
        self.value = value

    def apply_batch(self, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        H, W = x.shape[-2:]
        (low, high), (flat, tall) = self.scale, np.log(self.ratio)
        area = H * W * (low + numbers[:, 1] * (high - low))
        ratio = np.exp(flat + numbers[:, 2] * (tall - flat))
        chosen = numbers[:, :1] < self.probability
        rows = _stretch(np.sqrt(area * ratio), H, numbers[:, 3]) & chosen
        columns = _stretch(np.sqrt(area / ratio), W, numbers[:, 4])
        painted = rows[:, :, np.newaxis] & columns[:, np.newaxis]
        y = x.copy()
        np.copyto(y, self.value, where=painted.reshape(len(x), *[1] * (x.ndim - 3), H, W), casting="unsafe")
        return y


def _stretch(length: np.ndarray, size: int, numbers: np.ndarray) -> np.ndarray:
    """Return which of `size` places a stretch of each length (N,) covers, laid where its number says: (N, size)."""
    lengths = np.clip(np.rint(length), 1, size)[:, np.newaxis]
    start = np.floor(numbers[:, np.newaxis] * (size - lengths + 1))
    places = np.arange(size)
    return (places >= start) & (places < start + lengths)
