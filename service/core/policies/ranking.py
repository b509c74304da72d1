"""Ranking turns a policy's ranks into the order in which a step serves.

Three rules stand above any policy. The request whose claim is due (`admission.Claim`) goes first. A request that just
got a slot, or is being swapped in for one, keeps it for a *quantum* of steps, so that it draws tokens before it is
preempted, however fast ranks change. A request that is preempted again and again is *promoted*, unless the policy
forbids it: it goes first until it has run for a long quantum. Quantum and promotion keep the policy's order among the
requests that they concern. Backfilled requests and background work earn neither.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from service.core.admission import Admission, Room
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
    """Orders live requests, and counts how often the order of the holders of KV that stayed has changed."""

    def __init__(self, policy: Policy, patience: Patience) -> None:
        self.updates = 0  # priority updates: plans whose order differs from the one before
        self._policy = policy
        self._patience = patience
        self._long_quantum = patience.long_quantum
        self._last: list[Request] = []

    def walk(
        self, holders: Collection[Request], room: Room, now: float, step: int, claimant: Request | None = None
    ) -> Iterator[Request]:
        """Yield the requests, the first to be served first: ``claimant`` before all others, then holders and queue.

        ``step`` is how many steps were planned so far. Once ``room`` is full, only holders follow.
        """
        ranked = self._policy.rank(holders, now, step)
        self._count_update(ranked)
        first = dict.fromkeys([] if claimant is None else [claimant])
        first |= dict.fromkeys(self._outranking(ranked))
        yield from first
        rest = [request for request in ranked if request not in first]
        ranks = self._policy.walk(first, rest, room)
        yield from ranks if claimant is None else (request for request in ranks if request is not claimant)

    def end(self, admission: Admission, room: Room, now: float) -> None:
        """End a plan whose requests left ``room``."""
        self._policy.end(admission, room, now)

    def is_promoted(self, request: Request) -> bool:
        """Return whether a request goes before the policy's ranks, since it was preempted too often."""
        earns = self._policy.promotes and not request.spec.background
        return earns and request.preemptions_unrewarded >= self._patience.promote_after

    def _outranking(self, ranked: list[Request]) -> list[Request]:
        """Return the requests in their quantum, then the promoted."""
        fresh, promoted = [], []
        for request in ranked:
            if request.started_s is None and not request.is_swapping_in:
                continue
            if request.steps_in_slot >= self._long_quantum:
                request.preemptions_unrewarded = 0
            if self._is_fresh(request):
                fresh.append(request)
            elif self.is_promoted(request):
                promoted.append(request)
        return fresh + promoted

    def _is_fresh(self, request: Request) -> bool:
        if request.is_backfilled or request.spec.background:
            return False
        if request.state is State.RUNNING:
            return request.steps_in_slot < self._patience.quantum
        return request.is_swapping_in and self._patience.quantum > 0

    def _count_update(self, ranked: list[Request]) -> None:
        """Count a changed order of the holders that stayed; arrivals and departures change none."""
        if ranked[: len(self._last)] == self._last:  # the common case, at the cost of comparing references
            self._last = ranked
            return
        stayed = set(self._last) & set(ranked)
        before = [request for request in self._last if request in stayed]
        after = [request for request in ranked if request in stayed]
        self.updates += before != after
        self._last = ranked
