"""Causal attention over the blocks of a ragged batch.

A unit is one KV head and a tile: the queries of a few neighbouring tokens of a row that share it, up to 12 of them, so
that a block is loaded once for all. Contexts are split every `SPLIT` tokens. Each split gives a partial result: its
largest score, the sum of its weights, and the sum of its values by these weights; partial results are joined in order.
A tile walks over its splits by itself, or, so that one long conversation keeps all threads busy, the splits of a single
token are units of their own, which `join` puts together. Both join in the same order, so a token's result depends
neither on its batch nor on its chunk.

On two Zen 5 cores, 30 layers of 3 KV heads of 64 dimensions in bfloat16: 16 rows of 1,000 tokens take 9 to 11 ms,
about 36 GB/s of KV; a prefill of 512 tokens takes 21 to 26 ms. Both are under half of the machine's limits
(`docs/roofline.md`).
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.memory import floats, ints, longs
from kernels.cpu.step.rows import sink, unit_rows
from kernels.cpu.step.softmax import ROW, SPLIT, exponential_of, make_mix, make_score, make_softmax
from kernels.cpu.step.step_input import PARTIALS, POOL, TILE_LIST, TOKENS
from kernels.cpu.step.unit_kernel import unit_kernel

QUERIES, HEADS, KV_HEADS, PADDED_DIM, BLOCK_BYTES, KEYS, VALUES, RESULTS, HEAD_DIM, TAKE = range(3, 13)
# RESULTS: float32 [partial results, heads, padded_dim + 16]: sums of values, the largest score, the sum of weights.

MAX_QUERIES = 12  # of a tile, unless more heads share a KV head
GROUPED = 16  # queries that scratch memory has rows for: heads beyond it are another unit's (see `tiles`)

TILE_FIELDS = 6
FIRST, COUNT, POSITION, TABLE, SPLIT_AT, PARTIAL = range(TILE_FIELDS)
# A tile's first token, tokens, the first one's position, its sequence's block table (an address); the split that it
# computes alone, or -1 for all; where its (first token's) partial result goes.

_Q, _SCORES, _WEIGHTS, _MIXED, _STATE = (GROUPED * ROW * number for number in range(5))
_KEYS_AT = _STATE + GROUPED * ROW
_VALUES_AT = _KEYS_AT + 8 * (SPLIT // 16)
_PEAKS = _VALUES_AT + 8 * (SPLIT // 16)
_TOTALS = _PEAKS + 8 * GROUPED
SCRATCH_BYTES = _TOTALS + 8 * GROUPED

MINUS_INFINITY = np.float32(-np.inf)

score_2_12, score_2_6, score_2_4, score_2_3, score_2_2, score_2_1 = (
    make_score(2, rows) for rows in (12, 6, 4, 3, 2, 1)
)
score_4_8, score_4_4, score_4_2, score_4_1 = (make_score(4, rows) for rows in (8, 4, 2, 1))
mix_2_6, mix_2_4, mix_2_3, mix_2_2, mix_2_1 = (make_mix(2, rows, 4) for rows in (6, 4, 3, 2, 1))
rest_2_6, rest_2_1 = (make_mix(2, rows, 1) for rows in (6, 1))
mix_4_4, mix_4_1, rest_4_4, rest_4_1 = (make_mix(4, rows, vectors) for vectors in (4, 1) for rows in (4, 1))
softmax_2, softmax_4 = make_softmax(2), make_softmax(4)


@njit(nogil=True, cache=True)
def _score_pairs(left, queries, units, keys, blocks, scores):
    """Compute the scores of some of the rows that are left, for a pool of bfloat16, and return how many."""
    if left >= 12:
        score_2_12(queries, units, keys, blocks, scores)
        return 12
    if left >= 6:
        score_2_6(queries, units, keys, blocks, scores)
        return 6
    if left >= 4:
        score_2_4(queries, units, keys, blocks, scores)
        return 4
    if left == 3:
        score_2_3(queries, units, keys, blocks, scores)
        return 3
    if left == 2:
        score_2_2(queries, units, keys, blocks, scores)
        return 2
    score_2_1(queries, units, keys, blocks, scores)
    return 1


@njit(nogil=True, cache=True)
def _score_singles(left, queries, units, keys, blocks, scores):
    """The same for a pool of float32."""
    if left >= 8:
        score_4_8(queries, units, keys, blocks, scores)
        return 8
    if left >= 4:
        score_4_4(queries, units, keys, blocks, scores)
        return 4
    if left >= 2:
        score_4_2(queries, units, keys, blocks, scores)
        return 2
    score_4_1(queries, units, keys, blocks, scores)
    return 1


@njit(nogil=True, cache=True)
def _mix_pairs(left, is_wide, weights, values, tokens, stride, mixed):
    """Sum the values of some of the rows that are left, for a pool of bfloat16, and return how many."""
    if not is_wide:
        if left >= 6:
            rest_2_6(weights, values, tokens, stride, mixed)
            return 6
        rest_2_1(weights, values, tokens, stride, mixed)
        return 1
    if left >= 6:
        mix_2_6(weights, values, tokens, stride, mixed)
        return 6
    if left >= 4:
        mix_2_4(weights, values, tokens, stride, mixed)
        return 4
    if left == 3:
        mix_2_3(weights, values, tokens, stride, mixed)
        return 3
    if left == 2:
        mix_2_2(weights, values, tokens, stride, mixed)
        return 2
    mix_2_1(weights, values, tokens, stride, mixed)
    return 1


@njit(nogil=True, cache=True)
def _mix_singles(left, is_wide, weights, values, tokens, stride, mixed):
    """The same for a pool of float32."""
    if left >= 4:
        if is_wide:
            mix_4_4(weights, values, tokens, stride, mixed)
        else:
            rest_4_4(weights, values, tokens, stride, mixed)
        return 4
    if is_wide:
        mix_4_1(weights, values, tokens, stride, mixed)
    else:
        rest_4_1(weights, values, tokens, stride, mixed)
    return 1


@njit(nogil=True, cache=True)
def _score(item, rows, scratch, units, blocks):
    """Compute the scores of all rows, some at a time."""
    row = 0
    while row < rows:
        queries, scores = scratch + _Q + row * ROW, scratch + _SCORES + row * ROW
        if item == 2:
            row += _score_pairs(rows - row, queries, units, scratch + _KEYS_AT, blocks, scores)
        else:
            row += _score_singles(rows - row, queries, units, scratch + _KEYS_AT, blocks, scores)


@njit(nogil=True, cache=True)
def _mix(item, rows, scratch, tokens, dim):
    """Compute the sums of values of all rows, some rows and 64 or 16 dimensions at a time."""
    values = longs(scratch + _VALUES_AT)
    first = 0
    while first < dim:
        is_wide = dim - first >= 64
        row = 0
        while row < rows:
            weights, mixed = scratch + _WEIGHTS + row * ROW, scratch + _MIXED + row * ROW + 4 * first
            if item == 2:
                row += _mix_pairs(rows - row, is_wide, weights, scratch + _VALUES_AT, tokens, 4 * dim, mixed)
            else:
                row += _mix_singles(rows - row, is_wide, weights, scratch + _VALUES_AT, tokens, 4 * dim, mixed)
        done = 64 if is_wide else 16
        for block in range((tokens + 15) // 16):
            values[block] += 4 * done
        first += done


@njit(nogil=True, cache=True)
def _split(op, step, kv_head, table, rows, per_token, position, begin, end, item, scratch):
    """Compute the partial results of a tile's rows over tokens ``begin`` to ``end``."""
    operands = longs(op)
    dim, block_bytes = operands[PADDED_DIM], operands[BLOCK_BYTES]
    head_at = kv_head * 16 * dim * item
    blocks = (end - begin + 15) // 16
    keys, values = longs(scratch + _KEYS_AT), longs(scratch + _VALUES_AT)
    for index in range(blocks):
        block = longs(step)[POOL] + ints(table)[begin // 16 + index] * block_bytes + head_at
        keys[index], values[index] = block + operands[KEYS], block + operands[VALUES]
    _score(item, rows, scratch, dim * item // 4, blocks)
    for row in range(rows):
        own = min(end, position + row // per_token + 1) - begin
        scores, weights, peak = (
            scratch + _SCORES + row * ROW,
            scratch + _WEIGHTS + row * ROW,
            scratch + _PEAKS + 8 * row,
        )
        if own <= 0:  # an earlier token than this split's: nothing to see here
            own = 1
        if item == 2:
            softmax_2(scores, own, blocks, weights, peak)
        else:
            softmax_4(scores, own, blocks, weights, peak)
    _mix(item, rows, scratch, end - begin, dim)


@njit(nogil=True, cache=True, inline="always")
def _power(x):
    return exponential_of(np.int64(np.float32(x).view(np.int32)))


@njit(nogil=True, cache=True)
def _join(state, totals, part, peak_and_mass, dim):
    """Add a partial result to those joined so far: float32 [dim] at ``state``, peak and mass at ``totals``."""
    total, new = floats(totals), floats(peak_and_mass)
    peak = new[0] if new[0] > total[0] else total[0]
    before, after = _power(total[0] - peak), _power(new[0] - peak)
    joined, values = floats(state), floats(part)
    for i in range(dim):
        joined[i] = joined[i] * before + values[i] * after
    total[0], total[1] = peak, total[1] * before + new[1] * after


@njit(nogil=True, cache=True)
def _empty(state, totals, dim):
    """Begin to join."""
    joined, total = floats(state), floats(totals)
    for i in range(dim):
        joined[i] = np.float32(0.0)
    total[0], total[1] = MINUS_INFINITY, np.float32(0.0)


@njit(nogil=True, cache=True)
def _attend(op, step, unit, item, scratch):
    operands = longs(op)
    heads, dim, take = operands[HEADS], operands[PADDED_DIM], operands[TAKE]
    per_tile = heads // take
    tile = longs(longs(step)[TILE_LIST] + unit // per_tile * 8 * TILE_FIELDS)
    head = unit % per_tile * take
    count, position, alone = tile[COUNT], tile[POSITION], tile[SPLIT_AT]
    rows = count * take
    words = dim * item // 4
    for row in range(rows):
        number = (tile[FIRST] + row // take) * heads + head + row % take
        source, target = ints(operands[QUERIES] + number * dim * item), ints(scratch + _Q + row * ROW)
        for i in range(words):
            target[i] = source[i]
        _empty(scratch + _STATE + row * ROW, scratch + _TOTALS + 8 * row, dim)
    visible = position + count
    first, last = (alone, alone + 1) if alone >= 0 else (0, (visible + SPLIT - 1) // SPLIT)
    kv_head = head // (heads // operands[KV_HEADS])
    for split in range(first, last):
        begin, end = split * SPLIT, min(visible, (split + 1) * SPLIT)
        _split(op, step, kv_head, tile[TABLE], rows, take, position, begin, end, item, scratch)
        for row in range(rows):
            if position + row // take >= begin:
                state, totals = scratch + _STATE + row * ROW, scratch + _TOTALS + 8 * row
                _join(state, totals, scratch + _MIXED + row * ROW, scratch + _PEAKS + 8 * row, dim)
    result_bytes = (dim + 16) * 4
    for row in range(rows):
        number = (tile[PARTIAL] + row // take) * heads + head + row % take
        out, state = floats(operands[RESULTS] + number * result_bytes), floats(scratch + _STATE + row * ROW)
        for i in range(dim):
            out[i] = state[i]
        total = floats(scratch + _TOTALS + 8 * row)
        out[dim], out[dim + 1] = total[0], total[1]


@unit_kernel
def attend_bfloat16(op, step, unit, scratch):
    """Compute a tile's partial results, or the joined ones, for some heads; the pool holds bfloat16."""
    _attend(op, step, unit, 2, scratch)


@unit_kernel
def attend_float32(op, step, unit, scratch):
    """The same; the pool holds float32."""
    _attend(op, step, unit, 4, scratch)


@unit_kernel
def join(op, step, unit, scratch):
    """Join the partial results of tokens, and leave all heads' as activations for the product that follows."""
    operands, inputs = longs(op), longs(step)
    heads, dim, head_dim = operands[HEADS], operands[PADDED_DIM], operands[HEAD_DIM]
    result_bytes = (dim + 16) * 4
    first, last = unit_rows(step, unit, inputs[TOKENS])
    state, totals, row_at = scratch + _STATE, scratch + _TOTALS, scratch + SCRATCH_BYTES
    out = floats(row_at)
    for token in range(first, last):
        partial = longs(inputs[PARTIALS] + 16 * token)
        for head in range(heads):
            _empty(state, totals, dim)
            for number in range(partial[0], partial[0] + partial[1]):
                part = operands[RESULTS] + (number * heads + head) * result_bytes
                _join(state, totals, part, part + 4 * dim, dim)
            joined, mass = floats(state), floats(totals)[1]
            for i in range(head_dim):
                out[head * head_dim + i] = joined[i] / mass
        sink(op, token, row_at, 0, heads * head_dim)
