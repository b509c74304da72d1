"""Causal attention of chunks of prompts over scattered blocks, on tensor cores (FlashAttention-2, Dao 2023).

A block of threads has up to 64 *lines* of one sequence, sixteen a warp: neighbouring query tokens times the query heads
that share a KV head. They go through the sequence 64 tokens at a time, so that each K and V is read once for all lines.
K and V come by asynchronous copies: those of a tile's V run while its scores are computed, those of the next tile's K
during softmax and mixing. What a warp computes is in `fragments`.

Tokens beyond the last query's position are never read: their V is zeros, since a weight of 0 does not undo NaN, and
their scores are masked like those of later tokens. A token in shared memory has an odd number of vectors, so that eight
tokens are in different banks. Every matrix read from there serves two products: on sm_90 that, and not the tensor
cores, is the limit; 32 lines a warp would halve it, at 255 registers.

Registers: 168 a thread, with 34 KiB of shared memory at 128 elements: three blocks a multiprocessor.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint32

from kernels.cuda import fragments, words
from kernels.cuda.elements import BFLOAT16, FLOAT16, Elements
from kernels.cuda.fragments import KEYS, KEYS_SHIFT, mask
from kernels.cuda.kernel import BLOCK_SHIFT, BLOCK_TOKENS, Bytes, Ints, Kernel, device
from kernels.cuda.reductions import lanes_for
from kernels.cuda.words import copy_16_async, store_16, wait_for_copies

REGISTERS, RESIDENT = 168, 3
THREADS = 128
LINES = 64
TYPES = {FLOAT16: (words.multiply_f16, words.pack_f16), BFLOAT16: (words.multiply_bf16, words.pack_bf16)}


def serves(elements: Elements, head_dim: int, group: int) -> bool:
    """Return whether there is a kernel for the type and the sizes."""
    return elements in TYPES and head_dim in range(64, 129, 16) and group <= LINES


def tiles(tokens: int, rows: int, group: int) -> int:
    """Return how many tiles suffice for a batch, however the tokens are spread over its rows (see `find_tile`)."""
    return tokens // (LINES // group) + rows


@device
def find_tile(tokens, tile, query_start_loc, rows):
    """Return the row of a tile of ``tokens`` query tokens, its first query, and how many it has (below 1 if spare).

    Row r has the tiles from ``query_start_loc[r] // tokens + r`` on: they suffice, and no count of tiles is needed.
    """
    row, beyond = int32(0), int32(rows)
    while beyond - row > 1:
        middle = int32((row + beyond) >> 1)
        if int32(query_start_loc[middle] // int32(tokens)) + middle <= tile:
            row = middle
        else:
            beyond = middle
    start = int32(query_start_loc[row])
    first = int32(start + (tile - row - int32(start // int32(tokens))) * tokens)
    return row, first, int32(min(int32(query_start_loc[row + 1] - first), int32(tokens)))


def _make_fetch(vectors, pitch):
    """Make a function that starts to copy K or V of tokens from begin on; side: where the head begins in a block."""
    lanes = lanes_for(vectors)
    lane_shift, at_once = lanes.bit_length() - 1, THREADS // lanes

    @device
    def fetch(kv, block_vectors, side, block_tables, table, begin, end, shared):
        thread = int32(cuda.threadIdx.x)
        lane, first = int32(thread & (lanes - 1)), int32(thread >> lane_shift)
        to, own = int32(first * pitch + lane), int32(side + first * vectors + lane)
        last = int32(int32(end - 1) >> BLOCK_SHIFT)
        for part in range(KEYS // BLOCK_TOKENS):
            number = min(int32(int32(begin >> BLOCK_SHIFT) + part), last)
            source = int64(block_tables[table + number]) * block_vectors + own
            left = int32(end - begin - first - part * BLOCK_TOKENS)
            for token in range(0, BLOCK_TOKENS, at_once):
                if lane < vectors:
                    target = int32(to + (part * BLOCK_TOKENS + token) * pitch)
                    copy_16_async(shared, target, kv, source + token * vectors, token < left)

    return fetch


def _make_fetch_lines(vectors, pitch, group):
    """Make a function that starts to copy all lines' queries; lines beyond the last token repeat it."""
    lanes = lanes_for(vectors)
    lane_shift, at_once = lanes.bit_length() - 1, THREADS // lanes

    @device
    def fetch_lines(qkv, all_heads, first, count, head, shared):
        thread = int32(cuda.threadIdx.x)
        lane = int32(thread & (lanes - 1))
        for base in range(0, LINES, at_once):
            line = int32(base + int32(thread >> lane_shift))
            token = int32(line // int32(group))
            source = int64(first + min(token, int32(count - 1))) * all_heads + head + int32(line - token * group)
            if lane < vectors:
                copy_16_async(shared, int32(line * pitch + lane), qkv, source * vectors + lane, True)

    return fetch_lines


def _make_store_lines(vectors, pitch, group):
    """Make a function that writes the lines of the tile's tokens."""
    lanes = lanes_for(vectors)
    lane_shift, at_once = lanes.bit_length() - 1, THREADS // lanes

    @device
    def store_lines(shared, out, heads, first, count, head):
        thread = int32(cuda.threadIdx.x)
        lane = int32(thread & (lanes - 1))
        for base in range(0, LINES, at_once):
            line = int32(base + int32(thread >> lane_shift))
            token = int32(line // int32(group))
            if lane < vectors and token < count:
                at = int32((line * pitch + lane) * 4)
                to = int64(first + token) * heads + head + int32(line - token * group)
                store_16(out, to * vectors + lane, shared[at], shared[at + 1], shared[at + 2], shared[at + 3])

    return store_lines


def _make_set_reach(group):
    """Make a function that sets how far the lines of a thread see (`fragments.mask`)."""

    @device
    def set_reach(position, line, reach):
        lane = int32(int32(cuda.threadIdx.x) & 31)
        for half in range(2):
            token = int32(int32(line + int32(lane >> 2) + 8 * half) // int32(group))
            reach[half] = int32(position + token - 2 * int32(lane & 3))

    return set_reach


@cache
def chunks(elements: Elements, head_dim: int, group: int) -> Kernel:
    """Attend for rows of several query tokens; `attention` has the others. Grid: KV heads, `tiles`.

    scale includes log2(e).
    """
    multiply, pack = TYPES[elements]
    vectors, steps, tokens = head_dim // 8, head_dim // 16, LINES // group
    pitch, sum_tiles, score_tiles = vectors | 1, 2 * steps, KEYS // 8
    shared_words = KEYS * pitch * 4
    fetch, set_reach = _make_fetch(vectors, pitch), _make_set_reach(group)
    add_product = fragments.make_add_product(multiply)
    fetch_lines, store_lines = _make_fetch_lines(vectors, pitch, group), _make_store_lines(vectors, pitch, group)
    load, clear = fragments.make_load(steps, pitch), fragments.make_clear(sum_tiles)
    score, softmax = fragments.make_score(add_product, steps, pitch), fragments.make_softmax(sum_tiles)
    mix, unload = fragments.make_mix(add_product, pack, steps, pitch), fragments.make_unload(pack, sum_tiles, pitch)

    def kernel(
        qkv, all_heads, kv, layers, kv_heads, layer, block_tables, max_blocks, slots, query_start_loc, seq_lens, rows,
        scale, out,
    ):  # fmt: skip
        keys = cuda.shared.array(shared_words, uint32, alignment=16)
        values = cuda.shared.array(shared_words, uint32, alignment=16)
        q, scores = cuda.local.array((steps, 4), uint32), cuda.local.array((score_tiles, 4), float32)
        sums, reach = cuda.local.array((sum_tiles, 4), float32), cuda.local.array(2, int32)
        peaks, masses = cuda.local.array(2, float32), cuda.local.array(2, float32)
        kv_head, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        tile = int32(cuda.gridDim.y - 1 - cuda.blockIdx.y)  # the last ones of a prompt take longest, so they go first
        row, first, count = find_tile(int32(tokens), tile, query_start_loc, rows)
        if count < 1 or query_start_loc[row + 1] - query_start_loc[row] == 1:
            return
        position = int32(seq_lens[row] - (query_start_loc[row + 1] - first))  # of the first query
        end = int32(position + count)
        table, block_vectors = int64(slots[row]) * max_blocks, int32(layers * 2 * kv_heads * BLOCK_TOKENS * vectors)
        key_side = int32((layer * 2 * kv_heads + kv_head) * BLOCK_TOKENS * vectors)
        value_side = int32(key_side + kv_heads * BLOCK_TOKENS * vectors)

        fetch_lines(qkv, all_heads, first, count, int32(kv_head * group), values)
        fetch(kv, block_vectors, key_side, block_tables, table, int32(0), end, keys)
        clear(sums, peaks, masses)
        line = int32(int32(thread >> 5) << 4)  # the warp's first
        set_reach(position, line, reach)
        wait_for_copies()
        cuda.syncthreads()
        load(values, line, q)
        for number in range(int32(int32(end + KEYS - 1) >> KEYS_SHIFT)):
            begin = int32(number << KEYS_SHIFT)
            beyond = int32(begin + KEYS)
            wait_for_copies()
            cuda.syncthreads()  # the keys are there, and no thread reads values any more
            fetch(kv, block_vectors, value_side, block_tables, table, begin, end, values)
            score(q, keys, scores)
            wait_for_copies()
            cuda.syncthreads()  # the values are there, and no thread reads keys any more
            if beyond < end:
                fetch(kv, block_vectors, key_side, block_tables, table, beyond, end, keys)
            if beyond > position:
                for half in range(2):
                    mask(scores, half, int32(reach[half] - begin))
            for half in range(2):
                softmax(scores, half, scale, sums, peaks, masses)
            mix(scores, values, sums)
        unload(sums, masses, line, keys)
        cuda.syncthreads()
        store_lines(keys, out, int32(kv_heads * group), first, count, int32(kv_head * group))

    parameters = (
        Bytes, int32, Bytes, int32, int32, int32, Ints, int32, Ints, Ints, Ints, int32, float32, Bytes
    )  # fmt: skip
    name = f"attention_chunks_{elements.name}_{head_dim}_{group}"
    return Kernel(name, kernel, parameters, (THREADS, 1), REGISTERS, RESIDENT)
