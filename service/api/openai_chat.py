"""POST /v1/chat/completions, streamed or whole."""

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from service.api.body import read_body
from service.api.chat_format import Answer, ChatFormat
from service.api.context import BEGUN, CALLER, DOOR, EXECUTOR, LIMITS, MODEL, REQUEST_ID, STREAMS
from service.api.errors import error_body
from service.api.prepare import Prepared, prepare_chat
from service.api.slow_readers import bounded_write, cut
from service.api.sse import EventStream, compact
from service.api.streams import Delivery, Stream
from service.core.events import Finished, TokenOut, Usage
from service.errors import RequestError, SlowReaderError


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation. The client's leaving, at any point, cancels the turn."""
    with request.app[DOOR].enter(request[CALLER].tenant):
        prepared = await _prepare(request)
        form = _format(request, prepared)
        with request.app[STREAMS].open(prepared.turns) as stream:
            if prepared.body.stream:
                return await _streamed(request, stream, form, prepared)
            completion = await _collect(stream, form, len(prepared.turns))
        return await _whole(request, completion)


async def _prepare(request: web.Request) -> Prepared:
    raw = await read_body(request)
    app = request.app
    completion_id = f"chatcmpl-{secrets.token_hex(16)}"
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(app[EXECUTOR], prepare_chat, raw, app[MODEL], completion_id, request[CALLER])


def _format(request: web.Request, prepared: Prepared) -> ChatFormat:
    model = request.app[MODEL]
    return ChatFormat(prepared.completion_id, int(time.time()), model.name, model.tokenizer)


async def _collect(stream: Stream, form: ChatFormat, choices: int) -> dict[str, Any]:
    """Wait for all choices to end."""
    answers = [Answer() for _ in range(choices)]
    while not stream.done:
        for delivery in await stream.take():
            answers[delivery.choice].add(delivery.output, form)
    return form.completion(answers)


async def _whole(request: web.Request, completion: dict[str, Any]) -> web.StreamResponse:
    response = web.json_response(completion, dumps=compact)
    async with bounded_write(request, request.app[LIMITS].write_timeout_s):
        request[BEGUN] = response
        await response.prepare(request)
        await response.write_eof()
    return response


async def _streamed(request: web.Request, stream: Stream, form: ChatFormat, prepared: Prepared) -> web.StreamResponse:
    """Chunks as they come. An error before the first of them is an ordinary answer, later it is an event."""
    events = EventStream(request, request.app[LIMITS].write_timeout_s)
    try:
        await _pump(request, stream, events, _Chunks(form, len(prepared.turns)), prepared.body.wants_usage)
    except SlowReaderError:
        cut(request)
        raise
    except RequestError as error:
        if not events.response.prepared:
            raise
        await events.send([error_body(error, request[REQUEST_ID])])
    return events.response


async def _pump(
    request: web.Request, stream: Stream, events: EventStream, chunks: "_Chunks", wants_usage: bool
) -> None:
    keep_alive_s = request.app[LIMITS].keep_alive_s
    while not stream.done:
        deliveries = await stream.take(keep_alive_s)
        if not deliveries:
            await events.keep_alive()
        elif ready := list(chunks.of(deliveries)):
            await events.send(ready)
    if wants_usage:
        await events.send([chunks.usage()])
    await events.done()


@dataclass(slots=True)
class _Chunks:
    """Turns deliveries into chunks; remembers who has spoken and what it cost."""

    form: ChatFormat
    choices: int
    usages: list[Usage] = field(default_factory=list)
    begun: bool = False

    def of(self, deliveries: Sequence[Delivery]) -> Iterator[dict[str, Any]]:
        """The chunks that these make; the role of every choice comes before anything else."""
        if not self.begun:
            self.begun = True
            for choice in range(self.choices):
                yield self.form.chunk(choice, {"role": "assistant", "content": ""})
        for delivery in deliveries:
            yield from self._of(delivery)

    def usage(self) -> dict[str, Any]:
        """The chunk with all choices' token counts."""
        return self.form.usage_chunk(self.usages)

    def _of(self, delivery: Delivery) -> Iterator[dict[str, Any]]:
        event, text = delivery.output.event, delivery.output.text
        logprobs = self.form.logprob_of(event) if isinstance(event, TokenOut) else None
        if text or logprobs:
            yield self.form.chunk(delivery.choice, {"content": text}, logprobs)
        if isinstance(event, Finished):
            self.usages.append(event.usage)
            yield self.form.chunk(delivery.choice, {}, finish_reason=event.reason.value)
