"""What Numba cannot say: vectors of the processor, spoken in LLVM's own language.

A loop over channels is left to the compiler everywhere else. Here are the pieces of code in which everything depends on
numbers staying in registers, and which therefore are written out, instruction by instruction:

    tile         a few rows of a matrix times a few columns of another: where nearly all time of a network goes
    transform    M X M' for a small matrix M of constants and many X side by side: the transforms of Winograd
    transpose    a square of as many rows as a vector has lanes
    largest      the maximum of a window, for a vector of channels; give and give_more lead gradients back

They are written through Numba's public door for such things, `numba.extending.intrinsic`: a function that is given the
builder of the code, and adds to it. The bodies run when a kernel is compiled; what they build runs at every call.

`lanes(dtype)` numbers fit into a vector. A tile is `ROWS` rows by 1, 2 or 4 vectors. With the 32 registers of AVX-512
24 hold the sums of a tile of 6 rows by 4 vectors, 4 what comes from the right matrix, 1 what comes from the left; each
step then does 24 multiply-adds for 10 loads, and the processor is never waiting for memory.
Source of the idea: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dezero.kernels.compiled.compile import compiled

_features = llvmlite.binding.get_host_cpu_features()
VECTOR_BYTES = 64 if _features.get("avx512f") else 32 if _features.get("avx2") else 16
REGISTERS = 16 if _features.get("sse2") and VECTOR_BYTES < 64 else 32  # x86 without AVX-512 has 16
ROWS = 6
WIDEST = 4 if REGISTERS == 32 else 2  # vectors in a row of the largest tile

_INT = ir.IntType(64)


def lanes(dtype: Any) -> int:
    """How many numbers of `dtype` fit into a vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


@compiled
def panel_width(first, N, lanes):  # type: ignore[no-untyped-def]
    """How wide the panel is that begins at column `first` of N: as a tile while that goes. The last may lack some."""
    width = WIDEST * lanes
    while width > lanes and first + width > N:
        width //= 2
    return width


class _Builder:
    """LLVM's builder, in the words of this file. Pointers are to numbers; offsets count numbers."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def pointer(self, position: int) -> Any:
        """Where the array, argument number `position`, begins."""
        array = self.context.make_array(self.signature.args[position])
        return array(self.context, self.builder, self.args[position]).data

    def at(self, pointer: Any, offset: Any) -> Any:
        return self.builder.gep(pointer, [_INT(offset) if isinstance(offset, int) else offset])

    def number(self, pointer: Any, offset: Any) -> Any:
        return self.builder.load(self.at(pointer, offset))

    def vector_type(self, pointer: Any) -> Any:
        number = pointer.type.pointee
        return ir.VectorType(number, VECTOR_BYTES // (8 if isinstance(number, ir.DoubleType) else 4))

    def load(self, pointer: Any, offset: Any) -> Any:
        vector = self.vector_type(pointer)
        return self.builder.load(self.builder.bitcast(self.at(pointer, offset), vector.as_pointer()), align=4)

    def store(self, vector: Any, pointer: Any, offset: Any) -> None:
        place = self.builder.bitcast(self.at(pointer, offset), vector.type.as_pointer())
        self.builder.store(vector, place, align=4)

    def repeated(self, number: Any, vector: Any) -> Any:
        """A vector that has the same number in every lane."""
        nothing = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def picked(self, a: Any, b: Any, lanes: list[int]) -> Any:
        """A vector of some lanes of a, and some of b, which count on from those of a."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, mask)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once where the processor can."""
        kind = f"v{a.type.count}f{64 if isinstance(a.type.element, ir.DoubleType) else 32}"
        signature = ir.FunctionType(a.type, [a.type] * 3)
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.fmuladd.{kind}"), [a, b, c]
        )

    def variable(self, value: Any) -> Any:
        """A place that keeps a value from one turn of a loop to the next: a register, in the end."""
        return cgutils.alloca_once_value(self.builder, value)


def _tile(width: int) -> Any:
    """Make `tile` for rows of `width` vectors."""

    @intrinsic  # type: ignore[misc]
    def tile(
        context: Any,
        A: Any,
        a: Any,
        rows: Any,
        row: Any,
        segments: Any,
        begin: Any,
        end: Any,
        run: Any,
        step: Any,
        B: Any,
        b: Any,
        pitch: Any,
        C: Any,
        c: Any,
        places: Any,
        D: Any,
        d: Any,
        starts: Any,
    ) -> Any:
        """C = D + A B for ROWS rows and `width` vectors of columns, wherever they lie.

        For i < ROWS, and k counting the numbers of the segments s in begin..end-1, `run` of each:

            left(i, k)   A[a + rows[row + i] + segments[s] + step * r], r = 0 ... run-1
            right(k, j)  B[b + pitch * k + j],                          j < width * lanes
            C[c + places[row + i] + j] = D[d + starts[row + i] + j] + sum over k of left(i, k) * right(k, j)

        All arrays are flat.
        """
        signature = types.void(
            A, a, rows, row, segments, begin, end, run, step, B, b, pitch, C, c, places, D, d, starts
        )

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Builder(context, builder, signature, args)
            A, rows, segments, B, C, places, D, starts = map(code.pointer, (0, 2, 4, 9, 12, 14, 15, 17))
            a, row, begin, end, run, step = (args[i] for i in (1, 3, 5, 6, 7, 8))
            b, pitch, c, d = (args[i] for i in (10, 11, 13, 16))
            vector = code.vector_type(B)
            count = vector.count

            def row_of(table: Any, pointer: Any, start: Any, i: int) -> Any:
                offset = code.number(table, builder.add(row, _INT(i)))
                return code.at(pointer, builder.add(start, offset))

            left = [row_of(rows, A, a, i) for i in range(ROWS)]
            nothing = ir.Constant(vector, None)
            sums = [[code.variable(nothing) for _ in range(width)] for _ in range(ROWS)]
            right = code.variable(code.at(B, b))

            length = builder.sub(end, begin)
            with cgutils.for_range(builder, length) as segment:
                offset = code.number(segments, builder.add(begin, segment.index))
                here = [code.at(line, offset) for line in left]
                with cgutils.for_range(builder, run) as turn:
                    walked = builder.mul(turn.index, step)
                    column = builder.load(right)
                    vectors = [code.load(column, j * count) for j in range(width)]
                    for i in range(ROWS):
                        number = code.repeated(code.number(here[i], walked), vector)
                        for j in range(width):
                            total = code.multiply_add(number, vectors[j], builder.load(sums[i][j]))
                            builder.store(total, sums[i][j])
                    builder.store(code.at(column, pitch), right)

            # D is added at the end: sums that begin at 0 lose less. All is read before anything is written, because the
            # same row may be there twice.
            totals = []
            for i in range(ROWS):
                line = row_of(starts, D, d, i)
                totals.append(
                    [builder.fadd(builder.load(sums[i][j]), code.load(line, j * count)) for j in range(width)]
                )
            for i in range(ROWS):
                line = row_of(places, C, c, i)
                for j in range(width):
                    code.store(totals[i][j], line, j * count)
            return context.get_dummy_value()

        return signature, build

    return tile


tile1, tile2, tile4 = map(_tile, (1, 2, 4))


def transform(matrix: Any) -> Any:
    """Make the function that computes M X M' for the small constant `matrix` M, (n, m), on vectors of X, (m, m).

    The function is called as `f(source, s, s_down, s_right, target, t, t_down, t_right)`: number (i, j) of X is the
    vector at source[s + s_down * i + s_right * j], and the result is laid out in `target` alike. All arrays are flat.
    """
    rows = [[float(x) for x in row] for row in matrix]

    @intrinsic  # type: ignore[misc]
    def transformed(
        context: Any, source: Any, s: Any, s_down: Any, s_right: Any, target: Any, t: Any, t_down: Any, t_right: Any
    ) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Builder(context, builder, signature, args)
            source, target = code.pointer(0), code.pointer(4)
            s, s_down, s_right, t, t_down, t_right = (args[i] for i in (1, 2, 3, 5, 6, 7))

            def place(start: Any, down: Any, right: Any, i: int, j: int) -> Any:
                return builder.add(start, builder.add(builder.mul(down, _INT(i)), builder.mul(right, _INT(j))))

            size = range(len(rows[0]))
            columns = []  # those of M X
            for j in size:
                column = [code.load(source, place(s, s_down, s_right, i, j)) for i in size]
                columns.append([_combine(code, row, column) for row in rows])
            for i in range(len(rows)):
                line = [column[i] for column in columns]
                for j, row in enumerate(rows):
                    code.store(_combine(code, row, line), target, place(t, t_down, t_right, i, j))
            return context.get_dummy_value()

        return types.void(source, s, s_down, s_right, target, t, t_down, t_right), build

    return transformed


def _combine(code: _Builder, factors: list[float], vectors: list[Any]) -> Any:
    """The sum of factors times vectors, without what is 0 and without multiplying by 1."""
    total = None
    for factor, vector in sorted(zip(factors, vectors, strict=True), key=lambda pair: pair[0] != 1):
        constant = ir.Constant(vector.type, [factor] * vector.type.count)
        if factor == 0:
            continue
        if total is None:
            total = vector if factor == 1 else code.builder.fmul(vector, constant)
        elif factor == 1:
            total = code.builder.fadd(total, vector)
        elif factor == -1:
            total = code.builder.fsub(total, vector)
        else:
            total = code.multiply_add(vector, constant, total)
    return total


@intrinsic  # type: ignore[misc]
def transpose(context: Any, source: Any, s: Any, s_step: Any, target: Any, t: Any, t_step: Any) -> Any:
    """target[t + t_step * j + i] = source[s + s_step * i + j] for i and j up to the lanes of a vector.

    The quarters off the diagonal change places, then those of each quarter, and so on. Source: Eklundh, "A fast
    computer method for matrix transposing", 1972.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Builder(context, builder, signature, args)
        source, target = code.pointer(0), code.pointer(3)
        s, s_step, t, t_step = args[1], args[2], args[4], args[5]
        count = code.vector_type(source).count
        rows = [code.load(source, builder.add(s, builder.mul(s_step, _INT(i)))) for i in range(count)]
        half = count // 2
        while half:
            # of two rows that are `half` apart: the lanes that stay in the upper one, and those that stay below
            upper = [lane if not lane & half else count + lane - half for lane in range(count)]
            lower = [lane + half if not lane & half else count + lane for lane in range(count)]
            for i in range(count):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    rows[i], rows[i + half] = code.picked(*pair, upper), code.picked(*pair, lower)
            half //= 2
        for j, row in enumerate(rows):
            code.store(row, target, builder.add(t, builder.mul(t_step, _INT(j))))
        return context.get_dummy_value()

    return types.void(source, s, s_step, target, t, t_step), build


@intrinsic  # type: ignore[misc]
def largest(
    context: Any,
    x: Any,
    s: Any,
    down: Any,
    right: Any,
    rows: Any,
    columns: Any,
    cell: Any,
    line: Any,
    y: Any,
    o: Any,
    indexes: Any,
) -> Any:
    """The maximum of a window, a vector of channels at once, to y[o], and which cell it is to indexes[o].

    Cell (i, j) of `rows` by `columns` is at x[s + down * i + right * j], and is number cell + line * i + j. The first
    of equal ones counts, and the first that is not a number.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Builder(context, builder, signature, args)
        x, y, indexes = map(code.pointer, (0, 8, 10))
        s, down, right, rows, columns, cell, line = args[1:8]
        o = args[9]
        first = code.load(x, s)
        byte, bytes_ = ir.IntType(8), ir.VectorType(ir.IntType(8), first.type.count)
        best = code.variable(first)
        index = code.variable(code.repeated(builder.trunc(cell, byte), bytes_))
        with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
            place = builder.add(s, builder.add(builder.mul(down, i.index), builder.mul(right, j.index)))
            number = builder.add(cell, builder.add(builder.mul(line, i.index), j.index))
            value, old = code.load(x, place), builder.load(best)
            stays = builder.or_(builder.fcmp_ordered("<=", value, old), builder.fcmp_unordered("uno", old, old))
            builder.store(builder.select(stays, old, value), best)
            new = code.repeated(builder.trunc(number, byte), bytes_)
            builder.store(builder.select(stays, builder.load(index), new), index)
        code.store(builder.load(best), y, o)
        place = builder.bitcast(code.at(indexes, o), bytes_.as_pointer())
        builder.store(builder.load(index), place, align=1)
        return context.get_dummy_value()

    return types.void(x, s, down, right, rows, columns, cell, line, y, o, indexes), build


def _give(adding: bool) -> Any:
    @intrinsic  # type: ignore[misc]
    def give(
        context: Any,
        gy: Any,
        o: Any,
        indexes: Any,
        gx: Any,
        t: Any,
        down: Any,
        right: Any,
        rows: Any,
        columns: Any,
        cell: Any,
        line: Any,
    ) -> Any:
        """The other way: a vector of gy[o] to the cells that indexes[o] names, and zero to the others of the window."""

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Builder(context, builder, signature, args)
            gy, indexes, gx = map(code.pointer, (0, 2, 3))
            o, (t, down, right, rows, columns, cell, line) = args[1], args[4:11]
            gradient = code.load(gy, o)
            byte, bytes_ = ir.IntType(8), ir.VectorType(ir.IntType(8), gradient.type.count)
            index = builder.load(builder.bitcast(code.at(indexes, o), bytes_.as_pointer()), align=1)
            with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
                place = builder.add(t, builder.add(builder.mul(down, i.index), builder.mul(right, j.index)))
                number = builder.add(cell, builder.add(builder.mul(line, i.index), j.index))
                named = builder.icmp_signed("==", index, code.repeated(builder.trunc(number, byte), bytes_))
                given = builder.select(named, gradient, ir.Constant(gradient.type, None))
                code.store(builder.fadd(code.load(gx, place), given) if adding else given, gx, place)
            return context.get_dummy_value()

        return types.void(gy, o, indexes, gx, t, down, right, rows, columns, cell, line), build

    return give


give, give_more = _give(adding=False), _give(adding=True)  # the second adds to what is there
