"""Images of another size: pooling to a given size, and upsampling.

Most of it is one idea: along each axis a cell of y is a weighted mean of the cells of x. With the weights as the rows
of small matrices A (OH, H) and B (OW, W), y = A x B^T for every image and channel. A product is all that it takes, so
every derivative is there. (As in any product, 0 * inf is not a number: an infinite pixel spoils its whole channel.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import (
    Variable,
    as_operand,
    get_item,
    is_floating,
    matmul,
)
from dezero.functions_conv import Pair, check_images, check_pair

__all__ = ["adaptive_average_pooling", "global_average_pooling", "upsample"]


def _as_images(operation: str, x: Any) -> Variable:
    x = as_operand(operation, x)
    check_images(operation, x)
    if 0 in x.shape[2:]:
        raise ValueError(f"{operation}: the images of x {x.shape} have no pixels")
    return x


def _weigh(A: Any, x: Variable, B: Any) -> Variable:
    """A x B^T for every image and channel, with the matrices in x's dtype."""
    dtype = x.dtype if is_floating(x.dtype) else np.float64
    return matmul(matmul(A.astype(dtype), x), B.T.astype(dtype))


# Weights and cells are worked out where x is: a copy from the host cannot be captured, and every call would make one.

# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------


def global_average_pooling(x: Any, keepdims: bool = False) -> Variable:
    """The mean of each channel's pixels, (N, C, H, W) -> (N, C), or (N, C, 1, 1) with `keepdims`.

    Raises ValueError when x is not (N, C, H, W) or its images have no pixels.
    Source: Lin, Chen and Yan, "Network in network", 2014.

    >>> global_average_pooling(np.arange(8.0).reshape(1, 2, 2, 2))
    variable([[1.5 5.5]])
    """
    x = _as_images("global_average_pooling", x)
    return x.sum(axis=(2, 3), keepdims=keepdims) / (x.shape[2] * x.shape[3])


def adaptive_average_pooling(x: Any, output_size: Any) -> Variable:
    """The mean of each of OH x OW windows that cover the images, whatever their size: (N, C, H, W) -> (N, C, OH, OW).

    Window i reaches along its axis from floor(i * H / OH) up to, without, ceil((i + 1) * H / OH): neighbours share a
    pixel where the sizes do not divide.

    Args:
        x: images (N, C, H, W).
        output_size: an int or a pair (OH, OW); larger than the images, it repeats pixels.

    Raises ValueError when x is not (N, C, H, W), has no pixels, or `output_size` is not positive.
    PyTorch's adaptive_avg_pool2d.

    >>> adaptive_average_pooling(np.arange(5.0).reshape(1, 1, 1, 5), (1, 2))
    variable([[[[1. 3.]]]])
    """
    x = _as_images("adaptive_average_pooling", x)
    OH, OW = check_pair("adaptive_average_pooling", "output_size", output_size, at_least=1)
    H, W = x.shape[2:]
    xp = cuda.get_array_module(x.data)
    return _weigh(_window_means(xp, H, OH), x, _window_means(xp, W, OW))


def _window_means(xp: Any, size: int, outsize: int) -> Any:
    i, cells = xp.arange(outsize)[:, None], xp.arange(size)
    start, end = i * size // outsize, -((i + 1) * -size // outsize)
    inside = (start <= cells) & (cells < end)
    return inside / inside.sum(axis=1, keepdims=True)


# ----------------------------------------------------------------------------------------------------------------------
# Upsampling
# ----------------------------------------------------------------------------------------------------------------------


def upsample(
    x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool = False
) -> Variable:
    """Enlarge images, or shrink them: (N, C, H, W) -> (N, C, OH, OW).

    Pixel i of y lies at (i + 1/2) / scale - 1/2 in x; "bilinear" weighs the pixels around it, along each axis, by how
    near they are. "nearest" takes pixel floor(i / scale), without the halves.

    Args:
        x: images (N, C, H, W).
        size: (OH, OW), an int or a pair; scale is then OH / H and OW / W.
        scale_factor: in its place the scale itself, a number or a pair; OH = floor(H * scale).
        mode: "nearest" or "bilinear".
        align_corners: with "bilinear", let the outermost pixels' centres stay in place: i lies at
            i * (H - 1) / (OH - 1).

    Raises ValueError when x is not (N, C, H, W), when both or neither of `size` and `scale_factor` are given or leave
    no pixel, and for another mode. PyTorch's interpolate, without antialiasing.

    >>> x = np.array([[[[1.0, 3.0]]]])
    >>> upsample(x, scale_factor=2)
    variable([[[[1. 1. 3. 3.]
                [1. 1. 3. 3.]]]])
    >>> upsample(x, size=(1, 4), mode="bilinear")
    variable([[[[1.  1.5 2.5 3. ]]]])
    """
    x = _as_images("upsample", x)
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"upsample: mode must be 'nearest' or 'bilinear', got {mode!r}")
    if align_corners and mode == "nearest":
        raise ValueError("upsample: align_corners is for mode='bilinear'; 'nearest' has no corners to align")
    (H, W), ((OH, OW), (h, w)) = x.shape[2:], _outsize_and_steps(x, size, scale_factor)
    xp = cuda.get_array_module(x.data)
    if mode == "nearest":
        rows, columns = _nearest_cells(xp, H, OH, h), _nearest_cells(xp, W, OW, w)
        return get_item(x, (slice(None), slice(None), rows[:, None], columns))
    if align_corners:
        h, w = (H - 1) / max(OH - 1, 1), (W - 1) / max(OW - 1, 1)
    return _weigh(_hats(xp, H, OH, h, align_corners), x, _hats(xp, W, OW, w, align_corners))


def _outsize_and_steps(x: Variable, size: Any, scale_factor: Any) -> tuple[Pair, tuple[float, float]]:
    """Return (OH, OW), and how many pixels of x one step in y is along each axis."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"upsample: give size or scale_factor, one of them, got {size!r} and {scale_factor!r}")
    H, W = x.shape[2:]
    if size is not None:
        OH, OW = check_pair("upsample", "size", size, at_least=1)
        return (OH, OW), (H / OH, W / OW)
    scales = scale_factor if isinstance(scale_factor, tuple) else (scale_factor, scale_factor)
    if len(scales) != 2 or not all(_is_scale(scale) for scale in scales):
        raise ValueError(f"upsample: scale_factor must be a positive number or a pair of them, got {scale_factor!r}")
    h, w = map(float, scales)
    OH, OW = math.floor(H * h), math.floor(W * w)
    if OH < 1 or OW < 1:
        raise ValueError(f"upsample: scale_factor {scale_factor} leaves {OH}x{OW} of {H}x{W} pixels (x {x.shape})")
    # 5 pixels times 1.1 are 5 pixels: they stay as they are, in PyTorch too.
    return (OH, OW), (1.0 if OH == H else 1 / h, 1.0 if OW == W else 1 / w)


def _is_scale(scale: Any) -> bool:
    is_number = isinstance(scale, (int, float, np.integer, np.floating)) and not isinstance(scale, bool)
    return is_number and 0 < float(scale) < math.inf


def _nearest_cells(xp: Any, size: int, outsize: int, step: float) -> Any:
    """Which cell of x each cell of y is: floor(i * step), rounded as PyTorch does it."""
    step = 0.5 if outsize == 2 * size else step  # twice the pixels is each of them twice, whatever the scale_factor
    cells = xp.floor(xp.arange(outsize, dtype=np.float32) * np.float32(step)).astype(int)
    return xp.minimum(cells, size - 1)


def _hats(xp: Any, size: int, outsize: int, step: float, align_corners: bool) -> Any:
    """The weights of linear interpolation: a hat over each cell of y's place in x, down to 0 at a distance of 1."""
    i = xp.arange(outsize)
    place = i * step if align_corners else (i + 0.5) * step - 0.5
    place = xp.clip(place, 0, size - 1)  # beyond the outermost centres their pixels go on
    return xp.maximum(1 - abs(place[:, None] - xp.arange(size)), 0)
