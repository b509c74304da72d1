"""Our own WebSocket chat stream, in either encoding: a connection and a session for each conversation."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from clients.connector import Connector
from clients.errors import ClientError
from clients.frame_socket import Encoding, Frame, FrameSocket
from clients.load.target import ServerFigures, TurnRequest
from clients.protocol import Message
from clients.websocket import ACK_EVERY

CONNECT_TIMEOUT_S = 10.0
CANCEL_S = 30.0  # how long the end of a cancelled turn is awaited
CLOSE_S = 1.0


class ChatStreamTarget:
    """Holds one connector for each API key."""

    def __init__(self, base_url: str, api_key: str | None, encoding: Encoding) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._encoding: Encoding = encoding
        self._connectors: dict[str | None, Connector] = {}

    def open_session(self, key: str | None = None) -> "ChatStreamSession":
        """Begin a conversation."""
        key = key or self._api_key
        if key not in self._connectors:
            self._connectors[key] = Connector(self._base_url, key, self._encoding, CONNECT_TIMEOUT_S)
        return ChatStreamSession(self._connectors[key])

    async def close(self) -> None:
        """Close all connections."""
        for connector in self._connectors.values():
            await connector.close()


class ChatStreamSession:
    """A conversation whose history the server keeps. It connects with its first turn."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._socket: FrameSocket | None = None
        self._last = 0  # the newest frame number received
        self._acknowledged = 0

    async def answer(
        self, history: list[Message], request: TurnRequest, figures: ServerFigures
    ) -> AsyncGenerator[str, None]:
        """Send the newest message and yield the answer. An early close cancels, and waits until the server confirms."""
        socket = self._socket or await self._connect(history, request.user)
        await socket.send("turn", messages=history[-1:], **request.fields())
        ended = False
        try:
            while not ended:
                frame = await self._receive(socket)
                ended = _is_end(frame, figures)
                if frame.text:
                    yield frame.text
                    await self._acknowledge(socket)
        except (GeneratorExit, asyncio.CancelledError):  # the generator was closed early, or its reader cancelled
            if self._socket is not None:
                await self._cancel(socket, figures)
            raise

    def vanish(self) -> None:
        """Break the connection off for good. The server keeps the session until it expires."""
        if self._socket is not None:
            self._socket.vanish()
            self._socket = None

    async def close(self) -> None:
        """Tell the server that the session is over."""
        socket, self._socket = self._socket, None
        if socket is None:
            return
        with suppress(TimeoutError, ClientError):
            async with asyncio.timeout(CLOSE_S):
                await socket.send("close")
        await socket.close()

    async def _connect(self, history: list[Message], user: str | None) -> FrameSocket:
        """Open a session whose history is all but the newest message."""
        self._socket = socket = await self._connector.connect()
        who = {} if user is None else {"user": user}
        await socket.send("open", messages=history[:-1], **who)
        opened = await socket.receive()
        if opened.type != "opened":
            raise opened.to_error()
        return socket

    async def _receive(self, socket: FrameSocket) -> Frame:
        frame = await socket.receive()
        self._last = self._last if frame.number is None else frame.number
        return frame

    async def _acknowledge(self, socket: FrameSocket) -> None:
        if self._last - self._acknowledged >= ACK_EVERY:
            self._acknowledged = self._last
            await socket.send("ack", last=self._last)

    async def _cancel(self, socket: FrameSocket, figures: ServerFigures) -> None:
        """Stop the answer at the last piece that was read; break the connection off if the server does not confirm."""
        last_read = self._last
        try:
            async with asyncio.timeout(CANCEL_S):
                await socket.send("cancel", last=last_read)
                while not _is_end(await self._receive(socket), figures):
                    pass
        except (TimeoutError, ClientError):
            self.vanish()


def _is_end(frame: Frame, figures: ServerFigures) -> bool:
    """Return whether ``frame`` ends the turn, and copy its figures. Raises the `APIError` of an error frame."""
    if frame.type == "error":
        raise frame.to_error()
    if frame.type != "done":
        return False
    if frame.usage is not None:
        figures.prompt_tokens, figures.completion_tokens = frame.usage.prompt_tokens, frame.usage.completion_tokens
        figures.reused, figures.recomputed = frame.usage.reused_tokens, frame.usage.recomputed_tokens
        figures.preemptions, figures.swapped_bytes = frame.usage.preemptions, frame.usage.swapped_bytes
    if frame.timings is not None:
        figures.queue_s, figures.stall_s = frame.timings.queue_s, frame.timings.stall_s
    return True
