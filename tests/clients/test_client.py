"""The client against a scripted server: streams, errors, time-outs and closing."""

import asyncio
import json
from contextlib import aclosing

import pytest

from clients.client import Client
from clients.errors import (
    AccessDeniedError,
    APIError,
    BadRequestError,
    ClientError,
    ConnectionLostError,
    NotFoundError,
    OverloadedError,
    ServerFaultError,
    ServerTimeoutError,
    UnreachableError,
)
from clients.protocol import Model, Usage

HELLO = [{"role": "user", "content": "Hello"}]
CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'


def error_body(**fields) -> str:
    return json.dumps({"error": {"message": "no", "type": "some_error", "param": None, "code": None, **fields}})


async def text_of(client: Client, **options) -> str:
    return "".join([chunk.text async for chunk in client.chat(HELLO, **options)])


async def test_streams_text_then_finish_reason_and_usage(server):
    server.says("Hi", " there", prompt=12, cached=7)
    async with Client(server.url) as client:
        chunks = [chunk async for chunk in client.chat(HELLO)]
    assert [chunk.text for chunk in chunks if chunk.text] == ["Hi", " there"]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage == Usage(prompt_tokens=12, completion_tokens=2, cached_tokens=7)
    assert {chunk.request_id for chunk in chunks} == {"req-1"}


async def test_sends_messages_options_and_key(server):
    server.says("Hi")
    async with Client(server.url, "secret") as client:
        await text_of(client, model="tiny", max_tokens=5, temperature=0.0, stop=["x"])
    asked = server.asked[0]
    assert asked["messages"] == HELLO
    assert (asked["model"], asked["max_tokens"], asked["temperature"], asked["stop"]) == ("tiny", 5, 0.0, ["x"])
    assert asked["stream"] is True
    assert server.headers[0]["Authorization"] == "Bearer secret"


async def test_base_url_may_end_in_v1(server):
    server.says("Hi")
    async with Client(server.url + "/v1/") as client:
        assert await text_of(client) == "Hi"


async def test_character_split_between_writes_arrives_whole(server):
    raw = (CHUNK % "grüß 🙂").encode() + b"data: [DONE]\n\n"
    server.sends(*[raw[i : i + 1] for i in range(len(raw))])
    async with Client(server.url) as client:
        assert await text_of(client) == "grüß 🙂"


async def test_keep_alive_comments_are_passed_over(server):
    server.sends(b": wait\n\n", (CHUNK % "Hi").encode(), b":\n\n", b"data: [DONE]\n\n")
    async with Client(server.url) as client:
        assert await text_of(client) == "Hi"


async def test_finished_stream_keeps_its_connection(server):
    server.says("one")
    server.says("two")
    async with Client(server.url) as client:
        assert [await text_of(client), await text_of(client)] == ["one", "two"]
    assert server.peers[0] == server.peers[1]


async def test_connection_is_kept_though_the_stream_ends_after_its_last_event(server, monkeypatch):
    monkeypatch.setattr("clients.client._DRAIN_S", 60)
    server.sends((CHUNK % "Hi").encode() + b"data: [DONE]\n\n", hang=True)
    server.says("again")
    async with Client(server.url) as client:
        async with aclosing(client.chat(HELLO)) as chunks:
            await anext(chunks)
            asyncio.get_running_loop().call_soon(server.released.set)
            assert [chunk async for chunk in chunks] == []
        await text_of(client)
    assert server.peers[0] == server.peers[1]


async def test_stream_that_stays_open_after_its_last_event_is_closed(server, monkeypatch):
    monkeypatch.setattr("clients.client._DRAIN_S", 0.01)
    server.sends((CHUNK % "Hi").encode() + b"data: [DONE]\n\n", hang=True)
    async with Client(server.url) as client:
        assert await text_of(client) == "Hi"
        await server.abandoned.wait()


async def test_closing_the_stream_closes_the_connection(server):
    server.sends((CHUNK % "Hi").encode(), hang=True)
    async with Client(server.url) as client:
        async with aclosing(client.chat(HELLO)) as chunks:
            assert (await anext(chunks)).text == "Hi"
        await server.abandoned.wait()


async def test_cancelling_the_reader_closes_the_connection(server):
    server.sends((CHUNK % "Hi").encode(), hang=True)
    began = asyncio.Event()

    async def read() -> None:
        async for _ in client.chat(HELLO):
            began.set()

    async with Client(server.url) as client:
        reader = asyncio.create_task(read())
        await began.wait()
        reader.cancel()
        await server.abandoned.wait()
        with pytest.raises(asyncio.CancelledError):
            await reader


async def test_client_goes_on_after_a_closed_stream(server):
    server.sends((CHUNK % "Hi").encode(), hang=True)
    server.says("again")
    async with Client(server.url) as client:
        async with aclosing(client.chat(HELLO)) as chunks:
            await anext(chunks)
        assert await text_of(client) == "again"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (413, BadRequestError),
        (418, APIError),
        (429, OverloadedError),
        (500, ServerFaultError),
        (503, ServerFaultError),
    ],
)
async def test_status_picks_the_error(server, status, kind):
    server.refuses(status, error_body())
    async with Client(server.url) as client:
        with pytest.raises(APIError) as caught:
            await text_of(client)
    assert type(caught.value) is kind
    assert caught.value.status == status


async def test_error_carries_all_the_server_said(server):
    body = error_body(message="queue full", type="overloaded", code="server_overloaded", param="n")
    server.refuses(429, body, {"Retry-After": "3", "X-Request-Id": "req-7"})
    async with Client(server.url) as client:
        with pytest.raises(OverloadedError, match="queue full") as caught:
            await text_of(client)
    details = caught.value.details
    assert (details.type, details.code, details.param) == ("overloaded", "server_overloaded", "n")
    assert (details.request_id, details.retry_after_s) == ("req-7", 3.0)


async def test_error_that_is_not_json_still_has_its_status(server):
    server.refuses(502, "<html>Bad gateway</html>")
    async with Client(server.url) as client:
        with pytest.raises(ServerFaultError, match="502"):
            await text_of(client)


async def test_redirect_is_an_error(server):
    server.refuses(302, "", {"Location": server.url + "/health"})
    async with Client(server.url) as client:
        with pytest.raises(APIError, match="302"):
            await text_of(client)


async def test_error_event_in_mid_stream_is_raised_after_the_text_before_it(server):
    server.sends((CHUNK % "Hi").encode(), f"data: {error_body(code='slow_reader')}\n\n".encode())
    async with Client(server.url) as client, aclosing(client.chat(HELLO)) as chunks:
        assert (await anext(chunks)).text == "Hi"
        with pytest.raises(APIError) as caught:
            await anext(chunks)
    assert (caught.value.status, caught.value.code, caught.value.details.request_id) == (None, "slow_reader", "req-1")


async def test_stream_that_ends_without_done_is_an_error(server):
    server.sends((CHUNK % "Hi").encode())
    async with Client(server.url) as client:
        with pytest.raises(ConnectionLostError, match="broke off"):
            await text_of(client)


@pytest.mark.parametrize("data", ["{", "[]", '{"choices": 3}', '{"choices":[{"delta":{"content":5}}]}'])
async def test_event_that_is_no_chunk_is_an_error(server, data):
    server.sends(f"data: {data}\n\n".encode())
    async with Client(server.url) as client:
        with pytest.raises(ConnectionLostError, match="not an answer"):
            await text_of(client)


async def test_silence_longer_than_the_read_timeout_is_an_error(server):
    server.sends((CHUNK % "Hi").encode(), hang=True)
    async with Client(server.url, read_timeout_s=0.05) as client:
        with pytest.raises(ServerTimeoutError, match="silent"):
            await text_of(client)


async def test_closed_port_is_unreachable(closed_url):
    async with Client(closed_url) as client:
        with pytest.raises(UnreachableError, match=closed_url):
            await text_of(client)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://", "", "http://localhost:99999"])
async def test_address_that_is_none_is_a_client_error(url):
    async with Client(url) as client:
        with pytest.raises(ClientError):
            await client.models()


async def test_complete_returns_the_whole_answer(server):
    message = {"role": "assistant", "content": "Hi there"}
    choices = [{"index": 0, "message": message, "finish_reason": "length"}]
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}
    server.refuses(200, json.dumps({"choices": choices, "usage": usage}))
    async with Client(server.url) as client:
        answer = await client.complete(HELLO, max_tokens=2)
    assert (answer.text, answer.finish_reason, answer.usage) == ("Hi there", "length", Usage(9, 2))
    assert "stream" not in server.asked[0]


async def test_complete_without_a_choice_is_an_error(server):
    server.refuses(200, '{"choices": []}')
    async with Client(server.url) as client:
        with pytest.raises(ConnectionLostError):
            await client.complete(HELLO)


async def test_models_lists_what_is_served(server):
    async with Client(server.url) as client:
        assert await client.models() == [Model("tiny", 2048)]


async def test_health_is_true_of_a_live_server(server):
    async with Client(server.url) as client:
        assert await client.health()


async def test_health_is_false_at_a_closed_port(closed_url):
    async with Client(closed_url) as client:
        assert not await client.health()
