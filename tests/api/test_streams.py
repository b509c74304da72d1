"""Outputs between the engine's thread and the handlers: their order, bounds and ends."""

import threading
from dataclasses import replace

import pytest

from service.api.streams import BUFFERED_OUTPUTS, Streams
from service.core.messages.commands import Cancel, Submit
from service.core.messages.events import (
    Event,
    Finished,
    FinishReason,
    Refused,
    SessionDropped,
    Timings,
    TokenOut,
    Usage,
)
from service.core.messages.sampling import SamplingParams
from service.engine import Listener, Output, Turn
from service.errors import InternalError, LoadingError, NeverFitsError, SlowReaderError


@pytest.fixture
def buffers() -> None:
    """Leave the buffers as they are."""


class Desk:
    """An engine that does nothing but keep what it was sent."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None
        self.step_age_s = 0.0
        self.posted: list[Turn | Cancel] = []
        self.listener: Listener = lambda outputs: None

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def post(self, item: Turn | Cancel) -> None:
        self.posted.append(item)

    def stop(self) -> None:
        pass

    @property
    def cancelled(self) -> set[str]:
        return {item.request_id for item in self.posted if isinstance(item, Cancel)}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
async def streams(desk: Desk, seen: list[Event]) -> Streams:
    streams = Streams(desk, seen.append)
    streams.start()
    return streams


def turn(request_id: str) -> Turn:
    return Turn(Submit(request_id, (1,), 9, SamplingParams(), frozenset(), None))


def token(request_id: str, index: int = 0) -> Output:
    return Output(TokenOut(request_id, index, 7, None, 0.1), f"{request_id}{index}")


def end(request_id: str, reason: FinishReason = FinishReason.STOP) -> Output:
    return Output(Finished(request_id, reason, Usage(1, 1, 0, 0, 0), Timings(0.0, 0.0, 0.0)))


async def test_each_stream_gets_its_own_outputs_in_order(desk, streams):
    with streams.open([turn("a")]) as a, streams.open([turn("b")]) as b:
        desk.listener([token("a", 0), token("b", 0), token("a", 1)])
        assert [delivery.output.text for delivery in await a.take()] == ["a0", "a1"]
        assert [delivery.output.text for delivery in await b.take()] == ["b0"]


async def test_outputs_may_come_from_another_thread(desk, streams):
    with streams.open([turn("a")]) as stream:
        threading.Thread(target=desk.listener, args=([token("a")],)).start()
        assert len(await stream.take()) == 1


async def test_choices_share_a_stream_and_keep_their_numbers(desk, streams):
    with streams.open([turn("a-0"), turn("a-1")]) as stream:
        desk.listener([token("a-1"), token("a-0")])
        assert [delivery.choice for delivery in await stream.take()] == [1, 0]


async def test_a_stream_is_done_when_all_choices_ended_and_were_taken(desk, streams):
    with streams.open([turn("a-0"), turn("a-1")]) as stream:
        desk.listener([end("a-0")])
        await stream.take()
        assert not stream.done
        desk.listener([end("a-1")])
        await stream.take()
        assert stream.done
    assert desk.cancelled == set()


async def test_leaving_cancels_what_has_not_ended(desk, streams):
    with streams.open([turn("a-0"), turn("a-1")]) as stream:
        desk.listener([end("a-0")])
        await stream.take()
    assert desk.cancelled == {"a-1"}


async def test_what_comes_after_leaving_is_observed_and_dropped(desk, streams, seen):
    with streams.open([turn("a")]):
        pass
    with streams.open([turn("b")]) as other:
        desk.listener([token("a"), end("a", FinishReason.CANCELLED), end("b")])
        await other.take()
    assert [type(event) for event in seen] == [TokenOut, Finished, Finished]


async def test_events_of_unknown_requests_are_observed(desk, streams, seen):
    with streams.open([turn("a")]) as stream:
        desk.listener([Output(SessionDropped("room", 5)), token("a")])
        await stream.take()
    assert isinstance(seen[0], SessionDropped)


async def test_silence_ends_in_nothing(streams):
    with streams.open([turn("a")]) as stream:
        assert await stream.take(timeout_s=0.001) == []


async def test_a_refusal_raises_the_error_that_core_named(desk, streams):
    with streams.open([turn("a-0"), turn("a-1")]) as stream:
        desk.listener([Output(Refused("a-0", "kv_capacity_exceeded", "too large"))])
        with pytest.raises(NeverFitsError, match="too large"):
            await stream.take()
    assert desk.cancelled == {"a-1"}


@pytest.mark.parametrize(
    ("error", "raised"), [(None, InternalError("the model failed on this request")), (LoadingError("not yet"),) * 2]
)
async def test_an_answer_that_breaks_raises_what_is_known_of_it(desk, streams, error, raised):
    with streams.open([turn("a")]) as stream:
        desk.listener([token("a"), replace(end("a", FinishReason.ERROR), error=error)])
        with pytest.raises(type(raised), match=raised.message):
            await stream.take()
    assert desk.cancelled == set()


async def test_a_full_buffer_cancels_and_is_emptied(desk, streams):
    with streams.open([turn("a")]) as stream:
        desk.listener([token("a", index) for index in range(BUFFERED_OUTPUTS + 1)])
        with pytest.raises(SlowReaderError):
            await stream.take()
        assert desk.cancelled == {"a"}
        assert not stream._buffer
        desk.listener([token("a", 5000)])
        with pytest.raises(SlowReaderError):
            await stream.take()


async def test_a_buffer_that_is_just_full_is_kept(desk, streams):
    with streams.open([turn("a")]) as stream:
        desk.listener([token("a", index) for index in range(BUFFERED_OUTPUTS)])
        assert len(await stream.take()) == BUFFERED_OUTPUTS


async def test_all_streams_can_be_ended_at_once(desk, streams):
    with streams.open([turn("a")]) as a, streams.open([turn("b-0"), turn("b-1")]) as b:
        streams.close(InternalError("over"))
        for stream in (a, b):
            with pytest.raises(InternalError, match="over"):
                await stream.take()
    assert desk.cancelled == {"a", "b-0", "b-1"}


async def test_a_broken_engine_takes_nothing(desk, streams):
    desk.failed = RuntimeError()
    with pytest.raises(InternalError, match="restarted"):
        streams.open([turn("a")])
    assert not streams.healthy
    assert desk.posted == []


async def test_a_failing_engine_ends_every_stream(desk, streams):
    with streams.open([turn("a")]) as stream:
        desk.failed = RuntimeError()
        desk.listener([])
        with pytest.raises(InternalError, match="restarted"):
            await stream.take()
