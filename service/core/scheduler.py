"""Plans a step: who runs, on which blocks, how much of each prompt, and which KV moves meanwhile.

The ranks decide. Those above the *cut* get blocks and slots, if need be from those below it; the others go on only
while nobody needs what they hold, and take no new blocks. Who is above the cut and has its KV on the host is copied in
as room appears, and runs when that has ended; the step does not wait for it, except where the preset says so or where
that holds up everybody less. Decodes go first; the rest of the token budget is prefill, by rank.
"""

from collections.abc import Iterator, Sequence

from service.core.admission import Budget, cut
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.policies.ranking import Ranking
from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State
from service.core.switching.compaction import Compaction
from service.core.switching.eviction import Eviction
from service.core.switching.mechanisms import Mechanisms
from service.core.switching.swaps import Swaps
from service.core.switching.victims import Displacement


class Scheduler:
    """Turns ranks into a `StepPlan`."""

    def __init__(
        self,
        ledger: Ledger,
        ranking: Ranking,
        swaps: Swaps,
        budget: Budget,
        mechanisms: Mechanisms,
        eviction: Eviction | None = None,
        compaction: Compaction | None = None,
    ) -> None:
        self.steps = 0  # planned so far
        self._ledger = ledger
        self._memory = ledger.memory
        self._ranking = ranking
        self._swaps = swaps
        self._budget = budget
        self._mechanisms = mechanisms
        self._eviction = eviction
        self._compaction = compaction
        self._wanted: dict[Request, None] = {}  # those above the last cut who had no slot

    def plan(self, now: float) -> StepPlan | None:
        """The next step; one without rows while copies must end first; None when nobody is live."""
        if self._eviction is not None:
            self._eviction.advance(now)
        ranked = self._ranking.order(self._ledger.live.values(), now, self.steps)
        if not ranked:
            return None
        kept = cut(ranked, self._ledger.slots.running, self._memory, self._budget.rows)
        losers = ranked[len(kept) :]
        self._forget_wishes(kept)
        displacement = Displacement(self._ledger, self._swaps, kept, losers, now)
        ready = self._ready(kept, displacement, now)
        if self._waits_for_copies(len(kept) - len(ready), len(ready) + displacement.num_running):
            return self._pause()
        opened = self._seat(ready, displacement, now)
        running = [request for request in [*ready, *displacement.still_running()] if not request.is_spent]
        if not running:
            return self._pause()
        self.steps += 1
        moves = () if self._compaction is None else self._compaction.moves()
        rows = tuple(self._rows(running))
        return StepPlan(self.steps, tuple(opened), rows, self._swaps.issued(), moves=moves)

    def _ready(self, kept: Sequence[Request], displacement: Displacement, now: float) -> list[Request]:
        """Those above the cut who can run now, by rank. Running ones come first to their next block."""
        running = [request for request in kept if request.state is State.RUNNING]
        ready = {request for request in running if self._find_room(request, displacement)}
        for request in kept:
            if request.state is State.RUNNING:
                continue
            self._wanted[request] = None
            if request.wanted_s is None:
                request.wanted_s = now
            if self._bring_in(request, displacement):
                ready.add(request)
        if self._mechanisms.asynchronous and self._swaps.is_on:
            displacement.prepare(len(running))
        return [request for request in kept if request in ready]

    def _forget_wishes(self, kept: Sequence[Request]) -> None:
        """Whoever is no longer above the cut is not kept waiting by a switch."""
        for request in self._wanted.keys() - set(kept):
            request.wanted_s = None
        self._wanted = {}

    def _find_room(self, request: Request, displacement: Displacement) -> bool:
        """Device room for all tokens of a request that is all resident, or that has no KV."""
        if not displacement.obtain(request):
            return False
        self._memory.reserve(request.sequence, request.num_tokens)
        return True

    def _bring_in(self, request: Request, displacement: Displacement) -> bool:
        """Whether a request without a slot could run now. If not, all that can be done for it is under way."""
        if self._is_held(request):
            return False
        if self._memory.is_resident(request.sequence):
            return self._find_room(request, displacement)
        if self._memory.pending(request.sequence) is not None:
            displacement.promise(request)
            return False
        if not displacement.obtain(request):
            return False
        if reason := self._swaps.must_recompute(request):
            self._ledger.drop_kv(request.session, self._memory.watermarks(request.sequence).resident, reason)
            self._swaps.forget_failures(request.sequence)
            return self._find_room(request, displacement)
        self._swaps.start_in(request)
        displacement.promise(request)  # the blocks behind its KV
        return False

    def _is_held(self, request: Request) -> bool:
        """Its newest token is not known yet, and a slot opens with all of them; or it is being driven off."""
        return bool(request.num_drawing) or (self._eviction is not None and self._eviction.holds(request))

    def _waits_for_copies(self, coming: int, runnable: int) -> bool:
        """Whether the step had better wait: always where copies are synchronous, else where that costs less.

        Waiting holds up the ``runnable`` until the link is done. Not waiting holds up those whose KV or room is
        ``coming`` by a step, which takes about the same time however few it is for. The paper's rule, to wait when
        most of the batch is swapping, is this one where a copy takes as long as a step.
        """
        if not self._memory.tickets:
            return False
        if not self._mechanisms.asynchronous:
            return True
        costs = self._swaps.costs
        queued_s, step_s = costs.queued_s(), costs.step_s
        return queued_s is not None and step_s is not None and runnable * queued_s < coming * step_s

    def _pause(self) -> StepPlan:
        return StepPlan(self.steps, (), (), self._swaps.issued())

    def _seat(self, ready: Sequence[Request], displacement: Displacement, now: float) -> list[SlotOpening]:
        """A slot for everyone who can run."""
        opened = []
        for request in ready:
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
        start = self._memory.computed(request.sequence)
        end = start + num_tokens
        assert request.slot is not None
        request.steps_seated += 1
        decode = end == request.num_tokens and num_tokens == 1  # the slot's newest token: the data plane has it already
        return Row(
            slot=request.slot,
            start=start,
            tokens=None if decode else tuple(request.session.tokens[start:end]),
            extents=self._memory.device.extents(request.sequence),
            draws_token=end == request.num_tokens,
            request_id=request.request_id,
        )
