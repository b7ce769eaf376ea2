"""Mixed precision: products and convolutions in 16 bits, everything else in 32.

Each Function says with `precision` which of its inputs' dtypes it wants (core.py). While `autocast` is on, the gate of
every operation asks `_Casts`, which puts an `astype` in front where another dtype is wanted. That is a node like any
other: a gradient passes through it on its way back and takes the dtype of what was cast, float32 for a parameter, and
all orders of derivatives follow. A weight that is used twice is cast twice: nothing shows whether an array was changed
in place in between, so a copy that is kept could be that of another step's weights.

Small gradients vanish in float16, where 6e-8 is the smallest number. `GradScaler` multiplies the loss, and so all
gradients, by a large number, divides them again before the optimizer sees them, and finds that number by trying.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import AsType, Function, Variable, astype, check_number, is_floating, is_int, mode

__all__ = ["GradScaler", "autocast"]

# ----------------------------------------------------------------------------------------------------------------------
# Casting
# ----------------------------------------------------------------------------------------------------------------------


def autocast(dtype: Any = "float16", enabled: bool = True) -> contextlib._GeneratorContextManager[None]:
    """Inside the `with` block, on a GPU, compute products and convolutions in `dtype`, and all else in float32.

    Args:
        dtype: "float16" or "bfloat16", or NumPy's dtype of that name; bfloat16 needs the package ml_dtypes and CuPy 14.
        enabled: False turns it off, inside the block of another one, too.

    What is exact in either, such as `reshape` or `relu`, keeps what dtype it gets; float64 stays float64. Parameters
    are cast at each use, and stay float32, as do their gradients. A backward pass computes in the dtypes of its forward
    pass, inside the block or, better, after it. With float16 use a `GradScaler`. The mode is that of this thread, and
    can be put before a function: `@autocast()`.

    NumPy's arrays are never cast; a warning says so once. Raises ValueError for another dtype, and RuntimeError, at the
    first product, where bfloat16 cannot be had.

    >>> from dezero import cuda, functions as F
    >>> x, W = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    >>> with autocast(enabled=cuda.gpu_enable):
    ...     y = F.matmul(x, W)  # float16 on a GPU
    """
    return _casting(_Casts(_name_of_half(dtype)) if enabled else None)


@contextlib.contextmanager
def _casting(casts: _Casts | None) -> Iterator[None]:
    with mode("autocast", casts):
        yield


def _name_of_half(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except (TypeError, ValueError):
        name = dtype  # no dtype, or "bfloat16" before ml_dtypes has been imported
    if name not in ("float16", "bfloat16"):
        raise ValueError(
            f"autocast: dtype must be 'float16' or 'bfloat16', got {dtype!r:.60}; enabled=False turns it off"
        )
    return name


class _Casts:
    """What core asks at every operation of a forward pass while `autocast` is on."""

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def dtype(self) -> Any:
        return np.dtype(np.float16) if self.name == "float16" else _bfloat16()

    def cast(self, node: Function, inputs: list[Variable]) -> list[Variable]:
        """Return an operation's inputs as its `precision` wants them."""
        if node.precision == "any" or not _on_gpu([x.data for x in inputs]):
            return inputs
        sizes = [_bytes_of_float(x) for x in inputs]
        if node.precision != "half":
            return [AsType(np.float32)(x) if size == 2 else x for x, size in zip(inputs, sizes, strict=True)]
        if all(size in (0, 2, 4) for size in sizes):
            return [x if x.data is None or x.data.dtype == self.dtype else AsType(self.dtype)(x) for x in inputs]
        return inputs  # float64 is there to be exact, and an integer beside a half would make float64 of it


def _bytes_of_float(x: Variable) -> int:
    """The size of an element; 0 for no array, -1 for what are no floating numbers."""
    if x.data is None:
        return 0
    return x.data.dtype.itemsize if is_floating(x.data.dtype) else -1


def _on_gpu(arrays: Sequence[Any]) -> bool:
    """Say whether all arrays are CuPy's; where all are NumPy's, warn. The gate refuses mixtures."""
    numpys = {cuda.get_array_module(x) is np for x in arrays if x is not None}
    if numpys == {True}:
        _warn_once()
    return numpys == {False}


def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ImportError:
        raise RuntimeError(
            "autocast: bfloat16 needs the package ml_dtypes: pip install ml_dtypes; or use dtype='float16'"
        ) from None
    version = cuda.cupy.__version__
    if int(version.split(".")[0]) < 14:
        raise RuntimeError(f"autocast: CuPy {version} has no bfloat16: install CuPy 14, or use dtype='float16'")
    return np.dtype(ml_dtypes.bfloat16)


_warned = False
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _warn_once() -> None:
    """Warn, once a process, that there is nothing to cast, at the line outside the package that led here."""
    global _warned
    if _warned:
        return
    _warned = True
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    message = "autocast: NumPy arrays are computed in float32 throughout; it acts on a GPU (model.to_gpu())"
    warnings.warn(message, stacklevel=level)


# ----------------------------------------------------------------------------------------------------------------------
# Scaling
# ----------------------------------------------------------------------------------------------------------------------

_SMALLEST, _LARGEST = 2.0**-126, 2.0**126  # between these the scale, and 1 / scale, are float32's normal numbers


class GradScaler:
    """Multiplies the loss, so that small gradients do not vanish in float16, and takes no step where one overflowed.

    Args:
        scale: what the loss is multiplied with at first.
        growth_factor: the scale grows by it after `growth_interval` steps in a row that were taken.
        backoff_factor: the scale shrinks by it after a step that was not.
        growth_interval: how many.
        enabled: False makes `step` a plain `optimizer.update()`, and everything else nothing.

    Raises ValueError or TypeError for arguments that cannot be, and ValueError where calls come in another order than

        scaler.scale(loss).backward()  # for several losses in turn, too
        scaler.unscale(optimizer)      # only to look at gradients, or change them; the optimizer's hooks need it not
        scaler.step(optimizer)         # for several optimizers in turn, too
        scaler.update()

    Source: Micikevicius et al., "Mixed precision training", arXiv:1710.03740; the names are PyTorch's.

    >>> from dezero import layers as L, optimizers
    >>> model, scaler = L.Linear(1, in_size=2), GradScaler()
    >>> optimizer = optimizers.SGD(lr=0.1).setup(model)
    >>> scaler.scale(model(np.ones((4, 2), np.float32)).sum()).backward()
    >>> scaler.step(optimizer)
    True
    >>> scaler.update()
    """

    def __init__(
        self,
        scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self._set(scale, growth_factor, backoff_factor, growth_interval)
        self._begin()

    def _set(
        self, scale: Any, growth_factor: Any, backoff_factor: Any, growth_interval: Any, good_steps: Any = 0
    ) -> None:
        self._scale = float(check_number("GradScaler", "scale", scale, _SMALLEST, _LARGEST))
        self.growth_factor = float(check_number("GradScaler", "growth_factor", growth_factor, 1))
        self.backoff_factor = float(check_number("GradScaler", "backoff_factor", backoff_factor, 0, 1))
        if self.backoff_factor in (0, 1) or self.growth_factor == math.inf:
            raise ValueError(
                f"GradScaler: backoff_factor must lie between 0 and 1, and growth_factor be finite, "
                f"got {backoff_factor} and {growth_factor}"
            )
        for name, value, low in ("growth_interval", growth_interval, 1), ("good_steps", good_steps, 0):
            if not is_int(value) or value < low:
                raise ValueError(f"GradScaler: {name} must be an int of at least {low}, got {value!r}")
        self.growth_interval, self._good_steps = int(growth_interval), int(good_steps)

    def _begin(self) -> None:
        """Forget what was done since the last `update`."""
        self._scaled = False
        self._finite: dict[Any, list[Any]] = {}  # of each optimizer whose gradients were unscaled: on their device
        self._taken: dict[Any, bool] = {}  # of each optimizer that was asked for a step

    def get_scale(self) -> float:
        """What losses are multiplied with now."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Any) -> Any:
        """Return loss * scale, of one Variable, or of each in a list or tuple."""
        if isinstance(loss, (list, tuple)):
            return type(loss)([self.scale(x) for x in loss])
        if not isinstance(loss, Variable):
            raise TypeError(f"GradScaler.scale: expected the loss, a Variable, got {type(loss).__name__}")
        if not self.enabled:
            return loss
        self._scaled = True
        if _bytes_of_float(loss) == 2:
            loss = astype(loss, np.float32)  # 65,536 is infinity in float16
        return loss * self._scale

    def unscale(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place: for clipping by hand, say."""
        if not self.enabled:
            return
        self._check_order("unscale", optimizer)
        if optimizer in self._finite:
            raise ValueError(
                f"GradScaler.unscale: the gradients of this {type(optimizer).__name__} are unscaled already; "
                "call it once, before step, and update() after that"
            )
        gradients = _gradients(optimizer)
        for gradient in gradients:
            gradient.data *= 1 / self._scale
        self._finite[optimizer] = _all_finite([gradient.data for gradient in gradients])

    def step(self, optimizer: Any) -> bool:
        """Unscale, and run `optimizer.update()` where all gradients are finite; say whether it was.

        A step that is not taken leaves parameters and the optimizer's state and count of steps as they are.
        """
        if not self.enabled:
            optimizer.update()
            return True
        self._check_order("step", optimizer)
        if optimizer not in self._finite:
            self.unscale(optimizer)
        finite = all(map(bool, self._finite[optimizer]))  # the one place where the CPU waits for the GPU
        if finite:
            optimizer.update()
        self._taken[optimizer] = finite
        return finite

    def update(self) -> None:
        """Shrink the scale after a step that was not taken, let it grow after many that were; once an iteration."""
        if not self.enabled:
            return
        if not self._taken:
            raise ValueError("GradScaler.update: there was no step since the last update(); call step(optimizer) first")
        if not all(self._taken.values()):
            self._scale, self._good_steps = max(self._scale * self.backoff_factor, _SMALLEST), 0
        elif self._good_steps + 1 < self.growth_interval:
            self._good_steps += 1
        else:
            self._scale, self._good_steps = min(self._scale * self.growth_factor, _LARGEST), 0
        self._begin()

    def _check_order(self, method: str, optimizer: Any) -> None:
        if not self._scaled:
            raise ValueError(
                f"GradScaler.{method}: no loss was scaled since the last update(); "
                "call scaler.scale(loss).backward() first"
            )
        if optimizer in self._taken:
            raise ValueError(
                f"GradScaler.{method}: this {type(optimizer).__name__} had its step; call update() before the next"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and all that decides how it goes on, as plain numbers."""
        return {
            "scale": self._scale,
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "good_steps": self._good_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError when it is anything else."""
        if not isinstance(state, dict) or state.keys() != self.state_dict().keys():
            names = ", ".join(self.state_dict())
            raise ValueError(f"GradScaler.load_state_dict: expected a dict of {names}, got {state!r:.60}")
        self._set(**state)


def _gradients(optimizer: Any) -> list[Variable]:
    """Return the gradients of an optimizer's parameters, an array that two of them share once."""
    if getattr(optimizer, "target", None) is None:
        raise ValueError(
            f"GradScaler: expected an optimizer with a model, got {type(optimizer).__name__}; "
            "call optimizer.setup(model) first"
        )
    gradients = [param.grad for param in optimizer.target.params()]
    return list({id(gradient.data): gradient for gradient in gradients if isinstance(gradient, Variable)}.values())


def _all_finite(arrays: Sequence[Any]) -> list[Any]:
    """Return one boolean, on the device, that says whether all numbers are finite; one for each device there is."""
    finite: dict[Any, list[Any]] = {}
    for x in arrays:
        xp = cuda.get_array_module(x)
        finite.setdefault(xp, []).append(xp.isfinite(x).all())
    return [xp.stack(each).all() for xp, each in finite.items()]
