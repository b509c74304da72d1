"""Several arrays in one piece of memory."""

import numpy as np

from service.execution.gpu.packing import ALIGNMENT, packed_bytes, unpacked
from service.execution.memory import Field

FIELDS: tuple[Field, ...] = (
    ((3,), np.int64),
    ((5,), np.bool_),
    ((0,), np.float64),
    ((2, 3), np.float32),
    ((0, 4), np.int32),
)


def test_arrays_lie_apart_and_aligned() -> None:
    memory = np.zeros(packed_bytes(FIELDS), np.uint8)
    arrays = unpacked(memory, FIELDS)
    assert [(array.shape, array.dtype) for array in arrays] == list(FIELDS)
    for number, array in enumerate(arrays):
        array.fill(number + 1)
    assert [set(array.flat) for array in arrays] == [{1}, {True}, set(), {4}, set()]
    begin = memory.__array_interface__["data"][0]
    starts = [array.__array_interface__["data"][0] - begin for array in arrays if array.size]
    assert [start % ALIGNMENT for start in starts] == [0, 0, 0]


def test_what_follows_moves_nothing() -> None:
    memory = np.arange(packed_bytes(FIELDS), dtype=np.uint8)
    for count in range(len(FIELDS)):
        for array, same in zip(unpacked(memory, FIELDS[:count]), unpacked(memory, FIELDS), strict=False):
            np.testing.assert_array_equal(array, same)
