"""What all formats of packed weights share: the rows of a matrix [out, in] in groups of 16.

A packed matrix is an array uint8 [groups, group_bytes]. Rows of a group are interleaved, so that one vector holds the
same few columns of 16 rows, and 16 outputs are computed in its lanes. Rows that the last group lacks are packed as if
the file had zeros there.

A group of a quantised type is its scales, then its quants:
    scales  one entry of `scale_bytes` for each of the file's blocks, padded to a multiple of 64 bytes
    quants  one entry of `quant_bytes` for every 32 columns, in vectors of 64 bytes: byte 4 * r + j of a vector is of
            row r, and `packing.py` says of which column
A group of a 16-bit type is uint16 [columns, 16], padded to a multiple of 64 bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from kernels.cpu.step.formats.packing import transpose
from kernels.cpu.step.vectors import LONG, Emit
from kernels.reference import QuantisedMatrix

Bytes = NDArray[np.uint8]

GROUP = 16  # rows
VECTOR = 64  # bytes
QUANTS = 32  # columns of an entry of quants


class Format(ABC):
    """A type of weights. ``name`` is its name in a file, ``columns`` and ``file_bytes`` are its blocks' sizes."""

    name: str
    columns: int
    file_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Return the size of a row in the file."""
        return columns // self.columns * self.file_bytes

    @abstractmethod
    def group_bytes(self, columns: int) -> int:
        """Return the size of a packed group."""

    def pack(self, raw: Bytes, out: Bytes) -> None:
        """Pack rows ``raw`` [rows, row_bytes] of a file into ``out`` [groups, group_bytes], which holds zeros.

        Both are C-contiguous. Several threads may pack at once.
        """
        raw = raw[:]  # a view of our own, which Numba compiles for once: as of memory that cannot be written
        raw.flags.writeable = False
        whole = len(raw) // GROUP
        if whole:
            self._pack(raw[: whole * GROUP], out[:whole])
        if rest := len(raw) % GROUP:
            last = np.zeros((GROUP, raw.shape[1]), np.uint8)
            last[:rest] = raw[whole * GROUP :]
            last.flags.writeable = False
            self._pack(last, out[whole : whole + 1])

    @abstractmethod
    def _pack(self, raw: Bytes, out: Bytes) -> None:
        """Pack whole groups."""


class Quantised(Format):
    """A type whose weights are ``(quant - offset) * scale + minimum``; ``offset`` is 0 if it has minima."""

    scale_bytes: int
    quant_bytes: int
    largest: int
    offset: int
    parts = 1
    pack_groups: Callable[[Bytes, Bytes, int], None]
    """Pack whole groups, whose quants begin at a byte."""

    def scale_section(self, columns: int) -> int:
        """Return the size of a group's scales, after which its quants begin."""
        return padded(columns // self.columns * self.scale_bytes)

    def group_bytes(self, columns: int) -> int:
        """Return the size of a packed group."""
        return self.scale_section(columns) + columns // QUANTS * self.quant_bytes

    @abstractmethod
    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """Return what rows [rows, row_bytes] of a file mean."""

    def section(self, emit: Emit, blocks: ir.Value) -> ir.Value:
        """See `products.Quants`."""
        size = emit.times(emit.builder.udiv(blocks, LONG(self.columns // QUANTS)), self.scale_bytes)
        return emit.builder.and_(emit.offset(size, VECTOR - 1), LONG(-VECTOR))

    @abstractmethod
    def quants(self, emit: Emit, address: ir.Value) -> Sequence[ir.Value]:
        """See `products.Quants`."""

    @abstractmethod
    def scales(self, emit: Emit, section: ir.Value, block: ir.Value) -> Sequence[ir.Value]:
        """See `products.Quants`."""

    def minima(self, emit: Emit, section: ir.Value, block: ir.Value) -> ir.Value | None:
        """See `products.Quants`."""
        return None

    def _pack(self, raw: Bytes, out: Bytes) -> None:
        self.pack_groups(raw, out, self.scale_section(raw.shape[1] // self.file_bytes * self.columns))


class SixteenBits(Format):
    """A type of 16-bit floating-point numbers."""

    columns = 1
    file_bytes = 2

    def group_bytes(self, columns: int) -> int:
        """Return the size of a packed group."""
        return padded(columns * GROUP * self.file_bytes)

    @abstractmethod
    def decode(self, raw: Bytes) -> NDArray[np.float32]:
        """Return the numbers in rows [rows, row_bytes] of a file."""

    def _pack(self, raw: Bytes, out: Bytes) -> None:
        transpose(raw.view(np.uint16), out.view(np.uint16))


def padded(size: int) -> int:
    """Return the next multiple of a vector's size."""
    return -(-size // VECTOR) * VECTOR


def halves(raw: Bytes) -> NDArray[np.float32]:
    """Return the float16 in the last axis of bytes of a file."""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)
