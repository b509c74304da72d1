"""A device played by the CPU: memory of NumPy, a thread for each stream, and the faults that tests inject.

Its ops are those of a kernels module, by default `kernels.cpu`, each submitted to its stream, so it computes what the
CPU backend computes, to the bit. With ``simulate_kernels`` they are the CUDA kernels in their own simulator: a GPU's
numbers, but very slow.

It is stricter than CUDA: what would go wrong there in silence raises here. Examples are work outside of `bound`, copies
from or to pageable memory, arrays of the host as arguments of ops, reading the device's memory from the host.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kernels import cpu
from service.execution.gpu.runtime import Bytes, DeviceInfo
from service.execution.gpu.simulated.array import DeviceArray, memory_of
from service.execution.gpu.simulated.device import SimulatedDevice
from service.execution.gpu.simulated.faults import Faults
from service.execution.gpu.simulated.ops import ModuleOps, Submitter, cuda_ops
from service.execution.gpu.simulated.stream import SimulatedStream
from service.execution.memory import Kernels

NAME = "simulated:0"


class SimulatedRuntime:
    """A `runtime.Runtime`."""

    def __init__(
        self,
        *,
        total_bytes: int = 1 << 30,
        pinnable_bytes: int = 1 << 30,
        processors: int = 4,
        faults: Faults | None = None,
        kernels: Kernels = cpu,
        simulate_kernels: bool = False,
    ) -> None:
        self.info = DeviceInfo(NAME, "simulated", (9, 0), processors, total_bytes, driver="none", runtime="none")
        self._device = SimulatedDevice(NAME, total_bytes, pinnable_bytes, faults or Faults())
        self._streams = count()
        self._kernels = kernels
        self._simulate_kernels = simulate_kernels

    def lose(self, reason: str) -> None:
        """Lose the device: every call and every wait, also those under way, raises DeviceLostError."""
        self._device.lose(reason)

    def free_bytes(self) -> int:
        """See `runtime.Runtime`."""
        self._device.require()
        return self._device.total_bytes - self._device.taken_bytes

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """See `runtime.Runtime`; the array holds NaN, or -1."""
        num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return DeviceArray(self._device.take(num_bytes).view(dtype).reshape(shape))

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """See `runtime.Runtime`."""
        array = self.empty(shape, dtype)
        memory_of(array).view(np.uint8).fill(0)
        return array

    def pinned(self, num_bytes: int) -> Bytes:
        """See `runtime.Runtime`."""
        return self._device.pin(num_bytes)

    def stream(self, *, urgent: bool = False) -> SimulatedStream:
        """See `runtime.Runtime`. Streams are numbered in the order of these calls."""
        self._device.require_bound()
        self._device.require()
        return SimulatedStream(self._device, next(self._streams))

    def ops(self, stream: Any, scratch: Any = None) -> Any:
        """See `runtime.Runtime`; ``stream`` is a `SimulatedStream`."""
        submit = Submitter(self._device, stream)
        if self._simulate_kernels:
            return cuda_ops(submit, scratch, self.info.processors)
        return ModuleOps(submit, self._kernels)

    def bound(self) -> AbstractContextManager[None]:
        """See `runtime.Runtime`."""
        return self._device.bound()
