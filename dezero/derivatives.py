"""Derivatives as functions: asked for, returned, and nobody's `.grad` touched.

`grad` asks a graph that is there already. The others take a function f of Variables and build its graph themselves:

    vjp       v^T J    one backward pass
    jvp       J v      two backward passes: the gradient is linear in the cotangent, and its transpose is J
    jacobian  J        one backward pass for each element of f's output
    hvp       H v      the gradient of <gradient, v>
    hessian   H        the Jacobian of the gradient

`checkpoint` trades time for memory: it forgets what a part of the graph holds, and computes it again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dezero import cuda, random
from dezero.core import (
    Config,
    Copy,
    Function,
    Route,
    Variable,
    as_variable,
    astype,
    backpropagate,
    is_floating,
    mode,
    next_number,
    nodes_behind,
    reshape,
    run_hooks,
)
from dezero.functions_shape import stack

__all__ = ["checkpoint", "grad", "hessian", "hvp", "jacobian", "jvp", "vjp"]

# ----------------------------------------------------------------------------------------------------------------------
# The gradient of a graph
# ----------------------------------------------------------------------------------------------------------------------


def grad(
    outputs: Any,
    inputs: Any,
    create_graph: bool = False,
    grad_outputs: Any = None,
    allow_unused: bool = False,
) -> Any:
    """The gradient of the sum of `outputs` in `inputs`, returned; no `.grad` is read or changed.

    Args:
        outputs: a Variable or several, a list or tuple.
        inputs: a Variable or several, leaves or intermediate results that `outputs` were computed from.
        create_graph: record the graph of the gradients themselves, to derive them again.
        grad_outputs: what the outputs' elements are weighed with, arrays or Variables of their shapes; default ones.
        allow_unused: return None for an input that no output was computed from, instead of raising.

    Returns one Variable for one, a tuple for several. Only the part of the graph between the two is visited. Hooks of
    the Variables on the way run. Raises ValueError when an input has no part in the outputs, or shapes do not fit;
    TypeError for what are no Variables.

    >>> x = Variable(np.array(3.0))
    >>> gx = grad(x**3, x, create_graph=True)  # 3 x^2
    >>> gx, grad(gx, x), x.grad  # ... and 6 x
    (variable(27.0), variable(18.0), None)
    """
    ys, xs = _variables("grad: outputs", outputs), _variables("grad: inputs", inputs)
    starts = _starts("grad", ys, grad_outputs)
    with mode("enable_backprop", create_graph), mode("backward_pass", object()):
        found = _gradients(ys, xs, starts)
        found = _distinct(found)
    for i, gx in enumerate(found):
        if gx is None and not allow_unused:
            raise ValueError(
                f"grad: inputs[{i}] {_describe(xs[i])} has no part in the outputs; compute them from it, outside "
                "no_grad(), or pass allow_unused=True to receive None"
            )
    return found[0] if isinstance(inputs, Variable) else tuple(found)


def _distinct(found: list[Variable | None]) -> list[Variable | None]:
    """Copy what comes a second time, of an input that was asked for twice."""
    seen: set[Variable | None] = set()
    for i, gx in enumerate(found):
        if gx is not None and gx in seen:
            found[i] = Copy()(gx)
        seen.add(gx)
    return found


def _gradients(
    ys: Sequence[Variable], xs: Sequence[Variable], starts: Sequence[Variable], stop: bool = False
) -> list[Variable | None]:
    """Return the gradients of <ys, starts> in xs, None where there is none; with `stop` each x counts as a leaf."""
    roots: dict[Variable, Variable] = {}
    for y, start in zip(ys, starts, strict=True):
        if y.requires_grad:
            roots[y] = roots[y] + start if y in roots else start
    found: dict[Variable, Variable] = {}
    wanted = set(xs)

    def keep(y: Variable, gy: Variable | None) -> None:
        if gy is not None and y in wanted:
            found[y] = Copy()(gy)  # in memory of its own: others hold gy too

    route = Route(ys, [x for x in xs if x.requires_grad], stop)
    for x, gx in backpropagate(roots, keep, route).items():
        if x in wanted:
            found[x] = gx if stop else run_hooks(x, gx)  # with stop, the walk that asked runs the hooks
    return [found.get(x) for x in xs]


def _starts(operation: str, ys: Sequence[Variable], given: Any) -> list[Variable]:
    if given is None:
        given = [None] * len(ys)
    elif len(ys) == 1 and not isinstance(given, (list, tuple)):
        given = [given]
    if not isinstance(given, (list, tuple)) or len(given) != len(ys):
        raise ValueError(f"{operation}: expected one weight for each of the {len(ys)} outputs, got {given!r:.60}")
    return [_start(operation, y, gy) for y, gy in zip(ys, given, strict=True)]


def _start(operation: str, y: Variable, gy: Any) -> Variable:
    if y.dtype.kind == "c":
        raise TypeError(f"{operation}: gradients of complex numbers are not supported; use real and imaginary parts")
    if gy is None:
        dtype = y.dtype if is_floating(y.dtype) else np.float64
        return Variable(cuda.get_array_module(y.data).ones(y.shape, dtype))
    gy = as_variable(gy)
    if gy.shape != y.shape:
        raise ValueError(f"{operation}: an output has shape {y.shape} but its weights {gy.shape}")
    return astype(gy, y.dtype) if gy.dtype != y.dtype and is_floating(y.dtype) else gy


def _variables(what: str, given: Any) -> list[Variable]:
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise ValueError(f"{what}: expected at least one Variable, got none")
    for x in several:
        if not isinstance(x, Variable):
            raise TypeError(f"{what}: expected Variables, got {type(x).__name__}")
    return several


def _describe(x: Variable) -> str:
    return f"({x.name!r}, shape {x.shape})" if x.name else f"(shape {x.shape})"


# ----------------------------------------------------------------------------------------------------------------------
# Derivatives of a function
# ----------------------------------------------------------------------------------------------------------------------


class _Alias(Function):
    """The same array under another Variable: an argument that f can be derived in, whatever lies behind it."""

    precision = "any"

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, gy: Variable) -> Any:
        return gy


def _argument(x: Any) -> Variable:
    return _Alias()(x) if isinstance(x, Variable) and x.requires_grad else Variable(cuda.plain(x))


class _Call:
    """One call f(*xs) with the graph on: its arguments and outputs as lists, and whether there was one or several."""

    def __init__(self, operation: str, f: Callable[..., Any], xs: Any) -> None:
        self.single_x = not isinstance(xs, (list, tuple))
        given = [xs] if self.single_x else list(xs)
        if not given:
            raise ValueError(f"{operation}: expected at least one argument for f, got none")
        for x in given:
            if not isinstance(x, Variable) and not cuda.is_array(x):
                raise TypeError(f"{operation}: xs must be Variables or arrays, got {type(x).__name__}")
        self.xs = [_argument(x) for x in given]
        ys = f(*self.xs)
        self.single_y = not isinstance(ys, (list, tuple))
        self.ys = _variables(f"{operation}: the outputs of f", ys)

    def outputs(self, create_graph: bool) -> Any:
        ys = self.ys if create_graph else [Variable(y.data) for y in self.ys]
        return ys[0] if self.single_y else tuple(ys)

    def gradients(self, starts: Sequence[Variable], create_graph: bool) -> list[Variable]:
        """The gradients of <ys, starts> in xs; zeros where there is none."""
        return _gradients_or_zeros(self.ys, self.xs, starts, create_graph)


def _gradients_or_zeros(
    ys: Sequence[Variable], xs: Sequence[Variable], starts: Sequence[Variable], create_graph: bool
) -> list[Variable]:
    with mode("enable_backprop", create_graph), mode("backward_pass", object()):
        found = _gradients(ys, xs, starts)
        return [_zeros(x) if gx is None else gx for x, gx in zip(xs, found, strict=True)]


def _zeros(x: Variable) -> Variable:
    dtype = x.dtype if is_floating(x.dtype) else np.float64
    return Variable(cuda.get_array_module(x.data).zeros(x.shape, dtype))


def _like_arguments(call: _Call, results: Sequence[Any]) -> Any:
    return results[0] if call.single_x else tuple(results)


def vjp(f: Callable[..., Any], xs: Any, vs: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """Return f(*xs) and v^T J, the gradient of <f(*xs), v> in each x.

    Args:
        f: takes as many Variables as there are xs, returns a Variable or several.
        xs: a Variable or array, or several, a list or tuple.
        vs: of the shapes of f's outputs; ones by default.
        create_graph: record the graph of what is returned, to derive it again.

    Raises TypeError or ValueError when xs or vs do not fit.

    >>> y, gx = vjp(lambda x: x * x, np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    >>> gx
    variable([ 2. 40.])
    """
    with mode("enable_backprop", True):
        call = _Call("vjp", f, xs)
    gxs = call.gradients(_starts("vjp", call.ys, vs), create_graph)
    return call.outputs(create_graph), _like_arguments(call, gxs)


def jvp(f: Callable[..., Any], xs: Any, vs: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """Return f(*xs) and J v, the slope of f's outputs as each x moves along v.

    Args as `vjp`, but vs has the shapes of xs. Computed by two backward passes: v^T J is linear in its v, and the
    gradient of that is J.

    >>> y, slope = jvp(lambda x: x * x, np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    >>> slope
    variable([ 2. 40.])
    """
    with mode("enable_backprop", True):
        call = _Call("jvp", f, xs)
        vs = _starts("jvp: xs", call.xs, vs)
        us = [_zeros(y) for y in call.ys]
        gxs = call.gradients(us, create_graph=True)
    slopes = _gradients_or_zeros(gxs, us, vs, create_graph)
    return call.outputs(create_graph), slopes[0] if call.single_y else tuple(slopes)


def jacobian(f: Callable[..., Any], xs: Any, create_graph: bool = False) -> Any:
    """The Jacobian of f at xs: J[i, j] = d f(x)[i] / d x[j], of the shape of f's output followed by that of x.

    One backward pass for each element of the output. For several xs a tuple, one for each; for several outputs a tuple
    of those. Args as `vjp`.

    >>> jacobian(lambda x: x * x, np.array([1.0, 2.0]))
    variable([[2. 0.]
              [0. 4.]])
    """
    with mode("enable_backprop", True):
        call = _Call("jacobian", f, xs)
    rows = [_like_arguments(call, _jacobian_of(y, call.xs, create_graph)) for y in call.ys]
    return rows[0] if call.single_y else tuple(rows)


def _jacobian_of(y: Variable, xs: Sequence[Variable], create_graph: bool) -> list[Variable]:
    rows = [_gradients_or_zeros([y], xs, [unit], create_graph) for unit in _units(y)]
    with mode("enable_backprop", create_graph):
        return [
            reshape(stack([row[i] for row in rows]), y.shape + x.shape) if rows else Variable(_no_rows(y, x))
            for i, x in enumerate(xs)
        ]


def _units(y: Variable) -> Any:
    """Yield, for each element of y, the array like y that is 1 there and 0 elsewhere."""
    for i in range(y.size):
        unit = _zeros(y)
        unit.data.reshape(-1)[i] = 1
        yield unit


def _no_rows(y: Variable, x: Variable) -> Any:
    return cuda.get_array_module(x.data).zeros(y.shape + x.shape, x.dtype)


def hessian(f: Callable[..., Any], xs: Any, create_graph: bool = False) -> Any:
    """The Hessian of f at xs: H[i, j] = d^2 f(x) / d x[i] d x[j], of the shape of x twice.

    f returns one number. For several xs a tuple of tuples: H[a][b] is derived in xs[a], then in xs[b]. Args as `vjp`.
    Raises ValueError when f returns more than one number.

    >>> hessian(lambda x: (x**3).sum(), np.array([1.0, 2.0]))
    variable([[ 6.  0.]
              [ 0. 12.]])
    """
    with mode("enable_backprop", True):
        call = _Call("hessian", f, xs)
        gxs = call.gradients([_one(call, "hessian")], create_graph=True)
    rows = [_like_arguments(call, _jacobian_of(gx, call.xs, create_graph)) for gx in gxs]
    return _like_arguments(call, rows)


def hvp(f: Callable[..., Any], xs: Any, vs: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """Return f(*xs) and H v, the slope of f's gradient as each x moves along v, without making H.

    f returns one number. Args as `vjp`, but vs has the shapes of xs. Raises ValueError when f returns more than one
    number. Source: Pearlmutter, Neural Computation 6 (1994).

    >>> y, Hv = hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    >>> Hv
    variable([ 6. 12.])
    """
    with mode("enable_backprop", True):
        call = _Call("hvp", f, xs)
        vs = _starts("hvp: xs", call.xs, vs)
        gxs = call.gradients([_one(call, "hvp")], create_graph=True)
    return call.outputs(create_graph), _like_arguments(call, _gradients_or_zeros(gxs, call.xs, vs, create_graph))


def _one(call: _Call, operation: str) -> Variable:
    if len(call.ys) != 1 or call.ys[0].size != 1:
        shapes = ", ".join(str(y.shape) for y in call.ys)
        raise ValueError(
            f"{operation}: f must return one number, got {shapes}; return its sum, or ask for the jacobian"
        )
    return _start(operation, call.ys[0], None)


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def checkpoint(f: Callable[..., Any], *xs: Any) -> Any:
    """Return f(*xs), but keep none of the intermediate results: the backward pass computes them again.

    A network of n parts, each behind a checkpoint, holds the n results between them and one part's inside at a time;
    the price is a second forward pass. Parameters and other Variables that f uses without being handed them receive
    their gradients too, of any order.

    f must do the same the second time, so nothing that it reads may change in between. Dropout draws the same numbers,
    the mode (train or test) is that of the first call, and batch norm updates its running statistics once; a layer that
    keeps a state between calls (RNN, LSTM) needs it handed in. Raises TypeError when f returns anything but Variables,
    ValueError when it returns other shapes the second time. Source: Chen et al., arXiv:1604.06174.

    >>> x = Variable(np.array([1.0, 2.0]))
    >>> y = checkpoint(lambda x: (x * x * x).sum(), x)
    >>> y.backward()
    >>> x.grad
    variable([ 3. 12.])
    """
    if not Config.enable_backprop:
        return f(*xs)
    start, train = next_number(), Config.train
    with random.recording() as draws:
        ys = f(*xs)
    outputs = _variables("checkpoint: the outputs of f", ys)
    causes = _causes(outputs, start)
    if not causes:
        return ys
    node = Checkpoint(f, xs, outputs, train, draws)
    kind = type(ys)
    del outputs, ys  # and with them the graph between
    results = node(*causes)
    if issubclass(kind, Variable):
        return results
    results = results if isinstance(results, list) else [results]
    return kind._make(results) if hasattr(kind, "_make") else kind(results)  # a named tuple has _make


def _causes(outputs: Sequence[Variable], start: int) -> list[Variable]:
    """Return what the outputs were computed from: the Variables that were there before Function number `start`."""
    before: dict[Variable, None] = {}

    def is_cause(x: Variable) -> bool:
        return x.creator is None or x.creator._number <= start

    for y in outputs:
        if is_cause(y):
            before[y] = None
    for node in nodes_behind(outputs, is_cause):
        before.update({x: None for x in node.inputs if is_cause(x)})
    return [x for x in before if x.requires_grad]


class Checkpoint(Function):
    """f(*xs) as one node; its inputs are all that f's outputs were computed from, its backward calls f again."""

    precision = "any"

    def __init__(
        self, f: Callable[..., Any], xs: Sequence[Any], ys: Sequence[Variable], train: bool, draws: Any
    ) -> None:
        self.f = f
        self.xs = xs
        self.arrays: Any = tuple(y.data for y in ys)
        self.train, self.autocast, self.draws = train, Config.autocast, draws

    def forward(self, *causes: Any) -> Any:
        arrays, self.arrays = self.arrays, None
        self.y_shapes = [y.shape for y in arrays]
        return arrays

    def backward(self, *gys: Variable) -> Any:
        ys = self._recompute()
        if [y.shape for y in ys] != self.y_shapes:
            raise ValueError(
                f"checkpoint: f returned {self.y_shapes} at first and {[y.shape for y in ys]} when called again"
            )
        return tuple(_gradients(ys, self.inputs, gys, stop=True))

    def _recompute(self) -> list[Variable]:
        with (
            mode("enable_backprop", True),
            mode("backward_pass", None),
            mode("recomputing", True),
            mode("train", self.train),
            mode("autocast", self.autocast),
            random.replaying(self.draws),
        ):
            return _variables("checkpoint: the outputs of f", self.f(*self.xs))
