"""Bundles of arrays: dataclasses whose fields declare an element type and axes, from which their layout follows.

A bundle can be packed into one piece of memory, so that one copy carries all its arrays. Where an array lies depends on
the shapes and types before it alone: both sides of a copy agree, and so do all steps of one shape, whose captured work
reads the same addresses.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from service.execution.memory import Array

ALIGNMENT = 16  # bytes: kernels read vectors of so many

Bundle = TypeVar("Bundle")
Sizes = Mapping[str, int]  # of each axis that is declared by name


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """An array of a bundle: its element type and its axes, by name or, except the first, by size."""

    dtype: DTypeLike | None  # None: the caller of `layout` names it
    first: str
    others: tuple[str | int, ...]
    plus: int  # entries of the first axis beyond its size

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape, with the size of each named axis taken from ``sizes``."""
        others = (sizes[axis] if isinstance(axis, str) else axis for axis in self.others)
        return (sizes[self.first] + self.plus, *others)


def array(dtype: DTypeLike | None, first: str, *others: str | int, plus: int = 0) -> Any:
    """Declare a field of a bundle: an array of ``dtype`` over these axes, the first of them ``plus`` entries longer."""
    return field(metadata={"array": ArraySpec(dtype, first, others, plus)})


def specs(bundle: type) -> Iterator[tuple[str, ArraySpec]]:
    """Yield the name and the spec of each array of a bundle class, in order."""
    for each in fields(bundle):
        yield each.name, each.metadata["array"]


def layout(
    bundle: type, sizes: Sizes, dtype: DTypeLike | None = None
) -> Iterator[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Yield shape and element type of each array of a bundle class; ``dtype`` is for arrays that declare none."""
    for _, spec in specs(bundle):
        yield spec.shape(sizes), np.dtype(spec.dtype or dtype)


def packed_bytes(bundles: Iterable[type], sizes: Sizes) -> int:
    """Return the bytes that the arrays of these bundle classes take when they are packed together."""
    return sum(_aligned(shape, dtype) for bundle in bundles for shape, dtype in layout(bundle, sizes))


def unpacked(memory: Array, bundle: type[Bundle], sizes: Sizes) -> Bundle:
    """Return a bundle whose arrays are views of ``memory`` [bytes], of the host or of a device, one after the other."""
    arrays, start = [], 0
    for shape, dtype in layout(bundle, sizes):
        arrays.append(memory[start : start + prod(shape) * dtype.itemsize].view(dtype).reshape(shape))
        start += _aligned(shape, dtype)
    return bundle(*arrays)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return -(-prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
