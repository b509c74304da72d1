"""Causal attention over scattered blocks; blocks of threads share each sequence's tokens (Flash-Decoding).

`partial` attends for one query token and all the query heads that share a KV head, so that each K and V is read once
for them: a team of lanes holds one KV token at a time, 16 bytes a lane, teams take tokens in turn, and a running
maximum keeps each team's sums in range; shared memory merges the teams. `merge` joins the splits. Their units of work
are a batch's rows, of which those of many query tokens are left to `prefill`. Where `prefill` has no kernel, the units
are query tokens: this is right for prompts too, but reads their K and V again for each token.

Registers: `partial` 56 a thread and 2 a query head and element of its vector (queries and sums), `merge` 40.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64

from kernels.cuda.elements import Elements
from kernels.cuda.kernel import BLOCK_SHIFT, BLOCK_TOKENS, Bytes, Floats, Ints, Kernel, device
from kernels.cuda.reductions import lanes_for, sum_of_lanes
from kernels.cuda.words import divide, exp2

PARTIAL_REGISTERS = 56
MERGE_REGISTERS = 40
THREADS = 128
LOWEST = -1e30  # below any score; infinity would make NaN of its difference with itself
MERGE_HEADS = 4


@device
def _query_of_row(row, query_start_loc, rows):
    """Return the row, its first query token, and whether that is its only one."""
    token = int32(query_start_loc[row])
    return row, token, query_start_loc[row + 1] - token == 1


@device
def _row_of_query(token, query_start_loc, rows):
    """Return the row that owns a query token, the token, and True, since every token is served."""
    row, beyond = int32(0), int32(rows)
    while beyond - row > 1:
        middle = int32((row + beyond) >> 1)
        if query_start_loc[middle] <= token:
            row = middle
        else:
            beyond = middle
    return row, token, True


UNITS = {"rows": _query_of_row, "tokens": _row_of_query}


def _make_join(width, head_dim, group):
    """Make a function that joins the teams' sums in shared memory, and writes head g's to ``out[at + g * step:]``."""
    vectors = head_dim // width
    lanes = lanes_for(vectors)
    teams, lane_shift = THREADS // lanes, lanes.bit_length() - 1

    @device
    def join(sums, peaks, masses, thread, out, at, step):
        team_sums = cuda.shared.array((teams, group, head_dim), float32)
        team_peaks, team_masses = cuda.shared.array((teams, group), float32), cuda.shared.array((teams, group), float32)
        team, lane = thread >> lane_shift, thread & (lanes - 1)
        for g in range(group):
            if lane < vectors:
                for i in range(width):
                    team_sums[team, g, lane * width + i] = sums[g, i]
            if lane == 0:
                team_peaks[team, g], team_masses[team, g] = peaks[g], masses[g]
        cuda.syncthreads()
        if thread < head_dim:
            for g in range(group):
                peak, mass, mixed = float32(LOWEST), float32(0), float32(0)
                for t in range(teams):
                    peak = max(peak, team_peaks[t, g])
                for t in range(teams):
                    share = exp2(team_peaks[t, g] - peak)
                    mass += share * team_masses[t, g]
                    mixed += share * team_sums[t, g, thread]
                out[at + g * step + thread] = mixed
                if thread == 0:
                    out[at + g * step + head_dim], out[at + g * step + head_dim + 1] = peak, mass

    return join


@cache
def partial(elements: Elements, head_dim: int, group: int, units: str) -> Kernel:
    """Attend to one split. Grid: units (of `UNITS`) from ``first`` on, KV heads, 2 ** split_shift splits.

    scale includes log2(e). out [unit, head, split, head_dim + 2]: weighted values, largest score, sum of weights.
    """
    find, load, width = UNITS[units], elements.load_constant, elements.width
    vectors = head_dim // width
    lanes = lanes_for(vectors)
    teams = THREADS // lanes
    lane_shift, stride = lanes.bit_length() - 1, head_dim + 2
    join = _make_join(width, head_dim, group)

    def kernel(
        qkv, all_heads, kv, layers, kv_heads, layer, block_tables, max_blocks, slots, query_start_loc, seq_lens, rows,
        first, split_shift, scale, out,
    ):  # fmt: skip
        unit, kv_head, split = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y), int32(cuda.blockIdx.z)
        thread, (row, token, served) = int32(cuda.threadIdx.x), find(int32(first + unit), query_start_loc, rows)
        if not served:
            return
        team, lane = thread >> lane_shift, thread & (lanes - 1)
        vector = min(lane, vectors - 1)  # lanes beyond the head's vectors read along and count for nothing
        q, sums = cuda.local.array((group, width), float32), cuda.local.array((group, width), float32)
        peaks, masses = cuda.local.array(group, float32), cuda.local.array(group, float32)
        keys, values = cuda.local.array(width, float32), cuda.local.array(width, float32)
        for g in range(group):
            load(qkv, (int64(token) * all_heads + kv_head * group + g) * vectors + vector, keys)
            for i in range(width):
                q[g, i] = keys[i] * scale if lane < vectors else float32(0)
                sums[g, i] = float32(0)
            peaks[g], masses[g] = float32(LOWEST), float32(0)

        visible = seq_lens[row] - (query_start_loc[row + 1] - token) + 1
        blocks = (visible + BLOCK_TOKENS - 1) >> BLOCK_SHIFT
        span = ((blocks + (1 << split_shift) - 1) >> split_shift) << BLOCK_SHIFT
        begin = split * span
        end = min(visible, begin + span)
        table = int64(slots[row]) * max_blocks
        side = (int64(kv_heads) << BLOCK_SHIFT) * vectors
        for base in range(begin, end, teams):
            valid = base + team < end
            at = base + team if valid else begin
            block = int64(block_tables[table + (at >> BLOCK_SHIFT)])
            key = (((block * layers + layer) * 2 * kv_heads + kv_head) << BLOCK_SHIFT) + (at & (BLOCK_TOKENS - 1))
            load(kv, key * vectors + vector, keys)
            load(kv, key * vectors + vector + side, values)
            for g in range(group):
                score = float32(0)
                for i in range(width):
                    score += keys[i] * q[g, i]
                score = sum_of_lanes(score, lanes)
                if valid:
                    peak = max(peaks[g], score)
                    shrink, weight = exp2(peaks[g] - peak), exp2(score - peak)
                    peaks[g] = peak
                    masses[g] = masses[g] * shrink + weight
                    for i in range(width):
                        sums[g, i] = sums[g, i] * shrink + weight * values[i]

        head = int64(unit) * (kv_heads * group) + kv_head * group
        join(sums, peaks, masses, thread, out, ((head << split_shift) + split) * stride, stride << split_shift)

    parameters = (
        Bytes, int32, Bytes, int32, int32, int32, Ints, int32, Ints, Ints, Ints, int32, int32, int32, float32, Floats
    )  # fmt: skip
    name = f"attention_partial_{units}_{elements.name}_{head_dim}_{group}"
    return Kernel(name, kernel, parameters, (THREADS, 1), PARTIAL_REGISTERS + 2 * width * group)


@cache
def merge(elements: Elements, head_dim: int, units: str) -> Kernel:
    """Join the splits. Grid: units (of `UNITS`) from ``first`` on, groups of heads, a warp a head."""
    find, store, width = UNITS[units], elements.store, elements.width
    vectors, stride = head_dim // width, head_dim + 2

    def kernel(partials, split_shift, heads, query_start_loc, rows, first, out):
        unit, lane = int64(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        _, token, served = find(int32(first + unit), query_start_loc, rows)
        head = int32(cuda.blockIdx.y) * MERGE_HEADS + int32(cuda.threadIdx.y)
        if served and head < heads and lane < vectors:
            at, splits = ((unit * heads + head) << split_shift) * stride, 1 << split_shift
            mixed = cuda.local.array(width, float32)
            peak, mass = float32(LOWEST), float32(0)
            for i in range(width):
                mixed[i] = float32(0)
            for split in range(splits):
                peak = max(peak, partials[at + split * stride + head_dim])
            for split in range(splits):
                share = exp2(partials[at + split * stride + head_dim] - peak)
                mass += share * partials[at + split * stride + head_dim + 1]
                for i in range(width):
                    mixed[i] += share * partials[at + split * stride + lane * width + i]
            for i in range(width):
                mixed[i] = divide(mixed[i], mass)
            store(out, (int64(token) * heads + head) * vectors + lane, mixed)

    name = f"attention_merge_{units}_{elements.name}_{head_dim}"
    return Kernel(name, kernel, (Floats, int32, int32, Ints, int32, int32, Bytes), (32, MERGE_HEADS), MERGE_REGISTERS)
