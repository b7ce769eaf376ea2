"""F: every operation, offered in one place. Each lives in a room of its own:

    core                   what Variable's operators and methods need: arithmetic, shapes, sum, max, min, matmul
    functions_elementwise  sin, exp, sqrt, where, ...
    functions_shape        expand_dims, concat, pad, ...
    functions_reduction    mean, var, cumsum, ...
    functions_product      linear, einsum, tensordot
    functions_activation   relu, sigmoid, softmax, ...
    functions_norm         batch_norm, layer_norm, ..., dropout
    functions_attention    embedding, one_hot, scaled_dot_product_attention
    functions_conv         im2col, conv2d, pooling, ...
    functions_resize       upsample, adaptive_average_pooling, ...
    functions_loss         softmax_cross_entropy, ..., accuracy

A primitive is a class, its forward and backward side by side, and a function that calls it. What these can express
is a plain function without a class.

Args named `x` take a Variable, an array or a number; what comes out is a Variable, of x's dtype where that is floating.
"""

from __future__ import annotations

from dezero.core import (
    Abs,
    Add,
    AsType,
    BroadcastTo,
    Div,
    FloorDivide,
    Function,
    GetItem,
    GetItemGrad,
    Log,
    MatMul,
    Max,
    Min,
    Mul,
    Neg,
    Pow,
    Power,
    Reshape,
    Sub,
    Sum,
    SumTo,
    Transpose,
    Variable,
    abs,
    add,
    as_array,
    as_variable,
    astype,
    broadcast_to,
    div,
    floor_divide,
    get_item,
    log,
    matmul,
    mul,
    neg,
    pow,
    rdiv,
    reshape,
    rsub,
    sub,
    sum_to,
    transpose,
)
from dezero.functions_activation import *
from dezero.functions_attention import *
from dezero.functions_conv import *
from dezero.functions_elementwise import *
from dezero.functions_loss import *
from dezero.functions_norm import *
from dezero.functions_product import *
from dezero.functions_reduction import *
from dezero.functions_resize import *
from dezero.functions_shape import *
