"""Weights as arrays of one element type, each decoded into its place: `HostWeights`, and the base of a device's."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.execution.memory import Array
from service.execution.models.assemble import Piece, Tensor
from service.execution.models.weights import DenseLinear, Matrix

Read = Callable[[NDArray[Any]], None]


class DenseWeights(ABC):
    """A `Destination` of arrays. ``largest_fill``: elements of a matrix that `fill` takes at most; None: any number."""

    largest_fill: int | None = None

    @abstractmethod
    def allocate(self, shape: tuple[int, ...]) -> Array:
        """Allocate an array whose rows will be filled."""

    @abstractmethod
    def fill(self, rows: Array, stored: str, read: Read) -> None:
        """Have ``read`` decode the contents of ``rows``, as float32 or as the type that they are ``stored`` in."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until all rows are filled."""

    def vector(self, tensors: Sequence[Tensor]) -> tuple[Array, list[Piece]]:
        """Allocate an array for the rows of tensors, one after the other."""
        fused = self.allocate((sum(tensor.shape[0] for tensor in tensors), *tensors[0].shape[1:]))
        pieces: list[Piece] = []
        start = 0
        for tensor in tensors:
            end = start + tensor.shape[0]
            pieces += self._pieces(tensor, fused[start:end])
            start = end
        return fused, pieces

    matrix = vector

    @abstractmethod
    def num_bytes(self, tensor: Tensor) -> int:
        """See `Destination`."""

    def linear(self, weight: Matrix, bias: Array | None) -> DenseLinear:
        """Return the layer."""
        return DenseLinear(weight, bias)

    def _pieces(self, tensor: Tensor, rows: Array) -> Iterator[Piece]:
        """Yield as many rows at a time as `fill` takes."""
        columns = tensor.shape[1:]
        step = len(rows) if self.largest_fill is None or not columns else max(1, self.largest_fill // columns[0])
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            yield Piece(some.size, partial(self.fill, some, tensor.stored, partial(tensor.read, first)))


class HostWeights(DenseWeights):
    """Arrays float32 of the host, filled in place."""

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Allocate an array, whose pages the system takes when it is filled."""
        return np.empty(shape, np.float32)

    def fill(self, rows: NDArray[np.float32], stored: str, read: Read) -> None:
        """Decode in place."""
        read(rows)

    def num_bytes(self, tensor: Tensor) -> int:
        """See `Destination`."""
        return 4 * math.prod(tensor.shape)

    def finish(self) -> None:
        """Do nothing: `fill` has filled the rows."""
