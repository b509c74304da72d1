"""Rotary embedding and storing of keys and values, each by itself and in one pass.

A thread rotates one vector of a head's first half with its partner in the second. Registers: 64 a thread.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64

from kernels.cuda.elements import FLOAT32, Elements
from kernels.cuda.kernel import BLOCK_SHIFT, BLOCK_TOKENS, Bytes, Ints, Kernel, Longs, device

REGISTERS = 64
THREADS = 128


def _make_rotate(width):
    """Make the function that rotates the pairs (first[i], second[i]) by vector ``lane`` of a row of cos and sin."""
    load_table, pieces = FLOAT32.load_constant, width // 4

    @device
    def rotate(first, second, cos, sin, row, lane):
        c, s = cuda.local.array(4, float32), cuda.local.array(4, float32)
        for piece in range(pieces):
            load_table(cos, int64(row + lane * pieces + piece), c)
            load_table(sin, int64(row + lane * pieces + piece), s)
            for i in range(4):
                a, b = first[4 * piece + i], second[4 * piece + i]
                first[4 * piece + i] = a * c[i] - b * s[i]
                second[4 * piece + i] = b * c[i] + a * s[i]

    return rotate


@device
def _vector_in_pool(slot_mapping, token, layer, layers, kv_heads, number, vectors):
    """Return the vector where K/V head ``number`` (keys, then values) of a token begins in the pool."""
    index = slot_mapping[token]
    block, offset = index >> BLOCK_SHIFT, index & (BLOCK_TOKENS - 1)
    return ((((block * layers + layer) * 2 * kv_heads + number) << BLOCK_SHIFT) + offset) * vectors


def _threads(elements: Elements, head_dim: int) -> tuple[int, int]:
    """Return the vectors of half a head, and the heads at a time."""
    half = head_dim // 2 // elements.width
    return half, THREADS // half


@cache
def rope(elements: Elements, head_dim: int) -> Kernel:
    """Rotate heads. Grid: tokens, groups of heads."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)
    rotate, table = _make_rotate(width), head_dim // 2 // 4

    def kernel(qkv, all_heads, heads, positions, cos, sin):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        head = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        if head < heads:
            first, second = cuda.local.array(width, float32), cuda.local.array(width, float32)
            at = (int64(token) * all_heads + head) * 2 * half + lane
            load(qkv, int64(at), first)
            load(qkv, int64(at + half), second)
            rotate(first, second, cos, sin, int64(positions[token]) * table, lane)
            store(qkv, int64(at), first)
            store(qkv, int64(at + half), second)

    parameters = (Bytes, int32, int32, Ints, Bytes, Bytes)
    return Kernel(f"rope_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)


@cache
def store_kv(elements: Elements, head_dim: int) -> Kernel:
    """Store keys and values. Grid: tokens, groups of key and value heads."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)

    def kernel(kv, layers, kv_heads, layer, qkv, all_heads, slot_mapping):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        number = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        if number < 2 * kv_heads:
            values = cuda.local.array(width, float32)
            at = (int64(token) * all_heads + all_heads - 2 * kv_heads + number) * 2 * half + lane
            to = _vector_in_pool(slot_mapping, token, layer, layers, kv_heads, number, 2 * half) + lane
            for piece in range(2):
                load(qkv, int64(at + piece * half), values)
                store(kv, int64(to + piece * half), values)

    parameters = (Bytes, int32, int32, int32, Bytes, int32, Longs)
    return Kernel(f"store_kv_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)


@cache
def rope_store_kv(elements: Elements, head_dim: int) -> Kernel:
    """Rotate queries in place, rotate keys on their way to the pool, store values. Grid: tokens, groups of heads."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)
    rotate, table = _make_rotate(width), head_dim // 2 // 4

    def kernel(kv, layers, kv_heads, layer, qkv, all_heads, positions, cos, sin, slot_mapping):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        head = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        number = head - (all_heads - 2 * kv_heads)
        if head < all_heads:
            first, second = cuda.local.array(width, float32), cuda.local.array(width, float32)
            at = (int64(token) * all_heads + head) * 2 * half + lane
            load(qkv, int64(at), first)
            load(qkv, int64(at + half), second)
            if number < kv_heads:
                rotate(first, second, cos, sin, int64(positions[token]) * table, lane)
            if number < 0:
                store(qkv, int64(at), first)
                store(qkv, int64(at + half), second)
            else:
                to = _vector_in_pool(slot_mapping, token, layer, layers, kv_heads, number, 2 * half) + lane
                store(kv, int64(to), first)
                store(kv, int64(to + half), second)

    parameters = (Bytes, int32, int32, int32, Bytes, int32, Ints, Bytes, Bytes, Longs)
    return Kernel(f"rope_store_kv_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)
