"""Kernels compiled by Numba (extra `fast`): one pass where NumPy takes several, on all threads.

Where to begin: `product.multiply` is the loop that most time goes into, `simd.tile` what it does innermost; `conv.py`
says how a convolution is such a product without laying out its windows, `winograd.py` how to multiply less,
`activation.py` how an exponential is made of sums and products. What has no fast way here (integers, float16) is left
to `blocked`.
"""

from typing import Any

from dezero.kernels import blocked
from dezero.kernels.compiled import conv, product
from dezero.kernels.compiled.activation import (
    elu,
    elu_grad,
    erf,
    gelu,
    gelu_grad,
    gelu_tanh,
    gelu_tanh_grad,
    hard_swish,
    hard_swish_grad,
    leaky_relu,
    leaky_relu_grad,
    silu,
    silu_grad,
    softplus,
    softplus_grad,
)
from dezero.kernels.compiled.conv import conv2d, conv2d_grad_w, conv2d_relu, deconv2d
from dezero.kernels.compiled.elementwise import (
    adadelta,
    adagrad,
    adam,
    adamw,
    lion,
    momentum_sgd,
    nadam,
    nesterov_sgd,
    relu,
    relu_grad,
    rmsprop,
    sgd,
    sigmoid_grad,
    tanh_grad,
)
from dezero.kernels.compiled.layout import copy
from dezero.kernels.compiled.norm import (
    batch_norm,
    batch_norm_grad,
    channel_sum,
    normalise,
    normalise_grad,
    scale_and_shift,
)
from dezero.kernels.compiled.pool import average_pool, average_pool_grad, max_pool, max_pool_gather, max_pool_scatter
from dezero.kernels.compiled.product import gates, gates_grad_w, gates_grad_x, linear
from dezero.kernels.compiled.recurrent import gru_cell, gru_cell_grad, lstm_cell, lstm_cell_grad
from dezero.kernels.compiled.rows import add_rows


def __getattr__(name: str) -> Any:
    """What this backend has no way of its own for is that of NumPy in blocks."""
    return getattr(blocked, name)


def forget_tables() -> None:
    """Let go of the offsets that were worked out for sizes that came before."""
    for table in (conv._make_tables, conv._tables_of_grad_w, product.row_starts):
        table.cache_clear()
