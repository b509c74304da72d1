"""Sums over neighbouring threads."""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import cuda
from numba.cuda.types import float32

from kernels.cuda.kernel import device

ALL_LANES = 0xFFFFFFFF


@device
def sum_of_lanes(x, lanes):
    """Return the sum over each aligned group of ``lanes`` (a power of two up to 32) lanes, to all of them."""
    while lanes > 1:
        lanes >>= 1
        x += cuda.shfl_xor_sync(ALL_LANES, x, lanes)
    return x


@device
def sum_of_block(x, warps, thread):
    """Return the sum over a block of whole warps, to all threads. To be called once in a kernel."""
    sums = cuda.shared.array(32, float32)
    x = sum_of_lanes(x, 32)
    if thread & 31 == 0:
        sums[thread >> 5] = x
    cuda.syncthreads()
    total = float32(0)
    for warp in range(warps):
        total += sums[warp]
    return total


def lanes_for(vectors: int) -> int:
    """Return the least power of two that is at least ``vectors``."""
    return 1 << (vectors - 1).bit_length()
