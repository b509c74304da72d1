"""First come, first served."""

from collections.abc import Collection
from operator import attrgetter
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings
from service.core.state.requests import Request


class FirstComeFirstServed:
    """Ranks requests by order of arrival; preemption does not change that."""

    name: ClassVar[str] = "fcfs"

    def __init__(self, trace: TraceSettings | None = None) -> None:
        pass

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the requests, oldest first."""
        return sorted(requests, key=attrgetter("number"))
