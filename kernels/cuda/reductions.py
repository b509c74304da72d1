"""Sums over neighbouring threads."""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import cuda
from numba.cuda.types import float32

from kernels.cuda.kernel import device

EVERYBODY = 0xFFFFFFFF


@device
def sum_of_lanes(x, lanes):
    """The sum over each aligned group of ``lanes`` (a power of two up to 32) lanes, in all of them."""
    while lanes > 1:
        lanes >>= 1
        x += cuda.shfl_xor_sync(EVERYBODY, x, lanes)
    return x


@device
def sum_of_block(x, warps, thread):
    """The sum over a block of whole warps, in all threads. To be called once in a kernel."""
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
    """The least power of two that is at least ``vectors``."""
    return 1 << (vectors - 1).bit_length()
