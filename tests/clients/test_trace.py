"""Trace files: ours, ShareGPT's and Mooncake's."""

import json

import pytest

from clients.foreign_traces import read_any_trace
from clients.trace import Trace, TraceConversation, TraceError, TraceTurn, read_trace, write_trace

EVERYTHING = Trace(
    (
        TraceConversation("a", 0.5, (TraceTurn(10, 20), TraceTurn(5, 6, 1.5, cancel_after=0)), "alice", -1),
        TraceConversation(
            "b",
            1.0,
            (TraceTurn(1, 1, at_s=3.0, priority=4, disconnect_after=2),),
            read_tokens_per_s=2.5,
            service_tier="flex",
        ),
        TraceConversation("c", 2.0, (TraceTurn(600, 1, text="Grüß dich"), TraceTurn(3, 4, hash_ids=(7, 8)))),
    ),
    seed=5,
    weights={"alice": 2.0},
    source={"made": "by hand"},
)


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_was_written_is_read(tmp_path):
    write_trace(EVERYTHING, tmp_path / "t.jsonl")
    assert read_any_trace(tmp_path / "t.jsonl") == EVERYTHING


def test_conversations_come_back_in_the_order_of_arrival(tmp_path):
    backwards = Trace(EVERYTHING.conversations[::-1])
    write_trace(backwards, tmp_path / "t.jsonl")
    assert [each.id for each in read_trace(tmp_path / "t.jsonl").conversations] == ["a", "b", "c"]


HEADER = {"format": "fastswitch-trace", "version": 1, "seed": 0}
TALK = {"id": "x", "arrival_s": 0, "turns": [{"user_tokens": 1, "max_tokens": 1}]}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "header"),
        ([{"hello": 1}], "header"),
        ([{**HEADER, "version": 9}], "version 9"),
        ([HEADER, {"id": "x"}], "line 2"),
        ([HEADER, TALK, {**TALK, "mood": "good"}], "line 3"),
        ([HEADER, {**TALK, "turns": []}], "line 2"),
        ([HEADER, {**TALK, "turns": [{"user_tokens": 0, "max_tokens": 1}]}], "line 2"),
        ([HEADER, 5], "line 2"),
    ],
)
def test_a_file_that_is_no_trace_is_reported_by_name_and_line(tmp_path, lines, complaint):
    with pytest.raises(TraceError, match=rf"t\.jsonl.*{complaint}"):
        read_trace(write(tmp_path / "t.jsonl", *lines))


def test_sharegpt_is_read_as_far_as_questions_were_answered(tmp_path):
    def say(who, text):
        return {"from": who, "value": text}

    conversations = [
        {"id": "s1", "conversations": [say("human", "x" * 40), say("gpt", "y" * 80), say("human", "and?")]},
        {"id": "s2", "conversations": [say("system", "Be brief."), say("human", "Hi"), say("gpt", "Hello")]},
        {"id": "s3", "conversations": [say("gpt", "I speak first"), say("human", "Oh")]},
    ]
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(conversations))
    first, second = read_any_trace(path).conversations
    assert first == TraceConversation("s1", None, (TraceTurn(10, 20, text="x" * 40),))
    assert second == TraceConversation("s2", None, (TraceTurn(1, 1, text="Hi"),))


def test_mooncake_is_read_with_its_times_and_blocks(tmp_path):
    path = write(
        tmp_path / "mooncake.jsonl",
        {"timestamp": 27_482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]},
        {"timestamp": 0, "input_length": 100, "output_length": 1, "hash_ids": [46]},
    )
    early, late = read_any_trace(path).conversations
    assert (early.arrival_s, early.turns) == (0.0, (TraceTurn(100, 1, hash_ids=(46,)),))
    assert (late.arrival_s, late.turns) == (27.482, (TraceTurn(6955, 52, hash_ids=(46, 47)),))


@pytest.mark.parametrize("content", ['[{"id": 1}]', "[", '{"timestamp": 1}', "[]"])
def test_a_damaged_foreign_file_is_reported(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_text(content)
    with pytest.raises(TraceError, match="foreign"):
        read_any_trace(path)
