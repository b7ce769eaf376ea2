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
from dezero.kernels.compiled.layout import flattened, is_ours
from dezero.kernels.compiled.simd import ROWS, lanes, panel_width, tile1, tile2, tile4
from dezero.kernels.threads import for_each, for_ranges

BLOCK = 256  # steps of a sum at a time: the right matrix's part for a tile, 64 KB, stays near


def row_table(offsets: Any) -> Any:
    """A table of row offsets, made a multiple of ROWS long by repeating the last: that row is computed twice."""
    offsets = np.asarray(offsets, np.int64).ravel()
    return np.pad(offsets, (0, -len(offsets) % ROWS), mode="edge")


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
        if run <= BLOCK:
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
TASK = (96, 512)  # rows and columns that one thread does before it looks for more


def linear(x: Any, W: Any, b: Any) -> Any:
    """As `reference.linear`."""
    if x.ndim != 2 or W.ndim != 2 or not is_ours(x, W) or x.size * W.shape[1] < SMALL:
        return blocked.linear(x, W, b)
    (M, K), N, dtype, count = x.shape, W.shape[1], x.dtype, lanes(x.dtype)
    left, row_step, step = _steps(x)
    right, line_step, column_step = _steps(W)
    packed = scratch.take("right matrix", K * (N + -N % count), dtype)
    at_a_time = max(TASK[1], 2**16 // K // TASK[1] * TASK[1])

    def pack_some(columns: slice) -> None:
        _pack_columns(right, K, N, line_step, column_step, columns.start, columns.stop, packed, count)

    for_ranges(pack_some, N, at_a_time)
    y = memory.empty((M, N), dtype)
    flat, start = y.reshape(-1), pack_vector(b, N, dtype)
    rows, places, zeros, whole = (_table(M, length) for length in (row_step, N, 0, 0))
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


def _steps(matrix: Any) -> tuple[Any, int, int]:
    """A matrix as flat memory, and how far apart there its rows are, and the numbers of a row."""
    if matrix.T.flags.c_contiguous and not matrix.flags.c_contiguous:
        return flattened(matrix.T)[0], 1, matrix.shape[0]
    return flattened(matrix)[0], matrix.shape[1], 1


@functools.lru_cache(maxsize=64)
def _table(rows: int, length: int) -> Any:
    """Where rows of `length` numbers begin."""
    return row_table(np.arange(rows) * length)


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
