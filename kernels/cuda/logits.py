"""Changes and checks logits (float32) before a draw.

Registers: 40 a thread.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint8

from kernels.cuda.kernel import Bytes, Flags, Floats, Ints, Kernel
from kernels.cuda.masses import THREADS as ROW_THREADS
from kernels.cuda.reductions import sum_of_block
from kernels.cuda.rows import load, row_at
from kernels.cuda.words import divide

REGISTERS = 40
THREADS = 128


@cache
def add_biases() -> Kernel:
    """Add the biases of slots, which have room for ``room`` each. Grid: adjusted rows, pieces of the room."""

    def kernel(logits, vocabulary, rows, slots, num_biases, tokens, biases, room):
        number = int32(cuda.blockIdx.x)
        i = int32(cuda.blockIdx.y) * THREADS + int32(cuda.threadIdx.x)
        if i < num_biases[number]:
            at = int64(slots[rows[number]]) * room + i
            logits[int64(rows[number]) * vocabulary + tokens[at]] += biases[at]

    parameters = (Floats, int32, Ints, Ints, Ints, Ints, Floats, int32)
    return Kernel("add_biases", kernel, parameters, (THREADS, 1), REGISTERS)


@cache
def penalize() -> Kernel:
    """Penalize seen tokens. Grid: adjusted rows, pieces of ``vocabulary`` logits."""

    def kernel(logits, vocabulary, rows, slots, penalties, seen, counts):
        number = int32(cuda.blockIdx.x)
        token = int32(cuda.blockIdx.y) * THREADS + int32(cuda.threadIdx.x)
        at = int64(slots[rows[number]]) * vocabulary + token
        if token < vocabulary and seen[at] != 0:
            place, count = int64(rows[number]) * vocabulary + token, counts[at]
            logit, repetition = logits[place], penalties[3 * number + 2]
            logit = divide(logit, repetition) if logit > 0 else logit * repetition
            logit -= penalties[3 * number + 1] * float32(count)
            if count > 0:
                logit -= penalties[3 * number]
            logits[place] = logit

    parameters = (Floats, int32, Ints, Ints, Floats, Flags, Ints)
    return Kernel("penalize", kernel, parameters, (THREADS, 1), REGISTERS)


@cache
def finite_rows() -> Kernel:
    """Find rows without NaN or infinity. Grid: rows of ``vocabulary`` logits."""

    def kernel(logits, vocabulary, out):
        number, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        row, values = row_at(logits, number, vocabulary), cuda.local.array(4, float32)
        # x * 0 is NaN exactly if x is not finite, and so is a sum that contains one NaN.
        zero = float32(0)
        for vector in range(thread, row.vectors, ROW_THREADS):
            load(row, vector, values, float32(0))
            for i in range(4):
                zero += values[i] * float32(0)
        zero = sum_of_block(zero, ROW_THREADS // 32, thread)
        if thread == 0:
            out[number] = uint8(1) if zero == zero else uint8(0)  # noqa: PLR0124 - NaN differs from itself

    return Kernel("finite_rows", kernel, (Bytes, int32, Flags), (ROW_THREADS, 1), REGISTERS)


@cache
def clear_rows() -> Kernel:
    """Zero rows that are not ok. Grid: rows of ``vocabulary`` logits."""

    def kernel(logits, ok, vocabulary):
        row, thread = int64(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        if ok[row] == 0:
            for token in range(thread, vocabulary, THREADS):
                logits[row * vocabulary + token] = float32(0)

    return Kernel("clear_rows", kernel, (Floats, Flags, int32), (THREADS, 1), REGISTERS)
