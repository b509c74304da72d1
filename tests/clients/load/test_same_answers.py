"""Under load, while others cancel and vanish, a conversation has the same answers as alone."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from clients.client import Client
from clients.load.command import drive, load_trace
from clients.load.settings import LoadSettings
from clients.protocol import Message
from clients.report import Outcome
from clients.trace import TraceConversation
from service.api.server import app_runner
from service.cli.serve import build
from service.config import parse

ANSWER = 64
SMALL = ["--device-kv", "512KiB", "--max-num-seqs", "6", "--block-group-size", "2", "--policy", "priority"]


@pytest.fixture
async def crowded(tiny_model_path: Path) -> AsyncIterator[str]:
    """A server of the tiny model that has room for few conversations."""
    runner = app_runner(build(parse(["--model", str(tiny_model_path), *SMALL])))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("protocol", ["sse", "websocket-json", "websocket-msgpack"])
async def test_every_answer_under_load_is_the_same_as_alone(crowded, protocol):
    settings = LoadSettings(
        url=crowded,
        protocol=protocol,
        conversations=24,
        conversation_rate=100.0,
        turns="uniform:1,3",
        input_len="uniform:20,60",
        output_len=str(ANSWER),
        cancel_rate=0.2,
        disconnect_rate=0.1,
        tenant=["early:priority=0", "late:priority=1"],
        seed=7,
    )
    said: dict[str, list[Message]] = {}

    def note(conversation: TraceConversation, history: list[Message]) -> None:
        said[conversation.id] = history

    run = await drive(settings, load_trace(settings), Console(quiet=True), note)
    outcomes = [record.outcome for record in run.records]
    assert {Outcome.OK, Outcome.CANCELLED, Outcome.DISCONNECTED} == set(outcomes), json.dumps(
        [record.error for record in run.records]
    )
    if protocol != "sse":  # SSE does not report them
        assert sum(record.preemptions or 0 for record in run.records) > 0
    whole = 0
    async with Client(crowded) as client:
        for name, history in said.items():
            for index in range(1, len(history), 2):
                alone = await client.complete(
                    history[:index], max_tokens=ANSWER, temperature=0, ignore_eos=True, user=f"alone-{name}-{index}"
                )
                assert alone.text.startswith(history[index]["content"])
                whole += alone.text == history[index]["content"]
    assert whole >= outcomes.count(Outcome.OK)
