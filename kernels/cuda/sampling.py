"""Draws tokens: a block of threads a row, which reads its logits twice, and two to four times more for each filter.

The draw finds its place in a running sum in steps: the warp, the thread, the token. Distances are products with
1 / temperature, and masses come from ex2.approx; both are within some 2^-22 of the reference's. So a draw can differ
from the reference's where the number drawn, or top_p, is within a few 10^-6 of all mass from a token's edge. Tokens
with less than 2^-40 of the likeliest's probability are never drawn.

Registers: 32 a thread, so that a multiprocessor holds two blocks.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math
from functools import cache

from numba import cuda
from numba.cuda.types import float32, float64, int32, int64, uint64

from kernels.cuda.filters import limit_of
from kernels.cuda.kernel import Bytes, Floats, Ints, Kernel, Longs, UnsignedLongs, device
from kernels.cuda.masses import THREADS, THREADS_BITS, add, locate, mass_of, new_sums, put
from kernels.cuda.rows import FURTHEST, NO_ID, Scaling, distance_of, kept_mass, key_of, largest, load, row_at, token_at
from kernels.cuda.words import divide, float_of

REGISTERS = 32
WARPS_BITS = 5
SMALLEST, LARGEST = 1e-38, 3e38  # of 1 / temperature, so that its product with 0 or infinity is not NaN


@device
def _mix(x):
    x = x + uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@device
def _uniform(seed, position):
    """See `kernels.reference.uniform`."""
    return float64(int64(_mix(seed + _mix(uint64(position))) >> uint64(11))) * float64(2.0**-53)


@device
def _draw(row, scale, limit, uniform, sums, thread):
    """Return the drawn token to the one thread that finds it; NO_ID to the others, and to all if nothing has mass."""
    size = (row.vectors + 31) >> WARPS_BITS  # of a warp's vectors, which are contiguous
    warp, lane = thread >> 5, thread & 31
    mass = kept_mass(row, scale, limit, warp * size + lane, min((warp + 1) * size, row.vectors), 32)
    put(sums, thread, int64(0))
    cuda.syncthreads()
    add(sums, warp, mass)
    warp, wanted = locate(sums, uniform, int64(1), thread)
    if warp == THREADS:
        return int32(NO_ID)
    piece = (size + THREADS - 1) >> THREADS_BITS
    begin = warp * size + thread * piece
    end = min(begin + piece, (warp + 1) * size, row.vectors)
    put(sums, thread, kept_mass(row, scale, limit, begin, end, 1))
    owner, wanted = locate(sums, float64(0), wanted, thread)
    return _walk(row, scale, limit, begin, end, wanted) if thread == owner else int32(NO_ID)


@device
def _walk(row, scale, limit, begin, end, wanted):
    """Return the token of the vectors ``begin:end`` at which the kept mass reaches ``wanted``."""
    values, token = cuda.local.array(4, float32), int32(NO_ID)
    for vector in range(begin, end):
        load(row, vector, values, float32(-math.inf))
        for i in range(4):
            distance = distance_of(scale, values[i])
            if key_of(distance) <= limit and wanted > 0:
                wanted -= mass_of(distance)
                if wanted <= 0:
                    token = token_at(row, vector, i)
    return token


@cache
def sample() -> Kernel:
    """Draw tokens. Grid: rows of ``vocabulary`` logits."""

    def kernel(logits, vocabulary, temperature, top_k, top_p, min_p, seeds, positions, out):
        number, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        row, sums = row_at(logits, number, vocabulary), new_sums()
        best = largest(row, float32(math.inf), int32(-1), thread)
        if thread == 0:
            out[number] = best  # unless another token is drawn
        if temperature[number] == 0:
            return
        inverse = min(max(divide(float32(1), temperature[number]), float32(SMALLEST)), float32(LARGEST))
        scale = Scaling(float_of(logits[row.begin + best]), inverse)
        limit = int32(FURTHEST)
        if min_p[number] > 0:
            limit = key_of(float32(math.log(float64(min_p[number]))))
        for counting in (True, False):
            if (top_k[number] > 0) if counting else (top_p[number] < 1):
                limit = limit_of(row, scale, limit, counting, top_k[number], top_p[number], sums, thread)
        token = _draw(row, scale, limit, _uniform(seeds[number], positions[number]), sums, thread)
        if token != NO_ID:
            out[number] = token

    parameters = (Bytes, int32, Floats, Ints, Floats, Floats, UnsignedLongs, Longs, Ints)
    return Kernel("sample", kernel, parameters, (THREADS, 1), REGISTERS)
