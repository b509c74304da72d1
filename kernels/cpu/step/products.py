"""Products of packed weights and panels of activations, for every type of weights.

A kernel's unit is some groups of 16 outputs for all rows. Weights of a group are read once for up to `CHUNK` rows: the
tile of 8 rows comes back to them in the cache. From `MANY` rows on, quantised weights are unpacked first (`many_rows`).

Eight int32 and eight float32 sums of a tile, and 8 vectors of weights, are in the 32 registers of AVX-512; other
processors have 16 registers and take 2 rows at once.

Versions, by the whole step of SmolLM2-135M (Q4_1) on two Zen 5 cores: decode of 1 and of 16 rows, prefill, tokens/s
    AVX-512 VNNI  420 / 1,600 / 3,450      AVX-VNNI  380 / 1,040 / 1,420      AVX2  377 / 803 / 1,080
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from kernels.cpu.step import activations as act
from kernels.cpu.step import many_rows
from kernels.cpu.step.many_rows import GROUPS, ManyRows
from kernels.cpu.step.product_tiles import LinearOp, Panel, Quants, add_blocks, add_columns, group_at, put
from kernels.cpu.step.vectors import LANES, LONG, Emit, constant, emitted

CHUNK = 64  # rows whose panels stay in a core's L2 while weights stream past
TILES = (8, 4, 2, 1)
NARROW_TILE = 2  # rows, where there are 16 registers of 32 bytes
AHEAD = 6144  # bytes of quants that are asked for before they are needed: 8 rows take 4.7 ms with it and 8.1 without
MANY = 64  # rows, from which on it pays to unpack weights before

Tile = Callable[[Emit, ir.Value, ir.Value, Panel, int], list[ir.Value]]


def quantised_product(kind: Quants) -> Any:
    """Return ``product(op, step, unit, scratch)`` for a type of quantised weights."""

    def tile(emit: Emit, op: ir.Value, group: ir.Value, panel: Panel, rows: int) -> list[ir.Value]:
        sums = [emit.variable(constant(0.0)) for _ in range(rows)]
        add_blocks(emit, kind, [group], panel, emit.long(op, LinearOp.BLOCKS), [sums], AHEAD)
        return [total.get() for total in sums]

    return _product(tile, ManyRows(kind))


def float_product(widened: Callable[[Emit, ir.Value], ir.Value]) -> Any:
    """Return ``product(op, step, unit, scratch)`` for a 16-bit type; ``widened`` loads 16 of its numbers as float32."""

    def tile(emit: Emit, op: ir.Value, group: ir.Value, panel: Panel, rows: int) -> list[ir.Value]:
        sums = [[emit.variable(constant(0.0)) for _ in range(2)] for _ in range(rows)]
        add_columns(emit, widened, group, panel, emit.long(op, LinearOp.BLOCKS), sums)
        return [emit.builder.fadd(even.get(), odd.get()) for even, odd in sums]

    return _product(tile)


def _product(tile: Tile, many: ManyRows | None = None) -> Any:
    """Return a function that computes a unit's groups by tiles of rows, whole panels of many rows by ``many``."""

    @emitted(4)
    def product(emit, op, step, unit, scratch):
        first, count = _groups(emit, op, unit)
        rows = emit.long(emit.offset(step, emit.times(emit.long(op, LinearOp.ROWS), 8)), 0)
        done = LONG(0), LONG(0)
        if many is not None:
            done = _whole_panels(emit, many, op, (first, count), rows, scratch)
        with _chunks(emit, rows, CHUNK) as (begin, size), emit.loop(count) as index:
            begins = _largest_of(emit, begin, emit.builder.select(_less(emit, index, done[0]), done[1], LONG(0)))
            left = _largest_of(emit, emit.builder.sub(emit.offset(begin, size), begins), LONG(0))
            _rows_of_group(emit, tile, op, emit.offset(first, index), begins, left)

    return product


def _whole_panels(
    emit: Emit, many: ManyRows, op: ir.Value, groups: tuple[ir.Value, ir.Value], rows: ir.Value, scratch: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Compute a unit's groups, but for an odd last one, if there are many rows; return of how many groups and rows."""
    builder, (first, count) = emit.builder, groups
    whole = builder.select(_less(emit, rows, LONG(MANY)), LONG(0), builder.and_(rows, LONG(-act.ROWS)))
    pairs = builder.udiv(count, LONG(GROUPS))
    with _chunks(emit, whole, many_rows.CHUNK) as (begin, size), emit.loop(pairs) as pair:
        many.compute(emit, op, emit.offset(first, emit.times(pair, GROUPS)), begin, size, scratch)
    return emit.times(pairs, GROUPS), whole


def _groups(emit: Emit, op: ir.Value, unit: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the first group of a unit and how many it has: an even number, except at the end."""
    builder, units = emit.builder, emit.long(op, LinearOp.UNITS)
    groups = builder.udiv(emit.offset(emit.long(op, LinearOp.OUTPUTS), LANES - 1), LONG(LANES))
    pairs = builder.udiv(emit.offset(groups, GROUPS - 1), LONG(GROUPS))
    first, end = (
        emit.times(builder.udiv(emit.times(pairs, emit.offset(unit, number)), units), GROUPS) for number in (0, 1)
    )
    return first, builder.sub(builder.select(_less(emit, groups, end), groups, end), first)


@contextmanager
def _chunks(emit: Emit, rows: ir.Value, most: int) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Repeat what is emitted inside for chunks of rows: gives the first row, and how many there are."""
    with emit.loop(emit.builder.udiv(emit.offset(rows, most - 1), LONG(most))) as chunk:
        begin = emit.times(chunk, most)
        left = emit.builder.sub(rows, begin)
        yield begin, emit.builder.select(_less(emit, left, LONG(most)), left, LONG(most))


def _less(emit: Emit, a: ir.Value, b: ir.Value) -> ir.Value:
    return emit.builder.icmp_signed("<", a, b)


def _largest_of(emit: Emit, a: ir.Value, b: ir.Value) -> ir.Value:
    return emit.builder.select(_less(emit, a, b), b, a)


def _rows_of_group(emit: Emit, tile: Tile, op: ir.Value, group: ir.Value, begin: ir.Value, count: ir.Value) -> None:
    """Compute a group's outputs for rows ``begin`` to ``begin + count``; begin is a panel's first row."""
    builder, largest = emit.builder, TILES[0] if emit.features.wide else NARROW_TILE
    weights = group_at(emit, op, group)

    def compute(row: ir.Value, rows: int) -> None:
        for number, total in enumerate(tile(emit, op, weights, Panel(emit, op, row), rows)):
            put(emit, op, group, emit.offset(row, number), total)

    whole = builder.udiv(count, LONG(largest))
    with emit.loop(whole) as index:
        compute(emit.offset(begin, emit.times(index, largest)), largest)
    for rows in [size for size in TILES if size < largest]:
        with builder.if_then(builder.icmp_unsigned("!=", builder.and_(count, LONG(rows)), LONG(0))):
            done = builder.and_(count, LONG(-2 * rows))
            compute(emit.offset(begin, done), rows)
