"""Priorities with a memory: the paper's *Markov* trace, in which favoured conversations tend to stay favoured.

The paper does not publish its transition probabilities; these are ours.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from service.core.policies.keyed import KeyedPolicy
from service.core.policies.policy import PolicySettings
from service.core.policies.priority_trace import conversation_of, draw
from service.core.state.requests import Request

STAYS_FAVOURED = 0.9
BECOMES_FAVOURED = 0.1  # with the above, half of all conversations are favoured at any time


@dataclass(slots=True)
class _Chain:
    """A conversation's state after ``update``; ``since`` is the update at which it last changed."""

    update: int
    favoured: bool
    since: int


class Markov(KeyedPolicy):
    """Each conversation is favoured or not, and keeps its rank among its equals until that changes."""

    name: ClassVar[str] = "markov"

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        self._settings = settings
        self._update = 0
        self._chains: dict[str, _Chain] = {}

    def update(self, holders: Collection[Request], step: int) -> bool:
        """Advance all chains and forget those of conversations that have left, if an update begins with this step."""
        update = step // self._settings.update_every
        if update == self._update:
            return False
        self._update = update
        names = {conversation_of(request) for request in (*holders, *self._queue)}
        self._chains = {name: self._advance(name) for name in names}
        return True

    def key(self, request: Request) -> tuple[bool, float]:
        """Return whether the conversation is not favoured, and its draw."""
        name = conversation_of(request)
        chain = self._chains.get(name)
        if chain is None:
            chain = self._chains[name] = self._advance(name)
        return not chain.favoured, draw(self._settings.seed, name, chain.since, "place")

    def _advance(self, name: str) -> _Chain:
        """Walk the chain, from its beginning if the conversation is new: its state must not depend on when it came."""
        chain = self._chains.get(name)
        if chain is None:
            chain = _Chain(0, draw(self._settings.seed, name, 0, "start") < 0.5, 0)
        while chain.update < self._update:
            chain.update += 1
            favoured = self._is_favoured_next(name, chain)
            if favoured is not chain.favoured:
                chain.favoured, chain.since = favoured, chain.update
        return chain

    def _is_favoured_next(self, name: str, chain: _Chain) -> bool:
        drawn = draw(self._settings.seed, name, chain.update, "step")
        return drawn < (STAYS_FAVOURED if chain.favoured else BECOMES_FAVOURED)
