"""Ours beside peers: what is asked, what is made of the answers, and one round of two servers, ours twice."""

import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp.test_utils import TestServer
from rich.console import Console

from benchmarks.peers.__main__ import commands, described, make, parsed, show
from benchmarks.peers.client import Answer, ChatClient, RequestFailedError
from benchmarks.peers.load import SYSTEM_WORDS, Load, arrivals, prompt
from benchmarks.peers.outcome import FIGURES, outcome, ratios, summary
from benchmarks.peers.rounds import Played, order
from benchmarks.peers.server import ServerFailedError, running
from benchmarks.stub_server import PIECES, PROMPT_TOKENS, StubServer
from service.execution.models.loading import open_model

QUESTION = [{"role": "user", "content": "Why?"}]
SMALL = Load(
    prompt_tokens=30,
    max_tokens=8,
    answers={1: 1, 2: 2},
    long_prompt_tokens=60,
    long_prompts=1,
    conversations_per_s=40.0,
    seconds=0.1,
    turns=2,
    turn_words=8,
    turn_max_tokens=(4, 8),
    think_s=0.0,
)


def test_each_round_has_the_reverse_order_of_the_one_before():
    names = [name for _, name in order(["ours", "a", "b"], 3)]
    assert names == ["ours", "a", "b", "b", "a", "ours", "ours", "a", "b"]


def test_a_summary_has_the_median_and_how_far_rounds_lie_apart():
    found = summary([{"prefill": 100.0}, {"prefill": 130.0, "failed": 0.0}, {"prefill": 120.0}])
    assert found["prefill"] == {"median": 120.0, "spread": 0.25, "rounds": [100.0, 130.0, 120.0]}
    assert found["failed"]["spread"] == 0.0


ROUNDS = {
    "ours": [{"decode_4": 400.0, "ttft_p50": 30.0, "decode_1": 10.0}, {"decode_4": 440.0, "ttft_p50": 50.0}],
    "a": [{"decode_4": 100.0, "ttft_p50": 50.0}, {"decode_4": 110.0, "ttft_p50": 70.0}],
    "b": [{"decode_4": 90.0, "ttft_p50": 900.0}, {"decode_4": 90.0, "ttft_p50": 900.0}],
}


def test_ours_is_held_against_the_peer_that_is_best_at_each_figure():
    found = ratios(ROUNDS)
    assert set(found) == {"decode_4", "ttft_p50"}  # no peer has a decode_1
    assert found["decode_4"] == {"ratio": 4.0, "best_peer": "a", "rounds": [4.0, 4.0], "wanted": 3.5, "holds": True}
    assert (found["ttft_p50"]["best_peer"], found["ttft_p50"]["ratio"]) == ("a", pytest.approx(40 / 60))
    assert found["ttft_p50"]["holds"] is False
    slow = ratios({**ROUNDS, "c": [{"decode_4": 200.0, "ttft_p50": 100.0}]})
    assert (slow["decode_4"]["best_peer"], slow["decode_4"]["holds"]) == ("c", False)
    assert slow["ttft_p50"]["best_peer"] == "a"


def test_a_peer_without_a_command_is_named_as_left_out():
    assert outcome(ROUNDS)["left_out"] == ["llama-server", "vllm"]
    assert outcome({**ROUNDS, "vllm": ROUNDS["a"]})["left_out"] == ["llama-server"]


def test_a_prompt_has_the_wanted_number_of_tokens():
    model = open_model()
    for tokens in (Load().prompt_tokens, Load().long_prompt_tokens):
        text = model.chat_template.render(prompt("a key", tokens))
        assert len(model.tokenizer.encode(text)) == tokens


def test_prompts_begin_differently_and_are_the_same_every_time():
    openings = {prompt(str(number), 198)[0]["content"] for number in range(500)}
    assert len(openings) == 500
    assert all(len(each.split()) == SYSTEM_WORDS for each in openings)
    assert prompt("1", 198) == prompt("1", 198)


def test_conversations_come_at_the_wanted_rate_and_at_the_same_moments_every_time():
    moments = arrivals(replace(Load(), seconds=10_000.0))
    assert moments == sorted(moments)
    assert len(moments) == pytest.approx(7_000, rel=0.05)
    assert arrivals(Load()) == [moment for moment in moments if moment < Load().seconds]


def test_an_answer_is_timed_by_its_chunks_with_text():
    answer = Answer(sent=10.0)
    for now, delta in (
        (10.5, {"role": "assistant", "content": ""}),
        (11.0, {"content": "a"}),
        (13.0, {"content": "b"}),
    ):
        answer.take({"choices": [{"delta": delta}]}, now)
    answer.take({"choices": [{"delta": {}, "finish_reason": "length"}]}, 15.0)
    answer.take({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}, 16.0)
    assert (answer.text, answer.ttft, answer.gaps, answer.own_speed) == ("ab", 1.0, [2.0], 2.0)
    assert (answer.prompt_tokens, answer.cached_tokens) == (7, None)
    with pytest.raises(RequestFailedError, match="out of memory"):
        answer.take({"error": {"message": "out of memory"}}, 17.0)


@pytest.fixture
async def stub() -> AsyncIterator[ChatClient]:
    """A client of a server that gives every request for more than one token an answer of `PIECES` tokens."""
    async with (
        TestServer(StubServer(lambda _: [0.0] * PIECES).app()) as server,
        ChatClient(str(server.make_url(""))) as it,
    ):
        yield it


async def test_an_answer_of_another_length_than_asked_for_is_a_failure(stub: ChatClient):
    answer = await stub.ask(QUESTION, PIECES, "someone")
    assert (answer.prompt_tokens, answer.completion_tokens, len(answer.pieces)) == (PROMPT_TOKENS, PIECES, PIECES)
    with pytest.raises(RequestFailedError, match=f"{PIECES} tokens instead of 9"):
        await stub.ask(QUESTION, 9, "someone")


async def test_a_server_that_ends_early_is_reported_with_its_log(tmp_path: Path):
    with pytest.raises(ServerFailedError, match="exit code 3\nno such model"):
        async with running("sh -c 'echo no such model; exit 3' {port}", tmp_path):
            pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer", "vllm"], "not NAME=COMMAND"),
        (["--peer", "vllm=serve"], "where {port} goes"),
        (["--peer", "ours=serve {port}"], "no name for a peer"),
        (["--peer", "a=x {port}", "--peer", "a=y {port}"], "2 peers have 1 different names"),
    ],
)
def test_a_wrong_peer_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parsed(words)
    assert said in capsys.readouterr().err


async def test_two_servers_take_turns_and_leave_nothing_behind(tiny_model_path: Path):
    mark = f"1000.{os.getpid()}"
    twin = f"sh -c 'sleep {mark} & exec {{python}} -m service.cli serve --port {{port}} --model {{model}}'"
    words = ["--rounds", "1", "--model", str(tiny_model_path), "--ours=--max-model-len 1024", "--peer", f"twin={twin}"]
    flags = parsed(words)
    made: dict[str, list[Played]] = {}
    await make(flags, SMALL, made)
    result = json.loads(json.dumps(described(flags, SMALL, made)))
    assert commands(flags)["ours"].endswith("--model {model} --max-model-len 1024")
    for server in result["servers"].values():
        figures = {name: found["median"] for name, found in server["figures"].items()}
        assert {figure.name for figure in FIGURES} - set(figures) == {"decode_4", "decode_16"}
        assert (figures["failed"], figures["cached_share"] > 0.2) == (0.0, True)  # second turns continue the first
    assert result["servers"]["ours"]["opening"] == result["servers"]["twin"]["opening"] != ""
    assert result["ratios"]["prefill"]["best_peer"] == "twin"
    shown = io.StringIO()
    show(result, Console(file=shown, width=120))
    assert "vllm was left out" in shown.getvalue()
    left = [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]
    assert psutil.wait_procs(left, timeout=5)[1] == []  # a killed process may take a moment to end
