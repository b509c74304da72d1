"""Ranking turns a policy's ranks into the order in which a step serves.

Three rules stand above any policy. The request whose claim is due (`admission.Claim`) goes first. A request that just
got a slot, or is being swapped in for one, keeps it for a *quantum* of steps, so that it draws tokens before it is
preempted, however fast ranks change. A request that is preempted again and again is *promoted*: it goes first until it
has run for a long quantum. Quantum and promotion keep the policy's order among the requests that they concern, and
backfilled requests earn neither.
"""

from collections.abc import Collection
from dataclasses import dataclass

from service.core.policies.policy import Policy
from service.core.state.requests import Request, State

LONG_QUANTUM = 8  # quanta


@dataclass(frozen=True, slots=True)
class Patience:
    """A slot is kept for ``quantum`` steps at least. A request is promoted after ``promote_after`` preemptions."""

    quantum: int
    promote_after: int

    @property
    def long_quantum(self) -> int:
        """Steps that a promoted request runs before the policy ranks it again."""
        return LONG_QUANTUM * max(self.quantum, 1)


class Ranking:
    """Orders live requests, and counts how often the order of those that stayed has changed."""

    def __init__(self, policy: Policy, patience: Patience) -> None:
        self.updates = 0  # priority updates: plans whose order differs from the one before
        self._policy = policy
        self._patience = patience
        self._long_quantum = patience.long_quantum
        self._last: list[Request] = []

    def order(
        self, requests: Collection[Request], now: float, step: int, claimant: Request | None = None
    ) -> list[Request]:
        """Return the requests, the first to be served first: ``claimant``, if it is one of them, before all others.

        ``step`` is how many steps were planned so far.
        """
        ranked = self._policy.rank(requests, now, step)
        self._count_update(ranked)
        fresh, promoted = [], []
        for request in [request for request in ranked if request.started_s is not None or request.is_swapping_in]:
            if request.steps_in_slot >= self._long_quantum:
                request.preemptions_unrewarded = 0
            if self._is_fresh(request):
                fresh.append(request)
            elif self._is_promoted(request):
                promoted.append(request)
        claims = [] if claimant is None else [claimant]
        if not fresh and not promoted and not claims:
            return ranked
        first = dict.fromkeys([*claims, *fresh, *promoted])
        return [*first, *(request for request in ranked if request not in first)]

    def _is_fresh(self, request: Request) -> bool:
        if request.is_backfilled:
            return False
        if request.state is State.RUNNING:
            return request.steps_in_slot < self._patience.quantum
        return request.is_swapping_in and self._patience.quantum > 0

    def _is_promoted(self, request: Request) -> bool:
        return request.preemptions_unrewarded >= self._patience.promote_after

    def _count_update(self, ranked: list[Request]) -> None:
        """Count a changed order of the requests that stayed; arrivals and departures change none."""
        if ranked[: len(self._last)] == self._last:  # the common case, at the cost of comparing references
            self._last = ranked
            return
        stayed = set(self._last) & set(ranked)
        before = [request for request in self._last if request in stayed]
        after = [request for request in ranked if request in stayed]
        self.updates += before != after
        self._last = ranked
