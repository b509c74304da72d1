"""Unpredictable priorities: the paper's *Random* trace."""

from collections.abc import Collection
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings, conversation_of, draw
from service.core.state.requests import Request


class Random:
    """Every ``update_every`` steps each conversation draws a new priority, independent of the last."""

    name: ClassVar[str] = "random"

    def __init__(self, trace: TraceSettings) -> None:
        self._trace = trace
        self._update = -1
        self._drawn: dict[str, float] = {}  # in this update, by conversation

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the requests by the draws of the update to which ``step`` belongs. A new one is ranked at once."""
        update = step // self._trace.update_every
        if update != self._update:
            self._update, self._drawn = update, {}
        return sorted(requests, key=lambda request: (self._priority(conversation_of(request)), request.number))

    def _priority(self, conversation: str) -> float:
        if conversation not in self._drawn:
            self._drawn[conversation] = draw(self._trace.seed, conversation, self._update)
        return self._drawn[conversation]
