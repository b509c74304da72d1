"""The few loops that decide the speed of everything, written in LLVM vectors so that registers and order are fixed.

`make_dot_tile` makes a small matrix product over rows that both run along memory (``x @ w.T``), so nothing needs
packing: a tile of 4 x 6 keeps 24 sums in registers and reads 10 vectors for 24 multiply-adds. `make_mix_tile` makes the
other kind (``weights @ values``). With 512 tokens on two Zen 4 cores, the first reaches 190 GFLOP/s, 160 when left to
the compiler, and OpenBLAS 180; with 16 tokens it reaches 105, and OpenBLAS 57.

Every sum is computed in the same order whatever the tile: lane i adds the elements i, i + LANES, i + 2 LANES ..., then
the lanes are added in halves. So a sequence's numbers do not depend on what else is in the batch, bit for bit.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
LANES = 16 if WIDE else 8
OUTPUTS = 6 if WIDE else 2  # of a 4-token tile, as the vector registers hold them (AVX-512 has 32, AVX2 has 16)

CACHE_LINE = 16  # floats

FLOAT = ir.FloatType()
INDEX = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)

Load = Callable[[ir.Value], ir.Value]


def make_dot_tile(rows: int, cols: int) -> Any:
    """Make ``dot(x, x_at, x_step, w, w_at, w_step, depth, out, out_at, out_step)`` for a tile of rows x cols.

    ``out[out_at + r * out_step + c] = sum over k < depth of x[x_at + r * x_step + k] * w[w_at + c * w_step + k]``.
    The arrays are float32 of any shape, addressed by element from their first.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        _, x_at, x_step, _, w_at, w_step, depth, _, out_at, out_step = args
        bases = [_data(context, builder, signature.args[i], args[i]) for i in (0, 3, 7)]
        x_rows = _rows(builder, bases[0], x_at, x_step, rows)
        w_rows = _rows(builder, bases[1], w_at, w_step, cols)
        sums = _dot_products(builder, x_rows, w_rows, depth)
        for r, pointer in enumerate(_rows(builder, bases[2], out_at, out_step, rows)):
            for c in range(cols):
                builder.store(sums[r * cols + c], builder.gep(pointer, [INDEX(c)]))
        return context.get_dummy_value()

    @intrinsic
    def dot_tile(typing_context, x, x_at, x_step, w, w_at, w_step, depth, out, out_at, out_step):
        n = types.int64
        return types.void(x, n, n, w, n, n, n, out, n, n), generate

    return dot_tile


def make_mix_tile(rows: int, vectors: int) -> Any:
    """Make ``mix(weights, w_at, w_step, count, values, v_at, v_step, out, out_at, out_step)``, vectors * LANES wide.

    It adds to ``out[out_at + r * out_step + d]`` the sum over t < count of
    ``weights[w_at + r * w_step + t] * values[v_at + t * v_step + d]``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        _, w_at, w_step, count, _, v_at, v_step, _, out_at, out_step = args
        bases = [_data(context, builder, signature.args[i], args[i]) for i in (0, 4, 7)]
        w_rows = _rows(builder, bases[0], w_at, w_step, rows)
        outs = [
            builder.gep(p, [INDEX(v * LANES)])
            for p in _rows(builder, bases[2], out_at, out_step, rows)
            for v in range(vectors)
        ]
        sums = [cgutils.alloca_once_value(builder, _load(builder, p)) for p in outs]
        value = builder.gep(bases[1], [v_at])
        with cgutils.for_range(builder, count) as loop:
            row = builder.gep(value, [builder.mul(loop.index, v_step)])
            loaded = [_load(builder, builder.gep(row, [INDEX(v * LANES)])) for v in range(vectors)]
            for r in range(rows):
                weight = _broadcast(builder, builder.load(builder.gep(w_rows[r], [loop.index])))
                for v in range(vectors):
                    _add_product(builder, sums[r * vectors + v], weight, loaded[v])
        for pointer, total in zip(outs, sums, strict=True):
            builder.store(builder.load(total), builder.bitcast(pointer, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def mix_tile(typing_context, weights, w_at, w_step, count, values, v_at, v_step, out, out_at, out_step):
        n = types.int64
        return types.void(weights, n, n, n, values, n, n, out, n, n), generate

    return mix_tile


def _largest_of_16(typing_context, x, at):
    """Return ``max(x[at : at + 16])``, passing over NaNs."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        vector = ir.VectorType(FLOAT, 16)
        pointer = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)
        name = "llvm.vector.reduce.fmax.v16f32"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOAT, [vector]), name)
        return builder.call(reduce, [loaded])

    return types.float32(x, types.int64), generate


largest_of_16: Any = intrinsic(_largest_of_16)


def _prefetch(typing_context, x, at, count):
    """Ask the cache to load ``x[at : at + count]``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        prefetch_type = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        ask = cgutils.get_or_insert_function(builder.module, prefetch_type, "llvm.prefetch.p0")
        base = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        with cgutils.for_range_slice(builder, INDEX(0), args[2], INDEX(CACHE_LINE)) as (k, _):
            builder.call(ask, [builder.bitcast(builder.gep(base, [k]), byte), flag(0), flag(2), flag(1)])
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64), generate


prefetch: Any = intrinsic(_prefetch)


def _data(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value) -> ir.Value:
    return cgutils.create_struct_proxy(array_type)(context, builder, value=array).data


def _rows(builder: ir.IRBuilder, base: ir.Value, at: ir.Value, step: ir.Value, count: int) -> list[ir.Value]:
    return [builder.gep(base, [builder.add(at, builder.mul(step, INDEX(i)))]) for i in range(count)]


def _load(builder: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
    return builder.load(builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def _broadcast(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    first = builder.insert_element(ZEROS, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _add_product(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> None:
    fma_type = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{LANES}f32")
    builder.store(builder.call(fma, [a, b, builder.load(total)]), total)


def _dot_products(
    builder: ir.IRBuilder, x_rows: list[ir.Value], w_rows: list[ir.Value], depth: ir.Value
) -> list[ir.Value]:
    """Return all rows x cols sums, row by row."""
    sums = [cgutils.alloca_once_value(builder, ZEROS) for _ in x_rows for _ in w_rows]

    def step(load: Load) -> None:
        xs = [load(p) for p in x_rows]
        for c, pointer in enumerate(w_rows):
            w = load(pointer)
            for r, x in enumerate(xs):
                _add_product(builder, sums[r * len(w_rows) + c], x, w)

    whole = builder.and_(depth, INDEX(-LANES))
    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES)) as (k, _):
        step(lambda pointer: _load(builder, builder.gep(pointer, [k])))
    with builder.if_then(builder.icmp_signed("<", whole, depth), likely=False):
        step(lambda pointer: _load_rest(builder, pointer, whole, depth))
    return _add_lanes(builder, [builder.load(total) for total in sums])


def _load_rest(builder: ir.IRBuilder, pointer: ir.Value, begin: ir.Value, end: ir.Value) -> ir.Value:
    """Load the last elements, fewer than LANES, followed by zeros."""
    buffer = cgutils.alloca_once(builder, VECTOR)
    builder.store(ZEROS, buffer)
    lanes = builder.bitcast(buffer, FLOAT.as_pointer())
    with cgutils.for_range_slice(builder, begin, end, INDEX(1)) as (k, _):
        builder.store(builder.load(builder.gep(pointer, [k])), builder.gep(lanes, [builder.sub(k, begin)]))
    return builder.load(buffer)


def _add_lanes(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Return each vector's sum. Halves of two vectors share an addition, so that 24 sums take 29 and not 96."""
    count, width = len(vectors), LANES
    while width > 1:
        if len(vectors) > 1 and len(vectors) % 2:
            vectors = [*vectors, vectors[-1]]
        pairs = [vectors[i : i + 2] for i in range(0, len(vectors), 2)]
        vectors = [_fold(builder, pair[0], pair[-1], len(pair), width) for pair in pairs]
        width //= 2
    lanes = [builder.extract_element(v, ir.IntType(32)(i)) for v in vectors for i in range(v.type.count)]
    return lanes[:count]


def _fold(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, used: int, width: int) -> ir.Value:
    """Add the upper half of each ``width``-lane segment of a (and of b, if two are used) to its lower half."""
    segments = used * a.type.count // width
    lower = [s * width + i for s in range(segments) for i in range(width // 2)]

    def pick(lanes: list[int]) -> ir.Value:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))

    return builder.fadd(pick(lower), pick([i + width // 2 for i in lower]))
