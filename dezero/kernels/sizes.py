"""How large what comes out of a convolution or a pooling is, along one axis."""

from __future__ import annotations


def span(kernel_size: int, dilation: int) -> int:
    """How far a kernel reaches along an axis when its cells lie `dilation` apart: dilation * (kernel_size - 1) + 1.

    >>> span(3, dilation=2)
    5
    """
    return dilation * (kernel_size - 1) + 1


def conv_outsize(input_size: int, kernel_size: int, stride: int, pad: int, dilation: int = 1) -> int:
    """How many windows fit along an axis: floor((input_size + 2 pad - span(kernel_size, dilation)) / stride) + 1.

    >>> conv_outsize(28, 3, 1, 1)
    28
    """
    return (input_size + 2 * pad - span(kernel_size, dilation)) // stride + 1


def deconv_outsize(size: int, k: int, s: int, p: int, dilation: int = 1) -> int:
    """The smallest size for which `conv_outsize` is `size`: s * (size - 1) + span(k, dilation) - 2 p.

    >>> deconv_outsize(14, 3, 2, 1)
    27
    """
    return s * (size - 1) + span(k, dilation) - 2 * p
