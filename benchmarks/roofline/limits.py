"""What this machine can do at most, measured by kernels that do nothing else."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numba
from llvmlite import ir
from numba import njit, prange

from kernels.cpu.step.program import zeros
from kernels.cpu.step.vectors import BYTES, FLOATS, INTS, LONG, PAIRS, Emit, constant, emitted

READ_BYTES = 384 << 20  # so much that what caches hold makes no difference
STREAMS = 8  # vectors that are loaded before the first is needed
CHAINS = 16  # of products that do not wait for one another
ROUNDS = 400_000
TRIES = 100
OPERATIONS = {"bytes": 128, "pairs": 64, "floats": 32}  # of one instruction: a product and a sum count as two


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a second that are read from memory; operations a second on registers, by the kind of product."""

    read: float
    bytes: float  # dot products of bytes
    pairs: float  # dot products of pairs of bfloat16
    floats: float  # float32 multiply and add


@emitted(3)
def _read(emit: Emit, source: ir.Value, size: ir.Value, out: ir.Value) -> None:
    sums = [emit.variable(constant(0, INTS)) for _ in range(STREAMS)]
    with emit.loop(emit.builder.udiv(size, LONG(64 * STREAMS))) as index:
        at = emit.offset(source, emit.times(index, 64 * STREAMS))
        for number, total in enumerate(sums):
            total.set(emit.builder.add(total.get(), emit.load(INTS, at, 64 * number)))
    for number, total in enumerate(sums):
        emit.store(total.get(), out, 64 * number)


def _chains(
    kind: ir.VectorType, first: ir.Constant, step: Callable[[Emit, ir.Value, ir.Value, ir.Value], ir.Value]
) -> Callable[[int, int], None]:
    """Return a function that repeats products of two vectors at an address, whose sums follow there."""

    @emitted(2)
    def repeat(emit: Emit, rounds: ir.Value, at: ir.Value) -> None:
        a, b = emit.load(kind, at), emit.load(kind, at, 64)
        sums = [emit.variable(first) for _ in range(CHAINS)]
        with emit.loop(rounds):
            for total in sums:
                total.set(step(emit, total.get(), a, b))
        for number, total in enumerate(sums):
            emit.store(total.get(), at, 128 + 64 * number)

    return repeat


_bytes = _chains(BYTES, constant(0, INTS), Emit.add_dot_bytes)
_pairs = _chains(PAIRS, constant(0.0), Emit.add_dot_pairs)
_floats = _chains(FLOATS, constant(0.0), lambda emit, total, a, b: emit.add_product(a, b, total))


@njit(nogil=True, parallel=True)
def _read_all(threads, source, size, out):
    for thread in prange(threads):
        _read(source + size // threads * thread, size // threads, out + 4096 * thread)


@njit(nogil=True, parallel=True)
def _bytes_all(threads, rounds, at):
    for thread in prange(threads):
        _bytes(rounds, at + 4096 * thread)


@njit(nogil=True, parallel=True)
def _pairs_all(threads, rounds, at):
    for thread in prange(threads):
        _pairs(rounds, at + 4096 * thread)


@njit(nogil=True, parallel=True)
def _floats_all(threads, rounds, at):
    for thread in prange(threads):
        _floats(rounds, at + 4096 * thread)


class Sweep:
    """Memory of ``size`` bytes, which each call reads once by so many threads, by default all."""

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.threads = threads or numba.get_num_threads()
        each = 64 * STREAMS * self.threads
        self.size = size // each * each
        self._memory = zeros((self.size,))
        self._memory += 1
        self._out = zeros((self.threads, 4096))

    def __call__(self) -> None:
        """Read it."""
        _read_all(self.threads, self._memory.ctypes.data, self.size, self._out.ctypes.data)


def measure(threads: int | None = None) -> Limits:
    """Measure what so many threads, by default all, do together: the best of several tries."""
    sweep = Sweep(READ_BYTES, threads)
    at = zeros((sweep.threads, 4096))
    rates = []
    for name, function in (("bytes", _bytes_all), ("pairs", _pairs_all), ("floats", _floats_all)):
        elapsed = _best(lambda function=function: function(sweep.threads, ROUNDS, at.ctypes.data))
        rates.append(sweep.threads * ROUNDS * CHAINS * OPERATIONS[name] / elapsed)
    return Limits(sweep.size / _best(sweep), *rates)


def _best(call: Callable[[], None]) -> float:
    call()
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)
