"""Draws tokens: one call for a batch. Threads share the rows where many take more than their largest logit."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.cpu.filters import deepest_kept
from kernels.cpu.masses import BLOCK, block_masses, block_peaks, num_blocks, weight
from kernels.reference import Array, Ints, Longs

ALONE_ROWS = 8  # so many rows take as long as it takes to wake another thread


def sample(
    logits: Array,
    temperature: Array,
    top_k: Ints,
    top_p: Array,
    min_p: Array,
    seeds: NDArray[np.uint64],
    positions: Longs,
    out: Ints,
) -> None:
    """See `kernels.reference.sample`. Tokens deeper than `kernels.cpu.masses.DEEPEST` are never drawn."""
    threads = numba.get_num_threads() if np.count_nonzero(temperature) > ALONE_ROWS else 1
    _sample(logits, temperature, top_k, top_p, min_p, seeds, positions, out, threads)


@njit(nogil=True, parallel=True, cache=True)
def _sample(logits, temperature, top_k, top_p, min_p, seeds, positions, out, threads):
    if threads == 1:
        _sample_rows(logits, temperature, top_k, top_p, min_p, seeds, positions, out, 0, 1)
    else:
        for thread in prange(threads):
            _sample_rows(logits, temperature, top_k, top_p, min_p, seeds, positions, out, thread, threads)


@njit(nogil=True, cache=True)
def _sample_rows(logits, temperature, top_k, top_p, min_p, seeds, positions, out, first, step):
    peaks = np.empty(num_blocks(logits.shape[1]), np.float32)
    masses = np.empty(peaks.size, np.float64)
    for row in range(first, len(logits), step):
        x, heat = logits[row], temperature[row]
        peak = block_peaks(x, peaks)
        if heat == 0:
            out[row] = _first_at(x, peaks, peak)
        else:
            deepest = deepest_kept(x, peaks, peak, heat, top_k[row], top_p[row], min_p[row], masses)
            number = _uniform(seeds[row], np.uint64(positions[row]))
            out[row] = _draw(x, peaks, peak, heat, deepest, number, masses)


@njit(nogil=True, cache=True)
def _first_at(logits, peaks, peak):
    """Return the first token whose logit is ``peak``."""
    for block in range(peaks.size):
        if peaks[block] == peak:
            for i in range(block * BLOCK, min((block + 1) * BLOCK, logits.size)):
                if logits[i] == peak:
                    return i
    return 0


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(logits, peaks, peak, temperature, deepest, uniform, masses):
    """Invert the cumulative distribution over the tokens down to ``deepest``, in order of IDs."""
    target = uniform * block_masses(logits, peaks, peak, temperature, deepest, masses)
    block, running = _crossing(masses, 0.0, target)
    weights = np.zeros(BLOCK, np.float32)
    for i in range(min(BLOCK, logits.size - block * BLOCK)):
        weights[i] = weight(logits[block * BLOCK + i], peak, temperature, deepest)
    return block * BLOCK + _crossing(weights, running, target)[0]


@njit(nogil=True, cache=True)
def _crossing(amounts, running, target):
    """Return where the sum from ``running`` on exceeds ``target``, or else the last amount, and the sum before it."""
    chosen, before = 0, running
    for i in range(amounts.size):
        if amounts[i] > 0:
            chosen, before = i, running
            running += amounts[i]
            if running > target:
                break
    return chosen, before


@njit(nogil=True, cache=True)
def _uniform(seed, position):
    bits = _mix(seed + _mix(position))
    return np.float64(bits >> np.uint64(11)) * 2.0**-53


@njit(nogil=True, cache=True)
def _mix(x):
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
