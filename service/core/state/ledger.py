"""The state of core, and the changes that concern several of its parts at once.

The ledger owns live requests, sessions, batch slots, KV watermarks, and the events not yet collected. Always true: the
running requests are those that hold a slot, and all their KV is on the device; a session is busy if and only if a
request is live in it; every node in memory is a session's tail or a prefix; a live request is in the queue unless it is
a *holder*, and those that run, or have blocks of their own or a copy in flight, are holders.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from allocator import KVMemory
from service.core.messages.events import (
    Event,
    Finished,
    FinishReason,
    Gauges,
    KVDropped,
    Preempted,
    PrefixDropped,
    Refused,
    Resumed,
    Served,
    SessionDropped,
    Started,
    Timings,
    Usage,
)
from service.core.messages.plan import SlotOpening
from service.core.state.owners import Owner, Prefix, Session
from service.core.state.requests import Request, State
from service.core.state.sessions import SessionTable
from service.core.state.slots import SlotTable


class Queue(Protocol):
    """Keeps the live requests that hold nothing, and learns what service requests get: a policy."""

    def add(self, request: Request) -> None:
        """Add a request."""

    def discard(self, request: Request) -> None:
        """Remove a request, if it is there."""

    def charge(self, request: Request, service: float) -> None:
        """Note that a request got ``service``, as in `Served`."""


class Ledger:
    """Requests, sessions, slots and KV of one core. ``now`` is in seconds of the driver's clock."""

    def __init__(
        self, memory: KVMemory, sessions: SessionTable, slots: SlotTable, queues: Sequence[Queue] = ()
    ) -> None:
        self.memory = memory
        self.sessions = sessions
        self.slots = slots
        self.live: dict[str, Request] = {}
        self.live_in: dict[Session, Request] = {}
        self.holders: dict[Request, None] = {}
        self.waiting_tokens = 0  # of the prompts of waiting requests
        self._queues = queues
        self._states: Counter[State] = Counter()
        self._served: Counter[str] = Counter()  # service by tenant, until it is told
        self._events: list[Event] = []

    @property
    def num_waiting(self) -> int:
        """Number of requests that have never run."""
        return self._states[State.WAITING]

    def accept(self, request: Request) -> None:
        """Take in a new request, whose session is busy."""
        self.live[request.request_id] = self.live_in[request.session] = request
        self._states[request.state] += 1
        self.waiting_tokens += request.prompt_length
        if self._holds_nothing(request):
            self._enqueue(request)
        else:
            self.holders[request] = None

    def hold(self, request: Request) -> None:
        """Make a live request a holder, before it gets blocks."""
        if request not in self.holders:
            self.holders[request] = None
            self._dequeue(request)

    def release(self, request: Request) -> None:
        """Return a holder to the queue, if it holds nothing."""
        if self._holds_nothing(request):
            del self.holders[request]
            self._enqueue(request)

    def split(self, child: Owner, cut: int) -> Prefix:
        """Split an owner before token ``cut``, so that another session can stand on the prefix that is returned.

        No copy of it may be in flight.
        """
        request = self.live_in.get(child) if isinstance(child, Session) else None
        is_queued = request is not None and request not in self.holders
        if request is not None and is_queued:
            self._dequeue(request)  # it needs fewer blocks of its own from now on
        prefix = self.sessions.split(child, cut)
        self.memory.split(child.number, cut, prefix.number)
        if request is not None and is_queued:
            self._enqueue(request)
        return prefix

    def move(self, request: Request, prefix: Prefix) -> None:
        """Let a request without KV and blocks of its own stand on another prefix."""
        is_queued = request not in self.holders
        if is_queued:
            self._dequeue(request)
        before = request.session.prefix
        self.sessions.move(request.session, prefix)
        self.memory.move(request.sequence, prefix.number)
        if is_queued:
            self._enqueue(request)
        self._prune(before)

    def drop_if_useless(self, owner: Owner | None) -> None:
        """Drop an idle session all whose KV has become that of a prefix."""
        if not isinstance(owner, Session) or owner.idle_since_s is None:
            return
        if not self.memory.own_computed(owner.number):
            self._forget(owner)

    def charge(self, request: Request, service: float) -> None:
        """Charge a request's tenant for service."""
        self._served[request.spec.tenant] += service  # type: ignore[assignment]
        for queue in self._queues:
            queue.charge(request, service)

    def is_running_on(self, number: int) -> bool:
        """Return whether a node is on the path of a running request."""
        return any(number in self.memory.path(request.sequence) for request in self.slots.running)

    def tell_service(self) -> None:
        """Emit `Served`, if anyone was served since the last time."""
        if self._served:
            self.emit(Served(tuple(self._served.items())))
            self._served = Counter()

    def emit(self, event: Event) -> None:
        """Add an event for observers."""
        self._events.append(event)

    def collect(self) -> list[Event]:
        """Return the events since the last call, in order."""
        events, self._events = self._events, []
        return events

    def give_slot(self, request: Request, now: float) -> SlotOpening:
        """Move a request from waiting or preempted to running."""
        assert not request.num_drawing, "a slot opens with the last token, which is not known yet"
        assert request in self.holders
        first_time = request.state is State.WAITING
        self._move(request, State.RUNNING)
        slot = self.slots.take(request)
        if first_time:
            self._note_start(request, now)
        else:
            self._note_resume(request, now)
        request.steps_in_slot = request.steps_late = 0
        request.answered_before_slot = request.num_answered
        request.admitted_s = None
        request.is_swapping_in = False
        return SlotOpening.of(slot, request.session.tokens, request.prompt_length, request.spec.sampling_params)

    def preempt(self, request: Request, reason: str, now: float) -> None:
        """Move a request from running to preempted, without a slot. Its KV stays until its blocks are reclaimed."""
        self._move(request, State.PREEMPTED)
        self.slots.leave(request)
        request.preempted_s = now
        request.preempt_reason = reason
        request.preemptions += 1
        request.preemptions_unrewarded += not request.is_backfilled
        self.emit(Preempted(request.request_id, reason))

    def drop_last(self, owner: Owner, num_blocks: int, reason: str) -> None:
        """Free up to ``num_blocks`` of the last device blocks of an owner that does not run, and drop their KV."""
        remaining = max(0, self.memory.device.used(owner.number) - num_blocks)
        self.drop_kv(owner, owner.start + remaining * self.memory.block_tokens, reason)

    def drop_kv(self, owner: Owner, tokens: int, reason: str) -> None:
        """Keep an owner's KV before token ``tokens`` only. The rest is computed again if it is needed.

        All KV that stands on what is dropped goes before it, on the host too. What is idle and has no KV left is
        useless, so it is dropped.
        """
        lost = owner.start + self.memory.own_computed(owner.number) - tokens
        if lost > 0 and isinstance(owner, Prefix):
            for number in self.memory.children(owner.number):
                if number in self.sessions.owners:  # else it was dropped with another
                    self.drop_kv(self.sessions.owners[number], owner.end, reason)
        if owner.number not in self.sessions.owners:
            return
        self.memory.truncate(owner.number, tokens)
        if lost > 0:
            self.emit(KVDropped(reason, lost))
        if not self.memory.own_computed(owner.number):
            self._drop_useless(owner)

    def drop(self, owner: Owner, reason: str) -> None:
        """Forget an idle session, or a prefix that nobody holds, with its KV."""
        if isinstance(owner, Prefix):
            self._drop_prefix(owner, reason)
            self._prune(owner.prefix)
        else:
            self._forget(owner)
            self.emit(SessionDropped(reason, len(owner.tokens)))

    def finish(self, request: Request, reason: FinishReason, now: float) -> None:
        """End a live request. Its session becomes idle, or is dropped if no later turn can use it."""
        self._end(request, reason, now)
        self.emit(Finished(request.request_id, reason, _usage(request), _timings(request, now)))

    def refuse(self, request: Request, refusal: Refused, now: float) -> None:
        """End a waiting request with a refusal instead of `Finished`."""
        assert request.state is State.WAITING
        self._end(request, FinishReason.CANCELLED, now)
        self.emit(refusal)

    def gauges(self, priority_updates: int) -> Gauges:
        """Return how full core is, and how often ranks have changed."""
        swapped = (r for r in self.holders if r.state is State.PREEMPTED and not self.memory.is_resident(r.sequence))
        device, host = self.memory.device, self.memory.host
        return Gauges(
            running=self._states[State.RUNNING],
            waiting=self.num_waiting,
            preempted=self._states[State.PREEMPTED],
            swapped=sum(1 for _ in swapped),
            idle_sessions=self.sessions.num_idle,
            blocks_total=device.num_blocks,
            blocks_used=device.num_used,
            blocks_reserved=device.num_reserved,
            largest_free=device.largest_free,
            host_blocks_total=host.num_blocks,
            host_blocks_used=host.num_used,
            copies_in_flight=len(self.memory.tickets),
            priority_updates=priority_updates,
            waiting_tokens=self.waiting_tokens,
            prefixes=self.sessions.num_prefixes,
            prefix_blocks=self.sessions.prefix_blocks,
            shared_blocks=self.sessions.shared_blocks,
        )

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken, here or in a part."""
        self.memory.check()
        self.sessions.check()
        self.slots.check()
        running = {r for r in self.live.values() if r.state is State.RUNNING}
        assert running == set(self.slots.running)
        assert {r.session for r in self.live.values()} == {s for s in self.sessions if s.idle_since_s is None}
        assert {request.session: request for request in self.live.values()} == self.live_in
        assert {s.sequence for s in self.sessions} == set(self.memory.sequences)
        assert {prefix.number for prefix in self.sessions.prefixes} == set(self.memory.prefixes)
        for session in self.sessions:
            assert self.memory.path(session.sequence)[-2::-1] == tuple(prefix.number for prefix in session.path_up)
        drawing = {r.session: r.num_drawing for r in self.live.values()}
        for session in self.sessions:
            assert self.memory.computed(session.sequence) <= len(session.tokens) + drawing.get(session, 0)
        assert all(self.memory.is_resident(request.sequence) for request in running)
        assert Counter(r.state for r in self.live.values()) == self._states
        waiting = [r for r in self.live.values() if r.state is State.WAITING]
        assert sum(r.prompt_length for r in waiting) == self.waiting_tokens
        assert self.holders.keys() <= set(self.live.values())
        assert all(r in self.holders for r in self.live.values() if r in running or not self._holds_nothing(r))

    def _move(self, request: Request, to: State) -> None:
        if request.state is State.WAITING:
            self.waiting_tokens -= request.prompt_length
        self._states[request.state] -= 1
        request.move(to)
        self._states[to] += 1

    def _holds_nothing(self, request: Request) -> bool:
        sequence, memory = request.sequence, self.memory
        if request.state is State.RUNNING or memory.device.used(sequence) or memory.host.used(sequence):
            return False
        if request.is_swapping_in:
            return False
        return memory.pending(sequence) is None

    def _enqueue(self, request: Request) -> None:
        for queue in self._queues:
            queue.add(request)

    def _dequeue(self, request: Request) -> None:
        for queue in self._queues:
            queue.discard(request)

    def _note_start(self, request: Request, now: float) -> None:
        request.started_s = now
        request.reused = request.computed_once = self.memory.computed(request.sequence)
        self.emit(Started(request.request_id, now - request.arrival_s, request.reused, request.continued))

    def _note_resume(self, request: Request, now: float) -> None:
        assert request.preempted_s is not None
        request.resumed_s = now
        request.stalled_s += now - request.preempted_s
        switch_s = 0.0 if request.admitted_s is None else now - request.admitted_s
        self.emit(Resumed(request.request_id, now - request.preempted_s, switch_s))

    def _end(self, request: Request, reason: FinishReason, now: float) -> None:
        if request.slot is not None:
            self.slots.leave(request)
        if request.state is State.PREEMPTED and request.preempted_s is not None:
            request.stalled_s += now - request.preempted_s
        self._move(request, State.FINISHED)
        del self._states[State.FINISHED]
        del self.live[request.request_id], self.live_in[request.session]
        if request in self.holders:
            del self.holders[request]
        else:
            self._dequeue(request)
        self._end_turn(request, reason, now)

    def _end_turn(self, request: Request, reason: FinishReason, now: float) -> None:
        session = request.session
        if self.memory.computed(session.sequence) > len(session.tokens):  # a step under way computes a dropped token
            self.memory.truncate(session.sequence, len(session.tokens))
        is_reusable = (session.scope or session.name) is not None and reason is not FinishReason.ERROR
        if is_reusable and self.memory.own_computed(session.sequence) > 0:
            session.answer_start = request.prompt_length
            self.sessions.make_idle(session, now)
            is_reusable = session.can_be_continued
        if not is_reusable or not self.memory.own_computed(session.sequence):
            self._forget(session, now)
        else:
            self._enforce_limit(request.spec.max_idle_sessions, session)

    def _enforce_limit(self, limit: int | None, session: Session) -> None:
        """Drop the oldest idle sessions of the tenant of ``session``, the newest, beyond ``limit``."""
        if limit is None:
            return
        own = [idle for idle in self.sessions if idle.idle_since_s is not None and idle.tenant == session.tenant]
        for oldest in sorted(own, key=lambda idle: idle.idle_since_s or 0.0)[: max(0, len(own) - limit)]:
            self.drop(oldest, "limit")

    def _drop_useless(self, owner: Owner) -> None:
        """Drop an owner without KV, if it is an idle session, or a prefix that nobody holds."""
        if isinstance(owner, Session):
            if owner.idle_since_s is not None:
                self.drop(owner, "room")
        else:
            self._prune(owner)

    def _prune(self, prefix: Prefix | None) -> None:
        """Drop a prefix that nobody holds and that is of no use, and those that it stood on, as far as this goes."""
        while prefix is not None and not prefix.users and not prefix.num_prefixes:
            if self.memory.own_computed(prefix.number) and not prefix.is_hidden:
                return
            before = prefix.prefix
            self._drop_prefix(prefix, "room")
            prefix = before

    def _forget(self, session: Session, now: float | None = None) -> None:
        """Forget a session, idle, or busy until ``now``, with its KV."""
        self.sessions.close(session, now)
        self.memory.drop(session.sequence)
        self._prune(session.prefix)

    def _drop_prefix(self, prefix: Prefix, reason: str) -> None:
        self.sessions.drop(prefix)
        self.memory.drop(prefix.number)
        self.emit(PrefixDropped(reason, prefix.length))


def _usage(request: Request) -> Usage:
    return Usage(
        prompt=request.prompt_length,
        completion=request.num_answered,
        reused=request.reused,
        recomputed=request.recomputed,
        preemptions=request.preemptions,
        swapped_out=request.swapped_out,
        swapped_in=request.swapped_in,
        continued=min(request.continued, request.reused),
    )


def _timings(request: Request, now: float) -> Timings:
    def since_arrival(moment: float | None) -> float | None:
        return None if moment is None else moment - request.arrival_s

    return Timings(
        queue_s=since_arrival(request.started_s),
        ttft_s=since_arrival(request.first_token_s),
        e2e_s=now - request.arrival_s,
        stall_s=request.stalled_s,
    )
