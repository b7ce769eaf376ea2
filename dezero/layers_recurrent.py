"""L: recurrent layers, a step a call. Those over whole sequences have a room of their own."""

from __future__ import annotations

from typing import Any

from dezero import functions as F
from dezero.core import Variable, as_operand
from dezero.functions_recurrent import GRUStep, LSTMOutput, LSTMStep
from dezero.layers_base import Layer, check_size
from dezero.layers_linear import Linear

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Layer):
    """One step of an Elman network a call: h = tanh(x2h(x) + h2h(h)), (N, in) -> (N, hidden_size).

    Args:
        hidden_size: the size of h.
        in_size: the size of x; None to learn it at the first call.
        init_x, init_h, init_b: how the weights of x and of h and the biases begin, see `initializers`.

    The state `h` is kept between calls, None before the first; `reset_state()` forgets it. h2h has no bias; without
    `in_size` its weights are made at the second step, when h first enters.

    >>> rnn = RNN(5)
    >>> for x in np.zeros((4, 1, 3), np.float32):
    ...     h = rnn(x)
    >>> h.shape
    (1, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        in_size: int | None = None,
        init_x: Any = "lecun_normal",
        init_h: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        self.hidden_size, self.in_size = _check_sizes("RNN", hidden_size, in_size)
        self.x2h = Linear(hidden_size, in_size=in_size, init_W=init_x, init_b=init_b)
        h_size = None if in_size is None else hidden_size
        self.h2h = Linear(hidden_size, nobias=True, in_size=h_size, init_W=init_h)
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

    def __init__(
        self,
        hidden_size: int,
        in_size: int | None = None,
        init_x: Any = "lecun_normal",
        init_h: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        self.hidden_size, self.in_size = _check_sizes("LSTM", hidden_size, in_size)
        of_x: Any = {"in_size": in_size, "init_W": init_x, "init_b": init_b}
        of_h: Any = {"in_size": hidden_size, "init_W": init_h, "nobias": True}
        self.x2f, self.x2i = Linear(hidden_size, **of_x), Linear(hidden_size, **of_x)
        self.x2o, self.x2u = Linear(hidden_size, **of_x), Linear(hidden_size, **of_x)
        self.h2f, self.h2i = Linear(hidden_size, **of_h), Linear(hidden_size, **of_h)
        self.h2o, self.h2u = Linear(hidden_size, **of_h), Linear(hidden_size, **of_h)
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
        x2y, h2y = (self.x2f, self.x2i, self.x2o, self.x2u), (self.h2f, self.h2i, self.h2o, self.h2u)
        return _plain_weights(x, x2y, h2y, (self.h, self.c))


class GRU(Layer):
    """One step of a gated recurrent unit a call, (N, in) -> (N, hidden_size).

    r, z = sigmoid(x2.(x) + h2.(h)) reset and keep; n = tanh(x2n(x) + r * h2n(h)) is what is new;
    h = (1 - z) * n + z * h.

    Args and state as in RNN. h2r and h2z have no bias, h2n has one; the weights of all three are made at once.
    Source: Cho et al., arXiv:1406.1078, in the form that PyTorch and cuDNN have: r after the product with h.

    >>> gru = GRU(5)
    >>> for x in np.zeros((4, 1, 3), np.float32):
    ...     h = gru(x)
    >>> h.shape
    (1, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        in_size: int | None = None,
        init_x: Any = "lecun_normal",
        init_h: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        self.hidden_size, self.in_size = _check_sizes("GRU", hidden_size, in_size)
        of_x: Any = {"in_size": in_size, "init_W": init_x, "init_b": init_b}
        of_h: Any = {"in_size": hidden_size, "init_W": init_h}
        self.x2r, self.x2z = Linear(hidden_size, **of_x), Linear(hidden_size, **of_x)
        self.x2n = Linear(hidden_size, **of_x)
        self.h2r, self.h2z = Linear(hidden_size, nobias=True, **of_h), Linear(hidden_size, nobias=True, **of_h)
        self.h2n = Linear(hidden_size, init_b=init_b, **of_h)
        self.h: Variable | None = None

    def reset_state(self) -> None:
        """Forget the state, before a new sequence."""
        self.h = None

    def forward(self, x: Any) -> Variable:
        x = as_operand("GRU", x)
        if (weights := self._plain_weights(x)) is not None:
            self.h = GRUStep()(x, self.h, *weights)
            return self.h
        r = F.sigmoid(_add_state("GRU", self.x2r(x), self.h2r, self.h))
        z = F.sigmoid(_add_state("GRU", self.x2z(x), self.h2z, self.h))
        if self.h is None:
            n = F.tanh(self.x2n(x) + r * self.h2n.b)
            self.h = n - z * n
        else:
            n = F.tanh(self.x2n(x) + r * self.h2n(self.h))
            self.h = n + z * (self.h - n)
        return self.h

    def _plain_weights(self, x: Variable) -> list[Any] | None:
        x2y, h2y = (self.x2r, self.x2z, self.x2n), (self.h2r, self.h2z, self.h2n)
        return _plain_weights(x, x2y, h2y, (self.h,), with_bias=(self.h2n,))


def _plain_weights(x: Variable, x2y: Any, h2y: Any, state: Any, with_bias: Any = ()) -> list[Any] | None:
    """All Wx, b and Wh, and the biases of the h2 parts `with_bias`, where a step can be one node.

    That is so where everything fits, and the layers are as they were made.
    """
    h = state[0]
    if None in state or x.ndim != 2 or h.ndim != 2:
        return None
    (N, D), H = x.shape, h.shape[1]
    params: list[Any] = []
    kinds = ("W", x2y, (D, H)), ("b", x2y, (H,)), ("W", h2y, (H, H)), ("b", with_bias, (H,))
    for name, layers, shape in kinds:
        for layer in layers:
            if type(layer) is not Linear or (layer.b is None) is (layer in (*x2y, *with_bias)):
                return None
            params.append(getattr(layer, name))
            if params[-1].data is None or params[-1].data.shape != shape:
                return None
    if any(part.shape != (N, H) for part in state):
        return None
    arrays = x.data, *(part.data for part in (*state, *params))
    return params if all(array.dtype.kind == "f" for array in arrays) else None


def _add_state(layer: str, y: Variable, h2y: Linear, h: Variable | None) -> Variable:
    if h is None:
        return y
    if len(h) not in (1, len(y)):  # one row is a state for every row of x
        raise ValueError(
            f"{layer}: the state is that of a batch of {len(h)}, but x has {len(y)}; call reset_state() first"
        )
    return y + h2y(h)


def _check_sizes(layer: str, hidden_size: Any, in_size: Any) -> tuple[int, int | None]:
    hidden_size = check_size(layer, "hidden_size", hidden_size)
    return hidden_size, None if in_size is None else check_size(layer, "in_size", in_size)
