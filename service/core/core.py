"""The public face of core: submit and cancel, plan and commit.

Only the engine's thread calls it. It does no I/O and has no clock: ``now`` is an argument, in seconds. Everything that
happens is an event, collected with `events`. The same calls with the same arguments give the same events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from allocator import BLOCK_TOKENS, KVMemory
from service.core.admission import Budget, Claim
from service.core.messages.commands import Submit
from service.core.messages.events import Event, FinishReason, Gauges, Refused, Snapshot, TokenOut
from service.core.messages.plan import CopyResult, Drawn, Row, StepPlan, StepResult
from service.core.placement import Placement
from service.core.policies import Policy
from service.core.policies.fcfs import FirstComeFirstServed
from service.core.policies.policy import Delays
from service.core.policies.ranking import Patience, Ranking
from service.core.scheduler import Scheduler
from service.core.shadow import Shadow
from service.core.snapshot import take_snapshot
from service.core.state.deadlines import Deadlines
from service.core.state.ledger import Ledger
from service.core.state.owners import Prefix, Session
from service.core.state.requests import Request, State
from service.core.state.service_rate import ServiceRate
from service.core.state.sessions import SessionTable
from service.core.state.slots import SlotTable
from service.core.switching.compaction import Compaction
from service.core.switching.eviction import Eviction
from service.core.switching.mechanisms import Mechanisms
from service.core.switching.poison import Poison
from service.core.switching.swaps import SwapManager
from service.errors import (
    InvalidRequestError,
    NeverFitsError,
    OverloadedError,
    QueueTimeoutError,
    RequestError,
    SessionBusyError,
)

SERVICE_PER_DRAWN = 2  # prompt tokens that count as much as a drawn one, as in VTC


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Sizes and limits. A block is `KVMemory`'s, of 16 tokens."""

    device_blocks: int
    host_blocks: int
    block_group_size: int  # blocks
    max_num_seqs: int
    max_num_batched_tokens: int
    max_num_queued_reqs: int  # requests that have not started
    max_num_queued_tokens: int | None  # of their prompts
    queue_timeout_s: float | None
    max_idle_sessions: int
    session_ttl_s: float
    mechanisms: Mechanisms
    patience: Patience
    blocked_timeout_s: float
    debug_preempt_every: int | None  # answer tokens; freed blocks are then poisoned too

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(f"{self.max_num_seqs} sequences do not fit a step of {self.max_num_batched_tokens} tokens")


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a plan concerns: requests with rows, requests that got a slot, and nodes whose KV it moves."""

    rows: list[tuple[Request, Row]]
    opened: list[Request]  # with a row or without
    moved: set[int]  # nodes


class Core:
    """The decisions of one engine."""

    def __init__(self, settings: CoreSettings, policy: Policy) -> None:
        self._settings = settings
        mechanisms = settings.mechanisms
        initial_group = settings.block_group_size if mechanisms.groups else 1
        memory = KVMemory(settings.device_blocks, settings.host_blocks, initial_group=initial_group)
        sessions = SessionTable(settings.session_ttl_s, settings.max_idle_sessions)
        policies = [FirstComeFirstServed(), policy] if mechanisms.shadow else [policy]
        self._ledger = Ledger(memory, sessions, SlotTable(settings.max_num_seqs), policies)
        self._swaps = SwapManager(self._ledger, mechanisms)
        self._shadow: Shadow | None = None
        if mechanisms.shadow:
            self._shadow = Shadow(self._ledger, Ranking(policy, settings.patience), settings.max_num_seqs)
            policy = policies[0]
        self._policy = policy
        self._ranking = Ranking(policy, settings.patience)
        self._poison: Poison | None = None
        eviction: Eviction | None = None
        if (every := settings.debug_preempt_every) is not None:
            self._poison = Poison(memory)
            eviction = Eviction(self._ledger, self._swaps, self._poison, every)
        budget = Budget(settings.max_num_batched_tokens, settings.max_num_seqs)
        compaction = Compaction(self._ledger, self._poison) if mechanisms.compaction else None
        claim = Claim(settings.blocked_timeout_s)
        self._scheduler = Scheduler(
            self._ledger, self._ranking, self._swaps, budget, claim, mechanisms, eviction, compaction
        )
        self._placement = Placement(self._ledger, self._note_split)
        self._deadlines = Deadlines(settings.queue_timeout_s)
        self._rate = ServiceRate()
        self._planned: dict[int, _Planned] = {}  # by step number, until `commit` or `abandon`
        self._arrivals = 0
        self._arrivals_planned = 0  # when the last plan was made

    def submit(self, command: Submit, now: float) -> bool:
        """Accept a turn, or emit `Refused`. Return whether it was accepted."""
        if refusal := self._refusal(command):
            self._ledger.emit(refusal)
            return False
        self._placement.place(command, self._arrivals, now)
        self._arrivals += 1
        self._deadlines.add(command.request_id, now)
        return True

    def cancel(self, request_id: str, now: float) -> None:
        """End a request at once. Its rows in a step under way are dropped at commit."""
        if request := self._ledger.live.get(request_id):
            self._ledger.finish(request, FinishReason.CANCELLED, now)
            self._deadlines.remove(request_id)

    def close_session(self, name: str, now: float) -> None:
        """Forget the session with that name. A request that is live in it is cancelled."""
        session = self._ledger.sessions.named(name)
        if session is not None and (request := self._ledger.live_in.get(session)):
            self._ledger.finish(request, FinishReason.CANCELLED, now)
        if session is not None and self._ledger.sessions.named(name) is session:  # unless its turn ended without KV
            self._ledger.drop(session, "closed")

    def plan(self, now: float) -> StepPlan | None:
        """Return the next step, without rows while it waits for copies; None when there is nothing to compute."""
        while overdue := self._ledger.sessions.overdue(now):
            self._ledger.drop(*overdue)
        self._end_overdue_waits(now)
        self._placement.place_deferred()
        if self._shadow is not None:
            self._shadow.observe(now, self._scheduler.steps)
        plan = self._scheduler.plan(now)
        if plan is not None:
            self._note_starts([self._ledger.slots.holder(opening.slot) for opening in plan.opened], now)
        self._arrivals_planned = self._arrivals
        if plan is not None and self._poison is not None:
            plan = replace(plan, poison=self._poison.take())
        if plan is not None and plan.rows:
            self._planned[plan.number] = planned = _Planned(
                rows=[(self._ledger.live[row.request_id], row) for row in plan.rows],
                opened=[self._ledger.slots.holder(opening.slot) for opening in plan.opened],
                moved={move.owner for move in plan.moves},
            )
            for request, row in planned.rows:
                self._advance(request, row)
            self._ledger.tell_service()
        return plan

    def commit(self, result: StepResult, stopped: Mapping[str, int], now: float) -> None:
        """Commit the result of a step. Steps end in the order in which they were planned.

        ``stopped`` has the requests whose text reached a stop string, and how many answer tokens to keep.
        """
        drawn = iter(result.drawn)
        rows = self._planned.pop(result.number).rows
        self._note_cost(result, [row for _, row in rows])
        for request in [request for request, row in rows if row.draws_token]:
            token = next(drawn)
            request.num_drawing -= 1
            if request.state is not State.FINISHED:  # else it was cancelled, or has ended, meanwhile
                self._accept(request, token, stopped.get(request.request_id), now)

    def abandon(self, number: int, now: float) -> None:
        """Give up a step that failed as a whole, and those planned on top of it, whose results mean nothing.

        Their requests end with an error, and the KV that they computed or moved is not used again, also where it has
        become an idle session's. Prefixes that they have only read keep theirs. Requests that only got a slot lose it:
        it is unknown whether the data plane opened it.
        """
        failed = [self._planned.pop(later) for later in sorted(self._planned) if later >= number]
        written = [
            (prefix, row.start)
            for planned in failed
            for request, row in planned.rows
            for prefix in request.session.path_up
            if prefix.end > row.start
        ]
        moved = [self._ledger.sessions.owners.get(number) for planned in failed for number in planned.moved]
        involved = {request.session: None for planned in failed for request, _ in planned.rows}
        involved |= {owner: None for owner in moved if isinstance(owner, Session)}
        for session in involved:
            self._distrust(session, now)
        for prefix, start in [*written, *((owner, 0) for owner in moved if isinstance(owner, Prefix))]:
            if prefix.number in self._ledger.sessions.owners:
                self._ledger.drop_kv(prefix, max(start, prefix.start), "failure")
        for request in [request for planned in failed for request in planned.opened]:
            if request.state is State.RUNNING:
                self._ledger.preempt(request, "failure", now)

    def copied(self, result: CopyResult) -> None:
        """End a copy that a plan started."""
        self._swaps.end(result)

    def events(self) -> list[Event]:
        """Return the events since the last call."""
        return self._ledger.collect()

    def gauges(self) -> Gauges:
        """Return how full core is."""
        updates = self._ranking.updates if self._shadow is None else self._shadow.updates
        gap, bound, excluded_s = self._policy.fairness(self._delays())
        return replace(
            self._ledger.gauges(updates),
            waiting_for=self._scheduler.waiting_for if self._ledger.num_waiting else None,
            seconds_per_start=self._rate.seconds_per_start,
            fairness_gap=gap,
            fairness_bound=bound,
            fairness_excluded_s=excluded_s,
        )

    def snapshot(self, number: int, now: float) -> Snapshot:
        """Return all requests, sessions and pools, for operators. O(live requests + idle sessions)."""
        return take_snapshot(self._ledger, self.gauges(), number, self._arrivals_planned, now)

    def next_expiry_s(self) -> float | None:
        """Return when `plan` should be called again although nothing arrives."""
        moments = (self._ledger.sessions.next_expiry_s(), self._deadlines.next_s())
        return min((moment for moment in moments if moment is not None), default=None)

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self._ledger.check()
        self._scheduler.check(self._arrivals_planned)
        self._policy.check()
        gap, bound, _ = self._policy.fairness(self._delays())
        assert gap <= bound, f"a gap of {gap} in service, over the bound of {bound}"

    def _delays(self) -> Delays:
        """Return what may keep the ranks from being followed at once.

        A step that was planned, a quantum, the rest of a block, and the longest delay for blocks, copies and slots.
        """
        settings = self._settings
        steps = 1 + settings.patience.quantum + BLOCK_TOKENS + self._scheduler.longest_delay
        return Delays(
            settings.max_num_seqs, steps, settings.max_num_batched_tokens + SERVICE_PER_DRAWN * settings.max_num_seqs
        )

    def _note_cost(self, result: StepResult, rows: list[Row]) -> None:
        tokens = sum(row.num_tokens for row in rows)
        decodes = sum(row.tokens is None for row in rows)
        self._swaps.costs.step_ended(result.device_seconds, tokens, tokens - decodes)

    def _refusal(self, command: Submit) -> Refused | None:
        def refused(error: type[RequestError], message: str) -> Refused:
            return Refused(command.request_id, error.code, message)

        memory = self._ledger.memory
        needed = memory.device_blocks_for(len(command.prompt) + command.max_tokens)
        if not command.prompt or command.max_tokens < 1:
            return refused(InvalidRequestError, "a request needs at least one prompt token and one answer token")
        if command.request_id in self._ledger.live:
            return refused(InvalidRequestError, "a request with this id is under way")
        if self._is_busy(command.session):
            return refused(SessionBusyError, "a turn is under way in this session")
        if needed > memory.device.num_blocks:
            return refused(
                NeverFitsError,
                f"prompt ({len(command.prompt)} tokens) and answer (up to {command.max_tokens}) need {needed} KV "
                f"blocks; all there are is {memory.device.num_blocks}",
            )
        return self._queue_refusal(command)

    def _queue_refusal(self, command: Submit) -> Refused | None:
        """Return why the queue is too full for a turn. A prompt of any length may wait if no other does."""
        waiting, most = self._ledger.num_waiting, self._settings.max_num_queued_reqs
        if waiting >= most:
            retry_after_s = self._rate.retry_after_s(starts=waiting - most + 1)
            message = f"{waiting} requests are waiting, the limit is {most}"
            return Refused(command.request_id, OverloadedError.code, message, retry_after_s)
        tokens, most_tokens = self._ledger.waiting_tokens, self._settings.max_num_queued_tokens
        excess = 0 if most_tokens is None else tokens + len(command.prompt) - most_tokens
        if waiting and excess > 0:
            retry_after_s = self._rate.retry_after_s(prompt_tokens=min(tokens, excess))
            message = (
                f"requests with {tokens} prompt tokens are waiting and {len(command.prompt)} more were sent, the limit "
                f"is {most_tokens}"
            )
            return Refused(command.request_id, OverloadedError.code, message, retry_after_s)
        return None

    def _end_overdue_waits(self, now: float) -> None:
        for request_id in self._deadlines.due(now):
            request = self._ledger.live.get(request_id)
            if request is None or request.state is not State.WAITING:  # it was cancelled with its session
                continue
            waited_s = now - request.arrival_s
            message = f"the request waited {waited_s:.1f} s, the limit is {self._deadlines.timeout_s:g} s"
            retry_after_s = self._rate.retry_after_s(starts=self._ledger.num_waiting)
            self._ledger.refuse(request, Refused(request_id, QueueTimeoutError.code, message, retry_after_s), now)

    def _note_starts(self, opened: list[Request], now: float) -> None:
        for request in opened:
            if request.preemptions:
                continue  # it was resumed
            self._deadlines.remove(request.request_id)
            if request.number < self._arrivals_planned:  # an earlier plan was without it, so it had to wait
                self._rate.started(request.prompt_length, request.arrival_s, now)

    def _is_busy(self, name: str | None) -> bool:
        session = None if name is None else self._ledger.sessions.named(name)
        return session is not None and session.idle_since_s is None

    def _note_split(self, number: int, head: int) -> None:
        """Tell those that know nodes by number that the first blocks of one belong to a new prefix."""
        if self._poison is not None:
            self._poison.split(number, head)
        for planned in self._planned.values():
            if number in planned.moved:
                planned.moved.add(head)

    def _distrust(self, session: Session, now: float) -> None:
        """End a session whose KV may be wrong, and the request that is live in it."""
        if request := self._ledger.live_in.get(session):
            self._ledger.finish(request, FinishReason.ERROR, now)
        if session.idle_since_s is not None:
            self._ledger.drop(session, "failure")

    def _advance(self, request: Request, row: Row) -> None:
        """Count the row's tokens as having KV, which is true for all later steps, and the token that it draws."""
        request.num_drawing += row.draws_token
        end = row.start + row.num_tokens
        self._ledger.memory.append(request.sequence, row.num_tokens)
        new_prompt_tokens = max(0, min(end, request.prompt_length) - max(row.start, request.computed_once))
        self._ledger.charge(request, new_prompt_tokens + SERVICE_PER_DRAWN * row.draws_token)
        request.recomputed += max(0, min(end, request.computed_once) - row.start)
        request.reused += max(0, row.start - request.computed_once)  # others have computed these since it started
        request.computed_once = max(request.computed_once, end)

    def _accept(self, request: Request, drawn: Drawn, keep: int | None, now: float) -> None:
        if drawn.invalid:
            self._ledger.sessions.hide(request.session)  # what it stands on may be the reason
            self._ledger.finish(request, FinishReason.ERROR, now)
            return
        request.session.tokens.append(drawn.token)
        since = request.arrival_s if request.last_token_s is None else request.last_token_s
        self._ledger.emit(TokenOut(request.request_id, request.num_answered, drawn.token, drawn.logprobs, now - since))
        request.num_answered += 1
        request.first_token_s = now if request.first_token_s is None else request.first_token_s
        request.last_token_s = now
        self._finish_if_done(request, drawn.token, keep, now)

    def _finish_if_done(self, request: Request, token: int, keep: int | None, now: float) -> None:
        repetition = request.spec.repetition
        if keep is not None or token in request.spec.stop_tokens:
            if keep is not None:
                self._truncate_answer(request, keep)
            self._ledger.finish(request, FinishReason.STOP, now)
        elif request.num_answered == request.spec.max_tokens:
            self._ledger.finish(request, FinishReason.LENGTH, now)
        elif repetition is not None and repetition.ends(request.session.tokens, request.prompt_length):
            self._ledger.finish(request, FinishReason.REPETITION, now)

    def _truncate_answer(self, request: Request, keep: int) -> None:
        """Remove the tokens of a stop string from the conversation."""
        length = request.prompt_length + keep
        del request.session.tokens[length:]
        self._ledger.memory.truncate(request.sequence, length)
