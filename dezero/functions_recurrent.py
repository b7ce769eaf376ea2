"""A step of a recurrent network in few nodes. `layers.LSTM` would make twenty, which took half of its time."""

from __future__ import annotations

from functools import reduce
from typing import Any

from dezero import kernels
from dezero.core import Config, Function, Variable, add, matmul, transpose
from dezero.functions_activation import sigmoid
from dezero.functions_elementwise import tanh
from dezero.functions_product import linear
from dezero.functions_reduction import sum

__all__ = [
    "GRUStep",
    "GRUStepGrad",
    "LSTMOutput",
    "LSTMOutputGrad",
    "LSTMStep",
    "LSTMStepGrad",
    "gru_step_simple",
    "lstm_step_simple",
]

# ----------------------------------------------------------------------------------------------------------------------
# LSTM
# ----------------------------------------------------------------------------------------------------------------------


class LSTMStep(Function):
    """The next c of an LSTM and its gate o, (N, H), from x (N, in), h, c, and all Wx, all b, all Wh.

    The gates are f, i, o and u, in this order. h = o * tanh(c) is a node of its own, `LSTMOutput`, so that who cuts the
    graph behind an h cuts it behind its c, too.
    """

    operation = "lstm"
    precision = "half"

    def forward(self, x: Any, h: Any, c: Any, *weights: Any) -> Any:
        kernel = kernels.for_array(x)
        self.gates, c_next = kernel.lstm_cell(kernel.gates(x, h, *weights), c)
        return c_next, self.gates[2]

    def backward(self, gc: Variable, go: Variable) -> Any:
        if not Config.enable_backprop:
            return LSTMStepGrad(self)(gc, go)
        x, h, c, *weights = self.inputs
        f, i, o, u = _gates(x, h, weights)
        gys = [gc * c * f * (1 - f), gc * u * i * (1 - i), go * o * (1 - o), gc * i * (1 - u * u)]
        gx, gh = (reduce(add, map(matmul, gys, map(transpose, W))) for W in (weights[:4], weights[8:]))
        gWx, gWh = ([matmul(transpose(a), gy) for gy in gys] for a in (x, h))
        return gx, gh, gc * f, *gWx, *(sum(gy, axis=0) for gy in gys), *gWh


class LSTMStepGrad(Function):
    """The gradients of an `LSTMStep`, straight on arrays: for when no graph of them is recorded."""

    def __init__(self, step: LSTMStep) -> None:
        self.step = step

    def forward(self, gc: Any, go: Any) -> Any:
        inputs = self.step.inputs
        x, h, c, *weights = [v.data for v in inputs]
        kernel = kernels.for_array(x)
        gys, gc_last = kernel.lstm_cell_grad(self.step.gates, c, gc, go)
        gx = kernel.gates_grad_x(gys, *weights[:4]) if inputs[0].requires_grad else gc  # nobody looks at the latter
        gh = kernel.gates_grad_x(gys, *weights[8:])
        gWx, gWh = kernel.gates_grad_w(x, gys), kernel.gates_grad_w(h, gys)
        return gx, gh, gc_last, *gWx, *gys.sum(axis=1), *gWh


class LSTMOutput(Function):
    """h = o * tanh(c), all (N, H): what an LSTM gives out."""

    operation = "lstm_output"

    def forward(self, c: Any, o: Any) -> Any:
        return kernels.for_array(c).lstm_output(c, o)

    def backward(self, gh: Variable) -> Any:
        c, o = self.inputs
        if not Config.enable_backprop:
            return LSTMOutputGrad()(c, o, gh)
        t = tanh(c)
        return gh * o * (1 - t * t), gh * t


class LSTMOutputGrad(Function):
    """The gradients of an `LSTMOutput`, straight on arrays: for when no graph of them is recorded."""

    def forward(self, c: Any, o: Any, gh: Any) -> Any:
        return kernels.for_array(c).lstm_output_grad(c, o, gh)


def lstm_step_simple(x: Any, h: Any, c: Any, *weights: Any) -> tuple[Variable, Variable]:
    """`LSTMStep` composed of F's operations."""
    f, i, o, u = _gates(x, h, weights)
    return f * c + i * u, o


def _gates(x: Any, h: Any, weights: Any) -> list[Variable]:
    """f, i, o and u."""
    sums = [linear(x, Wx, b) + linear(h, Wh) for Wx, b, Wh in zip(weights[:4], weights[4:8], weights[8:], strict=True)]
    return [*map(sigmoid, sums[:3]), tanh(sums[3])]


# ----------------------------------------------------------------------------------------------------------------------
# GRU
# ----------------------------------------------------------------------------------------------------------------------


class GRUStep(Function):
    """The next h of a GRU (N, H), from x (N, in), h (N, H), all Wx (in, H), all b (H,), all Wh (H, H), and d (H,).

    The gates are r, z and n, in this order. r, z = sigmoid(x Wx + b + h Wh), n = tanh(x Wx + b + r * (h Wh + d)), and
    what comes out is (1 - z) * n + z * h: as in PyTorch, where a second bias of r and of z would only add to the first.
    Source: Cho et al., arXiv:1406.1078, with r behind the product as in its version 1.
    """

    operation = "gru"
    precision = "half"

    def forward(self, x: Any, h: Any, *weights: Any) -> Any:
        Wx, b, Wh, d = _parts(weights)
        kernel = kernels.for_array(x)
        sums = kernel.gates(x, h, *Wx[:2], *b[:2], *Wh[:2])
        self.nh = kernel.linear(h, Wh[2], d)
        self.gates, y = kernel.gru_cell(sums, kernel.linear(x, Wx[2], b[2]), self.nh, h)
        return y

    def backward(self, gy: Variable) -> Any:
        if not Config.enable_backprop:
            return GRUStepGrad(self)(gy)
        x, h, *weights = self.inputs
        Wx, _, Wh, _ = _parts(weights)
        (r, z, n), nh = _gru_gates(x, h, weights)
        gn = gy * (1 - z) * (1 - n * n)
        gr, gz, gnh = gn * nh * r * (1 - r), gy * (h - n) * z * (1 - z), gn * r
        gx, gh = (reduce(add, map(matmul, g, map(transpose, W))) for g, W in (((gr, gz, gn), Wx), ((gr, gz, gnh), Wh)))
        gWx, gWh = ([matmul(transpose(a), gy) for gy in g] for a, g in ((x, (gr, gz, gn)), (h, (gr, gz, gnh))))
        return gx, gh + gy * z, *gWx, *(sum(g, axis=0) for g in (gr, gz, gn)), *gWh, sum(gnh, axis=0)


class GRUStepGrad(Function):
    """The gradients of a `GRUStep`, straight on arrays: for when no graph of them is recorded."""

    def __init__(self, step: GRUStep) -> None:
        self.step = step

    def forward(self, gy: Any) -> Any:
        inputs = self.step.inputs
        x, h, *weights = [v.data for v in inputs]
        Wx, _, Wh, _ = _parts(weights)
        kernel = kernels.for_array(x)
        gys, gh = kernel.gru_cell_grad(self.step.gates, self.step.nh, h, gy)
        of_x, of_h = gys[:3], gys[1:]  # n, r, z, and r, z, n
        gx = kernel.gates_grad_x(of_x, Wx[2], *Wx[:2]) if inputs[0].requires_grad else gy  # nobody looks at the latter
        gh = gh + kernel.gates_grad_x(of_h, *Wh)
        gWn, gWr, gWz = kernel.gates_grad_w(x, of_x)
        gbn, gbr, gbz, gd = gys.sum(axis=1)
        return gx, gh, gWr, gWz, gWn, gbr, gbz, gbn, *kernel.gates_grad_w(h, of_h), gd


def gru_step_simple(x: Any, h: Any, *weights: Any) -> Variable:
    """`GRUStep` composed of F's operations."""
    (_, z, n), _ = _gru_gates(x, h, weights)
    return (1 - z) * n + z * h


def _parts(weights: Any) -> tuple[Any, Any, Any, Any]:
    """All Wx, all b and all Wh of a GRU, and d."""
    return weights[:3], weights[3:6], weights[6:9], weights[9]


def _gru_gates(x: Any, h: Any, weights: Any) -> tuple[tuple[Variable, Variable, Variable], Variable]:
    """r, z and n, and h's part of n."""
    Wx, b, Wh, d = _parts(weights)
    r, z = (sigmoid(linear(x, Wx[j], b[j]) + linear(h, Wh[j])) for j in (0, 1))
    nh = linear(h, Wh[2], d)
    return (r, z, tanh(linear(x, Wx[2], b[2]) + r * nh)), nh
