"""Products of many rows of activations, for which quantised weights are unpacked once.

Two groups at a time are unpacked into scratch memory, `SLICE` blocks of them: as bytes and float32 these stay in a
core's L1 cache for all rows. Sums over the blocks before wait in scratch memory too. A tile loads each activation once
for both groups.

By itself this reaches 95 % of what the products and scales of Q4_1 allow on Zen 5, where tiles that unpack reach 90;
Q6_K gains 20 %, and where registers are few, by AVX-VNNI, Q4_1 gains 11 % and Q6_K 70.
"""

# mypy: allow-untyped-calls

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from kernels.cpu.step.product_tiles import LinearOp, Panel, Quants, add_blocks, group_at, put
from kernels.cpu.step.vectors import BYTES, FLOATS, LONG, Emit, constant

GROUPS = 2  # of a tile
WIDE_TILE, NARROW_TILE = 4, 2  # rows, with 32 registers of 64 bytes or 16 of 32
CHUNK = 256  # rows whose sums are in scratch memory
SLICE = 18  # blocks that are unpacked at once, at most
VECTOR, VECTORS = 64, 8  # bytes; of quants in a block
MOST_FACTORS = 2  # vectors of scales and minima in a block
SCRATCH_BYTES = VECTOR * GROUPS * (SLICE * (VECTORS + MOST_FACTORS) + CHUNK)


@dataclass(frozen=True, slots=True)
class Slice:
    """Blocks of a row of weights: the first, how many, and whether they begin and end the row."""

    first: ir.Value
    count: ir.Value
    begins: ir.Value
    ends: ir.Value


class Unpacked:
    """A quantised type in scratch memory: scales and minima in float32, then quants as bytes."""

    quant_bytes = VECTOR * VECTORS

    def __init__(self, kind: Quants) -> None:
        self._kind = kind
        self.largest, self.offset, self.parts = kind.largest, kind.offset, kind.parts
        self._factors = kind.parts + (kind.offset == 0)
        self._section = VECTOR * SLICE * self._factors
        self.group_bytes = self._section + SLICE * self.quant_bytes

    def section(self, emit: Emit, blocks: ir.Value) -> ir.Value:
        """See `Quants`."""
        return LONG(self._section)

    def quants(self, emit: Emit, address: ir.Value) -> Sequence[ir.Value]:
        """See `Quants`."""
        return [emit.load(BYTES, address, VECTOR * number) for number in range(VECTORS)]

    def scales(self, emit: Emit, section: ir.Value, block: ir.Value) -> Sequence[ir.Value]:
        """See `Quants`."""
        return [self._factor(emit, section, block, part) for part in range(self.parts)]

    def minima(self, emit: Emit, section: ir.Value, block: ir.Value) -> ir.Value | None:
        """See `Quants`."""
        return self._factor(emit, section, block, self.parts) if self._factors > self.parts else None

    def _factor(self, emit: Emit, section: ir.Value, block: ir.Value, number: int) -> ir.Value:
        return emit.load(FLOATS, section, emit.times(block, VECTOR * self._factors), VECTOR * number)

    def unpack(self, emit: Emit, op: ir.Value, group: ir.Value, blocks: Slice, out: ir.Value) -> None:
        """Write blocks of a packed group to ``out``; ask for those of the next groups."""
        kind, ahead = self._kind, emit.times(emit.long(op, LinearOp.GROUP_BYTES), GROUPS)
        weights = group_at(emit, op, group)
        quants = emit.offset(weights, kind.section(emit, emit.long(op, LinearOp.BLOCKS)))
        with emit.loop(blocks.count) as index:
            block = emit.offset(blocks.first, index)
            at = emit.offset(quants, emit.times(block, kind.quant_bytes))
            emit.prefetch(emit.offset(at, ahead), 0, kind.quant_bytes)
            vectors = kind.quants(emit, at)
            _store(emit, vectors, emit.offset(out, self._section, emit.times(index, self.quant_bytes)))
            minima = kind.minima(emit, weights, block)
            factors = [*kind.scales(emit, weights, block), *([] if minima is None else [minima])]
            _store(emit, factors, emit.offset(out, emit.times(index, VECTOR * self._factors)))


class ManyRows:
    """Products of a type."""

    def __init__(self, kind: Quants) -> None:
        self._kind = Unpacked(kind)

    def compute(
        self, emit: Emit, op: ir.Value, group: ir.Value, begin: ir.Value, rows: ir.Value, scratch: ir.Value
    ) -> None:
        """Compute `GROUPS` groups of outputs for whole panels: ``rows`` rows, at most `CHUNK`, from ``begin`` on."""
        places = [emit.offset(scratch, number * self._kind.group_bytes) for number in range(GROUPS)]
        sums = emit.offset(scratch, GROUPS * self._kind.group_bytes)
        tile = WIDE_TILE if emit.features.wide else NARROW_TILE
        with _slices(emit, emit.long(op, LinearOp.BLOCKS)) as blocks:
            for number, place in enumerate(places):
                self._kind.unpack(emit, op, emit.offset(group, number), blocks, place)
            with emit.loop(emit.builder.udiv(rows, LONG(tile))) as index:
                first = emit.times(index, tile)
                row, waiting = emit.offset(begin, first), emit.offset(sums, emit.times(first, VECTOR * GROUPS))
                self._tile(emit, op, places, blocks, group, row, waiting, tile)

    def _tile(
        self,
        emit: Emit,
        op: ir.Value,
        places: Sequence[ir.Value],
        blocks: Slice,
        group: ir.Value,
        row: ir.Value,
        waiting: ir.Value,
        rows: int,
    ) -> None:
        """Add blocks to the sums of a tile, which are written to wait, or as outputs if no blocks are left."""
        builder, vectors = emit.builder, rows * GROUPS
        held = [emit.load(FLOATS, waiting, VECTOR * number) for number in range(vectors)]
        sums = [emit.variable(builder.select(blocks.begins, constant(0.0), each)) for each in held]
        panel = Panel(emit, op, row).from_block(emit, blocks.first)
        add_blocks(emit, self._kind, places, panel, blocks.count, [sums[:rows], sums[rows:]])
        with builder.if_else(blocks.ends) as (end, wait):
            with end:
                for number, total in enumerate(sums):
                    put(emit, op, emit.offset(group, number // rows), emit.offset(row, number % rows), total.get())
            with wait:
                _store(emit, [total.get() for total in sums], waiting)


def _store(emit: Emit, vectors: Sequence[ir.Value], out: ir.Value) -> None:
    for number, vector in enumerate(vectors):
        emit.store(vector, out, VECTOR * number)


@contextmanager
def _slices(emit: Emit, blocks: ir.Value) -> Iterator[Slice]:
    """Repeat what is emitted inside for about equal parts of so many blocks."""
    builder = emit.builder
    slices = builder.udiv(emit.offset(blocks, SLICE - 1), LONG(SLICE))
    with emit.loop(slices) as number:
        first, end = (builder.udiv(builder.mul(blocks, emit.offset(number, more)), slices) for more in (0, 1))
        begins = builder.icmp_unsigned("==", first, LONG(0))
        yield Slice(first, builder.sub(end, first), begins, builder.icmp_unsigned("==", end, blocks))
