"""Loads of packed weights in LLVM's language, which several types share."""

from llvmlite import ir

from kernels.cpu.step.vectors import BYTE, BYTES, FLOATS, INTS, LANES, SHORT, Emit, constant

NARROW = ir.VectorType(BYTE, LANES)
PAIRED = ir.VectorType(SHORT, BYTES.count // 2)


def nibbles(emit: Emit, address: ir.Value) -> list[ir.Value]:
    """Load 4 vectors of nibbles: 8 vectors of bytes, the low and the high halves in turn."""
    halves = []
    for number in range(4):
        pairs = emit.load(BYTES, address, 64 * number)
        halves += [low_bits(emit, pairs, 4), low_bits(emit, shifted(emit, pairs, 4), 4)]
    return halves


def shifted(emit: Emit, vector: ir.Value, bits: int) -> ir.Value:
    """Shift bytes right; what comes in from a neighbour above must be cleared."""
    pairs = emit.builder.bitcast(vector, PAIRED)
    return emit.builder.bitcast(emit.builder.lshr(pairs, constant(bits, PAIRED)), BYTES)


def low_bits(emit: Emit, vector: ir.Value, bits: int) -> ir.Value:
    """Return the low bits of each byte."""
    return emit.builder.and_(vector, constant((1 << bits) - 1, BYTES))


def unsigned_bytes(emit: Emit, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """Load 16 unsigned bytes as float32."""
    return emit.builder.uitofp(emit.builder.zext(emit.load(NARROW, address, *terms), INTS), FLOATS)


def signed_bytes(emit: Emit, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """Load 16 signed bytes as float32."""
    return emit.builder.sitofp(emit.builder.sext(emit.load(NARROW, address, *terms), INTS), FLOATS)
