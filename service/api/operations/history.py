"""What became of the last requests, by id: their events with the time at which the edge heard of them.

An observer of events, bounded in requests and in events of each. Numbers and ids only: no text, no tokens. Belongs to
the event loop.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from service.core.messages.events import Event, RequestEvent, TokenOut
from service.engine import Turn

MAX_REQUESTS = 1024
MAX_EVENTS = 128  # of one request, tokens apart; the oldest go first


@dataclass(slots=True)
class Record:
    """One request. Tokens are counted, not listed: they are many and alike. Times are Unix seconds."""

    request_id: str
    client_id: str  # the X-Request-Id of its answer
    tenant: str
    prompt_tokens: int
    max_tokens: int
    priority: int
    tokens: int = 0
    first_token_at: float | None = None
    last_token_at: float | None = None
    longest_gap_s: float = 0.0
    num_events: int = 0
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))

    def view(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"events": list(self.events)}

    def is_called(self, name: str) -> bool:
        """Whether an operator means it by ``name``: its own id, its answer's, or the X-Request-Id."""
        if name in (self.request_id, self.client_id):
            return True
        place = self.request_id.removeprefix(f"{name}-")  # of the prompt, the choice or both
        return place.replace("-", "").isdigit()


class History:
    """The last `MAX_REQUESTS` requests that were posted to the engine."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._records: OrderedDict[str, Record] = OrderedDict()

    def admit(self, turns: Sequence[Turn]) -> None:
        """Turns are posted."""
        for turn in turns:
            submit = turn.submit
            record = Record(
                submit.request_id,
                turn.client_id,
                submit.tenant,
                len(submit.prompt),
                submit.max_tokens,
                submit.priority,
            )
            self._records[submit.request_id] = record
            self._note(record, "submitted", {})
        while len(self._records) > MAX_REQUESTS:
            self._records.popitem(last=False)

    def observe(self, event: Event) -> None:
        """Write one of core's events down."""
        if not isinstance(event, RequestEvent):
            return
        record = self._records.get(event.request_id)
        if record is None:
            return
        if isinstance(event, TokenOut):
            self._count(record, event)
        else:
            details = asdict(event)
            del details["request_id"]
            self._note(record, type(event).__name__.lower(), details)

    def find(self, name: str) -> list[dict[str, Any]]:
        """The records that ``name`` may mean, oldest first: the choices of one answer have it in common."""
        return [record.view() for record in self._records.values() if record.is_called(name)]

    def _note(self, record: Record, event: str, details: dict[str, Any]) -> None:
        record.num_events += 1
        record.events.append({"at": self._clock(), "event": event, **details})

    def _count(self, record: Record, token: TokenOut) -> None:
        record.last_token_at = self._clock()
        if not record.tokens:
            record.first_token_at = record.last_token_at
        else:
            record.longest_gap_s = max(record.longest_gap_s, token.gap_s)
        record.tokens += 1
