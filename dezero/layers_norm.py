"""L: normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda
from dezero import functions as F
from dezero.core import Parameter, Variable, as_operand
from dezero.layers_base import Layer

__all__ = ["BatchNorm"]


class BatchNorm(Layer):
    """Normalise each channel over the batch, (N, C) or (N, C, H, W). See `functions.batch_norm`.

    gamma and beta are learned; avg_mean and avg_var, the running statistics that `test_mode()` uses, are buffers. All
    four (C,) are made at the first call, of x's dtype, float32 at least.

    >>> bn = BatchNorm()
    >>> y = bn(np.array([[1.0], [3.0]]))
    >>> bn.avg_mean  # 0.9 * 0 + 0.1 * 2
    variable([0.2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.avg_mean = Parameter(None, name="avg_mean")
        self.avg_var = Parameter(None, name="avg_var")
        self.gamma = Parameter(None, name="gamma")
        self.beta = Parameter(None, name="beta")
        self.avg_mean.is_buffer = self.avg_var.is_buffer = True
        for param in self.params():
            param.expected_shape = (None,)

    def _init_params(self, x: Any) -> None:
        if x.ndim not in (2, 4):
            raise ValueError(f"BatchNorm: x must have shape (N, C) or (N, C, H, W), got {x.shape}")
        xp = cuda.get_array_module(x.data)
        # Statistics of many halves want more digits than a half has.
        dtype = x.dtype if x.dtype.kind == "f" and x.dtype.itemsize >= 4 else np.float32
        for param, value in ((self.avg_mean, 0), (self.avg_var, 1), (self.gamma, 1), (self.beta, 0)):
            if param.data is None:
                param.data = xp.full(x.shape[1], value, dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("BatchNorm", x)
        if any(param.data is None for param in self.params()):
            self._init_params(x)
        return F.batch_norm(x, self.gamma, self.beta, self.avg_mean.data, self.avg_var.data)
