"""The handlers that generate: a prepared request goes to the engine, and its answer comes back, whole or streamed.

They differ only in what they make of the body and in the form of the answer; `Prepared` holds both.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence

import structlog
from aiohttp import web

from service.api.access.caller import Caller
from service.api.body import with_body
from service.api.context import (
    BEGUN,
    CALLER,
    DOOR,
    LIMITS,
    MODEL,
    REQUEST_ID,
    STREAMS,
    WAITING_LINE,
    ServedModel,
)
from service.api.errors import error_body
from service.api.openai.answer import CollectedChoice, Json
from service.api.openai.prepare import Prepared, prepare_chat, prepare_completion
from service.api.openai.usage import Tally
from service.api.slow_readers import abort_connection, bounded_write
from service.api.sse import EventStream, compact
from service.api.streams import AnswerStream, Delivery
from service.api.waiting_line import REPORT_EVERY_S
from service.core.messages.events import Preempted, Resumed
from service.errors import RequestError, SlowReaderError

Prepare = Callable[[bytes, ServedModel, str, Caller], Prepared]


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    return await _generate(request, prepare_chat, "chatcmpl")


async def completions(request: web.Request) -> web.StreamResponse:
    """Continue one or several texts."""
    return await _generate(request, prepare_completion, "cmpl")


async def _generate(request: web.Request, prepare: Prepare, prefix: str) -> web.StreamResponse:
    """Prepare, run and answer a request. A client that leaves, at any point, cancels all turns."""
    answer_id = f"{prefix}-{secrets.token_hex(16)}"
    # The engine knows the turns by the answer's id: this ties its log lines to the request's.
    structlog.contextvars.bind_contextvars(answer_id=answer_id)
    caller = request[CALLER]
    with request.app[DOOR].enter(caller.tenant):
        prepared = await with_body(request, prepare, answer_id, caller)
        prompts = (len(turn.submit.prompt) for turn in prepared.turns)
        tally = Tally(prompts, prepared.body.n, request.app[MODEL].block_bytes)
        with request.app[STREAMS].open(prepared.turns) as stream:
            if prepared.body.stream:
                return await _streamed(request, stream, _Chunks(prepared, tally))
            whole = await _collect(stream, prepared, tally)
        return await _send_whole(request, whole)


async def _collect(stream: AnswerStream, prepared: Prepared, tally: Tally) -> Json:
    """Return the whole answer once all choices have ended."""
    answers = [CollectedChoice() for _ in prepared.turns]
    while not stream.done:
        for delivery in await stream.take():
            tally.note(delivery.choice, delivery.output.event)
            answers[delivery.choice].add(delivery.output)
    return prepared.form.whole(answers, tally.total())


async def _send_whole(request: web.Request, whole: Json) -> web.StreamResponse:
    response = web.json_response(whole, dumps=compact)
    async with bounded_write(request, request.app[LIMITS].write_timeout_s):
        request[BEGUN] = response
        await response.prepare(request)
        await response.write_eof()
    return response


async def _streamed(request: web.Request, stream: AnswerStream, chunks: "_Chunks") -> web.StreamResponse:
    """Send chunks as they come. An error before the first is an ordinary answer; a later one is an event."""
    events = EventStream(request, request.app[LIMITS].write_timeout_s)
    try:
        await _wait_in_line(request, stream, events)
        await _pump(stream, events, chunks, request.app[LIMITS].keep_alive_s)
    except SlowReaderError:
        abort_connection(request)
        raise
    except RequestError as error:
        if not events.response.prepared:
            raise
        await events.send([error_body(error, request[REQUEST_ID])])
    return events.response


async def _wait_in_line(request: web.Request, stream: AnswerStream, events: EventStream) -> None:
    """Tell the client its place in the queue from time to time, until the answer has begun or ended."""
    line, longest_s, silence_s = request.app[WAITING_LINE], request.app[LIMITS].keep_alive_s, REPORT_EVERY_S
    while not await stream.has_news(min(silence_s, longest_s)):
        if (place := line.place(stream.request_ids)) is None:
            return
        await events.comment(str(place))
        silence_s = place.told_again_s


async def _pump(stream: AnswerStream, events: EventStream, chunks: "_Chunks", keep_alive_s: float) -> None:
    while not stream.done:
        deliveries = await stream.take(keep_alive_s)
        if not deliveries:
            await events.comment("waiting")
        for delivery in deliveries:
            if isinstance(event := delivery.output.event, Preempted | Resumed):
                await events.comment(type(event).__name__.lower())
        if ready := list(chunks.of(deliveries)):
            await events.send(ready)
    await events.send(chunks.last())
    await events.done()


class _Chunks:
    """Turns deliveries into chunks, opening chunks first, and counts their tokens."""

    def __init__(self, prepared: Prepared, tally: Tally) -> None:
        self._form = prepared.form
        self._body = prepared.body
        self._tally = tally
        self._begun = False

    def of(self, deliveries: Sequence[Delivery]) -> Iterator[Json]:
        """Yield the chunks that deliveries make."""
        if not self._begun:
            self._begun = True
            for choice, chunk in self._form.opening():
                yield self._counted(choice, chunk)
        for delivery in deliveries:
            self._tally.note(delivery.choice, delivery.output.event)
            for chunk in self._form.chunks(delivery.choice, delivery.output):
                yield self._counted(delivery.choice, chunk)

    def last(self) -> list[Json]:
        """Return what follows all choices: their token counts, if asked for."""
        return [self._form.usage_chunk(self._tally.total())] if self._body.wants_usage else []

    def _counted(self, choice: int, chunk: Json) -> Json:
        return {**chunk, "usage": self._tally.of(choice)} if self._body.wants_usage_always else chunk
