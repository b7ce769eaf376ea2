"""Steps from a stored item to what a model eats: each is an object called with one item, and `Compose` chains them.

A step that can do a whole batch at once has a second method, `batch(x)`, where `x` has one more axis in front. It must
give what stacking the single results would give; datasets use it to build a batch without a loop in Python. Steps that
draw, `RandomCrop` and its like, are in transforms_random.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dezero.transforms_base import Compose, RandomStep, Transform, batch_form, check_image, image_size, pillow
from dezero.transforms_random import (
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
)

__all__ = [
    "AsType",
    "CenterCrop",
    "Compose",
    "Convert",
    "Flatten",
    "Normalize",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomStep",
    "RandomVerticalFlip",
    "Resize",
    "ToArray",
    "ToFloat",
    "ToInt",
    "ToPIL",
    "Transform",
    "batch_form",
]

BILINEAR = 2  # Pillow's own number for it, so that Pillow need not be imported to write a default

# Images: these take Pillow's


class Convert:
    """Convert a PIL image to another colour mode.

    Args:
        mode: any mode of Pillow's, such as `"L"`, or `"BGR"`: an RGB image with red and blue exchanged
            (default: `"RGB"`).
    """

    def __init__(self, mode: str = "RGB") -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        check_image("Convert", image)
        if self.mode != "BGR":
            return image.convert(self.mode)
        red, green, blue = image.convert("RGB").split()
        return pillow("Convert").merge("RGB", (blue, green, red))


class Resize:
    """Resize a PIL image, whatever its proportions.

    Args:
        size: an int, or (width, height).
        mode: one of Pillow's resampling filters (default: bilinear).
    """

    def __init__(self, size: int | Sequence[int], mode: int = BILINEAR) -> None:
        self.size = image_size("Resize", size)
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        check_image("Resize", image)
        return image.resize(self.size, self.mode)


class CenterCrop:
    """Cut the middle out of a PIL image; where the image is smaller, the rest is black.

    Args:
        size: an int, or (width, height).
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = image_size("CenterCrop", size)

    def __call__(self, image: Any) -> Any:
        check_image("CenterCrop", image)
        (W, H), (OW, OH) = image.size, self.size
        # Where the margin is odd, the greater half of it is on the right and at the bottom.
        left, top = (W - OW) // 2, (H - OH) // 2
        return image.crop((left, top, left + OW, top + OH))


class ToArray:
    """Turn a PIL image of C channels into an array (C, H, W) of 0 .. 255; an array is returned as it is.

    Args:
        dtype: the array's (default: float32).
    """

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def __call__(self, image: Any) -> np.ndarray:
        if isinstance(image, np.ndarray):
            return image
        check_image("ToArray", image)
        pixels = np.array(image, dtype=self.dtype)
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class ToPIL:
    """Turn an array (C, H, W) of 0 .. 255 into a PIL image: the way back from ToArray.

    Values between two whole numbers are rounded, those outside the range clipped. C is 1, 3 or 4.
    """

    def __call__(self, array: Any) -> Any:
        array = np.asarray(array)
        if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
            raise ValueError(f"ToPIL: expected an array (C, H, W) of 1, 3 or 4 channels, got shape {array.shape}")
        pixels = array if array.dtype == np.uint8 else np.clip(np.rint(array), 0, 255).astype(np.uint8)
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        return pillow("ToPIL").fromarray(np.ascontiguousarray(pixels))


# Arrays: these work on a whole batch too


def _per_channel(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim > 1 or array.size == 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"Normalize: {name} must be a number, or one number a channel, got {value!r}")
    return array


class Normalize:
    """Subtract the mean and divide by the deviation: y = (x - mean) / std.

    x (C, H, W) -> y (C, H, W), of x's dtype if that is floating and of float64 otherwise.

    Args:
        mean: a number, or a sequence of C numbers (default: 0).
        std: the same (default: 1).

    Raises ValueError if a sequence's length is not x's number of channels, and for a deviation of 0.

    >>> Normalize([1, 2], 0.5)(np.array([[1, 2], [1, 2]], dtype=np.float32))
    array([[ 0.,  2.],
           [-2.,  0.]], dtype=float32)
    """

    def __init__(self, mean: Any = 0, std: Any = 1) -> None:
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)
        if not self.std.all():
            raise ValueError(f"Normalize: std must not be 0, by which nothing can be divided, got {std!r}")

    def __call__(self, x: Any) -> Any:
        return self._normalize(np.asarray(x), channel_axis=0)

    def batch(self, x: np.ndarray) -> np.ndarray:
        return self._normalize(x, channel_axis=1)

    def _normalize(self, x: np.ndarray, channel_axis: int) -> Any:
        # Whole numbers turn floating first: an unsigned 3 minus 5 would be 254.
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        mean, std = (self._align(value, x, channel_axis).astype(dtype) for value in (self.mean, self.std))
        y = np.subtract(x, mean, dtype=dtype)
        y /= std
        return y

    def _align(self, value: np.ndarray, x: np.ndarray, channel_axis: int) -> np.ndarray:
        if value.size == 1:
            return value.reshape(())
        if x.ndim <= channel_axis or x.shape[channel_axis] != value.size:
            shape = x.shape[channel_axis:]
            raise ValueError(f"Normalize: {value.size} means or deviations for x {shape}: expected one a channel")
        return value.reshape((-1,) + (1,) * (x.ndim - channel_axis - 1))


class Flatten:
    """Lay an array out in one axis: x (C, H, W) -> (C*H*W,).

    >>> Flatten()(np.zeros((1, 28, 28))).shape
    (784,)
    """

    def __call__(self, x: Any) -> np.ndarray:
        return np.asarray(x).flatten()

    def batch(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), math.prod(x.shape[1:]))


class AsType:
    """Convert an array or a number to `dtype`.

    Args:
        dtype: any dtype (default: float32).

    >>> AsType(np.int32)(np.array([1.0, 2.0]))
    array([1, 2], dtype=int32)
    """

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def __call__(self, x: Any) -> Any:
        return np.asarray(x).astype(self.dtype)[()]  # [()]: one label stays a number, and can be a dict's key

    def batch(self, x: np.ndarray) -> np.ndarray:
        return x.astype(self.dtype)


class ToFloat(AsType):
    """Convert an array or a number to float32, or to the floating `dtype` given."""


class ToInt(AsType):
    """Convert an array or a number to int, or to the integer `dtype` given."""

    def __init__(self, dtype: Any = int) -> None:
        super().__init__(dtype)
