"""Arrays of a simulated device: like a GPU's, their contents are accessible to the work of streams only.

The host sees shape and type, slices and reshapes, and copies through a stream. Direct reads and writes raise.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike


class DeviceArray:
    """A view of the device's memory, with the part of NumPy's interface that `runtime.Array` has."""

    __slots__ = ("_memory",)

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy's."""
        return self._memory.shape

    @property
    def dtype(self) -> np.dtype:
        """As NumPy's."""
        return self._memory.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        """As NumPy's."""
        return self._memory.strides

    @property
    def size(self) -> int:
        """Elements."""
        return self._memory.size

    @property
    def ndim(self) -> int:
        """Dimensions."""
        return self._memory.ndim

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self._memory.nbytes

    def __len__(self) -> int:
        return len(self._memory)

    def __getitem__(self, key: Any) -> "DeviceArray":
        """Return a view, by integers and slices."""
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(each, list | np.ndarray | DeviceArray) for each in keys):
            raise TypeError("an array of a device is indexed by integers and slices; rows are taken by `take_rows`")
        return DeviceArray(self._memory[keys if Ellipsis in keys else (*keys, ...)])

    def reshape(self, *shape: Any) -> "DeviceArray":
        """Return a view of another shape. Raises ValueError if it would have to be a copy."""
        return DeviceArray(np.reshape(self._memory, shape[0] if len(shape) == 1 else shape, copy=False))

    def view(self, dtype: DTypeLike) -> "DeviceArray":
        """Return a view of the same bytes as elements of another type."""
        return DeviceArray(self._memory.view(dtype))

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError(f"{self!r} is on a device: copy it to pinned memory")

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


def memory_of(value: Any) -> Any:
    """Return an op's argument as work on the device sees it.

    Raises TypeError for an array of the host, which a kernel could not read.
    """
    if isinstance(value, np.ndarray):
        raise TypeError(f"an array of the host, {value.shape} of {value.dtype}, cannot be an argument of a device's op")
    return value._memory if isinstance(value, DeviceArray) else value
