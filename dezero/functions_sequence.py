"""Whole sequences through a recurrent network, as one node each: for layers_sequence.py.

What x adds to the gates of all steps is one large product, made before: `sums` (T, N, gates * H), bias included. Here
remain the steps, each of which needs the h before it. A class writes them twice, forward and backward, in terms of
`on`: the same lines work on plain arrays, where no graph is recorded, and on Variables, where gradients are to be
derived again.
"""

from __future__ import annotations

from typing import Any

from dezero import cuda, kernels
from dezero.core import Config, Function, Variable, matmul
from dezero.functions_activation import sigmoid
from dezero.functions_elementwise import tanh
from dezero.functions_reduction import sum
from dezero.functions_shape import concat, stack

__all__ = ["GRUSequence", "LSTMSequence", "RNNSequence", "Sequence", "SequenceGrad"]


class _OnArrays:
    """What the steps are made of, on arrays like `x`."""

    def __init__(self, x: Any) -> None:
        self.xp, kernel = cuda.get_array_module(x), kernels.for_array(x)
        self.sigmoid, self.tanh = kernel.sigmoid, kernel.tanh
        self.stack = self.xp.stack
        self.product = lambda x, W: kernel.linear(x, W, None)

    def concat(self, xs: Any) -> Any:
        return self.xp.concatenate(xs, axis=1)

    def sum(self, x: Any) -> Any:
        return x.sum(axis=0)


class _OnVariables:
    """What the steps are made of, on Variables."""

    sigmoid, tanh = staticmethod(sigmoid), staticmethod(tanh)
    stack, product = staticmethod(stack), staticmethod(matmul)

    def concat(self, xs: Any) -> Any:
        return concat(xs, axis=1)

    def sum(self, x: Any) -> Any:
        return sum(x, axis=0)


class Sequence(Function):
    """All steps of a network: `sums` (T, N, gates * H), Wh (H, gates * H), a first h (N, H), ... -> (T, N, H)."""

    precision = "half"

    def steps(self, on: Any, *inputs: Any) -> tuple[Any, Any]:
        """Return what comes out, and what `back` needs to know."""
        raise NotImplementedError

    def back(self, on: Any, kept: Any, inputs: Any, gys: Any) -> Any:
        """Return the gradients of `inputs`."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> Any:
        outputs, self.kept = self.steps(_OnArrays(inputs[0]), *inputs)
        return outputs

    def backward(self, *gys: Variable) -> Any:
        if not Config.enable_backprop:
            return SequenceGrad(self)(*gys)
        on = _OnVariables()
        _, kept = self.steps(on, *self.inputs)
        return self.back(on, kept, self.inputs, gys)


class SequenceGrad(Function):
    """The gradients of a `Sequence`, straight on arrays: for when no graph of them is recorded."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence

    def forward(self, *gys: Any) -> Any:
        inputs = [x.data for x in self.sequence.inputs]
        return self.sequence.back(_OnArrays(inputs[0]), self.sequence.kept, inputs, gys)


class RNNSequence(Sequence):
    """h = tanh(sums + h Wh) at each step: sums (T, N, H), Wh (H, H), h (N, H) -> all h (T, N, H)."""

    operation = "rnn"

    def steps(self, on: Any, sums: Any, Wh: Any, h: Any) -> tuple[Any, Any]:
        hs = [h]
        for t in range(len(sums)):
            hs.append(on.tanh(sums[t] + on.product(hs[t], Wh)))
        return on.stack(hs[1:]), hs

    def back(self, on: Any, hs: Any, inputs: Any, gys: Any) -> Any:
        (_, Wh, _), (gy,) = inputs, gys
        gs, gh = [], 0.0
        for t in reversed(range(len(gy))):
            h = hs[t + 1]
            gs.append((gy[t] + gh) * (1 - h * h))
            gh = on.product(gs[-1], Wh.T)
        gsums = on.stack(gs[::-1])
        return gsums, _grad_Wh(on, hs, gsums), gh


class LSTMSequence(Sequence):
    """The c and the gate o of all steps of an LSTM: sums (T, N, 4H), Wh (H, 4H), h and c (N, H) -> c and o (T, N, H).

    The gates lie side by side: f, i, o and u. h = o * tanh(c) is left to others, so that who cuts the graph behind an
    h cuts it behind its c, too.
    """

    operation = "lstm"

    def steps(self, on: Any, sums: Any, Wh: Any, h: Any, c: Any) -> tuple[Any, Any]:
        H = Wh.shape[0]
        hs, cs, gates = [h], [c], []
        for t in range(len(sums)):
            y = sums[t] + on.product(hs[t], Wh)
            fio, u = on.sigmoid(y[:, : 3 * H]), on.tanh(y[:, 3 * H :])
            f, i, o = fio[:, :H], fio[:, H : 2 * H], fio[:, 2 * H :]
            c = f * cs[t] + i * u
            tanh_c = on.tanh(c)
            hs.append(o * tanh_c)
            cs.append(c)
            gates.append((f, i, o, u, tanh_c))
        return (on.stack(cs[1:]), on.stack([o for _, _, o, _, _ in gates])), (hs, cs, gates)

    def back(self, on: Any, kept: Any, inputs: Any, gys: Any) -> Any:
        (hs, cs, gates), (_, Wh, _, _), (gcs, gos) = kept, inputs, gys
        gs, gh, gc = [], 0.0, 0.0
        for t in reversed(range(len(gcs))):
            f, i, o, u, tanh_c = gates[t]
            go = gos[t] + gh * tanh_c
            gc = gcs[t] + gc + gh * o * (1 - tanh_c * tanh_c)
            gf, gi = gc * cs[t] * f * (1 - f), gc * u * i * (1 - i)
            gs.append(on.concat([gf, gi, go * o * (1 - o), gc * i * (1 - u * u)]))
            gc = gc * f
            gh = on.product(gs[-1], Wh.T)
        gsums = on.stack(gs[::-1])
        return gsums, _grad_Wh(on, hs, gsums), gh, gc


class GRUSequence(Sequence):
    """All h of a GRU: sums (T, N, 3H), Wh (H, 3H), h (N, H), d (H,) -> (T, N, H).

    The gates lie side by side: r, z and n = tanh(its sum + r * (h Wh + d)), and then h = (1 - z) * n + z * h.
    """

    operation = "gru"

    def steps(self, on: Any, sums: Any, Wh: Any, h: Any, d: Any) -> tuple[Any, Any]:
        H = Wh.shape[0]
        hs, gates = [h], []
        for t in range(len(sums)):
            y = on.product(hs[t], Wh)
            rz = on.sigmoid(sums[t][:, : 2 * H] + y[:, : 2 * H])
            r, z, m = rz[:, :H], rz[:, H:], y[:, 2 * H :] + d
            n = on.tanh(sums[t][:, 2 * H :] + r * m)
            hs.append(n + z * (hs[t] - n))
            gates.append((r, z, n, m))
        return on.stack(hs[1:]), (hs, gates)

    def back(self, on: Any, kept: Any, inputs: Any, gys: Any) -> Any:
        (hs, gates), (_, Wh, _, _), (gy,) = kept, inputs, gys
        gs, ghs, gd, gh = [], [], 0.0, 0.0
        for t in reversed(range(len(gy))):
            r, z, n, m = gates[t]
            gh = gy[t] + gh
            gn = gh * (1 - z) * (1 - n * n)
            gr, gz, gm = gn * m * r * (1 - r), gh * (hs[t] - n) * z * (1 - z), gn * r
            gs.append(on.concat([gr, gz, gn]))
            ghs.append(on.concat([gr, gz, gm]))
            gd = gd + on.sum(gm)
            gh = gh * z + on.product(ghs[-1], Wh.T)
        return on.stack(gs[::-1]), _grad_Wh(on, hs, on.stack(ghs[::-1])), gh, gd


def _grad_Wh(on: Any, hs: Any, gy: Any) -> Any:
    """The gradient of Wh in the products h Wh of all steps, from gy (T, N, gates * H): one product."""
    h = on.stack(hs[:-1])
    return on.product(h.reshape(-1, h.shape[-1]).T, gy.reshape(-1, gy.shape[-1]))
