"""Measure the links between device and host: plain copies of pinned memory are the upper bound for swaps."""

from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.gpu.timing import device_seconds, seconds
from benchmarks.gpu.under_test import GPUUnderTest
from benchmarks.record import Figures
from service.execution.gpu.runtime import Array, Bytes, Stream

GB = 1e9  # the unit of vendors' bandwidths
BYTE = "uint8"


@dataclass(frozen=True)
class Ends:
    """Memory of equal size at both ends of a link, and a stream for each direction."""

    device: Array
    host: Bytes
    streams: tuple[Stream, Stream]

    @classmethod
    def make(cls, gpu: GPUUnderTest) -> "Ends":
        """Allocate twice what a measurement moves: each direction has a half."""
        size = 2 * gpu.scale.link_bytes
        with gpu.runtime.bound():
            streams = gpu.runtime.stream(), gpu.runtime.stream()
            return cls(gpu.runtime.empty((size,), BYTE), gpu.runtime.pinned(size), streams)

    def copy(self, inward: bool, piece_bytes: int) -> None:
        """Submit copies of a half, in pieces of this size."""
        half = len(self.host) // 2
        first = 0 if inward else half
        for start in range(first, first + half, piece_bytes):
            end = min(start + piece_bytes, first + half)
            ends = self.host[start:end], self.device[start:end]
            self.streams[inward].copy(*(ends if inward else reversed(ends)))


def measure_links(gpu: GPUUnderTest) -> Figures:
    """Return GB/s each way by the size of a piece, and both ways at once."""
    ends = Ends.make(gpu)
    figures: Figures = {}
    for size in gpu.scale.copy_bytes:
        for name, inward in (("h2d", True), ("d2h", False)):
            figures[f"{name}_gb_per_s_{size >> 10}_kib"] = one_way(gpu, ends, inward, size)
    figures["duplex_gb_per_s"] = both_ways(gpu, ends)
    figures["device_copy_gb_per_s"] = device_copy(gpu)
    return figures


def one_way(gpu: GPUUnderTest, ends: Ends, inward: bool, piece_bytes: int) -> float:
    """Return GB/s of plain copies in one direction."""
    with gpu.runtime.bound():
        took = device_seconds(ends.streams[inward], lambda: ends.copy(inward, piece_bytes), gpu.scale.repetitions)
    return len(ends.host) / 2 / GB / took


def both_ways(gpu: GPUUnderTest, ends: Ends) -> float:
    """Return GB/s of both directions together, from their common start to the later end."""
    piece_bytes = max(gpu.scale.copy_bytes)
    with gpu.runtime.bound():
        rates = [_both_at_once(ends, piece_bytes) for _ in range(gpu.scale.repetitions + 1)]
    return median(rates[1:])


def _both_at_once(ends: Ends, piece_bytes: int) -> float:
    out, into = ends.streams
    begin = out.record(timed=True)
    into.wait(begin)
    for inward in (False, True):
        ends.copy(inward, piece_bytes)
    ended = [stream.record(timed=True) for stream in (out, into)]
    for event in ended:
        event.wait()
    return len(ends.host) / GB / max(seconds((begin, event)) for event in ended)


def device_copy(gpu: GPUUnderTest) -> float:
    """Return GB/s of the device's memory: bytes read and bytes written by a copy inside it."""
    numbers = gpu.scale.link_bytes // 4
    memory = gpu.empty((2 * numbers,), np.float32)
    gpu.randomise(memory)
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        took = device_seconds(stream, lambda: stream.copy(memory[:numbers], memory[numbers:]), gpu.scale.repetitions)
    return memory.nbytes / GB / took
