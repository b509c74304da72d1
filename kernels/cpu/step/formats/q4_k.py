"""Q4_K: blocks of 256 weights in 8 sub-blocks of 32, ``quant * (d * sc) - dmin * m``, of which sc and m have 6 bits.

file    144 bytes: d float16; dmin float16; 12 bytes with sc[8] and m[8]; 4 times 32 bytes, byte i of the k-th 32:
        quant i of sub-block 2k low, of sub-block 2k + 1 high.
        Of the 12 bytes, byte i < 4 has sc[i] in its low 6 bits and byte 4 + i has m[i]; their high 2 bits are the
        high bits of sc[4 + i] and m[4 + i], whose low bits are byte 8 + i: sc low, m high
scales  320 bytes: d float16[16]; dmin float16[16]; for each sub-block sc uint8[16], m uint8[16]
quants  256 bytes for a sub-block: 4 vectors of nibbles
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
from kernels.cpu.step.vectors import LONG
from kernels.reference import QuantisedMatrix


@njit(nogil=True, cache=True)
def _pack(raw, out, section):
    quants = np.empty(32, np.uint8)
    for group in range(len(out)):
        for block in range(raw.shape[1] // 144):
            for row in range(16):
                source, packed = raw[16 * group + row, 144 * block : 144 * block + 144], out[group]
                _put_scales(source, row, packed, 320 * block)
                for sub in range(8):
                    for i in range(32):
                        quants[i] = source[16 + sub // 2 * 32 + i] >> 4 * (sub % 2) & 15
                    put_nibbles(quants, row, packed, section + 256 * (8 * block + sub))


@njit(nogil=True, cache=True)
def _put_scales(source, row, packed, at):
    put_half(source, 0, row, packed, at)
    put_half(source, 2, row, packed, at + 32)
    for i in range(4):
        low, middle, high = source[4 + i], source[8 + i], source[12 + i]
        first, second = at + 64 + 32 * i + row, at + 64 + 32 * (4 + i) + row
        packed[first] = low & 63
        packed[first + 16] = middle & 63
        packed[second] = high & 15 | low >> 6 << 4
        packed[second + 16] = high >> 4 | middle >> 6 << 4


class Q4_K(Quantised):
    """See the module."""

    name = "Q4_K"
    columns = 256
    file_bytes = 144
    scale_bytes = 320
    quant_bytes = 256
    largest = 15
    offset = 0
    pack_groups = staticmethod(_pack)

    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """See `Quantised`."""
        rows = len(raw)
        blocks = raw.reshape(rows, -1, self.file_bytes)
        d, dmin = np.split(halves(blocks[..., :4]), 2, axis=-1)
        low, middle, high = np.split(blocks[..., 4:16], 3, axis=-1)
        sc = np.concatenate((low & 63, high & 15 | low >> 6 << 4), axis=-1).astype(np.float32)
        m = np.concatenate((middle & 63, high >> 4 | middle >> 6 << 4), axis=-1).astype(np.float32)
        pairs = blocks[..., 16:].reshape(rows, -1, 4, 32)
        quants = np.stack((pairs & 15, pairs >> 4), axis=3)
        scales, minima = (d * sc).reshape(rows, -1), -(dmin * m).reshape(rows, -1)
        return QuantisedMatrix(quants.reshape(rows, -1), self.offset, scales, minima)

    def quants(self, emit, address):
        """See `Quantised`."""
        return loads.nibbles(emit, address)

    def scales(self, emit, section, block):
        """See `Quantised`."""
        d, sub = self._entries(emit, section, block)
        return [emit.builder.fmul(emit.widened_halves(d), loads.unsigned_bytes(emit, sub))]

    def minima(self, emit, section, block):
        """See `Quantised`."""
        d, sub = self._entries(emit, section, block)
        return emit.builder.fneg(emit.builder.fmul(emit.widened_halves(d, 32), loads.unsigned_bytes(emit, sub, 16)))

    def _entries(self, emit, section, block):
        """Return where d and dmin of a block of 256 are, and sc and m of a sub-block."""
        builder = emit.builder
        d = emit.offset(section, emit.times(builder.lshr(block, LONG(3)), self.scale_bytes))
        return d, emit.offset(d, 64, emit.times(builder.and_(block, LONG(7)), 32))


product, rows = quantised_product(Q4_K()), quantised_rows(Q4_K())


@unit_kernel
def linear_q4_k(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_q4_k(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
