"""First come, first served."""

from collections.abc import Collection
from operator import attrgetter
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings
from service.core.state.requests import Request


class FirstComeFirstServed:
    """By order of arrival; a preempted request keeps its place."""

    name: ClassVar[str] = "fcfs"

    def __init__(self, trace: TraceSettings | None = None) -> None:
        pass

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Oldest first."""
        return sorted(requests, key=attrgetter("number"))
