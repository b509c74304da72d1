"""A conversation over any transport: its history, and the statistics of each turn."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Unpack

from clients.protocol import ChatOptions, Chunk, Message, Queued, Transport, Usage


@dataclass(frozen=True, slots=True)
class TurnStats:
    """Statistics of one turn, by the client's clock.

    ``outcome`` is the server's finish reason, or ``cancelled`` or ``error``. ``ttft_s`` is the time to the first text,
    ``decode_s`` from the first text to the last; both are None without text. ``usage`` is None if it never came.
    """

    outcome: str
    ttft_s: float | None
    decode_s: float | None
    total_s: float
    usage: Usage | None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second after the first one; None if unknown."""
        if self.usage is None or not self.decode_s or self.usage.completion_tokens < 2:
            return None
        return (self.usage.completion_tokens - 1) / self.decode_s


class _Stopwatch:
    """A turn in progress: its text so far, and when the text came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._first: float | None = None
        self._last: float | None = None
        self._usage: Usage | None = None
        self.finish_reason: str | None = None
        self.text = ""

    def note(self, chunk: Chunk) -> None:
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self._usage = chunk.usage or self._usage
        if chunk.text:
            self.text += chunk.text
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first

    def stats(self, outcome: str) -> TurnStats:
        total_s = self._clock() - self._start
        if self._first is None or self._last is None:
            return TurnStats(outcome, None, None, total_s, self._usage)
        return TurnStats(outcome, self._first - self._start, self._last - self._first, total_s, self._usage)


class Conversation:
    """Keeps ``messages`` and ``turns``, and runs one turn at a time.

    Between turns this is always true: after the system message, user and assistant alternate, and the last message is
    the assistant's. A turn that ended early keeps its text; one without text leaves no message, so it can be repeated.
    ``options`` apply to every turn; ``clock`` returns seconds; ``on_queued`` is told where a turn waits.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        system: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
        on_queued: Callable[[Queued], None] = lambda queued: None,
        **options: Unpack[ChatOptions],
    ) -> None:
        # Without a user the server knows a client by its connection, and cancelling a turn closes that connection. A
        # random user, which other clients cannot guess, keeps the KV of this conversation findable.
        self._options: ChatOptions = {"user": secrets.token_hex(16), **options}
        self._transport = transport
        self._clock = clock
        self._on_queued = on_queued
        self._busy = False
        self._opening: list[Message] = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = list(self._opening)
        self.turns: list[TurnStats] = []

    def reset(self) -> None:
        """Forget all messages except the system message. Raises RuntimeError during a turn."""
        self._refuse_if_busy()
        self.messages = list(self._opening)
        self.turns = []

    async def say(self, text: str, **options: Unpack[ChatOptions]) -> AsyncGenerator[str, None]:
        """Stream the answer to ``text``; closing the generator cancels the turn.

        ``options`` apply to this turn and override the conversation's. Raises `ClientError`, and RuntimeError while
        another turn runs.
        """
        self._refuse_if_busy()
        self._busy = True
        watch = _Stopwatch(self._clock)
        question: Message = {"role": "user", "content": text}
        outcome = "error"
        try:
            merged: ChatOptions = {**self._options, **options}
            async with aclosing(self._transport.chat([*self.messages, question], **merged)) as chunks:
                async for chunk in chunks:
                    watch.note(chunk)
                    if chunk.queued is not None:
                        self._on_queued(chunk.queued)
                    if chunk.text:
                        yield chunk.text
            outcome = "stop"
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        finally:
            self._busy = False
            self._record(question, watch, outcome)

    def _record(self, question: Message, watch: _Stopwatch, outcome: str) -> None:
        if watch.text:
            self.messages += [question, {"role": "assistant", "content": watch.text}]
        # A turn that is closed after its finish reason came was complete.
        self.turns.append(watch.stats(watch.finish_reason or outcome))

    def _refuse_if_busy(self) -> None:
        if self._busy:
            raise RuntimeError("a turn is running; close it first")
