"""Page-locked memory between the host and the compute stream: inputs and outputs of the steps under way.

The thread that launches steps owns it; only a step's result is read on another thread. Always true: an entry of the
ring is used again only when its step's result has been read and its event has passed, so that nothing on the device
still reads what the host writes, or writes what the host reads. No launch waits for that, except one that fails: with
one entry more than there are steps under way, it is true by the time an entry's turn comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.execution.gpu.runtime import Array, Bytes, Event, Runtime, Stream


@dataclass(slots=True)
class Entry:
    """One step's memory. ``event`` comes after all that the step submitted; ``is_read``: its result has been read."""

    writes: Bytes  # for `DeviceMemory.write`
    inputs: Bytes
    outputs: Bytes
    event: Event | None = None
    is_read: bool = True

    @property
    def is_free(self) -> bool:
        """Whether another step may use it. Raises DeviceLostError."""
        return self.is_read and (self.event is None or self.event.done)


class Ring:
    """Entries that are used in turn; ``sizes`` are the bytes of each for writes, inputs and outputs."""

    def __init__(self, runtime: Runtime, num_entries: int, sizes: tuple[int, int, int]) -> None:
        writes, inputs, outputs = sizes
        self._entries = [
            Entry(runtime.pinned(writes), runtime.pinned(inputs), runtime.pinned(outputs)) for _ in range(num_entries)
        ]
        self._next = 0

    def take(self) -> Entry:
        """Return the next entry, for a step that is about to be launched."""
        entry = self._entries[self._next]
        assert entry.is_free, f"entry {self._next} of {len(self._entries)} is still in use: too many steps under way"
        self._next = (self._next + 1) % len(self._entries)
        entry.event, entry.is_read = None, False
        return entry


class DeviceMemory:
    """A device's `Memory`, in the order of one stream.

    Writes go through an entry's page-locked memory and do not wait as long as it holds them. When it is full, the host
    waits until the stream has come that far: at start, or when very many requests with penalties begin at once.
    """

    def __init__(self, runtime: Runtime, stream: Stream) -> None:
        self._runtime, self._stream = runtime, stream
        self._buffer = np.empty(0, np.uint8)
        self._used = 0

    def write_through(self, buffer: Bytes) -> None:
        """Use this page-locked memory, which nothing else uses, for writes from now on."""
        self._buffer, self._used = buffer, 0

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """See `Memory`. Raises DeviceMemoryError."""
        return self._runtime.zeros(shape, dtype)

    def write(self, values: NDArray[Any], out: Array) -> None:
        """See `Memory`."""
        source, target = np.ascontiguousarray(values).reshape(-1).view(np.uint8), out.reshape(-1).view(np.uint8)
        done = 0
        while done < len(source):
            chunk = self._take(len(source) - done)
            chunk[:] = source[done : done + len(chunk)]
            self._stream.copy(chunk, target[done : done + len(chunk)])
            done += len(chunk)

    def copy(self, source: Array, out: Array) -> None:
        """See `Memory`."""
        self._stream.copy(source, out)

    def _take(self, num_bytes: int) -> Bytes:
        if self._used == len(self._buffer):
            self._stream.record().wait()
            self._used = 0
        chunk = self._buffer[self._used : self._used + num_bytes]
        self._used += len(chunk)
        return chunk
