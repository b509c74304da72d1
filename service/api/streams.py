"""The event loop's side of the engine: turns go in, and each request's outputs come out in order.

The engine thread hands over a step's outputs in one call, which costs the loop one wake-up. An `AnswerStream` keeps
what its handler has not taken yet, up to a bound: a handler that stands still, because its client does not read, loses
its turn rather than filling the memory. Leaving a stream, however it happens, cancels what is unfinished.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Protocol, Self

from service.api.errors import from_refusal
from service.core.messages.commands import Cancel, CloseSession, Inspect
from service.core.messages.events import Event, Finished, FinishReason, Refused, RequestEvent, Snapshot
from service.engine import Listener, Output, Turn
from service.errors import DeviceLostError, InternalError, RequestError, SlowReaderError

# Outputs (a token is one) that may wait for a handler: at least this many, and those of this many steps of all choices.
BUFFERED_OUTPUTS = 1024
BUFFERED_STEPS = 32


ENGINE_FAILED = "the engine has failed; the server must be restarted"


class EnginePort(Protocol):
    """What the API needs of `service.engine.Engine`."""

    failed: BaseException | None

    @property
    def step_age_s(self) -> float:
        """Seconds that the step under way has taken, 0 if there is none. Any thread may ask."""

    def start(self, listener: Listener) -> None:
        """Start the engine. ``listener`` is called on the engine's thread."""

    def post(self, item: Turn | Cancel | CloseSession | Inspect) -> None:
        """Put an item into the engine's inbox, from any thread."""

    def stop(self) -> None:
        """End after the step under way, and block until then."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An output and the number of its choice."""

    choice: int
    output: Output


class Streams:
    """All open streams. Belongs to the event loop; only `listen` is called from elsewhere."""

    def __init__(
        self,
        engine: EnginePort,
        observe: Callable[[Event], None],
        admit: Callable[[Sequence[Turn]], None] = lambda turns: None,
    ) -> None:
        self._engine = engine
        self._observe = observe
        self._admit = admit
        self._by_request: dict[str, AnswerStream] = {}
        self._questions: dict[int, asyncio.Future[Snapshot]] = {}
        self._numbers = count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: RequestError | None = None

    @property
    def step_age_s(self) -> float:
        """Seconds that the step under way has taken, 0 if there is none."""
        return self._engine.step_age_s

    @property
    def healthy(self) -> bool:
        """Whether the engine can serve."""
        return self._engine.failed is None

    def start(self) -> None:
        """Start the engine, whose outputs come to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._engine.start(self.listen)

    async def stop(self) -> None:
        """Stop the engine. No stream should still be open."""
        await asyncio.to_thread(self._engine.stop)

    def open(self, turns: Sequence[Turn]) -> "AnswerStream":
        """Post turns that are one request's choices, and return the stream of their outputs.

        Raises `InternalError` or `DeviceLostError` if the engine has failed, the error that `close` was called with, or
        the `RequestError` with which ``admit`` refuses the turns.
        """
        if self._closed is not None:
            raise self._closed
        if not self.healthy:
            raise self._failure()
        self._admit(turns)
        limit = max(BUFFERED_OUTPUTS, BUFFERED_STEPS * len(turns))
        stream = AnswerStream(self, [turn.submit.request_id for turn in turns], limit)
        for turn in turns:
            self._by_request[turn.submit.request_id] = stream
            self._engine.post(turn)
        return stream

    def cancel(self, request_id: str) -> None:
        """Forget a request, and have the engine end it."""
        if self._by_request.pop(request_id, None) is not None:
            self._engine.post(Cancel(request_id))

    async def snapshot(self) -> Snapshot:
        """Return all of core's state at one moment. Waits for as long as the engine does not answer."""
        number = next(self._numbers)
        answer: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        self._engine.post(Inspect(number))
        try:
            return await answer
        finally:
            del self._questions[number]

    def stop_answer(self, request_id: str) -> None:
        """Have the engine end a request, whose stream goes on until `Finished`."""
        if request_id in self._by_request:
            self._engine.post(Cancel(request_id))

    def close_session(self, name: str) -> None:
        """Have core forget the session of this name."""
        self._engine.post(CloseSession(name))

    def close(self, error: RequestError) -> None:
        """End every open stream, and refuse every further one, with ``error``."""
        self._closed = error
        for stream in set(self._by_request.values()):
            stream.fail(error)
        for question in self._questions.values():
            if not question.done():
                question.set_exception(error)

    def listen(self, outputs: list[Output]) -> None:
        """Pass outputs to the event loop. The engine's thread calls this."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, outputs)
        except RuntimeError:  # the loop is closed, and no handler is left
            return

    def _deliver(self, outputs: list[Output]) -> None:
        for output in outputs:
            event = output.event
            self._observe(event)
            if isinstance(event, Snapshot):
                self._answer(event)
            if not isinstance(event, RequestEvent):
                continue
            if (stream := self._by_request.get(event.request_id)) is None:
                continue
            if isinstance(event, Finished | Refused):
                del self._by_request[event.request_id]
            stream.push(event.request_id, output)
        if not self.healthy and self._closed is None:
            self.close(self._failure())

    def _failure(self) -> RequestError:
        """Return the error that says why the engine serves nothing any more."""
        failed = self._engine.failed
        return failed if isinstance(failed, DeviceLostError) else InternalError(ENGINE_FAILED)

    def _answer(self, snapshot: Snapshot) -> None:
        answer = self._questions.get(snapshot.number)
        if answer is not None and not answer.done():  # the caller may have given up
            answer.set_result(snapshot)


class AnswerStream:
    """The outputs of one request, all its choices in order of arrival. Leaving its ``with`` block cancels the rest."""

    def __init__(self, streams: Streams, request_ids: Sequence[str], limit: int) -> None:
        self._streams = streams
        self._choices = {request_id: choice for choice, request_id in enumerate(request_ids)}
        self._unfinished = set(request_ids)
        self._limit = limit
        self._buffer: list[Delivery] = []
        self._error: RequestError | None = None
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for request_id in self._unfinished:
            self._streams.cancel(request_id)

    @property
    def request_ids(self) -> Sequence[str]:
        """The ids of its choices, in their order."""
        return tuple(self._choices)

    @property
    def done(self) -> bool:
        """Whether every choice has ended and all outputs were taken."""
        return not self._unfinished and not self._buffer and self._error is None

    def stop_answer(self) -> None:
        """Have the engine end what is unfinished; the last deliveries report how far it came."""
        for request_id in self._unfinished:
            self._streams.stop_answer(request_id)

    async def has_news(self, timeout_s: float | None = None) -> bool:
        """Wait until `take` has something to return or to raise. Return False after ``timeout_s`` of silence."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def take(self, timeout_s: float | None = None) -> list[Delivery]:
        """Return all that came since the last call, waiting for at least one; nothing after ``timeout_s`` of silence.

        Raises the `RequestError` that ended the stream: a refusal, a failure, or `SlowReaderError` if outputs were
        taken too slowly.
        """
        if not await self.has_news(timeout_s):
            return []
        if self._error is not None:
            raise self._error
        self._news.clear()
        taken, self._buffer = self._buffer, []
        return taken

    def push(self, request_id: str, output: Output) -> None:
        """Add an output, or end the stream if the output is an error or too many wait."""
        if isinstance(output.event, Finished | Refused):
            self._unfinished.discard(request_id)
        if error := _error_in(output):
            self.fail(error)
        elif len(self._buffer) >= self._limit:
            self.fail(SlowReaderError(f"{self._limit} outputs were not read in time"))
        elif self._error is None:
            self._buffer.append(Delivery(self._choices[request_id], output))
            self._news.set()

    def fail(self, error: RequestError) -> None:
        """End the stream: cancel what is unfinished, drop what is buffered, raise ``error`` at the next `take`."""
        for request_id in self._unfinished:
            self._streams.cancel(request_id)
        self._unfinished.clear()
        self._buffer.clear()
        self._error = error
        self._news.set()


def _error_in(output: Output) -> RequestError | None:
    """Return the error of an output that ends a request without an answer, else None."""
    match output.event:
        case Refused():
            return from_refusal(output.event)
        case Finished(reason=FinishReason.ERROR):
            return output.error or InternalError("the model failed on this request")
    return None
