"""Q6_K: blocks of 256 weights in 16 sub-blocks of 16, ``(quant - 32) * (d * sc)``.

file    210 bytes: 128 bytes low; 64 bytes high; sc int8[16]; d float16. The first 64 bytes low and 32 bytes high are
        of the first 128 quants, the others of the last. Of 128, quant 32k + i (k < 4, i < 32) has its low 4 bits in
        byte 32 (k % 2) + i of low, in the high half of the byte for k > 1, and its high 2 bits at bit 2k of byte i
        of high
scales  320 bytes: d float16[16]; 32 bytes unused; for each sub-block sc int8[16]
quants  384 bytes for 32 columns: 4 vectors of nibbles, 2 vectors of pairs of bits
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from kernels.cpu.step.embedding import quantised_rows
from kernels.cpu.step.formats import loads
from kernels.cpu.step.formats.format import Bytes, Quantised, halves
from kernels.cpu.step.formats.loads import PAIRED
from kernels.cpu.step.formats.packing import put_half, put_nibbles, put_pairs_of_bits
from kernels.cpu.step.products import quantised_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import BYTES, LONG, constant
from kernels.reference import QuantisedMatrix


@njit(nogil=True, cache=True)
def _pack(raw, out, section):
    quants = np.empty(32, np.uint8)
    for group in range(len(out)):
        for block in range(raw.shape[1] // 210):
            for row in range(16):
                source, packed = raw[16 * group + row, 210 * block : 210 * block + 210], out[group]
                put_half(source, 208, row, packed, 320 * block)
                for sub in range(16):
                    packed[320 * block + 64 + 16 * sub + row] = source[192 + sub]
                for k in range(8):
                    _take(source, k // 4, k % 4, quants)
                    at = section + 384 * (8 * block + k)
                    put_nibbles(quants, row, packed, at)
                    put_pairs_of_bits(quants, row, packed, at + 256)


@njit(nogil=True, cache=True)
def _take(source, half, k, quants):
    """Unpack the quants 32k to 32k + 31 of the first or the last 128."""
    low, high = 64 * half + 32 * (k % 2), 128 + 32 * half
    for i in range(32):
        quants[i] = source[low + i] >> 4 * (k // 2) & 15 | (source[high + i] >> 2 * k & 3) << 4


class Q6_K(Quantised):
    """See the module."""

    name = "Q6_K"
    columns = 256
    file_bytes = 210
    scale_bytes = 320
    quant_bytes = 384
    largest = 63
    offset = 32
    parts = 2
    pack_groups = staticmethod(_pack)

    def decode(self, raw: Bytes) -> QuantisedMatrix:
        """See `Quantised`."""
        rows = len(raw)
        blocks = raw.reshape(rows, -1, self.file_bytes)
        low = blocks[..., :128].reshape(rows, -1, 2, 1, 64)
        high = blocks[..., 128:192].reshape(rows, -1, 2, 1, 32)
        nibbles = np.concatenate((low & 15, low >> 4), axis=3).reshape(rows, -1, 2, 4, 32)
        bits = high >> np.array([[0], [2], [4], [6]], np.uint8) & 3
        scales = halves(blocks[..., 208:]) * blocks[..., 192:208].view(np.int8).astype(np.float32)
        quants = (nibbles | bits << 4).reshape(rows, -1)
        return QuantisedMatrix(quants, self.offset, scales.reshape(rows, -1), None)

    def quants(self, emit, address):
        """See `Quantised`."""
        builder, two = emit.builder, []
        for half in (0, 1):
            bits = emit.load(BYTES, address, 256 + 64 * half)
            fields = [loads.low_bits(emit, loads.shifted(emit, bits, 2 * k), 2) for k in range(4)]
            two += [
                builder.bitcast(builder.shl(builder.bitcast(f, PAIRED), constant(4, PAIRED)), BYTES) for f in fields
            ]
        return [builder.or_(low, high) for low, high in zip(loads.nibbles(emit, address), two, strict=True)]

    def scales(self, emit, section, block):
        """See `Quantised`."""
        builder = emit.builder
        at = emit.offset(section, emit.times(builder.lshr(block, LONG(3)), self.scale_bytes))
        sub = emit.offset(at, 64, emit.times(builder.and_(block, LONG(7)), 32))
        d = emit.widened_halves(at)
        return [builder.fmul(d, loads.signed_bytes(emit, sub, 16 * half)) for half in (0, 1)]


product, rows = quantised_product(Q6_K()), quantised_rows(Q6_K())


@unit_kernel
def linear_q6_k(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_q6_k(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
