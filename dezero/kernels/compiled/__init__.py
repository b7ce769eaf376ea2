"""Kernels compiled by Numba (extra `fast`): one pass where NumPy takes several, on all threads.

Where to begin: `product.multiply` is the loop that most time goes into, `simd.tile` what it does innermost; `conv.py`
says how a convolution is such a product without laying out its windows, `winograd.py` how to multiply less,
`activation.py` how an exponential is made of sums and products. What has no fast way here (integers, float16) is left
to `blocked`.
"""

from dezero.kernels.blocked import (
    log_softmax,
    lstm_output,
    lstm_output_grad,
    sigmoid,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
    tanh,
)
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
from dezero.kernels.reference import add, add_at, astype, col2im, einsum, im2col, matmul, update_statistics

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "add",
    "add_at",
    "add_rows",
    "astype",
    "average_pool",
    "average_pool_grad",
    "batch_norm",
    "batch_norm_grad",
    "channel_sum",
    "col2im",
    "conv2d",
    "conv2d_grad_w",
    "conv2d_relu",
    "copy",
    "deconv2d",
    "einsum",
    "elu",
    "elu_grad",
    "erf",
    "gates",
    "gates_grad_w",
    "gates_grad_x",
    "gelu",
    "gelu_grad",
    "gelu_tanh",
    "gelu_tanh_grad",
    "gru_cell",
    "gru_cell_grad",
    "hard_swish",
    "hard_swish_grad",
    "im2col",
    "leaky_relu",
    "leaky_relu_grad",
    "linear",
    "lion",
    "log_softmax",
    "lstm_cell",
    "lstm_cell_grad",
    "lstm_output",
    "lstm_output_grad",
    "matmul",
    "max_pool",
    "max_pool_gather",
    "max_pool_scatter",
    "momentum_sgd",
    "nadam",
    "nesterov_sgd",
    "normalise",
    "normalise_grad",
    "relu",
    "relu_grad",
    "rmsprop",
    "scale_and_shift",
    "sgd",
    "sigmoid",
    "sigmoid_grad",
    "silu",
    "silu_grad",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "softplus",
    "softplus_grad",
    "tanh",
    "tanh_grad",
    "update_statistics",
]


def forget_tables() -> None:
    """Let go of the offsets that were worked out for sizes that came before."""
    for table in (conv._make_tables, conv._tables_of_grad_w, product.row_starts):
        table.cache_clear()
