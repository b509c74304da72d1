"""The scheduler plans a step: which requests run, on which blocks, how much of each prompt, and which KV moves.

The ranks decide. *Admitted* requests get blocks and slots, if needed from those that are not admitted. The others go on
only while no admitted request needs what they hold, and take no new blocks. An admitted request with KV on the host is
swapped in as blocks become available, and runs when the copy has ended. The step does not wait for it, except where the
preset says so or where waiting costs less. Decodes go first; the rest of the token budget is prefill, by rank.
Background work keeps its slots and blocks while nobody else needs them, but runs only in steps without other work.
"""

from collections.abc import Iterator, Sequence

from service.core.admission import Admission, Budget, Claim, Room, admit
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.policies.ranking import Ranking
from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State
from service.core.switching.compaction import Compaction
from service.core.switching.eviction import Eviction
from service.core.switching.mechanisms import Mechanisms
from service.core.switching.swaps import SwapManager
from service.core.switching.victims import Victims

LONGEST_DELAY = 64  # steps


class Scheduler:
    """Turns ranks into a `StepPlan`."""

    def __init__(
        self,
        ledger: Ledger,
        ranking: Ranking,
        swaps: SwapManager,
        budget: Budget,
        claim: Claim,
        mechanisms: Mechanisms,
        eviction: Eviction | None = None,
        compaction: Compaction | None = None,
    ) -> None:
        self.steps = 0  # planned so far
        self.longest_delay = 0  # the most steps that an admitted request has waited for its KV, blocks or slot
        self._ledger = ledger
        self._memory = ledger.memory
        self._ranking = ranking
        self._swaps = swaps
        self._budget = budget
        self._claim = claim
        self._mechanisms = mechanisms
        self._eviction = eviction
        self._compaction = compaction
        self._admission = Admission()  # the last
        self._room = Room(0, 0, ())  # that it left
        self._has_paused = False  # the last plan had no rows
        self._without_slot: dict[Request, None] = {}  # admitted to the last plan, when they had no slot

    @property
    def waiting_for(self) -> str:
        """What the requests wait for that the last plan did not admit, as in `RequestView`."""
        return "room" if self._room.has_rows else "slot"

    def check(self, arrivals: int) -> None:
        """Raise AssertionError if the last plan left a request waiting that fits into what the admitted ones left.

        ``arrivals``: how many requests had arrived by then.
        """
        admitted = set(self._admission.admitted)
        if self._room.has_rows:
            for request in self._ledger.live.values():
                if request.number < arrivals and request not in admitted and request.state is not State.RUNNING:
                    assert not self._room.fits(request.needs), request.request_id

    def plan(self, now: float) -> StepPlan | None:
        """Return the next step, without rows while copies must end first; None when no request is live."""
        if self._eviction is not None:
            self._eviction.advance(now)
        admission = self._admit(now)  # also when nothing is live: it forgets the last plan's requests
        if not self._ledger.live:
            return None
        admitted = admission.admitted
        victims = Victims(self._ledger, self._swaps, admitted, admission.others, now)
        ready = self._computing(self._ready(admitted, victims, now))
        if self._waits_for_copies(len(admitted) - len(ready), ready, victims) or self._is_late(admitted):
            return self._pause()
        opened = self._give_slots(ready, victims, now)
        running = [request for request in [*ready, *victims.still_running()] if not request.is_spent]
        running = [request for request in running if not request.spec.background] or running
        if not running:
            return self._pause()
        self.steps += 1
        self._count_step(running, admitted)
        moves = () if self._compaction is None else self._compaction.moves()
        rows = tuple(self._rows(running))
        return StepPlan(self.steps, tuple(opened), rows, self._swaps.issued(), moves=moves)

    def _admit(self, now: float) -> Admission:
        for request in list(self._ledger.holders):
            if not self._ranking.is_promoted(request):
                self._ledger.release(request)
        holders = self._ledger.holders
        room = Room(self._memory.device.num_blocks, self._budget.rows, set(self._ledger.slots.running))
        ranks = self._ranking.walk(holders, room, now, self.steps, self._claim.due())
        self._admission = admission = admit(ranks, room, holders)
        self._room = room
        self._claim.note(admission, now, has_paused=self._has_paused)
        self._has_paused = False
        for request in admission.admitted:
            request.is_backfilled = request in admission.backfilled
            self._ledger.hold(request)
        self._ranking.end(admission, room, now)
        self._reset_admission_times(admission.admitted)
        return admission

    def _count_step(self, running: Sequence[Request], admitted: Sequence[Request]) -> None:
        """Count a step for those that run it, and for those that should."""
        for request in running:
            request.steps_in_slot += 1
        for request in admitted:
            if request.state is not State.RUNNING:
                request.steps_late += 1
                self.longest_delay = max(self.longest_delay, request.steps_late)

    def _ready(self, admitted: Sequence[Request], victims: Victims, now: float) -> list[Request]:
        """Return the admitted requests that can run now, by rank. Running ones get their next block first."""
        running = [request for request in admitted if request.state is State.RUNNING]
        ready = {request for request in running if self._reserve_blocks(request, victims)}
        for request in admitted:
            if request.state is State.RUNNING:
                continue
            self._without_slot[request] = None
            if request.admitted_s is None:
                request.admitted_s = now
            if self._make_ready(request, victims):
                ready.add(request)
        if self._mechanisms.asynchronous and self._swaps.is_on:
            victims.copy_ahead(len(running))
        return [request for request in admitted if request in ready]

    def _reset_admission_times(self, admitted: Sequence[Request]) -> None:
        """Stop the clock of a switch for requests that are not admitted any more."""
        for request in self._without_slot.keys() - set(admitted):
            request.admitted_s = None
            request.steps_late = 0
        self._without_slot = {}

    def _reserve_blocks(self, request: Request, victims: Victims) -> bool:
        """Reserve device blocks for all tokens of a request whose KV is all resident, if they are available."""
        return victims.obtain_blocks(request, reserve=True)

    def _make_ready(self, request: Request, victims: Victims) -> bool:
        """Return whether a request without a slot can run now. If not, all that can be done for it is under way."""
        if self._is_held_back(request):
            return False
        if self._memory.is_resident(request.sequence):
            return self._reserve_blocks(request, victims)
        away = [number for number in self._memory.away(request.sequence) if self._memory.pending(number) is None]
        if not away:
            victims.promise_blocks(request)
            return False
        if not victims.obtain_blocks(request):
            return False
        for number in away:
            if reason := self._swaps.must_recompute(number):
                resident = self._memory.watermarks(number).resident
                owner = self._ledger.sessions.owners[number]
                self._ledger.drop_kv(owner, owner.start + resident, reason)
                self._swaps.forget_failures(number)
                break  # nothing that stands on it has KV now
            self._swaps.start_swap_in(request, number)
        if self._memory.is_resident(request.sequence):
            return self._reserve_blocks(request, victims)
        victims.promise_blocks(request)  # the blocks behind its KV
        return False

    def _computing(self, ready: Sequence[Request]) -> list[Request]:
        """Return those that compute, without those that wait for others to compute what they stand on.

        The best in rank of those that need a prefix next computes it. Running ones that wait keep their slots.
        """
        prefixes: set[int] = set()
        computing = []
        for request in ready:
            is_first = self._is_first(request, prefixes)
            if is_first or request.state is State.RUNNING:
                computing.append(request)
        return computing

    def _is_first(self, request: Request, prefixes: set[int]) -> bool:
        """Return whether no other computes what a request computes next, and note that this one does."""
        if request.session.prefix is None:
            return True
        number = self._memory.next_node(request.sequence)
        if number in prefixes:
            return False
        if number != request.sequence:
            prefixes.add(number)
        return True

    def _is_held_back(self, request: Request) -> bool:
        """Return whether its last token, with which a slot opens, is not known yet, it is being evicted or deferred."""
        is_evicted = self._eviction is not None and self._eviction.holds_back(request)
        return bool(request.num_drawing) or request.is_deferred or is_evicted

    def _waits_for_copies(self, not_ready: int, ready: Sequence[Request], victims: Victims) -> bool:
        """Return whether the step should wait for copies: always where they are synchronous, else if it costs less.

        Waiting delays those that could run until the link is done. Not waiting delays those ``not_ready``, with KV or
        blocks on the way, by the step that those ``ready`` would make. The paper's rule, to wait when most of the batch
        is swapping, is this one where a copy takes as long as a step.
        """
        if not self._memory.tickets:
            return False
        if not self._mechanisms.asynchronous:
            return True
        runnable = len(ready) + victims.num_running
        uncomputed = (request.num_tokens - self._memory.computed(request.sequence) for request in ready)
        prefill = min(self._budget.tokens, sum(tokens for tokens in uncomputed if tokens > 1))
        queued_s, step_s = self._swaps.costs.queued_s(), self._swaps.costs.step_s(prefill)
        return queued_s is not None and step_s is not None and runnable * queued_s < not_ready * step_s

    def _is_late(self, admitted: Sequence[Request]) -> bool:
        """Return whether an admitted request has waited so long that the others should wait for its copies."""
        if not self._memory.tickets:
            return False
        return any(request.steps_late >= LONGEST_DELAY and self._is_under_copy(request) for request in admitted)

    def _is_under_copy(self, request: Request) -> bool:
        return any(self._memory.pending(number) is not None for number in self._memory.path(request.sequence))

    def _pause(self) -> StepPlan:
        self._has_paused = True
        return StepPlan(self.steps, (), (), self._swaps.issued())

    def _give_slots(self, ready: Sequence[Request], victims: Victims, now: float) -> list[SlotOpening]:
        """Give a slot to each request that can run."""
        opened = []
        for request in ready:
            if request.state is not State.RUNNING:
                if not self._ledger.slots.num_free:
                    victims.take_slot()
                opened.append(self._ledger.give_slot(request, now))
        return opened

    def _rows(self, requests: Sequence[Request]) -> Iterator[Row]:
        """Yield one token for each decode, and prefill chunks by rank while the rest of the token budget lasts."""
        uncomputed = [request.num_tokens - self._memory.computed(request.sequence) for request in requests]
        budget = self._budget.tokens - uncomputed.count(1)
        if requests[0].spec.background:
            budget = min(budget, self._background_prefill())
        prefixes: set[int] = set()
        for request, num_tokens in zip(requests, uncomputed, strict=True):
            if not self._is_first(request, prefixes):
                continue
            if num_tokens == 1:
                yield self._row(request, 1)
            elif budget > 0:
                chunk = min(num_tokens, budget)
                budget -= chunk
                yield self._row(request, chunk)

    def _background_prefill(self) -> int:
        """Return how many tokens background work prefills in a step: what takes as long as decodes, but a block.

        Other work that arrives waits for the step under way, so that is kept short.
        """
        decode_s = self._swaps.costs.step_s(0)
        tokens = None if decode_s is None else self._swaps.costs.prefill_tokens(decode_s)
        return self._budget.tokens if tokens is None else max(tokens, self._memory.block_tokens)

    def _row(self, request: Request, num_tokens: int) -> Row:
        start = self._memory.computed(request.sequence)
        end = start + num_tokens
        assert request.slot is not None
        decode = end == request.num_tokens and num_tokens == 1  # of the slot's last token, which the data plane has
        return Row(
            slot=request.slot,
            start=start,
            tokens=None if decode else tuple(request.session.tokens[start:end]),
            extents=self._memory.extents(request.sequence),
            draws_token=end == request.num_tokens,
            request_id=request.request_id,
        )
