"""Times on the device, measured between events."""

from collections.abc import Callable
from statistics import median

from service.execution.gpu.runtime import Array, Event, Stream

Span = tuple[Event, Event]


def seconds(span: Span) -> float:
    """Return the length of a span whose end has passed."""
    begin, end = span
    return end.seconds_since(begin)


def device_seconds(stream: Stream, submit: Callable[[], None], repetitions: int) -> float:
    """Return the median time of the submitted work on the device, after a first run. Call within `Runtime.bound`."""
    submit()
    spans: list[Span] = []
    for _ in range(repetitions):
        begin = stream.record(timed=True)
        submit()
        spans.append((begin, stream.record(timed=True)))
    spans[-1][1].wait()
    return median(map(seconds, spans))


class StepClock:
    """A compute stream that records when each step of a runner begins and ends on the device.

    A runner's step begins with a copy of the step's inputs and ends with an event; other events end no step.
    """

    def __init__(self, stream: Stream) -> None:
        self.spans: list[Span] = []
        self._stream = stream
        self._begin: Event | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def copy(self, source: Array, destination: Array) -> None:
        """Submit a copy; the first one begins a step."""
        self._begin = self._begin or self._stream.record(timed=True)
        self._stream.copy(source, destination)

    def record(self, *, timed: bool = False) -> Event:
        """Return an event, which is always timed."""
        end = self._stream.record(timed=True)
        if self._begin is not None:
            self.spans.append((self._begin, end))
            self._begin = None
        return end
