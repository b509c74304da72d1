"""Moves of KV inside a pool, and copies of fragments to and from a staging run. Registers: 40 a thread.

A move by ``distance`` splits into chains that do not meet: unit i goes where unit i - distance was, if that is in the
run. One thread walks one chain and reads each unit before the next takes its place, so an overlapping move needs
no barrier and no second buffer, and has ``distance`` threads' worth of parallel work: a block of KV at least.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import int32, int64

from kernels.cuda.kernel import Bytes, Kernel, Longs
from kernels.cuda.words import load_16, load_16_constant, store_16

REGISTERS = 40
THREADS = 128


# Loops are while loops, because a range() with a step known only at run time would divide 64-bit integers.


@cache
def move_runs() -> Kernel:
    """Move runs. Grid: pieces, moves. moves [n, 3]: source, destination and length in units of ``vectors`` vectors."""

    def kernel(pool, moves, vectors):
        move = int32(cuda.blockIdx.y)
        source, destination = moves[3 * move] * vectors, moves[3 * move + 1] * vectors
        length, distance = moves[3 * move + 2] * vectors, abs(destination - source)
        start, chains = int64(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x), min(distance, length)
        while start < chains:
            step, at = distance, start
            if destination > source:  # from the end backwards, on the chains counted from the end
                step, at = -distance, length - 1 - start
            while at >= 0 and at < length:
                a, b, c, d = load_16(pool, int64(source + at))
                store_16(pool, int64(destination + at), a, b, c, d)
                at += step
            start += int64(cuda.gridDim.x) * THREADS

    return Kernel("move_runs", kernel, (Bytes, Longs, int64), (THREADS, 1), REGISTERS)


@cache
def copy_runs() -> Kernel:
    """Copy runs from one memory to another. Grid: pieces, runs. runs [n, 3] as for `move_runs`."""

    def kernel(origin, target, runs, vectors):
        run = int32(cuda.blockIdx.y)
        source, destination = runs[3 * run] * vectors, runs[3 * run + 1] * vectors
        at, length = int64(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x), runs[3 * run + 2] * vectors
        while at < length:
            a, b, c, d = load_16_constant(origin, int64(source + at))
            store_16(target, int64(destination + at), a, b, c, d)
            at += int64(cuda.gridDim.x) * THREADS

    return Kernel("copy_runs", kernel, (Bytes, Bytes, Longs, int64), (THREADS, 1), REGISTERS)
