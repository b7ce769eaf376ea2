"""Products by cuBLAS, through CuPy; of bfloat16 CuPy multiplies two matrices, and no batches of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero.kernels import reference


def matmul(x: Any, W: Any) -> Any:
    """As `reference.matmul`; batches of bfloat16 are multiplied in float32."""
    if x.dtype.name == "bfloat16" and max(x.ndim, W.ndim) > 2:
        return (x.astype(np.float32) @ W.astype(np.float32)).astype(x.dtype)
    return x @ W


def einsum(subscripts: str, *xs: Any) -> Any:
    """As `reference.einsum`; bfloat16 is multiplied in float32."""
    dtype = xs[0].dtype
    if dtype.name == "bfloat16":
        return reference.einsum(subscripts, *(x.astype(np.float32) for x in xs)).astype(dtype)
    return reference.einsum(subscripts, *xs)
