"""A WebSocket that carries frames of the chat stream, in either encoding. docs/wire.md is the protocol."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any, Literal

import aiohttp
import msgpack
from pydantic import BaseModel, ValidationError

from clients.errors import APIError, ClientError, ConnectionLostError, ErrorDetails, api_error
from clients.protocol import Usage

Encoding = Literal["json", "msgpack"]

CLOSE_WAIT_S = 1.0
WAITING_FRAMES = 1024  # more are left to the network until these are read
FATAL = range(4000, 5000)  # close codes: 4000 and an HTTP status, an error that coming back would not mend
SLOW_READER = 4408  # but for this one: the session is still there, and says what became of the turn


class FrameUsage(BaseModel):
    """Token counts of a turn."""

    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int
    recomputed_tokens: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None


class FrameTimings(BaseModel):
    """Where a turn's time went, in seconds."""

    queue_s: float | None = None
    stall_s: float | None = None


class Frame(BaseModel):
    """What the server says: one form for all types, unknown fields passed over."""

    type: str
    session: str = ""
    last: int = 0
    turns: int = 0
    text: str = ""
    number: int | None = None
    finish_reason: str | None = None
    usage: FrameUsage | None = None
    timings: FrameTimings | None = None
    code: str | None = None
    message: str = ""
    status: int | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None

    def to_usage(self) -> Usage | None:
        """Token counts as all transports say them."""
        usage = self.usage
        return None if usage is None else Usage(usage.prompt_tokens, usage.completion_tokens, usage.reused_tokens)

    def to_error(self) -> APIError:
        """What an ``error`` frame says."""
        return api_error(
            ErrorDetails(self.message, self.status, None, self.code, self.param, self.request_id, self.retry_after_s)
        )


class BrokenError(ConnectionLostError):
    """The connection is gone; it is worth coming back."""


class FrameSocket:
    """One connection. Reads on its own, so that pings are answered while nobody waits for a frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._binary = socket.protocol == subprotocol("msgpack")
        self._frames: asyncio.Queue[Frame | ClientError] = asyncio.Queue(WAITING_FRAMES)
        self._end: ClientError | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._end is None and not self._reading.done()

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a frame. Raises `BrokenError`."""
        frame = {"type": kind, **fields}
        try:
            if self._binary:
                await self._socket.send_bytes(msgpack.packb(frame))
            else:
                await self._socket.send_str(json.dumps(frame, ensure_ascii=False))
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenError("the connection broke") from error

    async def receive(self) -> Frame:
        """The next frame. Raises `BrokenError`, or what the server said when it closed."""
        if self._end is None:
            item = await self._frames.get()
            if isinstance(item, Frame):
                return item
            self._end = item
        raise self._end

    async def close(self) -> None:
        """Close it, at once."""
        self._reading.cancel()
        await self._socket.close()

    def vanish(self) -> None:
        """Break the connection off without a word, as a client does that lost its network."""
        connection = self._socket.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    async def _read(self) -> None:
        async for message in self._socket:
            try:
                await self._frames.put(_decode(message.data))
            except ClientError as error:
                await self._frames.put(error)
                return
        await self._frames.put(_farewell(self._socket.close_code))


def subprotocol(encoding: Encoding) -> str:
    """The name by which an encoding is asked for."""
    return f"fastswitch.v1.{encoding}"


def _decode(data: str | bytes) -> Frame:
    try:
        return Frame.model_validate(msgpack.unpackb(data) if isinstance(data, bytes) else json.loads(data))
    except (ValueError, TypeError) as error:  # pydantic's are ValueErrors
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConnectionLostError(f"the server sent something that is not a frame: {what}") from error


def _farewell(code: int | None) -> ClientError:
    if code is not None and code in FATAL and code != SLOW_READER:
        status = code - FATAL.start
        return api_error(ErrorDetails(f"the server closed the connection with code {code}", status))
    if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
        return api_error(ErrorDetails("the server takes no frames so large", 413))
    return BrokenError("the connection broke")
