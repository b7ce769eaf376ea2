"""Convolution and pooling, and the derivatives that close the family.

Axes are (N, C, H, W) for images and (OC, C, KH, KW) for weights; OH and OW are the sizes of what comes out. Every
`kernel_size`, `stride`, `pad` and `dilation` is an int, or a pair (height, width). A kernel's cells lie `dilation`
pixels apart: 3 cells of dilation 2 see pixels 0, 2 and 4. `groups` parts the channels, in order, into that many groups
that do not see each other: the first C / groups channels of x make the first OC / groups of y, and so on. The arrays'
work is done in kernels/; here each operation says which others are its derivatives:

    conv2d     in x: deconv2d with the same W       in W: Conv2DGradW         (conv2d_relu: of gy where y > 0)
    deconv2d   in x: conv2d with the same W         in W: Conv2DGradW, image and gradient swapped
    im2col     col2im, and the other way round
    pooling    Pooling2DGrad (scatter), whose derivative is Pooling2DWithIndexes (gather), and the other way round
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dezero import kernels
from dezero.core import Function, Variable, as_operand, broadcast_to, is_int, matmul, reshape, transpose
from dezero.functions_activation import ReLUGrad

__all__ = [
    "AveragePooling",
    "Col2im",
    "Conv2DGradW",
    "Conv2d",
    "Conv2dReLU",
    "Deconv2d",
    "Im2col",
    "Pooling",
    "Pooling2DGrad",
    "Pooling2DWithIndexes",
    "average_pooling",
    "col2im",
    "col2im_array",
    "conv1d",
    "conv2d",
    "conv2d_relu",
    "conv2d_simple",
    "deconv2d",
    "depthwise_conv2d",
    "im2col",
    "im2col_array",
    "pooling",
    "pooling_simple",
]

Pair = tuple[int, int]


def pair(x: Any) -> Pair:
    """Return the pair (x, x) of an int, and a pair as it is. Raises ValueError for anything else.

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    return check_pair("pair", "x", x, at_least=None)


def check_pair(operation: str, what: str, x: Any, at_least: int | None) -> Pair:
    """Return a size as a pair of ints. Raises ValueError when it is no int and no pair, or too small."""
    if is_int(x):
        values = int(x), int(x)
    elif isinstance(x, tuple) and len(x) == 2 and is_int(x[0]) and is_int(x[1]):
        values = int(x[0]), int(x[1])
    else:
        raise ValueError(f"{operation}: {what} must be an int or a pair of ints, a tuple (height, width), got {x!r}")
    if at_least is not None and min(values) < at_least:
        raise ValueError(f"{operation}: {what} must be at least {at_least}, got {x!r}")
    return values


def _check_int(operation: str, what: str, x: Any, at_least: int) -> int:
    if not is_int(x) or x < at_least:
        raise ValueError(f"{operation}: {what} must be an int of at least {at_least}, got {x!r}")
    return int(x)


class Window(NamedTuple):
    """What slides over an image: (height, width) each of the kernel, of its steps, the padding and its dilation."""

    kernel_size: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)

    @classmethod
    def check(cls, operation: str, kernel_size: Any, stride: Any, pad: Any, dilation: Any = 1) -> Window:
        return cls(
            check_pair(operation, "kernel_size", kernel_size, at_least=1),
            check_pair(operation, "stride", stride, at_least=1),
            check_pair(operation, "pad", pad, at_least=0),
            check_pair(operation, "dilation", dilation, at_least=1),
        )

    def counts(self, image_size: Any) -> Pair:
        """How many windows fit along each axis: (OH, OW)."""
        OH, OW = (kernels.conv_outsize(*size) for size in zip(image_size, *self, strict=True))
        return OH, OW


def check_windows(operation: str, x: Any, window: Window) -> Pair:
    """Return (OH, OW) for images `x`. Raises ValueError when x is no image or no window fits into it."""
    check_images(operation, x)
    OH, OW = window.counts(x.shape[2:])
    if OH < 1 or OW < 1:
        raise ValueError(
            f"{operation}: a {_describe_kernel(window)} does not fit into {x.shape[2]}x{x.shape[3]} images padded by "
            f"{window.pad} (x {x.shape}); use a smaller kernel or a larger pad"
        )
    return OH, OW


def _describe_kernel(window: Window) -> str:
    (KH, KW), dilation = window.kernel_size, window.dilation
    if dilation == (1, 1):
        return f"{KH}x{KW} kernel"
    height, width = map(kernels.span, window.kernel_size, dilation)
    return f"{KH}x{KW} kernel of dilation {dilation}, {height}x{width} in all,"


def check_images(operation: str, x: Any, axes: str = "N, C, H, W") -> None:
    """Raise ValueError when `x` does not have these axes."""
    ndim = axes.count(",") + 1
    if x.ndim != ndim:
        hint = "; add the batch axis: x[None]" if x.ndim == ndim - 1 else ""
        raise ValueError(f"{operation}: x must have shape ({axes}), got {x.shape}{hint}")


# ----------------------------------------------------------------------------------------------------------------------
# im2col and col2im
# ----------------------------------------------------------------------------------------------------------------------


class Im2col(Function):
    precision = "any"

    def __init__(self, kernel_size: Any, stride: Any, pad: Any, to_matrix: bool, dilation: Any = 1) -> None:
        self.window = Window.check("im2col", kernel_size, stride, pad, dilation)
        self.to_matrix = to_matrix

    def forward(self, x: Any) -> Any:
        check_windows("im2col", x, self.window)
        self.x_shape = x.shape
        col = kernels.for_array(x).im2col(x, *self.window)
        return _to_matrix(col) if self.to_matrix else col

    def backward(self, gy: Variable) -> Any:
        kernel_size, stride, pad, dilation = self.window
        return col2im(gy, self.x_shape, kernel_size, stride, pad, self.to_matrix, dilation)


def im2col(
    x: Any, kernel_size: Any, stride: Any = 1, pad: Any = 0, to_matrix: bool = True, dilation: Any = 1
) -> Variable:
    """Lay out what a kernel sees: one row for each window, x (N, C, H, W) -> (N*OH*OW, C*KH*KW).

    With `to_matrix=False` the axes stay apart, (N, C, KH, KW, OH, OW). Note the third argument: in the first book
    `im2col(x, 5, 5)` means height and width; here it is the stride. `dilation` is the last.

    Raises ValueError when no window fits, or a size is not an int or a pair.

    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), kernel_size=2)
    variable([[0. 1. 3. 4.]
              [1. 2. 4. 5.]
              [3. 4. 6. 7.]
              [4. 5. 7. 8.]])
    """
    return Im2col(kernel_size, stride, pad, to_matrix, dilation)(x)


class Col2im(Function):
    def __init__(
        self, input_shape: Any, kernel_size: Any, stride: Any, pad: Any, to_matrix: bool, dilation: Any = 1
    ) -> None:
        self.input_shape = tuple(input_shape)
        self.window = Window.check("col2im", kernel_size, stride, pad, dilation)
        self.to_matrix = to_matrix

    def forward(self, col: Any) -> Any:
        if len(self.input_shape) != 4:
            raise ValueError(f"col2im: input_shape must be (N, C, H, W), got {self.input_shape}")
        N, C, H, W = self.input_shape
        OH, OW = self.window.counts((H, W))
        (KH, KW), stride, pad, dilation = self.window
        expected = (N * OH * OW, C * KH * KW) if self.to_matrix else (N, C, KH, KW, OH, OW)
        if col.shape != expected:
            raise ValueError(f"col2im: expected col {expected} for images {self.input_shape}, got {col.shape}")
        if self.to_matrix:
            col = col.reshape(N, OH, OW, C, KH, KW).transpose(0, 3, 4, 5, 1, 2)
        return kernels.for_array(col).col2im(col, (H, W), stride, pad, dilation)

    def backward(self, gx: Variable) -> Any:
        kernel_size, stride, pad, dilation = self.window
        return im2col(gx, kernel_size, stride, pad, self.to_matrix, dilation)


def col2im(
    x: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = 1,
    pad: Any = 0,
    to_matrix: bool = True,
    dilation: Any = 1,
) -> Variable:
    """Add the windows that `im2col` laid out back to images of `input_shape` (N, C, H, W).

    A pixel that lies in several windows is counted once for each: col2im is im2col's transpose, not its inverse.

    >>> x = np.ones((1, 1, 3, 3))
    >>> col2im(im2col(x, 2), x.shape, 2)
    variable([[[[1. 2. 1.]
                [2. 4. 2.]
                [1. 2. 1.]]]])
    """
    return Col2im(input_shape, kernel_size, stride, pad, to_matrix, dilation)(x)


def im2col_array(img: Any, kernel_size: Any, stride: Any, pad: Any, to_matrix: bool = True, dilation: Any = 1) -> Any:
    """`im2col` on a plain array."""
    return Im2col(kernel_size, stride, pad, to_matrix, dilation).forward(as_operand("im2col_array", img).data)


def col2im_array(
    col: Any, img_shape: Any, kernel_size: Any, stride: Any, pad: Any, to_matrix: bool = True, dilation: Any = 1
) -> Any:
    """`col2im` on a plain array."""
    return Col2im(img_shape, kernel_size, stride, pad, to_matrix, dilation).forward(
        as_operand("col2im_array", col).data
    )


def _to_matrix(col: Any) -> Any:
    N, C, KH, KW, OH, OW = col.shape
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * OH * OW, C * KH * KW)


# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------


class Conv2d(Function):
    precision = "half"
    kernel = "conv2d"

    def __init__(self, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: Any = 1) -> None:
        self.stride = check_pair(self.operation, "stride", stride, at_least=1)
        self.pad = check_pair(self.operation, "pad", pad, at_least=0)
        self.dilation = check_pair(self.operation, "dilation", dilation, at_least=1)
        self.groups = _check_int(self.operation, "groups", groups, at_least=1)

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        _check_weights(self.operation, x, W, b, in_axis=1, groups=self.groups)
        check_windows(self.operation, x, Window(W.shape[2:], self.stride, self.pad, self.dilation))
        kernel = getattr(kernels.for_array(x), self.kernel)
        return kernel(x, W, b, self.stride, self.pad, self.dilation, self.groups)

    def backward(self, gy: Variable) -> Any:
        x, W, b = self.inputs
        gx = gW = gb = None
        if x.requires_grad:
            gx = deconv2d(gy, W, None, self.stride, self.pad, x.shape[2:], self.dilation, self.groups)
        if W.requires_grad:
            gW = Conv2DGradW(W.shape[2:], self.stride, self.pad, self.dilation, self.groups)(x, gy)
        if b.requires_grad:
            gb = ChannelSum()(gy)
        return gx, gW, gb


def conv2d(
    x: Any, W: Any, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1
) -> Variable:
    """Slide the kernels W over the images: y[n, o, i, j] = b[o] + sum of W[o] * x's window (i, j) of image n.

    Args:
        x: images (N, C, H, W).
        W: kernels (OC, C / groups, KH, KW).
        b: (OC,) or None.
        stride, pad: an int or a pair (height, width). OH = floor((H + 2 pad - span) / stride) + 1, OW likewise.
        dilation: how far apart the kernel's cells lie, an int or a pair: span = dilation * (KH - 1) + 1.
        groups: how many groups of channels, in order, that do not see each other; it divides C and OC.

    Returns (N, OC, OH, OW). Raises ValueError when the channels differ, `groups` does not divide them, or no window
    fits. Source of dilation: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", 2016; of
    groups: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012.

    >>> conv2d(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), np.array([3.0]))
    variable([[[[11. 15.]
                [23. 27.]]]])
    >>> conv2d(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), dilation=2)  # the four corners
    variable([[[[16.]]]])
    """
    return Conv2d(stride, pad, dilation, groups)(x, W, b)


class Conv2dReLU(Conv2d):
    operation = kernel = "conv2d_relu"

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()  # positive where relu's x is
        return super().backward(ReLUGrad(y.data)(gy))


def conv2d_relu(
    x: Any, W: Any, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1
) -> Variable:
    """y = max(conv2d(x, W, b), 0) in one operation, which writes y once and keeps nothing else.

    Arguments, shapes and errors are those of `conv2d`. Taken one after the other, `relu(conv2d(x, W, b))` gives the
    same, and has the convolution's own result to look at.

    >>> conv2d_relu(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), np.array([-15.0]))
    variable([[[[0. 0.]
                [5. 9.]]]])
    """
    return Conv2dReLU(stride, pad, dilation, groups)(x, W, b)


def conv2d_simple(x: Any, W: Any, b: Any = None, stride: Any = 1, pad: Any = 0) -> Variable:
    """`conv2d` composed of im2col and a matrix product, as the book's step 57 has it."""
    x, W, b = _operands("conv2d_simple", x, W, b)
    _check_weights("conv2d_simple", x, W, b, in_axis=1)
    window = Window.check("conv2d_simple", W.shape[2:], stride, pad)
    OH, OW = check_windows("conv2d_simple", x, window)
    N, OC = x.shape[0], W.shape[0]
    y = matmul(im2col(x, W.shape[2:], stride, pad), transpose(reshape(W, (OC, -1))))
    y = y if b is None else y + b
    return transpose(reshape(y, (N, OH, OW, OC)), (0, 3, 1, 2))


def depthwise_conv2d(x: Any, W: Any, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Variable:
    """Convolve each channel by itself with its own M kernels: `conv2d` with a group for each channel.

    Args:
        x: images (N, C, H, W).
        W: kernels (C*M, 1, KH, KW); the first M belong to the first channel, and so on.
        b: (C*M,) or None.
        stride, pad, dilation: as in `conv2d`.

    Returns (N, C*M, OH, OW). Raises ValueError when W is not of that shape or no window fits.
    Source: Chollet, "Xception: deep learning with depthwise separable convolutions", 2017.

    >>> depthwise_conv2d(np.array([[[[1.0]], [[2.0]]]]), np.array([[[[10.0]]], [[[100.0]]]]))
    variable([[[[ 10.]]
    <BLANKLINE>
               [[200.]]]])
    """
    x, W, b = _operands("depthwise_conv2d", x, W, b)
    check_images("depthwise_conv2d", x)
    C = x.shape[1]
    if W.ndim != 4 or W.shape[1] != 1 or C == 0 or W.shape[0] % C:
        raise ValueError(
            f"depthwise_conv2d: W must have shape (C*M, 1, KH, KW), M kernels for each of the {C} channels of x, "
            f"got {W.shape} (x {x.shape})"
        )
    _check_weights("depthwise_conv2d", x, W, b, in_axis=1, groups=C)
    check_windows("depthwise_conv2d", x, Window.check("depthwise_conv2d", W.shape[2:], stride, pad, dilation))
    return conv2d(x, W, b, stride, pad, dilation, groups=C)


def conv1d(
    x: Any, W: Any, b: Any = None, stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1
) -> Variable:
    """Slide the kernels W along sequences: y[n, o, i] = b[o] + sum of W[o] * x's window i of sequence n.

    Args:
        x: sequences (N, C, L).
        W: kernels (OC, C / groups, K).
        b: (OC,) or None.
        stride, pad, dilation, groups: ints, as in `conv2d`.

    Returns (N, OC, floor((L + 2 pad - dilation * (K - 1) - 1) / stride) + 1). Raises ValueError when the channels
    differ, `groups` does not divide them, or no window fits.

    >>> conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[-1.0, 1.0]]]))
    variable([[[1. 2. 4.]]])
    """
    x, W, b = _operands("conv1d", x, W, b)
    stride, pad = _check_int("conv1d", "stride", stride, at_least=1), _check_int("conv1d", "pad", pad, at_least=0)
    dilation = _check_int("conv1d", "dilation", dilation, at_least=1)
    groups = _check_int("conv1d", "groups", groups, at_least=1)
    _check_weights("conv1d", x, W, b, in_axis=1, groups=groups, x_axes="N, C, L", kernel_axes="K")
    (N, C, L), (OC, _, K) = x.shape, W.shape
    OL = kernels.conv_outsize(L, K, stride, pad, dilation)
    if OL < 1:
        dilated = "" if dilation == 1 else f", {kernels.span(K, dilation)} with dilation {dilation},"
        raise ValueError(
            f"conv1d: a kernel of {K}{dilated} does not fit into {L} padded by {pad} (x {x.shape}); "
            "use a smaller kernel or a larger pad"
        )
    x, W = reshape(x, (N, C, 1, L)), reshape(W, (OC, C // groups, 1, K))
    return reshape(conv2d(x, W, b, (1, stride), (0, pad), (1, dilation), groups), (N, OC, OL))


class Deconv2d(Function):
    precision = "half"

    def __init__(self, stride: Any = 1, pad: Any = 0, outsize: Any = None, dilation: Any = 1, groups: Any = 1) -> None:
        self.stride = check_pair("deconv2d", "stride", stride, at_least=1)
        self.pad = check_pair("deconv2d", "pad", pad, at_least=0)
        self.outsize = None if outsize is None else check_pair("deconv2d", "outsize", outsize, at_least=1)
        self.dilation = check_pair("deconv2d", "dilation", dilation, at_least=1)
        self.groups = _check_int("deconv2d", "groups", groups, at_least=1)

    def forward(self, x: Any, W: Any, b: Any) -> Any:
        _check_weights("deconv2d", x, W, b, in_axis=0, groups=self.groups)
        outsize = self._outsize(x, W)
        return kernels.for_array(x).deconv2d(x, W, b, self.stride, self.pad, outsize, self.dilation, self.groups)

    def _outsize(self, x: Any, W: Any) -> Pair:
        window = Window(W.shape[2:], self.stride, self.pad, self.dilation)
        smallest = tuple(kernels.deconv_outsize(*size) for size in zip(x.shape[2:], *window, strict=True))
        OH, OW = self.outsize or smallest
        if OH < 1 or OW < 1 or window.counts((OH, OW)) != x.shape[2:]:
            largest = tuple(n + s - 1 for n, s in zip(smallest, self.stride, strict=True))
            dilation = "" if self.dilation == (1, 1) else f", dilation {self.dilation}"
            raise ValueError(
                f"deconv2d: outsize {(OH, OW)} does not lead back to x {x.shape} with W {W.shape}, "
                f"stride {self.stride}, pad {self.pad}{dilation}; it must be positive and lie in {smallest}..{largest}"
            )
        return OH, OW

    def backward(self, gy: Variable) -> Any:
        x, W, b = self.inputs
        gx = gW = gb = None
        if x.requires_grad:
            gx = conv2d(gy, W, None, self.stride, self.pad, self.dilation, self.groups)
        if W.requires_grad:
            gW = Conv2DGradW(W.shape[2:], self.stride, self.pad, self.dilation, self.groups)(gy, x)
        if b.requires_grad:
            gb = ChannelSum()(gy)
        return gx, gW, gb


def deconv2d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: Any = 1,
    pad: Any = 0,
    outsize: Any = None,
    dilation: Any = 1,
    groups: int = 1,
) -> Variable:
    """Transposed convolution: what `conv2d` does to gradients. Each pixel of x adds its multiple of a kernel to y.

    Args:
        x: (N, C, H, W).
        W: (C, OC / groups, KH, KW).
        b: (OC,) or None.
        stride, pad, dilation, groups: those of the convolution it undoes.
        outsize: (OH, OW), needed when stride > 1 leaves a choice; default stride * (H - 1) + span - 2 pad with
            span = dilation * (KH - 1) + 1, OW likewise.

    Returns (N, OC, OH, OW). Raises ValueError when the channels differ, `groups` does not divide them, or `outsize`
    cannot be.

    >>> deconv2d(np.array([[[[1.0, 2.0]]]]), np.ones((1, 1, 1, 2)), stride=2)
    variable([[[[1. 1. 2. 2.]]]])
    """
    return Deconv2d(stride, pad, outsize, dilation, groups)(x, W, b)


class Conv2DGradW(Function):
    """The gradient of conv2d in W, linear in x and in gy.

    x (N, C, H, W), gy (N, OC, OH, OW) -> (OC, C / groups, KH, KW).
    """

    operation = "conv2d_grad_w"
    precision = "half"

    def __init__(self, kernel_size: Any, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: Any = 1) -> None:
        self.window = Window.check("conv2d_grad_w", kernel_size, stride, pad, dilation)
        self.groups = _check_int("conv2d_grad_w", "groups", groups, at_least=1)

    def forward(self, x: Any, gy: Any) -> Any:
        OH, OW = check_windows("conv2d_grad_w", x, self.window)
        if gy.ndim != 4 or (gy.shape[0], *gy.shape[2:]) != (len(x), OH, OW):
            raise ValueError(f"conv2d_grad_w: expected gy ({len(x)}, OC, {OH}, {OW}) for x {x.shape}, got {gy.shape}")
        for name, shape in ("x", x.shape), ("gy", gy.shape):
            if shape[1] % self.groups:
                raise ValueError(
                    f"conv2d_grad_w: groups {self.groups} does not divide the {shape[1]} channels of {name} {shape}"
                )
        return kernels.for_array(x).conv2d_grad_w(x, gy, *self.window, self.groups)

    def backward(self, ggW: Variable) -> Any:
        x, gy = self.inputs
        _, stride, pad, dilation = self.window
        gx = ggy = None
        if x.requires_grad:
            gx = deconv2d(gy, ggW, None, stride, pad, x.shape[2:], dilation, self.groups)
        if gy.requires_grad:
            ggy = conv2d(x, ggW, None, stride, pad, dilation, self.groups)
        return gx, ggy


class ChannelSum(Function):
    """The sum over all axes but the second, (N, C, ...) -> (C,): the gradient of a bias."""

    def forward(self, gy: Any) -> Any:
        self.gy_shape = gy.shape
        return kernels.for_array(gy).channel_sum(gy)

    def backward(self, ggb: Variable) -> Any:
        return broadcast_to(reshape(ggb, (-1,) + (1,) * (len(self.gy_shape) - 2)), self.gy_shape)


def _operands(operation: str, x: Any, W: Any, b: Any) -> tuple[Variable, Variable, Variable | None]:
    return as_operand(operation, x), as_operand(operation, W), None if b is None else as_operand(operation, b)


def _check_weights(
    operation: str,
    x: Any,
    W: Any,
    b: Any,
    in_axis: int,
    groups: int = 1,
    x_axes: str = "N, C, H, W",
    kernel_axes: str = "KH, KW",
) -> None:
    """Raise ValueError when images, weights and bias do not belong together; W takes its input along `in_axis`."""
    check_images(operation, x, x_axes)
    if W is None or W.ndim != x.ndim or 0 in W.shape[2:]:
        axes = [("C", "OC"), ("OC", "C")][in_axis]
        share = "" if groups == 1 else f" / {groups}"
        got = None if W is None else W.shape
        raise ValueError(f"{operation}: W must have shape ({axes[0]}, {axes[1]}{share}, {kernel_axes}), got {got}")
    C, channels = x.shape[1], (W.shape[0], W.shape[1] * groups)
    OC = channels[1 - in_axis]
    if C % groups:
        raise ValueError(
            f"{operation}: groups {groups} does not divide the {C} channels of x (x {x.shape}, W {W.shape})"
        )
    if channels[in_axis] != C:
        share = f", {W.shape[1]} for each of {groups} groups," if groups > 1 and in_axis == 1 else ""
        raise ValueError(
            f"{operation}: W takes {channels[in_axis]} channels{share} but x has {C} (x {x.shape}, W {W.shape})"
        )
    if OC % groups:
        raise ValueError(
            f"{operation}: groups {groups} does not divide the {OC} output channels of W (x {x.shape}, W {W.shape})"
        )
    if b is not None and b.shape != (OC,):
        raise ValueError(
            f"{operation}: b must have shape ({OC},), one for each output channel, got {b.shape} (W {W.shape})"
        )


# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------

PoolingWindow = tuple[Pair, Pair, Pair]  # kernel_size, stride, pad: there is no dilation here


class Pooling(Function):
    precision = "any"

    def __init__(self, kernel_size: Any, stride: Any = 1, pad: Any = 0) -> None:
        self.window = _pooling_window("pooling", kernel_size, stride, pad)

    def forward(self, x: Any) -> Any:
        check_windows("pooling", x, Window(*self.window))
        self.image_size = x.shape[2:]
        y, self.indexes = kernels.for_array(x).max_pool(x, *self.window)
        return y

    def backward(self, gy: Variable) -> Any:
        return Pooling2DGrad(self)(gy)


class Pooling2DGrad(Function):
    """The gradient of max pooling: each element of gy goes to the pixel that was its window's largest."""

    def __init__(self, pooling: Any) -> None:
        self.indexes, self.image_size, self.window = pooling.indexes, pooling.image_size, pooling.window

    def forward(self, gy: Any) -> Any:
        return kernels.for_array(gy).max_pool_scatter(gy, self.indexes, self.image_size, *self.window)

    def backward(self, ggx: Variable) -> Any:
        return Pooling2DWithIndexes(self)(ggx)


class Pooling2DWithIndexes(Function):
    """Take from each window the pixel that was the largest in `pooling`'s input."""

    def __init__(self, pooling: Any) -> None:
        self.indexes, self.image_size, self.window = pooling.indexes, pooling.image_size, pooling.window

    def forward(self, x: Any) -> Any:
        return kernels.for_array(x).max_pool_gather(x, self.indexes, *self.window)

    def backward(self, gy: Variable) -> Any:
        return Pooling2DGrad(self)(gy)


def pooling(x: Any, kernel_size: Any, stride: Any = 1, pad: Any = 0) -> Variable:
    """Max pooling: the largest element of each window, x (N, C, H, W) -> (N, C, OH, OW), sizes rounded down.

    Padding counts as minus infinity (an integer image's smallest value). Where elements tie, the first in row-major
    order gets the gradient. Raises ValueError when no window fits, or `pad` is not smaller than the kernel.

    >>> pooling(np.arange(16.0).reshape(1, 1, 4, 4), kernel_size=2, stride=2)
    variable([[[[ 5.  7.]
                [13. 15.]]]])
    """
    return Pooling(kernel_size, stride, pad)(x)


def pooling_simple(x: Any, kernel_size: Any, stride: Any = 1, pad: Any = 0) -> Variable:
    """`pooling` composed of im2col and max, as the book's step 57 has it; ties share the gradient, and padding is 0."""
    x = as_operand("pooling_simple", x)
    window = _pooling_window("pooling_simple", kernel_size, stride, pad)
    OH, OW = check_windows("pooling_simple", x, Window(*window))
    N, C = x.shape[:2]
    KH, KW = window[0]
    y = reshape(im2col(x, *window), (-1, KH * KW)).max(axis=1)
    return transpose(reshape(y, (N, OH, OW, C)), (0, 3, 1, 2))


class AveragePooling(Function):
    def __init__(self, kernel_size: Any, stride: Any = 1, pad: Any = 0) -> None:
        self.window = _pooling_window("average_pooling", kernel_size, stride, pad)

    def forward(self, x: Any) -> Any:
        check_windows("average_pooling", x, Window(*self.window))
        self.image_size = x.shape[2:]
        return kernels.for_array(x).average_pool(x, *self.window)

    def backward(self, gy: Variable) -> Any:
        return AveragePoolingGrad(self.image_size, self.window)(gy)


class AveragePoolingGrad(Function):
    """The gradient of average pooling: each element of gy spreads evenly over its window."""

    def __init__(self, image_size: Pair, window: PoolingWindow) -> None:
        self.image_size, self.window = image_size, window

    def forward(self, gy: Any) -> Any:
        return kernels.for_array(gy).average_pool_grad(gy, self.image_size, *self.window)

    def backward(self, ggx: Variable) -> Any:
        return average_pooling(ggx, *self.window)


def average_pooling(x: Any, kernel_size: Any, stride: Any = 1, pad: Any = 0) -> Variable:
    """The mean of each window, x (N, C, H, W) -> (N, C, OH, OW), sizes rounded down; padding counts as zeros.

    Raises ValueError when no window fits, or `pad` is not smaller than the kernel.

    >>> average_pooling(np.arange(16.0).reshape(1, 1, 4, 4), kernel_size=2, stride=2)
    variable([[[[ 2.5  4.5]
                [10.5 12.5]]]])
    """
    return AveragePooling(kernel_size, stride, pad)(x)


def _pooling_window(operation: str, kernel_size: Any, stride: Any, pad: Any) -> PoolingWindow:
    window = Window.check(operation, kernel_size, stride, pad)
    if any(p >= k for p, k in zip(window.pad, window.kernel_size, strict=True)):
        raise ValueError(
            f"{operation}: pad {pad} must be smaller than the kernel {kernel_size}, "
            "or a window could hold padding alone"
        )
    return window[:3]
