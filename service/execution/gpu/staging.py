"""Page-locked memory between the host and the compute stream: what a step is told, and what came of it.

Owned by the thread that launches steps, except that a step's result is read on another. Always true: an entry of the
ring is used again only when its step's result has been read and its event has passed, so that nothing on the device
still reads what the host writes, nor writes what the host reads. Nobody waits for that: with as many entries as there
are steps under way, and one more, it is so by the time an entry's turn comes. Only a launch that fails waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.execution.gpu.runtime import Array, Bytes, Event, Runtime, Stream


@dataclass(slots=True)
class Entry:
    """One step's memory. ``event``: after all that the step submitted. ``is_read``: nobody will look at it again."""

    written: Bytes  # of `DeviceMemory.write`
    inputs: Bytes
    outputs: Bytes
    event: Event | None = None
    is_read: bool = True

    @property
    def is_free(self) -> bool:
        """Whether another step may have it. Raises DeviceLostError."""
        return self.is_read and (self.event is None or self.event.done)


class Ring:
    """Entries that are used in turn, each of so many bytes for writes, for what a step is told, and its outcome."""

    def __init__(self, runtime: Runtime, num_entries: int, sizes: tuple[int, int, int]) -> None:
        self._entries = [_entry(runtime, *sizes) for _ in range(num_entries)]
        self._next = 0

    def take(self) -> Entry:
        """The next entry, for a step that is about to be launched."""
        entry = self._entries[self._next]
        assert entry.is_free, f"entry {self._next} of {len(self._entries)} is still in use: too many steps under way"
        self._next = (self._next + 1) % len(self._entries)
        entry.event, entry.is_read = None, False
        return entry


def _entry(runtime: Runtime, written_bytes: int, input_bytes: int, output_bytes: int) -> Entry:
    return Entry(runtime.pinned(written_bytes), runtime.pinned(input_bytes), runtime.pinned(output_bytes))


class DeviceMemory:
    """A device's `Memory`, in the order of one stream.

    Writes go through an entry's page-locked memory and wait for nothing as long as it holds them. When it is full, the
    host waits until the stream has come that far: at start, or where very many requests with penalties begin at once.
    """

    def __init__(self, runtime: Runtime, stream: Stream) -> None:
        self._runtime, self._stream = runtime, stream
        self._room = np.empty(0, np.uint8)
        self._used = 0

    def write_through(self, room: Bytes) -> None:
        """From now on, through this page-locked memory, which nothing else uses."""
        self._room, self._used = room, 0

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """See `Memory`. Raises DeviceMemoryError."""
        return self._runtime.zeros(shape, dtype)

    def write(self, values: NDArray[Any], out: Array) -> None:
        """See `Memory`."""
        source, target = np.ascontiguousarray(values).reshape(-1).view(np.uint8), out.reshape(-1).view(np.uint8)
        done = 0
        while done < len(source):
            room = self._take(len(source) - done)
            room[:] = source[done : done + len(room)]
            self._stream.copy(room, target[done : done + len(room)])
            done += len(room)

    def copy(self, source: Array, out: Array) -> None:
        """See `Memory`."""
        self._stream.copy(source, out)

    def _take(self, num_bytes: int) -> Bytes:
        if self._used == len(self._room):
            self._stream.record().wait()
            self._used = 0
        room = self._room[self._used : self._used + num_bytes]
        self._used += len(room)
        return room
