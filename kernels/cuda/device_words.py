"""Single machine instructions for kernels; `simulated.words` has the same names in NumPy."""

# mypy: ignore-errors

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

I16, I32, I64, F16, F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()
FOUR_WORDS, FOUR_FLOATS = ir.LiteralStructType([I32] * 4), ir.LiteralStructType([F32] * 4)
SHARED = 3  # NVVM's number of the shared address space
WHOLE_WARP = ("convergent",)  # the compiler may not move it to a place that some lanes do not reach


def _instruct(builder, result, operands, text, constraints, ordered=False, attributes=()):
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=ordered), operands, attrs=attributes)


def _address(builder, memory, vector):
    return builder.add(builder.ptrtoint(memory, I64), builder.shl(vector, ir.Constant(I64, 4)))


def _tuple(builder, four, element):
    """Return the registers that an instruction filled, as Numba's tuple."""
    out = ir.Constant(ir.ArrayType(element, 4), ir.Undefined)
    for i in range(4):
        out = builder.insert_value(out, builder.extract_value(four, i), i)
    return out


def _load(builder, args, instruction, ordered):
    clobber = ",~{memory}" if ordered else ""
    words = _instruct(
        builder,
        FOUR_WORDS,
        [_address(builder, *args)],
        instruction + " {$0,$1,$2,$3}, [$4];",
        "=r,=r,=r,=r,l" + clobber,
        ordered,
    )
    return _tuple(builder, words, I32)


@intrinsic
def load_16(typing_context, memory, vector):
    """Load four words, in the order of the program's other loads and stores."""

    def generate(context, builder, signature, args):
        return _load(builder, args, "ld.global.v4.u32", True)

    return types.UniTuple(types.uint32, 4)(memory, types.int64), generate


@intrinsic
def load_16_constant(typing_context, memory, vector):
    """Load four words that nothing writes while the kernel runs: the compiler may move the load."""

    def generate(context, builder, signature, args):
        return _load(builder, args, "ld.global.nc.L1::no_allocate.v4.u32", False)

    return types.UniTuple(types.uint32, 4)(memory, types.int64), generate


@intrinsic
def store_16(typing_context, memory, vector, a, b, c, d):
    """Write four words."""

    def generate(context, builder, signature, args):
        operands = [_address(builder, *args[:2]), *args[2:]]
        void = ir.VoidType()
        text, constraints = "st.global.v4.u32 [$0], {$1,$2,$3,$4};", "l,r,r,r,r,~{memory}"
        _instruct(builder, void, operands, text, constraints, True)
        return context.get_dummy_value()

    return types.void(memory, types.int64, types.uint32, types.uint32, types.uint32, types.uint32), generate


def _from_word(emit):
    """Make an intrinsic float32(uint32) from ``emit(builder, word)``."""

    def declare(typing_context, word):
        return types.float32(types.uint32), lambda context, builder, signature, args: emit(builder, args[0])

    return intrinsic(declare)


def _float_operation(text, arity):
    """Make an intrinsic on float32 that is one instruction."""
    constraints = "=f" + ",f" * arity

    def generate(context, builder, signature, args):
        return _instruct(builder, F32, args, text, constraints)

    if arity == 1:
        return intrinsic(lambda typing_context, x: (types.float32(types.float32), generate))
    return intrinsic(lambda typing_context, x, y: (types.float32(types.float32, types.float32), generate))


def _pack(text):
    """Make an intrinsic uint32(low, high): two float32 rounded to nearest even, in one word."""

    def generate(context, builder, signature, args):
        return _instruct(builder, I32, [args[1], args[0]], text, "=r,f,f")

    return intrinsic(lambda typing_context, low, high: (types.uint32(types.float32, types.float32), generate))


def _half(builder, bits):
    return builder.fpext(builder.bitcast(builder.trunc(bits, I16), F16), F32)


float_of = _from_word(lambda b, word: b.bitcast(word, F32))
bf16_low = _from_word(lambda b, word: b.bitcast(b.shl(word, ir.Constant(I32, 16)), F32))
bf16_high = _from_word(lambda b, word: b.bitcast(b.and_(word, ir.Constant(I32, 0xFFFF0000)), F32))
f16_low = _from_word(_half)
f16_high = _from_word(lambda b, word: _half(b, b.lshr(word, ir.Constant(I32, 16))))
pack_bf16 = _pack("cvt.rn.bf16x2.f32 $0, $1, $2;")
pack_f16 = _pack("cvt.rn.f16x2.f32 $0, $1, $2;")
exp2 = _float_operation("ex2.approx.ftz.f32 $0, $1;", 1)
inverse_root = _float_operation("rsqrt.approx.f32 $0, $1;", 1)
divide = _float_operation("div.full.f32 $0, $1, $2;", 2)  # within 2 units in the last place, and no call


@intrinsic
def word_of(typing_context, x):
    """Return the bits of a float32."""
    return types.uint32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], I32)


def _shared_address(context, builder, kind, array, vector):
    """Return the address of a vector of a shared array [words], in the shared window."""
    data = context.make_array(kind)(context, builder, array).data
    window = builder.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED))
    return builder.add(builder.ptrtoint(window, I32), builder.shl(vector, ir.Constant(I32, 4)))


@intrinsic
def copy_16_async(typing_context, shared, to, memory, vector, valid):
    """Start to copy a vector of memory to vector ``to`` of a shared array; if not valid, read nothing, write zeros."""

    def generate(context, builder, signature, args):
        target = _shared_address(context, builder, signature.args[0], *args[:2])
        size = builder.select(args[4], ir.Constant(I32, 16), ir.Constant(I32, 0))
        operands = [target, _address(builder, *args[2:4]), size]
        text = "cp.async.cg.shared.global [$0], [$1], 16, $2;"
        _instruct(builder, ir.VoidType(), operands, text, "r,l,r,~{memory}", True)
        return context.get_dummy_value()

    return types.void(shared, types.int32, memory, types.int64, types.boolean), generate


@intrinsic
def wait_for_copies(typing_context):
    """Wait until the copies that this thread started are done. A barrier then shows them to the others."""

    def generate(context, builder, signature, args):
        _instruct(builder, ir.VoidType(), [], "cp.async.wait_all;", "~{memory}", True)
        return context.get_dummy_value()

    return types.void(), generate


def _matrices(order):
    """Make an intrinsic of a warp that loads four 8x8 matrices of halves from a shared array.

    Lane ``8 * m + r`` names the vector that is row r of matrix m, and gets of each matrix the word ``lane % 4`` of row
    ``lane / 4``, after transposing if ``order`` says so (PTX ISA, ldmatrix).
    """
    text = f"ldmatrix.sync.aligned.m8n8.x4{order}.shared.b16 {{$0,$1,$2,$3}}, [$4];"

    def declare(typing_context, shared, vector):
        def generate(context, builder, signature, args):
            address = _shared_address(context, builder, signature.args[0], *args)
            words = _instruct(builder, FOUR_WORDS, [address], text, "=r,=r,=r,=r,r,~{memory}", True, WHOLE_WARP)
            return _tuple(builder, words, I32)

        return types.UniTuple(types.uint32, 4)(shared, types.int32), generate

    return intrinsic(declare)


def _multiply(element):
    """Make an intrinsic of a warp: ``a @ b + c`` in float32, with halves a [16, 16] and b [16, 8], two in a word.

    A lane is in group ``g = lane / 4`` with number ``n = lane % 4``. It holds, and gets of the sum, in the order of the
    args: a[g, 2n:], a[g + 8, 2n:], a[g, 2n + 8:], a[g + 8, 2n + 8:], b[2n:, g], b[2n + 8:, g], each two elements;
    c[g, 2n], c[g, 2n + 1], c[g + 8, 2n], c[g + 8, 2n + 1] (PTX ISA, fragments of mma.m16n8k16).
    """
    text = (
        f"mma.sync.aligned.m16n8k16.row.col.f32.{element}.{element}.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )

    def generate(context, builder, signature, args):
        constraints = "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
        sums = _instruct(builder, FOUR_FLOATS, args, text, constraints, attributes=WHOLE_WARP)
        return _tuple(builder, sums, F32)

    kind = types.UniTuple(types.float32, 4)(*[types.uint32] * 6, *[types.float32] * 4)
    return intrinsic(lambda typing_context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3: (kind, generate))


load_matrices = _matrices("")
load_matrices_transposed = _matrices(".trans")
multiply_bf16 = _multiply("bf16")
multiply_f16 = _multiply("f16")
