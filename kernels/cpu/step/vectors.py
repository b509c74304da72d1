"""The words that kernels of a step are written in: vectors of 64 bytes, in LLVM's intermediate language.

LLVM splits such vectors where registers are shorter, so every processor computes the same sums in the same order. The
two products that it cannot find by itself, of bytes and of bfloat16, are chosen by `features`.

Addresses are ``int64`` everywhere; an `Emit` turns them into pointers. `emitted` makes a function that Numba code can
call of one that emits instructions.
"""

# mypy: allow-untyped-calls

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.cpu.step.features import FEATURES, Features

LANES = 16

BOOL, BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT = ir.HalfType(), ir.FloatType()
POINTER = BYTE.as_pointer()


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BFLOAT = _BFloat()
INTS, FLOATS, BYTES = ir.VectorType(INT, LANES), ir.VectorType(FLOAT, LANES), ir.VectorType(BYTE, 4 * LANES)
HALVES, SHORTS, BFLOATS = (ir.VectorType(kind, LANES) for kind in (HALF, SHORT, BFLOAT))
PAIRS = ir.VectorType(BFLOAT, 2 * LANES)  # of bfloat16: lane i has elements 2i and 2i + 1


def constant(value: float, kind: ir.VectorType = FLOATS) -> ir.Constant:
    """Return a vector of one value."""
    return ir.Constant(kind, [value] * kind.count)


class Emit:
    """Emits instructions at the end of a block. Methods take and return values of LLVM."""

    def __init__(self, builder: ir.IRBuilder, features: Features = FEATURES) -> None:
        self.builder = builder
        self.features = features

    # Addresses and integers.

    def offset(self, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """Return the sum of an address and all terms, in bytes."""
        for term in terms:
            address = self.builder.add(address, LONG(term) if isinstance(term, int) else term)
        return address

    def times(self, a: ir.Value, b: ir.Value | int) -> ir.Value:
        """Return the product of two integers."""
        return self.builder.mul(a, a.type(b) if isinstance(b, int) else b)

    def pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        """Return a pointer."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, kind: ir.Type, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """Load a value; it need not be aligned."""
        loaded = self.builder.load(self.pointer(self.offset(address, *terms), kind))
        loaded.align = 1 if isinstance(kind, ir.VectorType) else 4 if kind in (INT, FLOAT) else 1
        return loaded

    def prefetch(self, address: ir.Value, ahead: int, count: int) -> None:
        """Ask for ``count`` bytes, ``ahead`` of an address, before they are needed."""
        for line in range(0, count, 64):
            pointer = self.builder.inttoptr(self.offset(address, ahead + line), POINTER)
            self.call("llvm.prefetch.p0", ir.VoidType(), pointer, INT(0), INT(3), INT(1))

    def store(self, value: ir.Value, address: ir.Value, *terms: ir.Value | int) -> None:
        """Store a value; it need not be aligned."""
        self.builder.store(value, self.pointer(self.offset(address, *terms), value.type)).align = 1

    def long(self, address: ir.Value, index: int) -> ir.Value:
        """Load element ``index`` of an array of int64, such as the operands of an operation."""
        return self.builder.load(self.pointer(self.offset(address, 8 * index), LONG))

    # Control.

    @contextmanager
    def loop(self, count: ir.Value) -> Iterator[ir.Value]:
        """Repeat what is emitted inside for 0 <= index < count."""
        with cgutils.for_range(self.builder, count) as each:
            yield each.index

    def variable(self, value: ir.Value) -> "Variable":
        """Return a variable with a first value, which LLVM keeps in a register."""
        return Variable(self, value)

    # Vectors.

    def splat(self, value: ir.Value, lanes: int = LANES) -> ir.Value:
        """Return a vector of one value."""
        kind = ir.VectorType(value.type, lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes))

    def everywhere(self, kind: ir.VectorType, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """Load four bytes, repeat them over a vector of 64 bytes and return it as ``kind``."""
        return self.builder.bitcast(self.splat(self.load(INT, address, *terms)), kind)

    def call(self, name: str, kind: ir.Type, *values: ir.Value) -> ir.Value:
        """Call a function of LLVM or of the C library."""
        function = ir.FunctionType(kind, [value.type for value in values])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), values)

    def pause(self) -> None:
        """Tell the processor that this is a loop that waits."""
        if self.builder.module.triple.startswith("x86"):
            self.call("llvm.x86.sse2.pause", ir.VoidType())

    def add_product(self, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
        """Return ``a * b + total``, rounded once."""
        return self.call("llvm.fma.v16f32", FLOATS, a, b, total)

    def largest(self, vector: ir.Value) -> ir.Value:
        """Return the largest of 16 unsigned integers."""
        return self.call("llvm.vector.reduce.umax.v16i32", INT, vector)

    def sum_of_ints(self, vector: ir.Value) -> ir.Value:
        """Return the sum of 16 integers."""
        return self.call("llvm.vector.reduce.add.v16i32", INT, vector)

    def sum_of_floats(self, vector: ir.Value) -> ir.Value:
        """Return the sum of 16 numbers: halves are added to each other until one is left."""
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            low, high = (
                self.builder.shuffle_vector(
                    vector, vector, ir.Constant(ir.VectorType(INT, lanes), list(range(first, first + lanes)))
                )
                for first in (0, lanes)
            )
            vector = self.builder.fadd(low, high)
        return self.builder.extract_element(vector, INT(0))

    def widened_halves(self, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """Load 16 numbers of float16 as float32."""
        if self.features.dot != "generic":
            return self.builder.fpext(self.load(HALVES, address, *terms), FLOATS)
        return self._widened_by_integers(self.load(SHORTS, address, *terms))

    def _widened_by_integers(self, halves: ir.Value) -> ir.Value:
        """Do what LLVM calls a function of the compiler's library for, which a process may lack."""
        bits = self.builder.zext(halves, INTS)
        sign = self.builder.shl(self.builder.and_(bits, constant(0x8000, INTS)), constant(16, INTS))
        rest = self.builder.shl(self.builder.and_(bits, constant(0x7FFF, INTS)), constant(13, INTS))
        number = self.builder.fmul(self.builder.bitcast(rest, FLOATS), constant(2.0**112))
        is_number = self.builder.icmp_unsigned("<", rest, constant(0x0F800000, INTS))
        special = self.builder.or_(rest, constant(0x7F800000, INTS))
        chosen = self.builder.select(is_number, self.builder.bitcast(number, INTS), special)
        return self.builder.bitcast(self.builder.or_(chosen, sign), FLOATS)

    def widened_bfloats(self, address: ir.Value, *terms: ir.Value | int) -> ir.Value:
        """Load 16 numbers of bfloat16 as float32."""
        bits = self.builder.zext(self.load(SHORTS, address, *terms), INTS)
        return self.builder.bitcast(self.builder.shl(bits, constant(16, INTS)), FLOATS)

    def rounded_to_bfloat(self, value: ir.Value) -> ir.Value:
        """Return the bits of float32 numbers as bfloat16, to nearest even; a NaN stays one."""
        bits = self.builder.bitcast(value, INTS)
        odd = self.builder.and_(self.builder.lshr(bits, constant(16, INTS)), constant(1, INTS))
        rounded = self.builder.add(self.builder.add(bits, constant(0x7FFF, INTS)), odd)
        quiet = self.builder.or_(bits, constant(0x400000, INTS))
        is_number = self.builder.fcmp_ordered("==", value, value)
        chosen = self.builder.select(is_number, rounded, quiet)
        return self.builder.trunc(self.builder.lshr(chosen, constant(16, INTS)), SHORTS)

    # The two products that depend on the processor.

    def add_dot_bytes(self, total: ir.Value, unsigned: ir.Value, signed: ir.Value, largest: int = 255) -> ir.Value:
        """Add to each of 16 integers the products of four unsigned bytes [0, largest] and four signed ones."""
        is_small = 2 * 128 * largest < 1 << 15  # so that sums of two products fit into 16 bits
        product = _SMALL_DOTS.get(self.features.dot) if is_small else None
        return (product or _DOTS[self.features.dot])(self, total, unsigned, signed)

    def add_dot_pairs(self, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """Add to each of 16 float32 numbers the products of two pairs of bfloat16, the second pair first."""
        if self.features.bf16:
            return self.call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, total, a, b)
        odd, even = zip(self._pair(a), self._pair(b), strict=True)
        return self.add_product(*even, self.add_product(*odd, total))

    def _pair(self, vector: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the second and the first elements of pairs of bfloat16 as float32."""
        bits = self.builder.bitcast(vector, INTS)
        second = self.builder.and_(bits, constant(-65536, INTS))
        first = self.builder.shl(bits, constant(16, INTS))
        return self.builder.bitcast(second, FLOATS), self.builder.bitcast(first, FLOATS)


class Variable:
    """A value that changes in a loop."""

    def __init__(self, emit: Emit, value: ir.Value) -> None:
        self._builder = emit.builder
        self._slot = cgutils.alloca_once(emit.builder, value.type)
        self.set(value)

    def get(self) -> ir.Value:
        """Return the value."""
        return self._builder.load(self._slot)

    def set(self, value: ir.Value) -> None:
        """Change the value."""
        self._builder.store(value, self._slot)


def emitted(parameters: int, result: Any = types.void) -> Callable[[Callable[..., ir.Value | None]], Any]:
    """Return a decorator: ``emit_function(emit, *values)`` becomes a function of so many int64 for Numba code.

    It keeps what it was as ``emit``.
    """
    names = ", ".join(f"a{number}" for number in range(parameters))
    signature = result(*[types.int64] * parameters)

    def decorate(function: Callable[..., ir.Value | None]) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Sequence[ir.Value]) -> ir.Value:
            value = function(Emit(builder), *values)
            return context.get_dummy_value() if value is None else value

        # Numba wants a function with as many named parameters.
        scope = {"signature": signature, "generate": generate}
        exec(f"def typed(typing_context, {names}): return signature, generate", scope)
        made: Any = intrinsic(scope["typed"])
        made.emit = function
        return made

    return decorate


def _halves(builder: ir.IRBuilder, vector: ir.Value) -> tuple[ir.Value, ir.Value]:
    count = vector.type.count // 2
    indices = ir.VectorType(INT, count)
    return tuple(
        builder.shuffle_vector(vector, vector, ir.Constant(indices, list(range(first, first + count))))
        for first in (0, count)
    )


def _joined(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    count = 2 * a.type.count
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, count), list(range(count))))


def _by_parts(bits: int, part: Callable[..., ir.Value]) -> Callable[..., ir.Value]:
    """Return a product of 512 bits made of products of ``bits``."""

    def whole(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        if total.type.count * 32 == bits:
            return part(emit, total, unsigned, signed)
        parts = zip(*(_halves(emit.builder, vector) for vector in (total, unsigned, signed)), strict=True)
        return _joined(emit.builder, *(whole(emit, *each) for each in parts))

    return whole


def _on_integers(name: str) -> Callable[..., ir.Value]:
    """Return an instruction of Intel's, which takes four bytes as an integer, as LLVM before 22 has it."""

    def part(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        return emit.call(name, total.type, total, *(emit.builder.bitcast(v, total.type) for v in (unsigned, signed)))

    return part


def _unsigned_dot(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    """NEON with i8mm."""
    return emit.call("llvm.aarch64.neon.usdot.v4i32.v16i8", total.type, total, unsigned, signed)


def _on_shorts(name: str) -> Callable[..., ir.Value]:
    """Return an instruction of Intel's for pairs of 16 bits. That for bytes saturates, so these are widened first."""

    def part(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        builder, shorts = emit.builder, ir.VectorType(SHORT, 2 * total.type.count)
        eight = constant(8, shorts)
        u, s = builder.bitcast(unsigned, shorts), builder.bitcast(signed, shorts)
        even = builder.and_(u, constant(255, shorts)), builder.ashr(builder.shl(s, eight), eight)
        odd = builder.lshr(u, eight), builder.ashr(s, eight)
        for pair in (even, odd):
            total = builder.add(total, emit.call(name, total.type, *pair))
        return total

    return part


def _on_small_bytes(multiply: str, add: str) -> Callable[..., ir.Value]:
    """Return a product by the two instructions of Intel's before VNNI, of which the first saturates at 16 bits."""

    def part(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        shorts = ir.VectorType(SHORT, 2 * total.type.count)
        pairs = emit.call(multiply, shorts, unsigned, signed)
        return emit.builder.add(total, emit.call(add, total.type, pairs, constant(1, shorts)))

    return part


def _signed_dot(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    """NEON without i8mm multiplies signed bytes only: u * s = (u - 128) * s + 64 * s + 64 * s."""
    shifted = emit.builder.xor(unsigned, constant(-128, unsigned.type))
    for factor in (shifted, constant(64, unsigned.type), constant(64, unsigned.type)):
        total = emit.call("llvm.aarch64.neon.sdot.v4i32.v16i8", total.type, total, factor, signed)
    return total


def _generic(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
    """Any processor: the four bytes of a lane are widened one after the other."""
    builder, shift = emit.builder, [constant(bits, INTS) for bits in (0, 8, 16, 24)]
    u, s = builder.bitcast(unsigned, INTS), builder.bitcast(signed, INTS)
    for byte in range(4):
        value = builder.and_(builder.lshr(u, shift[byte]), constant(255, INTS))
        factor = builder.ashr(builder.shl(s, shift[3 - byte]), shift[3])
        total = builder.add(total, builder.mul(value, factor))
    return total


_DOTS: dict[str, Callable[..., ir.Value]] = {
    "avx512vnni": _on_integers("llvm.x86.avx512.vpdpbusd.512"),
    "avxvnni": _by_parts(256, _on_integers("llvm.x86.avx512.vpdpbusd.256")),
    "avx512bw": _on_shorts("llvm.x86.avx512.pmaddw.d.512"),
    "avx2": _by_parts(256, _on_shorts("llvm.x86.avx2.pmadd.wd")),
    "i8mm": _by_parts(128, _unsigned_dot),
    "dotprod": _by_parts(128, _signed_dot),
    "generic": _generic,
}
_SMALL_DOTS: dict[str, Callable[..., ir.Value]] = {
    "avx512bw": _on_small_bytes("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
    "avx2": _by_parts(256, _on_small_bytes("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")),
}
