"""What a model is made of, for reading: `repr`'s tree of layers, and the table that `summary` prints."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dezero import cuda, random
from dezero.core import MatMul, Parameter, Variable, is_int, mode, no_grad, test_mode
from dezero.functions_conv import Conv2d, Conv2DGradW, Deconv2d
from dezero.functions_product import Einsum, Linear
from dezero.functions_recurrent import GRUStep, LSTMStep
from dezero.functions_sequence import Sequence as RecurrentSequence

__all__ = ["Summary", "describe", "summarise"]


# ----------------------------------------------------------------------------------------------------------------------
# The tree
# ----------------------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A line of the tree: a layer, a Parameter of a layer that has layers within it, or a function."""

    depth: int
    name: str
    value: Any
    again: str | None = None  # where it stood before, of one that is reached twice


def describe(layer: Any) -> str:
    """Return `repr` of a layer: its parts with their arguments, and how many numbers each learns."""
    parts = list(walk(layer))
    titles = [_title(part, arguments=True) for part in parts]
    width = max(map(len, titles))
    sizes = ["" if part.again or _is_function(part.value) else _describe_size(part) for part in parts]
    return "\n".join(f"{title:{width}}  {size}".rstrip() for title, size in zip(titles, sizes, strict=True))


def walk(layer: Any) -> Iterator[Part]:
    """Yield the parts of a layer, itself first; what is reached twice comes once more, without its parts."""
    yield from _walk(layer, "", "", 0, {})


def _walk(layer: Any, name: str, path: str, depth: int, seen: dict[Any, str]) -> Iterator[Part]:
    seen[layer] = path
    yield Part(depth, name, layer)
    parts = list(layer.named_parts())
    has_layers = any(_is_layer(part) for _, part in parts)
    for name, part in _with_functions(layer, parts):
        within = f"{path}/{name}" if path else name
        again = None if _is_function(part) or part not in seen else seen[part] or "the whole"
        if _is_layer(part) and again is None:
            yield from _walk(part, name, within, depth + 1, seen)
        elif has_layers or again is None:
            if has_layers or _is_function(part):  # Parameters of a layer by itself are known by its kind
                yield Part(depth + 1, name, part, again)
            if again is None and not _is_function(part):
                seen[part] = within


def _with_functions(layer: Any, parts: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the parts, and the functions between them, such as those of a Sequential, in the order of assignment."""
    arguments = _signature(layer)
    functions = {name for name, x in vars(layer).items() if _is_function(x) and name not in arguments}
    waiting = dict(parts)
    for name in vars(layer):
        if name in functions:
            yield name, vars(layer)[name]
        for part in [key for key in waiting if key == name or key.startswith(f"{name}.")]:
            yield part, waiting.pop(part)
    yield from waiting.items()


def _is_layer(x: Any) -> bool:
    return hasattr(x, "named_parts") and not isinstance(x, type)


def _is_function(x: Any) -> bool:
    return callable(x) and not _is_layer(x) and not isinstance(x, Variable)


def _title(part: Part, arguments: bool) -> str:
    name = "  " * part.depth + (f"{part.name}: " if part.name else "")
    if part.again:
        return f"{name}{part.again} again"
    if isinstance(part.value, Parameter):
        return f"{name}Parameter"
    if _is_function(part.value):
        return name + _name_of(part.value)
    return name + type(part.value).__name__ + (f"({_describe_arguments(part.value)})" if arguments else "")


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _signature(layer: Any) -> dict[str, Any]:
    """The arguments that a layer's class takes, with their defaults."""
    try:
        parameters = inspect.signature(type(layer)).parameters
    except (TypeError, ValueError):
        return {}
    return {name: x.default for name, x in parameters.items() if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)}


def _describe_arguments(layer: Any) -> str:
    """`name=value` for the arguments that a layer keeps under their own names, without those left at their defaults."""
    kept = [(name, vars(layer)[name], default) for name, default in _signature(layer).items() if name in vars(layer)]
    shown = [(name, value) for name, value, default in kept if _is_plain(value) and not _is_same(value, default)]
    return ", ".join(f"{name}={_describe_value(value)}" for name, value in shown)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str, np.number, np.dtype, type)) or _is_function(value)


def _is_same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and value == default)


def _describe_value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return repr(type(value)(map(_as_python, value)))
    if isinstance(value, np.dtype):
        return value.name
    return _name_of(value) if callable(value) else repr(_as_python(value))


def _as_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _describe_size(part: Part) -> str:
    """How many numbers are learned, and which Parameters are not made yet."""
    params = {part.name: part.value} if isinstance(part.value, Parameter) else dict(part.value.named_params())
    learned = sum(p.size for p in params.values() if p.data is not None and not p.is_buffer)
    missing = [name for name, p in params.items() if p.data is None]
    text = f"{learned:,}" + (" parameters" if part.depth == 0 else "")
    if not missing:
        return text
    text = f"{text} + " if learned else ""
    within = any("/" in name for name in missing)
    return f"{text}{_plural(len(missing), 'array') if within else ', '.join(missing)} not made yet"


def _plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


# ----------------------------------------------------------------------------------------------------------------------
# Multiply-adds
# ----------------------------------------------------------------------------------------------------------------------


def _of_einsum(node: Any, xs: list[Any], ys: list[Any]) -> int:
    sizes = {letter: n for labels, x in zip(node.labels, xs, strict=True) for letter, n in zip(labels, x, strict=True)}
    return _size(sizes.values()) if len(xs) > 1 else 0


def _size(shape: Any) -> int:
    size = 1
    for n in shape:
        size *= int(n)
    return size


# One for each product that is added to a sum, from the node and the shapes of what goes in and comes out; biases,
# activations, pooling and normalisation are not counted.
COUNTS: dict[type, Callable[[Any, list[Any], list[Any]], int]] = {
    Linear: lambda node, xs, ys: _size(ys[0]) * xs[1][0],  # N * in * out
    MatMul: lambda node, xs, ys: _size(ys[0]) * xs[0][-1],
    Conv2d: lambda node, xs, ys: _size(ys[0]) * _size(xs[1][1:]),  # N * OC * OH * OW * C / groups * KH * KW
    Deconv2d: lambda node, xs, ys: _size(xs[0]) * _size(xs[1][1:]),  # N * C * H * W * OC / groups * KH * KW
    Conv2DGradW: lambda node, xs, ys: _size(xs[1]) * _size(ys[0][1:]),
    Einsum: _of_einsum,  # every letter's size
    LSTMStep: lambda node, xs, ys: 4 * _size(ys[0]) * (xs[0][1] + xs[1][1]),  # 4 * N * H * (in + H)
    GRUStep: lambda node, xs, ys: 3 * _size(ys[0]) * (xs[0][1] + xs[1][1]),
    RecurrentSequence: lambda node, xs, ys: _size(xs[0]) * xs[1][0],  # T * N * gates * H * H, beside Linear's of x
}


def multiply_adds(node: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """How many multiply-adds a Function has made of these Variables."""
    for kind in type(node).__mro__:
        if kind in COUNTS:
            return COUNTS[kind](node, *([() if x.data is None else x.shape for x in xs] for xs in (inputs, outputs)))
    return 0


# ----------------------------------------------------------------------------------------------------------------------
# The table
# ----------------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A layer in the table, `output` as text: "" for one that stands above already.

    `parameters` and `multiply_adds` are those of all within it.
    """

    name: str
    output: str
    parameters: int
    multiply_adds: int


class Summary:
    """What `summary` has found: `rows`, and the sums `parameters`, `buffers`, `bytes` and `multiply_adds`.

    `missing` is how many Parameters were not made, as the call did not reach them. Its str is the table. A Parameter
    counts once, where it is reached first; a layer called twice has the shape of the last call, and the multiply-adds
    of both.
    """

    def __init__(self, rows: list[Row], params: list[Any], multiply_adds: int) -> None:
        self.rows = rows
        made = [p for p in params if p.data is not None]
        self.parameters = sum(p.size for p in made if not p.is_buffer)
        self.buffers = sum(p.size for p in made if p.is_buffer)
        self.bytes = sum(p.data.nbytes for p in made)
        self.multiply_adds = multiply_adds
        self.missing = sum(p.data is None for p in params)

    def __str__(self) -> str:
        head = ("layer", "output shape", "parameters", "multiply-adds")
        lines = [(r.name, r.output, *(f"{n:,}" if r.output else "" for n in r[2:])) for r in self.rows]
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        text = ["  ".join(map(_put, line, widths, "<<>>")).rstrip() for line in (head, *lines)]
        bar = "-" * (sum(widths) + 2 * 3)
        sums = f"{self.parameters:,} learned, {self.buffers:,} running statistics, {_describe_bytes(self.bytes)}"
        foot = f"parameters: {sums}; multiply-adds: {self.multiply_adds:,}"
        missing = (
            f"\nnot made, as the call did not reach them: {_plural(self.missing, 'array')}" if self.missing else ""
        )
        return "\n".join([text[0], bar, *text[1:], bar, foot + missing])

    def __repr__(self) -> str:
        return f"Summary(parameters={self.parameters}, buffers={self.buffers}, multiply_adds={self.multiply_adds})"


def _put(text: str, width: int, side: str) -> str:
    return f"{text:{side}{width}}"


def _describe_bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.4g} {unit}"


class _Watch:
    """What sees every call of a layer, and every operation within it."""

    def __init__(self) -> None:
        self.inside: list[Any] = []  # the layers that are being called, the innermost last
        self.calls: dict[Any, int] = {}
        self.shapes: dict[Any, str] = {}
        self.multiply_adds: dict[Any, int] = {}
        self.used: set[Any] = set()  # Parameters that went into an operation

    def call(self, layer: Any, inputs: Any, options: Any) -> Any:
        self.inside.append(layer)
        try:
            outputs = layer.forward(*inputs, **options)
        finally:
            self.inside.pop()
        self.calls[layer] = self.calls.get(layer, 0) + 1
        self.shapes[layer] = _describe_output(outputs)
        return outputs

    def after_forward(self, node: Any, inputs: Any, outputs: Any) -> None:
        self.used.update(x for x in inputs if isinstance(x, Parameter))
        count = multiply_adds(node, inputs, outputs)
        for layer in {*self.inside} if count else ():
            self.multiply_adds[layer] = self.multiply_adds.get(layer, 0) + count


# Looked at by every call of a layer: who watches it in this thread.
watch: contextvars.ContextVar[Any] = contextvars.ContextVar("watch", default=None)


def summarise(layer: Any, inputs: Sequence[Any]) -> Summary:
    """Call `layer` once, and undo whatever that changed. See `Layer.summary`."""
    inputs = [_as_input(layer, x) for x in inputs]
    seen = _Watch()
    with _leaving_no_trace(layer), no_grad(), test_mode(), mode("observer", seen):
        for part in walk(layer):
            if callable(reset := getattr(part.value, "reset_state", None)):
                reset()  # the batch may be of another size than that of the state
        token = watch.set(seen)
        try:
            layer(*inputs)
        finally:
            watch.reset(token)
        rows = [_row(part, seen) for part in walk(layer) if _is_layer(part.value)]
        return Summary(rows, list(layer.params()), seen.multiply_adds.get(layer, 0))


def _as_input(layer: Any, x: Any) -> Any:
    if not isinstance(x, tuple):
        return x
    if not all(is_int(n) and n >= 0 for n in x):
        raise ValueError(f"summary: expected an array, or a shape such as (1, 3, 224, 224), got {x!r}")
    beside = next((p.data for p in layer.params() if p.data is not None), None)
    return cuda.as_owned_by(beside, np.zeros(x, np.float32))


def _row(part: Part, seen: _Watch) -> Row:
    layer, name = part.value, _title(part, arguments=False)
    if part.again:
        return Row(name, "", 0, 0)
    parameters = sum(p.size for p in layer.params() if p.data is not None and not p.is_buffer)
    return Row(name, _describe_calls(layer, seen), parameters, seen.multiply_adds.get(layer, 0))


def _describe_calls(layer: Any, seen: _Watch) -> str:
    calls = seen.calls.get(layer, 0)
    if not calls:  # what is around a layer may have used its Parameters, as LSTM does, in one operation
        return "within the above" if seen.used.intersection(layer.params()) else "not called"
    return seen.shapes[layer] + (f", the last of {calls}" if calls > 1 else "")


def _describe_output(y: Any) -> str:
    if isinstance(y, (tuple, list)):
        return ", ".join(map(_describe_output, y))
    return str(tuple(y.shape)) if hasattr(y, "shape") else type(y).__name__


@contextlib.contextmanager
def _leaving_no_trace(layer: Any) -> Iterator[None]:
    """Put back, after the block, what a call changes: attributes, arrays of Parameters, and the random source."""
    layers = [part.value for part in walk(layer) if _is_layer(part.value) and not part.again]
    attributes = [(part, dict(vars(part)), _copies(vars(part))) for part in layers]
    arrays = [
        (p, p.data, p.grad, p.data.copy() if p.is_buffer and p.data is not None else None) for p in layer.params()
    ]
    place = random.state()
    try:
        yield
    finally:
        random.go_to(place)
        for part, before, contents in attributes:
            vars(part).clear()
            vars(part).update(before)
            for name, content in contents.items():
                _put_back(before[name], content)
        for p, data, grad, copy in arrays:
            p.data, p.grad = data, grad
            if copy is not None:
                data[...] = copy


def _copies(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: type(x)(x) for name, x in attributes.items() if type(x) in (list, dict)}


def _put_back(container: Any, content: Any) -> None:
    container.clear()
    (container.extend if isinstance(container, list) else container.update)(content)
