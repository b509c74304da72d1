"""What the parts of a simulated device share: whether it is lost, how much memory is allocated, which threads may call.

``lost`` changes once, from None to a reason. All threads that wait sleep on one condition, ``progress``, which is
notified whenever an event has passed or the device is lost.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from service.errors import DeviceLostError, DeviceMemoryError, PinnedMemoryError
from service.execution.gpu.runtime import CaptureError
from service.execution.gpu.simulated.faults import Faults, Work


class SimulatedDevice:
    """A device with ``total_bytes`` of memory, on a host of which ``pinnable_bytes`` can be pinned."""

    def __init__(self, name: str, total_bytes: int, pinnable_bytes: int, faults: Faults) -> None:
        self.name, self.total_bytes, self.pinnable_bytes = name, total_bytes, pinnable_bytes
        self.faults = faults
        self.lost: str | None = None
        self.taken_bytes = 0
        self.progress = threading.Condition()
        self.computing = threading.Lock()  # one thread at a time enters the CPU's kernels
        self._pinned: list[np.ndarray] = []
        self._thread = threading.local()

    def require(self) -> None:
        """Raise DeviceLostError if the device is lost."""
        if self.lost is not None:
            raise DeviceLostError(self.lost)

    def lose(self, reason: str) -> None:
        """Make all calls and all waits, also those under way, raise DeviceLostError."""
        with self.progress:
            self.lost = self.lost or reason
            self.progress.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until the condition is true. Raises DeviceLostError as soon as the device is lost."""
        with self.progress:
            self.progress.wait_for(lambda: self.lost is not None or condition())
        self.require()

    def submitting(self, work: Work) -> None:
        """Check work before it is queued. Raises what refuses it."""
        self.require()
        try:
            self.faults.submitted(work)
        except DeviceLostError as loss:
            self.lose(loss.message)
            raise

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let this thread call the device."""
        self._thread.depth = getattr(self._thread, "depth", 0) + 1
        try:
            yield
        finally:
            self._thread.depth -= 1

    def require_bound(self) -> None:
        """Raise RuntimeError on a thread that has not bound the device: CUDA would silently take another one."""
        if not getattr(self._thread, "depth", 0):
            raise RuntimeError(f"{threading.current_thread().name} calls {self.name} outside of `bound`")

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Keep this thread from allocating while it captures."""
        self._thread.captures = True
        try:
            yield
        finally:
            self._thread.captures = False

    def take(self, num_bytes: int) -> np.ndarray:
        """Allocate memory of the device, with all bits set: NaN, or -1. Raises DeviceMemoryError."""
        self._require_memory_call()
        free = self.total_bytes - self.taken_bytes
        if num_bytes > free:
            raise DeviceMemoryError(self.name, asked=num_bytes, free=free, total=self.total_bytes)
        self.taken_bytes += num_bytes
        return np.full(num_bytes, 0xFF, np.uint8)

    def pin(self, num_bytes: int) -> np.ndarray:
        """Allocate pinned memory of the host. Raises PinnedMemoryError."""
        self._require_memory_call()
        pinned = sum(memory.nbytes for memory in self._pinned)
        free, total = self.pinnable_bytes - pinned, self.pinnable_bytes
        if num_bytes > free:
            sizes = {"asked": num_bytes, "pinned": pinned, "free": free, "total": total}
            raise PinnedMemoryError("more than can be pinned", device=self.name, **sizes)
        self._pinned.append(np.full(num_bytes, 0xFF, np.uint8))
        return self._pinned[-1]

    def pinned_memory(self, array: np.ndarray) -> np.ndarray:
        """Return the array itself. Raises ValueError if it is not pinned."""
        address = _address(array)
        starts = [(_address(memory), memory.nbytes) for memory in self._pinned]
        if not any(start <= address and address + array.nbytes <= start + length for start, length in starts):
            raise ValueError(f"an array of the host, {array.shape} of {array.dtype}, is not pinned")
        return array

    def _require_memory_call(self) -> None:
        self.require_bound()
        self.require()
        if getattr(self._thread, "captures", False):
            raise CaptureError("memory cannot be taken while a graph is captured")


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
