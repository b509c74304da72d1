"""Defines every op in plain NumPy, clear rather than fast: the tests compare the other implementations with it.

Arrays are float32 unless said otherwise. An op writes to ``out`` or changes an argument in place, so that a caller
allocates once. The KV pool is ``kv[block, layer, k_or_v, kv_head, token, head_dim]``, and ``slot_mapping[token]`` says
where a token's K and V are in it: ``block * tokens per block + offset``. The ``slots`` of a batch are something else:
they index its block tables. ``qkv[token, head, head_dim]`` holds a batch's query heads, then its key heads, then its
value heads, as one projection leaves them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Flags = NDArray[np.bool_]

QUANTISED_TOGETHER = 32  # activations that share a scale


def pick_tokens(input_ids: Ints, last: Ints, out: Ints) -> None:
    """Write a step's input tokens to out [tokens]; input_ids [tokens] names those that the host has not seen by slot.

    An ID of at least 0 is a token; a negative ``i`` stands for the newest token of slot ``-1 - i`` in last [slots].
    """
    out[:] = np.where(input_ids >= 0, input_ids, last[np.maximum(-1 - input_ids, 0)])


def put_tokens(tokens: Ints, slots: Ints, last: Ints) -> None:
    """Store the drawn tokens: ``last[slots[i]] = tokens[i]``. A slot that appears twice gets one of its tokens."""
    last[slots] = tokens


def count_tokens(tokens: Ints, slots: Ints, seen: Flags, counts: Ints) -> None:
    """Note drawn tokens in their slots for `penalize`; seen, counts [slots, vocab], slots [tokens] distinct."""
    seen[slots, tokens] = True
    counts[slots, tokens] += 1


def take_rows(table: Array, rows: Ints, out: Array) -> None:
    """Copy rows: ``out[i] = table[rows[i]]``. Looks up embeddings, and picks the tokens after which one is drawn."""
    out[:] = table[rows]


def linear(x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """Compute ``out = x @ weight.T + bias``; x [tokens, in], weight [out, in], bias [out], out [tokens, out]."""
    out[:] = x @ weight.T
    if bias is not None:
        out += bias


@dataclass(frozen=True, slots=True)
class QuantisedMatrix:
    """A weight [out, in] whose elements are ``(quant - offset) * scale + minimum``, in blocks of a row's elements.

    A block has 32 elements, or 16 and no minimum.
    """

    quants: NDArray[np.uint8]  # [out, in]
    offset: int
    scales: Array  # [out, blocks]
    minima: Array | None  # [out, blocks]

    def dequantised(self) -> Array:
        """Return the elements as float32 [out, in]."""
        block = self.quants.shape[1] // self.scales.shape[1]
        values = (self.quants.astype(np.float32) - np.float32(self.offset)) * np.repeat(self.scales, block, axis=1)
        return values if self.minima is None else values + np.repeat(self.minima, block, axis=1)


def quantise(x: Array) -> tuple[NDArray[np.int8], Array, Array]:
    """Round activations x [tokens, in] to bytes, 32 of which share a scale.

    Returns the bytes [tokens, in], their scales [tokens, in / 32], and each scale times the sum of its bytes. Scale and
    sum are NaN if a number of the block is not finite. A block below 2^-120 becomes zeros, since 127 over its largest
    number could be infinite.
    """
    blocks = x.reshape(len(x), -1, QUANTISED_TOGETHER)
    largest = np.abs(blocks).max(axis=2)
    finite = np.isfinite(largest)
    scales = np.where(finite, largest * np.float32(1 / 127), np.float32(np.nan))
    usable = finite & (largest >= np.float32(2**-120))
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=usable)
    quants = np.rint(np.where(usable[..., None], blocks, 0) * inverse[..., None]).astype(np.int8)
    sums = scales * quants.sum(axis=2, dtype=np.int32).astype(np.float32)
    return quants.reshape(x.shape), scales, sums


def quantised_product(x: Array, weight: QuantisedMatrix) -> Array:
    """Return ``x @ weight.T`` [tokens, out] with x [tokens, in] as `quantise` rounds it.

    This is exact to the bit: the products of a block's integers are added without rounding, then blocks are added in
    order, and each multiplication and addition of float32 is rounded by itself.
    """
    quants, scales, sums = quantise(x)
    block = weight.quants.shape[1] // weight.scales.shape[1]
    out = np.zeros((len(x), len(weight.quants)), np.float32)
    for index in range(weight.scales.shape[1]):
        columns, of_x = slice(index * block, (index + 1) * block), index * block // QUANTISED_TOGETHER
        centred = weight.quants[:, columns].astype(np.float32) - np.float32(weight.offset)
        total = quants[:, columns].astype(np.float32) @ centred.T  # integers below 2^24, which float32 adds exactly
        out += total * (weight.scales[:, index] * scales[:, of_x, None])
        if weight.minima is not None:
            out += weight.minima[:, index] * sums[:, of_x, None]
    return out


def quantised_linear(x: Array, weight: QuantisedMatrix, bias: Array | None, out: Array) -> None:
    """Compute `linear` by `quantised_product`."""
    out[:] = quantised_product(x, weight)
    if bias is not None:
        out += bias


def rms_norm(x: Array, weight: Array, eps: float, out: Array) -> None:
    """Divide rows by their root mean square (Zhang and Sennrich 2019); x, out [tokens, hidden], weight [hidden]."""
    scale = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps))
    out[:] = x * scale * weight


def add_rms_norm(residual: Array, x: Array, weight: Array, eps: float, out: Array) -> None:
    """Compute ``residual += x`` and write the sum's `rms_norm` to ``out``; all [tokens, hidden]."""
    residual += x
    rms_norm(residual, weight, eps, out)


def head_rms_norm(qkv: Array, first: int, last: int, weight: Array, eps: float) -> None:
    """Apply `rms_norm` to each of the heads ``first:last`` in place (Qwen3's q and k norms); weight [head_dim]."""
    rms_norm(qkv[:, first:last], weight, eps, out=qkv[:, first:last])


def rope(qkv: Array, heads: int, positions: Ints, cos: Array, sin: Array) -> None:
    """Rotate the first ``heads`` heads in place by their tokens' positions [tokens] (RoFormer, half-split order).

    cos, sin [max_positions, head_dim / 2]: element i pairs with element i + head_dim / 2.
    """
    x, half = qkv[:, :heads], qkv.shape[2] // 2
    c, s = cos[positions][:, None], sin[positions][:, None]  # [tokens, 1, head_dim / 2]
    first, second = x[..., :half].copy(), x[..., half:].copy()
    x[..., :half] = first * c - second * s
    x[..., half:] = second * c + first * s


def silu_mul(gate_up: Array, out: Array) -> None:
    """Compute ``silu(gate) * up``; gate_up [tokens, 2 * intermediate] holds both, out [tokens, intermediate]."""
    gate, up = np.split(gate_up, 2, axis=1)
    out[:] = gate / (1 + np.exp(-gate)) * up


def store_kv(kv: Array, layer: int, qkv: Array, slot_mapping: Longs) -> None:
    """Write a batch's keys and values of one layer to the pool, where slot_mapping [tokens] says."""
    k, v = np.split(qkv[:, -2 * kv.shape[3] :], 2, axis=1)
    blocks, offsets = np.divmod(slot_mapping, kv.shape[4])
    kv[blocks, layer, 0, :, offsets] = k
    kv[blocks, layer, 1, :, offsets] = v


def rope_store_kv(
    kv: Array, layer: int, qkv: Array, positions: Ints, cos: Array, sin: Array, slot_mapping: Longs
) -> None:
    """Apply `rope` to queries and keys, then `store_kv`. The keys in qkv are undefined afterwards."""
    rope(qkv, qkv.shape[1] - kv.shape[3], positions, cos, sin)
    store_kv(kv, layer, qkv, slot_mapping)


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
    """Compute causal attention of a ragged batch over its sequences' blocks; grouped query heads share a KV head.

    Only the queries of qkv are read; out [tokens, heads, head_dim]. Row r of the batch owns the query tokens, at least
    one, ``query_start_loc[r] : query_start_loc[r + 1]``. They are the last of the ``seq_lens[r]`` tokens whose blocks
    ``block_tables[slots[r]]`` lists in order. block_tables [slots, max_blocks], slots [rows], seq_lens [rows],
    query_start_loc [rows + 1].
    """
    q = qkv[:, : out.shape[1]]
    group = out.shape[1] // kv.shape[3]
    for row, slot in enumerate(slots):
        begin, end, length = query_start_loc[row], query_start_loc[row + 1], seq_lens[row]
        k, v = (np.repeat(_gather(kv, layer, i, block_tables[slot], length), group, axis=0) for i in (0, 1))
        scores = np.einsum("qhd,htd->hqt", q[begin:end], k) * np.float32(scale)
        positions = np.arange(length - (end - begin), length)
        scores[:, np.arange(length)[None, :] > positions[:, None]] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out[begin:end] = np.einsum("hqt,htd->qhd", weights, v)


def _gather(kv: Array, layer: int, k_or_v: int, table: Ints, length: int) -> Array:
    """Return K or V of a sequence's first ``length`` tokens: [kv_heads, length, head_dim]."""
    blocks = table[: -(-length // kv.shape[4])]
    gathered: Array = kv[blocks, layer, k_or_v]  # [blocks, kv_heads, token, head_dim]
    return gathered.transpose(1, 0, 2, 3).reshape(kv.shape[3], -1, kv.shape[5])[:, :length]


def move_runs(pool: NDArray[np.generic], moves: Longs) -> None:
    """Move runs of blocks inside a pool [blocks, ...], one after the other, each as memmove does.

    moves [n, 3]: source, destination and length in blocks. What remains of a source is undefined.
    """
    for source, destination, length in moves:
        pool[destination : destination + length] = pool[source : source + length].copy()


def finite_rows(logits: Array, out: Flags) -> None:
    """Set out [rows] to whether all of a row's logits are finite."""
    out[:] = np.isfinite(logits).all(axis=1)


def clear_rows(logits: Array, ok: Flags) -> None:
    """Zero the rows of logits [rows, vocab] that are not ok [rows], so that a draw from them is defined."""
    logits[~ok] = 0


def add_biases(logits: Array, rows: Ints, slots: Ints, num_biases: Ints, tokens: Ints, biases: Array) -> None:
    """Add its slot's biases to the logits of rows[i]: the first num_biases[i] of its distinct tokens and of biases.

    rows, num_biases [adjusted]; slots [draws] are those of all rows of logits [draws, vocab]; tokens and biases are
    [slots, room].
    """
    for row, count in zip(rows, num_biases, strict=True):
        slot = slots[row]
        logits[row, tokens[slot, :count]] += biases[slot, :count]


def penalize(logits: Array, rows: Ints, slots: Ints, penalties: Array, seen: Flags, counts: Ints) -> None:
    """Apply vLLM's penalties to the logits of rows[i]: penalties[i] are presence, frequency and repetition.

    Repetition acts on tokens of the prompt and the output (``seen``), presence and frequency on those of the output
    (``counts``: how often each was drawn). rows [adjusted], penalties [adjusted, 3]; slots [draws] are those of all
    rows of logits [draws, vocab]; seen, counts [slots, vocab], where what was counted is also seen.
    """
    for row, (presence, frequency, repetition) in zip(rows, penalties, strict=True):
        x, drawn = logits[row], counts[slots[row]]
        repeated = np.where(x > 0, x / repetition, x * repetition)
        x[:] = np.where(seen[slots[row]], repeated, x)
        x -= frequency * drawn.astype(np.float32)
        x -= presence * (drawn > 0)


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends on seed and position alone (SplitMix64, Steele et al. 2014)."""
    bits = _mix((seed + _mix(position)) % 2**64)
    return (bits >> 11) * 2.0**-53


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def sample(
    logits: Array,
    temperature: Array,
    top_k: Ints,
    top_p: Array,
    min_p: Array,
    seeds: NDArray[np.uint64],
    positions: Longs,
    out: Ints,
) -> None:
    """Draw a token for each row of logits [rows, vocab]; all other arrays are [rows].

    Temperature 0 takes the first largest logit. Otherwise each filter keeps the tokens whose logit reaches a
    threshold, so equal logits are kept or dropped together: min_p keeps probabilities of at least min_p times the
    largest, top_k (0 is off) the k largest of these, top_p the smallest set with this share of what is left. The token
    is drawn from the kept ones, in order of IDs, by ``uniform(seed, position)``.
    """
    for row in range(len(logits)):
        if temperature[row] == 0:
            out[row] = np.argmax(logits[row])
            continue
        weights = _filtered(logits[row], temperature[row], top_k[row], top_p[row], min_p[row])
        cumulative = np.cumsum(weights)
        target = uniform(int(seeds[row]), int(positions[row])) * cumulative[-1]
        out[row] = min(np.searchsorted(cumulative, target, side="right"), np.flatnonzero(weights)[-1])


def _filtered(logits: Array, temperature: float, top_k: int, top_p: float, min_p: float) -> NDArray[np.float64]:
    """Return unnormalised probabilities [vocab], 0 where a filter dropped the token."""
    scaled = (logits - logits.max()) / np.float32(temperature)
    weights = np.exp(scaled.astype(np.float64))
    floor = np.float32(math.log(min_p)) if min_p > 0 else np.float32(-np.inf)
    descending = np.sort(scaled[scaled >= floor])[::-1]
    if 0 < top_k < len(descending):
        floor = descending[top_k - 1]
        descending = descending[descending >= floor]
    if top_p < 1:
        cumulative = np.cumsum(np.exp(descending.astype(np.float64)))
        reached = np.searchsorted(cumulative, top_p * cumulative[-1])
        floor = descending[min(reached, len(descending) - 1)]
    return np.where(scaled >= floor, weights, 0.0)


def top_logprobs(logits: Array, rows: Ints, tokens: Ints, chosen: Array, ids: Ints, values: Array) -> None:
    """Compute the log-probabilities of each row rows[i] of logits [*, vocab] for drawn and likeliest tokens.

    tokens [*] is the token drawn from each row of logits, chosen [rows] its log-probability; ids, values [rows, count]
    are the count likeliest tokens and their log-probabilities. Of equal logits the lower ID comes first.
    """
    for i, row in enumerate(rows):
        wide = logits[row].astype(np.float64)
        logprobs = wide - (wide.max() + np.log(np.exp(wide - wide.max()).sum()))
        ids[i] = np.argsort(-wide, kind="stable")[: ids.shape[1]]
        chosen[i], values[i] = logprobs[tokens[row]], logprobs[ids[i]]
