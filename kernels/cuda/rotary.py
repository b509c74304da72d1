"""Rotary embedding and storing of keys and values, apart and in one pass.

A thread turns one vector of a head's first half with its partner in the second. Registers: 64 a thread.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64

from kernels.cuda.elements import FLOAT32, Elements
from kernels.cuda.kernel import BLOCK_SHIFT, BLOCK_TOKENS, Bytes, Ints, Kernel, Longs, device

REGISTERS = 64
THREADS = 128


def _make_turn(width):
    """Turn the pairs (first[i], second[i]) by vector ``lane`` of a row of the tables."""
    load_table, pieces = FLOAT32.load_constant, width // 4

    @device
    def turn(first, second, cos, sin, row, lane):
        c, s = cuda.local.array(4, float32), cuda.local.array(4, float32)
        for piece in range(pieces):
            load_table(cos, int64(row + lane * pieces + piece), c)
            load_table(sin, int64(row + lane * pieces + piece), s)
            for i in range(4):
                a, b = first[4 * piece + i], second[4 * piece + i]
                first[4 * piece + i] = a * c[i] - b * s[i]
                second[4 * piece + i] = b * c[i] + a * s[i]

    return turn


@device
def _place(places, token, layer, layers, kv_heads, number, vectors):
    """The vector where K/V head ``number`` (keys, then values) of a token begins in the pool."""
    place = places[token]
    block, offset = place >> BLOCK_SHIFT, place & (BLOCK_TOKENS - 1)
    return ((((block * layers + layer) * 2 * kv_heads + number) << BLOCK_SHIFT) + offset) * vectors


def _threads(elements: Elements, head_dim: int) -> tuple[int, int]:
    """Vectors of half a head, heads at a time."""
    half = head_dim // 2 // elements.width
    return half, THREADS // half


@cache
def rope(elements: Elements, head_dim: int) -> Kernel:
    """Grid: tokens, groups of heads."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)
    turn, table = _make_turn(width), head_dim // 2 // 4

    def kernel(qkv, all_heads, heads, positions, cos, sin):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        head = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        if head < heads:
            first, second = cuda.local.array(width, float32), cuda.local.array(width, float32)
            at = (int64(token) * all_heads + head) * 2 * half + lane
            load(qkv, int64(at), first)
            load(qkv, int64(at + half), second)
            turn(first, second, cos, sin, int64(positions[token]) * table, lane)
            store(qkv, int64(at), first)
            store(qkv, int64(at + half), second)

    parameters = (Bytes, int32, int32, Ints, Bytes, Bytes)
    return Kernel(f"rope_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)


@cache
def store_kv(elements: Elements, head_dim: int) -> Kernel:
    """Grid: tokens, groups of key and value heads."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)

    def kernel(kv, layers, kv_heads, layer, qkv, all_heads, places):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        number = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        if number < 2 * kv_heads:
            values = cuda.local.array(width, float32)
            at = (int64(token) * all_heads + all_heads - 2 * kv_heads + number) * 2 * half + lane
            to = _place(places, token, layer, layers, kv_heads, number, 2 * half) + lane
            for piece in range(2):
                load(qkv, int64(at + piece * half), values)
                store(kv, int64(to + piece * half), values)

    parameters = (Bytes, int32, int32, int32, Bytes, int32, Longs)
    return Kernel(f"store_kv_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)


@cache
def rope_store_kv(elements: Elements, head_dim: int) -> Kernel:
    """Grid: tokens, groups of all heads. Queries turn in place; keys turn on their way to the pool, values just go."""
    load, store, width = elements.load, elements.store, elements.width
    half, teams = _threads(elements, head_dim)
    turn, table = _make_turn(width), head_dim // 2 // 4

    def kernel(kv, layers, kv_heads, layer, qkv, all_heads, positions, cos, sin, places):
        token, lane = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        head = int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        number = head - (all_heads - 2 * kv_heads)
        if head < all_heads:
            first, second = cuda.local.array(width, float32), cuda.local.array(width, float32)
            at = (int64(token) * all_heads + head) * 2 * half + lane
            load(qkv, int64(at), first)
            load(qkv, int64(at + half), second)
            if number < kv_heads:
                turn(first, second, cos, sin, int64(positions[token]) * table, lane)
            if number < 0:
                store(qkv, int64(at), first)
                store(qkv, int64(at + half), second)
            else:
                to = _place(places, token, layer, layers, kv_heads, number, 2 * half) + lane
                store(kv, int64(to), first)
                store(kv, int64(to + half), second)

    parameters = (Bytes, int32, int32, int32, Bytes, int32, Ints, Bytes, Bytes, Longs)
    return Kernel(f"rope_store_kv_{elements.name}_{head_dim}", kernel, parameters, (half, teams), REGISTERS)
