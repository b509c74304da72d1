"""Which tokens the filters of a draw let through: those up to a depth (`kernels.cpu.masses`).

The depth comes from the few tokens near the peak, and nothing is sorted: histograms of the bits of their depths, 11
bits at a time, narrow it down to one number. A flat distribution, where all 49,152 tokens count, takes 0.3 ms (sorting
took 3 ms); that of a trained model takes a few microseconds.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numpy as np
from numba import njit

from kernels.cpu.masses import BLOCK, DEEPEST, block_masses
from kernels.cpu.scalars import exp32

FIRST_REACH = np.float32(4)  # candidates are this deep at most; doubled until they suffice
LEVELS = (22, 11, 0)  # the lowest bit of each level
LEVEL_BITS = 11


@njit(nogil=True, cache=True)
def deepest_kept(logits, peaks, peak, temperature, top_k, top_p, min_p, masses):
    """Return the depth of the deepest token that all filters let through; ``masses`` [blocks] is for scratch."""
    bound = min(DEEPEST, np.float32(-math.log(min_p))) if min_p > 0 else DEEPEST
    limited = 0 < top_k < logits.size
    if not limited and top_p >= 1:
        return bound
    mass = 0.0 if limited else block_masses(logits, peaks, peak, temperature, bound, masses)
    reach = min(FIRST_REACH, bound)
    while True:
        depths = _depths(logits, peaks, peak, temperature, reach)
        if reach == bound or not limited or depths.size >= top_k:
            deepest = reach
            if limited and depths.size > top_k:
                deepest = _depth_at(depths, np.ones(depths.size, np.float32), top_k)
            if top_p >= 1:
                return deepest
            weights, reached = _weights(depths, deepest)
            target = top_p * (reached if limited else mass)
            if reach == bound or limited or reached >= target:
                return _depth_at(depths, weights, target)
        reach = min(reach * np.float32(2), bound)


@njit(nogil=True, cache=True, error_model="numpy")
def _depths(logits, peaks, peak, temperature, reach):
    """Return the depths that are at most ``reach``."""
    blocks = 0
    for block in range(peaks.size):
        blocks += (peak - peaks[block]) / temperature <= reach
    found, count = np.empty(blocks * BLOCK, np.float32), 0
    for block in range(peaks.size):
        if (peak - peaks[block]) / temperature <= reach:
            for i in range(block * BLOCK, min((block + 1) * BLOCK, logits.size)):
                depth = (peak - logits[i]) / temperature
                found[count] = depth  # the next one overwrites it, unless it counts
                count += depth <= reach
    return found[:count]


@njit(nogil=True, cache=True)
def _weights(depths, deepest):
    """Return the weights at these depths, 0 below ``deepest``, and their sum."""
    weights, total = np.empty(depths.size, np.float32), 0.0
    for i in range(depths.size):
        weights[i] = exp32(-depths[i]) if depths[i] <= deepest else np.float32(0)
    for i in range(depths.size):
        total += np.float64(weights[i])
    return weights, total


@njit(nogil=True, cache=True)
def _depth_at(depths, amounts, wanted):
    """Return the depth down to which the amounts add up to ``wanted``, or the deepest one with an amount.

    Floats that are not negative have the order of their bits.
    """
    bits = depths.view(np.uint32)
    prefix, above = np.uint64(0), 0.0
    for lowest in LEVELS:
        shift = np.uint64(lowest)
        sums = np.zeros(1 << LEVEL_BITS, np.float64)
        for i in range(bits.size):
            place = np.uint64(bits[i]) >> shift
            if place >> np.uint64(LEVEL_BITS) == prefix:
                sums[place & np.uint64((1 << LEVEL_BITS) - 1)] += amounts[i]
        chosen, running = 0, above
        for bucket in range(sums.size):
            if sums[bucket] > 0:
                chosen, above = bucket, running
                running += sums[bucket]
                if running >= wanted:
                    break
        prefix = (prefix << np.uint64(LEVEL_BITS)) | np.uint64(chosen)
    return np.uint32(prefix).view(np.float32)
