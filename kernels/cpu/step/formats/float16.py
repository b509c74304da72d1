"""float16: IEEE half precision.

file    2 bytes a number
group   uint16 [columns, 16], padded to a multiple of 64 bytes
"""

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.step.formats.format import Bytes, SixteenBits


class Float16(SixteenBits):
    """See the module."""

    name = "float16"

    def decode(self, raw: Bytes) -> NDArray[np.float32]:
        """See `SixteenBits`."""
        return raw.view(np.float16).astype(np.float32)
