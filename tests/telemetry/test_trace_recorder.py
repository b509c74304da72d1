"""The trace that the server records, which a load test can replay."""

import os
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pytest

from clients.trace import TraceTurn, read_trace
from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Refused, Timings, Usage
from service.core.messages.sampling import SamplingParams
from service.engine import Turn as Posted
from service.errors import ConfigError
from service.telemetry.trace_recorder import TraceRecorder

PATIENCE_S = 30.0


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def posted(name: str, prompt: range, **fields) -> Posted:
    values = {"scope": ("acme", "", ""), "tenant": "acme", "user": "ann", "max_tokens": 100, **fields}
    return Posted(Submit(name, tuple(prompt), sampling_params=SamplingParams(), stop_tokens=frozenset(), **values))


def finished(name: str, answered: int, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(name, reason, Usage(0, answered, 0, 0, 0), Timings(None, None, 0.0))


def turn(recorder, clock, name, prompt, answered, at, until, reason=FinishReason.STOP, **fields):
    clock.now = at
    recorder.admit([posted(name, prompt, **fields)])
    clock.now = until
    recorder.observe(finished(name, answered, reason))


def test_turns_whose_prompts_continue_each_other_are_one_conversation(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102)
    turn(recorder, clock, "b", range(500, 530), 5, at=101, until=103)
    turn(recorder, clock, "c", range(80), 7, at=105, until=106, priority=2)
    recorder.close()
    first, second = read_trace(tmp_path / "t.jsonl").conversations
    assert (first.arrival_s, second.arrival_s) == (0.0, 1.0)
    assert first.turns == (TraceTurn(50, 10), TraceTurn(20, 7, 3.0, priority=2))
    assert second.turns == (TraceTurn(30, 5),)
    assert first.tenant == "acme"


def test_background_work_is_recorded_as_such(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102, background=True)
    turn(recorder, clock, "b", range(500, 530), 5, at=101, until=103)
    recorder.close()
    assert [each.service_tier for each in read_trace(tmp_path / "t.jsonl").conversations] == ["flex", None]


def test_an_address_is_a_pseudonym_that_tells_clients_apart(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    for number, host in enumerate((7, 7, 8)):
        start = 1000 * number
        turn(recorder, clock, str(number), range(start, start + 9), 1, 100, 101, tenant=f"address:192.0.2.{host}")
    recorder.close()
    one, again, other = (each.tenant for each in read_trace(tmp_path / "t.jsonl").conversations)
    assert one == again != other
    assert "192.0.2" not in (tmp_path / "t.jsonl").read_text()


def test_the_header_says_how_priorities_came_about(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock, {"policy": "random", "priority_seed": 3})
    recorder.close()
    source = read_trace(tmp_path / "t.jsonl").source
    assert (source["policy"], source["priority_seed"]) == ("random", 3)
    assert "recorded_at" in source


def test_turns_of_a_named_session_are_one_conversation(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102, session="s")
    turn(recorder, clock, "b", range(7, 90), 10, at=103, until=104, session="s")
    recorder.close()
    (only,) = read_trace(tmp_path / "t.jsonl").conversations
    assert only.turns == (TraceTurn(50, 10), TraceTurn(23, 10, 1.0))


def test_turns_whose_kv_is_not_reused_are_a_conversation_too(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102, scope=None)
    turn(recorder, clock, "b", range(80), 7, at=105, until=106, scope=None)
    recorder.close()
    (only,) = read_trace(tmp_path / "t.jsonl").conversations
    assert only.turns == (TraceTurn(50, 10), TraceTurn(20, 7, 3.0))


def test_a_turn_goes_on_with_the_conversation_that_it_agrees_with_longest(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "long", range(50), 10, at=100, until=101)
    turn(recorder, clock, "short", range(20), 10, at=102, until=103)
    turn(recorder, clock, "next", range(80), 7, at=105, until=106)
    recorder.close()
    assert [each.turns for each in read_trace(tmp_path / "t.jsonl").conversations] == [
        (TraceTurn(50, 10), TraceTurn(20, 7, 4.0)),
        (TraceTurn(20, 10),),
    ]


@pytest.mark.parametrize("other", [{"scope": ("acme", "", "salt")}, {"user": "bob"}, {"tenant": "x"}, {"session": "s"}])
def test_nothing_is_linked_across_users(tmp_path, clock, other):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102)
    turn(recorder, clock, "b", range(80), 10, at=103, until=104, **other)
    recorder.close()
    assert len(read_trace(tmp_path / "t.jsonl").conversations) == 2


def test_a_cancelled_turn_says_where_it_was_cancelled(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 3, at=100, until=102, reason=FinishReason.CANCELLED)
    recorder.close()
    (only,) = read_trace(tmp_path / "t.jsonl").conversations
    assert only.turns == (TraceTurn(50, 100, cancel_after=3),)


def test_refused_turns_leave_nothing(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    recorder.admit([posted("a", range(5))])
    recorder.observe(Refused("a", "queue_full", "no"))
    recorder.close()
    assert read_trace(tmp_path / "t.jsonl").conversations == ()


@pytest.mark.parametrize("named", [{}, {"session": "s"}])
def test_a_refused_turn_that_is_asked_again_is_the_conversations_next(tmp_path, clock, named):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102, **named)
    clock.now = 103
    recorder.admit([posted("b", range(80), **named)])
    recorder.observe(Refused("b", "server_overloaded", "no"))
    turn(recorder, clock, "c", range(80), 7, at=105, until=106, **named)
    recorder.close()
    (only,) = read_trace(tmp_path / "t.jsonl").conversations
    assert only.turns == (TraceTurn(50, 10), TraceTurn(20, 7, 3.0))


@pytest.mark.parametrize("named", [{}, {"session": "s"}])
def test_a_turn_without_an_answer_is_no_part_of_the_history(tmp_path, clock, named):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102, **named)
    turn(recorder, clock, "b", range(80), 0, at=103, until=104, reason=FinishReason.CANCELLED, **named)
    turn(recorder, clock, "c", (*range(60), *range(900, 905)), 7, at=105, until=106, **named)
    recorder.close()
    (only,) = read_trace(tmp_path / "t.jsonl").conversations
    assert [each.user_tokens for each in only.turns] == [50, 20, 5]


def test_what_is_written_is_in_the_file_at_once(tmp_path, clock):
    path, lines = tmp_path / "t.jsonl", SimpleQueue()
    os.mkfifo(path)

    def read() -> None:
        with path.open() as file:
            for line in file:
                lines.put(line)

    Thread(target=read, daemon=True).start()
    recorder = TraceRecorder(path, 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102)
    turn(recorder, clock, "b", range(500, 510), 1, at=170, until=171)
    assert "fastswitch-trace" in lines.get(timeout=PATIENCE_S)
    assert '"id":"c0"' in lines.get(timeout=PATIENCE_S)
    recorder.close()


def test_a_full_disk_ends_the_trace_and_keeps_nothing_in_memory(clock):
    recorder = TraceRecorder(Path("/dev/full"), 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102)
    recorder.close()
    assert recorder._items.empty()


def test_a_silent_conversation_is_written_before_the_end_and_not_continued(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(50), 10, at=100, until=102)
    turn(recorder, clock, "b", range(500, 510), 1, at=170, until=171)
    turn(recorder, clock, "c", range(80), 10, at=172, until=173)
    recorder.close()
    assert [len(each.turns) for each in read_trace(tmp_path / "t.jsonl").conversations] == [1, 1, 1]


def test_no_token_is_in_the_file(tmp_path, clock):
    recorder = TraceRecorder(tmp_path / "t.jsonl", 60.0, clock)
    turn(recorder, clock, "a", range(31337, 31400), 10, at=100, until=102)
    recorder.close()
    assert "31337" not in (tmp_path / "t.jsonl").read_text()


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--record-trace .*: Is a directory"):
        TraceRecorder(tmp_path, 60.0)
