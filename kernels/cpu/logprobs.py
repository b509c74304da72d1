"""Log-probabilities of drawn and likeliest tokens: two passes over a row, and a short list kept in order."""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numpy as np
from numba import njit

from kernels.cpu.masses import BLOCK, DEEPEST, block_masses, block_peaks, num_blocks
from kernels.reference import Array, Ints


def top_logprobs(logits: Array, rows: Ints, tokens: Ints, chosen: Array, ids: Ints, values: Array) -> None:
    """See `kernels.reference.top_logprobs`."""
    _top_logprobs(logits, rows, tokens, chosen, ids, values)


@njit(nogil=True, cache=True)
def _top_logprobs(logits, rows, tokens, chosen, ids, values):
    peaks = np.empty(num_blocks(logits.shape[1]), np.float32)
    masses = np.empty(peaks.size, np.float64)
    for i in range(rows.size):
        x = logits[rows[i]]
        peak = block_peaks(x, peaks)
        normalizer = peak + math.log(block_masses(x, peaks, peak, np.float32(1), DEEPEST, masses))
        _first_largest(x, peaks, ids[i])
        chosen[i] = x[tokens[rows[i]]] - normalizer
        for rank in range(ids.shape[1]):
            values[i, rank] = x[ids[i, rank]] - normalizer


@njit(nogil=True, cache=True)
def _first_largest(logits, peaks, ids):
    """Write the IDs of the largest logits, largest first; of equals the lower ID comes first."""
    found = 0
    for block in range(peaks.size if ids.size else 0):
        if found == ids.size and peaks[block] <= logits[ids[found - 1]]:
            continue
        for token in range(block * BLOCK, min((block + 1) * BLOCK, logits.size)):
            if found == ids.size and logits[token] <= logits[ids[found - 1]]:
                continue
            rank = min(found, ids.size - 1)
            while rank > 0 and logits[ids[rank - 1]] < logits[token]:
                ids[rank] = ids[rank - 1]
                rank -= 1
            ids[rank] = token
            found = min(found + 1, ids.size)
