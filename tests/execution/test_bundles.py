"""Bundles of arrays in one piece of memory."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from service.execution.bundles import ALIGNMENT, array, layout, packed_bytes, unpacked

SIZES = {"three": 3, "four": 4, "two": 2, "none": 0}


@dataclass(frozen=True)
class Leading:
    """The first arrays of `Whole`."""

    longs: NDArray[np.int64] = array(np.int64, "three")
    flags: NDArray[np.bool_] = array(np.bool_, "four", plus=1)
    empty: NDArray[np.float64] = array(np.float64, "none")


@dataclass(frozen=True)
class Whole(Leading):
    """Arrays of several types and shapes, two of them empty."""

    floats: NDArray[np.float32] = array(np.float32, "two", 3)
    pairs: NDArray[np.int32] = array(np.int32, "none", "four")


def arrays_of(bundle: Leading) -> list[np.ndarray]:
    """The arrays in order."""
    return [getattr(bundle, field.name) for field in fields(bundle)]


def test_arrays_have_the_declared_shapes_and_types() -> None:
    shapes = [(3,), (5,), (0,), (2, 3), (0, 4)]
    types = [np.int64, np.bool_, np.float64, np.float32, np.int32]
    assert list(layout(Whole, SIZES)) == list(zip(shapes, types, strict=True))


def test_arrays_lie_apart_and_aligned() -> None:
    memory = np.zeros(packed_bytes([Whole], SIZES), np.uint8)
    arrays = arrays_of(unpacked(memory, Whole, SIZES))
    assert [(array.shape, array.dtype) for array in arrays] == list(layout(Whole, SIZES))
    for number, each in enumerate(arrays):
        each.fill(number + 1)
    assert [set(each.flat) for each in arrays] == [{1}, {True}, set(), {4}, set()]
    begin = memory.__array_interface__["data"][0]
    starts = [each.__array_interface__["data"][0] - begin for each in arrays if each.size]
    assert [start % ALIGNMENT for start in starts] == [0, 0, 0]


def test_an_array_does_not_depend_on_those_behind_it() -> None:
    memory = np.arange(packed_bytes([Whole], SIZES), dtype=np.uint8)
    leading, whole = unpacked(memory, Leading, SIZES), unpacked(memory, Whole, SIZES)
    for each, same in zip(arrays_of(leading), arrays_of(whole), strict=False):
        np.testing.assert_array_equal(each, same)
    assert packed_bytes([Leading, Whole], SIZES) == packed_bytes([Leading], SIZES) + len(memory)
