"""Who waits for a first step, in the order of arrival: what a client that waits is told.

`WaitingLine` is an observer of turns and core's events, and belongs to the event loop. Core is not asked: a place is
found in O(log n) here, so that telling thousands of clients costs no step anything.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from service.core.messages.events import Event, Finished, Gauges, Refused, Started, StepDone
from service.engine import Turn

# Whoever is far from the front is told less often: telling a thousand clients each second costs the answers' time.
REPORT_EVERY_S, PLACES_A_SECOND, MOST_SILENCE_S = 1.0, 10, 15.0


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the line, from 1.

    ``reason``: what all that wait need, `slot` or `room`. ``estimate_s``: the wait still to come, if requests go on to
    start as quickly as the last ones did. Either is None if unknown. Policies other than ``fcfs`` may serve others
    first, so both numbers are what can be expected, not a promise.
    """

    position: int
    reason: str | None
    estimate_s: float | None

    @property
    def told_again_s(self) -> float:
        """Seconds until the client should be told again."""
        return min(MOST_SILENCE_S, max(REPORT_EVERY_S, self.position / PLACES_A_SECOND))

    def __str__(self) -> str:
        reason = "" if self.reason is None else f" reason={self.reason}"
        estimate = "" if self.estimate_s is None else f" estimate={self.estimate_s:.0f}s"
        return f"queued position={self.position}{reason}{estimate}"


class WaitingLine:
    """The requests that were posted to the engine and have not started.

    Always true: ``_numbers`` is sorted and has the numbers in ``_by_request``.
    """

    def __init__(self) -> None:
        self._next = count()
        self._numbers: list[int] = []  # a list moves 100,000 numbers in microseconds
        self._by_request: dict[str, int] = {}
        self.seconds_per_start: float | None = None  # as in `Gauges`
        self._reason: str | None = None

    def admit(self, turns: Sequence[Turn]) -> None:
        """Add turns that are posted."""
        for turn in turns:
            number = next(self._next)
            self._by_request[turn.submit.request_id] = number
            self._numbers.append(number)

    def observe(self, event: Event) -> None:
        """Follow one of core's events."""
        match event:
            case Started(request_id=request_id) | Finished(request_id=request_id) | Refused(request_id=request_id):
                self._remove(request_id)
            case StepDone(gauges=gauges):
                self._note(gauges)
            case Gauges():
                self._note(event)

    def place(self, request_ids: Sequence[str]) -> Place | None:
        """Return the best place of an answer's choices. None once any of them has started or ended."""
        numbers = [self._by_request.get(request_id) for request_id in request_ids]
        waiting = [number for number in numbers if number is not None]
        if len(waiting) < len(numbers):
            return None
        position = bisect_left(self._numbers, min(waiting)) + 1
        per_start = self.seconds_per_start
        return Place(position, self._reason, None if per_start is None else position * per_start)

    def _remove(self, request_id: str) -> None:
        if (number := self._by_request.pop(request_id, None)) is not None:
            del self._numbers[bisect_left(self._numbers, number)]

    def _note(self, gauges: Gauges) -> None:
        self._reason = gauges.waiting_for
        self.seconds_per_start = gauges.seconds_per_start
