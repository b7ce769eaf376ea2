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
import contextvars
import functools
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from dezero import cuda
from dezero.core import AsType, Function, Variable, astype, check_number, is_floating, is_int, mode

__all__ = ["GradScaler", "autocast"]

# ----------------------------------------------------------------------------------------------------------------------
# Casting
# ----------------------------------------------------------------------------------------------------------------------


_F = TypeVar("_F", bound=Callable[..., Any])

# The blocks that this thread, or task of asyncio's, is in, the innermost last: each beside what ends it. One `autocast`
# may be there several times, and in several threads, so it cannot itself hold how to go back.
_blocks: contextvars.ContextVar[tuple[tuple[autocast, Any], ...]] = contextvars.ContextVar("blocks", default=())


class autocast(contextlib.ContextDecorator):
    """Inside the `with` block, on a GPU, compute products and convolutions in `dtype`, and all else in float32.

    Args:
        dtype: "float16" or "bfloat16", or NumPy's dtype of that name; bfloat16 needs the package ml_dtypes and CuPy 14.
        enabled: False turns it off, inside the block of another one, too.

    What is exact in either, such as `reshape` or `relu`, keeps what dtype it gets; float64 stays float64. Parameters
    are cast at each use, and stay float32, as do their gradients. A backward pass computes in the dtypes of its forward
    pass, inside the block or, better, after it. With float16 use a `GradScaler`. The mode is that of this thread, or
    task of asyncio's. One made before a loop can be entered in every step, in itself, and in several threads.

    `@autocast()` before a function puts its calls into the block. Put no block around a `yield`: who called the
    generator runs inside it, too, and blocks of generators that end in another order than last in, first out leave it
    on.

    NumPy's arrays are never cast; a warning says so once. Raises ValueError for another dtype, and where a block ends
    in a thread that is not in it; TypeError for an `enabled` that is no bool, for `@autocast` without parentheses, and
    before what is no plain function: one that yields or awaits runs after its call is over; RuntimeError, at the first
    product, where bfloat16 cannot be had.

    >>> from dezero import cuda, functions as F
    >>> x, W = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    >>> with autocast(enabled=cuda.gpu_enable):
    ...     y = F.matmul(x, W)  # float16 on a GPU
    """

    def __init__(self, dtype: Any = "float16", enabled: bool = True) -> None:
        if callable(dtype) and not isinstance(dtype, type):  # NumPy's float16 is a class
            raise TypeError(f"autocast: expected a dtype, got {dtype!r:.60}; to decorate a function write @autocast()")
        self._casts = _Casts(_name_of_half(dtype)) if _check_enabled("autocast", enabled) else None

    def __enter__(self) -> None:
        block = mode("autocast", self._casts)
        block.__enter__()
        _blocks.set((*_blocks.get(), (self, block)))

    def __exit__(self, *error: object) -> None:
        blocks = list(_blocks.get())
        own = [i for i, (owner, _) in enumerate(blocks) if owner is self]
        if not own:
            raise ValueError("autocast: a block ends in a thread, or task, that is not in it; put none around a yield")
        _, block = blocks.pop(own[-1])
        _blocks.set(tuple(blocks))
        block.__exit__(None, None, None)  # after an error, too, the mode is what it was before

    def __call__(self, function: _F) -> _F:
        _check_decorated(function)
        return super().__call__(function)


# Calling one of these only makes an object: the body runs later, when the block around the call has ended.
_RUN_LATER = {
    "a generator function": inspect.isgeneratorfunction,
    "an async generator function": inspect.isasyncgenfunction,
    "a coroutine function": inspect.iscoroutinefunction,
}


def _check_decorated(function: Any) -> None:
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"autocast: @autocast() stands before a function or method, got {function!r:.60}")
    for kind, is_one in _RUN_LATER.items():
        if is_one(function) or is_one(function.__call__):
            raise TypeError(
                f"autocast: {function!r:.60} is {kind}, whose body runs after the call is over; "
                "write `with autocast():` inside the function, around no yield"
            )


def _check_enabled(operation: str, enabled: Any) -> bool:
    if not isinstance(enabled, bool):
        raise TypeError(f"{operation}: enabled must be True or False, got {enabled!r:.60}")
    return enabled


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
        init_scale: what the loss is multiplied with at first.
        growth_factor: the scale grows by it after `growth_interval` steps in a row that were taken.
        backoff_factor: the scale shrinks by it after a step that was not.
        growth_interval: how many.
        enabled: False makes `step` a plain `optimizer.update()`, and everything else nothing.

    Raises ValueError or TypeError for arguments that cannot be, and ValueError where calls come in another order than

        scaler.scale(loss).backward()  # for several losses in turn, too
        scaler.unscale(optimizer)      # only to look at gradients, or change them; the optimizer's hooks need it not
        scaler.step(optimizer)         # for several optimizers in turn, too
        scaler.update()

    Arguments, their defaults, and methods are named as PyTorch's: `unscale_` is its name of `unscale`. Not PyTorch's:
    there is no `device`; `step` takes the optimizer alone, and says whether the step was taken; `update` takes no
    scale; the factors and the interval are attributes; `state_dict` has keys of its own; and a gradient that optimizers
    share is divided once, not by each of them.

    Source: Micikevicius et al., "Mixed precision training", arXiv:1710.03740.

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
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self.enabled = _check_enabled("GradScaler", enabled)
        self._set("init_scale", init_scale, growth_factor, backoff_factor, growth_interval)
        self._begin()

    def _set(
        self,
        scale_name: str,
        scale: Any,
        growth_factor: Any,
        backoff_factor: Any,
        growth_interval: Any,
        good_steps: Any = 0,
    ) -> None:
        """Check everything, then assign it: an error leaves the scaler as it was."""
        checked_scale = check_number("GradScaler", scale_name, scale, _SMALLEST, _LARGEST)
        growth = float(check_number("GradScaler", "growth_factor", growth_factor, 1))
        backoff = float(check_number("GradScaler", "backoff_factor", backoff_factor, 0, 1))
        if backoff in (0, 1) or growth == math.inf:
            raise ValueError(
                f"GradScaler: backoff_factor must lie between 0 and 1, and growth_factor be finite, "
                f"got {backoff_factor} and {growth_factor}"
            )
        for name, value, low in ("growth_interval", growth_interval, 1), ("good_steps", good_steps, 0):
            if not is_int(value) or value < low:
                raise ValueError(f"GradScaler: {name} must be an int of at least {low}, got {value!r}")
        self._scale, self.growth_factor, self.backoff_factor = float(checked_scale), growth, backoff
        self.growth_interval, self._good_steps = int(growth_interval), int(good_steps)

    def _begin(self) -> None:
        """Forget what was done since the last `update`."""
        self._scaled = False
        self._divided: dict[Any, Any] = {}  # of each parameter whose gradient was unscaled: that gradient's array
        self._finite: dict[Any, list[Any]] = {}  # of each optimizer whose gradients were unscaled: on their device
        self._taken: dict[Any, bool] = {}  # of each optimizer that was asked for a step

    def get_scale(self) -> float:
        """What losses are multiplied with now."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Any) -> Any:
        """Return loss * scale, of one Variable, or of each in a list or tuple. Raises TypeError for anything else.

        A loss scaled after `unscale` or `step`, before `update`, mixes where it reaches the same parameters: its
        gradients, times the scale, are added to those that were divided already.
        """
        if isinstance(loss, (list, tuple)):
            make = getattr(loss, "_make", type(loss))  # a namedtuple's own way to be made of a list
            return make([self.scale(x) for x in loss])
        if not isinstance(loss, Variable):
            raise TypeError(f"GradScaler.scale: expected the loss, a Variable, got {type(loss).__name__}")
        if not self.enabled:
            return loss
        self._scaled = True
        if _bytes_of_float(loss) == 2:
            loss = astype(loss, np.float32)  # 65,536 is infinity in float16
        slots = _slots_of_a_capture()
        if slots is None:
            return loss * self._scale
        slots.action(lambda: setattr(self, "_scaled", True))
        return loss * slots.number(lambda: self._scale, loss.dtype)  # that of each replay

    def unscale(self, optimizer: Any) -> None:
        """g /= scale for each gradient g of the optimizer's parameters, in place: for clipping by hand, say.

        A gradient is divided once: what another optimizer's `unscale` or `step` has divided since the last `update`
        stays as it is. Raises ValueError where such a parameter has another gradient now, which may be new, or a sum
        with the one divided; where this optimizer's are unscaled already; where no parameter has a gradient, no loss
        was scaled, or the optimizer has no model; TypeError for what is no optimizer.
        """
        _check_optimizer("unscale", optimizer)
        if not self.enabled:
            return
        self._check_order("unscale", optimizer)
        if optimizer in self._finite:
            raise ValueError(
                f"GradScaler.unscale: the gradients of this {type(optimizer).__name__} are unscaled already; "
                "call it once, before step, and update() after that"
            )
        self._divide("unscale", optimizer)

    unscale_ = unscale  # PyTorch's name

    def _divide(self, method: str, optimizer: Any) -> None:
        params = _params_with_gradient(method, optimizer)
        done = {id(array) for array in self._divided.values()}
        if any(param in self._divided and id(param.grad.data) not in done for param in params):
            raise ValueError(
                f"GradScaler.{method}: a parameter of this {type(optimizer).__name__} is another optimizer's, too, and "
                "its gradient was unscaled for that one and is another one now; call update() before the next "
                "scaler.scale(loss).backward()"
            )
        for param in params:
            if id(param.grad.data) not in done:
                param.grad.data *= 1 / self._scale
                done.add(id(param.grad.data))
        self._divided.update({param: param.grad.data for param in params})
        self._finite[optimizer] = _all_finite([param.grad.data for param in params])

    def step(self, optimizer: Any) -> bool:
        """Unscale, and run `optimizer.update()` where all gradients are finite; say whether it was.

        A step that is not taken leaves parameters and the optimizer's state and count of steps as they are. Raises what
        `unscale` does, but does not mind that it was called, and what `optimizer.update()` raises; RuntimeError in a
        step given to `cuda.capture`, which must not read: `scale` may be called there, `step` and `update` behind it.
        """
        _check_optimizer("step", optimizer)
        if self.enabled and _slots_of_a_capture() is not None:
            raise RuntimeError("GradScaler.step reads whether gradients are finite; call it behind the captured step")
        if not self.enabled:
            optimizer.update()
            return True
        self._check_order("step", optimizer)
        if optimizer not in self._finite:
            self._divide("step", optimizer)
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
        """Go on from what `state_dict` returned.

        Raises ValueError for what is no dict with its keys, and for a number that cannot be; TypeError for what is no
        number. The scaler is then as it was.
        """
        if not isinstance(state, dict) or state.keys() != self.state_dict().keys():
            names = ", ".join(self.state_dict())
            raise ValueError(f"GradScaler.load_state_dict: expected a dict of {names}, got {state!r:.60}")
        self._set("scale", **state)


def _check_optimizer(method: str, optimizer: Any) -> None:
    if not hasattr(optimizer, "target") or not hasattr(optimizer, "update"):
        raise TypeError(f"GradScaler.{method}: expected an optimizer, got {type(optimizer).__name__}")
    if optimizer.target is None:
        raise ValueError(
            f"GradScaler.{method}: expected an optimizer with a model, got {type(optimizer).__name__}; "
            "call optimizer.setup(model) first"
        )


def _params_with_gradient(method: str, optimizer: Any) -> list[Any]:
    """Return an optimizer's parameters whose gradient is a Variable; `update` refuses what is no Variable."""
    params = [param for param in optimizer.target.params() if param.grad is not None]
    if not params:
        raise ValueError(
            f"GradScaler.{method}: no parameter of this {type(optimizer).__name__} has a gradient; "
            "call scaler.scale(loss).backward() first, and cleargrads() before that or after update()"
        )
    return [param for param in params if isinstance(param.grad, Variable)]


def _all_finite(arrays: Sequence[Any]) -> list[Any]:
    """Return one boolean, on the device, that says whether all numbers are finite; one for each device there is."""
    finite: dict[Any, list[Any]] = {}
    for x in arrays:
        xp = cuda.get_array_module(x)
        finite.setdefault(xp, []).append(xp.isfinite(x).all())
    return [xp.stack(each).all() for xp, each in finite.items()]


def _slots_of_a_capture() -> Any:
    """kernels/gpu/slots.py while a step is captured, else None."""
    slots = sys.modules.get("dezero.kernels.gpu.slots")
    return slots if slots is not None and slots.capturing() else None
