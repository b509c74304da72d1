"""Causal attention over scattered blocks, prefill chunks and decodes in one call.

Online softmax (Milakov and Gimelshein 2018; FlashAttention) block by block, in the order of the sequence, so that a
token's result does not depend on the chunk it came in. A unit of work is one KV head and the queries of a few
neighbouring tokens that share it: about `TILE_ROWS` rows, so that a block is read from memory once for all of them.
Threads take units in turn, which spreads the long ones.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numba
import numpy as np
from numba import njit, prange

from kernels.cpu.scalars import exp32
from kernels.cpu.tiles import LANES, largest_of_16, make_dot_tile, make_mix_tile
from kernels.reference import Array, Ints

BLOCK = 16  # tokens in a block
TILE_ROWS = 16
MIX_VECTORS = 4 if LANES == 16 else 2
MIX_WIDTH = MIX_VECTORS * LANES

dot_4 = make_dot_tile(4, 4)
mix_4 = make_mix_tile(4, MIX_VECTORS)
mix_4_narrow = make_mix_tile(4, 1)

NOTHING = np.float32(-np.inf)


def paged_attention(
    qkv: Array,
    kv: Array,
    layer: int,
    block_tables: Ints,
    slots: Ints,
    query_starts: Ints,
    lengths: Ints,
    scale: float,
    out: Array,
) -> None:
    """See `kernels.reference.paged_attention`; kv contiguous, with 16 tokens a block."""
    threads = numba.get_num_threads()
    _paged_attention(qkv, kv, layer, block_tables, slots, query_starts, lengths, np.float32(scale), out, threads)


@njit(nogil=True, parallel=True, cache=True)
def _paged_attention(qkv, kv, layer, block_tables, slots, query_starts, lengths, scale, out, threads):
    kv_heads = kv.shape[3]
    group = out.shape[1] // kv_heads
    tile_tokens = max(1, TILE_ROWS // group)
    for thread in prange(threads):
        unit = 0
        scratch = _scratch(tile_tokens * group, out.shape[2])
        for row in range(len(slots)):
            end = query_starts[row + 1]
            for first in range(query_starts[row], end, tile_tokens):
                for kv_head in range(kv_heads):
                    if unit % threads == thread:
                        tokens = min(tile_tokens, end - first)
                        position = lengths[row] - (end - first)
                        heads = slice(kv_head * group, (kv_head + 1) * group)
                        queries, outputs = qkv[first : first + tokens, heads], out[first : first + tokens, heads]
                        _attend(
                            queries, kv, layer, block_tables[slots[row]], kv_head, position, scale, outputs, scratch
                        )
                    unit += 1


@njit(nogil=True, cache=True)
def _scratch(rows, head_dim):
    """queries, mixed [rows, head_dim], scores, masses [rows, BLOCK], peaks [rows]; rows rounded up to whole tiles."""
    rows = (rows + 3) // 4 * 4
    queries, mixed = np.zeros((rows, head_dim), np.float32), np.empty((rows, head_dim), np.float32)
    scores, masses = np.zeros((rows, BLOCK), np.float32), np.empty((rows, BLOCK), np.float32)
    return queries, mixed, scores, masses, np.empty(rows, np.float32)


@njit(nogil=True, cache=True)
def _attend(q, kv, layer, block_table, kv_head, position, scale, out, scratch):
    """q, out [tokens, group, head_dim]: neighbours from ``position`` on, and the heads that share ``kv_head``."""
    queries, mixed, scores, masses, peaks = scratch
    tokens, group, head_dim = q.shape
    rows = tokens * group
    for row in range(rows):
        for d in range(head_dim):
            queries[row, d] = q[row // group, row % group, d] * scale
    mixed[:], masses[:], peaks[:] = 0.0, 0.0, NOTHING
    visible = position + tokens  # by the last query
    for number in range((visible + BLOCK - 1) // BLOCK):
        k_at = (((block_table[number] * kv.shape[1] + layer) * 2) * kv.shape[3] + kv_head) * BLOCK * head_dim
        v_at = k_at + kv.shape[3] * BLOCK * head_dim
        for row in range(0, rows, 4):
            for token in range(0, BLOCK, 4):
                dot_4(
                    queries, row * head_dim, head_dim, kv, k_at + token * head_dim, head_dim, head_dim,
                    scores, row * BLOCK + token, BLOCK,
                )  # fmt: skip
        for row in range(rows):
            _softmax_step(scores, row, position + row // group + 1 - number * BLOCK, mixed, masses, peaks)
        _mix(scores, rows, min(BLOCK, visible - number * BLOCK), kv, v_at, mixed)
    for row in range(rows):
        mass = masses[row].sum()
        for d in range(head_dim):
            out[row // group, row % group, d] = mixed[row, d] / mass


@njit(nogil=True, cache=True)
def _softmax_step(scores, row, visible, mixed, masses, peaks):
    """Turn a row's scores of one block into weights relative to the row's peak so far; 0 from ``visible`` on."""
    for token in range(max(0, visible), BLOCK):
        scores[row, token] = NOTHING
    peak = largest_of_16(scores, row * BLOCK)
    if peak > peaks[row]:
        shrink = exp32(peaks[row] - peak)
        peaks[row] = peak
        for d in range(mixed.shape[1]):
            mixed[row, d] *= shrink
        for token in range(BLOCK):
            masses[row, token] *= shrink
    for token in range(BLOCK):
        scores[row, token] = exp32(scores[row, token] - peaks[row])
    for token in range(max(0, visible), BLOCK):
        scores[row, token] = 0.0
    for token in range(BLOCK):
        masses[row, token] += scores[row, token]


@njit(nogil=True, cache=True)
def _mix(weights, rows, count, kv, v_at, mixed):
    """``mixed[:rows] += weights[:rows, :count] @ values``: never reads the block's tokens from ``count`` on."""
    head_dim = mixed.shape[1]
    for row in range(0, rows, 4):
        d = 0
        while d + MIX_WIDTH <= head_dim:
            mix_4(weights, row * BLOCK, BLOCK, count, kv, v_at + d, head_dim, mixed, row * head_dim + d, head_dim)
            d += MIX_WIDTH
        while d + LANES <= head_dim:
            mix_4_narrow(
                weights, row * BLOCK, BLOCK, count, kv, v_at + d, head_dim, mixed, row * head_dim + d, head_dim
            )
            d += LANES
        if d < head_dim:
            _mix_rest(weights, row, count, kv.reshape(-1), v_at, mixed, d)


@njit(nogil=True, cache=True)
def _mix_rest(weights, row, count, values, v_at, mixed, begin):
    head_dim = mixed.shape[1]
    for r in range(row, row + 4):
        for token in range(count):
            for d in range(begin, head_dim):
                mixed[r, d] += weights[r, token] * values[v_at + token * head_dim + d]
