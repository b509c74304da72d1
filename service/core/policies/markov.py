"""Priorities with a memory: the paper's *Markov* trace, in which favoured conversations tend to stay favoured.

The paper does not publish its transition probabilities; these are ours.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from service.core.policies.priority_trace import TraceSettings, conversation_of, draw
from service.core.state.requests import Request

STAYS_FAVOURED = 0.9
BECOMES_FAVOURED = 0.1  # with the above, half of all conversations are favoured at any time


@dataclass(slots=True)
class _Chain:
    """A conversation's state after ``update``; ``since`` is the update at which it last changed."""

    update: int
    favoured: bool
    since: int


class Markov:
    """Each conversation is favoured or not, and keeps its rank among its equals until that changes."""

    name: ClassVar[str] = "markov"

    def __init__(self, trace: TraceSettings) -> None:
        self._trace = trace
        self._chains: dict[str, _Chain] = {}

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the requests, the favoured first. A new one is ranked at once."""
        update = step // self._trace.update_every
        names = {request: conversation_of(request) for request in requests}
        self._chains = {name: self._advance(name, update) for name in names.values()}  # forgets those that have left
        return sorted(requests, key=lambda request: (*self._priority(names[request]), request.number))

    def _priority(self, name: str) -> tuple[bool, float]:
        chain = self._chains[name]
        return not chain.favoured, draw(self._trace.seed, name, chain.since, "place")

    def _advance(self, name: str, update: int) -> _Chain:
        """Walk the chain, from its beginning if the conversation is new: its state must not depend on when it came."""
        chain = self._chains.get(name)
        if chain is None:
            chain = _Chain(0, draw(self._trace.seed, name, 0, "start") < 0.5, 0)
        while chain.update < update:
            chain.update += 1
            favoured = self._is_favoured_next(name, chain)
            if favoured is not chain.favoured:
                chain.favoured, chain.since = favoured, chain.update
        return chain

    def _is_favoured_next(self, name: str, chain: _Chain) -> bool:
        drawn = draw(self._trace.seed, name, chain.update, "step")
        return drawn < (STAYS_FAVOURED if chain.favoured else BECOMES_FAVOURED)
