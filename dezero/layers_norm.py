"""L: normalisation, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda
from dezero import functions as F
from dezero.core import Parameter, Variable, as_ints, as_operand, check_number
from dezero.layers_base import Layer, check_dtype, check_flag, check_size

__all__ = ["BatchNorm", "Dropout", "GroupNorm", "InstanceNorm", "LayerNorm"]


class BatchNorm(Layer):
    """Normalise each channel over the batch, (N, C), (N, C, L) or (N, C, H, W). See `functions.batch_norm`.

    gamma and beta are learned; avg_mean and avg_var, the running statistics that `test_mode()` uses, are buffers. All
    four (C,) are made at the first call, of x's dtype, float32 at least.

    Args:
        decay: how much of the running statistics stays at each call while training.
        eps: what is added to the variance.

    >>> bn = BatchNorm()
    >>> y = bn(np.array([[1.0], [3.0]]))
    >>> bn.avg_mean  # 0.9 * 0 + 0.1 * 2
    variable([0.2])
    """

    decay, eps = 0.9, 2e-5  # pickles of layers that could not choose have none

    def __init__(self, decay: float = 0.9, eps: float = 2e-5) -> None:
        super().__init__()
        self.decay = check_number("BatchNorm", "decay", decay, 0, 1)
        self.eps = check_number("BatchNorm", "eps", eps, low=0)
        self.avg_mean = Parameter(None, name="avg_mean")
        self.avg_var = Parameter(None, name="avg_var")
        self.gamma = Parameter(None, name="gamma")
        self.beta = Parameter(None, name="beta")
        self.avg_mean.is_buffer = self.avg_var.is_buffer = True
        for param in self.params():
            param.expected_shape = (None,)

    def _init_params(self, x: Any) -> None:
        if x.ndim not in (2, 3, 4) or not x.shape[1]:
            raise ValueError(
                f"BatchNorm: x must have shape (N, C), (N, C, L) or (N, C, H, W), with C > 0, got {x.shape}"
            )
        xp = cuda.get_array_module(x.data)
        # Statistics of many halves want more digits than a half has.
        dtype = x.dtype.newbyteorder("=") if x.dtype.kind == "f" and x.dtype.itemsize >= 4 else np.float32
        for param, value in ((self.avg_mean, 0), (self.avg_var, 1), (self.gamma, 1), (self.beta, 0)):
            if param.data is None:
                param.data = xp.full(x.shape[1], value, dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("BatchNorm", x)
        if any(param.data is None for param in self.params()):
            self._init_params(x)
        return F.batch_norm(x, self.gamma, self.beta, self.avg_mean.data, self.avg_var.data, self.decay, self.eps)


class _SampleNorm(Layer):
    """What normalises each sample by itself, in use as in training; a subclass says how large gamma and beta are."""

    def __init__(self, shape: Any, eps: float, affine: bool, dtype: Any) -> None:
        super().__init__()
        name = type(self).__name__
        self.eps = check_number(name, "eps", eps, low=0)
        self.affine = check_flag(name, "affine", affine)
        self.dtype = check_dtype(name, dtype)
        self.gamma = Parameter(None, name="gamma") if self.affine else None
        self.beta = Parameter(None, name="beta") if self.affine else None
        for param in self.params():
            param.expected_shape, param.expected_dtype = shape or (None,), dtype
        if shape is not None:
            self._make(shape, None)

    def _make(self, shape: tuple[int, ...], x: Any) -> None:
        for param, value in ((self.gamma, 1), (self.beta, 0)):
            if param is not None and param.data is None:
                param.data = cuda.as_owned_by(x, np.full(shape, value, self.dtype))


class LayerNorm(_SampleNorm):
    """Normalise each sample over its last axes, (..., D) -> (..., D). See `functions.layer_norm`.

    Args:
        normalized_shape: the sizes of these axes, an int for one; None for the last axis alone, whose size x tells at
            the first call.
        eps: what is added to the variance.
        affine: whether to learn gamma and beta, of that shape, which start at 1 and 0.
        dtype: of gamma and beta, float32 by default.

    Raises ValueError when x does not end with these axes. Source: Ba et al., arXiv:1607.06450.

    >>> y = LayerNorm(4)(np.arange(8.0).reshape(2, 4))
    >>> np.allclose(y.data.mean(axis=1), 0, atol=1e-6), np.allclose(y.data.std(axis=1), 1, atol=1e-4)
    (True, True)
    """

    def __init__(
        self, normalized_shape: Any = None, eps: float = 1e-5, affine: bool = True, dtype: Any = np.float32
    ) -> None:
        self.normalized_shape = shape = normalized_shape
        if shape is not None:
            shape = as_ints("LayerNorm", "normalized_shape", shape)
            if not shape or min(shape) < 1:
                raise ValueError(f"LayerNorm: normalized_shape must be positive ints, got {normalized_shape!r}")
        super().__init__(shape, eps, affine, dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("LayerNorm", x)
        shape = self.normalized_shape
        if shape is None:
            if not x.ndim or not x.shape[-1]:
                raise ValueError(f"LayerNorm: expected x (..., D) with D > 0, got {x.shape}")
            shape = x.shape[-1:]
            self._make(shape, x.data)
        return F.layer_norm(x, shape, self.gamma, self.beta, self.eps)


class GroupNorm(_SampleNorm):
    """Normalise each sample over groups of its channels, (N, C, ...). See `functions.group_norm`.

    Args:
        num_groups: how many groups of channels, in order; it divides C.
        channels: C; None to learn it from x at the first call.
        eps, affine, dtype: as in LayerNorm; gamma and beta are (C,).

    Raises ValueError when the groups do not divide the channels. Source: Wu and He, arXiv:1803.08494.

    >>> GroupNorm(2)(np.zeros((1, 6, 5, 5), np.float32)).shape
    (1, 6, 5, 5)
    """

    def __init__(
        self,
        num_groups: int,
        channels: int | None = None,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.num_groups = check_size("GroupNorm", "num_groups", num_groups)
        self.channels = None if channels is None else check_size("GroupNorm", "channels", channels)
        if self.channels is not None:
            self._check_groups(self.channels)
        super().__init__(None if channels is None else (self.channels,), eps, affine, dtype)

    def _check_groups(self, channels: int) -> None:
        if channels % self.num_groups or not channels:
            raise ValueError(f"GroupNorm: num_groups must divide the channels, got {self.num_groups} and {channels}")

    def forward(self, x: Any) -> Variable:
        x = as_operand("GroupNorm", x)
        if x.ndim < 2:
            raise ValueError(f"GroupNorm: x must have shape (N, C, ...), got {x.shape}")
        self._check_groups(x.shape[1])
        self._make(x.shape[1:2], x.data)
        return F.group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)


class InstanceNorm(_SampleNorm):
    """Normalise each channel of each sample by itself, (N, C, ...). See `functions.instance_norm`.

    Args:
        channels: C; None to learn it from x at the first call.
        eps, affine, dtype: as in LayerNorm, but nothing is learned by default; gamma and beta are (C,).

    Raises ValueError when x has no axis after C. Source: Ulyanov et al., arXiv:1607.08022.

    >>> InstanceNorm()(np.zeros((1, 6, 5, 5), np.float32)).shape
    (1, 6, 5, 5)
    """

    def __init__(
        self, channels: int | None = None, eps: float = 1e-5, affine: bool = False, dtype: Any = np.float32
    ) -> None:
        self.channels = None if channels is None else check_size("InstanceNorm", "channels", channels)
        super().__init__(None if channels is None else (self.channels,), eps, affine, dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("InstanceNorm", x)
        if x.ndim < 3 or not x.shape[1]:
            raise ValueError(f"InstanceNorm: x must have shape (N, C, ...), with one axis more at least, got {x.shape}")
        self._make(x.shape[1:2], x.data)
        return F.instance_norm(x, self.gamma, self.beta, self.eps)


class Dropout(Layer):
    """While training, drop each element with probability `dropout_ratio`. See `functions.dropout`.

    >>> from dezero import test_mode
    >>> with test_mode():
    ...     Dropout(0.9)(np.ones(3))
    variable([1. 1. 1.])
    """

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        super().__init__()
        self.dropout_ratio = check_number("Dropout", "dropout_ratio", dropout_ratio, 0, 1)

    def forward(self, x: Any) -> Variable:
        return F.dropout(x, self.dropout_ratio)
