"""From a policy's ranks to the order in which a step serves.

Two rules stand above any policy. Who just got a place, or is being copied in for one, keeps it for a *quantum* of
steps, so that ranks which change fast move nobody in and out without a token in between. Who lost its place again and
again is *promoted*: it goes first until it has run for a long quantum. Both keep the policy's order among those they
concern.
"""

from collections.abc import Collection
from dataclasses import dataclass

from service.core.policies.policy import Policy
from service.core.state.requests import Request, State

LONG_QUANTUM = 8  # quanta


@dataclass(frozen=True, slots=True)
class Patience:
    """``quantum``: steps that a place is kept for at least. ``promote_after``: times that one may be preempted."""

    quantum: int
    promote_after: int

    @property
    def long_quantum(self) -> int:
        """Steps that a promoted request runs before it ranks as the policy says again."""
        return LONG_QUANTUM * max(self.quantum, 1)


class Ranking:
    """Orders live requests; counts how often the order of those that stayed has changed."""

    def __init__(self, policy: Policy, patience: Patience) -> None:
        self.updates = 0  # priority updates: plans whose order differs from the one before
        self._policy = policy
        self._patience = patience
        self._long_quantum = patience.long_quantum
        self._last: list[Request] = []

    def order(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """The first to be served first. ``step``: steps run so far, by which policies and quanta count."""
        ranked = self._policy.rank(requests, now, step)
        self._count_update(ranked)
        fresh, promoted = [], []
        for request in [request for request in ranked if request.started_s is not None or request.is_coming]:
            if request.steps_seated >= self._long_quantum:
                request.preemptions_unrewarded = 0
            if self._is_fresh(request):
                fresh.append(request)
            elif self._is_promoted(request):
                promoted.append(request)
        if not fresh and not promoted:
            return ranked
        first = dict.fromkeys([*fresh, *promoted])
        return [*first, *(request for request in ranked if request not in first)]

    def _is_fresh(self, request: Request) -> bool:
        if request.state is State.RUNNING:
            return request.steps_seated < self._patience.quantum
        return request.is_coming and self._patience.quantum > 0

    def _is_promoted(self, request: Request) -> bool:
        return request.preemptions_unrewarded >= self._patience.promote_after

    def _count_update(self, ranked: list[Request]) -> None:
        """Arrivals and departures change no order; only a swap among those who stayed does."""
        if ranked[: len(self._last)] == self._last:  # the common case, at the cost of comparing references
            self._last = ranked
            return
        stayed = set(self._last) & set(ranked)
        before = [request for request in self._last if request in stayed]
        after = [request for request in ranked if request in stayed]
        self.updates += before != after
        self._last = ranked
