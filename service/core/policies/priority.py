"""Ranks by the priority that a request states."""

from typing import ClassVar

from service.core.policies.keyed import KeyedPolicy
from service.core.policies.policy import PolicySettings
from service.core.state.requests import Request


class Priority(KeyedPolicy):
    """Lower numbers go first, as in vLLM; equal ones by order of arrival, so that none preempts another.

    ``ageing_s`` seconds of age count as one level, so nobody waits for ever. Everyone ages alike, so the order of two
    requests never changes: a younger one goes first if its priority is better by more levels than it is younger.
    """

    name: ClassVar[str] = "priority"

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        self._ageing_s = settings.ageing_s

    def key(self, request: Request) -> float:
        """Return the priority, as if all requests were judged at the same age."""
        return request.priority + (request.arrival_s / self._ageing_s if self._ageing_s else 0.0)
