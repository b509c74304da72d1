"""Sums that do not depend on the order of their terms, and the place where a running sum reaches a target.

A *mass* is a weight in units of 2^-40, as int64: integers add up to the same in any order, so what is drawn is the same
in every run. A block of threads owns `Sums` in shared memory, each in two words: shared memory adds 32 bits in one
operation, but 64 bits in a loop that starts again when another thread comes between.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math
from typing import Any, NamedTuple

from numba import cuda
from numba.cuda.types import float32, float64, int32, int64, uint32

from kernels.cuda.kernel import device
from kernels.cuda.words import exp2

THREADS_BITS = 10
THREADS = 1 << THREADS_BITS
GROUPS = 32  # of sums, and sums in a group: one warp locates a sum in two steps
UNIT = 2.0**40
LOG2_E = 1.4426950408889634


class Sums(NamedTuple):
    """THREADS sums, in shared memory."""

    low: Any  # [THREADS] uint32
    high: Any  # [THREADS] uint32
    groups: Any  # [GROUPS] int64: the sum of each group
    group: Any  # [2] int64: a group, GROUPS if there is none, and how much of it is taken
    found: Any  # [2] int64: a sum, and how much of it is taken


@device
def mass_of(distance):
    """Return the mass of e^-distance; the distance is at least 0."""
    return int64(exp2(distance * float32(-LOG2_E)) * float32(UNIT))


@device
def new_sums():
    """Allocate sums, with undefined values. To be called once in a kernel."""
    low, high = cuda.shared.array(THREADS, uint32), cuda.shared.array(THREADS, uint32)
    groups = cuda.shared.array(GROUPS, int64)
    group, found = cuda.shared.array(2, int64), cuda.shared.array(2, int64)
    return Sums(low, high, groups, group, found)


@device
def put(sums, number, mass):
    """Set a sum that no other thread touches."""
    sums.low[number], sums.high[number] = uint32(mass & 0xFFFFFFFF), uint32(mass >> 32)


@device
def add(sums, number, mass):
    """Add to a sum beside other threads; the sum is exact once all have passed a barrier."""
    low = mass & 0xFFFFFFFF
    before = cuda.atomic.add(sums.low, number, uint32(low))
    cuda.atomic.add(sums.high, number, uint32((mass >> 32) + ((int64(before) + low) >> 32)))


@device
def _mass_in(sums, number):
    return (int64(sums.high[number]) << 32) | int64(sums.low[number])


@device
def locate(sums, share, least, thread):
    """Find where the running sum reaches ``share`` of the total, but at least ``least`` (from 1 on).

    Returns the number of the sum that takes it there, THREADS if none does, and how much of that sum it takes. All
    threads call it; one warp works, between barriers of the block: a barrier of a warp alone would cost sm_80 a call.
    """
    cuda.syncthreads()
    if thread < GROUPS:
        mass = int64(0)
        for i in range(GROUPS):  # each lane begins elsewhere, as their sums are in one bank of the memory
            mass += _mass_in(sums, thread * GROUPS + ((i + thread) & (GROUPS - 1)))
        sums.groups[thread] = mass
    cuda.syncthreads()
    if thread < GROUPS:
        _locate_group(sums, share, least, thread)
    cuda.syncthreads()
    if thread < GROUPS and sums.group[0] < GROUPS:
        _locate_in_group(sums, int32(sums.group[0]) * GROUPS, sums.group[1], thread)
    cuda.syncthreads()
    return (int32(sums.found[0]), sums.found[1]) if sums.group[0] < GROUPS else (int32(THREADS), int64(0))


@device
def _locate_group(sums, share, least, lane):
    before, total = int64(0), int64(0)
    for group in range(GROUPS):
        before += sums.groups[group] if group < lane else int64(0)
        total += sums.groups[group]
    wanted = max(int64(math.ceil(share * float64(total))), int64(least))
    if before < wanted <= before + sums.groups[lane]:
        sums.group[0], sums.group[1] = lane, wanted - before
    elif wanted > total:
        sums.group[0] = GROUPS


@device
def _locate_in_group(sums, first, wanted, lane):
    before = int64(0)
    for i in range(GROUPS):
        before += _mass_in(sums, first + i) if i < lane else int64(0)
    if before < wanted <= before + _mass_in(sums, first + lane):
        sums.found[0], sums.found[1] = first + lane, wanted - before


@device
def total_of(sums, mass, thread):
    """Return the sum of all threads' masses."""
    if thread == 0:
        put(sums, 0, int64(0))
    cuda.syncthreads()
    add(sums, 0, mass)
    cuda.syncthreads()
    return _mass_in(sums, 0)
