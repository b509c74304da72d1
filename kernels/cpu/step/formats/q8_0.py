"""Q8_0: blocks of 32 weights with one scale, ``quant * d``; quants are packed unsigned, as ``quant + 128``.

file    34 bytes: d float16; 32 quants int8
scales  32 bytes: d float16[16]
quants  512 bytes: 8 vectors of bytes
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.embedding import quantised_rows
from kernels.cpu.step.formats.format import Bytes, Quantised, halves
from kernels.cpu.step.formats.packing import put_bytes, put_half
from kernels.cpu.step.products import quantised_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import BYTES
from kernels.reference import QuantisedMatrix


@njit(nogil=True, cache=True)
def _pack(raw, out, section):
    quants = np.empty(32, np.uint8)
    for group in range(len(out)):
        for block in range(raw.shape[1] // 34):
            for row in range(16):
                source, packed = raw[16 * group + row, 34 * block : 34 * block + 34], out[group]
                put_half(source, 0, row, packed, 32 * block)
                for i in range(32):
                    quants[i] = source[2 + i] ^ 128
                put_bytes(quants, row, packed, section + 512 * block)


class Q8_0(Quantised):
    """See the module."""

    name = "Q8_0"
    columns = 32
    file_bytes = 34
    scale_bytes = 32
    quant_bytes = 512
    largest = 255
    offset = 128
    pack_groups = staticmethod(_pack)

    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """See `Quantised`."""
        blocks = raw.reshape(len(raw), -1, self.file_bytes)
        quants = (blocks[..., 2:] ^ np.uint8(128)).reshape(len(raw), -1)
        return QuantisedMatrix(quants, self.offset, halves(blocks[..., :2])[..., 0], None)

    def quants(self, emit, address):
        """See `Quantised`."""
        return [emit.load(BYTES, address, 64 * number) for number in range(8)]

    def scales(self, emit, section, block):
        """See `Quantised`."""
        return [emit.widened_halves(section, emit.times(block, 32))]


product, rows = quantised_product(Q8_0()), quantised_rows(Q8_0())


@unit_kernel
def linear_q8_0(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_q8_0(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
