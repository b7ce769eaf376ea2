"""L: layers that multiply by weights: Linear, convolutions, EmbedID."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import functions as F
from dezero import random
from dezero.core import Parameter, Variable, as_operand
from dezero.functions_conv import Window, check_images, check_windows, pair
from dezero.initializers import draw_weights
from dezero.layers_base import Layer, check_beside, check_dtype, check_nobias, check_size

__all__ = ["Conv2d", "Deconv2d", "EmbedID", "Linear"]


class Linear(Layer):
    """y = x W + b: (N, in) -> (N, out). See `functions.linear`.

    Args:
        out_size: how many outputs.
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_size: how many inputs; None to learn it from x at the first call, which makes W.

    W (in, out) is drawn from N(0, 1 / in); b (out,) starts at 0.

    >>> linear = Linear(10)
    >>> linear(np.zeros((5, 3), np.float32)).shape, linear.W.shape
    ((5, 10), (3, 10))
    """

    def __init__(
        self, out_size: int, nobias: bool = False, dtype: Any = np.float32, in_size: int | None = None
    ) -> None:
        super().__init__()
        self.in_size: Any = None if in_size is None else check_size("Linear", "in_size", in_size)
        self.out_size = check_size("Linear", "out_size", out_size)
        self.dtype = check_dtype("Linear", dtype)
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = (self.in_size, self.out_size), dtype
        if self.in_size is not None:
            self._init_W(None)
        self.b = None if check_nobias("Linear", nobias) else Parameter(np.zeros(self.out_size, dtype=dtype), name="b")

    def _init_W(self, x: Any) -> None:
        self.W.data = draw_weights((self.in_size, self.out_size), self.in_size, x, self.dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("Linear", x)
        if self.W.data is None:
            if not x.ndim or not x.shape[-1]:
                raise ValueError(f"Linear: expected x (N, in) with in > 0, got {x.shape}")
            check_beside("Linear", x, self.b)
            self.in_size = x.shape[-1]
            self._init_W(x.data)
        return F.linear(x, self.W, self.b)


class _Convolution(Layer):
    """What Conv2d and Deconv2d have in common: their arguments, and weights made at the first call."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels: Any = None if in_channels is None else check_size(name, "in_channels", in_channels)
        self.out_channels = check_size(name, "out_channels", out_channels)
        Window.check(name, kernel_size, stride, pad)
        self.kernel_size, self.stride, self.pad = kernel_size, stride, pad
        self.dtype = check_dtype(name, dtype)
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = (*self._W_channels(), *pair(kernel_size)), dtype
        if self.in_channels is not None:
            self._init_W(None)
        self.b = None if check_nobias(name, nobias) else Parameter(np.zeros(self.out_channels, dtype=dtype), name="b")

    def _W_channels(self) -> tuple[Any, Any]:
        raise NotImplementedError

    def _init_W(self, x: Any) -> None:
        KH, KW = pair(self.kernel_size)
        self.W.data = draw_weights((*self._W_channels(), KH, KW), self.in_channels * KH * KW, x, self.dtype)

    def _prepare(self, x: Any) -> Any:
        """Make W where there is none yet, once x is known to be right."""
        name = type(self).__name__
        x = as_operand(name, x)
        if self.W.data is None:
            self._check_input(name, x)
            check_beside(name, x, self.b)
            self.in_channels = check_size(name, "the number of channels of x", x.shape[1])
            self._init_W(x.data)
        return x

    def _check_input(self, name: str, x: Any) -> None:
        check_images(name, x)


class Conv2d(_Convolution):
    """Convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.conv2d`.

    Args:
        out_channels: how many kernels.
        kernel_size, stride, pad: an int or a pair (height, width).
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_channels: C; None to learn it from x at the first call, which makes W.
        activation: what is applied to the result, a function or a layer; None for nothing. `F.relu` is computed in one
            operation with the convolution, `functions.conv2d_relu`.

    W (out_channels, C, KH, KW) is drawn from N(0, 1 / (C * KH * KW)); b (out_channels,) starts at 0. Raises TypeError
    when `activation` cannot be called.

    >>> conv = Conv2d(8, kernel_size=3, pad=1, activation=F.relu)
    >>> conv(np.zeros((1, 3, 28, 28), np.float32)).shape, conv.W.shape
    ((1, 8, 28, 28), (8, 3, 3, 3))
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_channels: int | None = None,
        activation: Any = None,
    ) -> None:
        if activation is not None and not callable(activation):
            raise TypeError(f"Conv2d: activation must be a function or a layer, such as F.relu, got {activation!r:.60}")
        super().__init__(out_channels, kernel_size, stride, pad, nobias, dtype, in_channels)
        self.activation = activation

    def _W_channels(self) -> tuple[Any, Any]:
        return self.out_channels, self.in_channels

    def forward(self, x: Any) -> Variable:
        x = self._prepare(x)
        if self.activation is F.relu:
            return F.conv2d_relu(x, self.W, self.b, self.stride, self.pad)
        y = F.conv2d(x, self.W, self.b, self.stride, self.pad)
        return y if self.activation is None else self.activation(y)

    def _check_input(self, name: str, x: Any) -> None:
        check_windows(name, x, Window.check(name, self.kernel_size, self.stride, self.pad))


class Deconv2d(_Convolution):
    """Transposed convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.deconv2d`.

    Arguments are those of Conv2d. W (C, out_channels, KH, KW) is drawn from N(0, 1 / (C * KH * KW)).

    >>> Deconv2d(8, kernel_size=4, stride=2, pad=1)(np.zeros((1, 3, 7, 7), np.float32)).shape
    (1, 8, 14, 14)
    """

    def _W_channels(self) -> tuple[Any, Any]:
        return self.in_channels, self.out_channels

    def forward(self, x: Any) -> Variable:
        return F.deconv2d(self._prepare(x), self.W, self.b, self.stride, self.pad)


class EmbedID(Layer):
    """y = W[x]: integer ids (...) -> their rows of W (in_size, out_size), drawn from N(0, 1).

    >>> EmbedID(100, 8)(np.array([3, 1, 4])).shape
    (3, 8)
    """

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        shape = check_size("EmbedID", "in_size", in_size), check_size("EmbedID", "out_size", out_size)
        self.W = Parameter(random.normal(*shape).astype(np.float32), name="W")

    def forward(self, x: Any) -> Variable:
        return F.embed_id(x, self.W)
