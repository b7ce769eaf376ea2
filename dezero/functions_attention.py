"""F: what networks over words need: ids become vectors, and vectors attend to one another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import (
    Function,
    Variable,
    as_floating,
    as_operand,
    astype,
    check_number,
    is_floating,
    is_int,
    matmul,
)
from dezero.functions_activation import softmax
from dezero.functions_elementwise import where
from dezero.functions_norm import dropout
from dezero.functions_shape import as_indices, check_range, swapaxes

__all__ = ["embed_id", "embedding", "one_hot", "scaled_dot_product_attention"]


class Embedding(Function):
    """y = W[ids]."""

    precision = "any"

    def __init__(self, ids: Any) -> None:
        self.ids = ids

    def forward(self, W: Any) -> Any:
        self.W_shape = W.shape
        return W[self.ids]

    def backward(self, gy: Variable) -> Any:
        return EmbeddingGrad(self.W_shape, self.ids)(gy)


class EmbeddingGrad(Function):
    """Zeros of W's shape to whose rows gy is added: linear in gy, and Embedding is its gradient."""

    def __init__(self, W_shape: tuple[int, ...], ids: Any) -> None:
        self.W_shape, self.ids = W_shape, ids

    def forward(self, gy: Any) -> Any:
        return kernels.for_array(gy).add_rows(self.W_shape, self.ids, gy)

    def backward(self, ggW: Variable) -> Any:
        return Embedding(self.ids)(ggW)


def embedding(x: Any, W: Any) -> Variable:
    """y = W[x]: the rows of W (V, D) that the ids `x` (...) name -> (..., D).

    A row named twice receives both gradients. Raises TypeError when ids are not integers, IndexError when one is not in
    0..V-1.

    >>> embedding(np.array([2, 0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    variable([[5. 6.]
              [1. 2.]])
    """
    return _rows("embedding", x, W)


def embed_id(x: Any, W: Any) -> Variable:
    """`embedding` under DeZero's name.

    >>> embed_id(np.array([1]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    variable([[3. 4.]])
    """
    return _rows("embed_id", x, W)


def _rows(operation: str, x: Any, W: Any) -> Variable:
    ids, W = as_indices(f"{operation}: ids", x), as_operand(operation, W)
    if cuda.is_array(cuda.plain(x)):  # a list is of any device
        cuda.check_same_device(operation, [ids, W.data])
    if W.ndim == 0:
        raise ValueError(f"{operation}: W must have shape (V, D), got {W.shape}")
    check_range(IndexError, f"{operation}: ids", ids, len(W))
    return Embedding(ids)(W)


def one_hot(x: Any, num_classes: int | None = None, dtype: Any = np.float32) -> Variable:
    """y[..., k] = 1 where x[...] is k, else 0: integers (...) -> (..., num_classes). Not differentiable.

    Args:
        num_classes: how many; None for one more than the largest of x.

    Raises TypeError when x is not made of integers, ValueError when one is not in 0..num_classes-1.

    >>> one_hot(np.array([1, 0, 2]))
    variable([[0. 1. 0.]
              [1. 0. 0.]
              [0. 0. 1.]])
    """
    ids = as_indices("one_hot: ids", x)
    if num_classes is None:
        num_classes = int(ids.max()) + 1 if ids.size else 0
    if not is_int(num_classes) or num_classes < 0:
        raise ValueError(f"one_hot: num_classes must be an int of at least 0, or None, got {num_classes!r}")
    check_range(ValueError, "one_hot: ids", ids, num_classes)
    places = cuda.get_array_module(ids).arange(num_classes)
    return as_operand("one_hot", (ids[..., None] == places).astype(dtype))


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Variable:
    """y = softmax(query key^T * scale + mask) value: each query takes a mean of the values, weighed by its keys.

    Args:
        query: (..., L, E). key: (..., S, E). value: (..., S, D).
        attn_mask: broadcasts to (..., L, S): booleans, True where a key takes part, or numbers to add to the scores.
        dropout_p: drops weights with this probability while training.
        is_causal: query i sees the keys 0..i alone.
        scale: 1 / sqrt(E) by default.

    Returns (..., L, D); zeros for a query that no key is left for. Raises ValueError when the sizes do not fit.
    Source: Vaswani et al., arXiv:1706.03762.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> scaled_dot_product_attention(x, x, x, is_causal=True)[0]  # the first sees itself alone
    variable([1. 0.])
    """
    query, key, value = (as_floating("scaled_dot_product_attention", x) for x in (query, key, value))
    _check_attention(query, key, value)
    dropout_p = check_number("scaled_dot_product_attention", "dropout_p", dropout_p, 0, 1)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    scale = check_number("scaled_dot_product_attention", "scale", scale)
    scores = matmul(query, swapaxes(key, -1, -2)) * scale
    keep = _causal(scores) if is_causal else None
    if attn_mask is not None:
        scores, allowed = _apply_mask(scores, as_operand("scaled_dot_product_attention", attn_mask))
        keep = allowed if keep is None else keep & allowed
    if keep is None:
        weights = softmax(scores, axis=-1)
    else:
        # The lowest finite number instead of minus infinity: a row of those alone has a softmax, which is then dropped.
        lowest = float(np.finfo(scores.dtype if scores.dtype.kind == "f" else np.float32).min) / 2
        weights = where(keep, softmax(where(keep, scores, lowest), axis=-1), 0.0)
    return matmul(dropout(weights, dropout_p) if dropout_p else weights, value)


def _check_attention(query: Variable, key: Variable, value: Variable) -> None:
    shapes = f"(query {query.shape}, key {key.shape}, value {value.shape})"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError(f"scaled_dot_product_attention: expected (..., length, size) each, got {shapes}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"scaled_dot_product_attention: query and key must have equal last axes, got {shapes}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"scaled_dot_product_attention: there must be as many keys as values, got {shapes}")
    try:
        np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    except ValueError:
        raise ValueError(f"scaled_dot_product_attention: the first axes do not broadcast, got {shapes}") from None
    if 0 in (query.shape[-1], key.shape[-2]):
        raise ValueError(f"scaled_dot_product_attention: there is nothing to attend to, got {shapes}")


def _causal(scores: Variable) -> Any:
    L, S = scores.shape[-2:]
    xp = cuda.get_array_module(scores.data)
    return xp.arange(L)[:, None] >= xp.arange(S)


def _apply_mask(scores: Variable, mask: Variable) -> tuple[Variable, Any]:
    """Return the scores with numbers added, and the booleans that say which keys take part."""
    try:
        fits = np.broadcast_shapes(scores.shape, mask.shape) == scores.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"scaled_dot_product_attention: attn_mask {mask.shape} does not broadcast to the scores {scores.shape}"
        )
    if mask.dtype.kind == "b":
        return scores, mask.data
    if not is_floating(mask.dtype):
        raise TypeError(
            "scaled_dot_product_attention: attn_mask must be booleans, True where a key takes part, or floats to add "
            f"to the scores, got {mask.dtype}"
        )
    allowed = mask.data != -np.inf
    added = where(allowed, mask, 0.0)
    # A half would make infinity of -1e9, and NaN of a row of those: then the sum is taken in the mask's type.
    return scores + (added if scores.dtype.itemsize < 4 else astype(added, scores.dtype)), allowed
