"""What the data plane asks of a device, and nothing more.

Work is *submitted* to a stream and returns at once; a stream runs it in order, several streams run at once. Order
between streams is made by events on the device: `Stream.record` on one, `Stream.wait` on the other. The host waits for
an event only where a result is read, on a thread that has nothing else to do.

Memory is taken once, at start, and kept for ever: nothing is freed while another stream may still use it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = Any  # of the device: shape, dtype, nbytes, basic slices and reshape as NumPy has them; contents only by copies
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device is. ``capability``: (9, 0) for Hopper. ``processors``: streaming multiprocessors."""

    name: str
    capability: tuple[int, int]
    processors: int
    total_bytes: int
    driver: str
    runtime: str


class Event(Protocol):
    """A point in a stream's work."""

    @property
    def done(self) -> bool:
        """Whether all work before it has ended. Does not wait. Raises DeviceLostError."""

    def wait(self) -> None:
        """Block the calling thread, without the interpreter's lock, until then. Raises DeviceLostError."""


class Graph(Protocol):
    """Work that was captured, to be submitted again as a whole on the same memory."""


class Stream(Protocol):
    """A queue of work. One thread at a time submits to it."""

    def copy(self, source: Array, destination: Array) -> None:
        """Copy between contiguous arrays of as many bytes, on either side of the device's or of pinned memory."""

    def record(self) -> Event:
        """An event after all that was submitted so far."""

    def wait(self, event: Event) -> None:
        """What is submitted from now on starts after ``event``; the host does not wait."""

    def capture(self, submit: Callable[[], None]) -> Graph:
        """What ``submit`` submits to this stream, captured instead of run. It may neither copy from pageable memory
        nor take memory. Raises CaptureError if the device cannot capture it.
        """

    def replay(self, graph: Graph) -> None:
        """Submit captured work."""


class Runtime(Protocol):
    """One device."""

    info: DeviceInfo

    def free_bytes(self) -> int:
        """Memory of the device that nobody has taken."""

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """An array on the device, for ever. Raises DeviceMemoryError."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """`empty`, of zeros by the time it returns."""

    def pinned(self, num_bytes: int) -> Bytes:
        """Page-locked memory of the host, for ever. Raises PinnedMemoryError."""

    def stream(self, *, urgent: bool = False) -> Stream:
        """A queue of its own, that waits for no other; ``urgent`` ones go first where the device has to choose."""

    def ops(self, stream: Stream, scratch: Array | None = None) -> Any:
        """The ops of `kernels.reference` by their names, submitted to ``stream``. ``scratch``: float32 on the device,
        for attention's splits.
        """

    def bound(self) -> AbstractContextManager[None]:
        """Everything of this device is called inside, on each thread that does."""
