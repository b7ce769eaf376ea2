"""F: the operations. Elementwise, activations, reductions and products, normalisation, losses.

A primitive is a class, its forward and backward side by side, and a function that calls it. What these can express
is a plain function without a class. Shapes, slices and matrix products live in core.py, because Variable's own methods
need them; convolution and pooling live in functions_conv.py. All of them are offered here.

Args named `x` take a Variable, an array or a number; what comes out is a Variable of x's floating dtype.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from dezero import cuda, random
from dezero.core import (
    Add,
    AsType,
    BroadcastTo,
    Config,
    Div,
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
    add,
    as_array,
    as_operand,
    as_python_number,
    as_variable,
    astype,
    broadcast_to,
    check_axis,
    check_product,
    div,
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
from dezero.functions_conv import (
    AveragePooling,
    Col2im,
    Conv2d,
    Conv2DGradW,
    Deconv2d,
    Im2col,
    Pooling,
    Pooling2DGrad,
    Pooling2DWithIndexes,
    average_pooling,
    col2im,
    col2im_array,
    conv2d,
    conv2d_simple,
    deconv2d,
    im2col,
    im2col_array,
    pooling,
    pooling_simple,
)

# ----------------------------------------------------------------------------------------------------------------------
# Elementwise
# ----------------------------------------------------------------------------------------------------------------------


class Sin(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).sin(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * cos(x)


def sin(x: Any) -> Variable:
    """y = sin x, elementwise.

    >>> sin(np.array([0.0, np.pi / 2]))
    variable([0. 1.])
    """
    return Sin()(x)


class Cos(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).cos(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy * -sin(x)


def cos(x: Any) -> Variable:
    """y = cos x, elementwise.

    >>> cos(np.array([0.0, np.pi]))
    variable([ 1. -1.])
    """
    return Cos()(x)


class Tanh(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).tanh(x)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy * (1 - y * y)


def tanh(x: Any) -> Variable:
    """y = tanh x, elementwise.

    >>> tanh(np.array([0.0, 100.0]))
    variable([0. 1.])
    """
    return Tanh()(x)


class Exp(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).exp(x)

    def backward(self, gy: Variable) -> Any:
        return gy * self.outputs[0]()


def exp(x: Any) -> Variable:
    """y = e ** x, elementwise.

    >>> exp(np.array([0.0, 1.0]))
    variable([1.         2.71828183])
    """
    return Exp()(x)


class Clip(Function):
    def __init__(self, x_min: Any, x_max: Any) -> None:
        if isinstance(x_min, Variable) or isinstance(x_max, Variable):
            raise TypeError("clip: x_min and x_max receive no gradient; give numbers or arrays, not Variables")
        self.x_min = as_python_number(x_min)
        self.x_max = as_python_number(x_max)

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).clip(x, self.x_min, self.x_max)

    def backward(self, gy: Variable) -> Any:
        x = self.inputs[0].data
        inside = x == x  # everything, but what is not a number
        if self.x_min is not None:
            inside &= x >= self.x_min
        if self.x_max is not None:
            inside &= x <= self.x_max
        return gy * inside


def clip(x: Any, x_min: Any, x_max: Any) -> Variable:
    """y = x, but x_min where x is less and x_max where x is more; the gradient is 0 there. None is no bound.

    >>> clip(np.array([-2.0, 0.5, 2.0]), -1.0, 1.0)
    variable([-1.   0.5  1. ])
    """
    return Clip(x_min, x_max)(x)


# ----------------------------------------------------------------------------------------------------------------------
# Shapes (the primitives are core's)
# ----------------------------------------------------------------------------------------------------------------------


def expand_dims(x: Any, axis: int) -> Variable:
    """Insert an axis of size 1 at position `axis` of the result; -1 is the last.

    >>> expand_dims(np.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    x = as_operand("expand_dims", x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"expand_dims: axis {axis} is out of bounds for a result of {x.ndim + 1} axes (x {x.shape})")
    position = axis % (x.ndim + 1)
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def flatten(x: Any) -> Variable:
    """Keep the first axis and join all others: (N, C, H, W) -> (N, C*H*W).

    >>> flatten(np.zeros((5, 3, 2, 2))).shape
    (5, 12)
    """
    x = as_operand("flatten", x)
    if x.ndim == 0:
        raise ValueError("flatten: expected at least one axis, got a 0-dimensional x")
    return reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))


# ----------------------------------------------------------------------------------------------------------------------
# Reductions and products
# ----------------------------------------------------------------------------------------------------------------------


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis`, an int, a tuple of ints, or None for all.

    >>> sum(np.ones((2, 3)), axis=1)
    variable([3. 3.])
    """
    return Sum(axis, keepdims)(x)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = largest element over `axis`; elements that tie share the gradient equally.

    >>> x = Variable(np.array([1.0, 3.0, 3.0]))
    >>> y = max(x)
    >>> y.backward()
    >>> y, x.grad
    (variable(3.0), variable([0.  0.5 0.5]))
    """
    return Max(axis, keepdims)(x)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = smallest element over `axis`; elements that tie share the gradient equally.

    >>> min(np.array([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    variable([1. 3.])
    """
    return Min(axis, keepdims)(x)


def average(x: Any, axis: Any = None, keepdims: bool = False) -> Variable:
    """y = sum of x over `axis` divided by the number of elements summed; NaN over none, as in NumPy.

    >>> average(np.array([[1.0, 2.0], [3.0, 6.0]]), axis=0)
    variable([2. 4.])
    """
    x = as_operand("average", x)
    y = sum(x, axis, keepdims)
    return y * (y.size / x.size) if x.size else y * np.nan


mean = average


class Linear(Function):
    def forward(self, x: Any, W: Any, b: Any) -> Any:
        if W.ndim != 2:
            raise ValueError(f"linear: W must have shape (in, out), got {W.shape}")
        check_product(self.operation, x, W)
        if b is not None and b.shape != (W.shape[1],):
            raise ValueError(
                f"linear: b must have shape {(W.shape[1],)}, one for each output, got {b.shape} (W {W.shape})"
            )
        y = x @ W
        return y if b is None else y + b

    def backward(self, gy: Variable) -> Any:
        x, W, b = self.inputs
        gx = gW = None
        if x.requires_grad:
            gx = matmul(gy, transpose(W))
        if W.requires_grad:
            gW = matmul(transpose(reshape(x, (-1, W.shape[0]))), reshape(gy, (-1, W.shape[1])))
        return gx, gW, gy if b.requires_grad else None


def linear(x: Any, W: Any, b: Any = None) -> Variable:
    """y = x W + b: x (N, in), or any number of axes before `in`; W (in, out); b (out,) or None -> (N, out).

    Raises ValueError when the sizes do not fit.

    >>> linear(np.ones((1, 2)), np.ones((2, 3)), np.array([0.0, 1.0, 2.0]))
    variable([[2. 3. 4.]])
    """
    return Linear()(x, W, b)


def linear_simple(x: Any, W: Any, b: Any = None) -> Variable:
    """`linear` composed of matmul and add, as the book's step 43 has it."""
    y = matmul(x, W)
    return y if b is None else y + b


# ----------------------------------------------------------------------------------------------------------------------
# Activations
# ----------------------------------------------------------------------------------------------------------------------


class Sigmoid(Function):
    def forward(self, x: Any) -> Any:
        return sigmoid_array(x)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy * y * (1 - y)


def sigmoid(x: Any) -> Variable:
    """y = 1 / (1 + exp(-x)), elementwise, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0]))
    variable([0.  0.5])
    """
    return Sigmoid()(x)


def sigmoid_array(x: Any) -> Any:
    """`sigmoid` on a plain array."""
    # tanh form: exp(-x) overflows for very negative x
    half = x.dtype.type(0.5) if x.dtype.kind == "f" else 0.5
    return cuda.get_array_module(x).tanh(x * half) * half + half


def sigmoid_simple(x: Any) -> Variable:
    """`sigmoid` as its formula says it; overflows for very negative x."""
    return 1 / (1 + exp(-as_operand("sigmoid_simple", x)))


class ReLU(Function):
    operation = "relu"

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).maximum(x, x.dtype.type(0))

    def backward(self, gy: Variable) -> Any:
        return gy * (self.inputs[0].data > 0)


def relu(x: Any) -> Variable:
    """y = max(x, 0), elementwise; the gradient at 0 is 0.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    variable([0. 0. 2.])
    """
    return ReLU()(x)


class LeakyReLU(Function):
    operation = "leaky_relu"

    def __init__(self, slope: float) -> None:
        self.slope = as_python_number(slope)

    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).where(x > 0, x, x * self.slope)

    def backward(self, gy: Variable) -> Any:
        x = self.inputs[0].data
        return gy * cuda.get_array_module(x).where(x > 0, gy.dtype.type(1), gy.dtype.type(self.slope))


def leaky_relu(x: Any, slope: float = 0.2) -> Variable:
    """y = x where x > 0, `slope` * x elsewhere.

    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]))
    variable([-0.2  0.   2. ])
    """
    return LeakyReLU(slope)(x)


class Softmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_axis(self.operation, x, self.axis)
        xp = cuda.get_array_module(x)
        y = xp.exp(x - x.max(axis=self.axis, keepdims=True))  # less the largest: exp of a large x overflows
        return y / y.sum(axis=self.axis, keepdims=True)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        gx = y * gy
        return gx - y * gx.sum(axis=self.axis, keepdims=True)


def softmax(x: Any, axis: Any = 1) -> Variable:
    """y = exp(x) / sum of exp(x) over `axis`: positive, and 1 in sum.

    >>> softmax(np.array([[0.0, np.log(3.0)]]))
    variable([[0.25 0.75]])
    """
    return Softmax(axis)(x)


def softmax_simple(x: Any, axis: Any = 1) -> Variable:
    """`softmax` as its formula says it; overflows for large x."""
    y = exp(x)
    return y / sum(y, axis=axis, keepdims=True)


class LogSoftmax(Function):
    def __init__(self, axis: Any = 1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_axis(self.operation, x, self.axis)
        return x - logsumexp_array(x, self.axis)

    def backward(self, gy: Variable) -> Any:
        y = self.outputs[0]()
        return gy - exp(y) * gy.sum(axis=self.axis, keepdims=True)


def log_softmax(x: Any, axis: Any = 1) -> Variable:
    """y = log softmax(x) = x - log of the sum of exp(x) over `axis`, without overflow.

    >>> log_softmax(np.array([[1000.0, 0.0]]))
    variable([[    0. -1000.]])
    """
    return LogSoftmax(axis)(x)


def logsumexp_array(x: Any, axis: Any = 1) -> Any:
    """Log of the sum of exp(x) over `axis`, which is kept with size 1; on a plain array."""
    xp = cuda.get_array_module(x)
    largest = x.max(axis=axis, keepdims=True)
    return largest + xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True))


# ----------------------------------------------------------------------------------------------------------------------
# Normalisation, dropout, embedding
# ----------------------------------------------------------------------------------------------------------------------


class BatchNorm(Function):
    def __init__(self, mean: Any, var: Any, decay: float, eps: float) -> None:
        self.running_mean = mean
        self.running_var = var
        self.decay = as_python_number(decay)
        self.eps = as_python_number(eps)

    def forward(self, x: Any, gamma: Any, beta: Any) -> Any:
        _check_batch_norm(x, gamma, beta, self.running_mean, self.running_var)
        self.axes = (0,) if x.ndim == 2 else (0, 2, 3)
        self.channels = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)  # the shape that lines gamma up with x's second axis
        self.train = Config.train
        if self.train:
            mean, var = x.mean(axis=self.axes), x.var(axis=self.axes)
            self._update_running(mean, var, x.size // gamma.size)
        else:
            # copies: training goes on changing the running arrays in place
            mean, var = self.running_mean.astype(gamma.dtype), self.running_var.astype(gamma.dtype)
            self.mean, self.std = mean.reshape(self.channels), self._std(var).reshape(self.channels)
        mean, scale = mean.reshape(self.channels), (gamma / self._std(var)).reshape(self.channels)
        return (x - mean) * scale + beta.reshape(self.channels)

    def _std(self, var: Any) -> Any:
        return (var + self.eps) ** 0.5

    def _update_running(self, mean: Any, var: Any, count: int) -> None:
        unbiased = var * (count / builtins.max(count - 1, 1))
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            running *= self.decay
            running += ((1 - self.decay) * batch).astype(running.dtype)

    def backward(self, gy: Variable) -> Any:
        # Everything that depends on x is computed from x again, as Variables, so that higher orders are right.
        x, gamma, _ = self.inputs
        if self.train:
            centred = x - mean(x, self.axes, keepdims=True)
            std = (mean(centred * centred, self.axes, keepdims=True) + self.eps) ** 0.5
        else:
            centred, std = x - self.mean, self.std
        normal = centred / std
        ggamma, gbeta = sum(gy * normal, self.axes), sum(gy, self.axes)
        gx = gy
        if self.train:
            gx = gy - mean(gy, self.axes, keepdims=True) - normal * mean(gy * normal, self.axes, keepdims=True)
        return gx * (reshape(gamma, self.channels) / std), ggamma, gbeta


def batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, decay: float = 0.9, eps: float = 2e-5) -> Variable:
    """Normalise each channel over the batch: y = gamma * (x - m) / sqrt(v + eps) + beta.

    While training, m and v are the batch's mean and (biased) variance, and the running arrays are updated in place:
    `mean = decay * mean + (1 - decay) * m`, `var` likewise with the unbiased variance. In `test_mode()` m and v are
    the running arrays.

    Args:
        x: (N, C) or (N, C, H, W).
        gamma, beta: (C,).
        mean, var: running arrays (C,), plain arrays or Variables.

    Raises ValueError when the shapes do not fit. Source: Ioffe and Szegedy, arXiv:1502.03167.

    >>> x = np.array([[1.0], [3.0]])
    >>> batch_norm(x, np.ones(1), np.zeros(1), np.zeros(1), np.ones(1), eps=0.0)
    variable([[-1.]
              [ 1.]])
    """
    return BatchNorm(cuda.plain(mean), cuda.plain(var), decay, eps)(x, gamma, beta)


batch_nrom = batch_norm  # the name under which DeZero programs know it


def _check_batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> None:
    if x.ndim not in (2, 4):
        raise ValueError(f"batch_norm: x must have shape (N, C) or (N, C, H, W), got {x.shape}")
    for name, array in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if array.shape != (x.shape[1],):
            raise ValueError(
                f"batch_norm: {name} must have shape {(x.shape[1],)}, one for each channel of x, got {array.shape}"
            )
    if Config.train and x.size == 0:
        raise ValueError(f"batch_norm: x {x.shape} is empty, so it has no mean to train with; use test_mode()")


def dropout(x: Any, dropout_ratio: float = 0.5) -> Variable:
    """While training, set each element to 0 with probability `dropout_ratio` and scale the others by 1 / (1 - ratio).

    In `test_mode()` y = x. Raises ValueError when the ratio is not in 0..1. Source: Srivastava et al., JMLR 15 (2014).

    >>> from dezero import test_mode
    >>> with test_mode():
    ...     dropout(np.ones(3))
    variable([1. 1. 1.])
    """
    if not 0 <= dropout_ratio <= 1:
        raise ValueError(f"dropout: dropout_ratio must lie in 0..1, got {dropout_ratio}")
    operand = as_operand("dropout", x)
    if not Config.train:
        return operand if operand is x else Variable(operand.data)
    dropout_ratio = as_python_number(dropout_ratio)
    keep = cuda.get_array_module(operand).asarray(random.uniform(*operand.shape) > dropout_ratio)
    return operand * (keep.astype(operand.dtype) * (1 / (1 - dropout_ratio) if dropout_ratio < 1 else 0.0))


def embed_id(x: Any, W: Any) -> Variable:
    """y = W[x]: the rows of W (V, D) that the ids `x` (...) name -> (..., D).

    Raises TypeError when ids are not integers, IndexError when one is not in 0..V-1.

    >>> embed_id(np.array([2, 0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    variable([[5. 6.]
              [1. 2.]])
    """
    ids = cuda.plain(x)
    if not cuda.is_array(ids):
        ids = np.asarray(ids) if np.size(ids) else np.zeros(np.shape(ids), int)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embed_id: ids must be integers, got {ids.dtype}")
    _check_range(IndexError, "embed_id: ids", ids, len(W))
    return get_item(W, ids)


# ----------------------------------------------------------------------------------------------------------------------
# Losses and accuracy
# ----------------------------------------------------------------------------------------------------------------------


class MeanSquaredError(Function):
    def forward(self, x0: Any, x1: Any) -> Any:
        _check_squared_error(x0, x1)
        difference = x0 - x1
        return (difference**2).sum() / len(difference)

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        difference = x0 - x1
        gx0 = gy * difference * (2.0 / len(difference))
        return gx0, -gx0 if x1.requires_grad else None


def mean_squared_error(x0: Any, x1: Any) -> Variable:
    """y = sum of (x0 - x1) ** 2 over the length of the first axis.

    One may broadcast to the other's shape. Raises ValueError when both would grow: (N, 1) and (N,) make (N, N).

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    variable(2.0)
    """
    x0, x1 = as_operand("mean_squared_error", x0), as_operand("mean_squared_error", x1)
    if x0.dtype.kind != "f" and x1.dtype.kind != "f":
        x0 = astype(x0, np.float64)  # the squares of small integers overflow
    return MeanSquaredError()(x0, x1)


def mean_squared_error_simple(x0: Any, x1: Any) -> Variable:
    """`mean_squared_error` composed of sub, pow and sum, as the book's step 42 has it."""
    x0, x1 = as_operand("mean_squared_error_simple", x0), as_operand("mean_squared_error_simple", x1)
    difference = x0 - x1
    return sum(difference**2) / len(difference)


def _check_squared_error(x0: Any, x1: Any) -> None:
    shapes = f"shapes {x0.shape} and {x1.shape}"
    try:
        shape = np.broadcast_shapes(x0.shape, x1.shape)
    except ValueError:
        raise ValueError(f"mean_squared_error: {shapes} cannot broadcast") from None
    if shape not in (x0.shape, x1.shape):
        raise ValueError(f"mean_squared_error: {shapes} would broadcast to {shape}; reshape one to the other's shape")
    if not shape or not shape[0]:
        raise ValueError(f"mean_squared_error: expected at least one row to average over, got {shapes}")


class SoftmaxCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        _check_labels(x, t)
        xp = cuda.get_array_module(x)
        rows = xp.arange(len(x))
        picked = x[rows, t.ravel()] - logsumexp_array(x, axis=1)[:, 0]
        return -picked.mean()

    def backward(self, gy: Variable) -> Any:
        x, t = self.inputs
        xp = cuda.get_array_module(t)
        one_hot = t.data.reshape(-1, 1) == xp.arange(x.shape[1])
        return (softmax(x) - one_hot.astype(x.dtype)) * (gy / len(x)), None


def softmax_cross_entropy(x: Any, t: Any) -> Variable:
    """y = mean over n of -log softmax(x)[n, t[n]].

    Args:
        x: scores (N, C).
        t: integer labels (N,), each in 0..C-1.

    Raises TypeError when labels are not integers, ValueError when the shapes do not fit or a label is out of range.

    >>> f"{softmax_cross_entropy(np.zeros((3, 4)), np.array([0, 1, 3])):.4f}"  # log 4
    '1.3863'
    """
    return SoftmaxCrossEntropy()(x, as_operand("softmax_cross_entropy", t))  # a lone label keeps its own dtype


def softmax_cross_entropy_simple(x: Any, t: Any) -> Variable:
    """`softmax_cross_entropy` composed of softmax, clip, log and get_item, as the book's step 47 has it."""
    x, t = as_operand("softmax_cross_entropy_simple", x), as_operand("softmax_cross_entropy_simple", t)
    _check_labels(x.data, t.data)
    log_p = log(clip(softmax_simple(x), 1e-15, 1.0))  # clipped: log 0 is minus infinity
    picked = get_item(log_p, (np.arange(len(x)), t.data.ravel()))
    return -sum(picked) / len(x)


def _check_labels(x: Any, t: Any) -> None:
    if x.ndim != 2 or t.size != len(x):
        raise ValueError(f"softmax_cross_entropy: expected x (N, C) and t (N,), got x {x.shape} and t {t.shape}")
    if x.size == 0:
        raise ValueError(f"softmax_cross_entropy: x {x.shape} is empty, so there is no loss to average")
    if t.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: labels must be integers, got {t.dtype}; use t.astype(int)")
    _check_range(ValueError, "softmax_cross_entropy: labels", t, x.shape[1])


def _check_range(error: type[Exception], what: str, ids: Any, size: int) -> None:
    """Raise `error` when an id is not in 0..size-1. On a GPU, looking would stop the stream."""
    if isinstance(ids, np.ndarray) and ids.size and (ids.min() < 0 or ids.max() >= size):
        bad = int(np.flatnonzero((ids.ravel() < 0) | (ids.ravel() >= size))[0])
        raise error(f"{what} must lie in 0..{size - 1}, got {ids.ravel()[bad]} at index {bad}")


class SigmoidCrossEntropy(Function):
    def forward(self, x: Any, t: Any) -> Any:
        xp = cuda.get_array_module(x)
        # -t log p - (1 - t) log(1 - p) for p = sigmoid(x), arranged so that exp never overflows
        losses = xp.maximum(x, 0) - x * t + xp.log1p(xp.exp(-abs(x)))
        return losses.sum() / len(x)

    def backward(self, gy: Variable) -> Any:
        x, t = self.inputs
        scale = gy / len(x)
        return (sigmoid(x) - t) * scale, -x * scale if t.requires_grad else None


def sigmoid_cross_entropy(x: Any, t: Any) -> Variable:
    """y = 1/N * sum of -t log p - (1 - t) log(1 - p), where p = sigmoid(x); finite for any x.

    Args:
        x: scores (N,) or (N, D).
        t: targets in 0..1, of x's shape; reshaped to it when the ranks differ.

    Raises ValueError when the shapes do not fit or there are no rows.

    >>> f"{sigmoid_cross_entropy(np.array([0.0, 1000.0]), np.array([1, 1])):.4f}"  # (log 2 + 0) / 2
    '0.3466'
    """
    x, t = _targets("sigmoid_cross_entropy", x, t)
    return SigmoidCrossEntropy()(x, t)


def binary_cross_entropy(p: Any, t: Any) -> Variable:
    """y = 1/N * sum of -t log p - (1 - t) log(1 - p), for probabilities p.

    Args:
        p: probabilities in 0..1, (N,) or (N, D); `sigmoid_cross_entropy` takes scores, and is more precise.
        t: targets in 0..1, of p's shape; reshaped to it when the ranks differ.

    Raises ValueError when the shapes do not fit, there are no rows, or p lies outside 0..1 by more than rounding.

    >>> f"{binary_cross_entropy(np.array([0.5]), np.array([1])):.4f}"  # log 2
    '0.6931'
    """
    p, t = _targets("binary_cross_entropy", p, t)
    rounding = 1e-5  # as far as a sum of probabilities strays from 1
    if isinstance(p.data, np.ndarray) and (p.data.min() < -rounding or p.data.max() > 1 + rounding):
        raise ValueError(
            f"binary_cross_entropy: p must lie in 0..1, got {p.data.min()}..{p.data.max()}; "
            "sigmoid_cross_entropy takes scores"
        )
    p = clip(p, 0.0, 1.0)
    tiny = 1e-12  # keeps log 0 finite without a flat piece where learning would stop
    losses = t * log(p + tiny) + (1 - t) * log(1 - p + tiny)
    return -sum(losses) / len(p)


def _targets(operation: str, x: Any, t: Any) -> tuple[Variable, Variable]:
    """Give targets the dtype of `x`, and its shape when their ranks differ; check that they fit."""
    x, t = as_operand(operation, x), as_operand(operation, t)
    shape = x.shape if x.ndim != t.ndim and x.size == t.size else t.shape
    dtype = x.dtype if x.dtype.kind == "f" and t.dtype.kind != "f" else t.dtype
    if t.requires_grad:
        t = astype(reshape(t, shape), dtype)
    else:
        t = as_operand(operation, t.data.reshape(shape).astype(dtype))  # still a constant
    if x.shape != t.shape:
        raise ValueError(f"{operation}: expected x and t of one shape, got x {x.shape} and t {t.shape}")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{operation}: expected at least one row to average over, got x {x.shape}")
    return x, t


def accuracy(y: Any, t: Any) -> Variable:
    """The share of rows of the scores y (N, C) whose largest element stands at the label t (N,). Not differentiable.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    variable(0.5)
    """
    y, t = as_operand("accuracy", y).data, as_operand("accuracy", t).data
    if y.ndim != 2 or t.size != len(y) or t.size == 0:
        raise ValueError(
            f"accuracy: expected scores y (N, C) and labels t (N,), N > 0, got y {y.shape} and t {t.shape}"
        )
    return Variable(as_array((y.argmax(axis=1).reshape(t.shape) == t).mean()))
