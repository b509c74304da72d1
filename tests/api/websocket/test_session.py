"""A conversation's own rules, without a server."""

import pytest

from service.api.websocket.frames import DoneFrame, ErrorFrame, PreemptedFrame, TokenFrame, TurnTimings, TurnUsage
from service.api.websocket.outlet import Outlet
from service.api.websocket.session import ChatSession
from service.errors import InvalidRequestError, RequestError, SessionBusyError

USER = {"role": "user", "content": "Hi"}


class IdleTurn:
    """A turn that does nothing by itself."""

    def stop(self, error: RequestError | None = None) -> None:
        """Nothing runs."""


def done(number: int) -> DoneFrame:
    counts = dict.fromkeys(TurnUsage.model_fields, 0)
    usage = TurnUsage(**counts)
    timings = TurnTimings(queue_s=None, ttft_s=None, tbt_s=None, stall_s=0, e2e_s=0)
    return DoneFrame(number=number, finish_reason="stop", usage=usage, timings=timings)


@pytest.fixture
def session() -> ChatSession:
    """A session with a turn under way and a reader."""
    session = ChatSession("secret", ("tenant", "user"), "chat-0", [])
    session.attach(Outlet(session, 0, lambda error: None))
    session.begin(IdleTurn(), [USER])
    return session


def texts(frames: list[object]) -> list[tuple[str, int]]:
    return [(frame.text, frame.number) for frame in frames if isinstance(frame, TokenFrame)]


def test_what_waits_comes_out_as_one_frame(session: ChatSession) -> None:
    for text in ("a", "", "b"):
        session.add(text)
    assert texts(session.reader.take()) == [("ab", 3)]
    assert session.reader.take() == []


def test_a_turn_is_under_way_until_its_end_was_sent(session: ChatSession) -> None:
    session.add("a")
    session.finish(done(2))
    with pytest.raises(SessionBusyError):
        session.begin(IdleTurn(), [USER])
    assert session.reader.take()[-1] == done(2)
    assert session.begin(IdleTurn(), [USER]) == [USER, {"role": "assistant", "content": "a"}, USER]


def test_numbers_of_a_truncated_answer_are_not_used_again(session: ChatSession) -> None:
    for text in "abcd":
        session.add(text)
    session.reader.take()
    session.truncate(2)
    session.finish(done(session.newest + 1))
    session.reader.take()
    session.begin(IdleTurn(), [USER])
    session.add("e")
    assert texts(session.reader.take()) == [("e", 6)]
    assert session.history[-1] == {"role": "assistant", "content": "ab"}


def test_a_reader_that_comes_back_after_a_truncation_gets_what_is_left(session: ChatSession) -> None:
    for text in "abcd":
        session.add(text)
    session.reader.take()
    session.truncate(3)
    session.finish(done(5))
    assert texts(Outlet(session, 1, lambda error: None).take()) == [("bc", 3)]


def test_a_cancel_without_a_number_keeps_what_was_sent(session: ChatSession) -> None:
    session.add("a")
    session.reader.take()
    session.add("b")
    session.truncate(None)
    assert session.answer.text == "a"
    assert session.reader.take() == []


@pytest.mark.parametrize("last", [2, 99])
def test_a_client_cannot_have_read_what_was_not_sent(session: ChatSession, last: int) -> None:
    session.add("a")
    session.reader.take()
    session.add("b")
    for refuse in (session.truncate, session.acknowledge):
        with pytest.raises(InvalidRequestError):
            refuse(last)


def test_a_turn_that_failed_without_text_leaves_no_trace(session: ChatSession) -> None:
    session.finish(ErrorFrame(code="x", message="x", status=500, request_id="r", number=1))
    session.reader.take()
    assert session.begin(IdleTurn(), [USER]) == [USER]


def test_a_preemption_that_is_over_before_it_could_be_sent_is_not_sent(session: ChatSession) -> None:
    session.preempted = "slot"
    session.preempted = None
    assert session.reader.take() == []
    session.preempted = "room"
    assert session.reader.take() == [PreemptedFrame(reason="room")]


def test_being_ahead_counts_from_what_was_sent_or_read(session: ChatSession) -> None:
    for text in "abc":
        session.add(text)
    assert session.ahead == 3
    session.reader.take()
    assert session.ahead == 0
    session.acknowledge(1)
    assert session.ahead == 2
    session.detach()
    session.add("d")
    assert session.ahead == 1
