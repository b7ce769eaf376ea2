"""Models: layers put together, that can be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dezero import functions as F
from dezero import layers as L

__all__ = ["MLP", "Model", "Sequential"]


class Model(L.Layer):
    """A Layer that can draw itself."""

    def plot(self, *inputs: Any, to_file: str = "model.png") -> Any:
        """Run the model on `inputs` and draw the graph of what comes out, with Graphviz, to the file `to_file`."""
        from dezero import drawing

        y = self.forward(*inputs)
        return drawing.plot_dot_graph(y, verbose=True, to_file=to_file)


class Sequential(Model):
    """Layers, or any callables, one after the other.

    The parts that are layers get the names `l0`, `l1` and so on, counted over all parts; `layers` is the list of all.

    >>> import numpy as np
    >>> model = Sequential(L.Linear(10), F.relu, L.Linear(3))
    >>> model(np.zeros((5, 2), np.float32)).shape
    (5, 3)
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.layers: list[Any] = []
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise TypeError(f"Sequential: part {i} must be a layer or a function, got {type(layer).__name__}")
            setattr(self, f"l{i}", layer)
            self.layers.append(layer)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class MLP(Model):
    """Linear layers with an activation between them: a multilayer perceptron.

    Args:
        fc_output_sizes: the output size of each Linear, `l0`, `l1` and so on.
        activation: what follows each but the last; sigmoid by default.

    >>> import numpy as np
    >>> MLP((10, 3))(np.zeros((5, 2), np.float32)).shape
    (5, 3)
    """

    def __init__(self, fc_output_sizes: Sequence[int], activation: Callable[[Any], Any] = F.sigmoid) -> None:
        super().__init__()
        if isinstance(fc_output_sizes, int) or not len(fc_output_sizes):
            raise ValueError(
                f"MLP: fc_output_sizes must be a sequence of sizes, such as (100, 10), got {fc_output_sizes!r}"
            )
        self.activation = activation
        self.layers: list[Any] = []
        for i, out_size in enumerate(fc_output_sizes):
            layer = L.Linear(out_size)
            setattr(self, f"l{i}", layer)
            self.layers.append(layer)

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
