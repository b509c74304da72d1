"""Root-mean-square norms, bound by memory: a load has 16 bytes a thread, and the second pass finds its row in cache.

Registers: 40 a thread.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import float32, int32, int64

from kernels.cuda.elements import Elements
from kernels.cuda.kernel import Bytes, Kernel
from kernels.cuda.reductions import lanes_for, sum_of_block, sum_of_lanes
from kernels.cuda.words import divide, inverse_root

REGISTERS = 40
THREADS = 128


@cache
def rms_norm(elements: Elements) -> Kernel:
    """Norm rows. Grid: rows. vectors: 16-byte vectors of a row."""
    load, load_constant, store, width = elements.load, elements.load_constant, elements.store, elements.width

    def kernel(x, weight, eps, vectors, out):
        row, thread = int64(cuda.blockIdx.x) * vectors, int32(cuda.threadIdx.x)
        values, weights = cuda.local.array(width, float32), cuda.local.array(width, float32)
        squares = float32(0)
        for vector in range(thread, vectors, THREADS):
            load(x, int64(row + vector), values)
            for i in range(width):
                squares += values[i] * values[i]
        mean = divide(sum_of_block(squares, THREADS // 32, thread), float32(vectors * width))
        scale = inverse_root(mean + eps)
        for vector in range(thread, vectors, THREADS):
            load(x, int64(row + vector), values)
            load_constant(weight, int64(vector), weights)
            for i in range(width):
                values[i] = values[i] * scale * weights[i]
            store(out, int64(row + vector), values)

    return Kernel(f"rms_norm_{elements.name}", kernel, (Bytes, Bytes, float32, int32, Bytes), (THREADS, 1), REGISTERS)


@cache
def add_rms_norm(elements: Elements) -> Kernel:
    """Norm rows of ``residual + x``, which becomes the residual: one kernel reads and writes it once. Grid: rows."""
    load, load_constant, store, width = elements.load, elements.load_constant, elements.store, elements.width

    def kernel(residual, x, weight, eps, vectors, out):
        row, thread = int64(cuda.blockIdx.x) * vectors, int32(cuda.threadIdx.x)
        values, others = cuda.local.array(width, float32), cuda.local.array(width, float32)
        squares = float32(0)
        for vector in range(thread, vectors, THREADS):
            load(residual, int64(row + vector), values)
            load_constant(x, int64(row + vector), others)
            for i in range(width):
                values[i] += others[i]
                squares += values[i] * values[i]
            store(residual, int64(row + vector), values)
        mean = divide(sum_of_block(squares, THREADS // 32, thread), float32(vectors * width))
        scale = inverse_root(mean + eps)
        # Each thread reads back what it wrote itself, so no barrier is needed.
        for vector in range(thread, vectors, THREADS):
            load(residual, int64(row + vector), values)
            load_constant(weight, int64(vector), others)
            for i in range(width):
                values[i] = values[i] * scale * others[i]
            store(out, int64(row + vector), values)

    parameters = (Bytes, Bytes, Bytes, float32, int32, Bytes)
    return Kernel(f"add_rms_norm_{elements.name}", kernel, parameters, (THREADS, 1), REGISTERS)


@cache
def head_rms_norm(elements: Elements, head_dim: int) -> Kernel:
    """Norm heads, a group of lanes each; lanes beyond a head's vectors only shuffle. Grid: tokens, groups of heads."""
    load, load_constant, store, width = elements.load, elements.load_constant, elements.store, elements.width
    vectors = head_dim // width
    lanes = lanes_for(vectors)
    teams = THREADS // lanes

    def kernel(qkv, all_heads, first, last, weight, eps):
        lane, head = int32(cuda.threadIdx.x), first + int32(cuda.blockIdx.y) * teams + int32(cuda.threadIdx.y)
        at = (int64(cuda.blockIdx.x) * all_heads + head) * vectors + lane
        values, weights = cuda.local.array(width, float32), cuda.local.array(width, float32)
        mine = lane < vectors and head < last
        squares = float32(0)
        if mine:
            load(qkv, int64(at), values)
            for i in range(width):
                squares += values[i] * values[i]
        scale = inverse_root(divide(sum_of_lanes(squares, lanes), float32(head_dim)) + eps)
        if mine:
            load_constant(weight, int64(lane), weights)
            for i in range(width):
                values[i] = values[i] * scale * weights[i]
            store(qkv, int64(at), values)

    name = f"head_rms_norm_{elements.name}_{head_dim}"
    return Kernel(name, kernel, (Bytes, int32, int32, int32, Bytes, float32), (lanes, teams), REGISTERS)
