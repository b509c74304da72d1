"""Causal attention over scattered blocks, for prefill chunks and decodes in one call.

A unit of work is one KV head and the queries of a few neighbouring tokens that share it: about `TILE_ROWS` rows, so
that a block is read from memory once for all of them. A unit computes all its scores, then the softmax, then the sum of
values: the scores fit the cache, and without running maxima nothing is rescaled. Threads take units in turn, which
spreads the long ones. Sums follow the sequence's order, so a result does not depend on the chunk its token came in.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numba
import numpy as np
from numba import njit, prange

from kernels.cpu.scalars import exp32
from kernels.cpu.tiles import LANES, largest_of_16, make_dot_tile, make_mix_tile, prefetch
from kernels.reference import Array, Ints

BLOCK = 16  # tokens in a block
TILE_ROWS = 16
MIX_VECTORS = 4 if LANES == 16 else 2
MIX_WIDTH = MIX_VECTORS * LANES

dot_4 = make_dot_tile(4, 4)
mix_4 = make_mix_tile(4, MIX_VECTORS)
mix_4_narrow = make_mix_tile(4, 1)

MINUS_INFINITY = np.float32(-np.inf)


def paged_attention(
    qkv: Array,
    kv: Array,
    layer: int,
    block_tables: Ints,
    slots: Ints,
    query_start_loc: Ints,
    seq_lens: Ints,
    scale: float,
    out: Array,
) -> None:
    """See `kernels.reference.paged_attention`; kv is contiguous and has 16 tokens a block."""
    threads = numba.get_num_threads()
    _paged_attention(qkv, kv, layer, block_tables, slots, query_start_loc, seq_lens, np.float32(scale), out, threads)


@njit(nogil=True, parallel=True, cache=True)
def _paged_attention(qkv, kv, layer, block_tables, slots, query_start_loc, seq_lens, scale, out, threads):
    kv_heads = kv.shape[3]
    group = out.shape[1] // kv_heads
    tile_tokens = max(1, TILE_ROWS // group)
    for thread in prange(threads):
        unit = 0
        scratch = _scratch(tile_tokens * group, out.shape[2], seq_lens.max())
        for row in range(len(slots)):
            end = query_start_loc[row + 1]
            for first in range(query_start_loc[row], end, tile_tokens):
                for kv_head in range(kv_heads):
                    if unit % threads == thread:
                        tokens = min(tile_tokens, end - first)
                        position = seq_lens[row] - (end - first)
                        heads = slice(kv_head * group, (kv_head + 1) * group)
                        queries, outputs = qkv[first : first + tokens, heads], out[first : first + tokens, heads]
                        _attend(
                            queries, kv, layer, block_tables[slots[row]], kv_head, position, scale, outputs, scratch
                        )
                    unit += 1


@njit(nogil=True, cache=True)
def _scratch(rows, head_dim, length):
    """Return queries, mixed [rows, head_dim], masses [rows], scores [rows, length], all rounded up to whole tiles."""
    rows = (rows + 3) // 4 * 4
    columns = (length + BLOCK - 1) // BLOCK * BLOCK
    queries, mixed = np.zeros((rows, head_dim), np.float32), np.empty((rows, head_dim), np.float32)
    return queries, mixed, np.empty(rows, np.float32), np.zeros((rows, columns), np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _attend(q, kv, layer, block_table, kv_head, position, scale, out, scratch):
    """Attend for the tokens from ``position`` on and the heads that share kv_head; q, out [tokens, group, head_dim]."""
    queries, mixed, masses, scores = scratch
    tokens, group, head_dim = q.shape
    rows, visible = tokens * group, position + tokens
    for row in range(rows):
        for d in range(head_dim):
            queries[row, d] = q[row // group, row % group, d] * scale
    mixed[:] = 0.0
    k_at, step = (layer * 2 * kv.shape[3] + kv_head) * BLOCK * head_dim, kv[0].size
    v_at = k_at + kv.shape[3] * BLOCK * head_dim
    _score(queries, rows, kv, k_at, step, block_table, visible, scores)
    for row in range(rows):
        masses[row] = _softmax(scores, row, position + row // group + 1, visible)
    _mix(scores, rows, kv, v_at, step, block_table, visible, mixed)
    for row in range(rows):
        for d in range(head_dim):
            out[row // group, row % group, d] = mixed[row, d] / masses[row]


@njit(nogil=True, cache=True)
def _score(queries, rows, kv, at, step, block_table, visible, scores):
    """Compute ``scores[:rows] = queries @ keys`` by whole blocks; block b's keys begin at ``at + step * b``."""
    head_dim, columns = queries.shape[1], scores.shape[1]
    for number in range((visible + BLOCK - 1) // BLOCK):
        keys = at + step * block_table[number]
        if (number + 1) * BLOCK < visible:
            prefetch(kv, at + step * block_table[number + 1], BLOCK * head_dim)
        for row in range(0, rows, 4):
            for token in range(0, BLOCK, 4):
                column = row * columns + number * BLOCK + token
                dot_4(
                    queries, row * head_dim, head_dim, kv, keys + token * head_dim, head_dim, head_dim,
                    scores, column, columns,
                )  # fmt: skip


@njit(nogil=True, cache=True)
def _softmax(scores, row, own, visible):
    """Turn a row's first ``own`` scores into weights and the others into 0; return the sum of the weights."""
    columns = scores.shape[1]
    weights = scores[row]
    whole = (own + BLOCK - 1) // BLOCK * BLOCK
    weights[own:whole] = MINUS_INFINITY
    peak = MINUS_INFINITY
    for at in range(0, whole, BLOCK):
        peak = max(peak, largest_of_16(scores, row * columns + at))
    for token in range(own):
        weights[token] = exp32(weights[token] - peak)
    weights[own:visible] = 0.0
    return _total(weights, own)


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _total(weights, count):
    """Sum the first ``count`` weights in an order that depends on the count alone."""
    total = np.float32(0.0)
    for token in range(count):
        total += weights[token]
    return total


@njit(nogil=True, cache=True)
def _mix(weights, rows, kv, at, step, block_table, visible, mixed):
    """Compute ``mixed[:rows] += weights @ values``; tokens that are not visible are never read."""
    head_dim, columns = mixed.shape[1], weights.shape[1]
    for number in range((visible + BLOCK - 1) // BLOCK):
        values = at + step * block_table[number]
        if (number + 1) * BLOCK < visible:
            prefetch(kv, at + step * block_table[number + 1], BLOCK * head_dim)
        count = min(BLOCK, visible - number * BLOCK)
        for row in range(0, rows, 4):
            w_at, m_at, d = row * columns + number * BLOCK, row * head_dim, 0
            while d + MIX_WIDTH <= head_dim:
                mix_4(weights, w_at, columns, count, kv, values + d, head_dim, mixed, m_at + d, head_dim)
                d += MIX_WIDTH
            while d + LANES <= head_dim:
                mix_4_narrow(weights, w_at, columns, count, kv, values + d, head_dim, mixed, m_at + d, head_dim)
                d += LANES
            if d < head_dim:
                _mix_rest(weights, w_at, count, kv.reshape(-1), values, mixed, row, d)


@njit(nogil=True, cache=True)
def _mix_rest(weights, w_at, count, values, v_at, mixed, row, begin):
    """Do the same for the last elements of heads whose size is no multiple of LANES."""
    head_dim, columns = mixed.shape[1], weights.shape[1]
    for r in range(4):
        for token in range(count):
            weight = weights[row + r, w_at - row * columns + token]
            for d in range(begin, head_dim):
                mixed[row + r, d] += weight * values[v_at + token * head_dim + d]
