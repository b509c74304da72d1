"""Loops of attention over one split of a context, in vectors: scores, softmax and the sum of values.

A tile of up to 16 queries (tokens times the heads that share a KV head) has rows of `ROW` bytes in scratch memory: a
constant, so that a loop reaches all rows from one pointer. Where n elements of the pool make 4 bytes, n is 2 for
bfloat16, 1 for float32; both are multiplied four bytes at a time, as `rotary.py` lays them.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from kernels.cpu.step.vectors import BYTES, FLOATS, INT, INTS, LANES, LONG, PAIRS, SHORT, Emit, constant, emitted

SPLIT = 256  # tokens: where contexts are split, whatever the batch
ROW = 4 * SPLIT + 64  # not a power of two, so that rows do not fall into the same sets of a cache
MAX_HEAD_DIM = SPLIT
TOKENS = 16  # of a block

_LOWEST = constant(-80.0)  # below, an exponential counts as 0


def _add_product(emit: Emit, item: int, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    if item == 2:
        return emit.add_dot_pairs(total, emit.builder.bitcast(a, PAIRS), emit.builder.bitcast(b, PAIRS))
    return emit.add_product(emit.builder.bitcast(a, FLOATS), emit.builder.bitcast(b, FLOATS), total)


def make_score(item: int, rows: int) -> Any:
    """Make ``score(queries, units, keys, blocks, scores)`` for elements of ``item`` bytes and so many rows.

    queries: [rows] of ``units`` times 4 bytes; keys: int64 [blocks], addresses of the blocks' keys; scores: float32
    [rows][16 * blocks]. Even and odd units have a sum each.
    """

    @emitted(5)
    def score(emit, queries, units, keys, blocks, scores):
        with emit.loop(blocks) as block:
            key = emit.load(LONG, keys, emit.times(block, 8))
            sums = [[emit.variable(constant(0.0)) for _ in range(2)] for _ in range(rows)]
            with emit.loop(emit.builder.lshr(units, LONG(3))) as eight:
                key_at, query_at = emit.offset(key, emit.times(eight, 512)), emit.offset(queries, emit.times(eight, 32))
                for unit in range(8):
                    vector = emit.load(BYTES, key_at, 64 * unit)
                    for row in range(rows):
                        query = emit.everywhere(BYTES, query_at, ROW * row + 4 * unit)
                        total = sums[row][unit % 2]
                        total.set(_add_product(emit, item, total.get(), vector, query))
            for row in range(rows):
                total = emit.builder.fadd(*(each.get() for each in sums[row]))
                emit.store(total, scores, emit.times(block, 64), ROW * row)

    return score


def make_mix(item: int, rows: int, vectors: int) -> Any:
    """Make ``mix(weights, values, tokens, stride, out)`` for so many rows, and so many vectors of 16 dimensions.

    weights: [rows] of 4 bytes for n tokens; values: int64 addresses of the blocks' values, ``stride`` bytes for n
    tokens; out: float32 [rows][16 * vectors]. Of a pair of which only the first of ``tokens`` counts, the second is
    never multiplied: it may be anything.
    """
    per = 4 // item

    @emitted(5)
    def mix(emit, weights, values, tokens, stride, out):
        builder = emit.builder
        sums = [[emit.variable(constant(0.0)) for _ in range(vectors)] for _ in range(rows)]

        def add(value: ir.Value, weight: ir.Value, mask: int = -1) -> None:
            loaded = [emit.load(INTS, value, 64 * number) for number in range(vectors)]
            if mask != -1:
                loaded = [builder.and_(vector, constant(mask, INTS)) for vector in loaded]
            for row in range(rows):
                factor = emit.everywhere(INTS, weight, ROW * row)
                for number in range(vectors):
                    total = sums[row][number]
                    total.set(_add_product(emit, item, total.get(), loaded[number], factor))

        whole = builder.lshr(tokens, LONG(4))
        with emit.loop(whole) as block:
            value, weight = (
                emit.load(LONG, values, emit.times(block, 8)),
                emit.offset(weights, emit.times(block, 16 * item)),
            )
            for unit in range(TOKENS // per):
                add(emit.offset(value, emit.times(stride, unit)), emit.offset(weight, 4 * unit))
        rest = builder.and_(tokens, LONG(15))
        with builder.if_then(builder.icmp_unsigned("!=", rest, LONG(0))):
            value, weight = (
                emit.load(LONG, values, emit.times(whole, 8)),
                emit.offset(weights, emit.times(whole, 16 * item)),
            )
            units = builder.udiv(rest, LONG(per))
            with emit.loop(units) as unit:
                add(emit.offset(value, builder.mul(stride, unit)), emit.offset(weight, emit.times(unit, 4)))
            if per == 2:
                with builder.if_then(builder.trunc(rest, ir.IntType(1))):
                    at = emit.offset(value, builder.mul(stride, units))
                    add(at, emit.offset(weight, emit.times(units, 4)), mask=0xFFFF)
        for row in range(rows):
            for number in range(vectors):
                emit.store(sums[row][number].get(), out, ROW * row + 64 * number)

    return mix


def make_softmax(item: int) -> Any:
    """Make ``softmax(scores, own, blocks, weights, peak_and_mass)`` of one row.

    The first ``own`` (at least 1) of 16 * blocks scores become weights e^(score - peak) of ``item`` bytes, all others
    0. Writes the largest score and the sum of the weights before they are rounded, two float32. NaN stays NaN.
    """

    @emitted(5)
    def softmax(emit, scores, own, blocks, weights, peak_and_mass):
        builder = emit.builder
        full, used = builder.lshr(own, LONG(4)), builder.lshr(emit.offset(own, 15), LONG(4))
        with builder.if_then(builder.icmp_signed("<", full, used)):
            at = emit.offset(scores, emit.times(full, 64))
            left = emit.splat(builder.trunc(builder.and_(own, LONG(15)), INT))
            is_own = builder.icmp_signed("<", ir.Constant(INTS, list(range(LANES))), left)
            emit.store(builder.select(is_own, emit.load(FLOATS, at), constant(float("-inf"))), at)
        largest = emit.variable(constant(float("-inf")))
        with emit.loop(used) as index:
            value, before = emit.load(FLOATS, scores, emit.times(index, 64)), largest.get()
            largest.set(builder.select(builder.fcmp_ordered(">", value, before), value, before))
        peak = emit.call("llvm.vector.reduce.fmax.v16f32", ir.FloatType(), largest.get())
        mass, everywhere = emit.variable(constant(0.0)), emit.splat(peak)
        with emit.loop(used) as index:
            power = exponential(emit, builder.fsub(emit.load(FLOATS, scores, emit.times(index, 64)), everywhere))
            mass.set(builder.fadd(mass.get(), power))
            stored = emit.rounded_to_bfloat(power) if item == 2 else power
            emit.store(stored, weights, emit.times(index, 16 * item))
        nothing = ir.Constant(ir.VectorType(SHORT if item == 2 else INT, LANES), [0] * LANES)
        with emit.loop(builder.sub(blocks, used)) as index:
            emit.store(nothing, weights, emit.times(emit.offset(used, index), 16 * item))
        emit.store(peak, peak_and_mass)
        emit.store(emit.sum_of_floats(mass.get()), peak_and_mass, 4)

    return softmax


_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, -0.693359375, 2.12194440e-4
_TERMS: Sequence[float] = (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_FIRST = 1.9875691500e-4


def exponential(emit: Emit, x: ir.Value) -> ir.Value:
    """Return e^x for x <= 0 within 2 units in the last place (Cephes), 0 below -80; NaN stays NaN."""
    builder = emit.builder
    is_low = builder.fcmp_ordered("<", x, _LOWEST)
    is_nan = builder.fcmp_unordered("uno", x, x)
    safe = builder.select(builder.or_(is_low, is_nan), constant(0.0), x)
    n = emit.call("llvm.rint.v16f32", FLOATS, builder.fmul(safe, constant(_LOG2_E)))
    r = emit.add_product(n, constant(_LN2_LOW), emit.add_product(n, constant(_LN2_HIGH), safe))
    p = constant(_FIRST)
    for term in _TERMS:
        p = emit.add_product(p, r, constant(term))
    p = builder.fadd(emit.add_product(builder.fmul(r, r), p, r), constant(1.0))
    exponent = builder.shl(builder.fptosi(n, INTS), constant(23, INTS))
    power = builder.bitcast(builder.add(builder.bitcast(p, INTS), exponent), FLOATS)
    return builder.select(is_nan, x, builder.select(is_low, constant(0.0), power))


@emitted(1, types.float32)
def exponential_of(emit, bits):
    """Return `exponential` of one float32 given as an integer of its bits."""
    value = emit.builder.bitcast(emit.builder.trunc(bits, INT), ir.FloatType())
    return emit.builder.extract_element(exponential(emit, emit.splat(value)), INT(0))
