"""Log-probabilities: a block of threads a row, which reads its logits twice, and once more for each further token.

Registers: 32 a thread.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math
from functools import cache

from numba import cuda
from numba.cuda.types import float32, float64, int32

from kernels.cuda.kernel import Bytes, Floats, Ints, Kernel
from kernels.cuda.masses import THREADS, UNIT, new_sums, total_of
from kernels.cuda.rows import FURTHEST, Scaling, kept_mass, largest, row_at
from kernels.cuda.words import float_of

REGISTERS = 32


@cache
def top_logprobs() -> Kernel:
    """Compute log-probabilities. Grid: rows that want them. count: likeliest tokens of each."""

    def kernel(logits, vocabulary, rows, tokens, chosen, count, ids, values):
        number, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        row, sums = row_at(logits, rows[number], vocabulary), new_sums()
        normalizer, bound, token = float64(0), float32(math.inf), int32(-1)
        for rank in range(max(count, 1)):
            token = largest(row, bound, token, thread)
            bound = float_of(logits[row.begin + token])
            if rank == 0:
                scale = Scaling(bound, float32(1))
                mass = kept_mass(row, scale, int32(FURTHEST), thread, row.vectors, THREADS)
                normalizer = float64(bound) + math.log(float64(total_of(sums, mass, thread)) * float64(1 / UNIT))
                if thread == 0:
                    own = float_of(logits[row.begin + tokens[rows[number]]])
                    chosen[number] = float32(float64(own) - normalizer)
            if thread == 0 and rank < count:
                ids[number * count + rank] = token
                values[number * count + rank] = float32(float64(bound) - normalizer)

    parameters = (Bytes, int32, Ints, Ints, Floats, int32, Ints, Floats)
    return Kernel("top_logprobs", kernel, parameters, (THREADS, 1), REGISTERS)
