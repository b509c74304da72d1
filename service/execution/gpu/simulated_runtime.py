"""A device played on the CPU: NumPy memory, a thread a stream, and the faults that tests inject.

Its ops are those of a kernels module (`kernels.cpu` unless told otherwise), each submitted to its stream, so that it
computes what the CPU backend computes, to the bit. With ``simulate_kernels`` they are the CUDA kernels in their own
simulator: numbers as a GPU's, but very slow.

Stricter than CUDA, so that what would go wrong there in silence raises here: work outside of `bound`, copies from or to
pageable memory, arrays of the host as arguments of ops, reading the device's memory from the host.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kernels import cpu
from service.execution.gpu.faults import Faults
from service.execution.gpu.runtime import Bytes, DeviceInfo
from service.execution.gpu.simulated_array import DeviceArray, memory_of
from service.execution.gpu.simulated_device import SimulatedDevice
from service.execution.gpu.simulated_stream import SimulatedStream

NAME = "simulated:0"


class SimulatedRuntime:
    """See `runtime.Runtime`."""

    def __init__(
        self,
        *,
        total_bytes: int = 1 << 30,
        pinnable_bytes: int = 1 << 30,
        processors: int = 4,
        faults: Faults | None = None,
        kernels: ModuleType = cpu,
        simulate_kernels: bool = False,
    ) -> None:
        self.info = DeviceInfo(NAME, "simulated", (9, 0), processors, total_bytes, driver="none", runtime="none")
        self._device = SimulatedDevice(NAME, total_bytes, pinnable_bytes, faults or Faults())
        self._streams = count()
        self._kernels = kernels
        self._simulate_kernels = simulate_kernels

    def lose(self, reason: str) -> None:
        """The device is lost: every call and every wait, also those under way, raises DeviceLostError."""
        self._device.lose(reason)

    def free_bytes(self) -> int:
        """See `runtime.Runtime`."""
        self._device.require()
        return self._device.total_bytes - self._device.taken_bytes

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """See `runtime.Runtime`; NaN, or -1."""
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

    def ops(self, stream: SimulatedStream, scratch: Any = None) -> Any:
        """See `runtime.Runtime`."""
        if self._simulate_kernels:
            return self._cuda_ops(stream, scratch)
        return _SubmittedOps(stream, self._device, self._kernels)

    def bound(self) -> AbstractContextManager[None]:
        """See `runtime.Runtime`."""
        return self._device.bound()

    def _cuda_ops(self, stream: SimulatedStream, scratch: Any) -> Any:
        from kernels.cuda import simulator  # noqa: PLC0415
        from kernels.cuda.ops import Ops  # noqa: PLC0415

        def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
            values = map(memory_of, arguments)
            stream.submit(kernel.name, 0, partial(self._compute, simulator.launch, kernel, grid, *values))

        def multiply(x: Any, weight: Any, out: Any, *, accumulate: bool) -> None:
            product = partial(simulator.multiply, accumulate=accumulate)
            stream.submit("multiply", 0, partial(self._compute, product, *map(memory_of, (x, weight, out))))

        return Ops(launch, multiply, scratch, self.info.processors)

    def _compute(self, op: Callable[..., None], *arguments: Any) -> None:
        with self._device.computing:
            op(*arguments)


class _SubmittedOps:
    """The functions of a kernels module by their names, as work of a stream."""

    def __init__(self, stream: SimulatedStream, device: SimulatedDevice, kernels: ModuleType) -> None:
        self._stream, self._device, self._kernels = stream, device, kernels

    def __getattr__(self, name: str) -> Callable[..., None]:
        op = getattr(self._kernels, name)

        def compute(arguments: Sequence[Any], named: dict[str, Any]) -> None:
            with self._device.computing:
                op(*arguments, **named)

        def submit(*arguments: Any, **named: Any) -> None:
            values = [memory_of(value) for value in arguments]
            self._stream.submit(name, 0, partial(compute, values, {k: memory_of(v) for k, v in named.items()}))

        return submit
