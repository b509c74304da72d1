"""Rotary embedding of queries and keys, and the store of keys and values: what stands between qkv and attention.

A block of the pool holds 16 tokens of one head in vectors of 64 bytes, so that attention loads nothing but whole ones.
Keys [head_dim / n][token][n] and values [16 / n][head_dim][n], where n elements make 4 bytes: pairs of bfloat16, or one
float32. ``head_dim`` is padded to a multiple of 16; what is padded is 0 in queries and keys, and ignored in values.

512 tokens of 9 query and 3 KV heads of 64 dimensions, 30 times: 4.9 ms on two Zen 5 cores.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.memory import floats, ints, longs, shorts
from kernels.cpu.step.norm import inverse_rms
from kernels.cpu.step.rows import unit_rows
from kernels.cpu.step.step_input import POOL, POSITIONS, SLOT_MAPPING, TOKENS
from kernels.cpu.step.unit_kernel import unit_kernel

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


@njit(nogil=True, cache=True, inline="always")
def bfloat(value):
    """Return the bits of a float32 as bfloat16, to nearest even; a NaN stays one."""
    bits = np.float32(value).view(np.uint32)
    if np.isnan(value):
        return np.uint16((bits | np.uint32(0x400000)) >> np.uint32(16))
    return np.uint16((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16))


@njit(nogil=True, cache=True)
def _put(address, index, item, value):
    """Store element ``index`` of an array of the pool's type."""
    if item == 2:
        shorts(address)[index] = bfloat(value)
    else:
        floats(address)[index] = value


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
def _store_query(op, values, out):
    operands = longs(op)
    dim, item = operands[HEAD_DIM], operands[ITEM]
    x = floats(values)
    for i in range(dim):
        _put(out, i, item, x[i])
    for i in range(dim, operands[PADDED_DIM]):
        _put(out, i, item, np.float32(0.0))


@njit(nogil=True, cache=True, error_model="numpy")
def _store_key(op, values, block, token):
    operands = longs(op)
    dim, item = operands[HEAD_DIM], operands[ITEM]
    per = 4 // item
    x = floats(values)
    for i in range(operands[PADDED_DIM]):
        value = x[i] if i < dim else np.float32(0.0)
        _put(block, (i // per * 16 + token) * per + i % per, item, value)


@njit(nogil=True, cache=True, error_model="numpy")
def _store_value(op, values, block, token):
    operands = longs(op)
    item = operands[ITEM]
    per = 4 // item
    x = floats(values)
    first = token // per * operands[PADDED_DIM] * per + token % per
    for i in range(operands[HEAD_DIM]):
        _put(block, first + i * per, item, x[i])


@unit_kernel
def rotate_and_store(op, step, unit, scratch):
    """Make the queries of rows ready for attention, and write their keys and values to the pool."""
    operands, inputs = longs(op), longs(step)
    heads, kv_heads, dim = operands[HEADS], operands[KV_HEADS], operands[HEAD_DIM]
    head_bytes, row_bytes = operands[PADDED_DIM] * operands[ITEM], dim * 4
    kv_head_bytes = 16 * head_bytes
    scale = np.int32(operands[SCALE]).view(np.float32)
    first, last = unit_rows(step, unit, inputs[TOKENS])
    for row in range(first, last):
        position = ints(inputs[POSITIONS])[row]
        slot = longs(inputs[SLOT_MAPPING])[row]
        qkv = operands[QKV] + row * operands[STRIDE]
        for head in range(heads):
            _rotated(op, qkv + head * row_bytes, operands[Q_NORM], position, scale, scratch)
            _store_query(op, scratch, operands[QUERIES] + (row * heads + head) * head_bytes)
        block = inputs[POOL] + slot // 16 * operands[BLOCK_BYTES]
        for head in range(kv_heads):
            key = qkv + (heads + head) * row_bytes
            _rotated(op, key, operands[K_NORM], position, np.float32(1.0), scratch)
            _store_key(op, scratch, block + operands[KEYS] + head * kv_head_bytes, slot % 16)
            value = key + kv_heads * row_bytes
            _store_value(op, value, block + operands[VALUES] + head * kv_head_bytes, slot % 16)
