"""Plays a trace against a server: an open loop by the clock, or a closed loop of users.

Everything runs on one event loop. Every turn that came due leaves exactly one record, whatever became of it. Each
turn's latency counts from when it was due: neither a busy client nor `max_concurrency` hides a wait.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.load.board import Board
from clients.load.clock import Clock
from clients.load.saturation import Saturation
from clients.load.target import Asked, Talk, Target
from clients.load.turn import INTERRUPTED, Heard, Listener
from clients.load.words import Writer
from clients.protocol import Message
from clients.report import Outcome, TurnRecord
from clients.trace import Conversation, Trace, Turn

WATCH_S = 1.0

Transcript = Callable[[Conversation, list[Message]], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """How to play. ``keys``: API keys by tenant. ``run``: tells the users of this run from those of others."""

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
    """One run. ``records`` grows as turns end. Make it inside a running loop: the clock starts."""

    def __init__(
        self, trace: Trace, target: Target, writer: Writer, rules: Rules, transcript: Transcript | None = None
    ) -> None:
        self.records: list[TurnRecord] = []
        self.board = Board(trace.num_turns)
        self.clock = Clock()
        self.interrupted = False
        self.saturated_at_s: float | None = None
        self._trace = trace
        self._target = target
        self._writer = writer
        self._rules = rules
        self._transcript = transcript
        self._places = asyncio.Semaphore(rules.max_concurrency or max(1, trace.num_turns))
        self._saturation = Saturation()
        self._playing: asyncio.Task[None] | None = None
        self._stopped = False

    async def run(self) -> None:
        """Play until every conversation has ended, `interrupt`, or the end of time."""
        self._playing = asyncio.create_task(self._play())
        watching = asyncio.create_task(self._watch())
        await asyncio.wait([self._playing])
        watching.cancel()
        if not self._playing.cancelled():
            self._playing.result()

    def interrupt(self) -> None:
        """Begin no more turns and cancel those under way; `run` returns soon."""
        self.interrupted = True
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._playing is not None:
            self._playing.cancel()

    def _over(self) -> bool:
        return self._stopped or self.clock.now() >= self._rules.duration_s

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._trace.users is None:
                await self._open_loop(group)
            else:
                waiting = iter(enumerate(self._trace.conversations))
                for _ in range(self._trace.users):
                    group.create_task(self._user(waiting))

    async def _open_loop(self, group: asyncio.TaskGroup) -> None:
        for number, conversation in enumerate(self._trace.conversations):
            due_s = conversation.arrival_s or 0.0
            await self.clock.sleep_until(min(due_s, self._rules.duration_s))
            if self._over():
                return
            group.create_task(self._converse(number, conversation, due_s))

    async def _user(self, waiting: Iterator[tuple[int, Conversation]]) -> None:
        """One conversation after the other; between two the user thinks, too."""
        due_s = 0.0
        for number, conversation in waiting:
            if number >= (self._trace.users or 0):
                due_s = self.clock.now() + conversation.turns[0].think_s
                await self.clock.sleep_until(min(due_s, self._rules.duration_s))
            if self._over():
                return
            await self._converse(number, conversation, due_s)
            if self._over():  # an interrupt has ended the turn, not us: do not begin to think
                return

    async def _converse(self, number: int, conversation: Conversation, due_s: float) -> None:
        """All turns, each with the history that really came about; an error or a vanished client ends them."""
        talk = self._target.talk(self._rules.keys.get(conversation.tenant))
        history: list[Message] = []
        try:
            for index, turn in enumerate(conversation.turns):
                due_s = due_s if turn.at_s is None else turn.at_s
                await self.clock.sleep_until(min(due_s, self._rules.duration_s))
                if index and self._over():
                    return
                history.append({"role": "user", "content": self._writer.message(conversation, index)})
                heard = await self._take(number, conversation, index, due_s, talk, history)
                _remember(history, heard)
                if heard.outcome in (Outcome.ERROR, Outcome.DISCONNECTED) or heard.error == INTERRUPTED:
                    return
                if index + 1 < len(conversation.turns):
                    due_s = heard.end_s + conversation.turns[index + 1].think_s
        finally:
            await talk.close()
            if self._transcript is not None:
                self._transcript(conversation, history)

    async def _take(
        self, number: int, conversation: Conversation, index: int, due_s: float, talk: Talk, history: list[Message]
    ) -> Heard:
        """One turn, and its record."""
        self.board.due += 1
        turn = conversation.turns[index]
        try:
            async with self._places:
                sent_s = self._send(due_s)
                pause_s = 1 / conversation.read_tokens_per_s if conversation.read_tokens_per_s else 0.0
                listener = Listener(self.clock, self._rules.timeout_s, lambda first, at: self._seen(first, at - due_s))
                heard = await listener.hear(talk, turn, history, self._asked(conversation, turn), pause_s)
        except asyncio.CancelledError:  # while it waited for a place
            sent_s = self._send(due_s)
            heard = Heard(outcome=Outcome.CANCELLED, error=INTERRUPTED, end_s=sent_s)
        self.board.end(heard)
        self.records.append(
            TurnRecord(
                conversation=conversation.id,
                turn=index,
                tenant=conversation.tenant,
                priority=_priority(conversation, turn),
                warmup=number < self._rules.num_warmups or due_s < self._rules.warmup_s,
                scheduled_s=due_s,
                sent_s=sent_s,
                **heard.facts(),
            )
        )
        return heard

    def _send(self, due_s: float) -> float:
        now = self.clock.now()
        self.board.sent += 1
        if self._rules.max_concurrency is None:
            self.board.lateness_s = max(self.board.lateness_s, now - due_s)
        return now

    def _seen(self, first: bool, ttft_s: float) -> None:
        self.board.pieces += 1
        if first:
            self.board.ttft_s.append(ttft_s)
            self._saturation.note_ttft(self.clock.now(), ttft_s)

    def _asked(self, conversation: Conversation, turn: Turn) -> Asked:
        """Who has no key of their own is told apart by `user`: tenants by name, others by conversation."""
        own_key = conversation.tenant in self._rules.keys
        name = conversation.id if own_key or not conversation.tenant else conversation.tenant
        return Asked(
            self._rules.model,
            turn.max_tokens,
            self._rules.temperature,
            _priority(conversation, turn) or None,
            f"{self._rules.run}-{name}",
            dict(self._rules.extra),
        )

    async def _watch(self) -> None:
        """Sample what is in flight, in an open loop, while turns still come due."""
        finite = self._trace.users is None and (self._trace.conversations[-1].arrival_s or 0.0) > 0
        while finite and self.board.due < self.board.turns_in_trace and self.saturated_at_s is None:
            await asyncio.sleep(WATCH_S)
            self._saturation.note_in_flight(self.clock.now(), self.board.waiting)
            if self._saturation.reached():
                self.saturated_at_s = self.clock.now()
                if self._rules.stop_on_saturation:
                    self._stop()


def _remember(history: list[Message], heard: Heard) -> None:
    """The history grows by what really came; a turn without any text leaves nothing."""
    if heard.text:
        history.append({"role": "assistant", "content": heard.text})
    else:
        history.pop()


def _priority(conversation: Conversation, turn: Turn) -> int:
    return conversation.priority if turn.priority is None else turn.priority
