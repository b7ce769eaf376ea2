"""F: normalisation, and dropout. batch_norm and dropout do one thing in training and another in use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, kernels, random
from dezero.core import (
    Config,
    Function,
    Variable,
    as_floating,
    as_ints,
    as_operand,
    as_python_number,
    check_number,
    is_int,
    reshape,
)
from dezero.functions_elementwise import sqrt
from dezero.functions_reduction import mean, sum

__all__ = [
    "BatchNorm",
    "batch_norm",
    "batch_nrom",
    "dropout",
    "group_norm",
    "instance_norm",
    "layer_norm",
]


class BatchNorm(Function):
    def __init__(self, mean: Any, var: Any, decay: float, eps: float) -> None:
        self.running_mean = mean
        self.running_var = var
        self.decay = as_python_number(decay)
        self.eps = as_python_number(eps)

    def forward(self, x: Any, gamma: Any, beta: Any) -> Any:
        _check_batch_norm(x, gamma, beta, self.running_mean, self.running_var)
        self.axes = (0,) if x.ndim == 2 else (0, 2, 3)
        self.channels = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)  # the shape that lines gamma up with x's second axis
        self.train = Config.train
        if self.train:
            kernel = kernels.for_array(x)
            y, self.mean, self.var = kernel.batch_norm(x, gamma, beta, self.eps)
            if not Config.recomputing:  # the first time around, this batch was counted
                running = self.running_mean, self.running_var
                kernel.update_statistics(*running, self.mean, self.var, self.decay, x.size // gamma.size)
            return y
        # copies: training goes on changing the running arrays in place
        self.mean, self.var = self.running_mean.astype(gamma.dtype), self.running_var.astype(gamma.dtype)
        scale = gamma / (self.var + self.eps) ** 0.5
        return kernels.for_array(x).scale_and_shift(x, scale, beta - self.mean * scale)

    def backward(self, gy: Variable) -> Any:
        x, gamma, _ = self.inputs
        if self.train and not Config.enable_backprop:
            return BatchNormGrad(self.mean, self.var, self.eps)(x, gy, gamma)
        # Everything that depends on x is computed from x again, as Variables, so that higher orders are right.
        if self.train:
            centred = x - mean(x, self.axes, keepdims=True)
            std = (mean(centred * centred, self.axes, keepdims=True) + self.eps) ** 0.5
        else:
            centred = x - self.mean.reshape(self.channels)
            std = ((self.var + self.eps) ** 0.5).reshape(self.channels)
        normal = centred / std
        ggamma, gbeta = sum(gy * normal, self.axes), sum(gy, self.axes)
        gx = gy
        if self.train:
            gx = gy - mean(gy, self.axes, keepdims=True) - normal * mean(gy * normal, self.axes, keepdims=True)
        return gx * (reshape(gamma, self.channels) / std), ggamma, gbeta


class BatchNormGrad(Function):
    """The gradients of batch_norm in one pass, where nothing is recorded: it has no gradient itself."""

    def __init__(self, mean: Any, var: Any, eps: float) -> None:
        self.mean, self.var, self.eps = mean, var, eps

    def forward(self, x: Any, gy: Any, gamma: Any) -> Any:
        return kernels.for_array(x).batch_norm_grad(x, gy, gamma, self.mean, self.var, self.eps)


def batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, decay: float = 0.9, eps: float = 2e-5) -> Variable:
    """Normalise each channel over the batch: y = gamma * (x - m) / sqrt(v + eps) + beta.

    While training, m and v are the batch's mean and (biased) variance, and the running arrays are updated in place:
    `mean = decay * mean + (1 - decay) * m`, `var` likewise with the unbiased variance. In `test_mode()` m and v are
    the running arrays. Where `checkpoint` repeats a forward pass, they are left alone.

    Args:
        x: (N, C), (N, C, L) or (N, C, H, W).
        gamma, beta: (C,).
        mean, var: running arrays (C,), plain arrays or Variables.

    Raises ValueError when the shapes do not fit. Source: Ioffe and Szegedy, arXiv:1502.03167.

    >>> x = np.array([[1.0], [3.0]])
    >>> batch_norm(x, np.ones(1), np.zeros(1), np.zeros(1), np.ones(1), eps=0.0)
    variable([[-1.]
              [ 1.]])
    """
    x = as_operand("batch_norm", x)
    norm = BatchNorm(cuda.plain(mean), cuda.plain(var), decay, eps)
    if x.ndim != 3:
        return norm(x, gamma, beta)
    N, C, L = x.shape  # images of one row: kernels know no others
    return reshape(norm(reshape(x, (N, C, 1, L)), gamma, beta), x.shape)


batch_nrom = batch_norm  # the name under which DeZero programs know it


def _check_batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> None:
    if x.ndim not in (2, 4):
        raise ValueError(f"batch_norm: x must have shape (N, C), (N, C, L) or (N, C, H, W), got {x.shape}")
    for name, array in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if array.shape != (x.shape[1],):
            raise ValueError(
                f"batch_norm: {name} must have shape {(x.shape[1],)}, one for each channel of x, got {array.shape}"
            )
    cuda.check_same_device("batch_norm", [x, gamma, beta, mean, var])
    if Config.train and x.size == 0:
        raise ValueError(f"batch_norm: x {x.shape} is empty, so it has no mean to train with; use test_mode()")


class Normalise(Function):
    """y = (x - m) / sqrt(v + eps) row by row of a matrix, m and v its mean and (biased) variance."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Any) -> Any:
        y, _, self.std = kernels.for_array(x).normalise(x, self.eps)
        return y

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        if not Config.enable_backprop:
            return NormaliseGrad(self.std)(y, gy)
        (x,) = self.inputs  # std is computed from x again, as a Variable, so that higher orders are right
        centred = x - mean(x, 1, keepdims=True)
        std = sqrt(mean(centred * centred, 1, keepdims=True) + self.eps)
        return (gy - mean(gy, 1, keepdims=True) - y * mean(gy * y, 1, keepdims=True)) / std


class NormaliseGrad(Function):
    """The gradient of normalise in one pass, where nothing is recorded: it has no gradient itself."""

    def __init__(self, std: Any) -> None:
        self.std = std

    def forward(self, y: Any, gy: Any) -> Any:
        return kernels.for_array(y).normalise_grad(y, self.std, gy)


def layer_norm(x: Any, normalized_shape: Any, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Variable:
    """Normalise each sample by itself: y = gamma * (x - m) / sqrt(v + eps) + beta, m and v over the last axes.

    Args:
        normalized_shape: the sizes of the last axes of x, over which mean and (biased) variance are taken; an int for
            one axis.
        gamma, beta: of that shape, or None.

    Raises ValueError when the shapes do not fit. Source: Ba et al., arXiv:1607.06450.

    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), 2, eps=0.0)
    variable([[-1.  1.]
              [-1.  1.]])
    """
    x = as_floating("layer_norm", x)
    shape = as_ints("layer_norm", "normalized_shape", normalized_shape)
    if not shape or 0 in shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: normalized_shape must be the sizes of the last axes of x {x.shape}, got {shape}")
    y = _normalise("layer_norm", x, math.prod(shape), eps)
    return _scale_and_shift("layer_norm", y, gamma, beta, shape, shape)


def group_norm(x: Any, num_groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Variable:
    """Normalise each sample over groups of its channels: y = gamma * (x - m) / sqrt(v + eps) + beta.

    Args:
        x: (N, C, ...). m and v, the mean and (biased) variance, are taken over C / num_groups channels and all that
            follows.
        gamma, beta: (C,), or None.

    Raises ValueError when the groups do not divide the channels, or the shapes do not fit. Source: Wu and He,
    arXiv:1803.08494.

    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0.0)
    variable([[-1.  1. -1.  1.]])
    """
    return _group_norm("group_norm", x, num_groups, gamma, beta, eps)


def instance_norm(x: Any, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> Variable:
    """Normalise each channel of each sample by itself: y = gamma * (x - m) / sqrt(v + eps) + beta.

    Args:
        x: (N, C, ...). m and v, the mean and (biased) variance, are taken over all that follows C.
        gamma, beta: (C,), or None.

    Raises ValueError when the shapes do not fit. Source: Ulyanov et al., arXiv:1607.08022.

    >>> instance_norm(np.array([[[1.0, 3.0], [10.0, 30.0]]]), eps=0.0)
    variable([[[-1.  1.]
               [-1.  1.]]])
    """
    x = as_operand("instance_norm", x)
    if x.ndim < 3:
        raise ValueError(f"instance_norm: x must have shape (N, C, ...), with one axis more at least, got {x.shape}")
    return _group_norm("instance_norm", x, x.shape[1], gamma, beta, eps)


def _group_norm(operation: str, x: Any, num_groups: Any, gamma: Any, beta: Any, eps: float) -> Variable:
    x = as_floating(operation, x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"{operation}: x must have shape (N, C, ...) and values to normalise, got {x.shape}")
    C = x.shape[1]
    if not is_int(num_groups) or num_groups < 1 or C % num_groups:
        raise ValueError(f"{operation}: num_groups must divide the {C} channels of x {x.shape}, got {num_groups!r}")
    y = _normalise(operation, x, math.prod(x.shape[1:]) // num_groups, eps)
    return _scale_and_shift(operation, y, gamma, beta, (C,), (C,) + (1,) * (x.ndim - 2))


def _normalise(operation: str, x: Variable, length: int, eps: float) -> Variable:
    """Normalise x in runs of so many elements."""
    eps = check_number(operation, "eps", eps, low=0)
    return reshape(Normalise(eps)(reshape(x, (-1, length))), x.shape)


def _scale_and_shift(operation: str, y: Variable, gamma: Any, beta: Any, shape: Any, column: Any) -> Variable:
    """gamma * y + beta, both of `shape`, which lines up with y as `column`; None leaves a part out."""
    if gamma is not None:
        y = y * _column(operation, "gamma", gamma, shape, column)
    if beta is not None:
        y = y + _column(operation, "beta", beta, shape, column)
    return y


def _column(operation: str, name: str, param: Any, shape: Any, column: Any) -> Variable:
    param = as_operand(operation, param)
    if param.shape != shape:
        raise ValueError(f"{operation}: {name} must have shape {shape}, got {param.shape}")
    return reshape(param, column)


def dropout(x: Any, dropout_ratio: float = 0.5) -> Variable:
    """While training, set each element to 0 with probability `dropout_ratio` and scale the others by 1 / (1 - ratio).

    In `test_mode()` y = x. Raises ValueError when the ratio is not in 0..1. Source: Srivastava et al., JMLR 15 (2014).

    >>> from dezero import test_mode
    >>> with test_mode():
    ...     dropout(np.ones(3))
    variable([1. 1. 1.])
    """
    dropout_ratio = check_number("dropout", "dropout_ratio", dropout_ratio, 0, 1)
    operand = as_operand("dropout", x)
    if not Config.train:
        return operand if operand is x else Variable(operand.data)
    scale = 1 / (1 - dropout_ratio) if dropout_ratio < 1 else 0.0
    x = operand.data
    if isinstance(x, np.ndarray):
        return operand * ((random.uniform(*x.shape) > dropout_ratio).astype(x.dtype) * scale)
    return Dropout(dropout_ratio, scale)(as_floating("dropout", operand))


class Dropout(Function):
    """y = x * mask, with a mask drawn where x is: `scale` where an element is kept, 0 where it is dropped."""

    precision = "any"

    def __init__(self, ratio: float, scale: float) -> None:
        self.ratio, self.scale = ratio, scale

    def forward(self, x: Any) -> Any:
        y, self.mask = kernels.for_array(x).dropout(x, self.ratio, self.scale, random.keys())
        return y

    def backward(self, gy: Variable) -> Any:
        return gy * self.mask
