"""Rotary embedding of queries and keys, and the store of keys and values: what stands between qkv and attention.

A block of the pool holds 16 tokens of one head in vectors of 64 bytes, so that attention loads nothing but whole ones.
Keys [head_dim / n][token][n] and values [16 / n][head_dim][n], where n elements make 4 bytes: pairs of bfloat16, or one
float32. ``head_dim`` is padded to a multiple of 16; what is padded is 0 in queries and keys, and ignored in values.

512 tokens of 9 query and 3 KV heads of 64 dimensions, 30 times: 3.1 ms on two Zen 5 cores.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.memory import floats, ints, longs, shorts
from kernels.cpu.step.norm import inverse_rms
from kernels.cpu.step.rows import unit_rows
from kernels.cpu.step.step_input import POOL, POSITIONS, SLOT_MAPPING, TOKENS
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import FLOATS, LANES, LONG, emitted

(
    QKV,  # float32 [tokens, heads, head_dim]: all q, all k, all v
    STRIDE,
    HEADS,
    KV_HEADS,
    HEAD_DIM,
    PADDED_DIM,
    COS,  # float32 [positions, head_dim / 2]
    SIN,
    QUERIES,  # [tokens, heads, padded_dim] of the pool's element type
    ITEM,  # bytes of an element of the pool
    BLOCK_BYTES,  # of a block in all layers
    KEYS,  # bytes from a block's begin to this layer's keys
    VALUES,
    Q_NORM,  # float32 [head_dim], or 0
    K_NORM,
    EPS,
    SCALE,  # of the queries: float32 as an integer of its bits
) = range(3, 20)


@emitted(3)
def _round(emit, values, out, count):
    """Write float32 as bfloat16; count is a multiple of 16."""
    with emit.loop(emit.builder.lshr(count, LONG(4))) as index:
        rounded = emit.rounded_to_bfloat(emit.load(FLOATS, values, emit.times(index, 4 * LANES)))
        emit.store(rounded, out, emit.times(index, 2 * LANES))


@njit(nogil=True, cache=True, error_model="numpy")
def _rotated(op, head, weight, position, scale, out):
    """Write a head's numbers, normed if there is a weight, rotated and scaled, to float32 at ``out``."""
    operands = longs(op)
    half = operands[HEAD_DIM] // 2
    x, y, factor = floats(head), floats(out), np.float32(1.0)
    if weight != 0:
        factor = inverse_rms(head, 2 * half, operands[EPS])
        w = floats(weight)
        for i in range(2 * half):
            y[i] = x[i] * factor * w[i]
        x = y
    cos, sin = floats(operands[COS] + position * half * 4), floats(operands[SIN] + position * half * 4)
    for i in range(half):
        a, b = x[i], x[half + i]
        y[i] = (a * cos[i] - b * sin[i]) * scale
        y[half + i] = (b * cos[i] + a * sin[i]) * scale


@njit(nogil=True, cache=True)
def _copy(source, target, units, stride):
    """Copy 4 bytes at a time, to every ``stride``-th place."""
    x, y = ints(source), ints(target)
    for i in range(units):
        y[i * stride] = x[i]


@njit(nogil=True, cache=True)
def _store(op, values, out):
    """Pad a head's float32 with zeros and write them in the pool's type; return how often 4 bytes they are."""
    operands = longs(op)
    dim, padded = operands[HEAD_DIM], operands[PADDED_DIM]
    x = floats(values)
    for i in range(dim, padded):
        x[i] = np.float32(0.0)
    if operands[ITEM] == 2:
        _round(values, out, padded)
        return padded // 2
    _copy(values, out, padded, 1)
    return padded


@njit(nogil=True, cache=True)
def _store_value(op, values, block, token):
    operands = longs(op)
    dim, row_bytes = operands[HEAD_DIM], operands[PADDED_DIM] * 4
    if operands[ITEM] == 4:
        _copy(values, block + token * row_bytes, dim, 1)
        return
    x, y = shorts(values), shorts(block + token // 2 * row_bytes + token % 2 * 2)
    for i in range(dim):
        y[2 * i] = x[i]


@unit_kernel
def rotate_and_store(op, step, unit, scratch):
    """Make the queries of rows ready for attention, and write their keys and values to the pool."""
    operands, inputs = longs(op), longs(step)
    heads, kv_heads, dim = operands[HEADS], operands[KV_HEADS], operands[HEAD_DIM]
    head_bytes, row_bytes = operands[PADDED_DIM] * operands[ITEM], dim * 4
    kv_head_bytes = 16 * head_bytes
    scale = np.int32(operands[SCALE]).view(np.float32)
    stored = scratch + operands[PADDED_DIM] * 4
    first, last = unit_rows(step, unit, inputs[TOKENS])
    for row in range(first, last):
        position = ints(inputs[POSITIONS])[row]
        slot = longs(inputs[SLOT_MAPPING])[row]
        qkv = operands[QKV] + row * operands[STRIDE]
        for head in range(heads):
            _rotated(op, qkv + head * row_bytes, operands[Q_NORM], position, scale, scratch)
            _store(op, scratch, operands[QUERIES] + (row * heads + head) * head_bytes)
        block = inputs[POOL] + slot // 16 * operands[BLOCK_BYTES]
        for head in range(kv_heads):
            key = qkv + (heads + head) * row_bytes
            _rotated(op, key, operands[K_NORM], position, np.float32(1.0), scratch)
            units = _store(op, scratch, stored)
            _copy(stored, block + operands[KEYS] + head * kv_head_bytes + slot % 16 * 4, units, 16)
            _copy(key + kv_heads * row_bytes, scratch, dim, 1)
            _store(op, scratch, stored)
            _store_value(op, stored, block + operands[VALUES] + head * kv_head_bytes, slot % 16)
