"""Q4_1: blocks of 32 weights with one scale and a minimum, ``quant * d + m``.

file    20 bytes: d float16; m float16; 16 bytes as in Q4_0
scales  64 bytes: d float16[16]; m float16[16]
quants  256 bytes: 4 vectors of nibbles
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.embedding import quantised_rows
from kernels.cpu.step.formats import loads
from kernels.cpu.step.formats.format import Bytes, Quantised, halves
from kernels.cpu.step.formats.packing import put_half, put_nibbles
from kernels.cpu.step.formats.q4_0 import nibbles, take_nibbles
from kernels.cpu.step.products import quantised_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.reference import QuantisedMatrix


@njit(nogil=True, cache=True)
def _pack(raw, out, section):
    quants = np.empty(32, np.uint8)
    for group in range(len(out)):
        for block in range(raw.shape[1] // 20):
            for row in range(16):
                source, packed = raw[16 * group + row, 20 * block : 20 * block + 20], out[group]
                put_half(source, 0, row, packed, 64 * block)
                put_half(source, 2, row, packed, 64 * block + 32)
                take_nibbles(source, 4, quants)
                put_nibbles(quants, row, packed, section + 256 * block)


class Q4_1(Quantised):
    """See the module."""

    name = "Q4_1"
    columns = 32
    file_bytes = 20
    scale_bytes = 64
    quant_bytes = 256
    largest = 15
    offset = 0
    pack_groups = staticmethod(_pack)

    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """See `Quantised`."""
        blocks = raw.reshape(len(raw), -1, self.file_bytes)
        scales = halves(blocks[..., :4])
        return QuantisedMatrix(nibbles(blocks[..., 4:]), self.offset, scales[..., 0], scales[..., 1])

    def quants(self, emit, address):
        """See `Quantised`."""
        return loads.nibbles(emit, address)

    def scales(self, emit, section, block):
        """See `Quantised`."""
        return [emit.widened_halves(section, emit.times(block, 64))]

    def minima(self, emit, section, block):
        """See `Quantised`."""
        return emit.widened_halves(section, emit.times(block, 64), 32)


product, rows = quantised_product(Q4_1()), quantised_rows(Q4_1())


@unit_kernel
def linear_q4_1(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_q4_1(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
