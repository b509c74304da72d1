"""Where the model and the sampler keep their arrays: on the host, or on a device (`service.execution.gpu.staging`).

Arrays are taken at start and kept for ever, so that no request fails for want of memory.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = Any  # the memory's own: a NumPy array, or `service.execution.gpu.runtime.Array`
Kernels = Any  # the ops of `kernels.reference` by their names, on such arrays: a kernels module, or a device's


class Memory(Protocol):
    """One memory. What it is told to do comes after everything that was launched before."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """A new array of zeros, every page of it there."""

    def write(self, values: NDArray[Any], out: Array) -> None:
        """Copy from the host into a contiguous array of as many elements of the same type.

        ``values`` are free again when this returns.
        """

    def copy(self, source: Array, out: Array) -> None:
        """Copy between two contiguous arrays of this memory, of one type and size."""


class HostMemory:
    """NumPy arrays."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """See `Memory`. Raises MemoryError now, rather than in the middle of a request."""
        return np.full(shape, 0, dtype)

    def write(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        """See `Memory`."""
        np.copyto(out, values)

    def copy(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """See `Memory`."""
        np.copyto(out, source)
