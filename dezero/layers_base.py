"""L: Layer, which has parameters and can be called, the walk over its parts, and a list of layers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import Any

import numpy as np

from dezero import cuda, serializers
from dezero.core import Parameter, Variable, is_int
from dezero.summary import Summary, describe, summarise, watch

__all__ = ["Layer", "LayerList"]


class Layer:
    """Something with parameters that can be called.

    A subclass assigns Parameters, Layers, or lists and dicts of nothing else to its attributes, in any order, and
    writes `forward`. Its parameters are theirs, each once, in the order of assignment.

    After a call `inputs` and `outputs` are lists of weak references to what went in, by place, and came out. `repr` is
    the tree of its parts, with their arguments and how many numbers each learns.

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

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        watching = watch.get()
        outputs = self.forward(*inputs, **options) if watching is None else watching.call(self, inputs, options)
        self.inputs = [_reference(x) for x in inputs]
        self.outputs = [_reference(y) for y in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]
        return outputs

    def forward(self, *inputs: Any, **options: Any) -> Any:
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

    def named_parts(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, part) for the layer's own Parameters and Layers, one within a list as `name.place`.

        >>> from dezero.layers import Linear
        >>> layer = Layer()
        >>> layer.encoder, layer.heads = Linear(2), [Linear(3), Linear(4)]
        >>> [name for name, _ in layer.named_parts()]
        ['encoder', 'heads.0', 'heads.1']
        """
        attributes = vars(self)
        named = {id(value) for value in attributes.values() if isinstance(value, (Parameter, Layer))}
        for name, value in attributes.items():
            if isinstance(value, (Parameter, Layer)):
                yield name, value
            elif isinstance(value, (list, tuple, dict)):
                items = list(value.items() if isinstance(value, dict) else enumerate(value))
                if all(isinstance(part, (Parameter, Layer)) for _, part in items):
                    # An attribute's name wins over a place in a list.
                    yield from ((f"{name}.{key}", part) for key, part in items if id(part) not in named)

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

    def summary(self, *inputs: Any, show: bool = True) -> Summary:
        """Print a table of all layers: what comes out of each, how many numbers it learns, and its multiply-adds.

        Args:
            inputs: what the layer is called with: arrays, or shapes, for which zeros of float32 are taken.
            show: False only returns the `summary.Summary`, whose str is the table.

        The call leaves no trace: no state, statistics, gradients or random draws, nor the weights that a first call
        makes; it is as in `test_mode()`. Multiply-adds are those of products and convolutions: N * in * out of a
        Linear, N * OC * OH * OW * C / groups * KH * KW of a convolution. Raises what calling the layer raises, and
        ValueError for a tuple that is no shape.

        >>> from dezero.layers import Linear
        >>> _ = Linear(10).summary((1, 4))
        layer   output shape  parameters  multiply-adds
        -----------------------------------------------
        Linear  (1, 10)               50             40
        -----------------------------------------------
        parameters: 50 learned, 0 running statistics, 200 bytes; multiply-adds: 40
        """
        result = summarise(self, inputs)
        if show:
            print(result)
        return result

    def __repr__(self) -> str:
        return describe(self)

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
        within = [x for _, x in part.named_parts() if isinstance(x, Layer) and x not in seen]
        waiting += within
        seen.update(within)


def _walk(layer: Layer, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Parameter]]:
    seen.add(layer)
    for name, part in layer.named_parts():
        if part in seen:
            continue
        if isinstance(part, Layer):
            yield from _walk(part, f"{prefix}{name}/", seen)
        else:
            seen.add(part)
            yield prefix + name, part


class LayerList(Layer, MutableSequence[Any]):
    """A list of layers: `append`, `extend` or `+=`, `insert`, `pop`, `remove`, `index`, `in`, `reverse`, `len`, slices.

    Its layers are named by place, `0`, `1` and so on; a slice is a LayerList of the same layers. A plain list in an
    attribute registers its layers, too, as long as it holds nothing else; this one refuses what is no layer.

    Raises TypeError for that, and IndexError for a place that there is not.

    >>> from dezero.layers import Linear
    >>> blocks = LayerList(Linear(4) for _ in range(3))
    >>> blocks.append(Linear(1))
    >>> x = np.zeros((5, 2))
    >>> for block in blocks:
    ...     x = block(x)
    >>> x.shape, len(blocks[1:])
    ((5, 1), 3)
    >>> [name for name, _ in blocks[:1].named_params()]
    ['0/W', '0/b']
    """

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        super().__init__()
        self._layers = [self._check(layer) for layer in layers]

    def _check(self, layer: Any) -> Layer:
        if not isinstance(layer, Layer):
            raise TypeError(f"LayerList: expected layers, got {type(layer).__name__}; Sequential takes functions, too")
        return layer

    def named_parts(self) -> Iterator[tuple[str, Any]]:
        """Yield ("0", the first layer) and so on."""
        yield from ((str(i), layer) for i, layer in enumerate(self._layers))

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError("LayerList has no forward method: call its layers one by one, or use Sequential")

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, place: Any) -> Any:
        return LayerList(self._layers[place]) if isinstance(place, slice) else self._layers[place]

    def __setitem__(self, place: Any, layer: Any) -> None:
        self._layers[place] = [self._check(x) for x in layer] if isinstance(place, slice) else self._check(layer)

    def __delitem__(self, place: Any) -> None:
        del self._layers[place]

    def insert(self, index: int, value: Layer) -> None:
        """Put a layer before the one at `index`."""
        self._layers.insert(index, self._check(value))


def check_size(layer: str, name: str, value: Any, at_least: int = 1) -> int:
    """Return a size as an int. Raises ValueError when it is not an int, or too small."""
    if not is_int(value) or value < at_least:
        kind = "a positive int" if at_least == 1 else f"an int of at least {at_least}"
        raise ValueError(f"{layer}: {name} must be {kind}, got {value!r}")
    return int(value)


def check_nobias(layer: str, nobias: Any) -> bool:
    """Return True or False. Raises TypeError for anything else, such as a size meant for `in_size`."""
    if nobias not in (0, 1):
        raise TypeError(
            f"{layer}: nobias must be True or False, got {nobias!r}; input sizes are given by name, as in_size="
        )
    return bool(nobias)


def check_flag(layer: str, name: str, value: Any) -> bool:
    """Return True or False. Raises TypeError for anything else."""
    if value not in (0, 1):
        raise TypeError(f"{layer}: {name} must be True or False, got {value!r}")
    return bool(value)


def check_dtype(layer: str, dtype: Any) -> Any:
    """Return a dtype for weights. Raises ValueError when it is not floating."""
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"{layer}: dtype must be floating, as gradients are, got {np.dtype(dtype)}")
    return dtype


def check_beside(layer: str, x: Variable, b: Parameter | None) -> None:
    """Raise where x is on another device than the layer: W would be made there, and stay."""
    if b is not None:
        cuda.check_same_device(f"{layer}: x and b", [x.data, b.data])
