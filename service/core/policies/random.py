"""Unpredictable priorities: the paper's *Random* trace."""

from collections.abc import Collection
from typing import ClassVar

from service.core.policies.keyed import KeyedPolicy
from service.core.policies.policy import PolicySettings
from service.core.policies.priority_trace import conversation_of, draw
from service.core.state.requests import Request


class Random(KeyedPolicy):
    """Every ``update_every`` steps each conversation draws a new priority, independent of the last."""

    name: ClassVar[str] = "random"

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        self._settings = settings
        self._update = 0
        self._drawn: dict[str, float] = {}  # in this update, by conversation

    def update(self, holders: Collection[Request], step: int) -> bool:
        """Return whether a new update begins with this step."""
        update = step // self._settings.update_every
        if update == self._update:
            return False
        self._update, self._drawn = update, {}
        return True

    def key(self, request: Request) -> float:
        """Return the draw of the request's conversation."""
        conversation = conversation_of(request)
        if conversation not in self._drawn:
            self._drawn[conversation] = draw(self._settings.seed, conversation, self._update)
        return self._drawn[conversation]
