"""Hooks, which look at gradients, and may change them, before a rule does its work; and clipping by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import Parameter, check_number
from dezero.optimizers_base import number_of_now, params_of, with_gradient

__all__ = ["ClipGrad", "ClipGradValue", "FreezeParam", "WeightDecay", "clip_grad_norm", "clip_grad_value"]


class WeightDecay:
    """g += rate * p: parameters are drawn towards 0. Raises ValueError or TypeError unless `rate` is 0 or more."""

    def __init__(self, rate: float) -> None:
        self.rate = check_number("WeightDecay", "rate", rate, 0)

    def __call__(self, params: list[Any]) -> None:
        rates = {
            dtype: number_of_now(lambda: self.rate, dtype) for dtype in dict.fromkeys(param.dtype for param in params)
        }
        for param in params:
            param.grad.data += rates[param.dtype] * param.data


class ClipGrad:
    """Scale all gradients down together when their common norm sqrt(sum of g * g) is above `max_norm`.

    Where the norm is NaN all gradients stay as they are; where it is infinite, finite elements become 0, and infinite
    ones NaN. Raises ValueError or TypeError unless `max_norm` is 0 or more.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = check_number("ClipGrad", "max_norm", max_norm, 0)

    def __call__(self, params: list[Any]) -> None:
        _clip_norm(params, lambda: self.max_norm)


class ClipGradValue:
    """Clip each element of each gradient to -max_value..max_value: an infinite one too, while NaN stays NaN.

    Raises ValueError or TypeError unless `max_value` is 0 or more.
    """

    def __init__(self, max_value: float) -> None:
        self.max_value = check_number("ClipGradValue", "max_value", max_value, 0)

    def __call__(self, params: list[Any]) -> None:
        _clip_value(params, lambda: self.max_value)


def clip_grad_norm(params: Any, max_norm: float) -> Any:
    """Do what the hook ClipGrad does to the gradients there are now, and return what their norm was.

    Args:
        params: a Layer, a Parameter, or a list of them; those without a gradient do not count.
        max_norm: what the norm is to be at most, 0 or more; math.inf to find the norm alone.

    Returns an array of no axes, float64; reading it (`float(norm)`) waits for a GPU. Raises ValueError for a `max_norm`
    that is negative or NaN, TypeError for what are no parameters.

    >>> from dezero import Variable
    >>> p = Parameter(np.zeros(2))
    >>> p.grad = Variable(np.array([3.0, 4.0]))
    >>> float(clip_grad_norm([p], 1.0)), np.round(p.grad.data, 3).tolist()
    (5.0, [0.6, 0.8])
    """
    max_norm = check_number("clip_grad_norm", "max_norm", max_norm, 0)
    return _clip_norm(with_gradient(params_of("clip_grad_norm", [params])), lambda: max_norm)


def clip_grad_value(params: Any, max_value: float) -> None:
    """Do what the hook ClipGradValue does to the gradients of a Layer, a Parameter, or a list of them.

    Raises ValueError for a negative or NaN `max_value`, TypeError for what are no parameters.
    """
    max_value = check_number("clip_grad_value", "max_value", max_value, 0)
    _clip_value(with_gradient(params_of("clip_grad_value", [params])), lambda: max_value)


def _clip_norm(params: list[Any], max_norm: Callable[[], float]) -> Any:
    # in float64: the squares of large float32 gradients overflow
    squares = sum((param.grad.data.astype("f8") ** 2).sum() for param in params)
    if any(cuda.get_array_module(param.grad.data) is np for param in params):
        norm = math.sqrt(float(squares))
        rate = max_norm() / (norm + 1e-6)
        if rate < 1:
            for param in params:
                param.grad.data *= rate
        return np.asarray(norm)
    return _clip_norm_on_gpu(params, squares, max_norm) if params else np.zeros(())


def _clip_norm_on_gpu(params: list[Any], squares: Any, max_norm: Callable[[], float]) -> Any:
    """Read no value: multiply always, with 1 where the norm is small, or is no number."""
    xp = cuda.get_array_module(squares)
    norm = xp.sqrt(squares)
    rate = xp.fmin(1, number_of_now(max_norm, np.float64) / (norm + 1e-6))
    rates = {dtype: rate.astype(dtype) for dtype in dict.fromkeys(param.grad.data.dtype for param in params)}
    for param in params:
        param.grad.data *= rates[param.grad.data.dtype]
    return norm


def _clip_value(params: list[Any], max_value: Callable[[], float]) -> None:
    limits = {
        dtype: number_of_now(max_value, dtype) for dtype in dict.fromkeys(param.grad.data.dtype for param in params)
    }
    for param in params:
        g = param.grad.data
        limit = limits[g.dtype]
        cuda.get_array_module(g).clip(g, -limit, limit, out=g)


class FreezeParam:
    """Keep parameters as they are: those given, and those of the layers given."""

    def __init__(self, *layers: Any) -> None:
        self.frozen: set[Any] = set()
        for layer in layers:
            if not isinstance(layer, Parameter) and not hasattr(layer, "params"):
                raise TypeError(f"FreezeParam: expected Layers and Parameters, got {type(layer).__name__}")
            self.frozen.update([layer] if isinstance(layer, Parameter) else layer.params())

    def __call__(self, params: list[Any]) -> None:
        for param in params:
            if param in self.frozen:
                param.cleargrad()
