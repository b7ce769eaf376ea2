"""L: Layer, which has parameters and can be called, and the walk over its parts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dezero import cuda, serializers
from dezero.core import Parameter, Variable, is_int

__all__ = ["Layer"]


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

        >>> from dezero.layers import Linear
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


def check_nobias(layer: str, nobias: Any) -> bool:
    """Return True or False. Raises TypeError for anything else, such as a size meant for `in_size`."""
    if nobias not in (0, 1):
        raise TypeError(
            f"{layer}: nobias must be True or False, got {nobias!r}; input sizes are given by name, as in_size="
        )
    return bool(nobias)


def check_dtype(layer: str, dtype: Any) -> Any:
    """Return a dtype for weights. Raises ValueError when it is not floating."""
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"{layer}: dtype must be floating, as gradients are, got {np.dtype(dtype)}")
    return dtype


def check_beside(layer: str, x: Variable, b: Parameter | None) -> None:
    """Raise where x is on another device than the layer: W would be made there, and stay."""
    if b is not None:
        cuda.check_same_device(f"{layer}: x and b", [x.data, b.data])
