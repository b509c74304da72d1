"""Streams of a simulated device: each is a thread that works through a queue, and only events order them.

The stream's thread owns the stream's failure. Always true: work after a failure is skipped up to the next event. That
event passes the failure on to the host or stream that waits for it, and the stream works again. CUDA has no such
failures, only refused calls and lost devices: here they are mistakes in the work, or injected.
"""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import numpy as np
import structlog

from service.errors import DeviceLostError
from service.execution.gpu.runtime import CaptureError
from service.execution.gpu.simulated.array import DeviceArray
from service.execution.gpu.simulated.device import SimulatedDevice
from service.execution.gpu.simulated.faults import Work

log = structlog.get_logger(__name__)

Action = Callable[[], object]


class SimulatedEvent:
    """A `runtime.Event`: it passes once, for ever."""

    def __init__(self, device: SimulatedDevice, timed: bool = False) -> None:
        self._device = device
        self._timed = timed
        self._at = 0.0
        self._passed = False
        self._failure: Exception | None = None

    @property
    def done(self) -> bool:
        """See `runtime.Event`."""
        self._device.require()
        return self._passed

    def wait(self) -> None:
        """See `runtime.Event`."""
        self._device.wait_until(lambda: self._passed)
        if self._failure is not None:
            raise self._failure

    def seconds_since(self, earlier: Any) -> float:
        """See `runtime.Event`. Raises ValueError if either was not timed or has not passed."""
        if not (self._timed and earlier._timed and self.done and earlier.done):
            raise ValueError("time between events: both must be timed and have passed")
        seconds: float = self._at - earlier._at
        return seconds

    def passed(self, failure: Exception | None) -> None:
        """Mark the event as passed; called on the stream's thread."""
        with self._device.progress:
            self._at, self._passed, self._failure = perf_counter(), True, failure
            self._device.progress.notify_all()


@dataclass(frozen=True, slots=True)
class SimulatedGraph:
    """Captured work with its names and bytes, in order."""

    works: tuple[tuple[str, int, Action], ...]


class SimulatedStream:
    """A `runtime.Stream`: a queue of work, and a thread that ends with the stream."""

    def __init__(self, device: SimulatedDevice, number: int) -> None:
        self.number = number
        self._device = device
        self._worker = _Worker(device)
        self._submitted = 0
        self._captured: list[tuple[str, int, Action]] | None = None
        threading.Thread(target=self._worker.run, name=f"stream-{number}", daemon=True).start()
        weakref.finalize(self, self._worker.queue.put, None)

    def submit(self, name: str, num_bytes: int, action: Action) -> None:
        """Queue a piece of work."""
        self._device.require_bound()
        if self._captured is not None:
            self._captured.append((name, num_bytes, action))
            return
        work = Work(self.number, self._submitted, name, num_bytes)
        self._submitted += 1
        self._device.submitting(work)
        self._worker.queue.put(partial(self._worker.work, work, action))

    def copy(self, source: Any, destination: Any) -> None:
        """See `runtime.Stream`. Raises ValueError for memory that is neither the device's nor pinned."""
        origin, target = self._bytes(source), self._bytes(destination)
        if origin.nbytes != target.nbytes:
            raise ValueError(f"a copy of {origin.nbytes} bytes into {target.nbytes}")
        self.submit(_copy_name(source, destination), origin.nbytes, partial(np.copyto, target, origin))

    def fill(self, destination: Any, byte: int) -> None:
        """See `runtime.Stream`."""
        target = self._bytes(destination)
        self.submit("fill", target.nbytes, partial(target.fill, byte))

    def record(self, *, timed: bool = False) -> SimulatedEvent:
        """See `runtime.Stream`."""
        self._refuse_capture("record")
        event = SimulatedEvent(self._device, timed)
        self._worker.queue.put(partial(self._worker.record, event))
        return event

    def wait(self, event: Any) -> None:
        """See `runtime.Stream`; ``event`` is a `SimulatedEvent`. A failure before the event fails this stream too."""
        self._refuse_capture("wait")
        self._worker.queue.put(partial(self._worker.wait, event))

    def capture(self, submit: Callable[[], None]) -> SimulatedGraph:
        """See `runtime.Stream`."""
        self._refuse_capture("capture")
        captured = self._captured = []
        try:
            with self._device.capturing():
                submit()
        finally:
            self._captured = None
        return SimulatedGraph(tuple(captured))

    def replay(self, graph: Any) -> None:
        """See `runtime.Stream`; ``graph`` is a `SimulatedGraph`."""
        for work in graph.works:
            self.submit(*work)

    def _refuse_capture(self, call: str) -> None:
        self._device.require_bound()
        self._device.require()
        if self._captured is not None:
            raise CaptureError(f"`{call}` cannot be captured")

    def _bytes(self, array: Any) -> np.ndarray:
        memory = array._memory if isinstance(array, DeviceArray) else self._device.pinned_memory(array)
        if not memory.flags.c_contiguous:
            raise ValueError(f"an array of shape {memory.shape}, strides {memory.strides} is not contiguous")
        flat: np.ndarray = memory.reshape(-1).view(np.uint8)
        return flat


def _copy_name(source: Any, destination: Any) -> str:
    match isinstance(source, DeviceArray), isinstance(destination, DeviceArray):
        case True, True:
            return "copy-inside"
        case True, False:
            return "copy-out"
        case False, True:
            return "copy-in"
    return "copy-on-host"


class _Worker:
    """The thread's side of a stream. It holds only the queue, so that the thread of an unused stream can end."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._device = device
        self._failure: Exception | None = None

    def run(self) -> None:
        while (act := self.queue.get()) is not None:
            act()
            del act  # or its arrays would be kept while the queue is empty

    def work(self, work: Work, action: Action) -> None:
        if self._failure is not None or self._device.lost is not None:
            return
        try:
            self._device.faults.begins(work)
            self._device.require()
            action()
        except DeviceLostError as loss:
            self._device.lose(loss.message)
        except Exception as failure:
            log.warning("simulated_work_failed", work=work.name, stream=work.stream, number=work.number)
            self._failure = failure

    def record(self, event: SimulatedEvent) -> None:
        event.passed(self._failure)
        self._failure = None

    def wait(self, event: SimulatedEvent) -> None:
        try:
            event.wait()
        except DeviceLostError:
            return  # the host learns of it from whatever it waits for
        except Exception as failure:
            self._failure = self._failure or failure
