"""Bundles of arrays: dataclasses whose fields state their element type and axes, from which all the rest follows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from service.execution.memory import Field


@dataclass(frozen=True, slots=True)
class Spec:
    """What an array of a bundle is: its element type and the names of its axes."""

    dtype: DTypeLike | None  # None: the type that whoever lays the bundle out names
    axes: tuple[str, ...]
    plus: int  # entries of the first axis beyond its size

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape, given the size of each axis."""
        first, *others = (sizes[axis] for axis in self.axes)
        return (first + self.plus, *others)


def array(dtype: DTypeLike | None, *axes: str, plus: int = 0) -> Any:
    """Declare a field of a bundle: an array of ``dtype`` over these axes, the first of them ``plus`` entries longer."""
    return field(metadata={"array": Spec(dtype, axes, plus)})


def specs(bundle: type) -> Iterator[tuple[str, Spec]]:
    """Yield each array of a bundle class: its name and what it is, in order."""
    for each in fields(bundle):
        yield each.name, each.metadata["array"]


def layout(bundle: type, sizes: Mapping[str, int], dtype: DTypeLike | None = None) -> tuple[Field, ...]:
    """Return shape and element type of each array of a bundle class; ``dtype`` is for those that state none."""
    return tuple((spec.shape(sizes), np.dtype(spec.dtype or dtype)) for _, spec in specs(bundle))
