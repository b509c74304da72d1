"""A GPU under test, real or simulated. Beside the runtime it offers what checks and measurements need: access to its
memory, and a way to keep a stream busy until a wrong order would have shown.
"""

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from benchmarks.gpu.scale import FULL, TINY_SCALE, Scale
from service.execution.gpu.cuda.runtime import NvidiaDevices
from service.execution.gpu.runtime import Array, Runtime, Stream
from service.execution.gpu.simulated.rounding_kernels import RoundingKernels
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.gpu.supported import ELEMENT_TYPES, element_type

STAGING_BYTES = 32 << 20
OCCUPIED_S = 0.3  # far longer than the copies that could overtake take
FILLED_BYTES = 2 << 30  # large, so that a stream accepts all fills at once
RANDOM_NUMBERS = 16 << 20
PLENTY = 1 << 40  # bytes of simulated memory; the host's is allocated as it is used


@dataclass(frozen=True)
class GPUUnderTest:
    """A GPU with the sizes for it. ``simulated``: its figures mean nothing."""

    runtime: Runtime
    scale: Scale
    simulated: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of weights, activations and KV."""
        return element_type(self.scale.dtype)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Element types in which the ops are checked."""
        return ELEMENT_TYPES

    def described(self) -> str:
        """Return a line about the device and the machine around it."""
        info = self.runtime.info
        capability = ".".join(map(str, info.capability))
        gpu = f"{info.name} (capability {capability}, {info.processors} processors, {info.total_bytes / 2**30:.0f} GiB)"
        cuda = f"driver for CUDA {info.driver}, CUDA {info.runtime}"
        return f"{gpu}, {cuda}; {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"

    @cached_property
    def _staging(self) -> NDArray[np.uint8]:
        with self.runtime.bound():
            return self.runtime.pinned(STAGING_BYTES)

    @cached_property
    def _filled(self) -> Array:
        """Allocated once, because freeing memory waits for the device."""
        return self.empty((FILLED_BYTES,), np.uint8)

    @cached_property
    def _side_stream(self) -> Stream:
        with self.runtime.bound():
            return self.runtime.stream()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialised array on the device."""
        with self.runtime.bound():
            return self.runtime.empty(shape, dtype)

    def put(self, values: NDArray[Any]) -> Array:
        """Return an array on the device with these values, of their type."""
        array = self.empty(values.shape, values.dtype)
        self.write(array, values)
        return array

    def write(self, array: Array, values: NDArray[Any]) -> None:
        """Write into a contiguous array at once, without waiting for other streams."""
        source, target = np.ascontiguousarray(values).reshape(-1).view(np.uint8), array.reshape(-1).view(np.uint8)
        with self.runtime.bound():
            for start in range(0, len(source), STAGING_BYTES):
                piece = source[start : start + STAGING_BYTES]
                staging = self._staging[: len(piece)]
                staging[:] = piece
                self._side_stream.copy(staging, target[start : start + len(piece)])
                self._side_stream.record().wait()

    def read(self, array: Array) -> NDArray[Any]:
        """Return the present values of a contiguous array, without waiting for other streams."""
        values = np.empty(array.nbytes, np.uint8)
        source = array.reshape(-1).view(np.uint8)
        with self.runtime.bound():
            for start in range(0, len(values), STAGING_BYTES):
                piece = values[start : start + STAGING_BYTES]
                staging = self._staging[: len(piece)]
                self._side_stream.copy(source[start : start + len(piece)], staging)
                self._side_stream.record().wait()
                piece[:] = staging
        return values.view(array.dtype).reshape(array.shape)

    def randomise(self, array: Array) -> None:
        """Fill a contiguous array of floats with repeated normal numbers: zeros would be read faster."""
        count = min(array.size, RANDOM_NUMBERS)
        numbers = self.put(np.random.default_rng(0).standard_normal(count, np.float32).astype(array.dtype))
        flat = array.reshape(-1)
        with self.runtime.bound():
            for start in range(0, flat.size, count):
                part = flat[start : start + count]
                self._side_stream.copy(numbers[: part.size], part)
            self._side_stream.record().wait()

    @contextmanager
    def occupied(self, stream: Stream) -> Iterator[None]:
        """Delay work submitted to ``stream`` in this block until the block ends, or by `OCCUPIED_S` on a real GPU."""
        over = threading.Event()
        with self.runtime.bound():
            if self.simulated:
                stream.submit("occupied", 0, over.wait)  # type: ignore[attr-defined]
            else:
                self._fill_for(stream, OCCUPIED_S)
        try:
            yield
        finally:
            over.set()

    def _fill_for(self, stream: Stream, seconds: float) -> None:
        filled = self._filled  # allocated before the timing
        begin = stream.record(timed=True)
        for _ in range(10):
            stream.fill(filled, 0)
        end = stream.record(timed=True)
        end.wait()
        for _ in range(int(10 * seconds / end.seconds_since(begin))):
            stream.fill(filled, 0)


def open_gpu(number: int, *, tiny: bool = False) -> GPUUnderTest:
    """Return a real GPU. Raises DeviceNotFoundError."""
    return GPUUnderTest(NvidiaDevices().open(number), TINY_SCALE if tiny else FULL, simulated=False)


def simulated_gpu(kernels: Any = None) -> GPUUnderTest:
    """Return a simulated GPU. ``kernels``: what it computes with; None: the CPU's kernels, which round like a GPU."""
    runtime = SimulatedRuntime(total_bytes=PLENTY, pinnable_bytes=PLENTY, kernels=kernels or RoundingKernels())
    return GPUUnderTest(runtime, TINY_SCALE, simulated=True)
