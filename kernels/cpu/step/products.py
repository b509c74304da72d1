"""Products of packed weights and panels of activations, for every type of weights.

A kernel's unit is some groups of 16 outputs for all rows. Weights of a group are read once for up to `CHUNK` rows: the
tile of 8 rows comes back to them in the cache. Each output is one lane's sum over the blocks of 32 columns in order, so
it does not depend on the rows beside it: a tile of fewer rows computes the same.

Eight int32 and eight float32 sums of a tile, and 8 vectors of weights, are in the 32 registers of AVX-512; other
processors have 16 registers and take 2 rows at once.

Versions, by the whole step of SmolLM2-135M (Q4_1) on two Zen 5 cores: decode of 1 and of 16 rows, prefill, tokens/s
    AVX-512 VNNI  420 / 1,600 / 3,450      AVX-VNNI  380 / 1,040 / 1,420      AVX2  377 / 803 / 1,080
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from llvmlite import ir

from kernels.cpu.step import activations as act
from kernels.cpu.step.vectors import BOOL, BYTES, FLOAT, FLOATS, INTS, LANES, LONG, Emit, constant, emitted

CHUNK = 64  # rows whose panels stay in a core's L2 while weights stream past
TILES = (8, 4, 2, 1)
NARROW_TILE = 2  # rows, where there are 16 registers of 32 bytes
AHEAD = 6144  # bytes of quants that are asked for before they are needed: 8 rows take 4.7 ms with it and 8.1 without


class LinearOp:
    """The operands of a product, by their places in an operation."""

    (
        WEIGHTS,  # address of the first group
        GROUP_BYTES,
        BLOCKS,  # of 32 columns; for 16-bit types: columns
        OUTPUTS,  # rows of the weight
        PANELS,  # address of the activations
        PANEL_BYTES,
        OUT,  # address of float32 [rows, ...]
        OUT_STRIDE,  # bytes
        BIAS,  # address of float32 [outputs], 0 if there is none
        ADDS,  # 1: the product is added to what ``out`` holds
        ROWS,  # which element of the step says how many rows there are
        UNITS,
    ) = range(3, 15)


class Quants(Protocol):
    """What a product needs to know of a quantised type, whose blocks of 32 columns are counted along a row."""

    largest: int  # quant
    offset: int  # a power of two that is subtracted from each unsigned quant; 0 if the type has minima
    parts: int  # that a block has a scale each of: 1 or 2
    quant_bytes: int  # of a block

    def section(self, emit: Emit, blocks: ir.Value) -> ir.Value:
        """Return the bytes of a group's scales, after which its quants begin."""

    def quants(self, emit: Emit, address: ir.Value) -> Sequence[ir.Value]:
        """Load a block: 8 vectors of 64 unsigned bytes, of 4 columns each."""

    def scales(self, emit: Emit, section: ir.Value, block: ir.Value) -> Sequence[ir.Value]:
        """Load the scales of a block's parts, 16 float32 each."""

    def minima(self, emit: Emit, section: ir.Value, block: ir.Value) -> ir.Value | None:
        """Load the minima of a block, if the type has any."""


class Panel:
    """Where a tile's first row is in a panel: its quants, or floats, and its scalars."""

    def __init__(self, emit: Emit, panel: ir.Value, lane: ir.Value) -> None:
        self.values = emit.offset(panel, emit.times(lane, act.COLUMNS))
        self.scalars = emit.offset(panel, emit.times(lane, 4))


Tile = Callable[[Emit, ir.Value, ir.Value, Panel, int], list[ir.Value]]


def quantised_product(kind: Quants) -> Any:
    """Return ``product(op, step, unit)`` for a type of quantised weights."""

    def tile(emit: Emit, op: ir.Value, group: ir.Value, panel: Panel, rows: int) -> list[ir.Value]:
        blocks = emit.long(op, LinearOp.BLOCKS)
        quants = emit.offset(group, kind.section(emit, blocks))
        sums = [emit.variable(constant(0.0)) for _ in range(rows)]
        with emit.loop(blocks) as block:
            at = emit.times(block, act.BYTES_BLOCK)
            values, scalars = emit.offset(panel.values, at), emit.offset(panel.scalars, at)
            quants_at = emit.offset(quants, emit.times(block, kind.quant_bytes))
            emit.prefetch(quants_at, AHEAD, kind.quant_bytes)
            weights = kind.quants(emit, quants_at)
            scales, minima = kind.scales(emit, group, block), kind.minima(emit, group, block)
            integers = _dot_products(emit, kind, weights, values, scalars, rows)
            for row, total in enumerate(sums):
                total.set(_scaled(emit, scalars, row, integers[row], scales, minima, total.get()))
        return [total.get() for total in sums]

    return _product(tile)


def _dot_products(
    emit: Emit, kind: Quants, weights: Sequence[ir.Value], values: ir.Value, scalars: ir.Value, rows: int
) -> list[list[ir.Value]]:
    """Return for each row the exact integer sums of a block's parts."""
    sums = [[_first_sum(emit, kind, scalars, row, part) for part in range(kind.parts)] for row in range(rows)]
    for column, weight in enumerate(weights):
        part = column * kind.parts // len(weights)
        for row in range(rows):
            activation = emit.everywhere(BYTES, values, act.COLUMNS * row + 4 * column)
            sums[row][part] = emit.add_dot_bytes(sums[row][part], weight, activation, kind.largest)
    return sums


def _first_sum(emit: Emit, kind: Quants, scalars: ir.Value, row: int, part: int) -> ir.Value:
    """Return what the offset of all weights takes from a sum."""
    if not kind.offset:
        return constant(0, INTS)
    negated = act.NEGATED if kind.parts == 1 else act.HALVES + 4 * act.ROWS * part
    return emit.builder.shl(
        emit.everywhere(INTS, scalars, negated + 4 * row), constant(kind.offset.bit_length() - 1, INTS)
    )


def _scaled(
    emit: Emit,
    scalars: ir.Value,
    row: int,
    integers: Sequence[ir.Value],
    scales: Sequence[ir.Value],
    minima: ir.Value | None,
    total: ir.Value,
) -> ir.Value:
    """Add integer sums times both scales, then minima times the sum of the activations; each operation rounds."""
    builder = emit.builder
    row_scale = emit.everywhere(FLOATS, scalars, act.SCALES + 4 * row)
    for integer, scale in zip(integers, scales, strict=True):
        product = builder.fmul(builder.sitofp(integer, FLOATS), builder.fmul(scale, row_scale))
        total = builder.fadd(total, product)
    if minima is not None:
        total = builder.fadd(total, builder.fmul(minima, emit.everywhere(FLOATS, scalars, act.SUMS + 4 * row)))
    return total


def float_product(widened: Callable[[Emit, ir.Value], ir.Value]) -> Any:
    """Return ``product(op, step, unit)`` for a 16-bit type; ``widened`` loads 16 of its numbers as float32."""

    def tile(emit: Emit, op: ir.Value, group: ir.Value, panel: Panel, rows: int) -> list[ir.Value]:
        columns = emit.long(op, LinearOp.BLOCKS)
        sums = [[emit.variable(constant(0.0)) for _ in range(2)] for _ in range(rows)]

        def add(column: ir.Value, parity: int) -> None:
            weight = widened(emit, emit.offset(group, emit.times(column, 2 * LANES)))
            at = emit.offset(panel.scalars, emit.times(column, 4 * act.ROWS))
            for row in range(rows):
                total = sums[row][parity]
                total.set(emit.add_product(weight, emit.everywhere(FLOATS, at, 4 * row), total.get()))

        with emit.loop(emit.builder.lshr(columns, LONG(1))) as pair:
            for parity in (0, 1):
                add(emit.offset(emit.times(pair, 2), parity), parity)
        with emit.builder.if_then(emit.builder.trunc(columns, BOOL), likely=False):
            add(emit.builder.sub(columns, LONG(1)), 0)
        return [emit.builder.fadd(even.get(), odd.get()) for even, odd in sums]

    return _product(tile)


def _product(tile: Tile) -> Any:
    """Return a function that computes a unit's groups by tiles of rows."""

    @emitted(3)
    def product(emit, op, step, unit):
        builder = emit.builder
        outputs, units = emit.long(op, LinearOp.OUTPUTS), emit.long(op, LinearOp.UNITS)
        groups = builder.udiv(emit.offset(outputs, LANES - 1), LONG(LANES))
        first, last = (builder.udiv(emit.times(groups, emit.offset(unit, number)), units) for number in (0, 1))
        rows = emit.long(emit.offset(step, emit.times(emit.long(op, LinearOp.ROWS), 8)), 0)
        chunks = builder.udiv(emit.offset(rows, CHUNK - 1), LONG(CHUNK))
        with emit.loop(chunks) as chunk, emit.loop(builder.sub(last, first)) as index:
            begin = emit.times(chunk, CHUNK)
            left = builder.sub(rows, begin)
            count = builder.select(builder.icmp_signed("<", left, LONG(CHUNK)), left, LONG(CHUNK))
            _rows_of_group(emit, tile, op, emit.offset(first, index), begin, count)

    return product


def _rows_of_group(emit: Emit, tile: Tile, op: ir.Value, group: ir.Value, begin: ir.Value, count: ir.Value) -> None:
    """Compute a group's outputs for rows ``begin`` to ``begin + count``; begin is a panel's first row."""
    builder, largest = emit.builder, TILES[0] if emit.features.wide else NARROW_TILE
    weights = emit.offset(emit.long(op, LinearOp.WEIGHTS), builder.mul(group, emit.long(op, LinearOp.GROUP_BYTES)))

    def compute(row: ir.Value, rows: int) -> None:
        panel = builder.udiv(row, LONG(act.ROWS))
        at = emit.offset(emit.long(op, LinearOp.PANELS), builder.mul(panel, emit.long(op, LinearOp.PANEL_BYTES)))
        sums = tile(emit, op, weights, Panel(emit, at, builder.and_(row, LONG(act.ROWS - 1))), rows)
        for number, total in enumerate(sums):
            _put(emit, op, group, emit.offset(row, number), total)

    whole = builder.udiv(count, LONG(largest))
    with emit.loop(whole) as index:
        compute(emit.offset(begin, emit.times(index, largest)), largest)
    for rows in [size for size in TILES if size < largest]:
        with builder.if_then(builder.icmp_unsigned("!=", builder.and_(count, LONG(rows)), LONG(0))):
            done = builder.and_(count, LONG(-2 * rows))
            compute(emit.offset(begin, done), rows)


def _put(emit: Emit, op: ir.Value, group: ir.Value, row: ir.Value, total: ir.Value) -> None:
    """Write a group's outputs of one row; the last group may have fewer than 16."""
    builder = emit.builder
    first = emit.times(group, LANES)
    bias, outputs = emit.long(op, LinearOp.BIAS), emit.long(op, LinearOp.OUTPUTS)
    out = emit.offset(emit.long(op, LinearOp.OUT), builder.mul(row, emit.long(op, LinearOp.OUT_STRIDE)))
    out = emit.offset(out, emit.times(first, 4))
    value = emit.variable(total)
    with builder.if_then(builder.icmp_unsigned("!=", bias, LONG(0)), likely=False):  # padded to whole groups
        value.set(builder.fadd(value.get(), emit.load(FLOATS, bias, emit.times(first, 4))))
    left = builder.sub(outputs, first)
    is_whole = builder.icmp_unsigned(">=", left, LONG(LANES))
    adds = builder.icmp_unsigned("!=", emit.long(op, LinearOp.ADDS), LONG(0))
    with builder.if_else(is_whole, likely=True) as (vector, single):
        with vector:
            with builder.if_then(adds):
                value.set(builder.fadd(emit.load(FLOATS, out), value.get()))
            emit.store(value.get(), out)
        with single, emit.loop(left) as lane:
            at, element = emit.times(lane, 4), builder.extract_element(value.get(), lane)
            held = builder.select(adds, emit.load(FLOAT, out, at), FLOAT(0.0))
            emit.store(builder.select(adds, builder.fadd(held, element), element), out, at)
