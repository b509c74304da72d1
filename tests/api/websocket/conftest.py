"""A raw client of the chat stream."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import msgpack
import pytest

ROUTE = "/v1/chat/stream"
JSON, MSGPACK = "fastswitch.v1.json", "fastswitch.v1.msgpack"


@pytest.fixture(autouse=True)
def patient_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for the close frame, so that a pause of this machine does not abort the connection."""
    monkeypatch.setattr("service.api.websocket.connection.CLOSE_WAIT_S", 60.0)


class Peer:
    """One connection. Keeps the text it got and the last number with it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str | None = None, last: int = 0) -> None:
        self.socket = socket
        self.session = session
        self.last = last
        self.text = ""
        self.binary = socket.protocol == MSGPACK

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a frame; turns have a seed whose first tokens have text, each its own."""
        frame = {"type": kind, **({"seed": 1} if kind == "turn" else {}), **fields}
        if self.binary:
            await self.socket.send_bytes(msgpack.packb(frame))
        else:
            await self.socket.send_str(json.dumps(frame))

    async def receive(self) -> dict[str, Any]:
        """Return the next message, which must be a frame."""
        message = await self.socket.receive()
        assert message.type is (aiohttp.WSMsgType.BINARY if self.binary else aiohttp.WSMsgType.TEXT), message
        frame = msgpack.unpackb(message.data) if self.binary else json.loads(message.data)
        self.last = frame.get("number") or self.last
        self.text += frame.get("text", "")
        return frame

    async def open(self, **fields: Any) -> dict[str, Any]:
        await self.send("open", **fields)
        opened = await self.receive()
        self.session = opened.get("session")
        return opened

    async def until(self, kind: str) -> dict[str, Any]:
        """Read on to a frame of this type; any end that is another one fails."""
        while (frame := await self.receive())["type"] != kind:
            assert frame["type"] not in ("done", "error"), frame
        return frame

    async def turn(self, content: str = "Hi there", **fields: Any) -> dict[str, Any]:
        """Run a whole turn and return its end. ``text`` is its answer."""
        self.text = ""
        await self.send("turn", **{"content": content, "max_tokens": 8, **fields})
        return await self.until("done")

    async def reads(self, number: int) -> None:
        """Read tokens up to this number."""
        while self.last < number:
            assert (await self.receive())["type"] == "token"

    async def closed(self) -> int | None:
        """Read on to the end; returns the code."""
        async for _ in self.socket:
            pass
        return self.socket.close_code

    def kill(self) -> None:
        """Abort the TCP connection without a close frame."""
        assert self.socket._response.connection is not None
        self.socket._response.connection.transport.abort()


Connect = Callable[..., Awaitable[Peer]]


@asynccontextmanager
async def _connected() -> AsyncIterator[Connect]:
    sessions: list[aiohttp.ClientSession] = []

    async def start(live, protocol: str = JSON, headers: dict[str, str] | None = None, **fields: Any) -> Peer:
        http = aiohttp.ClientSession(live.url, headers=headers)
        sessions.append(http)
        peer = Peer(await http.ws_connect(ROUTE, protocols=[protocol]))
        if fields.pop("opened", True):
            peer.last = fields.get("last", 0)
            await peer.open(**fields)
        return peer

    yield start
    await asyncio.gather(*(http.close() for http in sessions))


@pytest.fixture
def connected() -> Callable[[], AbstractAsyncContextManager[Connect]]:
    """Makes ``with`` blocks in which connections are opened, and at whose ends they are closed."""
    return _connected


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections; ``open`` fields open a session on them."""
    async with _connected() as start:
        yield start
