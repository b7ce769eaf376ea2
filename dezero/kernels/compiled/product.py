"""Products of matrices, and of what can be read as one.

`multiply` is the one loop behind every product here: linear layers, convolutions, Winograd's 36 small products. Its
left matrix is never laid out. Rows and columns are found through tables of offsets: row r begins at `rows[r]`, and its
numbers are read in segments, each `run` numbers that lie `step` apart. A plain matrix has one segment; a window of an
image has one for each row of the kernel; that is all the difference.

The right matrix is packed: its columns are cut into chunks of one vector, and chunk after chunk is laid out, so that
what a tile reads next is always the next thing in memory. Columns that are missing from the last chunk are zeros.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from dezero.kernels import blocked, memory, scratch
from dezero.kernels.compiled.compile import compiled
from dezero.kernels.compiled.layout import _transpose, in_one_piece, is_ours
from dezero.kernels.compiled.simd import ROWS, lanes, panel_width, tile1, tile2, tile4
from dezero.kernels.threads import for_each, for_ranges

BLOCK = 256  # steps of a sum at a time: the right matrix's part for a tile, 64 KB, stays near


def row_table(offsets: Any) -> Any:
    """A table of row offsets, made a multiple of ROWS long by repeating the last: that row is computed twice."""
    offsets = np.asarray(offsets, np.int64).ravel()
    return np.pad(offsets, (0, -len(offsets) % ROWS), mode="edge")


@functools.lru_cache(maxsize=64)
def row_starts(rows: int, length: int) -> Any:
    """`row_table` for rows of `length` numbers, one behind the other."""
    return row_table(np.arange(rows) * length)


def pack(matrix: Any) -> Any:
    """A matrix (K, N) -> its panels, each (K, some vectors), one after the other in flat memory."""
    (K, N), count = matrix.shape, lanes(matrix.dtype)
    packed = np.empty(K * (N + -N % count), matrix.dtype)
    right, line_step, column_step = _steps(matrix)
    _pack_columns(right, K, N, line_step, column_step, 0, N, packed, count)
    return packed


def pack_vector(b: Any, length: int, dtype: Any) -> Any:
    """What a product starts from when it is the same in each row: `b`, or zeros, as long as whole vectors."""
    start = np.zeros(length + -length % lanes(dtype), dtype)
    if b is not None:
        start[:length] = b
    return start


@compiled
def multiply(left, right, N, result, start, lanes):  # type: ignore[no-untyped-def]
    """C = D + A B, as `simd.tile` says, for all rows and N columns.

        left     A, a, rows, segments, run, step      the tables as long as `row_table` makes them
        right    B, b                                 as `pack` lays it out
        result   C, c, places
        start    D, d, starts                         it may be the result itself

    Where N is not made of whole vectors, nothing is written behind the last column.
    """
    A, a, rows, segments, run, step = left
    B, b = right
    C, c, places = result
    D, d, starts = start
    total = len(segments) * run
    begin = walked = done = 0
    while True:
        # the next steps of the sum: some segments, or a part of one
        if run <= BLOCK or not len(segments):  # a window may see nothing at all
            end, length = min(begin + max(1, BLOCK // max(run, 1)), len(segments)), run
        else:
            end, length = begin + 1, min(BLOCK, run - walked)
        begin_left = a + walked * step
        column = 0
        while column < N:
            pitch = panel_width(column, N, lanes)
            panel = b + total * column + done * pitch
            some_left, some_right = (A, begin_left, rows, segments, step), (B, panel, pitch)
            some_result, some_start, steps = (C, c + column, places), (D, d + column, starts), (begin, end, length)
            if pitch > N - column:
                _edge_tiles(some_left, steps, some_right, N - column, some_result, some_start)
            elif pitch == 4 * lanes:
                _tiles4(some_left, steps, some_right, some_result, some_start)
            elif pitch == 2 * lanes:
                _tiles2(some_left, steps, some_right, some_result, some_start)
            else:
                _tiles1(some_left, steps, some_right, some_result, some_start)
            column += pitch
        D, d, starts = C, c, places  # what comes next is added
        done += (end - begin) * length
        walked += length
        if run <= BLOCK or walked == run:
            begin, walked = end, 0
        if done >= total:
            break


# Each tile has a function of its own: in one with others, the compiler runs out of registers, and speed halves.


@compiled
def _tiles4(left, steps, right, result, start):  # type: ignore[no-untyped-def]
    """All rows of a panel of four vectors."""
    A, a, rows, segments, step = left
    begin, end, run = steps
    B, b, pitch = right
    C, c, places = result
    D, d, starts = start
    for row in range(0, len(rows), ROWS):
        tile4(A, a, rows, row, segments, begin, end, run, step, B, b, pitch, C, c, places, D, d, starts)


@compiled
def _tiles2(left, steps, right, result, start):  # type: ignore[no-untyped-def]
    """All rows of a panel of two vectors."""
    A, a, rows, segments, step = left
    begin, end, run = steps
    B, b, pitch = right
    C, c, places = result
    D, d, starts = start
    for row in range(0, len(rows), ROWS):
        tile2(A, a, rows, row, segments, begin, end, run, step, B, b, pitch, C, c, places, D, d, starts)


@compiled
def _tiles1(left, steps, right, result, start):  # type: ignore[no-untyped-def]
    """All rows of a panel of one vector."""
    A, a, rows, segments, step = left
    begin, end, run = steps
    B, b, pitch = right
    C, c, places = result
    D, d, starts = start
    for row in range(0, len(rows), ROWS):
        tile1(A, a, rows, row, segments, begin, end, run, step, B, b, pitch, C, c, places, D, d, starts)


@compiled
def _edge_tiles(left, steps, right, N, result, start):  # type: ignore[no-untyped-def]
    """All rows of a panel of one vector of which N columns are there: made in a place of their own."""
    A, a, rows, segments, step = left
    C, c, places = result
    D, d, starts = start
    lanes = right[2]
    edge = np.zeros(ROWS * lanes, C.dtype)
    edge_rows = np.arange(ROWS) * lanes
    here = (edge, 0, edge_rows)
    for row in range(0, len(rows), ROWS):
        for i in range(ROWS):
            for j in range(N):
                edge[i * lanes + j] = D[d + starts[row + i] + j]
        _tiles1((A, a, rows[row : row + ROWS], segments, step), steps, right, here, here)
        for i in range(ROWS):
            for j in range(N):
                C[c + places[row + i] + j] = edge[i * lanes + j]


# ----------------------------------------------------------------------------------------------------------------------
# Matrices
# ----------------------------------------------------------------------------------------------------------------------

SMALL = 2**18  # multiplications that NumPy does at once, on one thread
MEDIUM = 2**22  # multiplications that one thread has done before another wakes up
DEEP = 512  # steps of a sum of which a panel stays near as it lies
TASK = (96, 512)  # rows and columns that one thread does before it looks for more


def linear(x: Any, W: Any, b: Any) -> Any:
    """As `reference.linear`."""
    if x.ndim != 2 or W.ndim != 2 or x.size * W.shape[1] < SMALL or not is_ours(x, W):
        return blocked.linear(x, W, b)
    (M, K), N, dtype, count = x.shape, W.shape[1], x.dtype, lanes(x.dtype)
    left, row_step, step = _steps(x)
    right, line_step, column_step = _steps(W)
    if M * K * N <= MEDIUM and K <= DEEP and count <= N:
        y = np.empty((M, N), dtype)
        start = pack_vector(b, N, dtype)
        flat, size = y.reshape(-1), (M, K, N, count)
        _multiply_at_once((left, row_step, step), (right, line_step, column_step), flat, (start, 0), size)
        return y
    packed = scratch.take("right matrix", K * (N + -N % count), dtype)
    at_a_time = max(TASK[1], 2**16 // K // TASK[1] * TASK[1])

    def pack_some(columns: slice) -> None:
        _pack_columns(right, K, N, line_step, column_step, columns.start, columns.stop, packed, count)

    for_ranges(pack_some, N, at_a_time)
    y = memory.empty((M, N), dtype)
    flat, start = y.reshape(-1), pack_vector(b, N, dtype)
    rows, places, zeros, whole = (row_starts(M, length) for length in (row_step, N, 0, 0))
    height, wide = min(TASK[0], len(rows)), TASK[1]
    across = -(-N // wide)

    def work(number: int) -> None:
        row, column = number // across * height, number % across * wide
        some = slice(row, row + height)
        multiply(
            (left, 0, rows[some], whole[:1], K, step),
            (packed, K * column),
            min(wide, N - column),
            (flat, column, places[some]),
            (start, column, zeros[some]),
            count,
        )

    for_each(work, -(-len(rows) // height) * across)
    return y


@compiled
def _multiply_at_once(left, right, C, start, size):  # type: ignore[no-untyped-def]
    """C = D + A B, with nothing made before.

        left     A, from row to row, from number to number in a row
        right    B, the same
        start    D, from row to row                   it may be C where N is made of whole vectors

    Panels of the right matrix are read where they lie; the last one begins early enough to be whole.
    """
    A, row_step, step = left
    B, line_step, column_step = right
    D, start_step = start
    M, K, N, lanes = size
    if column_step != 1:
        upright = np.empty(K * N, B.dtype)
        _transpose(B, 0, N, K, column_step, upright, 0, N, lanes)
        B, line_step = upright, N
    tables = np.empty((3, M + -M % ROWS), np.int64)
    for i in range(tables.shape[1]):  # as `row_table` makes them
        row = min(i, M - 1)
        tables[0, i], tables[1, i], tables[2, i] = row * row_step, row * N, row * start_step
    rows, places, starts = tables[0], tables[1], tables[2]
    some_left, steps = (A, 0, rows, np.zeros(1, np.int64), step), (0, 1, K)
    column = 0
    while column < N:
        width = panel_width(column, N, lanes)
        column = min(column, N - width)
        some_right, result, some_start = (B, column, line_step), (C, column, places), (D, column, starts)
        if width == 4 * lanes:
            _tiles4(some_left, steps, some_right, result, some_start)
        elif width == 2 * lanes:
            _tiles2(some_left, steps, some_right, result, some_start)
        else:
            _tiles1(some_left, steps, some_right, result, some_start)
        column += width


def _steps(matrix: Any) -> tuple[Any, int, int]:
    """A matrix as flat memory, and how far apart there its rows are, and the numbers of a row."""
    flags, (rows, columns) = matrix.flags, matrix.shape
    if flags.writeable and flags.c_contiguous:  # asked first, as nearly all are: of a small product this is a tenth
        return matrix.reshape(-1), columns, 1
    if flags.f_contiguous:
        return in_one_piece(matrix.T), 1, rows
    return in_one_piece(matrix), columns, 1


@compiled
def _pack_columns(matrix, K, N, line_step, column_step, first, last, packed, lanes):  # type: ignore[no-untyped-def]
    """The panels of columns first ... last-1, from a matrix in either order."""
    while first < last:
        width = panel_width(first, N, lanes)
        there = min(width, N - first)
        panel = packed[K * first : K * (first + width)]
        if column_step == 1:
            for k in range(K):
                start = k * line_step + first
                panel[k * width : k * width + there] = matrix[start : start + there]
        else:
            for j in range(there):
                start = (first + j) * column_step
                values = matrix[start : start + K]
                for k in range(K):
                    panel[k * width + j] = values[k]
        if there < width:
            for k in range(K):
                panel[k * width + there : (k + 1) * width] = 0
        first += width


# ----------------------------------------------------------------------------------------------------------------------
# The gates of a recurrent network: a call for several products
# ----------------------------------------------------------------------------------------------------------------------


def gates(x: Any, h: Any, *weights: Any) -> Any:
    """As `reference.gates`."""
    count = len(weights) // 3
    Wx, b, Wh = weights[:count], weights[count:-count], weights[-count:]
    if not _are_at_once(x, Wx[0], x, h, *weights):
        return np.stack([linear(x, Wx[j], b[j]) + linear(h, Wh[j], None) for j in range(count)])
    y = np.empty((count, *h.shape), x.dtype)
    _gates(x, h, Wx, b, Wh, y, lanes(x.dtype))
    return y


@compiled
def _gates(x, h, Wx, b, Wh, y, lanes):  # type: ignore[no-untyped-def]
    (M, K), N = x.shape, h.shape[1]
    for j in range(len(Wx)):
        C = y[j].reshape(-1)
        _multiply_at_once((x.reshape(-1), K, 1), (Wx[j].reshape(-1), N, 1), C, (b[j], 0), (M, K, N, lanes))
        _multiply_at_once((h.reshape(-1), N, 1), (Wh[j].reshape(-1), N, 1), C, (C, N), (M, N, N, lanes))


def gates_grad_x(gy: Any, *W: Any) -> Any:
    """As `reference.gates_grad_x`."""
    if not _are_at_once(gy[0], W[0].T, gy, *W):
        return sum(linear(gy[j], W[j].T, None) for j in range(len(W)))
    gx = np.zeros((gy.shape[1], len(W[0])), gy.dtype)
    _gates_grad_x(gy, W, gx, lanes(gy.dtype))
    return gx


@compiled
def _gates_grad_x(gy, W, gx, lanes):  # type: ignore[no-untyped-def]
    (M, K), N, C = gx.shape, gy.shape[2], gx.reshape(-1)
    for j in range(len(W)):
        _multiply_at_once((gy[j].reshape(-1), N, 1), (W[j].reshape(-1), 1, N), C, (C, K), (M, N, K, lanes))


def gates_grad_w(x: Any, gy: Any) -> tuple[Any, ...]:
    """As `reference.gates_grad_w`."""
    if not _are_at_once(x.T, gy[0], x, gy):
        return tuple(linear(x.T, gy[j], None) for j in range(len(gy)))
    gW = tuple([np.empty((x.shape[1], gy.shape[2]), x.dtype) for _ in gy])
    _gates_grad_w(x, gy, gW, lanes(x.dtype))
    return gW


@compiled
def _gates_grad_w(x, gy, gW, lanes):  # type: ignore[no-untyped-def]
    (M, K), N = x.shape, gy.shape[2]
    zeros = np.zeros(N, x.dtype)
    for j in range(len(gW)):
        g = gy[j].reshape(-1)
        _multiply_at_once((x.reshape(-1), 1, K), (g, N, 1), gW[j].reshape(-1), (zeros, 0), (K, M, N, lanes))


def _are_at_once(left: Any, right: Any, *arrays: Any) -> bool:
    """Say whether products of matrices like these are made in one call: not too large, and all in whole vectors."""
    dtype, (M, K), N = left.dtype, left.shape, right.shape[1]
    if dtype.char not in "fd" or not SMALL // 4 <= M * K * N <= MEDIUM or max(M, K, N) > DEEP:
        return False
    count = lanes(dtype)
    for x in arrays:
        flags = x.flags
        if x.dtype != dtype or not (flags.c_contiguous and flags.writeable) or x.shape[-1] % count:
            return False
    return dtype.isnative
