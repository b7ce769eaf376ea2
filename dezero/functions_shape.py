"""F: shapes, joining and taking apart. Reshape, transpose, broadcasting and indexing are core's.

Those are enough to express most of what is here: a flip is an index, a tile a broadcast between two reshapes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import (
    Function,
    Variable,
    as_ints,
    as_operand,
    broadcast_to,
    get_item,
    is_int,
    normalize_axes,
    normalize_axis,
    reshape,
    transpose,
)

__all__ = [
    "Concat",
    "Pad",
    "Split",
    "concat",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "moveaxis",
    "pad",
    "repeat",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "tile",
]

# ----------------------------------------------------------------------------------------------------------------------
# Axes
# ----------------------------------------------------------------------------------------------------------------------


def expand_dims(x: Any, axis: int) -> Variable:
    """Insert an axis of size 1 at position `axis` of the result; -1 is the last.

    >>> expand_dims(np.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    x = as_operand("expand_dims", x)
    if is_int(axis) and not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"expand_dims: axis {axis} is out of bounds for a result of {x.ndim + 1} axes (x {x.shape})")
    position = normalize_axis("expand_dims", axis, x.ndim + 1)
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def squeeze(x: Any, axis: Any = None) -> Variable:
    """Leave out axes of size 1: those named, an int or a tuple, or all of them. Raises ValueError for a larger axis.

    >>> squeeze(np.zeros((2, 1, 3, 1))).shape, squeeze(np.zeros((2, 1, 3, 1)), axis=1).shape
    ((2, 3), (2, 3, 1))
    """
    x = as_operand("squeeze", x)
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    axes = ones if axis is None else _axes("squeeze", x, axis)
    for i in axes:
        if i not in ones:
            raise ValueError(f"squeeze: expected an axis of size 1, got axis {i} of size {x.shape[i]} (x {x.shape})")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def flatten(x: Any) -> Variable:
    """Keep the first axis and join all others: (N, C, H, W) -> (N, C*H*W).

    >>> flatten(np.zeros((5, 3, 2, 2))).shape
    (5, 12)
    """
    x = as_operand("flatten", x)
    if x.ndim == 0:
        raise ValueError("flatten: expected at least one axis, got a 0-dimensional x")
    return reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def moveaxis(x: Any, source: Any, destination: Any) -> Variable:
    """Move the axis `source` to the place `destination`, or several, tuples; the others keep their order.

    >>> moveaxis(np.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = as_operand("moveaxis", x)
    sources, places = _axes("moveaxis", x, source), _axes("moveaxis", x, destination)
    if len(sources) != len(places):
        raise ValueError(f"moveaxis: {len(sources)} axes cannot move to {len(places)} places")
    order = [i for i in range(x.ndim) if i not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(x, order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Variable:
    """Exchange two axes.

    >>> swapaxes(np.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = as_operand("swapaxes", x)
    i, j = normalize_axis("swapaxes", axis1, x.ndim), normalize_axis("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return transpose(x, order)


def flip(x: Any, axis: Any = None) -> Variable:
    """Reverse the order of the elements along `axis`, an int, a tuple of ints, or None for every axis.

    >>> flip(np.array([1.0, 2.0, 3.0]))
    variable([3. 2. 1.])
    """
    x = as_operand("flip", x)
    axes = range(x.ndim) if axis is None else _axes("flip", x, axis)
    return get_item(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)))


def _axes(operation: str, x: Variable, axis: Any) -> tuple[int, ...]:
    """Return axes, an int or a sequence, counted from the front."""
    return normalize_axes(operation, as_ints(operation, "axis", axis), x.ndim)


# ----------------------------------------------------------------------------------------------------------------------
# Joining and splitting: each is the other's derivative
# ----------------------------------------------------------------------------------------------------------------------


class Concat(Function):
    precision = "any"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *xs: Any) -> Any:
        _check_concat(xs, self.axis)
        sizes = [x.shape[self.axis] for x in xs]
        self.boundaries = list(itertools.accumulate(sizes))[:-1]
        return cuda.get_array_module(xs[0]).concatenate(xs, axis=self.axis)

    def backward(self, gy: Variable) -> Any:
        return split(gy, self.boundaries, self.axis)


def concat(xs: Sequence[Any], axis: int = 0) -> Variable:
    """Join arrays one after the other along an axis they have; their other axes are equal.

    Raises ValueError when there is none to join, or the shapes do not fit.

    >>> concat([np.array([1.0, 2.0]), np.array([3.0])])
    variable([1. 2. 3.])
    """
    return Concat(axis)(*_several("concat", xs))


concatenate = concat  # NumPy has both names


def stack(xs: Sequence[Any], axis: int = 0) -> Variable:
    """Join arrays of one shape along a new axis, which stands at position `axis` of the result.

    Raises ValueError when there is none to join, or the shapes differ.

    >>> stack([np.array([1.0, 2.0]), np.array([3.0, 4.0])], axis=1)
    variable([[1. 3.]
              [2. 4.]])
    """
    xs = [as_operand("stack", x) for x in _several("stack", xs)]
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise ValueError(
                f"stack: expected arrays of one shape, got {xs[0].shape} first and {x.shape} as number {i}"
            )
    axis = normalize_axis("stack", axis, xs[0].ndim + 1)
    return concat([expand_dims(x, axis) for x in xs], axis)


def _several(operation: str, xs: Any) -> list[Any]:
    if not isinstance(xs, (list, tuple)):
        raise TypeError(f"{operation}: expected a list of arrays, got {type(xs).__name__}; write {operation}([x0, x1])")
    if not xs:
        raise ValueError(f"{operation}: expected at least one array to join, got none")
    return list(xs)


def _check_concat(xs: Sequence[Any], axis: Any) -> None:
    first = xs[0]
    if first.ndim == 0:
        raise ValueError("concat: 0-dimensional arrays have no axis to be joined along; use stack")
    axis = normalize_axis("concat", axis, first.ndim)
    others = first.shape[:axis], first.shape[axis + 1 :]
    for i, x in enumerate(xs):
        if x.ndim != first.ndim or (x.shape[:axis], x.shape[axis + 1 :]) != others:
            raise ValueError(
                f"concat: shapes may differ in axis {axis} alone, got {first.shape} first and {x.shape} as number {i}"
            )


class Split(Function):
    precision = "any"

    def __init__(self, boundaries: Sequence[int], axis: int) -> None:
        self.boundaries = boundaries
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return tuple(cuda.get_array_module(x).split(x, self.boundaries, axis=self.axis))

    def backward(self, *gys: Variable) -> Any:
        return concat(gys, self.axis)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Variable]:
    """Take an array apart along `axis`: into as many equal parts as the int says, or in front of each index listed.

    Raises ValueError when the parts cannot be equal, or the indices do not ascend within the axis.

    >>> split(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    [variable([1. 2.]), variable([3. 4.])]
    >>> split(np.array([1.0, 2.0, 3.0, 4.0]), [1])
    [variable([1.]), variable([2. 3. 4.])]
    """
    x = as_operand("split", x)
    axis = normalize_axis("split", axis, x.ndim)
    parts = Split(_boundaries(x.shape[axis], indices_or_sections, f"axis {axis} of x {x.shape}"), axis)(x)
    return parts if isinstance(parts, list) else [parts]


def _boundaries(size: int, indices_or_sections: Any, where: str) -> list[int]:
    if is_int(indices_or_sections):
        count = int(indices_or_sections)
        if count < 1 or size % count:
            raise ValueError(f"split: {where} cannot be taken apart into {count} equal parts")
        return [size // count * i for i in range(1, count)]
    boundaries = list(as_ints("split", "indices_or_sections", indices_or_sections))
    if sorted([0, *boundaries, size]) != [0, *boundaries, size]:
        raise ValueError(f"split: indices must ascend within 0..{size} for {where}, got {boundaries}")
    return boundaries


# ----------------------------------------------------------------------------------------------------------------------
# Repeating, taking, padding
# ----------------------------------------------------------------------------------------------------------------------


def tile(x: Any, reps: Any) -> Variable:
    """Lay copies of x side by side, `reps` times along each axis; an int counts for the last axis.

    >>> tile(np.array([1.0, 2.0]), 2)
    variable([1. 2. 1. 2.])
    """
    x = as_operand("tile", x)
    counts = as_ints("tile", "reps", reps)
    if min(counts, default=1) < 0:
        raise ValueError(f"tile: reps must be at least 0, got {reps!r}")
    ndim = max(x.ndim, len(counts))
    counts, sizes = (1,) * (ndim - len(counts)) + counts, (1,) * (ndim - x.ndim) + x.shape
    # A copy is a step along an axis of its own, in front of each axis of x.
    apart = reshape(x, tuple(n for size in sizes for n in (1, size)))
    copies = broadcast_to(apart, tuple(n for pair in zip(counts, sizes, strict=True) for n in pair))
    return reshape(copies, tuple(count * size for count, size in zip(counts, sizes, strict=True)))


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Variable:
    """Repeat each element `repeats` times in place, an int or one for each; along `axis`, or of x flattened.

    >>> repeat(np.array([1.0, 2.0]), 2)
    variable([1. 1. 2. 2.])
    """
    x, axis = _flat_without_axis("repeat", x, axis)
    counts = np.asarray(as_ints("repeat", "repeats", repeats), dtype=int)
    size = x.shape[axis]
    if counts.size not in (1, size) or counts.min(initial=0) < 0:
        raise ValueError(f"repeat: repeats must be a count, or {size} of them, none negative, got {repeats!r:.60}")
    if counts.size == 1:
        copies = tile(expand_dims(x, axis + 1), (int(counts[0]),) + (1,) * (x.ndim - axis - 1))
        return reshape(copies, (*x.shape[:axis], size * int(counts[0]), *x.shape[axis + 1 :]))
    return take(x, np.repeat(np.arange(size), counts), axis)


def take(x: Any, indices: Any, axis: int | None = None) -> Variable:
    """Pick the elements that the integer array `indices` names, along `axis`, or out of x flattened.

    Negative indices count from the end; an element taken twice receives both gradients. Raises TypeError when indices
    are not integers, IndexError when one is out of bounds.

    >>> take(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), [2, 0, 2], axis=1)
    variable([[3. 1. 3.]
              [6. 4. 6.]])
    """
    x, axis = _flat_without_axis("take", x, axis)
    indices = as_indices("take: indices", indices)
    size = x.shape[axis]
    check_range(IndexError, "take: indices", indices, size, lowest=-size)
    return get_item(x, (slice(None),) * axis + (indices,))


def _flat_without_axis(operation: str, x: Any, axis: Any) -> tuple[Variable, int]:
    x = as_operand(operation, x)
    if axis is None:
        return reshape(x, (-1,)), 0
    return x, normalize_axis(operation, axis, x.ndim)


def as_indices(what: str, ids: Any) -> Any:
    """Return integers, a number, a list, an array or a Variable, as a plain array. Raises TypeError for others."""
    ids = cuda.plain(ids)
    if not cuda.is_array(ids):
        ids = _rectangular(f"{what} must be integers", ids)
        ids = ids if ids.size else ids.astype(int)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {ids.dtype}")
    return ids


def _rectangular(expected: str, x: Any) -> Any:
    """Make an array of nested lists. Raises ValueError when they are ragged."""
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"{expected}, got lists of different lengths: {x!r:.60}") from None


def check_range(error: type[Exception], what: str, ids: Any, size: int, lowest: int = 0) -> None:
    """Raise `error` when an id is not in lowest..size-1. On a GPU, looking would stop the stream."""
    if isinstance(ids, np.ndarray) and ids.size and (ids.min() < lowest or ids.max() >= size):
        bad = int(np.flatnonzero((ids.ravel() < lowest) | (ids.ravel() >= size))[0])
        raise error(f"{what} must lie in {lowest}..{size - 1}, got {ids.ravel()[bad]} at index {bad}")


class Pad(Function):
    precision = "any"

    def __init__(self, widths: Sequence[tuple[int, int]], constant_values: Any) -> None:
        self.widths = widths
        self.constant_values = constant_values

    def forward(self, x: Any) -> Any:
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(self.widths, x.shape, strict=True))
        return cuda.get_array_module(x).pad(x, self.widths, constant_values=self.constant_values)

    def backward(self, gy: Variable) -> Any:
        return get_item(gy, self.inside)


_PADDING_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Variable:
    """Put elements around x.

    Args:
        pad_width: how many: an int for every side of every axis, a pair (before, after) for every axis, or one such
            pair for each axis.
        mode: "constant", "edge" (the last element again), "reflect" (a mirror on the last element), "symmetric" (a
            mirror behind it) or "wrap" (the other end).
        constant_values: what "constant" puts there.

    Raises ValueError when the widths do not fit x or the mode is another.

    >>> pad(np.array([1.0, 2.0, 3.0]), (1, 2))
    variable([0. 1. 2. 3. 0. 0.])
    >>> pad(np.array([1.0, 2.0, 3.0]), 2, mode="reflect")
    variable([3. 2. 1. 2. 3. 2. 1.])
    """
    x = as_operand("pad", x)
    if isinstance(constant_values, Variable):
        raise TypeError("pad: constant_values receives no gradient; give a number or an array, not a Variable")
    widths = _pad_widths(x, pad_width)
    if mode == "constant":
        return Pad(widths, constant_values)(x)
    if mode not in _PADDING_MODES:
        raise ValueError(f"pad: mode must be one of {', '.join(_PADDING_MODES)}, got {mode!r}")
    for axis, width in enumerate(widths):  # the other modes repeat elements of x: pad their places, and take those
        if any(width):
            if x.shape[axis] == 0:
                raise ValueError(f"pad: mode {mode!r} has nothing to repeat along axis {axis} of x {x.shape}")
            x = take(x, np.pad(np.arange(x.shape[axis]), width, mode), axis)  # type: ignore[call-overload]
    return x


def _pad_widths(x: Variable, pad_width: Any) -> list[tuple[int, int]]:
    expected = f"pad_width must be an int, a pair (before, after), or one pair for each of the {x.ndim} axes of x"
    given = _rectangular(f"pad: {expected}", pad_width)
    if given.dtype.kind not in "iu":
        raise TypeError(f"pad: {expected}, got {pad_width!r:.60}")
    if given.shape not in ((), (1,), (2,), (1, 1), (1, 2), (x.ndim, 1), (x.ndim, 2)):
        raise ValueError(f"pad: {expected} {x.shape}, got {pad_width!r:.60}")
    if x.ndim == 0:
        raise ValueError("pad: x is 0-dimensional, and has no sides")
    if given.min(initial=0) < 0:
        raise ValueError(f"pad: pad_width must be at least 0, got {pad_width!r:.60}")
    return [(int(before), int(after)) for before, after in np.broadcast_to(given, (x.ndim, 2))]
