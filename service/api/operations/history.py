"""The history of the last requests, by id: their events, with the time at which the API saw them.

`History` is an observer of events, bounded in requests and in events of each. It holds numbers and ids, no text and no
tokens, and belongs to the event loop.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from service.core.messages.events import Event, RequestEvent, TokenOut
from service.engine import Turn

MAX_REQUESTS = 1024
MAX_EVENTS = 128  # of one request, tokens not counted; the oldest are dropped first


@dataclass(slots=True)
class Record:
    """One request. Tokens are counted, not listed, since they are many and alike. Times are Unix seconds."""

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
        """Return the record as JSON has it."""
        return asdict(self) | {"events": list(self.events)}

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` is its own id, its answer's id or its X-Request-Id."""
        if name in (self.request_id, self.client_id):
            return True
        indices = self.request_id.removeprefix(f"{name}-")  # of the prompt, the choice or both
        return indices.replace("-", "").isdigit()


class History:
    """The last `MAX_REQUESTS` requests that were posted to the engine."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._records: OrderedDict[str, Record] = OrderedDict()

    def admit(self, turns: Sequence[Turn]) -> None:
        """Begin the records of turns that are posted."""
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
        """Add one of core's events to its request's record."""
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
        """Return the records called ``name``, oldest first; the choices of one answer share a name."""
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
