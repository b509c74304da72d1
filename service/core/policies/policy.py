"""The protocol of a policy."""

from collections.abc import Collection
from typing import ClassVar, Protocol

from service.core.policies.priority_trace import TraceSettings
from service.core.state.requests import Request


class Policy(Protocol):
    """Ranks live requests. Ranks are strict: two requests never tie, so no two preempt each other in turn."""

    name: ClassVar[str]

    def __init__(self, trace: TraceSettings) -> None:
        """Take ``trace``, which only policies that draw priorities use."""

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Return all requests, the first to be served first, after ``step`` steps. Must not change them."""
