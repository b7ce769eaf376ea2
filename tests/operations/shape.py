"""Rows of core's shape operations and of functions_shape."""

import numpy as np

from operations.row import numbers, on, refuses, row

A, B, CUBE = numbers(2, 3), numbers(2, 3, seed=1), numbers(2, 3, 4)
ONES, FIRST, SECOND = np.array([1, 0, 1]), np.array([0, 2, 0]), np.array([1, 1, 3])
TABLE = numbers(3, 4)
EMPTY = A[:0]


def sum_to(x, shape):
    lead = x.ndim - len(shape)
    stretched = tuple(i + lead for i, n in enumerate(shape) if n == 1)
    return x.sum(axis=(*range(lead), *stretched)).reshape(shape)


def torch_pad(t, x, pad_width, mode="constant", constant_values=0):
    """By an index for each axis, because torch.nn.functional.pad does without most modes and axes."""
    for axis, (before, after) in enumerate(np.broadcast_to(pad_width, (x.ndim, 2)).tolist()):
        if mode == "constant":
            shape = list(x.shape)
            sides = [x.new_full((*shape[:axis], n, *shape[axis + 1 :]), constant_values) for n in (before, after)]
            x = t.cat([sides[0], x, sides[1]], dim=axis)
        else:
            x = x.index_select(axis, t.tensor(np.pad(np.arange(x.shape[axis]), (before, after), mode=mode)))
    return x


def torch_split(t, x, indices_or_sections, axis=0):
    return list(t.tensor_split(x, indices_or_sections, dim=axis))


def torch_take(t, x, indices, axis=None):
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    indices = t.as_tensor(indices)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis % x.ndim + 1 :])
    return x.index_select(axis, indices.reshape(-1) % x.shape[axis]).reshape(shape)


ROWS = [
    row(
        "reshape",
        np.reshape,
        on(A, (3, 2)),
        on(A, -1),
        on(CUBE, (4, -1)),
        on(np.array(2.0), (1, 1)),
        on(EMPTY, (3, 0)),
        torch=lambda t, x, shape: x.reshape(shape),
        bad=[
            refuses("x (2, 3) has 6 elements, which do not fill the shape (4,)", A, 4),
            refuses("x (2, 3) has 6 elements, which do not fill the shape (4, -1)", A, (4, -1)),
            refuses("a shape must be an int or a tuple of ints, got 1.5", A, 1.5, error=TypeError),
        ],
    ),
    row(
        "transpose",
        np.transpose,
        on(A),
        on(CUBE),
        on(CUBE, (1, -1, 0)),
        on(np.array(2.0)),
        on(EMPTY, (1, 0)),
        torch=lambda t, x, axes=None: x.permute(axes or tuple(reversed(range(x.ndim)))),
        bad=[
            refuses("axes (0, 0) must name each of the 2 axes of x (2, 3) once", A, (0, 0)),
            refuses("axes (1, 2) must name each of the 2 axes of x (2, 3) once", A, (1, 2)),
            refuses("axes must be an int or a tuple of ints, got '01'", A, "01", error=TypeError),
        ],
    ),
    row(
        "get_item",
        lambda x, i: x[i],
        on(CUBE, 1),
        on(CUBE, (..., slice(None, None, 2))),
        on(CUBE, (slice(None, None, -2), 1), torch=False),  # PyTorch has no negative steps
        on(CUBE, (None, 0, ..., slice(1, 1))),
        on(TABLE, (FIRST, SECOND)),
        on(TABLE, [0, 1, 0]),
        on(CUBE, (slice(None), ONES[:, None], FIRST)),
        on(A, A > 0),
        on(EMPTY, slice(0, 2)),
        on(np.array(2.0), ...),
        torch=lambda t, x, i: x[i],
    ),
    row(
        "expand_dims",
        np.expand_dims,
        on(A, 0),
        on(A, 1),
        on(A, -1),
        on(A, -3),
        on(np.array(2.0), 0),
        on(EMPTY, 1),
        torch="unsqueeze",
        bad=[
            refuses("axis 3 is out of bounds for a result of 3 axes (x (2, 3))", A, 3),
            refuses("axis -4 is out of bounds for a result of 3 axes (x (2, 3))", A, -4),
        ],
    ),
    row(
        "flatten",
        lambda x: x.reshape(len(x), int(np.prod(x.shape[1:]))),
        on(CUBE),
        on(A[0]),
        on(CUBE[:0]),
        on(CUBE[:, :0]),
        torch=lambda t, x: x[:, None].flatten(1),
        bad=[refuses("expected at least one axis, got a 0-dimensional x", np.array(1.0))],
    ),
    row(
        "broadcast_to",
        np.broadcast_to,
        on(A, (4, 2, 3)),
        on(A[:, :1], (2, 3)),
        on(numbers(1, 3, 1), (2, 2, 3, 4)),
        on(np.array(2.0), (2, 1)),
        on(A[:1], (0, 3)),
        torch="broadcast_to",
        bad=[refuses("x (2, 3) does not broadcast to (2, 4)", A, (2, 4))],
    ),
    row(
        "sum_to",
        sum_to,
        on(CUBE, (3, 1)),
        on(CUBE, (2, 1, 1)),
        on(CUBE, ()),
        on(EMPTY, (1, 3)),
        torch=lambda t, x, shape: x.sum_to_size(shape),
        bad=[refuses("x (2, 3) cannot be summed to (2,), which does not broadcast to it", A, (2,))],
    ),
    row(
        "concat",
        np.concatenate,
        on([A, B]),
        on([A, B[:, :1], A[:, 1:]], axis=1),
        on((CUBE, CUBE[:, :1]), axis=-2),
        on([A]),
        on([EMPTY, A]),
        on([EMPTY, EMPTY], axis=1),
        torch=lambda t, xs, axis=0: t.cat(xs, dim=axis),
        bad=[
            refuses("shapes may differ in axis 0 alone, got (2, 3) first and (2, 2) as number 1", [A, B[:, :2]]),
            refuses("shapes may differ in axis 0 alone, got (2, 3) first and (2, 3, 4) as number 1", [A, CUBE]),
            refuses("expected at least one array to join, got none", []),
            refuses("expected a list of arrays, got ndarray; write concat([x0, x1])", A, error=TypeError),
            refuses("0-dimensional arrays have no axis to be joined along; use stack", [np.array(1.0)]),
            refuses("axis 2 is out of bounds for array of dimension 2", [A, B], axis=2),
        ],
    ),
    row(
        "stack",
        np.stack,
        on([A, B]),
        on([A, B, A], axis=1),
        on((A, B), axis=-1),
        on([np.array(1.0), np.array(2.0)]),
        on([EMPTY, EMPTY], axis=1),
        torch=lambda t, xs, axis=0: t.stack(xs, dim=axis),
        bad=[
            refuses("expected arrays of one shape, got (2, 3) first and (2, 2) as number 1", [A, B[:, :2]]),
            refuses("expected at least one array to join, got none", []),
            refuses("axis 3 is out of bounds for array of dimension 3", [A, B], axis=3),
        ],
    ),
    row(
        "split",
        np.split,
        on(TABLE, 3),
        on(TABLE, 2, axis=1),
        on(CUBE, [1, 3], axis=-1),
        on(A, [1, 1]),
        on(EMPTY, 1),
        torch=torch_split,
        bad=[
            refuses("axis 0 of x (3, 4) cannot be taken apart into 2 equal parts", TABLE, 2),
            refuses("indices must ascend within 0..3 for axis 0 of x (3, 4), got [2, 1]", TABLE, [2, 1]),
            refuses("axis 2 is out of bounds for array of dimension 2", TABLE, 2, axis=2),
            refuses("axis 0 of x (3, 4) cannot be taken apart into 0 equal parts", TABLE, 0),
            refuses("indices_or_sections must be an int or a tuple of ints, got 1.5", TABLE, 1.5, error=TypeError),
        ],
    ),
    row(
        "pad",
        np.pad,
        on(A, 1),
        on(A, (1, 2)),
        on(A, ((0, 1), (2, 0)), constant_values=0.5),
        on(np.array(A[0]), 2, mode="edge"),
        on(TABLE, ((2, 1), (0, 3)), mode="reflect"),
        on(TABLE, ((5, 0), (1, 7)), mode="reflect"),
        on(TABLE, ((3, 1), (2, 4)), mode="symmetric"),
        on(TABLE, ((4, 7), (5, 1)), mode="symmetric"),
        on(TABLE, ((1, 2), (0, 6)), mode="wrap"),
        on(TABLE, 0, mode="wrap"),
        on(A[:1], 1, mode="edge"),
        on(EMPTY, ((0, 0), (1, 1))),
        torch=torch_pad,
        bad=[
            refuses("mode must be one of constant, edge, reflect, symmetric, wrap, got 'mirror'", A, 1, mode="mirror"),
            refuses("pad_width must be at least 0, got -1", A, -1),
            refuses(
                "pad_width must be an int, a pair (before, after), or one pair for each of the 2 axes of x (2, "
                "3), got (1, 2, 3)",
                A,
                (1, 2, 3),
            ),
            refuses(
                "pad_width must be an int, a pair (before, after), or one pair for each of the 2 axes of x, got 1.5",
                A,
                1.5,
                error=TypeError,
            ),
            refuses("mode 'edge' has nothing to repeat along axis 0 of x (0, 3)", EMPTY, 1, mode="edge"),
        ],
    ),
    row(
        "squeeze",
        np.squeeze,
        on(numbers(1, 2, 1)),
        on(numbers(1, 2, 1), axis=0),
        on(numbers(1, 2, 1), axis=-1),
        on(numbers(1, 2, 1), axis=(0, -1)),
        on(A),
        on(A[:0, :1], axis=1),
        torch=lambda t, x, axis=None: x.squeeze() if axis is None else x.squeeze(axis),
        bad=[
            refuses("expected an axis of size 1, got axis 0 of size 2 (x (2, 3))", A, axis=0),
            refuses("axis 2 is out of bounds for array of dimension 2", A, axis=2),
        ],
    ),
    row(
        "swapaxes",
        np.swapaxes,
        on(CUBE, 0, 2),
        on(CUBE, -1, 1),
        on(CUBE, 1, 1),
        on(EMPTY, 0, 1),
        torch="swapaxes",
        bad=[refuses("axis 2 is out of bounds for array of dimension 2", A, 0, 2)],
    ),
    row(
        "moveaxis",
        np.moveaxis,
        on(CUBE, 0, -1),
        on(CUBE, (0, 1), (-1, 0)),
        on(CUBE, [2], [0]),
        on(EMPTY, 0, 1),
        torch="moveaxis",
        bad=[
            refuses("axis 2 is out of bounds for array of dimension 2", A, 0, 2),
            refuses("2 axes cannot move to 1 places", CUBE, (0, 1), 0),
            refuses("axis (0, 0) names an axis twice", CUBE, (0, 0), (0, 1)),
        ],
    ),
    row(
        "flip",
        np.flip,
        on(A),
        on(A, axis=1),
        on(CUBE, axis=(0, -1)),
        on(EMPTY, axis=0),
        torch=lambda t, x, axis=None: t.flip(
            x, tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
        ),
        bad=[refuses("axis 2 is out of bounds for array of dimension 2", A, axis=2)],
    ),
    row(
        "tile",
        np.tile,
        on(A, 2),
        on(A, (2, 1, 3)),
        on(CUBE, (2,)),
        on(np.array(2.0), 3),
        on(A, (0, 2)),
        on(EMPTY, (2, 2)),
        torch=lambda t, x, reps: t.tile(x, (reps,) if isinstance(reps, int) else reps),
        bad=[
            refuses("reps must be at least 0, got -1", A, -1),
            refuses("reps must be an int or a tuple of ints, got 1.5", A, 1.5, error=TypeError),
        ],
    ),
    row(
        "repeat",
        np.repeat,
        on(A, 2),
        on(A, 3, axis=1),
        on(CUBE, np.array([2, 0, 1]), axis=-2),
        on(A, 0, axis=0),
        on(EMPTY, 2, axis=1),
        torch=lambda t, x, repeats, axis=None: t.repeat_interleave(x, repeats, dim=axis),
        bad=[
            refuses("repeats must be a count, or 6 of them, none negative, got -1", A, -1),
            refuses(
                "repeats must be a count, or 2 of them, none negative, got array([1, 2, 3])",
                A,
                np.array([1, 2, 3]),
                axis=0,
            ),
            refuses("axis 2 is out of bounds for array of dimension 2", A, 2, axis=2),
            refuses("repeats must be an int or a tuple of ints, got 1.5", A, 1.5, error=TypeError),
        ],
    ),
    row(
        "take",
        np.take,
        on(TABLE, FIRST, axis=0),
        on(TABLE, np.array([[0, 3], [3, -1]]), axis=1),
        on(CUBE, np.array([5, 5, 0])),
        on(CUBE, 1, axis=-1),
        on(A, np.array([], int), axis=0),
        torch=torch_take,
        bad=[
            refuses("indices must lie in -6..5, got 6 at index 0", A, 6, error=IndexError),
            refuses("indices must be integers, got float64", A, np.array([0.5]), error=TypeError),
            refuses("axis 2 is out of bounds for array of dimension 2", A, 0, axis=2),
            refuses("indices must lie in -3..2, got 3 at index 1", A, np.array([0, 3]), axis=1, error=IndexError),
            refuses("indices must lie in -6..5, got -7 at index 0", A, np.array([-7]), error=IndexError),
        ],
    ),
]
