"""Steps from a stored item to what a model eats: each is an object called with one item, and `Compose` chains them.

A step that can do a whole batch at once has a second method, `batch(x)`, where `x` has one more axis in front. It must
give what stacking the single results would give; datasets use it to build a batch without a loop in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dezero import random

__all__ = [
    "AsType",
    "CenterCrop",
    "Compose",
    "Convert",
    "Flatten",
    "Normalize",
    "RandomHorizontalFlip",
    "Resize",
    "ToArray",
    "ToFloat",
    "ToInt",
    "ToPIL",
    "batch_form",
]

Transform = Callable[[Any], Any]

BILINEAR = 2  # Pillow's own number for it, so that Pillow need not be imported to write a default


def batch_form(transform: Transform) -> Transform | None:
    """Return the function that does a whole batch at once as `transform` does its items, or None if there is none.

    That is `transform.batch`, unless a subclass gave `__call__` a new meaning and left the inherited `batch` behind.

    >>> batch_form(Flatten())(np.zeros((5, 1, 28, 28))).shape
    (5, 784)
    >>> batch_form(lambda x: x + 1) is None
    True
    """
    lineage = type(transform).__mro__
    batch_owner = next((cls for cls in lineage if "batch" in vars(cls)), object)
    call_owner = next((cls for cls in lineage if "__call__" in vars(cls)), object)
    return getattr(transform, "batch", None) if issubclass(batch_owner, call_owner) else None


class Compose:
    """Apply `transforms` one after the other; none at all is the identity.

    Args:
        transforms: a list of callables, first one first (default: none).

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
        forms = [batch_form(transform) for transform in self.transforms]
        known = [form for form in forms if form is not None]
        return Compose(known) if len(known) == len(forms) else None


# Images: these take Pillow's


def _pillow(operation: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{operation}: Pillow is not installed: pip install 'dezero[plot]'") from error
    return Image


def _check_image(operation: str, image: Any) -> None:
    if not isinstance(image, _pillow(operation).Image):
        raise TypeError(f"{operation}: needs a PIL image, got {type(image).__name__}; ToPIL() makes one of an array")


def _size(operation: str, size: int | Sequence[int]) -> tuple[int, int]:
    sizes = np.asarray(size)
    if sizes.shape not in ((), (2,)) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"{operation}: size must be an int or (width, height), at least 1, got {size!r}")
    width, height = np.broadcast_to(sizes, 2).tolist()
    return width, height


class Convert:
    """Convert a PIL image to another colour mode.

    Args:
        mode: any mode of Pillow's, such as `"L"`, or `"BGR"`: an RGB image with red and blue exchanged
            (default: `"RGB"`).
    """

    def __init__(self, mode: str = "RGB") -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        _check_image("Convert", image)
        if self.mode != "BGR":
            return image.convert(self.mode)
        red, green, blue = image.convert("RGB").split()
        return _pillow("Convert").merge("RGB", (blue, green, red))


class Resize:
    """Resize a PIL image, whatever its proportions.

    Args:
        size: an int, or (width, height).
        mode: one of Pillow's resampling filters (default: bilinear).
    """

    def __init__(self, size: int | Sequence[int], mode: int = BILINEAR) -> None:
        self.size = _size("Resize", size)
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        _check_image("Resize", image)
        return image.resize(self.size, self.mode)


class CenterCrop:
    """Cut the middle out of a PIL image; where the image is smaller, the rest is black.

    Args:
        size: an int, or (width, height).
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size("CenterCrop", size)

    def __call__(self, image: Any) -> Any:
        _check_image("CenterCrop", image)
        (W, H), (OW, OH) = image.size, self.size
        # Where the margin is odd, the greater half of it is on the right and at the bottom.
        left, top = (W - OW) // 2, (H - OH) // 2
        return image.crop((left, top, left + OW, top + OH))


class RandomHorizontalFlip:
    """Mirror an image left to right, every second time on average: a PIL image, or an array (..., H, W).

    The coin is one draw from DeZero's source of random numbers, whatever it says.
    """

    def __call__(self, image: Any) -> Any:
        flip = random.uniform(1)[0] < 0.5
        if isinstance(image, np.ndarray):
            return image[..., ::-1] if flip else image
        _check_image("RandomHorizontalFlip", image)
        return image.transpose(_pillow("RandomHorizontalFlip").Transpose.FLIP_LEFT_RIGHT) if flip else image


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
        _check_image("ToArray", image)
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
        return _pillow("ToPIL").fromarray(np.ascontiguousarray(pixels))


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

    Raises ValueError if a sequence's length is not x's number of channels.

    >>> Normalize([1, 2], 0.5)(np.array([[1, 2], [1, 2]], dtype=np.float32))
    array([[ 0.,  2.],
           [-2.,  0.]], dtype=float32)
    """

    def __init__(self, mean: Any = 0, std: Any = 1) -> None:
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)

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
