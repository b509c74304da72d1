"""What the data plane asks of a device, and nothing more.

Work is *submitted* to a stream and returns at once; a stream runs it in order, several streams run at once. Order
between streams is made by events on the device: `Stream.record` on one, `Stream.wait` on the other. The host waits for
an event only where a result is read, on a thread that has nothing else to do.

Memory is taken once, at start, and kept for ever: nothing is freed while another stream may still use it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import sleep
from typing import Any, Protocol

import numpy as np
import structlog
from numpy.typing import DTypeLike, NDArray

from service.errors import DeviceLostError

log = structlog.get_logger(__name__)

RETRY_S = 0.1

# Of the device: shape, dtype, strides, nbytes, size, basic slices, reshape and view as NumPy has them; the contents by
# copies only.
Array = Any
Bytes = NDArray[np.uint8]


class CaptureError(RuntimeError):
    """Something that was submitted cannot be captured: submit it uncaptured."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What ``device`` (cuda:0) is. ``capability``: (9, 0) for Hopper. ``processors``: streaming multiprocessors."""

    device: str
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
        """Block the calling thread, without the interpreter's lock, until then. Raises what failed before it,
        DeviceLostError above all.
        """

    def seconds_since(self, earlier: "Event") -> float:
        """Time on the device between two events, of whatever streams, that were timed and have passed."""


class Graph(Protocol):
    """Work that was captured, to be submitted again as a whole on the same memory."""


class Stream(Protocol):
    """A queue of work. One thread at a time submits to it."""

    def copy(self, source: Array, destination: Array) -> None:
        """Copy between contiguous arrays of as many bytes, on either side of the device's or of pinned memory.

        The host's memory is read, or written, when the copy's turn comes: leave it alone until an event says so.
        """

    def fill(self, destination: Array, byte: int) -> None:
        """Set every byte of a contiguous array on the device; 0xFF makes NaN of floats of any type."""

    def record(self, *, timed: bool = False) -> Event:
        """An event after all that was submitted so far; ``timed``: it notes when, which costs the device a little."""

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
        """Everything of this device but its events and arrays is called inside, on each thread that does."""


def record_end(stream: Stream, what: str) -> Event:
    """Return an event after all that was submitted: without one it is unknown when the memory it uses is free.

    Tries until there is one; ``what`` is for the log. Raises DeviceLostError.
    """
    while True:
        try:
            return stream.record()
        except DeviceLostError:
            raise
        except Exception:
            log.exception("end_unknown", what=what)
            sleep(RETRY_S)
