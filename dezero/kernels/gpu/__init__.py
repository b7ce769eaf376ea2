"""The kernels for CuPy's arrays: CUDA of our own, cuDNN and cuBLAS, and the reference's where CuPy's are enough.

Where to begin: `launch.py` says how CUDA text becomes a kernel, `windows.py` is the shortest room with some. Two ideas
are common to all. **Gather, not scatter:** a thread works out an element of the result from all that adds to it, so
that no two write to one place, and the same input gives the same bits (`add_rows` alone adds in any order, unless
`cuda.deterministic` is set). **Nothing waits:** no kernel reads a value back, so that Python runs ahead of the device.
What a value would have to be read for (is a label a class?) comes out as NaN.

Results are in C order, or, where their arguments are, with channels last in memory: `channels.py` says more. Their sums
are taken in float32 at least.
"""

from dezero.kernels.gpu.conv import conv2d, conv2d_grad_w, conv2d_relu, deconv2d
from dezero.kernels.gpu.dropout import dropout
from dezero.kernels.gpu.elementwise import (
    add,
    astype,
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
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    silu,
    silu_grad,
    softplus,
    softplus_grad,
    tanh,
    tanh_grad,
    update_statistics,
)
from dezero.kernels.gpu.norm import (
    batch_norm,
    batch_norm_grad,
    channel_sum,
    normalise,
    normalise_grad,
    scale_and_shift,
)
from dezero.kernels.gpu.pool import average_pool, average_pool_grad, max_pool, max_pool_gather, max_pool_scatter
from dezero.kernels.gpu.product import einsum, gates, gates_grad_w, gates_grad_x, linear, matmul
from dezero.kernels.gpu.recurrent import (
    gru_cell,
    gru_cell_grad,
    lstm_cell,
    lstm_cell_grad,
    lstm_output,
    lstm_output_grad,
)
from dezero.kernels.gpu.rows import add_at, add_rows
from dezero.kernels.gpu.softmax import log_softmax, softmax_cross_entropy, softmax_cross_entropy_grad
from dezero.kernels.gpu.update import (
    adadelta,
    adagrad,
    adam,
    adamw,
    add_all,
    lion,
    momentum_sgd,
    nadam,
    nesterov_sgd,
    rmsprop,
    sgd,
    update_all,
)
from dezero.kernels.gpu.windows import col2im, im2col
from dezero.kernels.reference import copy
