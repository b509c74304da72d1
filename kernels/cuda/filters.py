"""Finds the threshold from which top_k and top_p let tokens through, without sorting.

Tokens, or their masses, are summed by ranges of distance. The range that contains the threshold is divided into 1024
ranges of keys, until a range is a single key: this takes two to four passes over the row.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

from numba import cuda
from numba.cuda.types import float32, float64, int32, int64

from kernels.cuda.kernel import device
from kernels.cuda.masses import THREADS, THREADS_BITS, add, locate, mass_of, put
from kernels.cuda.rows import distance_of, key_of, load

COARSE = 32.0  # first ranges in a unit of distance: 1024 of them reach to where a mass is 0


@device
def _sum_ranges(row, scale, limit, base, shift, counting, sums, thread):
    """Sum kept tokens or their masses by ranges of ``1 << shift`` keys from base on, or coarsely if shift < 0."""
    values = cuda.local.array(4, float32)
    put(sums, thread, int64(0))
    cuda.syncthreads()
    for vector in range(thread, row.vectors, THREADS):
        load(row, vector, values, float32(-math.inf))
        for i in range(4):
            distance = distance_of(scale, values[i])
            key = key_of(distance)
            if key <= limit and key >= base:
                if shift < 0:
                    number = int32(min(distance * float32(COARSE), float32(THREADS - 1)))
                else:
                    number = int32((key - base) >> shift)
                if number < THREADS:
                    mass = int64(1) if counting else mass_of(distance)
                    if mass > 0:
                        add(sums, number, mass)


@device
def _bits_of(keys):
    bits = int32(0)
    while (1 << bits) < keys:
        bits += 1
    return bits


@device
def limit_of(row, scale, limit, counting, top_k, top_p, sums, thread):
    """Return the largest key that top_k (counting) or top_p lets through, of the keys up to ``limit``."""
    share, wanted = float64(0) if counting else float64(top_p), int64(top_k) if counting else int64(1)
    base, shift = int32(0), int32(-1)
    while True:
        _sum_ranges(row, scale, limit, base, shift, counting, sums, thread)
        number, wanted = locate(sums, share, wanted, thread)
        if number == THREADS or (shift < 0 and number == THREADS - 1):
            return limit  # there are no more than top_k tokens, or the further ones weigh nothing
        if shift < 0:
            base = key_of(float32(number) / float32(COARSE))
            bits = _bits_of(key_of(float32(number + 1) / float32(COARSE)) - base)
        else:
            base, bits = int32(base + (number << shift)), shift
        if bits == 0:
            return base
        share, shift = float64(0), int32(max(bits - THREADS_BITS, 0))
