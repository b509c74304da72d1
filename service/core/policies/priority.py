"""By the number that the request brings."""

from collections.abc import Collection
from operator import attrgetter
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings
from service.core.state.requests import Request


class Priority:
    """Lower numbers first, as in vLLM; order of arrival among equals, so an equal never displaces an equal."""

    name: ClassVar[str] = "priority"

    def __init__(self, trace: TraceSettings | None = None) -> None:
        pass

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Lowest priority number first. Two stable sorts cost half of one by a pair."""
        return sorted(sorted(requests, key=attrgetter("number")), key=attrgetter("priority"))
