"""Draws tokens. Threads share the rows; thresholds come from a few candidates, not from sorting a vocabulary."""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.cpu.scalars import exp32
from kernels.reference import Array, Flags, Ints, Longs

FIRST_REACH = np.float32(8)  # candidates lie within this many temperatures of the peak; doubled until they suffice
MINUS_INFINITY = np.float32(-np.inf)


def finite_rows(logits: Array, out: Flags) -> None:
    """See `kernels.reference.finite_rows`."""
    _finite_rows(logits, out)


def penalize(
    logits: Array, in_prompt: Flags, counts: Ints, presence: float, frequency: float, repetition: float
) -> None:
    """See `kernels.reference.penalize`."""
    _penalize(logits, in_prompt, counts, np.float32(presence), np.float32(frequency), np.float32(repetition))


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
    """See `kernels.reference.sample`; 2 cores draw from 16 rows of 49,152 logits in about 2 ms."""
    _sample(logits, temperature, top_k, top_p, min_p, seeds, positions, out, numba.get_num_threads())


@njit(nogil=True, cache=True)
def _finite_rows(logits, out):
    for row in range(len(logits)):
        # The sum of x * 0 is NaN exactly if some x is not finite. Lanes: the compiler may not reorder sums by itself.
        lanes = np.zeros(16, np.float32)
        whole = logits.shape[1] // 16 * 16
        for begin in range(0, whole, 16):
            for lane in range(16):
                lanes[lane] += logits[row, begin + lane] * np.float32(0)
        for i in range(whole, logits.shape[1]):
            lanes[0] += logits[row, i] * np.float32(0)
        out[row] = not np.isnan(lanes.sum())


@njit(nogil=True, cache=True, error_model="numpy")
def _penalize(logits, in_prompt, counts, presence, frequency, repetition):
    for i in range(logits.size):
        if not in_prompt[i] and counts[i] == 0:
            continue
        logit = logits[i] / repetition if logits[i] > 0 else logits[i] * repetition
        logit -= frequency * np.float32(counts[i])
        logits[i] = logit - presence if counts[i] > 0 else logit


@njit(nogil=True, parallel=True, cache=True, error_model="numpy")
def _sample(logits, temperature, top_k, top_p, min_p, seeds, positions, out, threads):
    for thread in prange(threads):
        for row in range(thread, len(logits), threads):
            best = _largest(logits[row])
            if temperature[row] == 0:
                out[row] = best
            else:
                scaled = (logits[row] - logits[row, best]) / temperature[row]
                floor = _floor(scaled, top_k[row], top_p[row], min_p[row])
                out[row] = _draw(scaled, floor, _uniform(seeds[row], np.uint64(positions[row])))


@njit(nogil=True, cache=True)
def _largest(logits):
    """Return the index of the first largest logit."""
    best = 0
    for i in range(1, logits.size):
        if logits[i] > logits[best]:
            best = i
    return best


@njit(nogil=True, cache=True)
def _floor(scaled, top_k, top_p, min_p):
    """Return the lowest scaled logit that all filters let through."""
    floor = np.float32(math.log(min_p)) if min_p > 0 else MINUS_INFINITY
    limited = 0 < top_k < scaled.size
    if not limited and top_p >= 1:
        return floor
    mass = 0.0 if limited else _exponentials(scaled[scaled >= floor]).sum()
    reach = FIRST_REACH
    while True:
        found = np.sort(scaled[scaled >= max(floor, -reach)])[::-1]
        complete = -reach <= floor or found.size == scaled.size
        if complete or not limited or found.size >= top_k:
            kept = _reaching(found, found[min(top_k, found.size) - 1]) if limited else found
            share = _share(_exponentials(kept), top_p, mass)
            if complete or limited or share < kept.size:
                return kept[min(share, kept.size - 1)]
        reach *= np.float32(2)


@njit(nogil=True, cache=True)
def _reaching(descending, least):
    """Return the leading elements that are at least ``least``."""
    count = 0
    while count < descending.size and descending[count] >= least:
        count += 1
    return descending[:count]


@njit(nogil=True, cache=True)
def _share(weights, top_p, mass):
    """Return where the running sum reaches ``top_p`` of ``mass`` (0: of all weights), or their number if nowhere."""
    if top_p >= 1:
        return weights.size
    target = top_p * (mass if mass > 0 else weights.sum())
    running = 0.0
    for i in range(weights.size):
        running += weights[i]
        if running >= target:
            return i
    return weights.size


@njit(nogil=True, cache=True)
def _exponentials(scaled):
    """Return e^x of each element, as float64 for the sake of their sums."""
    out = np.empty(scaled.size, np.float64)
    for i in range(scaled.size):
        out[i] = exp32(scaled[i])
    return out


@njit(nogil=True, cache=True)
def _draw(scaled, floor, uniform):
    """Invert the cumulative distribution over the tokens that reach ``floor``, in order of IDs."""
    weights = _exponentials(scaled)
    for i in range(scaled.size):
        if scaled[i] < floor:
            weights[i] = 0.0
    target = uniform * weights.sum()
    running, last = 0.0, 0
    for i in range(weights.size):
        if weights[i] > 0:
            running += weights[i]
            last = i
            if running > target:
                break
    return last


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


@njit(nogil=True, cache=True)
def _log_normalizer(logits, peak):
    return peak + math.log(_exponentials(logits - peak).sum())


def top_logprobs(logits: Array, rows: Ints, tokens: Ints, chosen: Array, ids: Ints, values: Array) -> None:
    """See `kernels.reference.top_logprobs`."""
    for i, row in enumerate(rows):
        ids[i] = _first_largest(logits[row], ids.shape[1])
        normalizer = np.float64(_log_normalizer(logits[row], logits[row].max()))
        chosen[i], values[i] = logits[row, tokens[row]] - normalizer, logits[row, ids[i]] - normalizer


def _first_largest(logits: Array, count: int) -> Ints:
    """Return the IDs of the ``count`` largest logits; of equals the lower ID comes first."""
    if count == 0:
        return np.empty(0, np.int32)
    least = np.partition(logits, -count)[-count]
    candidates = np.flatnonzero(logits >= least)
    return candidates[np.argsort(-logits[candidates], kind="stable")[:count]].astype(np.int32)
