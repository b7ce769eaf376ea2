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
