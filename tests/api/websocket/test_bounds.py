"""The bounds of a connection: silence, slow reading, the number of connections, the server's end."""

import asyncio
import socket

import aiohttp
import pytest

from service.api.context import DOOR
from service.api.lifecycle import drain
from service.api.websocket.sessions import SESSIONS
from service.core.messages.ports import DirectRunner
from service.simulation.runner import SimulatedRunner

JSON = "fastswitch.v1.json"
ROUTE = "/v1/chat/stream"


async def raw_upgrade(live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that reads and answers nothing by itself."""
    reader, writer = await asyncio.open_connection(*live.address, limit=1024)
    head = (
        f"GET {ROUTE} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Protocol: {JSON}\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def shrink(transport: asyncio.Transport) -> None:
    """Keep the buffers small, so that unread data blocks the writer."""
    transport.set_write_buffer_limits(0)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)


async def test_a_reader_that_stops_reading_loses_its_turn_and_its_connection(serve, connect):
    live = await serve(limits={"write_timeout_s": 0.05, "reconnect_buffer": 10**9})
    peer = await connect(live)
    transport = peer.socket._response.connection.transport
    (connection,) = live.app[SESSIONS]._connections
    shrink(transport)
    shrink(connection._transport)
    transport.pause_reading()
    await peer.send("turn", content="Hi", max_tokens=90_000)
    await live.until(lambda gauges: gauges["num_requests_running"] == 1)
    await live.until(lambda gauges: gauges["num_requests_running"] == 0)
    transport.resume_reading()
    assert await peer.closed() == 4408
    back = await connect(live, session=peer.session, last=peer.last)
    while (frame := await back.receive())["type"] != "error":
        assert frame["type"] == "token"
    assert frame["code"] == "slow_reader"


async def test_a_client_that_acknowledges_is_taken_at_its_word(serve, connect):
    live = await serve(limits={"reconnect_buffer": 100})
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    await peer.until("token")
    await peer.send("ack", last=1)
    while (frame := await peer.receive())["type"] != "error":
        assert frame["type"] == "token"
    assert (frame["code"], frame["number"] is not None) == ("slow_reader", True)
    assert (await peer.turn())["type"] == "done"


async def test_a_client_that_opens_no_session_is_sent_away(serve, connect):
    live = await serve(limits={"body_timeout_s": 0.01})
    peer = await connect(live, opened=False)
    assert await peer.closed() == 4408


async def test_silent_clients_are_pinged_and_stay(serve, connect):
    live = await serve(limits={"ping_s": 1.0})  # half of it is the pong's
    peer = await connect(live)
    pinged = asyncio.Event()
    pong = peer.socket.pong

    async def noticed(message: bytes = b"") -> None:
        await pong(message)
        pinged.set()

    peer.socket.pong = noticed
    waiting = asyncio.create_task(peer.receive())
    await pinged.wait()
    await peer.send("ack", last=99)
    assert (await waiting)["type"] == "error"


async def test_a_client_that_answers_no_ping_is_dropped(serve):
    live = await serve(limits={"ping_s": 0.02})
    reader, writer = await raw_upgrade(live)
    while await reader.read(100):
        pass
    await live.until(lambda gauges: gauges["websocket_connections"] == 0)
    writer.close()


async def test_one_connection_too_many_gets_429(serve, connect):
    live = await serve(limits={"max_chat_sessions": 1})
    peer = await connect(live)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.http.ws_connect(ROUTE, protocols=[JSON])
    assert refused.value.status == 429
    assert "Retry-After" in refused.value.headers
    assert (await peer.turn())["type"] == "done"


async def test_a_new_session_takes_the_place_of_the_one_that_rests_longest(serve, connect):
    live = await serve(limits={"max_chat_sessions": 2})
    old, young = await connect(live), await connect(live)
    for peer in (old, young):
        peer.kill()
        chat = live.app[SESSIONS]._by_id[peer.session]
        await live.until(lambda gauges, chat=chat: chat.reader is None)
    await connect(live)
    back = await connect(live, opened=False)
    assert (await back.open(session=old.session))["code"] == "session_lost"
    assert (await back.open(session=young.session))["type"] == "opened"


async def test_sessions_whose_turns_run_are_not_displaced(serve, connect, stepped):
    live = await serve(stepped, limits={"max_chat_sessions": 1})
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(1)
    await peer.reads(1)
    peer.kill()
    await live.until(lambda gauges: gauges["websocket_connections"] == 0)
    other = await connect(live, opened=False)
    assert (await other.open())["code"] == "server_overloaded"


async def test_a_full_queue_ends_the_turn_with_a_time_to_come_back(serve, connect, stepped):
    live = await serve(stepped, core={"max_num_queued_reqs": 1, "max_num_seqs": 1})
    first, second, third = [await connect(live) for _ in range(3)]
    await first.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(1)
    await first.reads(1)
    await second.send("turn", content="Hi")
    await third.send("turn", content="Hi")
    waiting = [asyncio.create_task(peer.receive()) for peer in (second, third)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    error = done.pop().result()
    assert (error["code"], error["number"], error["retry_after_s"] > 0) == ("server_overloaded", 1, True)


async def test_a_stopping_server_sends_idle_clients_away_and_lets_turns_end(serve, connect, stepped):
    live = await serve(stepped)
    idle, busy = await connect(live), await connect(live)
    await busy.send("turn", content="Hi", max_tokens=4)
    stepped.allow(1)
    await busy.reads(1)
    draining = asyncio.create_task(drain(live.app, 60))
    assert await idle.closed() == 1001
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.http.ws_connect(ROUTE, protocols=[JSON])
    assert refused.value.status == 503
    stepped.allow()
    assert (await busy.until("done"))["finish_reason"] == "length"
    assert await busy.closed() == 1001
    await draining


async def test_turns_that_outlast_the_drain_end_with_an_error(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(1)
    await peer.reads(1)
    draining = asyncio.create_task(drain(live.app, 0))
    error = await peer.receive()
    assert (error["code"], error["number"]) == ("shutting_down", 2)
    assert await peer.closed() == 1001
    await draining


async def test_a_stopping_server_does_not_wait_for_clients_that_left(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(1)
    await peer.reads(1)
    peer.kill()
    await live.until(lambda gauges: gauges["websocket_connections"] == 0)
    await drain(live.app, 60)
    assert live.app[DOOR].inside == 0


async def test_a_failed_step_ends_the_turn_and_the_next_goes_on(serve, connect):
    class Stumbling(DirectRunner):
        def __init__(self, inner) -> None:
            self.inner, self.failed = inner, False

        def run(self, plan):
            if not self.failed:
                self.failed = True
                raise RuntimeError("a stumble")
            return self.inner.run(plan)

    live = await serve(Stumbling(SimulatedRunner(384)))
    peer = await connect(live)
    await peer.send("turn", content="Hi")
    error = await peer.receive()
    assert (error["code"], error["number"]) == ("internal_error", 1)
    assert "stumble" not in error["message"]
    assert (await peer.turn())["type"] == "done"
