"""Ranks by the priority that a request states."""

from collections.abc import Collection
from operator import attrgetter
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings
from service.core.state.requests import Request


class Priority:
    """Lower numbers go first, as in vLLM; equal ones by order of arrival, so that none preempts another."""

    name: ClassVar[str] = "priority"

    def __init__(self, trace: TraceSettings | None = None) -> None:
        pass

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the requests, lowest number first. Two stable sorts cost half of one by a pair."""
        return sorted(sorted(requests, key=attrgetter("number")), key=attrgetter("priority"))
