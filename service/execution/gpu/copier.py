"""Copies blocks between the device and the host while the model runs.

Each direction is a stream with two threads: one issues copies, the other waits for their ends and reports them, so that
the stream has the next ticket's copies while the interpreter still handles the end of the last one. Always true:

- a copy starts after everything that was launched before its ticket was submitted: `submit` records an event on the
  compute stream, and the copy's stream waits for it on the device;
- a ticket is reported once, and not before all its issued copies have ended, failed or not: its blocks are then free
  for others;
- the thread that launches steps never waits here.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter

import structlog

from allocator import Direction, Ticket
from service.core.messages.plan import CopyResult
from service.errors import DeviceLostError
from service.execution.gpu.pools import Copy, GPUPools
from service.execution.gpu.runtime import Event, Runtime, Stream, record_end

log = structlog.get_logger(__name__)

STOP_PATIENCE_S = 10.0  # for copies under way; a device that hangs must not keep the service from ending

Report = Callable[[CopyResult], None]
Split = Callable[[Ticket], Iterable[Copy]]


@dataclass(frozen=True, slots=True)
class _Submitted:
    ticket: Ticket
    after: Event


@dataclass(frozen=True, slots=True)
class _Issued:
    """A ticket whose copies were issued; ``failure`` says why some were not."""

    ticket: Ticket
    after: Event
    end: Event | None
    pieces: int
    failure: Exception | None


class GPUCopier:
    """A `Copier`; ``compute`` is the stream whose work reads and writes the device's blocks.

    ``by_layer``: one copy a block, layer and side, instead of one a run of blocks.
    """

    def __init__(self, runtime: Runtime, pools: GPUPools, compute: Stream, *, by_layer: bool = False) -> None:
        self._runtime, self._compute = runtime, compute
        split = pools.copies_by_layer if by_layer else pools.copies
        self._links = {direction: _Link(direction, runtime, split) for direction in Direction}
        self._report: Report = lambda result: None

    def start(self, report: Report) -> None:
        """Start the threads; ``report`` is called on one of them, or within `submit` when the device is lost."""
        self._report = report
        for link in self._links.values():
            link.start(report)

    def submit(self, ticket: Ticket) -> None:
        """Queue a copy behind all that was launched, and behind the other copies of its direction."""
        try:
            with self._runtime.bound():
                after = self._compute.record()
        except Exception as error:  # whatever it is, it must be reported to the engine
            self._report(_failed(ticket, 0, error))
            return
        self._links[ticket.direction].submit(_Submitted(ticket, after))

    def stop(self) -> None:
        """Wait until queued copies have ended, but not for ever: the device may hang."""
        for link in self._links.values():
            link.stop()
        for link in self._links.values():
            link.join()


class _Link:
    """The copies of one direction."""

    def __init__(self, direction: Direction, runtime: Runtime, split: Split) -> None:
        self._direction, self._runtime, self._split = direction, runtime, split
        self._submitted: SimpleQueue[_Submitted | None] = SimpleQueue()
        self._issued: SimpleQueue[_Issued | None] = SimpleQueue()
        with runtime.bound():
            self._stream = runtime.stream()
        # Daemons, so that a device that hangs does not keep the process alive.
        self._issuer = threading.Thread(target=self._issue_all, name=f"copy-{direction.value}", daemon=True)
        self._waiter = threading.Thread(target=self._wait_for_all, name=f"copied-{direction.value}", daemon=True)
        self._report: Report = lambda result: None

    def start(self, report: Report) -> None:
        self._report = report
        self._issuer.start()
        self._waiter.start()

    def submit(self, submitted: _Submitted) -> None:
        self._submitted.put(submitted)

    def stop(self) -> None:
        self._submitted.put(None)

    def join(self) -> None:
        self._waiter.join(STOP_PATIENCE_S)
        if self._waiter.is_alive():
            log.error("copies_hang", direction=self._direction.value)

    def _issue_all(self) -> None:
        while (submitted := self._submitted.get()) is not None:
            self._issued.put(self._issue(submitted))
        self._issued.put(None)

    def _issue(self, submitted: _Submitted) -> _Issued:
        pieces, end, failure = 0, None, None
        try:
            with self._runtime.bound():
                try:
                    self._stream.wait(submitted.after)
                    for source, destination in self._split(submitted.ticket):
                        self._stream.copy(source, destination)
                        pieces += 1
                finally:  # what was issued before a failure is still copying
                    end = record_end(self._stream, f"copy-{self._direction.value}")
        except Exception as error:
            failure = error
        return _Issued(submitted.ticket, submitted.after, end, pieces, failure)

    def _wait_for_all(self) -> None:
        while (issued := self._issued.get()) is not None:
            self._report(self._wait_for(issued))

    @staticmethod
    def _wait_for(issued: _Issued) -> CopyResult:
        """Count seconds from when the copy could begin: the wait before that is the step's time."""
        failure = issued.failure or _failure_at(issued.after)
        began = perf_counter()
        failure = (None if issued.end is None else _failure_at(issued.end)) or failure
        seconds = perf_counter() - began
        if failure is not None:
            return _failed(issued.ticket, seconds, failure)
        return CopyResult(issued.ticket.number, seconds, issued.pieces)


def _failure_at(event: Event) -> Exception | None:
    try:
        event.wait()
    except Exception as failure:
        return failure
    return None


def _failed(ticket: Ticket, seconds: float, failure: Exception) -> CopyResult:
    """Log a failed copy, with a traceback unless the device is lost: then all tickets left fail the same way."""
    trace = None if isinstance(failure, DeviceLostError) else failure
    log.error("copy_failed", ticket=ticket.number, error=str(failure), exc_info=trace)
    return CopyResult(ticket.number, seconds, 0, failed=True)
