"""Loads weights onto a device: decodes rows of them into a few pinned buffers, and copies them from there.

Each thread that loads owns one buffer while it fills it. Always true: a buffer is written only after the last copy from
it has ended, and the host holds no more of the model than the buffers do.
"""

import math
import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError
from service.execution.gpu.runtime import Array, Event, Runtime
from service.execution.models.assemble import Tensor
from service.execution.models.dense_weights import DenseWeights, Read

BUFFER_ELEMENTS = 4 << 20  # 8 MiB in bfloat16, which a link of 25 GB/s takes 0.3 ms for
BUFFERS = 8  # so many threads decode at once, less the buffers that are being copied


class DeviceWeights(DenseWeights):
    """Weights as arrays of ``dtype`` on a device. Weights of another type are rounded to nearest even.

    Raises DeviceMemoryError, and `ModelLoadError` for numbers that float16 does not have.
    """

    def __init__(
        self, runtime: Runtime, dtype: np.dtype[Any], buffer_elements: int = BUFFER_ELEMENTS, buffers: int = BUFFERS
    ) -> None:
        self.largest_fill = buffer_elements
        self._runtime = runtime
        self._dtype = dtype
        self._submitting = threading.Lock()  # one thread at a time submits to a stream
        with runtime.bound():
            self._stream = runtime.stream()
            num_bytes = buffer_elements * dtype.itemsize
            self._buffers = [_Buffer(runtime.pinned(num_bytes).view(dtype)) for _ in range(buffers)]
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        for buffer in self._buffers:
            self._free.put(buffer)

    def allocate(self, shape: tuple[int, ...]) -> Array:
        """Allocate an array on the device."""
        with self._runtime.bound():
            return self._runtime.empty(shape, self._dtype)

    def fill(self, rows: Array, stored: str, read: Read) -> None:
        """Decode into a buffer and submit its copy."""
        buffer = self._free.get()
        try:
            with self._runtime.bound():
                values = buffer.take(rows.shape)
                self._decode(values, stored, read)
                buffer.sent = self._send(values, rows)
        finally:  # or the threads that wait for a buffer would wait for ever
            self._free.put(buffer)

    def num_bytes(self, tensor: Tensor) -> int:
        """See `Destination`."""
        return self._dtype.itemsize * math.prod(tensor.shape)

    def finish(self) -> None:
        """Wait until all copies have ended. Raises what failed."""
        for buffer in self._buffers:
            buffer.wait()

    def _decode(self, values: NDArray[Any], stored: str, read: Read) -> None:
        if self._dtype.name in ("float32", stored):
            read(values)
            return
        decoded = np.empty(values.shape, np.float32)
        read(decoded)
        try:
            with np.errstate(over="raise"):
                values[...] = decoded
        except FloatingPointError as error:
            largest = np.abs(decoded).max()
            raise ModelLoadError(f"a weight of {largest:g} is too large for {self._dtype.name}") from error

    def _send(self, values: NDArray[Any], rows: Array) -> Event:
        with self._submitting:
            self._stream.copy(values, rows)
            return self._stream.record()


class _Buffer:
    """Pinned memory, and the event after the last copy from it."""

    def __init__(self, memory: NDArray[Any]) -> None:
        self.sent: Event | None = None
        self._memory = memory

    def take(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Wait until the memory may be written, and return an array of that shape in it."""
        self.wait()
        return self._memory[: int(np.prod(shape))].reshape(shape)

    def wait(self) -> None:
        """Wait until the last copy has ended."""
        if self.sent is not None:
            self.sent.wait()
