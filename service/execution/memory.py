"""The memory where the model and the sampler keep their arrays: the host's, or a device's (`gpu.staging`).

Arrays are allocated at start and kept for ever, so that no request fails for lack of memory.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = Any  # an array of the memory: NumPy's, or `service.execution.gpu.runtime.Array`
Kernels = Any  # the ops of `kernels.reference` by their names, on such arrays: a kernels module, or a device's ops


class Memory(Protocol):
    """One memory. Writes and copies come after everything that was launched before them."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """Return a new array of zeros, every page of it allocated."""

    def write(self, values: NDArray[Any], out: Array) -> None:
        """Copy from the host into a contiguous array of as many elements of the same type.

        The caller may change ``values`` when this returns.
        """

    def copy(self, source: Array, out: Array) -> None:
        """Copy between two contiguous arrays of this memory, of one type and size."""


class HostMemory:
    """A `Memory` of NumPy arrays."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """See `Memory`. Raises MemoryError now, rather than in the middle of a request."""
        return np.full(shape, 0, dtype)

    def write(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        """See `Memory`."""
        np.copyto(out, values)

    def copy(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """See `Memory`."""
        np.copyto(out, source)
