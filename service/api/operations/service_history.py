"""The service that tenants got over the last minutes.

`ServiceHistory` is an observer of events and belongs to the event loop. It is bounded in time and in tenants, since
without keys callers invent their names.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable

from service.core.messages.events import Event, Served

SPAN_S = 10
NUM_SPANS = 30
WINDOW_S = SPAN_S * NUM_SPANS

MAX_TENANTS = 100  # with a name, in a span and in the sum; the others are counted together
OTHERS = "(others)"  # no tenant's name has brackets


class ServiceHistory:
    """Service by tenant, in spans of `SPAN_S` seconds, the newest of which is not over yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spans: deque[tuple[int, dict[str, float]]] = deque(maxlen=NUM_SPANS)  # (number, service by tenant)

    def observe(self, event: Event) -> None:
        """Add one of core's events."""
        if not isinstance(event, Served):
            return
        span = self._newest()
        for tenant, service in event.tenants:
            has_name = tenant in span or len(span) < MAX_TENANTS
            span[tenant if has_name else OTHERS] += service

    def totals(self) -> dict[str, float]:
        """Return the service of the last `WINDOW_S` seconds by tenant, the largest first."""
        sums: dict[str, float] = defaultdict(float)
        first = self._now() - NUM_SPANS + 1
        for number, services in self._spans:
            for tenant, service in services.items() if number >= first else ():
                sums[tenant] += service
        others = sums.pop(OTHERS, 0.0)
        ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
        others += sum(service for _, service in ranked[MAX_TENANTS:])
        return dict(ranked[:MAX_TENANTS]) | ({OTHERS: others} if others else {})

    def _newest(self) -> dict[str, float]:
        now = self._now()
        if not self._spans or self._spans[-1][0] != now:
            self._spans.append((now, defaultdict(float)))
        return self._spans[-1][1]

    def _now(self) -> int:
        return int(self._clock() // SPAN_S)
