"""Q4_0: blocks of 32 weights with one scale, ``(quant - 8) * d``.

file    18 bytes: d float16; 16 bytes, byte i: quant i low, quant i + 16 high
scales  32 bytes: d float16[16]
quants  256 bytes: 4 vectors of nibbles
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.embedding import quantised_rows
from kernels.cpu.step.formats import loads
from kernels.cpu.step.formats.format import Bytes, Quantised, halves
from kernels.cpu.step.formats.packing import put_half, put_nibbles
from kernels.cpu.step.products import quantised_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.reference import QuantisedMatrix


def nibbles(raw):
    """Return the quants [rows, columns] in bytes [rows, blocks, 16] of a file."""
    return np.concatenate((raw & 15, raw >> 4), axis=-1).reshape(len(raw), -1)


@njit(nogil=True, cache=True)
def _pack(raw, out, section):
    quants = np.empty(32, np.uint8)
    for group in range(len(out)):
        for block in range(raw.shape[1] // 18):
            for row in range(16):
                source, packed = raw[16 * group + row, 18 * block : 18 * block + 18], out[group]
                put_half(source, 0, row, packed, 32 * block)
                take_nibbles(source, 2, quants)
                put_nibbles(quants, row, packed, section + 256 * block)


@njit(nogil=True, cache=True)
def take_nibbles(source, first, quants):
    """Unpack a block's 16 bytes of a file from ``first`` on."""
    for i in range(16):
        quants[i] = source[first + i] & 15
        quants[16 + i] = source[first + i] >> 4


class Q4_0(Quantised):
    """See the module."""

    name = "Q4_0"
    columns = 32
    file_bytes = 18
    scale_bytes = 32
    quant_bytes = 256
    largest = 15
    offset = 8
    pack_groups = staticmethod(_pack)

    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """See `Quantised`."""
        blocks = raw.reshape(len(raw), -1, self.file_bytes)
        scales = halves(blocks[..., :2])
        return QuantisedMatrix(nibbles(blocks[..., 2:]), self.offset, scales[..., 0], None)

    def quants(self, emit, address):
        """See `Quantised`."""
        return loads.nibbles(emit, address)

    def scales(self, emit, section, block):
        """See `Quantised`."""
        return [emit.widened_halves(section, emit.times(block, 32))]


product, rows = quantised_product(Q4_0()), quantised_rows(Q4_0())


@unit_kernel
def linear_q4_0(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_q4_0(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
