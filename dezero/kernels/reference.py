"""The plain NumPy kernels: each says what it computes in the fewest steps. Every other backend is tested against these.

One idea carries convolution and pooling. `im2col` copies the windows that a kernel sees into an array of axes
(N, C, KH, KW, OH, OW): element [n, c, i, j, oh, ow] is what the kernel's cell (i, j) sees in window (oh, ow). A
convolution is then a matrix product over (C, KH, KW), a pooling a reduction over (KH, KW), and a gradient runs the same
way back through `col2im`, which adds every window back to where it came from.

A convolution makes one matrix of the whole batch, rows (C, KH, KW) and columns (N, OH, OW), so that it is one large
product: many small ones, each on several threads, crawl when another program wants the cores. What comes out of it
therefore lies in memory as (OC, N, OH, OW); the axes are (N, OC, OH, OW), as everywhere. Groups of channels that do not
see each other are a batch of such products; usually there is one.

Sizes: x (N, C, H, W), W (OC, C / groups, KH, KW), y and gy (N, OC, OH, OW). `kernel_size`, `stride`, `pad` and
`dilation` (1 when the kernel's cells are neighbours) are pairs.
Source of the idea: Chellapilla, Puri and Simard, "High performance convolutional neural networks for document
processing", 2006.

The kernels below convolution and pooling take CuPy's arrays as well: see gpu/.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda
from dezero.kernels.sizes import span

Pair = tuple[int, int]

# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------


def _windows(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, pad_value: Any = 0) -> Any:
    """Return all windows of the padded images, (N, C, OH, OW, KH, KW), without copying one."""
    (KH, KW), (SH, SW), (PH, PW), (DH, DW) = kernel_size, stride, pad, dilation
    if PH or PW:
        x = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=pad_value)
    spans = span(KH, DH), span(KW, DW)
    return np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))[:, :, ::SH, ::SW, ::DH, ::DW]


def im2col(x: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1), pad_value: Any = 0) -> Any:
    """x (N, C, H, W) -> (N, C, KH, KW, OH, OW); what lies outside the image is `pad_value`."""
    windows = _windows(x, kernel_size, stride, pad, dilation, pad_value)
    return np.ascontiguousarray(windows.transpose(0, 1, 4, 5, 2, 3))


def col2im(col: Any, image_size: Pair, stride: Pair, pad: Pair, dilation: Pair = (1, 1)) -> Any:
    """(N, C, KH, KW, OH, OW) -> (N, C, H, W): each element of `col` is added to the pixel `im2col` took it from."""
    N, C, KH, KW, OH, OW = col.shape
    (H, W), (SH, SW), (PH, PW), (DH, DW) = image_size, stride, pad, dilation
    image = np.zeros((N, C, H + 2 * PH, W + 2 * PW), col.dtype)
    for i in range(KH):
        for j in range(KW):
            top, left = DH * i, DW * j
            image[:, :, top : top + SH * OH : SH, left : left + SW * OW : SW] += col[:, :, i, j]
    return image[:, :, PH : PH + H, PW : PW + W]


def conv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """y[n, oc] = sum over the c of oc's group of x[n, c] correlated with W[oc, c], plus b[oc]; b may be None."""
    OC, _, KH, KW = W.shape
    windows = _windows(x, (KH, KW), stride, pad, dilation)
    N, C, OH, OW = windows.shape[:4]
    y = W.reshape(groups, OC // groups, C // groups * KH * KW) @ _columns(windows, groups)
    y = y.reshape(OC, N * OH * OW)
    if b is not None:
        y = y + b[:, None]
    return y.reshape(OC, N, OH, OW).transpose(1, 0, 2, 3)


def conv2d_relu(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """y = max(conv2d(x, W, b), 0)."""
    return relu(conv2d(x, W, b, stride, pad, dilation, groups))


def deconv2d(x: Any, W: Any, b: Any, stride: Pair, pad: Pair, outsize: Pair, dilation: Pair, groups: int) -> Any:
    """conv2d backward in x: x (N, C, H, W), W (C, OC / groups, KH, KW) -> (N, OC, *outsize).

    A pixel spreads over its window.
    """
    N, C, H, W_ = x.shape
    _, OC, KH, KW = W.shape  # the OC of one group
    col = W.reshape(groups, C // groups, OC * KH * KW).swapaxes(1, 2) @ _rows(x, groups)
    col = col.reshape(groups * OC, KH, KW, N, H, W_).transpose(3, 0, 1, 2, 4, 5)
    y = col2im(col, outsize, stride, pad, dilation)
    return y if b is None else y + b[:, None, None]


def conv2d_grad_w(x: Any, gy: Any, kernel_size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Any:
    """conv2d backward in W: x (N, C, H, W), gy (N, OC, OH, OW) -> (OC, C / groups, KH, KW)."""
    columns = _columns(_windows(x, kernel_size, stride, pad, dilation), groups)
    gW = _rows(gy, groups) @ columns.swapaxes(1, 2)
    return gW.reshape(gy.shape[1], x.shape[1] // groups, *kernel_size)


def _columns(windows: Any, groups: int) -> Any:
    """(N, C, OH, OW, KH, KW) -> a matrix for each group, (groups, C / groups * KH * KW, N * OH * OW)."""
    N, C, OH, OW, KH, KW = windows.shape
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(groups, C // groups * KH * KW, N * OH * OW)


def _rows(images: Any, groups: int) -> Any:
    """(N, C, H, W) -> a matrix for each group, (groups, C / groups, N * H * W)."""
    N, C, H, W = images.shape
    return images.transpose(1, 0, 2, 3).reshape(groups, C // groups, N * H * W)


# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------


def max_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> tuple[Any, Any]:
    """Return the largest element of each window (N, C, OH, OW), and which of the window's KH*KW cells it stands in."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    cells = _join_cells(im2col(x, kernel_size, stride, pad, pad_value=lowest))
    indexes = cells.argmax(axis=2)  # the first in row-major order where cells tie
    if any(pad):
        # Pixels can be as low as the padding, and tie with it: then a pixel wins, the first of the window.
        inside = _join_cells(im2col(np.ones_like(x, dtype=bool), kernel_size, stride, pad, pad_value=False))
        indexes = np.where(_pick(inside, indexes), indexes, inside.argmax(axis=2))
    return _pick(cells, indexes), indexes


def max_pool_gather(x: Any, indexes: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """Take from each window of `x` the cell that `indexes` names."""
    return _pick(_join_cells(im2col(x, kernel_size, stride, pad)), indexes)


def max_pool_scatter(gy: Any, indexes: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """Add each element of `gy` to the pixel that `indexes` names in its window: the transpose of `max_pool_gather`."""
    N, C, OH, OW = gy.shape
    KH, KW = kernel_size
    cells = np.zeros((N, C, KH * KW, OH, OW), gy.dtype)
    np.put_along_axis(cells, indexes[:, :, None], gy[:, :, None], axis=2)
    return col2im(cells.reshape(N, C, KH, KW, OH, OW), image_size, stride, pad)


def average_pool(x: Any, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """The mean of each window, padding counted as zeros."""
    return im2col(x, kernel_size, stride, pad).mean(axis=(2, 3))


def average_pool_grad(gy: Any, image_size: Pair, kernel_size: Pair, stride: Pair, pad: Pair) -> Any:
    """Spread each element of `gy` evenly over its window: the transpose of `average_pool`."""
    KH, KW = kernel_size
    cell = gy[:, :, None, None] / gy.dtype.type(KH * KW)
    return col2im(np.broadcast_to(cell, (*gy.shape[:2], KH, KW, *gy.shape[2:])), image_size, stride, pad)


def _join_cells(col: Any) -> Any:
    N, C, KH, KW, OH, OW = col.shape
    return col.reshape(N, C, KH * KW, OH, OW)


def _pick(cells: Any, indexes: Any) -> Any:
    return np.take_along_axis(cells, indexes[:, :, None], axis=2)[:, :, 0]


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def copy(x: Any) -> Any:
    """A copy of x, in C order."""
    return x.copy(order="C")


def add(x0: Any, x1: Any) -> Any:
    """y = x0 + x1, broadcasting."""
    return x0 + x1


def astype(x: Any, dtype: Any) -> Any:
    """A copy of x with another dtype, in the order of x."""
    return x.astype(dtype)


# ----------------------------------------------------------------------------------------------------------------------
# Activations
# ----------------------------------------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    """y = max(x, 0)."""
    return cuda.get_array_module(x).maximum(x, x.dtype.type(0))


def relu_grad(x: Any, gy: Any) -> Any:
    """gx = gy where x > 0, and 0 elsewhere, whatever gy is there."""
    return cuda.get_array_module(x).where(x > 0, gy, gy.dtype.type(0))


def sigmoid(x: Any) -> Any:
    """y = 1 / (1 + exp(-x)), without overflow."""
    xp = cuda.get_array_module(x)
    z = xp.exp(-xp.abs(x))  # not exp(-x), which overflows for very negative x
    return xp.where(x < 0, z, x.dtype.type(1)) / (1 + z)


def sigmoid_grad(y: Any, gy: Any) -> Any:
    """gx = gy * y * (1 - y), where y = sigmoid(x)."""
    return gy * y * (1 - y)


def tanh(x: Any) -> Any:
    """y = tanh x."""
    return cuda.get_array_module(x).tanh(x)


def tanh_grad(y: Any, gy: Any) -> Any:
    """gx = gy * (1 - y * y), where y = tanh(x)."""
    return gy * (1 - y * y)


def _halves_in_float32(f: Callable[..., Any]) -> Callable[..., Any]:
    """Where a formula is long: compute halves in float32, and round the result alone."""

    @functools.wraps(f)
    def wide(*args: Any) -> Any:
        *_, dtype = (x.dtype for x in args if hasattr(x, "dtype"))  # that of gy, where there is one
        if dtype.itemsize > 2:
            return f(*args)
        return f(*(x.astype(np.float32) if hasattr(x, "dtype") else x for x in args)).astype(dtype)

    return wide


# erf(x) / x as a polynomial in x^2, for |x| <= 1, and exp(x^2) (1 + 2x) erfc(x) as one in (x - 2.5) / (x + 2.5), for
# x >= 1: interpolated at Chebyshev nodes in 40 digits; float64's rounding is larger than what they leave out. Beyond
# x = 6, where erfc is below 1e-16, seven digits stay.
ERF_BELOW_1 = (
    1.1283791670955126, -0.37612638903183543, 0.11283791670945006, -0.02686617064323777, 0.0052239776071164225,
    -0.0008548325975389692, 0.00012055294904839707, -1.492473690741966e-05, 1.6447424703317362e-06,
    -1.6208483801871705e-07, 1.3720064546777686e-08, -7.795898827002142e-10,
)  # fmt: skip
ERFC_ABOVE_1 = (
    1.2648381843668612, -0.12235676308242169, -0.09902453957351318, 0.1576299190269252, -0.10296705604695247,
    0.032760893039446855, 0.0009318931040481982, -0.004382072073124513, 0.0004918614359192158, 0.0006320360704212277,
    -8.845012927062207e-05, -0.00011285311462461253, 6.230347907532855e-06, 2.0088992276519525e-05,
    2.1600009594396447e-06,
)  # fmt: skip


@_halves_in_float32
def erf(x: Any) -> Any:
    """y = 2 / sqrt(pi) * the integral of exp(-t^2) for t from 0 to x."""
    xp = cuda.get_array_module(x)
    small, large = _erf_and_erfc(x)
    return xp.copysign(xp.where(xp.abs(x) <= 1, small, 1 - large), x)


def _erf_and_erfc(x: Any) -> tuple[Any, Any]:
    """erf(|x|), right where |x| <= 1, and erfc(|x|) = 1 - erf(|x|), right where |x| >= 1."""
    xp = cuda.get_array_module(x)
    size = xp.abs(x)
    near, far = xp.minimum(size, x.dtype.type(1)), xp.clip(size, 1, 30)  # exp(-30^2) is 0
    small = near * _polynomial(near * near, ERF_BELOW_1)
    return small, xp.exp(-far * far) * _polynomial((far - 2.5) / (far + 2.5), ERFC_ABOVE_1) / (1 + 2 * far)


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    y = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= x
    y += coefficients[0]
    return y


def _normal(x: Any) -> Any:
    """P(X <= x) for a standard normal X: 1 + erf(...) would lose the digits of what is small."""
    xp = cuda.get_array_module(x)
    x = x * math.sqrt(0.5)
    small, large = _erf_and_erfc(x)
    return xp.where(xp.abs(x) <= 1, 1 + xp.copysign(small, x), xp.where(x < 0, large, 2 - large)) * 0.5


@_halves_in_float32
def gelu(x: Any) -> Any:
    """y = x * P(X <= x) for a standard normal X."""
    x = cuda.get_array_module(x).maximum(x, x.dtype.type(-100))  # where P is 0, which times infinity is not
    return x * _normal(x)


@_halves_in_float32
def gelu_grad(x: Any, gy: Any) -> Any:
    """gx = gy * (P(X <= x) + x * the density of X at x)."""
    xp = cuda.get_array_module(x)
    x = xp.clip(x, -100, 100)
    return gy * (_normal(x) + x * xp.exp(x * x * -0.5) * math.sqrt(0.5 / math.pi))


GELU_TANH = 2 * math.sqrt(2 / math.pi), 0.044715


@_halves_in_float32
def gelu_tanh(x: Any) -> Any:
    """y = x * sigmoid(w) for w = 2 sqrt(2/pi) * (x + 0.044715 x^3), which is x / 2 * (1 + tanh(w / 2))."""
    xp = cuda.get_array_module(x)
    return xp.maximum(x, x.dtype.type(-100)) * sigmoid(_gelu_tanh_w(xp.clip(x, -100, 100)))


@_halves_in_float32
def gelu_tanh_grad(x: Any, gy: Any) -> Any:
    """gx = gy * s * (1 + (1 - s) * x * dw/dx) for s = sigmoid(w)."""
    x = cuda.get_array_module(x).clip(x, -100, 100)
    s = sigmoid(_gelu_tanh_w(x))
    return gy * (s * (1 + (1 - s) * x * (GELU_TANH[0] * (1 + 3 * GELU_TANH[1] * x * x))))


def _gelu_tanh_w(x: Any) -> Any:
    return GELU_TANH[0] * (x + GELU_TANH[1] * x * x * x)


@_halves_in_float32
def silu(x: Any) -> Any:
    """y = x * sigmoid(x)."""
    x = cuda.get_array_module(x).maximum(x, x.dtype.type(-1000))  # where sigmoid is 0, which times infinity is not
    return x * sigmoid(x)


@_halves_in_float32
def silu_grad(x: Any, gy: Any) -> Any:
    """gx = gy * s * (1 + (1 - s) * x) for s = sigmoid(x)."""
    x = cuda.get_array_module(x).clip(x, -1000, 1000)
    s = sigmoid(x)
    return gy * (s * (1 + (1 - s) * x))


@_halves_in_float32
def elu(x: Any, alpha: float) -> Any:
    """y = x where x > 0, alpha * (exp(x) - 1) elsewhere."""
    xp = cuda.get_array_module(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, x.dtype.type(0))))


@_halves_in_float32
def elu_grad(x: Any, gy: Any, alpha: float) -> Any:
    """gx = gy where x > 0, gy * alpha * exp(x) elsewhere."""
    xp = cuda.get_array_module(x)
    return xp.where(x > 0, gy, gy * (alpha * xp.exp(xp.minimum(x, x.dtype.type(0)))))


@_halves_in_float32
def softplus(x: Any, beta: float) -> Any:
    """y = ln(1 + exp(beta x)) / beta, without overflow."""
    xp, x = cuda.get_array_module(x), x * beta
    return (xp.maximum(x, x.dtype.type(0)) + xp.log1p(xp.exp(-xp.abs(x)))) / beta


@_halves_in_float32
def softplus_grad(x: Any, gy: Any, beta: float) -> Any:
    """gx = gy * sigmoid(beta x)."""
    return gy * sigmoid(x * beta)


@_halves_in_float32
def hard_swish(x: Any) -> Any:
    """y = x * min(max(x + 3, 0), 6) / 6."""
    xp = cuda.get_array_module(x)
    inside = xp.clip(x, -3, 3)  # as x * (x + 3) can overflow
    return xp.where(x >= 3, x, inside * (inside + 3) / 6)


@_halves_in_float32
def hard_swish_grad(x: Any, gy: Any) -> Any:
    """gx = gy * (2x + 3) / 6 between -3 and 3; 0 below, and gy above."""
    xp = cuda.get_array_module(x)
    slope = (2 * xp.clip(x, -3, 3) + 3) / 6
    return xp.where(x >= 3, gy, xp.where(x <= -3, gy.dtype.type(0), gy * slope))


@_halves_in_float32
def leaky_relu(x: Any, slope: float) -> Any:
    """y = x where x > 0, x * slope elsewhere."""
    return cuda.get_array_module(x).where(x > 0, x, x * slope)


@_halves_in_float32
def leaky_relu_grad(x: Any, gy: Any, slope: float) -> Any:
    """gx = gy where x > 0, gy * slope elsewhere."""
    return cuda.get_array_module(x).where(x > 0, gy, gy * slope)


# ----------------------------------------------------------------------------------------------------------------------
# Normalisation
# ----------------------------------------------------------------------------------------------------------------------


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, channel by channel: x (N, C, ...) -> y, mean (C,), var (C,).

    Mean and (biased) variance are taken over all axes but the second.
    """
    axes = _all_but_channels(x)
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    scale = gamma / (var + eps) ** 0.5
    y = (x - _per_channel(mean, x)) * _per_channel(scale, x) + _per_channel(beta, x)
    return y, mean, var


def batch_norm_grad(x: Any, gy: Any, gamma: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any, Any]:
    """Return gx, ggamma and gbeta, with n = (x - mean) / std and std = sqrt(var + eps).

    gx = gamma / std * (gy - mean of gy - n * mean of gy * n); ggamma = sum of gy * n; gbeta = sum of gy.
    """
    axes = _all_but_channels(x)
    std = (var + eps) ** 0.5
    normal = (x - _per_channel(mean, x)) / _per_channel(std, x)
    ggamma, gbeta = (gy * normal).sum(axis=axes), gy.sum(axis=axes)
    count = x.size // gamma.size
    gx = gy - _per_channel(gbeta / count, x) - normal * _per_channel(ggamma / count, x)
    return gx * _per_channel(gamma / std, x), ggamma, gbeta


def update_statistics(mean: Any, var: Any, batch_mean: Any, batch_var: Any, decay: float, count: int) -> None:
    """mean = decay * mean + (1 - decay) * batch_mean, and var alike, in place: all (C,).

    `batch_var` is the biased variance of so many numbers; what is added is the unbiased one.
    """
    unbiased = batch_var * (count / max(count - 1, 1))
    for running, batch in ((mean, batch_mean), (var, unbiased)):
        running *= decay
        running += ((1 - decay) * batch).astype(running.dtype)


def scale_and_shift(x: Any, scale: Any, shift: Any) -> Any:
    """y = x * scale + shift, channel by channel: x (N, C, ...), scale and shift (C,)."""
    return x * _per_channel(scale, x) + _per_channel(shift, x)


def normalise(x: Any, eps: float) -> tuple[Any, Any, Any]:
    """y = (x - mean) / std row by row, std = sqrt(var + eps): x (M, D) -> y (M, D), mean (M,), std (M,)."""
    mean = x.mean(axis=1, keepdims=True)
    centred = x - mean
    std = ((centred * centred).mean(axis=1, keepdims=True) + eps) ** 0.5
    return centred / std, mean[:, 0], std[:, 0]


def normalise_grad(y: Any, std: Any, gy: Any) -> Any:
    """gx = (gy - mean of gy - y * mean of gy * y) / std row by row, where y and std are those of `normalise`."""
    inner = (gy * y).mean(axis=1, keepdims=True)
    return (gy - gy.mean(axis=1, keepdims=True) - y * inner) / std[:, None]


def channel_sum(gy: Any) -> Any:
    """The sum over all axes but the second, (N, C, ...) -> (C,): the gradient of a bias."""
    return gy.sum(axis=_all_but_channels(gy))


def _all_but_channels(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _per_channel(values: Any, x: Any) -> Any:
    """(C,) in the shape that lines up with the second axis of x."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


# ----------------------------------------------------------------------------------------------------------------------
# Products
# ----------------------------------------------------------------------------------------------------------------------


def matmul(x: Any, W: Any) -> Any:
    """y = x W, of vectors, matrices, or batches of matrices that broadcast."""
    return x @ W


def einsum(subscripts: str, *xs: Any) -> Any:
    """The sum of products that `subscripts` say; of two and more, made of matrix products where it can be."""
    return cuda.get_array_module(xs[0]).einsum(subscripts, *xs, optimize=len(xs) > 1)


def linear(x: Any, W: Any, b: Any) -> Any:
    """y = x W + b: x (N, in), W (in, out), b (out,) or None -> (N, out)."""
    y = x @ W
    return y if b is None else y + b


def gates(x: Any, h: Any, *weights: Any) -> Any:
    """y[j] = x Wx[j] + b[j] + h Wh[j]: x (N, in), h (N, out), weights all Wx, all b, all Wh -> (gates, N, out)."""
    count = len(weights) // 3
    y = cuda.get_array_module(x).empty((count, *h.shape), x.dtype)
    for j, (Wx, b, Wh) in enumerate(zip(weights[:count], weights[count:-count], weights[-count:], strict=True)):
        y[j] = x @ Wx + b + h @ Wh
    return y


def gates_grad_x(gy: Any, *W: Any) -> Any:
    """gates backward in x, or with Wh in h: the sum of gy[j] W[j]', gy (gates, N, out)."""
    return sum(gy[j] @ W[j].T for j in range(len(W)))


def gates_grad_w(x: Any, gy: Any) -> tuple[Any, ...]:
    """gates backward in Wx, or with h in Wh: x' gy[j] for each gate."""
    return tuple(x.T @ gy[j] for j in range(len(gy)))


# ----------------------------------------------------------------------------------------------------------------------
# What a step of a recurrent network does with its sums of products: all (N, H), or several of these
# ----------------------------------------------------------------------------------------------------------------------


def lstm_cell(sums: Any, c: Any) -> tuple[Any, Any]:
    """Return the gates f, i, o = sigmoid and u = tanh of the sums (4, N, H), and the next c = f * c + i * u."""
    xp = cuda.get_array_module(sums)
    f, i, _, u = gates = xp.stack([*map(sigmoid, sums[:3]), tanh(sums[3])])
    return gates, f * c + i * u


def lstm_cell_grad(gates: Any, c: Any, gc: Any, go: Any) -> tuple[Any, Any]:
    """The gradients of the sums (4, N, H), and of c, from those of the next c and of o."""
    f, i, o, u = gates
    gys = [gc * c * f * (1 - f), gc * u * i * (1 - i), go * o * (1 - o), gc * i * (1 - u * u)]
    return cuda.get_array_module(gates).stack(gys), gc * f


def lstm_output(c: Any, o: Any) -> Any:
    """h = o * tanh(c)."""
    return o * tanh(c)


def lstm_output_grad(c: Any, o: Any, gh: Any) -> tuple[Any, Any]:
    """The gradients of c and o."""
    t = tanh(c)
    return gh * o * (1 - t * t), gh * t


def gru_cell(sums: Any, nx: Any, nh: Any, h: Any) -> tuple[Any, Any]:
    """Return the gates r, z = sigmoid of the sums (2, N, H) and n = tanh(nx + r * nh), and the next h.

    That is (1 - z) * n + z * h.
    """
    r, z = map(sigmoid, sums)
    n = tanh(nx + r * nh)
    return cuda.get_array_module(sums).stack([r, z, n]), n + z * (h - n)


def gru_cell_grad(gates: Any, nh: Any, h: Any, gy: Any) -> tuple[Any, Any]:
    """The gradients of nx, of the sums of r and z, and of nh (4, N, H), and of h as z keeps it."""
    r, z, n = gates
    gn = gy * (1 - z) * (1 - n * n)
    gys = [gn, gn * nh * r * (1 - r), gy * (h - n) * z * (1 - z), gn * r]
    return cuda.get_array_module(gates).stack(gys), gy * z


# ----------------------------------------------------------------------------------------------------------------------
# Classes, rows
# ----------------------------------------------------------------------------------------------------------------------


def log_softmax(x: Any, axis: int) -> Any:
    """y = x - log of the sum of exp(x) over `axis`, as precise for large x as for small."""
    xp = cuda.get_array_module(x)
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    largest = xp.where(xp.isfinite(largest), largest, x.dtype.type(0))  # inf - inf is not a number
    x = x - largest  # what is left is small where it counts: no digits are lost in the difference
    with np.errstate(divide="ignore"):
        return x - xp.log(xp.exp(x).sum(axis=axis, keepdims=True))


def softmax_cross_entropy(x: Any, t: Any) -> tuple[Any, Any]:
    """Return the mean over n of -log_p[n, t[n]], and log_p = log_softmax(x): x (N, C), t (N,) integers in 0..C-1."""
    log_p = log_softmax(x, axis=1)
    return -log_p[cuda.get_array_module(x).arange(len(x)), t].mean(), log_p


def softmax_cross_entropy_grad(log_p: Any, t: Any, gy: Any) -> Any:
    """gx[n, c] = (exp(log_p[n, c]) - (1 if c is t[n] else 0)) * gy / N, gy of no axes: the gradient (N, C)."""
    xp = cuda.get_array_module(log_p)
    gx = xp.exp(log_p)
    gx[xp.arange(len(gx)), t] -= 1
    return gx * (gy / len(gx))


def add_at(shape: tuple[int, ...], slices: Any, gy: Any) -> Any:
    """Zeros of `shape` to which gy is added at [slices], any index; an element named twice gets both."""
    gx = np.zeros(shape, gy.dtype)
    np.add.at(gx, slices, gy)
    return gx


def add_rows(shape: tuple[int, ...], rows: Any, gy: Any) -> Any:
    """Zeros of `shape` to which gy[i] is added at row rows[i]: rows (...) integers, gy (..., *shape[1:]).

    A row named twice gets both.
    """
    xp = cuda.get_array_module(gy)
    gx = xp.zeros(shape, gy.dtype)
    xp.add.at(gx, rows, gy)
    return gx


# ----------------------------------------------------------------------------------------------------------------------
# Updates: a parameter p and what is remembered of it change in place; g, its gradient, may be of another floating dtype
# ----------------------------------------------------------------------------------------------------------------------


def sgd(p: Any, g: Any, lr: float) -> None:
    """p -= lr * g."""
    p -= lr * g


def momentum_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """v = momentum * v - lr * g; p += v."""
    v *= momentum
    v -= lr * g
    p += v


def nesterov_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """v = momentum * v - lr * g; p += momentum * v - lr * g."""
    v *= momentum
    v -= lr * g
    p += momentum * v - lr * g


def adagrad(p: Any, h: Any, g: Any, lr: float, eps: float) -> None:
    """h += g * g; p -= lr * g / (sqrt(h) + eps)."""
    h += g * g
    p -= lr * g / (h**0.5 + eps)


def rmsprop(p: Any, h: Any, g: Any, lr: float, alpha: float, eps: float) -> None:
    """h = alpha * h + (1 - alpha) * g * g; p -= lr * g / (sqrt(h) + eps)."""
    h *= alpha
    h += (1 - alpha) * g * g
    p -= lr * g / (h**0.5 + eps)


def adadelta(p: Any, h: Any, s: Any, g: Any, rho: float, eps: float) -> None:
    """h = rho * h + (1 - rho) * g * g; d = sqrt((s + eps) / (h + eps)) * g; s = rho * s + (1 - rho) * d * d; p -= d."""
    h *= rho
    h += (1 - rho) * g * g
    d = ((s + eps) / (h + eps)) ** 0.5 * g
    s *= rho
    s += (1 - rho) * d * d
    p -= d


def adam(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float) -> None:
    """m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p -= lr * m / (sqrt(v) + eps)."""
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    p -= lr * m / (v**0.5 + eps)


def adamw(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float, shrink: float) -> None:
    """p -= shrink * p; then as `adam`."""
    p -= shrink * p
    adam(p, m, v, g, lr, beta1, beta2, eps)


def nadam(p: Any, m: Any, v: Any, g: Any, lr: float, ahead: float, beta1: float, beta2: float, eps: float) -> None:
    """m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p -= (lr * g + ahead * m) / (sqrt(v) + eps)."""
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    p -= (lr * g + ahead * m) / (v**0.5 + eps)


def lion(p: Any, m: Any, g: Any, lr: float, beta1: float, beta2: float, shrink: float) -> None:
    """p -= lr * sign(beta1 * m + (1 - beta1) * g) + shrink * p; m = beta2 * m + (1 - beta2) * g."""
    xp = cuda.get_array_module(p)
    p -= lr * xp.sign(beta1 * m + (1 - beta1) * g) + shrink * p
    m *= beta2
    m += (1 - beta2) * g
