"""First come, first served."""

from typing import ClassVar

from service.core.policies.keyed import KeyedPolicy
from service.core.policies.policy import PolicySettings
from service.core.state.requests import Request


class FirstComeFirstServed(KeyedPolicy):
    """Ranks requests by order of arrival; preemption does not change that."""

    name: ClassVar[str] = "fcfs"

    def __init__(self, settings: PolicySettings | None = None) -> None:
        super().__init__()

    def key(self, request: Request) -> int:
        """Return the number of the arrival."""
        return request.number
