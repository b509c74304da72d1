"""A transport for `clients.conversation.Conversation` over a WebSocket.

    async with ChatSocket("http://127.0.0.1:8000") as socket:
        conversation = Conversation(socket)

Only new messages are sent, since the server keeps the history. A broken connection is opened again, and the answer goes
on where it stopped. If the server has lost the session, the history is sent again; only an answer that had begun is
lost then, which raises `ConnectionLostError`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack

from clients.backoff import Backoff
from clients.connector import Connector
from clients.errors import (
    APIError,
    ConnectionLostError,
    OverloadedError,
    ServerFaultError,
    ServerTimeoutError,
    UnreachableError,
)
from clients.frame_socket import BrokenError, Encoding, Frame, FrameSocket
from clients.protocol import ChatOptions, Chunk, Message

ACK_EVERY = 64  # frame numbers
SEND_CANCEL_S = 1.0
AWAIT_CANCELLED_S = 30.0

_TRANSIENT = (BrokenError, UnreachableError, ServerTimeoutError, OverloadedError, ServerFaultError)


@dataclass(slots=True)
class _Session:
    """What the server keeps for this client. ``last`` is the newest frame number received."""

    user: str | None
    history: list[Message]
    id: str | None = None  # None until the server has opened it
    last: int = 0
    turns: int = 0


@dataclass(slots=True)
class _Turn:
    """The current turn. ``number`` counts the turns of the session from 1; 0 means that it is not sent."""

    added: list[Message]
    options: dict[str, Any]
    number: int = 0
    text: str = ""
    acknowledged: int = 0
    ended: bool = False


class ChatSocket:
    """Holds one conversation at a time with one server. Messages that do not continue it begin a new session.

    Use it as an async context manager, or call `close`. `chat` may raise `ClientError`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        encoding: Encoding = "json",
        connect_timeout_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._connector = Connector(base_url, api_key, encoding, connect_timeout_s)
        self._backoff = backoff or Backoff()
        self._socket: FrameSocket | None = None
        self._session: _Session | None = None
        self._cancelled = False  # the end of a cancelled turn is still to come

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session and the connection."""
        await self._close_session()
        await self._connector.close()

    async def chat(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to ``messages``; closing the generator cancels at the server."""
        session, turn = await self._prepare(list(messages), dict(options))
        try:
            await self._begin(session, turn)
            while not turn.ended:
                chunk = await self._next(session, turn)
                if chunk is not None:
                    yield chunk
        finally:
            self._remember(session, turn)
            if not turn.ended:
                await (self._cancel(session) if turn.number else self._forget_session())

    async def _prepare(self, messages: list[Message], options: dict[str, Any]) -> tuple[_Session, _Turn]:
        """Return the session that ``messages`` continue, or a new one, and the turn for the new messages."""
        user = options.pop("user", None)
        await self._await_cancelled()
        session = self._session
        known = 0 if session is None else len(session.history)
        if session is None or session.user != user or messages[:known] != session.history or len(messages) == known:
            await self._close_session()
            session = self._session = _Session(user, messages[:-1])
        return session, _Turn(messages[len(session.history) :], options)

    async def _begin(self, session: _Session, turn: _Turn) -> None:
        """Send the turn on the open connection, or on a new one."""
        if session.id is None:
            await self._connect(session, turn)
            return
        try:
            if self._socket is None or not self._socket.alive:
                raise BrokenError("the connection broke between turns")
            await self._send_turn(self._socket, session, turn)
        except BrokenError:
            await self._reconnect(session, turn)

    async def _next(self, session: _Session, turn: _Turn) -> Chunk | None:
        """Return the next chunk; None if the next frame has nothing for the user."""
        try:
            assert self._socket is not None
            await self._acknowledge(self._socket, session, turn)
            frame = await self._socket.receive()
        except BrokenError:
            await self._reconnect(session, turn)
            return None
        session.last = session.last if frame.number is None else frame.number
        match frame.type:
            case "queued":
                return Chunk(queued=frame.to_queued())
            case "token":
                turn.text += frame.text
                return Chunk(frame.text)
            case "done":
                turn.ended = True
                return Chunk(finish_reason=frame.finish_reason, usage=frame.to_usage())
            case "error":
                turn.ended = True
                session.turns -= frame.number is None  # the server refused it before counting it
                raise frame.to_error()
        return None

    async def _acknowledge(self, socket: FrameSocket, session: _Session, turn: _Turn) -> None:
        if session.last - turn.acknowledged >= ACK_EVERY:
            turn.acknowledged = session.last
            await socket.send("ack", last=session.last)

    async def _reconnect(self, session: _Session, turn: _Turn) -> None:
        """Try to open the session again, as often as the backoff allows. The error names the last reason of failure."""
        failure: Exception = ConnectionLostError("the connection broke")
        for delay_s in self._backoff.delays():
            await asyncio.sleep(delay_s)
            try:
                await self._connect(session, turn)
                return
            except _TRANSIENT as error:
                failure = error
        raise ConnectionLostError(f"the connection broke and could not be restored: {failure}") from failure

    async def _connect(self, session: _Session, turn: _Turn) -> None:
        """Connect once, open or resume the session, and send the turn if the server does not have it."""
        await self._drop_socket()
        socket = await self._connector.connect()
        try:
            await self._open_session(socket, session, turn)
            if session.turns < turn.number or not turn.number:
                await self._send_turn(socket, session, turn)
        except BaseException:
            await socket.close()
            raise
        self._socket = socket

    async def _open_session(self, socket: FrameSocket, session: _Session, turn: _Turn) -> None:
        opened = await self._open(socket, session)
        if opened.code == "session_lost":
            session.id, session.last = None, 0
            if turn.text:
                turn.ended = True
                raise ConnectionLostError("the answer broke off: the server has lost the session")
            opened = await self._open(socket, session)
        if opened.type != "opened":
            raise opened.to_error()
        session.id, session.turns = opened.session, opened.turns

    async def _open(self, socket: FrameSocket, session: _Session) -> Frame:
        who = {} if session.user is None else {"user": session.user}
        if session.id is not None:
            await socket.send("open", session=session.id, last=session.last, **who)
        else:
            await socket.send("open", messages=session.history, **who)
        return await socket.receive()

    async def _send_turn(self, socket: FrameSocket, session: _Session, turn: _Turn) -> None:
        turn.number = session.turns + 1
        turn.acknowledged = session.last
        await socket.send("turn", messages=turn.added, **turn.options)
        session.turns = turn.number

    def _remember(self, session: _Session, turn: _Turn) -> None:
        """Extend the history as the server does: a turn without text leaves no message."""
        if turn.text:
            session.history = [*session.history, *turn.added, {"role": "assistant", "content": turn.text}]

    async def _cancel(self, session: _Session) -> None:
        """Stop the answer at the last piece that was read. Its end is awaited before the next turn."""
        try:
            async with asyncio.timeout(SEND_CANCEL_S):
                if self._socket is None:
                    raise BrokenError("not connected")
                await self._socket.send("cancel", last=session.last)
            self._cancelled = True
        except (TimeoutError, BrokenError):
            await self._forget_session()

    async def _await_cancelled(self) -> None:
        """Read up to the end of a turn that was cancelled."""
        if not self._cancelled:
            return
        assert self._socket is not None
        assert self._session is not None
        try:
            async with asyncio.timeout(AWAIT_CANCELLED_S):
                while (frame := await self._socket.receive()).type not in ("done", "error"):
                    pass
        except (TimeoutError, APIError, ConnectionLostError):
            await self._forget_session()
            return
        self._cancelled = False
        self._session.last = frame.number or self._session.last

    async def _close_session(self) -> None:
        """Tell the server that the session is over."""
        if self._socket is not None and self._socket.alive and self._session is not None:
            try:
                async with asyncio.timeout(SEND_CANCEL_S):
                    await self._socket.send("close")
            except (TimeoutError, BrokenError):
                pass  # the session will expire
        await self._forget_session()

    async def _forget_session(self) -> None:
        """Send the whole history with the next turn, in a new session. The server ends the old one by itself."""
        self._session, self._cancelled = None, False
        await self._drop_socket()

    async def _drop_socket(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await socket.close()
