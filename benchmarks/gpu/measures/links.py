"""The links between device and host: plain copies of pinned memory, which is all that a swap can hope for."""

from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.gpu.rig import Rig
from benchmarks.gpu.timing import device_seconds, seconds
from benchmarks.record import Figures
from service.execution.gpu.runtime import Array, Bytes, Stream

GB = 1e9  # links and memory are sold in these
BYTE = "uint8"


@dataclass(frozen=True)
class Ends:
    """Memory at both ends of a link, of as many bytes, and a stream for each direction."""

    device: Array
    host: Bytes
    streams: tuple[Stream, Stream]

    @classmethod
    def make(cls, rig: Rig) -> "Ends":
        """Twice what a measurement moves: each direction has a half."""
        size = 2 * rig.scale.link_bytes
        with rig.runtime.bound():
            streams = rig.runtime.stream(), rig.runtime.stream()
            return cls(rig.runtime.empty((size,), BYTE), rig.runtime.pinned(size), streams)

    def copy(self, inward: bool, piece_bytes: int) -> None:
        """Submit a half, in pieces."""
        half = len(self.host) // 2
        first = 0 if inward else half
        for start in range(first, first + half, piece_bytes):
            end = min(start + piece_bytes, first + half)
            ends = self.host[start:end], self.device[start:end]
            self.streams[inward].copy(*(ends if inward else reversed(ends)))


def measure_links(rig: Rig) -> Figures:
    """GB/s each way by the size of a piece, and both ways at once."""
    ends = Ends.make(rig)
    figures: Figures = {}
    for size in rig.scale.copy_bytes:
        for name, inward in (("h2d", True), ("d2h", False)):
            figures[f"{name}_gb_per_s_{size >> 10}_kib"] = one_way(rig, ends, inward, size)
    figures["duplex_gb_per_s"] = both_ways(rig, ends)
    figures["device_copy_gb_per_s"] = device_copy(rig)
    return figures


def one_way(rig: Rig, ends: Ends, inward: bool, piece_bytes: int) -> float:
    """GB/s of plain copies."""
    with rig.runtime.bound():
        took = device_seconds(ends.streams[inward], lambda: ends.copy(inward, piece_bytes), rig.scale.repetitions)
    return len(ends.host) / 2 / GB / took


def both_ways(rig: Rig, ends: Ends) -> float:
    """GB/s of both directions together, from their common start to the later end."""
    piece_bytes = max(rig.scale.copy_bytes)
    with rig.runtime.bound():
        rates = [_both_at_once(ends, piece_bytes) for _ in range(rig.scale.repetitions + 1)]
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


def device_copy(rig: Rig) -> float:
    """GB/s of the device's memory: bytes read and bytes written by a copy inside it."""
    numbers = rig.scale.link_bytes // 4
    memory = rig.empty((2 * numbers,), np.float32)
    rig.randomise(memory)
    with rig.runtime.bound():
        stream = rig.runtime.stream()
        took = device_seconds(stream, lambda: stream.copy(memory[:numbers], memory[numbers:]), rig.scale.repetitions)
    return memory.nbytes / GB / took
