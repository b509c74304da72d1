"""bfloat16: the upper halves of float32, of which a row has any number.

file    2 bytes a number
group   uint16 [columns, 16], padded to a multiple of 64 bytes
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.cpu.step.embedding import float_rows
from kernels.cpu.step.formats.format import Bytes, SixteenBits
from kernels.cpu.step.products import float_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import Emit


class BFloat16(SixteenBits):
    """See the module."""

    name = "bfloat16"

    def decode(self, raw: Bytes) -> NDArray[np.float32]:
        """See `SixteenBits`."""
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)

    def round(self, values: NDArray[np.float32]) -> Bytes:
        """Return rows of a file that hold ``values`` [rows, columns], rounded to nearest even."""
        rounded = np.empty(values.shape, np.uint16)
        _round(values.reshape(-1).view(np.uint32), rounded.reshape(-1))
        return rounded.view(np.uint8)


@njit(nogil=True, cache=True)
def _round(bits, out):
    for i in range(len(bits)):
        value = bits[i]
        if value & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):  # rounding up could make an infinity of a NaN
            out[i] = value >> np.uint32(16) | np.uint32(0x40)
        else:
            out[i] = (value + np.uint32(0x7FFF) + (value >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)


product, rows = float_product(Emit.widened_bfloats), float_rows(Emit.widened_bfloats)


@unit_kernel
def linear_bfloat16(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_bfloat16(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
