"""Clients that do not read: their turn is cancelled, and what waits for them stays bounded."""

import asyncio
import json
import socket

import pytest

CHAT = "/v1/chat/completions"


@pytest.fixture
def buffers() -> None:
    """Leave the buffers as they are, since they are what is tested."""


async def ask_and_read_nothing(live, **fields) -> socket.socket:
    """A client with a tiny window that sends a request and then stands still."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, live.address)
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **fields}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(client, head.encode() + body)
    return client


def cancelled(live) -> float:
    return live.metrics.registry.get_sample_value("fastswitch_request_success_total", {"finished_reason": "cancelled"})


def answered(live, status: str) -> float | None:
    labels = {"route": CHAT, "method": "POST", "status": status}
    return live.metrics.registry.get_sample_value("fastswitch_http_requests_total", labels)


@pytest.mark.parametrize("limits", [{"write_timeout_s": 0.05}, {"write_timeout_s": 600.0}])
async def test_a_stream_that_is_not_read_is_cancelled(talkative, limits):
    """The end comes from a write's time-out or a full buffer, whichever is first."""
    live = await talkative(limits={"prefix_sharing": "off", **limits})
    client = await ask_and_read_nothing(live, stream=True, n=2, max_tokens=90_000)
    gauges = await live.until(lambda gauges: cancelled(live) == 2 and not gauges["num_requests_running"])
    assert gauges["kv_blocks_used"] == 0
    client.close()


async def test_a_plain_answer_that_is_not_read_is_given_up(talkative):
    live = await talkative(limits={"write_timeout_s": 0.05})
    client = await ask_and_read_nothing(live, n=4, max_tokens=1000)
    await live.until(lambda gauges: answered(live, "408") == 1)
    client.close()


async def test_the_server_goes_on_beside_them(talkative):
    live = await talkative()
    clients = [await ask_and_read_nothing(live, stream=True, max_tokens=90_000) for _ in range(3)]
    await live.until(lambda gauges: gauges["num_requests_running"] > 0)
    assert (await live.chat()).status == 200
    for client in clients:
        client.close()
    await live.until(lambda gauges: gauges["num_requests_running"] == 0)
