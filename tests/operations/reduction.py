"""Rows of functions_reduction: reductions over axes, and products."""

import numpy as np

from operations.row import numbers, on, refuses, row

A, CUBE, X = numbers(2, 3), numbers(2, 3, 4), numbers(4, 3)
POSITIVE = numbers(2, 3, 2, low=0.5, high=2.0)
EMPTY = A[:0]
ZEROS = np.array([[0.0, 1.5, -0.5], [2.0, 0.0, 0.0], [1.1, -0.7, 0.4]])
BIAS = numbers(2, seed=1)
NO_BATCH = on(CUBE[:0], axis=1, torch=False)  # PyTorch warns of no freedom, though nothing is asked

AXES = [on(A), on(CUBE, axis=1), on(CUBE, axis=-1), on(CUBE, axis=(-1, 0), keepdims=True), on(CUBE, keepdims=True)]
NO_AXIS = refuses("axis 2 is out of bounds for array of dimension 2", A, axis=2)


def reduction(name, reference, *samples, bad=(), **details):
    return row(name, reference, *AXES, *samples, bad=[NO_AXIS, *bad], **details)


def torch_axes(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis


def torch_reduce(name):
    return lambda t, x, axis=None, keepdims=False: getattr(t, name)(x, dim=torch_axes(x, axis), keepdim=keepdims)


def torch_prod(t, x, axis=None, keepdims=False):
    axes = torch_axes(x, axis)
    for a in sorted((a % x.ndim for a in ((axes,) if isinstance(axes, int) else axes)), reverse=True):
        x = t.prod(x, dim=a, keepdim=keepdims)
    return x


def torch_spread(name):
    return lambda t, x, axis=None, keepdims=False, ddof=0: getattr(t, name)(
        x, dim=torch_axes(x, axis), correction=ddof, keepdim=keepdims
    )


def torch_norm(t, x, ord=None, axis=None, keepdims=False):
    return t.linalg.norm(x, ord=ord, dim=axis, keepdim=keepdims)


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


def linear(x, W, b=None):
    return x @ W if b is None else x @ W + b


ROWS = [
    reduction(
        "sum",
        np.sum,
        on(np.array(2.0)),
        on(EMPTY),
        on(EMPTY, axis=0),
        torch=torch_reduce("sum"),
        bad=[refuses("axis (0, 0) names an axis twice", A, axis=(0, 0))],
    ),
    reduction("average", np.mean, on(np.array(2.0)), on(EMPTY, axis=1), torch=torch_reduce("mean")),
    reduction(
        "max",
        np.max,
        on(np.array(2.0)),
        on(EMPTY, axis=1),
        torch=torch_reduce("amax"),
        bad=[
            refuses("x (0, 3) has no element along axis 0", EMPTY, axis=0),
            refuses("axis must be an int, a tuple of ints, or None, got '0'", A, axis="0", error=TypeError),
        ],
    ),
    reduction(
        "min",
        np.min,
        on(np.array(2.0)),
        on(EMPTY, axis=1),
        torch=torch_reduce("amin"),
        bad=[refuses("x (0, 3) has no element along axis None", EMPTY)],
    ),
    reduction(
        "prod",
        np.prod,
        on(ZEROS),
        on(ZEROS, axis=0),
        on(ZEROS, axis=1, keepdims=True),
        on(EMPTY, axis=0),
        on(EMPTY, axis=1),
        torch=torch_prod,
    ),
    reduction(
        "var",
        np.var,
        on(A, ddof=1),
        on(CUBE, axis=(0, -1), ddof=2),
        on(np.full((2, 2), 3.0), axis=1),
        NO_BATCH,
        torch=torch_spread("var"),
    ),
    reduction("std", np.std, on(A, ddof=1), on(CUBE, axis=(0, -1), ddof=2), NO_BATCH, torch=torch_spread("std")),
    row(
        "cumsum",
        np.cumsum,
        on(A),
        on(CUBE, axis=1),
        on(CUBE, axis=-1),
        on(np.array(2.0)),
        on(EMPTY),
        on(EMPTY, axis=1),
        torch=lambda t, x, axis=None: t.cumsum(x.reshape(-1) if axis is None else x, axis or 0),
        bad=[
            NO_AXIS,
            refuses("axis must be an int, got (0, 1)", A, axis=(0, 1), error=TypeError),
        ],
    ),
    reduction(
        "logsumexp",
        logsumexp,
        on(np.array(2.0)),
        on(EMPTY, axis=1),
        torch=torch_reduce("logsumexp"),
        bad=[refuses("axis must be an int, a tuple of ints, or None, got 0.5", A, axis=0.5, error=TypeError)],
    ),
    row(
        "argmax",
        np.argmax,
        on(A),
        on(CUBE, axis=1),
        on(CUBE, axis=-1, keepdims=True),
        on(EMPTY, axis=1),
        torch=lambda t, x, axis=None, keepdims=False: t.argmax(x, dim=axis, keepdim=keepdims),
        order=0,
        why="positions have no gradient",
        bad=[
            NO_AXIS,
            refuses("x (0, 3) has no element along axis None", EMPTY),
            refuses("axis must be an int, got (0, 1)", A, axis=(0, 1), error=TypeError),
        ],
    ),
    row(
        "argmin",
        np.argmin,
        on(A),
        on(CUBE, axis=1),
        on(CUBE, axis=-1, keepdims=True),
        on(EMPTY, axis=1),
        torch=lambda t, x, axis=None, keepdims=False: t.argmin(x, dim=axis, keepdim=keepdims),
        order=0,
        why="positions have no gradient",
        bad=[
            NO_AXIS,
            refuses("x (0, 3) has no element along axis 0", EMPTY, axis=0),
        ],
    ),
    row(
        "norm",
        np.linalg.norm,
        on(A),
        on(A[0]),
        on(A[0], 1),
        on(A[0], 3),
        on(A[0], 2.5),
        on(A[0], np.inf),
        on(A[0], -np.inf),
        on(CUBE, axis=1),
        on(CUBE, 2, axis=-1, keepdims=True),
        on(CUBE, axis=(0, 2)),
        on(CUBE, 1, axis=(0, 2)),
        on(A, "fro"),
        on(A, 1),
        on(A, -1, keepdims=True),
        on(A, np.inf),
        on(A, -np.inf),
        on(EMPTY, axis=1),
        torch=torch_norm,
        bad=[
            refuses(
                "ord of a matrix must be None, 'fro', 1, -1, inf or -inf, got 0; 2, -2 and 'nuc' need singular "
                "values: np.linalg.norm takes plain arrays",
                A,
                0,
            ),
            refuses(
                "ord of a matrix must be None, 'fro', 1, -1, inf or -inf, got 2; 2, -2 and 'nuc' need singular "
                "values: np.linalg.norm takes plain arrays",
                A,
                2,
            ),
            refuses(
                "ord of a matrix must be None, 'fro', 1, -1, inf or -inf, got 'nuc'; 2, -2 and 'nuc' need "
                "singular values: np.linalg.norm takes plain arrays",
                A,
                "nuc",
            ),
            refuses("ord 1 expects one axis or two, got axis None of x (2, 3, 4)", CUBE, 1),
            refuses("ord of a vector must be None, inf, -inf or a number above 0, got -1", A[0], -1),
            refuses("ord of a vector must be None, inf, -inf or a number above 0, got 'fro'", A, "fro", 0),
            refuses("axis 2 is out of bounds for array of dimension 2", A, 1, 2),
        ],
    ),
    row(
        "matmul",
        np.matmul,
        on(numbers(2, 3), numbers(3, 4, seed=1)),
        on(numbers(2, 3), numbers(3, seed=1)),
        on(numbers(3), numbers(3, 4, seed=1)),
        on(numbers(3), numbers(3, seed=1)),
        on(numbers(5, 2, 3), numbers(5, 3, 4, seed=1)),
        on(numbers(5, 2, 3), numbers(3, 4, seed=1)),
        on(numbers(2, 3), numbers(5, 3, 4, seed=1)),
        on(numbers(5, 2, 3), numbers(3, seed=1)),
        on(numbers(3), numbers(5, 3, 4, seed=1)),
        on(numbers(5, 1, 2, 3), numbers(6, 3, 4, seed=1)),
        on(numbers(2, 1), numbers(1, 4, seed=1)),
        on(numbers(0, 3), numbers(3, 4)),
        on(numbers(2, 0), numbers(0, 4)),
        torch="matmul",
        bad=[
            refuses("W takes 2 features but x has 3 (x (2, 3), W (2, 3))", A, A),
            refuses("expected vectors, matrices or batches of them, got shapes (2, 3) and ()", A, np.array(1.0)),
            refuses(
                "batches: shapes (2,) and (3,) cannot broadcast; aligned at the right, each pair of sizes must "
                "be equal or contain a 1",
                numbers(2, 3, 3),
                numbers(3, 3, 3),
            ),
        ],
    ),
    row(
        "linear",
        linear,
        on(X, A.T, BIAS),
        on(X, A.T),
        on(numbers(2, 4, 3), A.T, BIAS),
        on(A[0], A.T, BIAS),
        on(EMPTY, A.T, BIAS),
        torch=lambda t, x, W, b=None: t.nn.functional.linear(x, W.T, b),
        bad=[
            refuses("W takes 2 features but x has 3 (x (4, 3), W (2, 3))", X, A),
            refuses("W must have shape (in, out), got (3,)", X, A[0]),
            refuses("b must have shape (2,), one for each output, got (3,) (W (3, 2))", X, A.T, A[0]),
        ],
    ),
    row(
        "linear_simple",
        linear,
        on(X, A.T, BIAS),
        on(X, A.T),
        on(EMPTY, A.T, BIAS),
        torch=lambda t, x, W, b=None: t.nn.functional.linear(x, W.T, b),
        speaks_as=("matmul", "add"),
    ),
    row(
        "einsum",
        np.einsum,
        on("ij,jk->ik", A, numbers(3, 4)),
        on("ij,jk", A, numbers(3, 4)),
        on("ij->", A),
        on("ij->j", A),
        on("ij->ji", A),
        on("ba", A),
        on("ii->i", ZEROS),
        on("ii", ZEROS),
        on("iji->j", numbers(2, 3, 2)),
        on("i,j->ij", A[0], A[:, 0]),
        on("i,i", A[0], A[1]),
        on("i,i->i", A[0], A[1]),
        on("bij,bjk->bik", CUBE, numbers(2, 4, 2)),
        on("...ij,...jk->...ik", numbers(3, 1, 2, 2), numbers(4, 2, 3)),
        on("...i,i", CUBE, numbers(4)),
        on("i...->...", CUBE),
        on("ij,kj,j->ik", A, X, numbers(3)),
        on("ij,ij,ij->i", A, A, A),
        on("ij,->ij", A, np.array(2.0)),
        on("ij,jk->ik", A[:, :1], numbers(1, 4)),
        on("ij,jk->ik", EMPTY, numbers(3, 4)),
        torch="einsum",
        bad=[
            refuses("'ij,jk->ik' is for 2 operands, got 1", "ij,jk->ik", A),
            refuses("'j' of 'ij,jk->ik' is 3 long and 2 long (shapes (2, 3), (2, 3))", "ij,jk->ik", A, A),
            refuses("'ijk' does not name the 2 axes of an operand of shape (2, 3)", "ijk", A),
            refuses("each letter of the result of 'ij->ik' must come once, and in an operand", "ij->ik", A),
            refuses("'i1' has 'i1', which is not made of letters and one '...'", "i1", A),
            refuses("subscripts must be a string such as 'ij,jk->ik', got ndarray", A, A, error=TypeError),
            refuses("'i' of 'ii' is 2 long and 3 long (shapes (2, 3))", "ii", A),
            refuses("the result of '...i->i' must have the '...' of the operands", "...i->i", CUBE),
        ],
    ),
    row(
        "tensordot",
        np.tensordot,
        on(CUBE, numbers(3, 4, 2)),
        on(A, numbers(3, 4), axes=1),
        on(A, BIAS, axes=0),
        on(CUBE, numbers(4, 2), axes=([2, 0], [0, 1])),
        on(CUBE, numbers(4, 2), axes=(-1, 0)),
        on(EMPTY, numbers(3, 4), axes=1),
        torch=lambda t, x0, x1, axes=2: t.tensordot(
            x0, x1, dims=axes if isinstance(axes, int) else [[a] if isinstance(a, int) else a for a in axes]
        ),
        bad=[
            refuses("axes [0, 1] of x0 and [0, 1] of x1 must have equal sizes (x0 (2, 3), x1 (4, 3))", A, X),
            refuses("axes must lie in 0..2, got 3 (x0 (2, 3), x1 (2, 3))", A, A, axes=3),
            refuses("axis 5 is out of bounds for array of dimension 2", A, A, axes=(0, 5)),
            refuses("axes must be an int or a pair of axes, got 'ij'", A, A, axes="ij", error=TypeError),
        ],
    ),
]
