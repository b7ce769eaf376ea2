"""L: layers that multiply by weights: Linear, convolutions, EmbedID."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import functions as F
from dezero import initializers, kernels
from dezero.core import Parameter, Variable, as_operand
from dezero.functions_conv import Window, check_images, check_windows, pair
from dezero.initializers import check_initializer
from dezero.layers_base import Layer, check_beside, check_dtype, check_nobias, check_size

__all__ = ["Conv1d", "Conv2d", "Deconv2d", "EmbedID", "Linear"]


class Linear(Layer):
    """y = x W + b: (N, in) -> (N, out). See `functions.linear`.

    Args:
        out_size: how many outputs.
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_size: how many inputs; None to learn it from x at the first call, which makes W.
        init_W, init_b: how W and b begin: the name of an initialiser, a callable or a number, see `initializers`.

    W (in, out) is drawn from N(0, 1 / in); b (out,) starts at 0. Raises ValueError or TypeError for arguments that
    cannot be, and at a call whose x does not fit.

    >>> linear = Linear(10)
    >>> linear(np.zeros((5, 3), np.float32)).shape, linear.W.shape
    ((5, 10), (3, 10))
    """

    init_W: Any = "lecun_normal"  # noqa: N815 - pickles of layers that could not choose have none

    def __init__(
        self,
        out_size: int,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_size: int | None = None,
        init_W: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        self.in_size: Any = None if in_size is None else check_size("Linear", "in_size", in_size)
        self.out_size = check_size("Linear", "out_size", out_size)
        self.dtype = check_dtype("Linear", dtype)
        self.nobias = check_nobias("Linear", nobias)
        self.init_W, init_b = (
            check_initializer("Linear", "init_W", init_W),
            check_initializer("Linear", "init_b", init_b),
        )
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = (self.in_size, self.out_size), dtype
        if self.in_size is not None:
            self._make_W(None)
        self.b = None if self.nobias else make_bias("Linear", init_b, self.out_size, dtype)

    def _make_W(self, x: Any) -> None:
        shape = self.in_size, self.out_size
        self.W.data = initializers.make("Linear: init_W", self.init_W, shape, shape, self.dtype, x)

    def forward(self, x: Any) -> Variable:
        x = as_operand("Linear", x)
        if self.W.data is None:
            if not x.ndim or not x.shape[-1]:
                raise ValueError(f"Linear: expected x (N, in) with in > 0, got {x.shape}")
            check_beside("Linear", x, self.b)
            self.in_size = x.shape[-1]
            self._make_W(x.data)
        return F.linear(x, self.W, self.b)


def make_bias(layer: str, init: Any, size: int, dtype: Any) -> Parameter:
    """Return a bias (size,), begun by the initialiser `init`."""
    return Parameter(initializers.make(f"{layer}: init_b", init, (size,), (None, None), dtype), name="b")


class _Convolution(Layer):
    """What the convolutions have in common: their arguments, and weights made at the first call."""

    # Pickles of layers that could not choose have none.
    dilation, groups = 1, 1
    init_W: Any = "lecun_normal"  # noqa: N815

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_channels: int | None = None,
        dilation: Any = 1,
        groups: int = 1,
        init_W: Any = "lecun_normal",
        init_b: Any = "zeros",
        activation: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if activation is not None and not callable(activation):
            raise TypeError(f"{name}: activation must be a function or a layer, such as F.relu, got {activation!r:.60}")
        self.in_channels: Any = None if in_channels is None else check_size(name, "in_channels", in_channels)
        self.out_channels = check_size(name, "out_channels", out_channels)
        self.kernel_size, self.stride, self.pad, self.dilation = kernel_size, stride, pad, dilation
        self._check_window(name)
        self.groups = check_size(name, "groups", groups)
        self._check_groups(name, "out_channels", self.out_channels)
        self.dtype = check_dtype(name, dtype)
        self.nobias = check_nobias(name, nobias)
        self.init_W, init_b = check_initializer(name, "init_W", init_W), check_initializer(name, "init_b", init_b)
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = self._W_shape(), dtype
        if self.in_channels is not None:
            self._check_groups(name, "in_channels", self.in_channels)
            self._make_W(name, None)
        self.b = None if self.nobias else make_bias(name, init_b, self.out_channels, dtype)
        self.activation = activation

    def _check_window(self, name: str) -> Any:
        return Window.check(name, self.kernel_size, self.stride, self.pad, self.dilation)

    def _check_groups(self, name: str, what: str, channels: int) -> None:
        if channels % self.groups:
            raise ValueError(f"{name}: groups must divide {what}, got {self.groups} groups and {channels}")

    def _kernel(self) -> tuple[int, ...]:
        return pair(self.kernel_size)

    def _W_shape(self) -> tuple[Any, ...]:
        return self.out_channels, self._in_a_group(), *self._kernel()

    def _in_a_group(self) -> Any:
        return None if self.in_channels is None else self.in_channels // self.groups

    def _make_W(self, name: str, x: Any) -> None:
        cells = math.prod(self._kernel())
        fans = self._in_a_group() * cells, self.out_channels // self.groups * cells
        self.W.data = initializers.make(f"{name}: init_W", self.init_W, self._W_shape(), fans, self.dtype, x)

    def _prepare(self, x: Any) -> Any:
        """Make W where there is none yet, once x is known to be right."""
        name = type(self).__name__
        x = as_operand(name, x)
        if self.W.data is None:
            self._check_input(name, x)
            check_beside(name, x, self.b)
            channels = check_size(name, "the number of channels of x", x.shape[1])
            self._check_groups(name, "the number of channels of x", channels)
            self.in_channels = channels
            self._make_W(name, x.data)
        return x

    def _check_input(self, name: str, x: Any) -> None:
        check_images(name, x)

    def forward(self, x: Any) -> Variable:
        y = self._convolve(self._prepare(x))
        return y if self.activation is None else self.activation(y)

    def _convolve(self, x: Any) -> Variable:
        raise NotImplementedError


class Conv2d(_Convolution):
    """Convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.conv2d`.

    Args:
        out_channels: how many kernels.
        kernel_size, stride, pad: an int or a pair (height, width).
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_channels: C; None to learn it from x at the first call, which makes W.
        dilation: how far apart the kernel's cells lie, an int or a pair.
        groups: how many groups of channels that do not see each other; it divides C and out_channels.
        init_W, init_b: how W and b begin: the name of an initialiser, a callable or a number, see `initializers`.
        activation: what is applied to the result, a function or a layer; None for nothing. Conv2d computes `F.relu` in
            one operation with the convolution, `functions.conv2d_relu`.

    W (out_channels, C / groups, KH, KW) is drawn from N(0, 1 / (C / groups * KH * KW)); b (out_channels,) starts at 0.
    Raises ValueError or TypeError for arguments that cannot be, and at a call whose x does not fit.

    >>> conv = Conv2d(8, kernel_size=3, pad=1, activation=F.relu)
    >>> conv(np.zeros((1, 3, 28, 28), np.float32)).shape, conv.W.shape
    ((1, 8, 28, 28), (8, 3, 3, 3))
    """

    def forward(self, x: Any) -> Variable:
        if self.activation is not F.relu:
            return super().forward(x)
        return F.conv2d_relu(self._prepare(x), *self._arguments())

    def _convolve(self, x: Any) -> Variable:
        return F.conv2d(x, *self._arguments())

    def _arguments(self) -> tuple[Any, ...]:
        return self.W, self.b, self.stride, self.pad, self.dilation, self.groups

    def _check_input(self, name: str, x: Any) -> None:
        check_windows(name, x, self._check_window(name))


class Conv1d(_Convolution):
    """Convolution along sequences: (N, C, L) -> (N, out_channels, OL). See `functions.conv1d`.

    Arguments are those of Conv2d, with ints for pairs. W (out_channels, C / groups, K) is drawn from
    N(0, 1 / (C / groups * K)).

    >>> Conv1d(8, kernel_size=3, pad=1)(np.zeros((1, 4, 50), np.float32)).shape
    (1, 8, 50)
    """

    def _check_window(self, name: str) -> tuple[int, ...]:
        least = {"kernel_size": 1, "stride": 1, "pad": 0, "dilation": 1}
        return tuple(check_size(name, what, getattr(self, what), at_least) for what, at_least in least.items())

    def _kernel(self) -> tuple[int, ...]:
        return (int(self.kernel_size),)

    def _convolve(self, x: Any) -> Variable:
        return F.conv1d(x, self.W, self.b, self.stride, self.pad, self.dilation, self.groups)

    def _check_input(self, name: str, x: Any) -> None:
        check_images(name, x, "N, C, L")
        if kernels.conv_outsize(x.shape[2], *self._check_window(name)) < 1:
            raise ValueError(
                f"{name}: a kernel of {self.kernel_size} with dilation {self.dilation} does not fit into "
                f"{x.shape[2]} padded by {self.pad} (x {x.shape}); use a smaller kernel or a larger pad"
            )


class Deconv2d(_Convolution):
    """Transposed convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.deconv2d`.

    Arguments are those of Conv2d. W (C, out_channels / groups, KH, KW) is drawn from N(0, 1 / (C / groups * KH * KW)).

    >>> Deconv2d(8, kernel_size=4, stride=2, pad=1)(np.zeros((1, 3, 7, 7), np.float32)).shape
    (1, 8, 14, 14)
    """

    def _W_shape(self) -> tuple[Any, ...]:
        return self.in_channels, self.out_channels // self.groups, *self._kernel()

    def _convolve(self, x: Any) -> Variable:
        return F.deconv2d(x, self.W, self.b, self.stride, self.pad, dilation=self.dilation, groups=self.groups)


class EmbedID(Layer):
    """y = W[x]: integer ids (...) -> their rows of W (in_size, out_size). See `functions.embed_id`.

    Args:
        in_size: how many ids there are, 0 .. in_size-1.
        out_size: the length of a row.
        dtype: of W, float32 by default.
        init_W: how W begins: the name of an initialiser, a callable or a number, see `initializers`. N(0, 1)
            by default.

    >>> EmbedID(100, 8)(np.array([3, 1, 4])).shape
    (3, 8)
    """

    def __init__(self, in_size: int, out_size: int, dtype: Any = np.float32, init_W: Any = "normal") -> None:
        super().__init__()
        self.in_size, self.out_size = shape = (
            check_size("EmbedID", "in_size", in_size),
            check_size("EmbedID", "out_size", out_size),
        )
        dtype, init_W = check_dtype("EmbedID", dtype), check_initializer("EmbedID", "init_W", init_W)
        self.W = Parameter(initializers.make("EmbedID: init_W", init_W, shape, shape, dtype), name="W")

    def forward(self, x: Any) -> Variable:
        return F.embed_id(x, self.W)
