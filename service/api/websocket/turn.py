"""One turn of a chat session: it is prepared, runs in the engine, and ends with a frame."""

import secrets
from collections.abc import Sequence

import structlog
from aiohttp import web

from service.api.access.caller import Caller
from service.api.context import DOOR, LIMITS, MODEL, STREAMS, WAITING_LINE, ServedModel
from service.api.executor import in_executor
from service.api.openai.turns import GenerationRequest, check_model, encode_chat, make_turns
from service.api.streams import AnswerStream
from service.api.waiting_line import REPORT_EVERY_S
from service.api.websocket.frames import DoneFrame, ErrorFrame, TurnFrame, TurnTimings, TurnUsage, error_frame
from service.api.websocket.session import ChatMessage, ChatSession
from service.core.messages.events import Finished, FinishReason, Preempted, Resumed, Timings, TokenOut, Usage
from service.engine import Output, Turn
from service.errors import InternalError, RequestError, SlowReaderError

log = structlog.get_logger(__name__)


class RunningTurn:
    """Runs one turn, from the frame that asks for an answer to the frame that ends it."""

    def __init__(self, app: web.Application, session: ChatSession, frame: TurnFrame, caller: Caller) -> None:
        self.request_id = f"turn-{secrets.token_hex(16)}"
        self._app = app
        self._session = session
        opened_with = {"user": session.owner[1] or None, "cache_salt": session.cache_salt}
        self._frame = frame.model_copy(update=opened_with)
        self._caller = caller
        self._stream: AnswerStream | None = None
        self._stopped = False
        self._error: RequestError | None = None  # why it was stopped
        self._account = _Account(app[MODEL].block_bytes)

    def stop(self, error: RequestError | None = None) -> None:
        """End the turn. Later outputs are not part of the answer."""
        self._stopped = True
        self._error = self._error or error
        if self._stream is not None:
            self._stream.stop_answer()

    async def run(self, messages: Sequence[ChatMessage]) -> None:
        """Answer ``messages``. Whatever happens, the session receives an end, unless the session itself ends."""
        try:
            with self._app[DOOR].enter(self._caller.tenant):
                turn = await in_executor(self._app, self._prepare, messages, self._app[MODEL])
                if not self._stopped:
                    await self._answer(turn)
            end = self._end()
        except RequestError as error:
            end = self._failed(error)
        except Exception:
            log.exception("turn_failed", request_id=self.request_id)
            end = self._failed(InternalError())
        self._session.finish(end)

    def _prepare(self, messages: Sequence[ChatMessage], model: ServedModel) -> Turn:
        """Render, tokenise and bound, on a thread of the executor."""
        frame, session = self._frame, self._session.name
        check_model(frame.model, model)
        prompts = [encode_chat(messages, model, frame.chat_template_kwargs)]
        asked = GenerationRequest(
            self.request_id, frame, prompts, "messages", max_tokens=frame.answer_limit, session=session
        )
        (turn,) = make_turns(asked, model, self._caller)
        return turn

    async def _answer(self, turn: Turn) -> None:
        with self._app[STREAMS].open([turn]) as self._stream:
            await self._wait_in_line(self._stream)
            while not self._stream.done:
                for delivery in await self._stream.take():
                    self._take(delivery.output)

    async def _wait_in_line(self, stream: AnswerStream) -> None:
        """Tell the session its place in the queue from time to time, until the answer has begun or ended."""
        silence_s = REPORT_EVERY_S
        while not await stream.has_news(silence_s):
            self._session.note_place(place := self._app[WAITING_LINE].place(stream.request_ids))
            if place is None:
                return
            silence_s = place.told_again_s
        self._session.note_place(None)

    def _take(self, output: Output) -> None:
        session, event = self._session, output.event
        self._account.observe(output)
        match event:
            case Preempted(reason=reason):
                session.preempted = reason
                session.wake()
            case Resumed(parked_s=parked_s):
                session.preempted, session.last_stall_s = None, parked_s
                session.wake()
        if not self._stopped and (isinstance(event, TokenOut) or output.text):
            session.add(output.text)
            self._stop_if_far_ahead()

    def _stop_if_far_ahead(self) -> None:
        limit = self._app[LIMITS].reconnect_buffer
        if self._session.ahead > limit:
            self.stop(SlowReaderError(f"the client is {limit} tokens behind"))

    def _end(self) -> DoneFrame | ErrorFrame:
        if self._error is not None:
            return self._failed(self._error)
        return self._account.done(self._session.newest + 1, self._stopped)

    def _failed(self, error: RequestError) -> ErrorFrame:
        return error_frame(error, self.request_id, self._session.newest + 1)


class _Account:
    """The usage and timings of a turn, from its events. ``block_bytes``: of a KV block."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._finished: Finished | None = None
        self._gaps_s: list[float] = []

    def observe(self, output: Output) -> None:
        match output.event:
            case TokenOut(index=index, gap_s=gap_s) if index:
                self._gaps_s.append(gap_s)
            case Finished():
                self._finished = output.event

    def done(self, number: int, stopped: bool) -> DoneFrame:
        """Return the end of a turn that succeeded, or that was ``stopped``, maybe before core learned of it."""
        finished = self._finished
        reason = FinishReason.CANCELLED if stopped or finished is None else finished.reason
        return DoneFrame(number=number, finish_reason=reason, usage=self._usage(), timings=self._timings())

    def _usage(self) -> TurnUsage:
        usage = Usage(0, 0, 0, 0, 0) if self._finished is None else self._finished.usage
        return TurnUsage(
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            reused_tokens=usage.reused,
            recomputed_tokens=usage.recomputed,
            preemptions=usage.preemptions,
            swapped_bytes=usage.swapped_blocks * self._block_bytes,
        )

    def _timings(self) -> TurnTimings:
        times = Timings(None, None, 0.0) if self._finished is None else self._finished.timings
        tbt_s = sum(self._gaps_s) / len(self._gaps_s) if self._gaps_s else None
        return TurnTimings(
            queue_s=times.queue_s, ttft_s=times.ttft_s, tbt_s=tbt_s, stall_s=times.stall_s, e2e_s=times.e2e_s
        )
