"""Ops that touch each value once, by itself. Registers: 40 a thread."""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64

from kernels.cuda.elements import Elements
from kernels.cuda.kernel import Bytes, Ints, Kernel
from kernels.cuda.words import divide, exp2, load_16_constant, store_16

REGISTERS = 40
THREADS = 128
LOG2_E = 1.4426950408889634


@cache
def silu_mul(elements: Elements) -> Kernel:
    """Gate rows. Grid: tokens, pieces of a row of ``vectors`` vectors."""
    load, store, width = elements.load_constant, elements.store, elements.width

    def kernel(gate_up, vectors, out):
        row, vector = int64(cuda.blockIdx.x), int32(cuda.blockIdx.y) * THREADS + int32(cuda.threadIdx.x)
        if vector < vectors:
            gate, up = cuda.local.array(width, float32), cuda.local.array(width, float32)
            load(gate_up, int64(2 * row * vectors + vector), gate)
            load(gate_up, int64((2 * row + 1) * vectors + vector), up)
            for i in range(width):
                gate[i] = divide(gate[i], float32(1) + exp2(-gate[i] * float32(LOG2_E))) * up[i]
            store(out, int64(row * vectors + vector), gate)

    return Kernel(f"silu_mul_{elements.name}", kernel, (Bytes, int32, Bytes), (THREADS, 1), REGISTERS)


@cache
def repeat_row() -> Kernel:
    """Copy a row to every row of out. Grid: rows of out, pieces of ``row`` (``vectors`` vectors of any type)."""

    def kernel(row, vectors, out):
        copy, vector = int64(cuda.blockIdx.x), int32(cuda.blockIdx.y) * THREADS + int32(cuda.threadIdx.x)
        if vector < vectors:
            a, b, c, d = load_16_constant(row, int64(vector))
            store_16(out, int64(copy * vectors + vector), a, b, c, d)

    return Kernel("repeat_row", kernel, (Bytes, int32, Bytes), (THREADS, 1), REGISTERS)


@cache
def take_rows() -> Kernel:
    """Copy rows of a table. Grid: rows, pieces of a row of ``vectors`` vectors of any type."""

    def kernel(table, rows, vectors, out):
        row, vector = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y) * THREADS + int32(cuda.threadIdx.x)
        if vector < vectors:
            a, b, c, d = load_16_constant(table, int64(rows[row]) * vectors + vector)
            store_16(out, int64(row) * vectors + vector, a, b, c, d)

    return Kernel("take_rows", kernel, (Bytes, Ints, int32, Bytes), (THREADS, 1), REGISTERS)
