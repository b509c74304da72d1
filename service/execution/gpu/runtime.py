"""The protocols of a device, as far as the data plane needs one.

Submitting work to a stream returns at once; a stream runs its work in order, and several streams run at once. Events
order streams on the device: `Stream.record` on one, `Stream.wait` on the other. The host waits for an event only to
read a result, on a thread that has nothing else to do.

Memory is allocated once, at start, and kept for ever: nothing is freed while another stream may still use it.
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

# An array on the device: shape, dtype, strides, nbytes, size, basic slices, reshape and view are as in NumPy; only
# copies reach its contents.
Array = Any
Bytes = NDArray[np.uint8]


class CaptureError(RuntimeError):
    """Submitted work cannot be captured, but can be submitted without a capture."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What ``device`` (cuda:0) is; ``capability`` is (9, 0) for Hopper, ``processors`` streaming multiprocessors."""

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
        """Block the calling thread, without the interpreter's lock, until all work before the event has ended.

        Raises what failed before it, DeviceLostError above all.
        """

    def seconds_since(self, earlier: "Event") -> float:
        """Return the device's time between two events, of any streams, that were timed and have passed."""


class Graph(Protocol):
    """Captured work, which can be submitted again as a whole on the same memory."""


class Stream(Protocol):
    """A queue of work. One thread at a time submits to it."""

    def copy(self, source: Array, destination: Array) -> None:
        """Copy between contiguous arrays of as many bytes, each on the device or in pinned memory.

        The host's memory is read or written when the copy's turn comes: do not use it before an event says so.
        """

    def fill(self, destination: Array, byte: int) -> None:
        """Set every byte of a contiguous array on the device; 0xFF makes NaN of floats of any type."""

    def record(self, *, timed: bool = False) -> Event:
        """Return an event after all that was submitted so far; a ``timed`` one costs the device a little more."""

    def wait(self, event: Event) -> None:
        """Make what is submitted from now on start after ``event``; the host does not wait."""

    def capture(self, submit: Callable[[], None]) -> Graph:
        """Capture, instead of running it, what ``submit`` submits to this stream.

        It must neither copy from pageable memory nor allocate. Raises CaptureError if the device cannot capture it.
        """

    def replay(self, graph: Graph) -> None:
        """Submit captured work."""


class Runtime(Protocol):
    """One device."""

    info: DeviceInfo

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free, other processes' use counted."""

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """Allocate an array on the device, for ever. Raises DeviceMemoryError."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """Allocate like `empty`; the array is all zeros when this returns."""

    def pinned(self, num_bytes: int) -> Bytes:
        """Allocate page-locked memory of the host, for ever. Raises PinnedMemoryError."""

    def stream(self, *, urgent: bool = False) -> Stream:
        """Return a new stream, which waits for no other; the device prefers ``urgent`` ones when it has to choose."""

    def ops(self, stream: Stream, scratch: Array | None = None) -> Any:
        """Return the ops of `kernels.reference` by their names, which submit to ``stream``.

        ``scratch`` is a float32 array on the device, for attention's splits.
        """

    def bound(self) -> AbstractContextManager[None]:
        """Bind the calling thread to the device: all calls but those of events and arrays must be made inside."""


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
