"""A step of a recurrent network as one node. `layers.LSTM` would make twenty, which took half of its time."""

from __future__ import annotations

from functools import reduce
from typing import Any

from dezero import cuda, kernels
from dezero.core import Config, Function, Variable, add, matmul, transpose
from dezero.functions_activation import sigmoid
from dezero.functions_elementwise import tanh
from dezero.functions_product import linear
from dezero.functions_reduction import sum

__all__ = ["LSTMStep", "LSTMStepGrad", "lstm_step_simple"]


class LSTMStep(Function):
    """The next c of an LSTM and its gate o, (N, H), from x (N, in), h, c, and all Wx, all b, all Wh.

    The gates are f, i, o and u, in this order. h = o * tanh(c) is left to others, so that who cuts the graph behind
    an h cuts it behind its c, too.
    """

    operation = "lstm"
    precision = "half"

    def forward(self, x: Any, h: Any, c: Any, *weights: Any) -> Any:
        kernel = kernels.for_array(x)
        sums = kernel.gates(x, h, *weights)
        fio, u = kernel.sigmoid(sums[:3]), kernel.tanh(sums[3])
        self.kept = fio, u
        return fio[0] * c + fio[1] * u, fio[2]

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
        (fio, u), inputs = self.step.kept, self.step.inputs
        x, h, c, *weights = [v.data for v in inputs]
        kernel = kernels.for_array(x)
        gys = cuda.get_array_module(x).empty((4, *c.shape), gc.dtype)
        gys[0], gys[1], gys[2] = gc * c, gc * u, go
        gys[:3] = kernel.sigmoid_grad(fio, gys[:3])
        gys[3] = kernel.tanh_grad(u, gc * fio[1])
        gx = kernel.gates_grad_x(gys, *weights[:4]) if inputs[0].requires_grad else gc  # nobody looks at the latter
        gh = kernel.gates_grad_x(gys, *weights[8:])
        gWx, gWh = kernel.gates_grad_w(x, gys), kernel.gates_grad_w(h, gys)
        return gx, gh, gc * fio[0], *gWx, *gys.sum(axis=1), *gWh


def lstm_step_simple(x: Any, h: Any, c: Any, *weights: Any) -> tuple[Variable, Variable]:
    """`LSTMStep` composed of F's operations."""
    f, i, o, u = _gates(x, h, weights)
    return f * c + i * u, o


def _gates(x: Any, h: Any, weights: Any) -> list[Variable]:
    """f, i, o and u."""
    sums = [linear(x, Wx, b) + linear(h, Wh) for Wx, b, Wh in zip(weights[:4], weights[4:8], weights[8:], strict=True)]
    return [*map(sigmoid, sums[:3]), tanh(sums[3])]
