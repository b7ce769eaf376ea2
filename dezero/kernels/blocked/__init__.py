"""NumPy kernels made to be fast, for who has no Numba: few passes over memory, in blocks that stay in the cache.

Three ideas carry the rooms.

**Channels last.** The axes of an image are (N, C, H, W), as everywhere, but what comes out of a convolution here lies
in memory as (N, H, W, C): strides carry it, and NumPy's elementwise operations keep it, so nothing above has to know.
Every kernel here takes either order and keeps it.

**Blocks.** An array larger than the cache, written to memory and read again for the next step, costs more than the
steps. So a few images or rows at a time go through all of them in a buffer.

**Long runs, no branches.** NumPy is fast along runs of neighbours in memory: per-channel values are repeated to long
rows, and a choice is an "and" with the bits of a mask.

What has no fast way here (integers, float16 where sums are taken, groups of channels, NaN in a maximum) is left to the
reference.
"""

from typing import Any

from dezero.kernels import reference
from dezero.kernels.blocked.activation import relu, relu_grad, sigmoid, sigmoid_grad, tanh_grad
from dezero.kernels.blocked.conv import conv2d, conv2d_grad_w, conv2d_relu, deconv2d
from dezero.kernels.blocked.norm import (
    batch_norm,
    batch_norm_grad,
    channel_sum,
    normalise,
    normalise_grad,
    scale_and_shift,
)
from dezero.kernels.blocked.pool import (
    average_pool,
    average_pool_grad,
    max_pool,
    max_pool_gather,
    max_pool_scatter,
)
from dezero.kernels.blocked.recurrent import lstm_cell, lstm_cell_grad
from dezero.kernels.blocked.rows import (
    add_rows,
    gates_grad_w,
    log_softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from dezero.kernels.blocked.update import (
    adadelta,
    adagrad,
    adam,
    adamw,
    lion,
    momentum_sgd,
    nadam,
    nesterov_sgd,
    rmsprop,
    sgd,
)


def __getattr__(name: str) -> Any:
    """What this backend has no way of its own for is the reference's."""
    return getattr(reference, name)
