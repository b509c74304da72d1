"""Several arrays in one piece of memory, so that one copy carries them all.

Where an array lies follows from the shapes and types before it alone: both sides of a copy agree, and so do all steps
of one shape, whose captured work reads the same addresses.
"""

from collections.abc import Iterable
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from service.execution.memory import Array, Field

ALIGNMENT = 16  # bytes: kernels read vectors of so many


def packed_bytes(fields: Iterable[Field]) -> int:
    """What such arrays take together."""
    return sum(map(_padded_bytes, fields))


def unpacked(memory: Array, fields: Iterable[Field]) -> list[Any]:
    """The arrays in ``memory`` [bytes], of the host or of a device, one behind the other."""
    fields = list(fields)
    starts = accumulate(map(_padded_bytes, fields), initial=0)
    return [
        memory[start : start + _num_bytes(field)].view(field[1]).reshape(field[0])
        for start, field in zip(starts, fields, strict=False)
    ]


def _num_bytes(field: Field) -> int:
    shape, dtype = field
    return prod(shape) * np.dtype(dtype).itemsize


def _padded_bytes(field: Field) -> int:
    return -(-_num_bytes(field) // ALIGNMENT) * ALIGNMENT
