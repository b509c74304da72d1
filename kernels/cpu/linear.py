"""Matrix products with float32 weights [out, in], for one token as for a thousand.

One kernel serves all sizes: weights are read once for up to a cache's worth of tokens, and each thread has its share of
the outputs. On two Zen 4 cores, 576 -> 3072, it reads weights at 28 GB/s for 1 token (memory reads at 31) and reaches
105 GFLOP/s for 16 tokens, 190 for 512. OpenBLAS has 22 GB/s, 57 and 180, and its threads would spin against Numba's.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numba
import numpy as np
from numba import njit, prange

from kernels.cpu.tiles import OUTPUTS, WIDE, make_dot_tile
from kernels.reference import Array

CACHED_ELEMENTS = 128 * 1024  # of x that stay in a core's L2 while the weights stream past: 512 KiB
OUTPUT_GRANULE = 48  # a multiple of the tiles' widths, so that only the last thread has outputs left over
ALONE_OUTPUTS = 16 if WIDE else 8  # of a token alone, which waits for memory: more rows in flight gain a fifth

dot_4 = make_dot_tile(4, OUTPUTS)
dot_2 = make_dot_tile(2, OUTPUTS)
dot_1 = make_dot_tile(1, OUTPUTS)
dot_alone = make_dot_tile(1, ALONE_OUTPUTS)
dot_single = make_dot_tile(1, 1)

NO_BIAS = np.empty(0, np.float32)


def linear(x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """See `kernels.reference.linear`; all arrays are contiguous."""
    _linear(x, weight, NO_BIAS if bias is None else bias, out, numba.get_num_threads())


@njit(nogil=True, parallel=True, cache=True)
def _linear(x, weight, bias, out, threads):
    tokens, depth = x.shape
    outputs = weight.shape[0]
    granules = outputs // OUTPUT_GRANULE
    chunk = max(32, CACHED_ELEMENTS // depth)
    for thread in prange(threads):
        begin = granules * thread // threads * OUTPUT_GRANULE
        end = outputs if thread == threads - 1 else granules * (thread + 1) // threads * OUTPUT_GRANULE
        for first in range(0, tokens, chunk):
            _outputs(x, weight, out, first, min(tokens, first + chunk), begin, end)
        if bias.size:
            for token in range(tokens):
                for o in range(begin, end):
                    out[token, o] += bias[o]


@njit(nogil=True, cache=True)
def _outputs(x, weight, out, first, last, begin, end):
    """Compute the outputs ``begin:end`` of the tokens ``first:last``."""
    depth, outputs = x.shape[1], out.shape[1]
    o = begin
    while last - first == 1 and o + ALONE_OUTPUTS <= end:
        dot_alone(x, first * depth, depth, weight, o * depth, depth, depth, out, first * outputs + o, outputs)
        o += ALONE_OUTPUTS
    while o + OUTPUTS <= end:
        token = first
        while token + 4 <= last:
            dot_4(x, token * depth, depth, weight, o * depth, depth, depth, out, token * outputs + o, outputs)
            token += 4
        if token + 2 <= last:
            dot_2(x, token * depth, depth, weight, o * depth, depth, depth, out, token * outputs + o, outputs)
            token += 2
        if token < last:
            dot_1(x, token * depth, depth, weight, o * depth, depth, depth, out, token * outputs + o, outputs)
        o += OUTPUTS
    for rest in range(o, end):
        for token in range(first, last):
            dot_single(x, token * depth, depth, weight, rest * depth, depth, depth, out, token * outputs + rest, 1)
