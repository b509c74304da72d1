"""NVIDIA's devices, through CuPy: each method is a call or two of CUDA's. It has never run on a GPU.

Memory comes from CUDA itself, one allocation each, not from CuPy's pools: the device's pool rounds up and keeps what is
freed, the pinned one rounds to powers of two. Nothing else here allocates, because nothing computes with CuPy's arrays:
they are addresses with shapes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kernels.cuda.matrices import WORKSPACE_BYTES
from service.errors import DeviceLostError, DeviceNotFoundError, PinnedMemoryError
from service.execution.gpu.cuda.device import CudaDevice, device_count
from service.execution.gpu.cuda.errors import translated, translating
from service.execution.gpu.cuda.kernels import CuPyLaunch, CuPyMultiply, LoadedKernels
from service.execution.gpu.cuda.stream import CuPyStream
from service.execution.gpu.pinned_pool import host_memory
from service.execution.gpu.runtime import Bytes, Runtime


class CuPyRuntime:
    """A `runtime.Runtime`: device ``number`` in CUDA's order. Raises DeviceNotFoundError."""

    def __init__(self, number: int = 0) -> None:
        self.device = CudaDevice(number)
        self.info = self.device.info
        self._kernels = LoadedKernels(self.device, _kernels_folder())
        self._pinned_bytes = 0
        self._workspaces: list[Any] = []  # of cuBLAS, to which captured graphs write
        self._try_out()

    def _try_out(self) -> None:
        """Compile, load and run a kernel, and multiply: a device of no use is refused before memory is allocated."""
        try:
            with self.bound():
                stream = self.stream()
                ops = self.ops(stream)
                square, row = self.zeros((16, 16), np.float32), self.zeros((16,), np.float32)
                out = self.empty((16, 16), np.float32)
                ops.linear(square, square, None, out)
                ops.rms_norm(square, row, 1e-5, out)
                stream.record().wait()
            self._workspaces.clear()  # nothing was captured
        except Exception as error:  # of the driver, the compiler or cuBLAS
            raise DeviceNotFoundError(f"{self.device.name} cannot be used: {error}") from error

    @translating
    def free_bytes(self) -> int:
        """See `runtime.Runtime`."""
        return self.device.memory()[0]

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        """See `runtime.Runtime`."""
        num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            memory = self.device.cuda.Memory(num_bytes)
        except RuntimeError as error:
            raise translated(error, self.device, num_bytes) from error
        pointer = self.device.cuda.MemoryPointer(memory, 0)
        return self.device.cupy.ndarray(tuple(shape), np.dtype(dtype), pointer)

    @translating
    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        """See `runtime.Runtime`."""
        array = self.empty(shape, dtype)
        self.device.runtime.memsetAsync(array.data.ptr, 0, array.nbytes, 0)
        self.device.runtime.streamSynchronize(0)
        return array

    def pinned(self, num_bytes: int) -> Bytes:
        """See `runtime.Runtime`."""
        cuda = self.device.cuda
        try:
            memory = cuda.PinnedMemory(num_bytes, self.device.runtime.hostAllocPortable)
        except RuntimeError as error:
            raise self._not_pinned(error, num_bytes) from error
        self._pinned_bytes += num_bytes
        return np.frombuffer(cuda.PinnedMemoryPointer(memory, 0), np.uint8, num_bytes)

    @translating
    def stream(self, *, urgent: bool = False) -> CuPyStream:
        """See `runtime.Runtime`."""
        return CuPyStream(self.device, urgent=urgent)

    @translating
    def ops(self, stream: Any, scratch: Any = None) -> Any:
        """See `runtime.Runtime`; ``stream`` is a `CuPyStream`. Allocates WORKSPACE_BYTES for cuBLAS.

        Raises DeviceMemoryError and CublasError.
        """
        from kernels.cuda.ops import Ops  # noqa: PLC0415

        workspace = self.empty((WORKSPACE_BYTES,), np.uint8)
        self._workspaces.append(workspace)
        multiply = CuPyMultiply(self.device, stream, workspace)
        return Ops(CuPyLaunch(self._kernels, stream), multiply, scratch, self.info.processors)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """See `runtime.Runtime`. The thread stays bound, because unbinding it could fail on a lost device."""
        self._bind()
        yield

    @translating
    def _bind(self) -> None:
        self.device.handle.use()

    def _not_pinned(self, error: RuntimeError, asked: int) -> Exception:
        ours = translated(error, self.device)
        if isinstance(ours, DeviceLostError):
            return ours
        free, total = host_memory()
        sizes = {"asked": asked, "pinned": self._pinned_bytes, "free": free, "total": total}
        return PinnedMemoryError(str(error), device=self.device.name, **sizes)


class NvidiaDevices:
    """This machine's GPUs, numbered as CUDA does. CuPy is imported when the first method is called."""

    def count(self) -> int:
        """Return how many there are. Raises DeviceNotFoundError without CuPy or a driver."""
        return device_count()

    def open(self, number: int) -> Runtime:
        """Open device ``number``. Raises DeviceNotFoundError."""
        return CuPyRuntime(number)


def _kernels_folder() -> Path:
    try:
        from kernels.cuda.ptx_cache import default_folder  # noqa: PLC0415
    except ImportError as error:
        raise DeviceNotFoundError(
            f"no GPU can be used without numba-cuda: install fastswitch[gpu] ({error})"
        ) from error
    return default_folder()
