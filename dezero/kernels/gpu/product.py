"""Products: by cuBLAS, called by us where it serves (`cublas.py`), and by CuPy elsewhere.

What is a sum of products is added up where it will lie: cuBLAS adds to an array at no cost. So a bias is not added to a
product in a pass of its own, but laid out first, for all gates at once.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from dezero.kernels import reference
from dezero.kernels.gpu import cublas, slots
from dezero.kernels.gpu.launch import FLOATING, Source, contiguous, for_each

_AT_ONCE = 4  # biases that a kernel takes

_SOURCE = Source(
    r"""
// y (biases, S, H): b0 in each row of y[0], b1 in each of y[1], and so on.
extern "C" __global__ void lay(const T* b0, const T* b1, const T* b2, const T* b3, T* y, I count, I SH, I H)
{
    const I k = (I)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= count) return;
    const I j = k / SH;
    y[k] = (j == 0 ? b0 : j == 1 ? b1 : j == 2 ? b2 : b3)[k % H];
}
""",
    types=FLOATING,
)


def matmul(x: Any, W: Any) -> Any:
    """As `reference.matmul`."""
    y = cublas.product(x, W)
    return _by_cupy(x, W) if y is None else y


def _by_cupy(x: Any, W: Any) -> Any:
    """What cuBLAS has no types for, or CuPy's cuBLAS; CuPy multiplies two matrices of bfloat16, and no batches."""
    if slots.capturing() and not (x.dtype.kind in "biu" and W.dtype.kind in "biu"):  # of which CuPy has a kernel
        dtype = np.result_type(x.dtype, W.dtype)
        if dtype == x.dtype == W.dtype:
            raise RuntimeError(f"matmul: a product of {dtype} cannot be captured")
        return matmul(x.astype(dtype, copy=False), W.astype(dtype, copy=False))
    if x.dtype.name == "bfloat16" and max(x.ndim, W.ndim) > 2:
        return (x.astype(np.float32) @ W.astype(np.float32)).astype(x.dtype)
    return x @ W


def _add_product(y: Any, x: Any, W: Any) -> None:
    """y += x W, in its place; y in C order."""
    if cublas.product(x, W, y) is None:
        y += _by_cupy(x, W)


# ----------------------------------------------------------------------------------------------------------------------
# Sums of products
# ----------------------------------------------------------------------------------------------------------------------


def linear(x: Any, W: Any, b: Any) -> Any:
    """As `reference.linear`: two launches with a bias, one without."""
    if b is None:
        return matmul(x, W)
    if not _is_one_type(x.dtype, W.dtype, b.dtype):
        return matmul(x, W) + b
    y = sys.modules["cupy"].empty((len(x), len(b)), x.dtype)
    _lay([b], y)
    _add_product(y, x, W)
    return y


@functools.cache
def _is_one_type(x: Any, W: Any, b: Any) -> bool:
    return x == W == b and x.name in FLOATING


def gates(x: Any, h: Any, *weights: Any) -> Any:
    """As `reference.gates`: two launches for each gate, and one for the biases of all."""
    count = len(weights) // 3
    Wx, b, Wh = weights[:count], weights[count:-count], weights[-count:]
    y = sys.modules["cupy"].empty((count, *h.shape), x.dtype)
    for first in range(0, count, _AT_ONCE):
        _lay(b[first : first + _AT_ONCE], y[first : first + _AT_ONCE])
    for j in range(count):
        _add_product(y[j], x, Wx[j])
        _add_product(y[j], h, Wh[j])
    return y


def _lay(b: Sequence[Any], y: Any) -> None:
    """y[j] = b[j] in each row; of one bias, y itself."""
    arrays = [contiguous(x, y.dtype) for x in b]
    arrays += arrays[:1] * (_AT_ONCE - len(arrays))
    if y.size:
        for_each(_SOURCE, "lay", y.size, (*arrays, y), (y.size // len(b), y.shape[-1]), T=y.dtype)


def gates_grad_x(gy: Any, *W: Any) -> Any:
    """As `reference.gates_grad_x`: a launch for each gate."""
    y = matmul(gy[0], W[0].T)
    for j in range(1, len(W)):
        _add_product(y, gy[j], W[j].T)
    return y


def gates_grad_w(x: Any, gy: Any) -> tuple[Any, ...]:
    """As `reference.gates_grad_w`: one launch, a batch of gates."""
    return tuple(matmul(x.T, gy))


# ----------------------------------------------------------------------------------------------------------------------
# Einstein's sum
# ----------------------------------------------------------------------------------------------------------------------


def einsum(subscripts: str, *xs: Any) -> Any:
    """As `reference.einsum`; of two operands and more, products as above where cuBLAS serves or a step is captured."""
    if len(xs) > 1 and (slots.capturing() or cublas.status()[0]):
        left, _, out = subscripts.partition("->")
        return _contract(left.split(","), out, list(xs))
    dtype = xs[0].dtype
    if dtype.name == "bfloat16":
        return reference.einsum(subscripts, *(x.astype(np.float32) for x in xs)).astype(dtype)
    return reference.einsum(subscripts, *xs)


def _contract(labels: list[str], out: str, xs: list[Any]) -> Any:
    """Contract operands, letters for the axes of each, until there is one, with the letters of the result."""
    for places in _order(tuple(labels), out, tuple(x.shape for x in xs)):
        chosen = [(labels.pop(place), xs.pop(place)) for place in sorted(places, reverse=True)]
        letters, x = chosen.pop()
        while chosen:
            other_letters, other = chosen.pop()
            wanted = set(out).union(*labels, *(rest for rest, _ in chosen))
            kept = "".join(a for a in dict.fromkeys(letters + other_letters) if a in wanted)
            x = _pair(letters, x, other_letters, other, kept if labels or chosen else out)
            letters = kept
        labels.append(letters)
        xs.append(x)
    return xs[0]


@functools.lru_cache(maxsize=1024)
def _order(labels: tuple[str, ...], out: str, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Which operands are contracted, one step after another; the result of each stands last in the next."""
    if len(labels) == 2:
        return [(0, 1)]
    shadows = (np.broadcast_to(np.float32(), shape) for shape in shapes)
    return np.einsum_path(f"{','.join(labels)}->{out}", *shadows, optimize="greedy")[0][1:]


def _pair(x_letters: str, x: Any, y_letters: str, y: Any, out: str) -> Any:
    """The sum of products of two operands over all letters that `out` has not, as a batch of matrix products."""
    x_kept, y_kept = _stretched(x_letters, x, y_letters, y), _stretched(y_letters, y, x_letters, x)
    x_letters, x = _alone(x_letters, x, x_kept & {*y_kept, *out})
    y_letters, y = _alone(y_letters, y, y_kept & {*x_kept, *out})
    if {*x_letters, *y_letters} == set(out):
        return _along(x_letters, x, out) * _along(y_letters, y, out)
    sizes = {**dict(zip(x_letters, x.shape, strict=True)), **dict(zip(y_letters, y.shape, strict=True))}
    both = [a for a in x_letters if a in y_letters]
    batch, summed = [a for a in both if a in out], [a for a in both if a not in out]
    rows, columns = ([a for a in letters if a not in both] for letters in (x_letters, y_letters))

    def matrices(letters: str, array: Any, down: list[str], right: list[str]) -> Any:
        array = array.transpose([letters.index(a) for a in (*batch, *down, *right)])
        return array.reshape(*shape(batch), math.prod(shape(down)), math.prod(shape(right)))

    def shape(letters: list[str]) -> tuple[int, ...]:
        return tuple(sizes[a] for a in letters)

    product = matmul(matrices(x_letters, x, rows, summed), matrices(y_letters, y, summed, columns))
    found = [*batch, *rows, *columns]
    return product.reshape(shape(found)).transpose([found.index(a) for a in out])


def _stretched(letters: str, x: Any, other_letters: str, other: Any) -> set[str]:
    """The letters of an operand without those of one element that broadcast to the other operand's."""
    others = dict(zip(other_letters, other.shape, strict=True))
    return {a for a, n in zip(letters, x.shape, strict=True) if n != 1 or others.get(a, 1) == 1}


def _alone(letters: str, x: Any, kept: set[str]) -> tuple[str, Any]:
    """Return an operand with each of the letters `kept` once, on a diagonal if need be, summed over all others."""
    left = "".join(a for a in dict.fromkeys(letters) if a in kept)
    return left, x if left == letters else einsum(f"{letters}->{left}", x)


def _along(letters: str, x: Any, out: str) -> Any:
    """A view of an operand with an axis for each letter of the result, of one element where it has none."""
    axes = [letters.index(a) for a in out if a in letters]
    return x.transpose(axes)[tuple(slice(None) if a in letters else None for a in out)]
