"""The forms in which products take activations: panels of 8 rows, of bytes or of float32.

In a panel the rows stand beside each other, so that a product reaches all of them from one pointer. A panel of bytes
has for each 32 columns `BYTES_BLOCK` bytes: int8[8][32] quants; float32[8] scales d; float32[8] d times the sum of the
quants; int32[8] the negative sum of the quants; int32[2][8] the same of the first and the last 16 columns. A panel of
floats is float32[columns][8].

`quantise` writes the first form, by the definition in `kernels.reference`; `spread` the second.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir

from kernels.cpu.step.vectors import BYTE, FLOAT, FLOATS, INT, INTS, LANES, LONG, Emit, constant, emitted

ROWS = 8  # of a panel
COLUMNS = 32  # of a block
SCALES, SUMS, NEGATED, HALVES = 256, 288, 320, 352  # where these begin in a block
SMALLEST = 0x03800000  # the bits of 2^-120, below which the inverse of a scale would be infinite
BYTES_BLOCK = 448  # with 32 unused, so that blocks begin at cache lines


def bytes_panel(columns: int) -> int:
    """Return the size of a panel of bytes."""
    return columns // COLUMNS * BYTES_BLOCK


def floats_panel(columns: int) -> int:
    """Return the size of a panel of floats."""
    return columns * ROWS * 4


def emit_quantise(emit: Emit, values: tuple[ir.Value, ir.Value], block: ir.Value, row: ir.Value) -> None:
    """Write 32 values of a row (0 to 7) into a block."""
    builder, not_finite = emit.builder, INT(0x7F800000)
    bits = [builder.and_(builder.bitcast(value, INTS), constant(0x7FFFFFFF, INTS)) for value in values]
    either = builder.select(builder.icmp_unsigned(">", *bits), *bits)
    largest = emit.largest(either)  # as an integer: a NaN is larger than infinity, and that larger than all numbers
    is_finite = builder.icmp_unsigned("<", largest, not_finite)
    peak = builder.bitcast(largest, FLOAT)
    scale = builder.select(is_finite, builder.fmul(peak, FLOAT(1 / 127)), FLOAT(float("nan")))
    has_inverse = builder.and_(is_finite, builder.icmp_unsigned(">=", largest, INT(SMALLEST)))
    inverse = emit.splat(builder.select(has_inverse, builder.fdiv(FLOAT(127.0), peak), FLOAT(0.0)))
    quants = [_rounded(emit, builder.fmul(value, inverse), is_finite) for value in values]
    for half, quant in enumerate(quants):
        narrow = builder.trunc(quant, ir.VectorType(BYTE, LANES))
        emit.store(narrow, block, builder.shl(row, LONG(5)), 16 * half)
    at = emit.offset(block, builder.shl(row, LONG(2)))
    halves = [builder.neg(emit.sum_of_ints(quant)) for quant in quants]
    negated = builder.add(*halves)
    emit.store(scale, at, SCALES)
    emit.store(builder.fmul(scale, builder.sitofp(builder.neg(negated), FLOAT)), at, SUMS)
    emit.store(negated, at, NEGATED)
    for half, value in enumerate(halves):
        emit.store(value, at, HALVES + 4 * ROWS * half)


def _rounded(emit: Emit, value: ir.Value, is_finite: ir.Value) -> ir.Value:
    """Return the nearest integers, zeros if the block has none."""
    safe = emit.builder.select(is_finite, value, constant(0.0))
    return emit.builder.fptosi(emit.call("llvm.rint.v16f32", FLOATS, safe), INTS)


@emitted(5)
def quantise(emit, source, columns, panel, row, first):
    """Write float32 values at ``source``, of ``columns`` columns from block ``first`` on, as row ``row`` of a panel."""
    with emit.loop(emit.builder.lshr(columns, LONG(5))) as index:
        values = tuple(emit.load(FLOATS, source, emit.times(index, 128), 64 * half) for half in (0, 1))
        block = emit.offset(panel, emit.times(emit.builder.add(first, index), BYTES_BLOCK))
        emit_quantise(emit, values, block, row)


@emitted(4)
def spread(emit, source, columns, panel, row):
    """Write float32 values at ``source`` as row ``row`` of a panel of floats."""
    at = emit.offset(panel, emit.times(row, 4))
    with emit.loop(columns) as index:
        emit.store(emit.load(FLOAT, source, emit.times(index, 4)), at, emit.times(index, 4 * ROWS))
