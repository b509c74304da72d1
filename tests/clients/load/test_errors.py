"""Errors are recorded by their kind, and the run goes on."""

import asyncio

import pytest

from clients.load.chat_stream import ChatStreamTarget
from clients.load.openai import OpenAITarget
from clients.report import Outcome
from clients.trace import TraceTurn

OVERLOADED = '{"error": {"message": "come back later", "type": "server_error", "code": "overloaded"}}'
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'


async def test_a_refused_connection_is_recorded(play, trace_of, closed_url):
    driver = await play(closed_url, trace_of(3))
    assert [(record.outcome, record.error) for record in driver.records] == [(Outcome.ERROR, "connect")] * 3


async def test_refusals_are_recorded_with_status_and_code(play, trace_of, server):
    server.refuses(503, OVERLOADED)
    server.refuses(401, "who are you")
    server.says("Hi")
    driver = await play(server.url, trace_of(3), max_concurrency=1)
    assert [record.error for record in driver.records] == ["http 503 overloaded", "http 401", None]


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([CHUNK], "broken stream"),
        ([CHUNK, b"data: rubbish\n\n"], "broken stream"),
        ([CHUNK, b'data: {"error": {"message": "no", "code": "step_failed"}}\n\n'], "error step_failed"),
    ],
)
async def test_a_stream_that_breaks_is_recorded_with_what_came(play, trace_of, server, pieces, kind):
    server.sends(*pieces)
    driver = await play(server.url, trace_of(1))
    (record,) = driver.records
    assert (record.outcome, record.error, len(record.piece_s)) == (Outcome.ERROR, kind, 1)


async def test_a_silent_server_is_a_timeout(play, trace_of, server):
    server.sends(CHUNK, hang=True)
    driver = await play(server.url, trace_of(1), timeout_s=2.0)
    (record,) = driver.records
    assert (record.outcome, record.error, len(record.piece_s)) == (Outcome.ERROR, "timeout", 1)
    async with asyncio.timeout(10):
        await server.abandoned.wait()


async def test_an_error_ends_its_conversation(play, trace_of, server):
    server.refuses(503, OVERLOADED)
    driver = await play(server.url, trace_of(1, turns=[TraceTurn(5, 8), TraceTurn(5, 8)]))
    assert len(driver.records) == 1


async def test_a_refused_websocket_connection_is_recorded(play, trace_of, closed_url):
    driver = await play(closed_url, trace_of(2), target=ChatStreamTarget(closed_url, None, "json"))
    assert [record.error for record in driver.records] == ["connect"] * 2


async def test_a_refused_websocket_handshake_is_recorded(play, trace_of, server):
    driver = await play(server.url, trace_of(1), target=ChatStreamTarget(server.url, None, "json"))
    assert [record.error for record in driver.records] == ["http 404"]


async def test_the_answer_that_came_is_the_next_turns_history(play, trace_of, server):
    server.says("Good", " day")
    server.says("Bye")
    await play(server.url, trace_of(1, turns=[TraceTurn(5, 8), TraceTurn(5, 8)]))
    asked = [message["content"] for message in server.asked[1]["messages"]]
    assert asked[1] == "Good day"
    assert asked[0] == server.asked[0]["messages"][0]["content"]


async def test_only_standard_fields_are_sent_by_default(play, trace_of, server):
    server.says("Hi")
    server.says("Hi")
    await play(server.url, trace_of(1))
    await play(server.url, trace_of(1, priority=3, service_tier="flex"), extra={"ignore_eos": True})
    plain, extended = server.asked
    standard = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "user"}
    assert set(plain) == standard
    assert set(extended) == standard | {"ignore_eos", "priority", "service_tier"}
    assert (extended["priority"], extended["service_tier"]) == (3, "flex")


async def test_each_tenant_sends_its_own_key(play, trace_of, server):
    server.says("Hi")
    server.says("Hi")
    target = OpenAITarget(server.url, "common")
    await play(server.url, trace_of(1, tenant="alice"), target=target, keys={"alice": "hers"})
    await play(server.url, trace_of(1, tenant="bob"), target=OpenAITarget(server.url, "common"))
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer hers", "Bearer common"]
