"""Tiles of products: outputs of a few groups of 16 for a few rows of activations, a vector for each group and row.

Each output is one lane's sum over the blocks of 32 columns in order, so it does not depend on the rows and groups
beside it: a smaller tile computes the same.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Sequence
from typing import Protocol

from llvmlite import ir

from kernels.cpu.step import activations as act
from kernels.cpu.step.vectors import BOOL, BYTES, FLOAT, FLOATS, INTS, LANES, LONG, Emit, Variable, constant


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
    """Where a tile's first row is in its panel: its quants, or floats, and its scalars."""

    def __init__(self, emit: Emit, op: ir.Value, row: ir.Value) -> None:
        builder = emit.builder
        number, lane = builder.udiv(row, LONG(act.ROWS)), builder.and_(row, LONG(act.ROWS - 1))
        panel = emit.offset(emit.long(op, LinearOp.PANELS), builder.mul(number, emit.long(op, LinearOp.PANEL_BYTES)))
        self.values = emit.offset(panel, emit.times(lane, act.COLUMNS))
        self.scalars = emit.offset(panel, emit.times(lane, 4))

    def from_block(self, emit: Emit, block: ir.Value) -> "Panel":
        """Return the panel from a block of bytes on."""
        later = object.__new__(Panel)
        at = emit.times(block, act.BYTES_BLOCK)
        later.values, later.scalars = emit.offset(self.values, at), emit.offset(self.scalars, at)
        return later


def group_at(emit: Emit, op: ir.Value, group: ir.Value) -> ir.Value:
    """Return the address of a group of weights."""
    return emit.offset(emit.long(op, LinearOp.WEIGHTS), emit.builder.mul(group, emit.long(op, LinearOp.GROUP_BYTES)))


def add_blocks(
    emit: Emit,
    kind: Quants,
    groups: Sequence[ir.Value],
    panel: Panel,
    blocks: ir.Value,
    sums: Sequence[Sequence[Variable]],
    ahead: int = 0,
) -> None:
    """Add the products of all blocks of groups to sums [groups][rows]. Asks for quants so many bytes ahead, if any."""
    quants = [emit.offset(group, kind.section(emit, blocks)) for group in groups]
    rows = len(sums[0])
    with emit.loop(blocks) as block:
        here = panel.from_block(emit, block)
        places = [emit.offset(address, emit.times(block, kind.quant_bytes)) for address in quants]
        if ahead:
            for place in places:
                emit.prefetch(place, ahead, kind.quant_bytes)
        integers = _dot_products(emit, kind, [kind.quants(emit, place) for place in places], here, rows)
        for group, totals, products in zip(groups, sums, integers, strict=True):
            scales, minima = kind.scales(emit, group, block), kind.minima(emit, group, block)
            for row, total in enumerate(totals):
                total.set(_scaled(emit, here, row, products[row], scales, minima, total.get()))


def _dot_products(
    emit: Emit, kind: Quants, weights: Sequence[Sequence[ir.Value]], panel: Panel, rows: int
) -> list[list[list[ir.Value]]]:
    """Return the exact integer sums of a block [groups][rows][parts]."""
    sums = [
        [[_first_sum(emit, kind, panel, row, part) for part in range(kind.parts)] for row in range(rows)]
        for _ in weights
    ]
    for column, vectors in enumerate(zip(*weights, strict=True)):
        part = column * kind.parts // len(weights[0])
        for row in range(rows):
            activation = emit.everywhere(BYTES, panel.values, act.COLUMNS * row + 4 * column)
            for totals, weight in zip(sums, vectors, strict=True):
                totals[row][part] = emit.add_dot_bytes(totals[row][part], weight, activation, kind.largest)
    return sums


def _first_sum(emit: Emit, kind: Quants, panel: Panel, row: int, part: int) -> ir.Value:
    """Return what the offset of all weights takes from a sum."""
    if not kind.offset:
        return constant(0, INTS)
    negated = act.NEGATED if kind.parts == 1 else act.HALVES + 4 * act.ROWS * part
    return emit.builder.shl(
        emit.everywhere(INTS, panel.scalars, negated + 4 * row), constant(kind.offset.bit_length() - 1, INTS)
    )


def _scaled(
    emit: Emit,
    panel: Panel,
    row: int,
    integers: Sequence[ir.Value],
    scales: Sequence[ir.Value],
    minima: ir.Value | None,
    total: ir.Value,
) -> ir.Value:
    """Add integer sums times both scales, then minima times the sum of the activations; each operation rounds."""
    builder = emit.builder
    row_scale = emit.everywhere(FLOATS, panel.scalars, act.SCALES + 4 * row)
    for integer, scale in zip(integers, scales, strict=True):
        product = builder.fmul(builder.sitofp(integer, FLOATS), builder.fmul(scale, row_scale))
        total = builder.fadd(total, product)
    if minima is not None:
        total = builder.fadd(total, builder.fmul(minima, emit.everywhere(FLOATS, panel.scalars, act.SUMS + 4 * row)))
    return total


def add_columns(
    emit: Emit,
    widened: Callable[[Emit, ir.Value], ir.Value],
    group: ir.Value,
    panel: Panel,
    columns: ir.Value,
    sums: Sequence[Sequence[Variable]],
) -> None:
    """Add the products of all columns of a group of a 16-bit type to sums [rows][2], of even and of odd columns."""

    def add(column: ir.Value, parity: int) -> None:
        weight = widened(emit, emit.offset(group, emit.times(column, 2 * LANES)))
        at = emit.offset(panel.scalars, emit.times(column, 4 * act.ROWS))
        for row, totals in enumerate(sums):
            total = totals[parity]
            total.set(emit.add_product(weight, emit.everywhere(FLOATS, at, 4 * row), total.get()))

    with emit.loop(emit.builder.lshr(columns, LONG(1))) as pair:
        for parity in (0, 1):
            add(emit.offset(emit.times(pair, 2), parity), parity)
    with emit.builder.if_then(emit.builder.trunc(columns, BOOL), likely=False):
        add(emit.builder.sub(columns, LONG(1)), 0)


def put(emit: Emit, op: ir.Value, group: ir.Value, row: ir.Value, total: ir.Value) -> None:
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
