"""Tokens that stay on the device from the draw to the next step's input. Registers: 24 a thread."""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache

from numba import cuda
from numba.cuda.types import int32, int64, uint8

from kernels.cuda.kernel import Flags, Ints, Kernel

REGISTERS = 24
THREADS = 128


@cache
def pick_tokens() -> Kernel:
    """Look up the input IDs that are slots. Grid: pieces of ``count`` tokens."""

    def kernel(input_ids, last, count, out):
        i = int32(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x)
        if i < count:
            token = input_ids[i]
            out[i] = token if token >= 0 else last[-1 - token]

    return Kernel("pick_tokens", kernel, (Ints, Ints, int32, Ints), (THREADS, 1), REGISTERS)


@cache
def put_tokens() -> Kernel:
    """Store drawn tokens in their slots. Grid: pieces of ``count`` tokens."""

    def kernel(tokens, slots, count, last):
        i = int32(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x)
        if i < count:
            last[slots[i]] = tokens[i]

    return Kernel("put_tokens", kernel, (Ints, Ints, int32, Ints), (THREADS, 1), REGISTERS)


@cache
def count_tokens() -> Kernel:
    """Note drawn tokens. Grid: pieces of ``count`` tokens. Slots are distinct, so one thread adds to a count."""

    def kernel(tokens, slots, count, vocabulary, seen, counts):
        i = int32(cuda.blockIdx.x) * THREADS + int32(cuda.threadIdx.x)
        if i < count:
            at = int64(slots[i]) * vocabulary + tokens[i]
            seen[at] = uint8(1)
            counts[at] += 1

    return Kernel("count_tokens", kernel, (Ints, Ints, int32, int32, Flags, Ints), (THREADS, 1), REGISTERS)
