"""Changes and checks logits (float32) before a draw. Single floats are written, since a row may begin anywhere.

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
def add_bias() -> Kernel:
    """Add biases to distinct tokens. Grid: pieces of ``count`` tokens."""

    def kernel(logits, tokens, bias, count):
        i = int32(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x)
        if i < count:
            logits[tokens[i]] += bias[i]

    return Kernel("add_bias", kernel, (Floats, Ints, Floats, int32), (THREADS, 1), REGISTERS)


@cache
def penalize() -> Kernel:
    """Penalize seen tokens. Grid: pieces of one row of ``vocabulary`` logits."""

    def kernel(logits, in_prompt, counts, presence, frequency, repetition, vocabulary):
        token = int32(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x)
        if token < vocabulary and (in_prompt[token] != 0 or counts[token] > 0):
            logit = logits[token]
            logit = divide(logit, repetition) if logit > 0 else logit * repetition
            logit -= frequency * float32(counts[token])
            if counts[token] > 0:
                logit -= presence
            logits[token] = logit

    parameters = (Floats, Flags, Ints, float32, float32, float32, int32)
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
