"""What a warp computes for its sixteen lines of `prefill`: scores, softmax and mixing, in tensor cores' fragments.

A *line* is a query token's head. Queries, scores and sums stay in registers. A thread has two lines, eight apart (its
*halves*), of scores [16, keys] and sums [16, head_dim], and of each the columns ``2n`` and ``2n + 1`` of every tile of
eight, where n is its number among four neighbouring lanes. Scores become weights in place, and two tiles of weights
already have the layout of a left factor. K and V are in shared memory, ``pitch`` vectors a token.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import cuda
from numba.cuda.types import int32

from kernels.cuda.attention import LOWEST
from kernels.cuda.kernel import device
from kernels.cuda.reductions import ALL_LANES
from kernels.cuda.words import divide, exp2, load_matrices, load_matrices_transposed

KEYS_SHIFT = 6
KEYS = 1 << KEYS_SHIFT  # tokens of K and V in shared memory at a time


def make_add_product(multiply):
    """Make the function that adds a [16, 16] @ b [16, 8] to a tile of ``sums`` [tiles, 4]."""

    @device
    def add_product(sums, tile, a0, a1, a2, a3, b0, b1):
        sums[tile, 0], sums[tile, 1], sums[tile, 2], sums[tile, 3] = multiply(
            a0, a1, a2, a3, b0, b1, sums[tile, 0], sums[tile, 1], sums[tile, 2], sums[tile, 3]
        )

    return add_product


def make_load(steps, pitch):
    """Make the function that loads a warp's lines, from ``line`` on, of shared memory into q [steps, 4] words."""

    @device
    def load(lines, line, q):
        lane = int32(int32(cuda.threadIdx.x) & 31)
        at = int32((line + int32(lane & 15)) * pitch + int32(lane >> 4))
        for step in range(steps):
            q[step, 0], q[step, 1], q[step, 2], q[step, 3] = load_matrices(lines, int32(at + 2 * step))

    return load


def make_clear(sum_tiles):
    """Make the function that starts a thread's lines, without any weights yet."""

    @device
    def clear(sums, peaks, masses):
        for half in range(2):
            peaks[half], masses[half] = LOWEST, 0.0
        for tile in range(sum_tiles):
            for i in range(4):
                sums[tile, i] = 0.0

    return clear


def make_score(add_product, steps, pitch):
    """Make ``scores = q @ keys``; the rows of keys in shared memory are the right factor's columns."""

    @device
    def score(q, keys, scores):
        lane = int32(int32(cuda.threadIdx.x) & 31)
        at = int32(int32((lane & 7) + (int32(lane >> 4) << 3)) * pitch + (int32(lane >> 3) & 1))
        for tile in range(KEYS // 8):
            for i in range(4):
                scores[tile, i] = 0.0
        for step in range(steps):
            for part in range(KEYS // 16):
                a, b, c, d = load_matrices(keys, int32(at + part * 16 * pitch + 2 * step))
                add_product(scores, 2 * part, q[step, 0], q[step, 1], q[step, 2], q[step, 3], a, b)
                add_product(scores, 2 * part + 1, q[step, 0], q[step, 1], q[step, 2], q[step, 3], c, d)

    return score


@device
def mask(scores, half, reach):
    """Hide a line's scores in columns beyond ``reach``, counted from the thread's first."""
    for tile in range(KEYS // 8):
        for i in range(2):
            if tile * 8 + i > reach:
                scores[tile, 2 * half + i] = LOWEST


def make_softmax(sum_tiles):
    """Make the function that turns a line's scores into weights, and shrinks what it has to its new peak."""

    @device
    def softmax(scores, half, scale, sums, peaks, masses):
        peak = peaks[half]
        for tile in range(KEYS // 8):
            for i in range(2):
                peak = max(peak, scores[tile, 2 * half + i])
        peak = max(peak, cuda.shfl_xor_sync(ALL_LANES, peak, 1))
        peak = max(peak, cuda.shfl_xor_sync(ALL_LANES, peak, 2))
        top, shrink = peak * scale, exp2((peaks[half] - peak) * scale)
        peaks[half] = peak
        masses[half] *= shrink
        for tile in range(KEYS // 8):
            for i in range(2):
                weight = exp2(scores[tile, 2 * half + i] * scale - top)
                scores[tile, 2 * half + i] = weight
                masses[half] += weight
        for tile in range(sum_tiles):
            for i in range(2):
                sums[tile, 2 * half + i] *= shrink

    return softmax


def make_mix(add_product, pack, steps, pitch):
    """Make ``sums += weights @ values``; the weights are rounded to the values' type."""

    @device
    def mix(weights, values, sums):
        lane = int32(int32(cuda.threadIdx.x) & 31)
        at = int32((lane & 15) * pitch + int32(lane >> 4))
        for part in range(KEYS // 16):
            t = 2 * part
            w0, w1 = pack(weights[t, 0], weights[t, 1]), pack(weights[t, 2], weights[t, 3])
            w2, w3 = pack(weights[t + 1, 0], weights[t + 1, 1]), pack(weights[t + 1, 2], weights[t + 1, 3])
            for step in range(steps):
                a, b, c, d = load_matrices_transposed(values, int32(at + part * 16 * pitch + 2 * step))
                add_product(sums, 2 * step, w0, w1, w2, w3, a, b)
                add_product(sums, 2 * step + 1, w0, w1, w2, w3, c, d)

    return mix


def make_unload(pack, sum_tiles, pitch):
    """Make the function that writes sums divided by masses to a warp's lines, from ``line`` on, of shared memory."""

    @device
    def unload(sums, masses, line, lines):
        lane = int32(int32(cuda.threadIdx.x) & 31)
        for half in range(2):
            mass = masses[half] + cuda.shfl_xor_sync(ALL_LANES, masses[half], 1)
            mass += cuda.shfl_xor_sync(ALL_LANES, mass, 2)
            at = int32((line + int32(lane >> 2) + 8 * half) * (4 * pitch) + int32(lane & 3))
            for tile in range(sum_tiles):
                low, high = sums[tile, 2 * half], sums[tile, 2 * half + 1]
                lines[at + 4 * tile] = pack(divide(low, mass), divide(high, mass))

    return unload
