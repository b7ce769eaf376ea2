"""L: parameters, how they are first made, and the layers that hold them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dezero import cuda, random, serializers
from dezero import functions as F
from dezero.core import Parameter, Variable, as_operand, is_int
from dezero.functions_conv import Window, check_images, check_windows, pair
from dezero.functions_recurrent import LSTMOutput, LSTMStep


class Layer:
    """Something with parameters that can be called.

    A subclass assigns Parameters, Layers, or lists and dicts of nothing else to its attributes, in any order, and
    writes `forward`. Its parameters are theirs, each once, in the order of assignment.

    After a call `inputs` and `outputs` are lists of weak references to what went in and came out.

    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Parameter(np.array(2.0))
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(np.array(3.0))
    variable(6.0)
    """

    inputs: list[Any]
    outputs: list[Any]

    def __call__(self, *inputs: Any) -> Any:
        outputs = self.forward(*inputs)
        self.inputs = [_reference(x) for x in inputs]
        self.outputs = [_reference(y) for y in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]
        return outputs

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    @property
    def _params(self) -> list[str]:
        # The book's step 44 looks at the names of a layer's own Parameters and Layers under this name.
        return [name for name, value in vars(self).items() if isinstance(value, (Parameter, Layer))]

    def named_params(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, Parameter): names are attributes joined with `/`; a Parameter reached twice counts once.

        >>> [name for name, _ in Linear(2, in_size=3).named_params()]
        ['W', 'b']
        """
        seen: set[Any] = set()
        yield from _walk(self, "", seen)

    def params(self) -> Iterator[Parameter]:
        """Yield every Parameter once, running statistics (`is_buffer`) among them."""
        for _, param in self.named_params():
            yield param

    def cleargrads(self) -> None:
        """Forget all gradients."""
        for param in self.params():
            param.cleargrad()

    def to_cpu(self) -> None:
        """Move all parameters to the CPU, and the state of recurrent layers."""
        for x in _variables(self):
            x.to_cpu()

    def to_gpu(self) -> None:
        """Move all parameters to the GPU, and the state of recurrent layers.

        Raises RuntimeError that says what is missing where there is no GPU.
        """
        cuda.need_gpu("to_gpu")  # also where there is nothing to move yet
        for x in _variables(self):
            x.to_gpu()

    def save_weights(self, path: Any) -> None:
        """Save all parameters to an npz file, under their names; the file is written whole or not at all."""
        serializers.save_weights(self, path)

    def load_weights(self, path: Any) -> None:
        """Load parameters saved by `save_weights`, also into a model that was never called.

        Raises FileNotFoundError, or ValueError that lists the names missing, left over, or of another shape.
        """
        serializers.load_weights(self, path)

    def __getstate__(self) -> dict[str, Any]:
        # Weak references cannot be copied or pickled, and mean nothing elsewhere.
        return {name: value for name, value in vars(self).items() if name not in ("inputs", "outputs")}


def _reference(x: Any) -> Callable[[], Any]:
    """Return a weak reference to a Variable or array; of what takes none, a tuple or a number, nothing is kept."""
    try:
        return weakref.ref(x)
    except TypeError:
        return lambda: None


def _variables(layer: Layer) -> Iterator[Variable]:
    """Yield all Parameters, and what else layers keep as Variables."""
    yield from layer.params()
    waiting, seen = [layer], {layer}
    for part in waiting:  # which grows
        yield from (x for x in vars(part).values() if isinstance(x, Variable) and not isinstance(x, Parameter))
        within = [x for _, x in _parts(part) if isinstance(x, Layer) and x not in seen]
        waiting += within
        seen.update(within)


def _walk(layer: Layer, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Parameter]]:
    seen.add(layer)
    for name, part in _parts(layer):
        if part in seen:
            continue
        if isinstance(part, Layer):
            yield from _walk(part, f"{prefix}{name}/", seen)
        else:
            seen.add(part)
            yield prefix + name, part


def _parts(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Yield (name, part) for a layer's own Parameters and Layers: attributes first of all, else by place in a list."""
    attributes = vars(layer)
    named = {id(value) for value in attributes.values() if isinstance(value, (Parameter, Layer))}
    for name, value in attributes.items():
        if isinstance(value, (Parameter, Layer)):
            yield name, value
        elif isinstance(value, (list, tuple, dict)):
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            if all(isinstance(part, (Parameter, Layer)) for _, part in items):
                yield from ((f"{name}.{key}", part) for key, part in items if id(part) not in named)


def check_size(layer: str, name: str, value: Any) -> int:
    """Return a size as an int. Raises ValueError when it is not a positive int."""
    if not is_int(value) or value < 1:
        raise ValueError(f"{layer}: {name} must be a positive int, got {value!r}")
    return int(value)


def _check_nobias(layer: str, nobias: Any) -> bool:
    if nobias not in (0, 1):
        raise TypeError(
            f"{layer}: nobias must be True or False, got {nobias!r}; input sizes are given by name, as in_size="
        )
    return bool(nobias)


def _check_dtype(layer: str, dtype: Any) -> Any:
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"{layer}: dtype must be floating, as gradients are, got {np.dtype(dtype)}")
    return dtype


def _check_beside(layer: str, x: Variable, b: Parameter | None) -> None:
    """Raise where x is on another device than the layer: W would be made there, and stay."""
    if b is not None:
        cuda.check_same_device(f"{layer}: x and b", [x.data, b.data])


def _draw_weights(shape: tuple[int, ...], fan_in: int, like: Any, dtype: Any) -> Any:
    """Draw N(0, 1 / fan_in) (LeCun et al., "Efficient BackProp", 1998) on the CPU, and put it where `like` is."""
    weights = random.normal(*shape).astype(dtype) * np.dtype(dtype).type(np.sqrt(1 / fan_in))
    return cuda.as_owned_by(like, weights)


# ----------------------------------------------------------------------------------------------------------------------
# Linear, convolution
# ----------------------------------------------------------------------------------------------------------------------


class Linear(Layer):
    """y = x W + b: (N, in) -> (N, out). See `functions.linear`.

    Args:
        out_size: how many outputs.
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_size: how many inputs; None to learn it from x at the first call, which makes W.

    W (in, out) is drawn from N(0, 1 / in); b (out,) starts at 0.

    >>> linear = Linear(10)
    >>> linear(np.zeros((5, 3), np.float32)).shape, linear.W.shape
    ((5, 10), (3, 10))
    """

    def __init__(
        self, out_size: int, nobias: bool = False, dtype: Any = np.float32, in_size: int | None = None
    ) -> None:
        super().__init__()
        self.in_size: Any = None if in_size is None else check_size("Linear", "in_size", in_size)
        self.out_size = check_size("Linear", "out_size", out_size)
        self.dtype = _check_dtype("Linear", dtype)
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = (self.in_size, self.out_size), dtype
        if self.in_size is not None:
            self._init_W(None)
        self.b = None if _check_nobias("Linear", nobias) else Parameter(np.zeros(self.out_size, dtype=dtype), name="b")

    def _init_W(self, x: Any) -> None:
        self.W.data = _draw_weights((self.in_size, self.out_size), self.in_size, x, self.dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("Linear", x)
        if self.W.data is None:
            if not x.ndim or not x.shape[-1]:
                raise ValueError(f"Linear: expected x (N, in) with in > 0, got {x.shape}")
            _check_beside("Linear", x, self.b)
            self.in_size = x.shape[-1]
            self._init_W(x.data)
        return F.linear(x, self.W, self.b)


class _Convolution(Layer):
    """What Conv2d and Deconv2d have in common: their arguments, and weights made at the first call."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels: Any = None if in_channels is None else check_size(name, "in_channels", in_channels)
        self.out_channels = check_size(name, "out_channels", out_channels)
        Window.check(name, kernel_size, stride, pad)
        self.kernel_size, self.stride, self.pad = kernel_size, stride, pad
        self.dtype = _check_dtype(name, dtype)
        self.W = Parameter(None, name="W")
        self.W.expected_shape, self.W.expected_dtype = (*self._W_channels(), *pair(kernel_size)), dtype
        if self.in_channels is not None:
            self._init_W(None)
        self.b = None if _check_nobias(name, nobias) else Parameter(np.zeros(self.out_channels, dtype=dtype), name="b")

    def _W_channels(self) -> tuple[Any, Any]:
        raise NotImplementedError

    def _init_W(self, x: Any) -> None:
        KH, KW = pair(self.kernel_size)
        self.W.data = _draw_weights((*self._W_channels(), KH, KW), self.in_channels * KH * KW, x, self.dtype)

    def _prepare(self, x: Any) -> Any:
        """Make W where there is none yet, once x is known to be right."""
        name = type(self).__name__
        x = as_operand(name, x)
        if self.W.data is None:
            self._check_input(name, x)
            _check_beside(name, x, self.b)
            self.in_channels = check_size(name, "the number of channels of x", x.shape[1])
            self._init_W(x.data)
        return x

    def _check_input(self, name: str, x: Any) -> None:
        check_images(name, x)


class Conv2d(_Convolution):
    """Convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.conv2d`.

    Args:
        out_channels: how many kernels.
        kernel_size, stride, pad: an int or a pair (height, width).
        nobias: leave out b.
        dtype: of W and b, float32 by default.
        in_channels: C; None to learn it from x at the first call, which makes W.
        activation: what is applied to the result, a function or a layer; None for nothing. `F.relu` is computed in one
            operation with the convolution, `functions.conv2d_relu`.

    W (out_channels, C, KH, KW) is drawn from N(0, 1 / (C * KH * KW)); b (out_channels,) starts at 0. Raises TypeError
    when `activation` cannot be called.

    >>> conv = Conv2d(8, kernel_size=3, pad=1, activation=F.relu)
    >>> conv(np.zeros((1, 3, 28, 28), np.float32)).shape, conv.W.shape
    ((1, 8, 28, 28), (8, 3, 3, 3))
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        dtype: Any = np.float32,
        in_channels: int | None = None,
        activation: Any = None,
    ) -> None:
        if activation is not None and not callable(activation):
            raise TypeError(f"Conv2d: activation must be a function or a layer, such as F.relu, got {activation!r:.60}")
        super().__init__(out_channels, kernel_size, stride, pad, nobias, dtype, in_channels)
        self.activation = activation

    def _W_channels(self) -> tuple[Any, Any]:
        return self.out_channels, self.in_channels

    def forward(self, x: Any) -> Variable:
        x = self._prepare(x)
        if self.activation is F.relu:
            return F.conv2d_relu(x, self.W, self.b, self.stride, self.pad)
        y = F.conv2d(x, self.W, self.b, self.stride, self.pad)
        return y if self.activation is None else self.activation(y)

    def _check_input(self, name: str, x: Any) -> None:
        check_windows(name, x, Window.check(name, self.kernel_size, self.stride, self.pad))


class Deconv2d(_Convolution):
    """Transposed convolution: (N, C, H, W) -> (N, out_channels, OH, OW). See `functions.deconv2d`.

    Arguments are those of Conv2d. W (C, out_channels, KH, KW) is drawn from N(0, 1 / (C * KH * KW)).

    >>> Deconv2d(8, kernel_size=4, stride=2, pad=1)(np.zeros((1, 3, 7, 7), np.float32)).shape
    (1, 8, 14, 14)
    """

    def _W_channels(self) -> tuple[Any, Any]:
        return self.in_channels, self.out_channels

    def forward(self, x: Any) -> Variable:
        return F.deconv2d(self._prepare(x), self.W, self.b, self.stride, self.pad)


# ----------------------------------------------------------------------------------------------------------------------
# Recurrent layers
# ----------------------------------------------------------------------------------------------------------------------


class RNN(Layer):
    """One step of an Elman network a call: h = tanh(x2h(x) + h2h(h)), (N, in) -> (N, hidden_size).

    Args:
        hidden_size: the size of h.
        in_size: the size of x; None to learn it at the first call.

    The state `h` is kept between calls, None before the first; `reset_state()` forgets it. h2h has no bias; without
    `in_size` its weights are made at the second step, when h first enters.

    >>> rnn = RNN(5)
    >>> for x in np.zeros((4, 1, 3), np.float32):
    ...     h = rnn(x)
    >>> h.shape
    (1, 5)
    """

    def __init__(self, hidden_size: int, in_size: int | None = None) -> None:
        super().__init__()
        self.x2h = Linear(hidden_size, in_size=in_size)
        self.h2h = Linear(hidden_size, nobias=True, in_size=None if in_size is None else hidden_size)
        self.h: Variable | None = None

    def reset_state(self) -> None:
        """Forget the state, before a new sequence."""
        self.h = None

    def forward(self, x: Any) -> Variable:
        self.h = F.tanh(_add_state("RNN", self.x2h(x), self.h2h, self.h))
        return self.h


class LSTM(Layer):
    """One step of a long short-term memory a call, (N, in) -> (N, hidden_size).

    f, i, o = sigmoid(x2.(x) + h2.(h)) forget, take in and give out; u = tanh(x2u(x) + h2u(h)) is what is new;
    c = f * c + i * u, h = o * tanh(c).

    Args and state as in RNN; `c` is kept beside `h`. The h2 parts have no bias, and their weights are made at once.
    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997), with the forget gate of Gers et al. (2000).

    >>> lstm = LSTM(5)
    >>> for x in np.zeros((4, 1, 3), np.float32):
    ...     h = lstm(x)
    >>> h.shape, lstm.c.shape
    ((1, 5), (1, 5))
    """

    def __init__(self, hidden_size: int, in_size: int | None = None) -> None:
        super().__init__()
        self.x2f = Linear(hidden_size, in_size=in_size)
        self.x2i = Linear(hidden_size, in_size=in_size)
        self.x2o = Linear(hidden_size, in_size=in_size)
        self.x2u = Linear(hidden_size, in_size=in_size)
        self.h2f = Linear(hidden_size, nobias=True, in_size=hidden_size)
        self.h2i = Linear(hidden_size, nobias=True, in_size=hidden_size)
        self.h2o = Linear(hidden_size, nobias=True, in_size=hidden_size)
        self.h2u = Linear(hidden_size, nobias=True, in_size=hidden_size)
        self.h: Variable | None = None
        self.c: Variable | None = None

    def reset_state(self) -> None:
        """Forget the state, before a new sequence."""
        self.h = None
        self.c = None

    def forward(self, x: Any) -> Variable:
        x = as_operand("LSTM", x)
        if (weights := self._plain_weights(x)) is not None:
            self.c, o = LSTMStep()(x, self.h, self.c, *weights)
            self.h = LSTMOutput()(self.c, o)
            return self.h
        f = F.sigmoid(_add_state("LSTM", self.x2f(x), self.h2f, self.h))
        i = F.sigmoid(_add_state("LSTM", self.x2i(x), self.h2i, self.h))
        o = F.sigmoid(_add_state("LSTM", self.x2o(x), self.h2o, self.h))
        u = F.tanh(_add_state("LSTM", self.x2u(x), self.h2u, self.h))
        self.c = i * u if self.c is None else f * self.c + i * u
        self.h = o * F.tanh(self.c)
        return self.h

    def _plain_weights(self, x: Variable) -> list[Any] | None:
        """All Wx, b and Wh where a step can be one node: everything fits, and the layers are as they were made."""
        if self.h is None or self.c is None or x.ndim != 2 or self.h.ndim != 2:
            return None
        x2y, h2y = (self.x2f, self.x2i, self.x2o, self.x2u), (self.h2f, self.h2i, self.h2o, self.h2u)
        (N, D), H = x.shape, self.h.shape[1]
        weights: list[Any] = []
        for name, layers, shape in ("W", x2y, (D, H)), ("b", x2y, (H,)), ("W", h2y, (H, H)):
            for layer in layers:
                if type(layer) is not Linear or (layer.b is None) is (layers is x2y):
                    return None
                weights.append(getattr(layer, name))
                if weights[-1].data is None or weights[-1].data.shape != shape:
                    return None
        if self.h.shape != (N, H) or self.c.shape != (N, H):
            return None
        arrays = x.data, self.h.data, self.c.data, *(param.data for param in weights)
        return weights if all(array.dtype.kind == "f" for array in arrays) else None


def _add_state(layer: str, y: Variable, h2y: Linear, h: Variable | None) -> Variable:
    if h is None:
        return y
    if len(h) not in (1, len(y)):  # one row is a state for every row of x
        raise ValueError(
            f"{layer}: the state is that of a batch of {len(h)}, but x has {len(y)}; call reset_state() first"
        )
    return y + h2y(h)


# ----------------------------------------------------------------------------------------------------------------------
# Embedding, normalisation
# ----------------------------------------------------------------------------------------------------------------------


class EmbedID(Layer):
    """y = W[x]: integer ids (...) -> their rows of W (in_size, out_size), drawn from N(0, 1).

    >>> EmbedID(100, 8)(np.array([3, 1, 4])).shape
    (3, 8)
    """

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        shape = check_size("EmbedID", "in_size", in_size), check_size("EmbedID", "out_size", out_size)
        self.W = Parameter(random.normal(*shape).astype(np.float32), name="W")

    def forward(self, x: Any) -> Variable:
        return F.embed_id(x, self.W)


class BatchNorm(Layer):
    """Normalise each channel over the batch, (N, C) or (N, C, H, W). See `functions.batch_norm`.

    gamma and beta are learned; avg_mean and avg_var, the running statistics that `test_mode()` uses, are buffers. All
    four (C,) are made at the first call, of x's dtype, float32 at least.

    >>> bn = BatchNorm()
    >>> y = bn(np.array([[1.0], [3.0]]))
    >>> bn.avg_mean  # 0.9 * 0 + 0.1 * 2
    variable([0.2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.avg_mean = Parameter(None, name="avg_mean")
        self.avg_var = Parameter(None, name="avg_var")
        self.gamma = Parameter(None, name="gamma")
        self.beta = Parameter(None, name="beta")
        self.avg_mean.is_buffer = self.avg_var.is_buffer = True
        for param in self.params():
            param.expected_shape = (None,)

    def _init_params(self, x: Any) -> None:
        if x.ndim not in (2, 4):
            raise ValueError(f"BatchNorm: x must have shape (N, C) or (N, C, H, W), got {x.shape}")
        xp = cuda.get_array_module(x.data)
        # Statistics of many halves want more digits than a half has.
        dtype = x.dtype if x.dtype.kind == "f" and x.dtype.itemsize >= 4 else np.float32
        for param, value in ((self.avg_mean, 0), (self.avg_var, 1), (self.gamma, 1), (self.beta, 0)):
            if param.data is None:
                param.data = xp.full(x.shape[1], value, dtype)

    def forward(self, x: Any) -> Variable:
        x = as_operand("BatchNorm", x)
        if any(param.data is None for param in self.params()):
            self._init_params(x)
        return F.batch_norm(x, self.gamma, self.beta, self.avg_mean.data, self.avg_var.data)
