"""The plain NumPy kernels: each says what it computes in the fewest steps. Every other backend is tested against these.

One idea carries the file. `im2col` copies the windows that a kernel sees into an array of axes (N, C, KH, KW, OH, OW):
element [n, c, i, j, oh, ow] is what the kernel's cell (i, j) sees in window (oh, ow). A convolution is then a matrix
product over (C, KH, KW), a pooling a reduction over (KH, KW), and a gradient runs the same way back through `col2im`,
which adds every window back to where it came from.

A convolution makes one matrix of the whole batch, rows (C, KH, KW) and columns (N, OH, OW), so that it is one large
product: many small ones, each on several threads, crawl when another program wants the cores. What comes out of it
therefore lies in memory as (OC, N, OH, OW); the axes are (N, OC, OH, OW), as everywhere. Groups of channels that do not
see each other are a batch of such products; usually there is one.

Sizes: x (N, C, H, W), W (OC, C / groups, KH, KW), y and gy (N, OC, OH, OW). `kernel_size`, `stride`, `pad` and
`dilation` (1 when the kernel's cells are neighbours) are pairs.
Source of the idea: Chellapilla, Puri and Simard, "High performance convolutional neural networks for document
processing", 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels.sizes import span

Pair = tuple[int, int]


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
