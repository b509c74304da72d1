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
from clients.protocol import Queued, Usage

Encoding = Literal["json", "msgpack"]

CLOSE_WAIT_S = 1.0
WAITING_FRAMES = 1024  # further frames stay in the network until these are read
FATAL = range(4000, 5000)  # close codes: 4000 plus an HTTP status; reconnecting would not help
SLOW_READER = 4408  # except this one: the session still exists and says how the turn ended


class FrameUsage(BaseModel):
    """Token counts of a turn."""

    prompt_tokens: int
    completion_tokens: int
    reused_tokens: int
    recomputed_tokens: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None


class FrameTimings(BaseModel):
    """How long a turn waited, in seconds."""

    queue_s: float | None = None
    stall_s: float | None = None


class Frame(BaseModel):
    """A frame from the server. All types have one form, and unknown fields are ignored."""

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
    position: int = 0
    reason: str | None = None
    estimate_s: float | None = None

    def to_usage(self) -> Usage | None:
        """Return the token counts in the form that all transports share."""
        usage = self.usage
        return None if usage is None else Usage(usage.prompt_tokens, usage.completion_tokens, usage.reused_tokens)

    def to_queued(self) -> Queued:
        """Return the place that a ``queued`` frame tells."""
        return Queued(self.position, self.reason, self.estimate_s)

    def to_error(self) -> APIError:
        """Return the error that an ``error`` frame describes."""
        return api_error(
            ErrorDetails(self.message, self.status, None, self.code, self.param, self.request_id, self.retry_after_s)
        )


class BrokenError(ConnectionLostError):
    """The connection broke; reconnecting may help."""


class FrameSocket:
    """One connection. It reads in a task of its own, so that pings are answered while no caller waits for a frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._binary = socket.protocol == subprotocol("msgpack")
        self._frames: asyncio.Queue[Frame | ClientError] = asyncio.Queue(WAITING_FRAMES)
        self._end: ClientError | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known."""
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
        """Return the next frame. Raises `BrokenError`, or the error that the server closed the connection with."""
        if self._end is None:
            item = await self._frames.get()
            if isinstance(item, Frame):
                return item
            self._end = item
        raise self._end

    async def close(self) -> None:
        """Close the connection at once."""
        self._reading.cancel()
        await self._socket.close()

    def vanish(self) -> None:
        """Break the connection off without closing it, like a client that lost its network."""
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
        await self._frames.put(_closing_error(self._socket.close_code))


def subprotocol(encoding: Encoding) -> str:
    """Return the name by which a client asks for an encoding."""
    return f"fastswitch.v1.{encoding}"


def _decode(data: str | bytes) -> Frame:
    try:
        return Frame.model_validate(msgpack.unpackb(data) if isinstance(data, bytes) else json.loads(data))
    except (ValueError, TypeError) as error:  # pydantic's are ValueErrors
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConnectionLostError(f"the server sent something that is not a frame: {what}") from error


def _closing_error(code: int | None) -> ClientError:
    if code is not None and code in FATAL and code != SLOW_READER:
        status = code - FATAL.start
        return api_error(ErrorDetails(f"the server closed the connection with code {code}", status))
    if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
        return api_error(ErrorDetails("the server takes no frames so large", 413))
    return BrokenError("the connection broke")
