"""Rows of a packed matrix as float32: the embeddings of a step's tokens."""

# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from kernels.cpu.step import step_input
from kernels.cpu.step.product_tiles import Quants
from kernels.cpu.step.vectors import BYTE, FLOAT, INT, INTS, LANES, LONG, Emit, emitted

TABLE, GROUP_BYTES, BLOCKS, OUT, OUT_STRIDE = range(3, 8)  # BLOCKS: as of a product

Unpack = Callable[[Emit, ir.Value, ir.Value, ir.Value, ir.Value], None]


def quantised_rows(kind: Quants) -> Any:
    """Return ``embed(op, step, unit)`` for a type of quantised weights."""

    def unpack(emit: Emit, group: ir.Value, lane: ir.Value, blocks: ir.Value, out: ir.Value) -> None:
        quants = emit.offset(group, kind.section(emit, blocks))
        with emit.loop(blocks) as block:
            weights = kind.quants(emit, emit.offset(quants, emit.times(block, kind.quant_bytes)))
            scales, minima = kind.scales(emit, group, block), kind.minima(emit, group, block)
            for column, weight in enumerate(weights):
                scale = scales[column * kind.parts // len(weights)]
                values = _four(emit, kind, weight, scale, minima, lane)
                emit.store(values, out, emit.times(block, 128), 16 * column)

    return _rows(unpack)


def _four(
    emit: Emit, kind: Quants, weight: ir.Value, scale: ir.Value, minima: ir.Value | None, lane: ir.Value
) -> ir.Value:
    """Return four columns of one lane as float32."""
    builder, four = emit.builder, ir.VectorType(INT, 4)
    bits = builder.extract_element(builder.bitcast(weight, INTS), lane)
    integers = builder.zext(builder.bitcast(bits, ir.VectorType(BYTE, 4)), four)
    integers = builder.sub(integers, ir.Constant(four, [kind.offset] * 4))
    values = builder.sitofp(integers, ir.VectorType(FLOAT, 4))
    values = builder.fmul(values, emit.splat(builder.extract_element(scale, lane), 4))
    if minima is not None:
        values = builder.fadd(values, emit.splat(builder.extract_element(minima, lane), 4))
    return values


def float_rows(widened: Callable[[Emit, ir.Value], ir.Value]) -> Any:
    """Return ``embed(op, step, unit)`` for a 16-bit type; ``widened`` loads 16 of its numbers as float32."""

    def unpack(emit: Emit, group: ir.Value, lane: ir.Value, columns: ir.Value, out: ir.Value) -> None:
        with emit.loop(columns) as column:
            vector = widened(emit, emit.offset(group, emit.times(column, 2 * LANES)))
            emit.store(emit.builder.extract_element(vector, lane), out, emit.times(column, 4))

    return _rows(unpack)


def _rows(unpack: Unpack) -> Any:
    @emitted(3)
    def embed(emit, op, step, unit):
        builder = emit.builder
        tokens, per_unit = emit.long(step, step_input.TOKENS), emit.long(step, step_input.ROWS_PER_UNIT)
        first = builder.mul(unit, per_unit)
        left = builder.sub(tokens, first)
        count = builder.select(builder.icmp_signed("<", left, per_unit), left, per_unit)
        with emit.loop(count) as index:
            row = emit.offset(first, index)
            token = _token(emit, step, row)
            group = builder.mul(builder.lshr(token, LONG(4)), emit.long(op, GROUP_BYTES))
            lane = builder.trunc(builder.and_(token, LONG(LANES - 1)), INT)
            out = emit.offset(emit.long(op, OUT), builder.mul(row, emit.long(op, OUT_STRIDE)))
            unpack(emit, emit.offset(emit.long(op, TABLE), group), lane, emit.long(op, BLOCKS), out)

    return embed


def _token(emit: Emit, step: ir.Value, row: ir.Value) -> ir.Value:
    """Return a row's token: its own, or the one drawn last in the slot that it names."""
    builder = emit.builder
    given = builder.sext(emit.load(INT, emit.long(step, step_input.INPUT_IDS), emit.times(row, 4)), LONG)
    is_token = builder.icmp_signed(">=", given, LONG(0))
    slot = builder.select(is_token, LONG(0), builder.sub(LONG(-1), given))
    last = builder.sext(emit.load(INT, emit.long(step, step_input.LAST), emit.times(slot, 4)), LONG)
    return builder.select(is_token, given, last)
