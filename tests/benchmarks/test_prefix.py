"""Prefixes seen from outside: counters are read right, what is compared is the same, and what must hold is judged."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.peers.client import Answer, ChatClient, Messages
from benchmarks.peers.commands import serve
from benchmarks.peers.server import running
from benchmarks.prefix import cost, crowd, everyday, multi_turn, trace
from benchmarks.prefix.__main__ import commands, compare, parsed, stored
from benchmarks.prefix.clients import CLIENTS, Reply
from benchmarks.prefix.counters import Counts, UnknownCountersError, counts_in
from benchmarks.prefix.outcome import outcome
from benchmarks.record import store
from benchmarks.stub_server import PIECES, PROMPT_TOKENS, StubServer
from service.execution.models.loading import open_model

CHATS = trace.Sizes(
    conversations=4,
    turns=2,
    system_words=40,
    user_words=(4, 8),
    assistant_words=(4, 8),
    max_tokens=4,
    begin_s=0.1,
    think_s=(0.1, 0.2),
    for_each_fitting=1,
)


def test_counters_of_ours_and_of_vllm_are_read_from_among_their_likes():
    ours = {
        "fastswitch_prompt_tokens_total": 100.0,
        "fastswitch_computed_tokens_total{phase=prefill}": 70.0,
        "fastswitch_computed_tokens_total{phase=decode}": 9.0,
        "fastswitch_tenant_prompt_tokens_total{tenant=a}": 50.0,
    }
    assert counts_in(ours) == Counts(100, 70)
    name = "vllm:prompt_tokens_by_source_total{engine=%d}{model_name=m}{source=%s}"
    vllm = {
        "vllm:prompt_tokens_total{engine=0}{model_name=m}": 100.0,
        "vllm:prompt_tokens_total{engine=1}{model_name=m}": 20.0,
        name % (0, "local_compute"): 60.0,
        name % (1, "local_compute"): 20.0,
        name % (0, "local_cache_hit"): 40.0,
    }
    assert counts_in(vllm) == Counts(120, 80)


def test_a_server_without_known_counters_is_not_taken_for_one_that_computed_nothing():
    with pytest.raises(UnknownCountersError, match="1 samples"):
        counts_in({"fastswitch_prompt_tokens_total": 100.0})


def test_a_trace_is_the_same_every_time_and_each_turn_continues_the_one_before():
    chats = trace.draw(trace.Sizes())
    assert trace.digest(chats) == trace.digest(trace.draw(trace.Sizes()))
    assert trace.digest(chats) != trace.digest(trace.draw(trace.Sizes(max_tokens=17)))
    assert len({json.dumps(chat.prompt(0)) for chat in chats}) == len(chats) == 200
    for chat in chats:
        assert list(chat.due_s) == sorted(chat.due_s)
        assert [message["role"] for message in chat.prompt(1)] == ["system", "user", "assistant", "user"]
        assert chat.prompt(1)[:2] == chat.prompt(0)
        assert chat.prompt(len(chat.due_s) - 1) == chat.messages


def test_memory_is_that_of_a_share_of_all_conversations(tiny_model_path: Path):
    chats = trace.draw(CHATS)
    lengths = [_tokens(tiny_model_path, chat.messages) + CHATS.max_tokens for chat in chats]
    all_of_them = sum(-(-length // 16) for length in lengths) * trace.block_bytes(tiny_model_path)
    assert trace.kv_bytes(CHATS, chats, tiny_model_path) == all_of_them
    half = replace(CHATS, for_each_fitting=2)
    assert trace.kv_bytes(half, chats, tiny_model_path) == pytest.approx(all_of_them / 2, rel=0.1)


def test_every_server_has_the_same_bytes_of_kv():
    flags = parsed(["--peer", "vllm=serve {port} {kv_bytes}", "--ours=--preset full"])
    found = commands(flags, 1_000)
    assert found["vllm"] == "serve {port} 1000"
    assert "--device-kv 750 --host-kv 250 --preset full" in found["ours"]
    assert found["none"] == f"{found['ours']} --no-enable-prefix-caching"
    assert list(commands(parsed(["--peers-only"]), 1)) == []


def test_the_crowd_needs_one_prefix_and_every_tail(tiny_model_path: Path):
    sizes = crowd.Sizes(conversations=5, system_words=50, user_words=20, max_tokens=17)
    prompts = [_tokens(tiny_model_path, crowd.prompt(sizes, number)) for number in range(2)]
    need = crowd.need_of(tiny_model_path, sizes)
    assert need.alone == -(-(max(prompts) + 16) // 16)
    assert 50 // 16 <= need.shared < min(prompts) // 16
    assert need.blocks(5) == need.shared + 5 * (need.alone - need.shared)


def test_what_a_later_turn_did_not_reuse_is_told_by_tokens_and_by_blocks_of_the_prompt():
    chats = [
        [Reply("", 100, 20, 0), Reply("", 150, 20, 119), Reply("", 200, 20, 169)],  # all but the last token
        [Reply("", 100, 20, 0), Reply("", 150, 20, 95)],  # not even the whole blocks of its prompt
    ]
    found = everyday.figures(chats, Counts(700, 320))
    assert (found["turns"], found["later_turns"], found["history_tokens"]) == (5, 3, 120 + 170 + 120)
    assert (found["missed_p50"], found["missed_max"], found["prompt_missed"]) == (1, 25, 1)
    assert (found["prompt_tokens"], found["cached_tokens"], found["unsaid"]) == (700, 383, 320 - 317)


@pytest.mark.parametrize(("unsaid", "holds"), [(1, False), (0, True), (-3, True), (-4, False)])
def test_the_runners_count_may_only_lack_last_tokens_that_were_computed_alone(unsaid: int, holds: bool):
    client = {"turns": 3, "prompt_missed": 0, "unsaid": unsaid}
    strangers = [{"client": name, "turns": 1, "unsaid": 0, "cached_tokens": 600} for name in "ab"]
    found = outcome({"everyday": {"sizes": {"system_words": 600}, "clients": {"curl": client}, "strangers": strangers}})
    assert {each["name"]: each["holds"] for each in found["criteria"]} == {
        "later_turns_missed": True,
        "unsaid_tokens": holds,
        "stranger_blocks": True,
    }


def _server(computed: int, prompts: int = 1_000, failed: int = 0) -> dict[str, int]:
    return {"prompt_tokens": prompts, "computed_tokens": computed, "failed": failed}


def test_ours_is_held_against_the_vllm_that_computed_least():
    servers = {"ours": _server(300), "none": _server(900), "vllm": _server(500), "vllm-16": _server(400)}
    found = outcome({"multi-turn": {"servers": servers}})
    assert (found["computed_vs_vllm"], found["computed_vs_none"]) == (0.75, pytest.approx(1 / 3))
    assert found["criteria"][0]["worst"] == "vllm-16"
    servers["ours"] = _server(401)
    assert [each["holds"] for each in outcome({"multi-turn": {"servers": servers}})["criteria"]] == [False, True]


@pytest.mark.parametrize("other", [_server(400, prompts=999), _server(400, failed=1)])
def test_other_prompts_and_failures_are_not_compared(other: dict[str, int]):
    found = outcome({"multi-turn": {"servers": {"ours": _server(300), "vllm": other}}})
    assert "computed_vs_vllm" not in found


async def test_chats_strangers_and_a_crowd_are_counted_by_a_server(tiny_model_path: Path):
    sizes = everyday.Sizes(
        conversations=2, turns=2, turn_words=8, max_tokens=(4, 8), begin_s=0.1, think_s=0.1, system_words=40
    )
    many = crowd.Sizes(conversations=6, system_words=60, user_words=8, max_tokens=8)
    async with running(serve(tiny_model_path), tiny_model_path) as server:
        for name, ask in CLIENTS.items():
            found = await everyday.chats(server, name, ask, sizes)
            assert (found["turns"], found["later_turns"]) == (4, 2)
            assert -4 <= found["unsaid"] <= 0
            assert found["computed_tokens"] > 0
        beside = await everyday.strangers(server, sizes)
        assert [each["client"] for each in beside] == list(CLIENTS)
        assert all(-1 <= each["unsaid"] <= 0 for each in beside)
        gathered = await crowd.gather(server, many)
    assert gathered["answered"] == 6
    assert 0 < gathered["computed_tokens"] <= gathered["prompt_tokens"]
    assert gathered["first_ttft_s"] > 0 < gathered["later_ttft_s"]


def test_searches_are_among_so_many_prefixes_and_agree_as_they_are_meant_to():
    sizes = cost.Sizes(prompt_tokens=96, system_tokens=48, prefixes=20, depth=4)
    table, wide, deep = cost.cached(sizes, Random(1))
    assert 20 <= table.num_prefixes <= 21
    found = table.find(cost.SCOPE, wide)
    assert (found.tokens, found.prefix and found.prefix.end) == (95, 80)  # and one of two branches there
    found = table.find(cost.SCOPE, deep)
    assert found.prefix is not None
    assert (found.tokens, len(list(found.prefix.path_up))) == (95, 4)


def test_requests_of_each_kind_are_as_long_and_agree_only_where_they_share():
    made = {kind: list(islice(cost.requests(kind), 60)) for kind in ("alone", "apart", "shared")}
    lengths = [[len(each.prompt) for each in submits] for submits in made.values()]
    assert lengths[0] == lengths[1] == lengths[2]
    assert {kind: len({each.prompt[:16] for each in submits}) for kind, submits in made.items()} == {
        "alone": 60,
        "apart": 60,
        "shared": 1,
    }
    assert {each.scope for each in made["alone"]} == {None}


@asynccontextmanager
async def _showing(lines: Iterator[str]) -> AsyncIterator[str]:
    """Serve /metrics, each time with the next text, and yield the address."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=next(lines))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_gauges_are_collected_while_the_crowd_is_there():
    all_shown = asyncio.Event()

    def lines() -> Iterator[str]:
        for count in (3, 9, 4):
            yield f"{crowd.RUNNING} {count}\n{crowd.USED} 7\n"
        all_shown.set()
        yield from repeat(f"{crowd.RUNNING} 0\n{crowd.USED} 5\n")

    async with _showing(lines()) as url, crowd.watched(url) as seen:
        await all_shown.wait()
    assert seen[crowd.RUNNING][:4] == [0, 3, 9, 4]
    assert max(seen[crowd.USED]) == 7


async def test_a_missing_gauge_is_an_error_and_not_zero():
    async with _showing(repeat(f"{crowd.RUNNING} 1\n")) as url:
        with pytest.raises(ExceptionGroup) as raised:
            async with crowd.watched(url):
                await asyncio.Event().wait()
    assert isinstance(raised.value.exceptions[0], KeyError)


async def test_stored_figures_stay_as_long_as_trace_and_memory_are_the_same(tiny_model_path: Path, tmp_path: Path):
    flags = parsed(["--peers-only", "--peer", f"twin={serve(tiny_model_path)}", "--model", str(tiny_model_path)])
    parts: dict[str, Any] = {}
    await compare(flags, tiny_model_path, CHATS, parts)
    twin = parts["multi-turn"]["servers"]["twin"]
    assert (twin["turns"], twin["failed"]) == (8, 0)
    assert 0 < twin["computed_tokens"] <= twin["prompt_tokens"]
    store("prefix", outcome(parts), folder=tmp_path)
    kept = stored(tmp_path)
    assert kept == json.loads(json.dumps(parts))
    none = parsed(["--peers-only"])
    await compare(none, tiny_model_path, CHATS, kept)
    assert list(kept["multi-turn"]["servers"]) == ["twin"]
    await compare(none, tiny_model_path, replace(CHATS, turns=3), kept)
    assert kept["multi-turn"]["servers"] == {}


async def test_turns_are_sent_in_the_order_in_which_they_are_due_however_slow_the_server(
    monkeypatch: pytest.MonkeyPatch,
):
    chats = trace.draw(replace(CHATS, conversations=3, turns=3, begin_s=0.02, think_s=(0.0, 0.02)))
    client = _SlowClient()
    monkeypatch.setattr(multi_turn, "settled", client.settled)
    played = await multi_turn.play(client, chats, in_flight=2)  # type: ignore[arg-type]
    order = [(number, turn) for _, number, turn in multi_turn.in_order(chats)]
    assert client.asked == [chats[number].prompt(turn) for number, turn in order]
    assert (client.most, played.turns, played.failed) == (2, 9, 0)


class _SlowClient:
    """Takes longer for an answer than the trace is long, and notes what it is asked."""

    url = ""

    def __init__(self) -> None:
        self.asked: list[Messages] = []
        self.most = self._open = 0

    async def ask(self, messages: Messages, max_tokens: int) -> Answer:
        self.asked.append(messages)
        self._open += 1
        self.most = max(self.most, self._open)
        await asyncio.sleep(0.05)
        self._open -= 1
        return Answer(sent=0.0, prompt_tokens=1, completion_tokens=max_tokens)

    async def settled(self, _: str) -> Counts:
        return Counts(len(self.asked), 0)


async def test_a_counter_that_disagrees_with_the_answers_is_an_error(monkeypatch: pytest.MonkeyPatch):
    counted = iter([Counts(0, 0), Counts(1, 1)])

    async def settled(_: str) -> Counts:
        return next(counted)

    monkeypatch.setattr(multi_turn, "settled", settled)
    stub = StubServer(lambda _: [0.0] * PIECES)
    async with TestServer(stub.app()) as server, ChatClient(str(server.make_url(""))) as client:
        with pytest.raises(multi_turn.CountsDifferError, match=f"counts 1 prompt tokens, answers {PROMPT_TOKENS}"):
            await multi_turn.play(client, trace.draw(replace(CHATS, conversations=1, turns=1, max_tokens=PIECES)), 1)


def _tokens(model: Path, messages: Messages) -> int:
    opened = open_model(model)
    return len(opened.tokenizer.encode(opened.chat_template.render(messages)))
