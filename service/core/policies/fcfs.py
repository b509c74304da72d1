"""First come, first served."""

from collections.abc import Collection
from operator import attrgetter
from typing import ClassVar

from service.core.requests import Request


class FirstComeFirstServed:
    """By order of arrival; a preempted request keeps its place."""

    name: ClassVar[str] = "fcfs"

    def rank(self, requests: Collection[Request], now: float) -> list[Request]:
        """Oldest first."""
        return sorted(requests, key=attrgetter("number"))


POLICY = FirstComeFirstServed
