"""float16: IEEE half precision.

file    2 bytes a number
group   uint16 [columns, 16], padded to a multiple of 64 bytes
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.step.embedding import float_rows
from kernels.cpu.step.formats.format import Bytes, SixteenBits
from kernels.cpu.step.products import float_product
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import Emit


class Float16(SixteenBits):
    """See the module."""

    name = "float16"

    def decode(self, raw: Bytes) -> NDArray[np.float32]:
        """See `SixteenBits`."""
        return raw.view(np.float16).astype(np.float32)


product, rows = float_product(Emit.widened_halves), float_rows(Emit.widened_halves)


@unit_kernel
def linear_float16(op, step, unit, scratch):
    """See `kernels.cpu.step.products`."""
    product(op, step, unit, scratch)


@unit_kernel
def embed_float16(op, step, unit, scratch):
    """See `kernels.cpu.step.embedding`."""
    rows(op, step, unit)
