"""Plans a step: who runs, on which blocks, how much of each prompt.

The ranks decide. Walk them and keep whoever fits with all tokens known so far, best rank first, and stop at the first
who does not, so that a large request is not passed over for ever. Those above this *cut* get slots and blocks, if need
be from those below it; the others go on only while nobody needs what they hold, and take no new blocks. Decodes go
first; the rest of the token budget is prefill, by rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.core.displacement import Displacement
from service.core.ledger import Ledger
from service.core.plan import Row, SlotOpening, StepPlan
from service.core.policies import Policy
from service.core.requests import Request, State


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may hold: query tokens and batch rows. At least one token a row."""

    tokens: int
    rows: int


class Scheduler:
    """Turns ranks into a `StepPlan`."""

    def __init__(self, ledger: Ledger, policy: Policy, budget: Budget) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._policy = policy
        self._budget = budget
        self._steps = 0

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None when nobody is live."""
        if not self._ledger.live:
            return None
        ranked = self._policy.rank(self._ledger.live.values(), now)
        kept = self._cut(ranked)
        displacement = Displacement(self._ledger, ranked[len(kept) :], now)
        opened = self._seat(kept, displacement, now)
        for request in kept:
            displacement.reserve(request)
        rows = self._rows([*kept, *displacement.still_running()])
        self._steps += 1
        return StepPlan(self._steps, tuple(opened), tuple(rows))

    def _cut(self, ranked: Sequence[Request]) -> list[Request]:
        """The best ranks that fit together. A newcomer must leave everyone above it one block to grow into."""
        kept: list[Request] = []
        room = self._memory.device.num_blocks
        for request in ranked:
            need = self._memory.device_blocks_for(request.num_tokens)
            slack = 0 if request.state is State.RUNNING else len(kept)
            if len(kept) == self._budget.rows or need + slack > room:
                break
            room -= need
            kept.append(request)
        return kept

    def _seat(self, kept: Sequence[Request], displacement: Displacement, now: float) -> list[SlotOpening]:
        """A slot for everyone above the cut."""
        opened = []
        for request in kept:
            if request.state is not State.RUNNING:
                if not self._ledger.slots.num_free:
                    displacement.yield_slot()
                opened.append(self._ledger.seat(request, now))
        return opened

    def _rows(self, requests: Sequence[Request]) -> Iterator[Row]:
        """One token for each decode; then prefill chunks, by rank, while the token budget lasts."""
        left = [request.num_tokens - self._memory.computed(request.sequence) for request in requests]
        budget = self._budget.tokens - left.count(1)
        for request, uncomputed in zip(requests, left, strict=True):
            if uncomputed == 1:
                yield self._row(request, 1)
            elif budget > 0:
                chunk = min(uncomputed, budget)
                budget -= chunk
                yield self._row(request, chunk)

    def _row(self, request: Request, num_tokens: int) -> Row:
        tokens = request.session.tokens
        start = self._memory.computed(request.sequence)
        end = start + num_tokens
        assert request.slot is not None
        decode = end == len(tokens) and num_tokens == 1  # the slot's newest token: the data plane has it already
        return Row(
            slot=request.slot,
            start=start,
            tokens=None if decode else tuple(tokens[start:end]),
            extents=self._memory.device.extents(request.sequence),
            samples=end == len(tokens),
            request_id=request.request_id,
        )
