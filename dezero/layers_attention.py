"""L: attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda
from dezero import functions as F
from dezero.core import Variable, as_operand, check_number
from dezero.layers_base import Layer, check_size
from dezero.layers_linear import Linear

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Layer):
    """Several heads attend side by side, each to a part of the features: (N, L, E) -> (N, L, E).

    head_i = softmax(q_i k_i^T / sqrt(E / heads)) v_i, with q, k and v the i-th parts of query(x), key(x) and value(x);
    y = out(all heads side by side). See `functions.scaled_dot_product_attention`.

    Args:
        embed_dim: E, the size of queries and of what comes out.
        num_heads: how many heads; it divides embed_dim.
        dropout: drops weights of the attention with this probability, while training.
        nobias: leave out the biases.
        dtype: of the weights, float32 by default.
        kdim, vdim: the sizes of keys and values, embed_dim by default.
        init_W, init_b: how weights and biases begin, see `initializers`.

    A call takes (query, key=None, value=None, key_padding_mask=None, attn_mask=None, is_causal=False):

    - `query` (N, L, E); `key` (N, S, kdim), by default the query, which attends to itself then; `value` (N, S, vdim),
      by default the key. There may be any number of axes in place of N.
    - `key_padding_mask`: booleans (N, S), True where a key is padding, that nothing attends to.
    - `attn_mask`: broadcasts to (N, heads, L, S): booleans, True where a key takes part, or numbers to add to the
      scores.
    - `is_causal`: query i sees the keys 0..i alone.

    Its parts `query key value out` are Linear. PyTorch's `nn.MultiheadAttention` has the first three, transposed, one
    above the other in in_proj_weight, and True in its attn_mask where a key does not take part. A query that no key is
    left for sees zeros.

    Raises ValueError when sizes do not fit, TypeError for a padding mask that is not boolean.
    Source: Vaswani et al., arXiv:1706.03762.

    >>> attention = MultiHeadAttention(8, num_heads=2)
    >>> x = np.zeros((3, 5, 8), np.float32)
    >>> attention(x, is_causal=True).shape
    (3, 5, 8)
    >>> attention(x, key=np.zeros((3, 7, 8), np.float32)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        nobias: bool = False,
        dtype: Any = np.float32,
        kdim: int | None = None,
        vdim: int | None = None,
        init_W: Any = "lecun_normal",
        init_b: Any = "zeros",
    ) -> None:
        super().__init__()
        name = "MultiHeadAttention"
        self.embed_dim, self.num_heads = (
            check_size(name, "embed_dim", embed_dim),
            check_size(name, "num_heads", num_heads),
        )
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{name}: num_heads must divide embed_dim, got {num_heads} and {embed_dim}")
        self.dropout = check_number(name, "dropout", dropout, 0, 1)
        self.kdim = self.embed_dim if kdim is None else check_size(name, "kdim", kdim)
        self.vdim = self.embed_dim if vdim is None else check_size(name, "vdim", vdim)
        options: Any = {"nobias": nobias, "dtype": dtype, "init_W": init_W, "init_b": init_b}
        self.query = Linear(self.embed_dim, in_size=self.embed_dim, **options)
        self.key = Linear(self.embed_dim, in_size=self.kdim, **options)
        self.value = Linear(self.embed_dim, in_size=self.vdim, **options)
        self.out = Linear(self.embed_dim, in_size=self.embed_dim, **options)

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        key_padding_mask: Any = None,
        attn_mask: Any = None,
        is_causal: bool = False,
    ) -> Variable:
        query = as_operand("MultiHeadAttention", query)
        key = query if key is None else as_operand("MultiHeadAttention", key)
        value = key if value is None else as_operand("MultiHeadAttention", value)
        self._check_sizes(query, key, value)
        mask = _mask_of_padding(key_padding_mask, key, attn_mask)
        q, k, v = (self._part(x) for x in (self.query(query), self.key(key), self.value(value)))
        y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout, is_causal)
        y = F.swapaxes(y, -2, -3)
        return self.out(F.reshape(y, (*y.shape[:-2], self.embed_dim)))

    def _check_sizes(self, query: Variable, key: Variable, value: Variable) -> None:
        given = {"query": (query, self.embed_dim), "key": (key, self.kdim), "value": (value, self.vdim)}
        for name, (x, size) in given.items():
            if x.ndim < 2 or x.shape[-1] != size:
                raise ValueError(f"MultiHeadAttention: expected {name} (..., length, {size}), got {x.shape}")
        if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2] or key.shape[-2] != value.shape[-2]:
            raise ValueError(
                "MultiHeadAttention: expected query, key and value of equal first axes, and as many keys as values, "
                f"got {query.shape}, {key.shape} and {value.shape}"
            )

    def _part(self, x: Variable) -> Variable:
        """(..., L, E) -> (..., heads, L, E / heads)."""
        return F.swapaxes(F.reshape(x, (*x.shape[:-1], self.num_heads, self.embed_dim // self.num_heads)), -2, -3)


def _mask_of_padding(padding: Any, key: Variable, mask: Any) -> Any:
    """Return one mask of both: padding (..., S) counts for every head and query."""
    if padding is None:
        return mask
    padding = as_operand("MultiHeadAttention: key_padding_mask", padding)
    if padding.dtype.kind != "b":
        raise TypeError(
            "MultiHeadAttention: key_padding_mask must be booleans, True where a key is padding, "
            f"got {padding.dtype}; of 0 and 1 make mask == 1"
        )
    if padding.shape != key.shape[:-1]:
        raise ValueError(
            f"MultiHeadAttention: key_padding_mask must have shape {key.shape[:-1]}, one for each key, "
            f"got {padding.shape}"
        )
    padding = padding.data[..., None, None, :]
    if mask is None:
        return ~padding
    mask = as_operand("MultiHeadAttention: attn_mask", mask)
    cuda.check_same_device("MultiHeadAttention: key_padding_mask and attn_mask", [padding, mask.data])
    return mask.data & ~padding if mask.dtype.kind == "b" else F.where(padding, -np.inf, mask)
