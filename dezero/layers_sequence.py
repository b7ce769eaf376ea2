"""L: recurrent layers over whole sequences in one call, of many layers, in one direction or both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dezero import cuda, initializers
from dezero import functions as F
from dezero.core import Parameter, Variable, as_operand, check_number
from dezero.functions_recurrent import LSTMOutput
from dezero.functions_sequence import GRUSequence, LSTMSequence, RNNSequence
from dezero.initializers import check_initializer
from dezero.layers_base import Layer, check_beside, check_dtype, check_flag, check_size

__all__ = ["SequenceGRU", "SequenceLSTM", "SequenceRNN"]


class _Cell(Layer):
    """The weights of one layer in one direction, and a walk over a sequence with them."""

    states: tuple[str, ...] = ("h",)
    gates = 1

    def __init__(
        self, name: str, in_size: int | None, hidden_size: int, dtype: Any, inits: tuple[Any, Any, Any]
    ) -> None:
        super().__init__()
        self.name, self.in_size, self.hidden_size, self.dtype = name, in_size, hidden_size, dtype
        self.init_x, init_h, init_b = inits
        self.Wx = Parameter(None, name="Wx")
        self.Wx.expected_shape, self.Wx.expected_dtype = (in_size, self.gates * hidden_size), dtype
        if in_size is not None:
            self._make_Wx(in_size, None)
        self.Wh = Parameter(self._side_by_side("init_h", init_h, hidden_size, None), name="Wh")
        self.b = Parameter(self._make_b(init_b, self.gates), name="b")

    def _make_b(self, init: Any, gates: int) -> Any:
        return initializers.make(f"{self.name}: init_b", init, (gates * self.hidden_size,), (None, None), self.dtype)

    def _make_Wx(self, in_size: int, x: Any) -> None:
        self.in_size = in_size
        self.Wx.data = self._side_by_side("init_x", self.init_x, in_size, x)

    def _side_by_side(self, what: str, init: Any, in_size: int, x: Any) -> Any:
        """Weights for all gates, begun gate by gate: each has a fan_out of its own."""
        shape = in_size, self.hidden_size
        parts = [initializers.make(f"{self.name}: {what}", init, shape, shape, self.dtype) for _ in range(self.gates)]
        return cuda.as_owned_by(x, np.concatenate(parts, axis=1))

    def forward(self, x: Any, *state: Any) -> tuple[Variable, ...]:
        """Walk over x (T, N, in) from a state (N, H): h of all steps (T, N, H), and what else the state has."""
        if self.Wx.data is None:
            check_beside(self.name, x, self.b)
            self._make_Wx(x.shape[2], x.data)
        return self.walk(F.linear(x, self.Wx, self.b), *state)

    def walk(self, sums: Variable, *state: Any) -> tuple[Variable, ...]:
        raise NotImplementedError


class _RNNCell(_Cell):
    def walk(self, sums: Variable, *state: Any) -> tuple[Variable, ...]:
        return (RNNSequence()(sums, self.Wh, *state),)


class _LSTMCell(_Cell):
    states = ("h", "c")
    gates = 4

    def walk(self, sums: Variable, *state: Any) -> tuple[Variable, ...]:
        c, o = LSTMSequence()(sums, self.Wh, *state)
        return LSTMOutput()(c, o), c


class _GRUCell(_Cell):
    gates = 3

    def __init__(
        self, name: str, in_size: int | None, hidden_size: int, dtype: Any, inits: tuple[Any, Any, Any]
    ) -> None:
        super().__init__(name, in_size, hidden_size, dtype, inits)
        self.d = Parameter(self._make_b(inits[2], 1), name="d")

    def walk(self, sums: Variable, *state: Any) -> tuple[Variable, ...]:
        return (GRUSequence()(sums, self.Wh, *state, self.d),)


class _SequenceLayer(Layer):
    """What the three have in common: layers and directions, states, lengths, dropout."""

    cell: type[_Cell]

    def __init__(
        self,
        hidden_size: int,
        in_size: int | None = None,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        dtype: Any = np.float32,
        init_x: Any = "lecun_normal",
        init_h: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_size = None if in_size is None else check_size(name, "in_size", in_size)
        self.hidden_size = check_size(name, "hidden_size", hidden_size)
        self.num_layers = check_size(name, "num_layers", num_layers)
        self.bidirectional = check_flag(name, "bidirectional", bidirectional)
        self.dropout = check_number(name, "dropout", dropout, 0, 1)
        self.batch_first = check_flag(name, "batch_first", batch_first)
        self.dtype = check_dtype(name, dtype)
        given = {"init_x": init_x, "init_h": init_h, "init_b": init_b}
        inits = tuple(check_initializer(name, what, init) for what, init in given.items())
        for i in range(self.num_layers):
            for cell_name in self._cell_names(i):
                size = self.in_size if i == 0 else self._directions * self.hidden_size
                setattr(self, cell_name, self.cell(name, size, self.hidden_size, dtype, inits))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _cell_names(self, i: int) -> list[str]:
        return [f"l{i}", f"l{i}_reverse"][: self._directions]

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Variable, Any]:
        x = self._check_x(x)
        if self.batch_first:
            x = F.swapaxes(x, 0, 1)
        lengths = self._check_lengths(lengths, x)
        states = self._first_states(state, x)
        padding = None if lengths is None else _Padding(lengths, x)
        if padding is not None:
            x = padding.clear(x)  # whatever stands there, infinity times 0 is no number
        self.in_size = x.shape[2]
        y, lasts = self._climb(x, states, padding)
        parts = [F.stack(part) for part in zip(*lasts, strict=True)]
        return F.swapaxes(y, 0, 1) if self.batch_first else y, parts[0] if len(parts) == 1 else tuple(parts)

    def _climb(self, x: Variable, states: Iterator[Any], padding: _Padding | None) -> tuple[Variable, list[Any]]:
        """Go from layer to layer: return what the last gives out, and all last states."""
        lasts = []
        for i in range(self.num_layers):
            if i and self.dropout:
                x = F.dropout(x, self.dropout)
            ys = []
            for j, cell_name in enumerate(self._cell_names(i)):
                y, last = _walk(getattr(self, cell_name), x, next(states), j == 1, padding)
                ys.append(y)
                lasts.append(last)
            x = ys[0] if len(ys) == 1 else F.concat(ys, axis=2)
        return x, lasts

    def _check_x(self, x: Any) -> Variable:
        name, axes = type(self).__name__, "(N, T, in)" if self.batch_first else "(T, N, in)"
        x = as_operand(name, x)
        if x.ndim != 3 or 0 in x.shape:
            hint = f"; add the batch axis: x[{'None' if self.batch_first else ':, None'}]" if x.ndim == 2 else ""
            raise ValueError(f"{name}: expected x {axes}, no axis of 0, got {x.shape}{hint}")
        if self.in_size not in (None, x.shape[2]):
            raise ValueError(f"{name}: expected x {axes} with {self.in_size} features, got {x.shape}")
        return x

    def _check_lengths(self, lengths: Any, x: Variable) -> Any:
        if lengths is None:
            return None
        name, (T, N) = type(self).__name__, x.shape[:2]
        lengths = cuda.as_numpy(lengths)
        if lengths.dtype.kind not in "iu" or lengths.shape != (N,):
            raise ValueError(
                f"{name}: lengths must be {N} ints, one for each sequence, got {lengths.dtype} {lengths.shape}"
            )
        if lengths.min() < 1 or lengths.max() > T:
            raise ValueError(f"{name}: lengths must lie in 1..{T}, got {lengths.min()}..{lengths.max()}")
        return lengths.astype(np.int64)  # of unsigned ones, what is taken off would wrap around

    def _first_states(self, state: Any, x: Variable) -> Iterator[tuple[Any, ...]]:
        """Return the states to begin with, a tuple (N, H) each for every layer and direction."""
        names = self.cell.states
        count = self.num_layers * self._directions
        shape = (count, x.shape[1], self.hidden_size)
        if state is None:
            zeros = cuda.get_array_module(x.data).zeros(shape[1:], x.dtype if x.dtype.kind == "f" else self.dtype)
            return iter([(zeros,) * len(names)] * count)
        parts: tuple[Any, ...] = (state,) if len(names) == 1 else state
        if not isinstance(parts, (tuple, list)) or len(parts) != len(names):
            raise TypeError(
                f"{type(self).__name__}: expected a state ({', '.join(names)}), as a call returns it, "
                f"got {type(state).__name__}"
            )
        parts = tuple(
            as_operand(f"{type(self).__name__}: state {name}", p) for name, p in zip(names, parts, strict=True)
        )
        for name, part in zip(names, parts, strict=True):
            if part.shape != shape:
                raise ValueError(
                    f"{type(self).__name__}: expected a state {name} of shape {shape}, that is (layers and directions, "
                    f"N, hidden_size), got {part.shape}; state=None begins anew"
                )
        return iter([tuple(part[i] for part in parts) for i in range(count)])


class _Padding:
    """Sequences of several lengths in one batch (T, N): where they end, and how to turn each around by itself."""

    def __init__(self, lengths: Any, x: Variable) -> None:
        steps = np.arange(len(x))[:, None]
        inside = steps < lengths
        turned = np.where(inside, lengths - 1 - steps, steps)
        self.inside = cuda.as_owned_by(x.data, inside[:, :, None])
        self.columns = cuda.as_owned_by(x.data, np.arange(len(lengths)))
        self.turned, self.ends = cuda.as_owned_by(x.data, turned), cuda.as_owned_by(x.data, lengths - 1)

    def clear(self, x: Variable) -> Variable:
        return F.where(self.inside, x, 0.0)

    def turn(self, x: Variable) -> Variable:
        return x[self.turned, self.columns]

    def last(self, x: Variable) -> Variable:
        return x[self.ends, self.columns]


def _walk(cell: _Cell, x: Variable, state: Any, backwards: bool, padding: _Padding | None) -> Any:
    """Walk over x (T, N, in): return h of all steps, in the order of x, and the last state."""
    turn = (lambda x: F.flip(x, 0)) if padding is None else padding.turn
    states = cell(turn(x) if backwards else x, *state)
    last = tuple(y[-1] if padding is None else padding.last(y) for y in states)
    y = turn(states[0]) if backwards else states[0]
    return (y if padding is None else padding.clear(y)), last


class SequenceRNN(_SequenceLayer):
    """An Elman network over whole sequences: h = tanh(x Wx + b + h Wh), (T, N, in) -> (T, N, hidden_size).

    Args:
        hidden_size: the size of h.
        in_size: the size of x's last axis; None to learn it at the first call.
        num_layers: how many, one on top of the other.
        bidirectional: walk in both directions; what comes out has 2 * hidden_size features, those of the walk from the
            end last.
        dropout: drops what one layer hands to the next with this probability, while training.
        batch_first: x and y are (N, T, ...).
        dtype: of the weights, float32 by default.
        init_x, init_h, init_b: how Wx, Wh and b begin: a name, a callable or a number, see `initializers`.

    A call takes (x, state=None, lengths=None) and returns y and the last state:

    - `state`: h (num_layers * directions, N, hidden_size), as a call returns it; None for zeros. Nothing is kept from
      call to call. For truncated backpropagation hand the state on, and cut the graph behind it with
      `loss.unchain_backward()`.
    - `lengths`: N ints, how long each sequence is: what follows does not count, y is 0 there, the last state is that of
      the last step that counts, and the walk from the end begins at it.

    Each layer and direction has a part, `l0`, `l0_reverse`, `l1` ..., with `Wx` (in, H), `Wh` (H, H) and `b` (H,):
    drawn from N(0, 1 / in), N(0, 1 / H), and 0. PyTorch's `nn.RNN` has Wx as weight_ih transposed, Wh as weight_hh
    transposed, and b as the sum of its two biases.

    Raises ValueError or TypeError for arguments, states and lengths that cannot be.
    Source: Elman, Cognitive Science 14 (1990); Schuster and Paliwal, IEEE Transactions on Signal Processing 45 (1997).

    >>> rnn = SequenceRNN(5, num_layers=2)
    >>> y, h = rnn(np.zeros((7, 3, 4), np.float32))
    >>> y.shape, h.shape
    ((7, 3, 5), (2, 3, 5))
    """

    cell = _RNNCell


class SequenceLSTM(_SequenceLayer):
    """A long short-term memory over whole sequences, (T, N, in) -> (T, N, hidden_size): what each step is, `LSTM` says.

    Arguments and calls are those of `SequenceRNN`. The state is a pair (h, c), each (num_layers * directions, N, H). In
    each part `Wx` (in, 4H), `Wh` (H, 4H) and `b` (4H,) hold the gates f, i, o and u side by side, drawn gate by gate;
    PyTorch's `nn.LSTM` has the order i, f, u, o.

    >>> lstm = SequenceLSTM(5, bidirectional=True)
    >>> y, (h, c) = lstm(np.zeros((7, 3, 4), np.float32), lengths=[7, 2, 5])
    >>> y.shape, h.shape, c.shape
    ((7, 3, 10), (2, 3, 5), (2, 3, 5))
    """

    cell = _LSTMCell


class SequenceGRU(_SequenceLayer):
    """A gated recurrent unit over whole sequences, (T, N, in) -> (T, N, hidden_size): what each step is, `GRU` says.

    Arguments and calls are those of `SequenceRNN`. In each part `Wx` (in, 3H), `Wh` (H, 3H) and `b` (3H,) hold the
    gates r, z and n side by side, as PyTorch's `nn.GRU` has them, and `d` (H,) is the bias of h in n.

    >>> gru = SequenceGRU(5, batch_first=True)
    >>> y, h = gru(np.zeros((3, 7, 4), np.float32))
    >>> y.shape, h.shape
    ((3, 7, 5), (1, 3, 5))
    """

    cell = _GRUCell
