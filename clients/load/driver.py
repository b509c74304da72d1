"""Plays a trace against a server: an open loop by the clock, or a closed loop of users.

Everything runs on one event loop. Every turn that came due leaves exactly one record, however it ended. Each turn's
latency counts from when it was due: neither a busy client nor `max_concurrency` hides a wait.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from clients.load.clock import Clock
from clients.load.counts import RunCounts
from clients.load.saturation import Saturation
from clients.load.target import Target, TargetSession, TurnRequest
from clients.load.turn import INTERRUPTED, TurnResult, TurnRunner
from clients.load.words import Writer
from clients.protocol import Message
from clients.report import Outcome, TurnRecord
from clients.trace import Trace, TraceConversation, TraceTurn

WATCH_S = 1.0

Transcript = Callable[[TraceConversation, list[Message]], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """How to play a trace. ``keys`` are API keys by tenant; ``run`` keeps the users of two runs apart."""

    model: str
    run: str
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    max_concurrency: int | None = None
    duration_s: float = math.inf
    num_warmups: int = 0
    warmup_s: float = 0.0
    timeout_s: float = 600.0
    stop_on_saturation: bool = False


class Driver:
    """Plays one run. ``records`` grows as turns end. Make it inside a running loop: the clock starts at once."""

    def __init__(
        self, trace: Trace, target: Target, writer: Writer, rules: Rules, transcript: Transcript | None = None
    ) -> None:
        self.records: list[TurnRecord] = []
        self.counts = RunCounts(trace.num_turns)
        self.clock = Clock()
        self.interrupted = False
        self.saturated_at_s: float | None = None
        self._trace = trace
        self._target = target
        self._writer = writer
        self._rules = rules
        self._transcript = transcript
        self._concurrency = asyncio.Semaphore(rules.max_concurrency or max(1, trace.num_turns))
        self._saturation = Saturation()
        self._playing: asyncio.Task[None] | None = None
        self._stopped = False

    async def run(self) -> None:
        """Play until every conversation has ended, the duration is over, or `interrupt` is called."""
        self._playing = asyncio.create_task(self._play())
        watching = asyncio.create_task(self._watch())
        await asyncio.wait([self._playing])
        watching.cancel()
        if not self._playing.cancelled():
            self._playing.result()

    def interrupt(self) -> None:
        """Begin no more turns and cancel the running ones; `run` returns soon."""
        self.interrupted = True
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._playing is not None:
            self._playing.cancel()

    def _is_over(self) -> bool:
        return self._stopped or self.clock.now() >= self._rules.duration_s

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._trace.users is None:
                await self._open_loop(group)
            else:
                waiting = iter(enumerate(self._trace.conversations))
                for _ in range(self._trace.users):
                    group.create_task(self._play_user(waiting))

    async def _open_loop(self, group: asyncio.TaskGroup) -> None:
        for number, conversation in enumerate(self._trace.conversations):
            due_s = conversation.arrival_s or 0.0
            await self.clock.sleep_until(min(due_s, self._rules.duration_s))
            if self._is_over():
                return
            group.create_task(self._play_conversation(number, conversation, due_s))

    async def _play_user(self, waiting: Iterator[tuple[int, TraceConversation]]) -> None:
        """Play one conversation after the other; between two of them the user thinks, too."""
        due_s = 0.0
        for number, conversation in waiting:
            if number >= (self._trace.users or 0):
                due_s = self.clock.now() + conversation.turns[0].think_s
                await self.clock.sleep_until(min(due_s, self._rules.duration_s))
            if self._is_over():
                return
            await self._play_conversation(number, conversation, due_s)
            if self._is_over():  # an interrupt ended the turn but not this task: do not begin to think
                return

    async def _play_conversation(self, number: int, conversation: TraceConversation, due_s: float) -> None:
        """Play all turns, each with the answers that really came before; an error or a vanished client ends them."""
        session = self._target.open_session(self._rules.keys.get(conversation.tenant))
        history: list[Message] = []
        try:
            for index, turn in enumerate(conversation.turns):
                due_s = due_s if turn.at_s is None else turn.at_s
                await self.clock.sleep_until(min(due_s, self._rules.duration_s))
                if index and self._is_over():
                    return
                history.append({"role": "user", "content": self._writer.message(conversation, index)})
                result = await self._play_turn(number, conversation, index, due_s, session, history)
                _remember(history, result)
                if result.outcome in (Outcome.ERROR, Outcome.DISCONNECTED) or result.error == INTERRUPTED:
                    return
                if index + 1 < len(conversation.turns):
                    due_s = result.end_s + conversation.turns[index + 1].think_s
        finally:
            await session.close()
            if self._transcript is not None:
                self._transcript(conversation, history)

    async def _play_turn(
        self,
        number: int,
        conversation: TraceConversation,
        index: int,
        due_s: float,
        session: TargetSession,
        history: list[Message],
    ) -> TurnResult:
        """Play one turn and record it."""
        self.counts.due += 1
        turn = conversation.turns[index]
        try:
            async with self._concurrency:
                sent_s = self._note_sent(due_s)
                pause_s = 1 / conversation.read_tokens_per_s if conversation.read_tokens_per_s else 0.0
                runner = TurnRunner(self.clock, self._rules.timeout_s, partial(self._note_piece, due_s))
                result = await runner.run(session, turn, history, self._request(conversation, turn), pause_s)
        except asyncio.CancelledError:  # while it waited for `max_concurrency`
            sent_s = self._note_sent(due_s)
            result = TurnResult(outcome=Outcome.CANCELLED, error=INTERRUPTED, end_s=sent_s)
        self.counts.note_end(result)
        self.records.append(
            TurnRecord(
                conversation=conversation.id,
                turn=index,
                tenant=conversation.tenant,
                priority=_priority(conversation, turn),
                warmup=number < self._rules.num_warmups or due_s < self._rules.warmup_s,
                scheduled_s=due_s,
                sent_s=sent_s,
                **result.record_fields(),
            )
        )
        return result

    def _note_sent(self, due_s: float) -> float:
        now = self.clock.now()
        self.counts.sent += 1
        if self._rules.max_concurrency is None:
            self.counts.lateness_s = max(self.counts.lateness_s, now - due_s)
        return now

    def _note_piece(self, due_s: float, is_first: bool, came_s: float) -> None:
        self.counts.pieces += 1
        if is_first:
            self.counts.ttft_s.append(came_s - due_s)
            self._saturation.note_ttft(came_s, came_s - due_s)

    def _request(self, conversation: TraceConversation, turn: TraceTurn) -> TurnRequest:
        """Callers without their own key differ by `user`: it names the tenant, or the conversation if there is none."""
        own_key = conversation.tenant in self._rules.keys
        name = conversation.id if own_key or not conversation.tenant else conversation.tenant
        return TurnRequest(
            self._rules.model,
            turn.max_tokens,
            self._rules.temperature,
            _priority(conversation, turn) or None,
            f"{self._rules.run}-{name}",
            conversation.service_tier,
            dict(self._rules.extra),
        )

    async def _watch(self) -> None:
        """Sample the turns in flight of an open loop while turns still come due."""
        finite = self._trace.users is None and (self._trace.conversations[-1].arrival_s or 0.0) > 0
        while finite and self.counts.due < self.counts.turns_in_trace and self.saturated_at_s is None:
            await asyncio.sleep(WATCH_S)
            self._saturation.note_in_flight(self.clock.now(), self.counts.waiting)
            if self._saturation.reached():
                self.saturated_at_s = self.clock.now()
                if self._rules.stop_on_saturation:
                    self._stop()


def _remember(history: list[Message], result: TurnResult) -> None:
    """Add the text that really came to the history; a turn without any text leaves no message."""
    if result.text:
        history.append({"role": "assistant", "content": result.text})
    else:
        history.pop()


def _priority(conversation: TraceConversation, turn: TraceTurn) -> int:
    return conversation.priority if turn.priority is None else turn.priority
