"""All WebSocket conversations: who may open which, what goes on without a connection, and when they are forgotten.

A session is *read* by at most one connection; a second one takes it over, since a page that was reloaded comes back
before the server knows that its old connection is dead. Without a reader, a running turn goes on for a grace period;
without a turn either, the session *rests*, and is forgotten after its time to live, or before that if others need its
place, longest resting first.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any

from aiohttp import web

from service.api.access.accounts import Accounts
from service.api.access.tenants import Tenant
from service.api.context import Limits
from service.api.streams import Streams
from service.api.websocket.session import ChatMessage, ChatSession, Owner, Reader
from service.errors import (
    OverloadedError,
    RequestError,
    SessionLimitError,
    SessionLostError,
    SessionTakenOverError,
    ShuttingDownError,
)
from service.telemetry.metrics import Metrics

SESSION_ID_BYTES = 16


class ChatSessions:
    """Belongs to the event loop.

    Always true: a session that nobody reads has a timer, for the end of its grace or of its life; one that is read has
    none.
    """

    def __init__(self, streams: Streams, accounts: Accounts, limits: Limits, metrics: Metrics) -> None:
        self._streams = streams
        self._accounts = accounts
        self._limits = limits
        self._metrics = metrics
        self._by_id: dict[str, ChatSession] = {}
        self._tenants: dict[ChatSession, Tenant] = {}
        self._timers: dict[ChatSession, asyncio.TimerHandle] = {}
        self._resting: dict[ChatSession, None] = {}  # insertion order is age
        self._tasks: dict[ChatSession, asyncio.Task[None]] = {}
        self._connections: dict[object, Callable[[RequestError], None]] = {}
        self._names = count()

    def connect(self, connection: object, eject: Callable[[RequestError], None]) -> None:
        """Count a connection. Raises `OverloadedError` if there are too many."""
        if len(self._connections) >= self._limits.max_chat_sessions:
            raise OverloadedError(f"{len(self._connections)} WebSocket connections are open, which is the limit")
        self._connections[connection] = eject
        self._metrics.websocket_opened()

    def disconnect(self, connection: object) -> None:
        """A connection has ended."""
        del self._connections[connection]
        self._metrics.websocket_closed()

    def create(self, tenant: Tenant, user: str, history: Sequence[ChatMessage]) -> ChatSession:
        """A new session, which the caller attaches to at once. Raises `OverloadedError` or `SessionLimitError`."""
        self._make_room(tenant)
        session_id, owner = secrets.token_urlsafe(SESSION_ID_BYTES), (tenant.name, user)
        session = ChatSession(session_id, owner, f"chat-{next(self._names)}", history)
        self._by_id[session.id] = session
        self._tenants[session] = tenant
        self._metrics.count_chat_sessions(len(self._by_id))
        return session

    def find(self, session_id: str, owner: Owner) -> ChatSession:
        """The owner's session. Raises `SessionLostError`, which does not tell whether it is somebody else's."""
        session = self._by_id.get(session_id)
        if session is None or session.owner != owner:
            raise SessionLostError("no such session; open a new one with the history", param="session")
        self._metrics.chat_reopened()
        return session

    def attach(self, session: ChatSession, reader: Reader) -> None:
        """Let a connection read a session, in place of any that did so before."""
        if session.reader is not None:
            session.reader.eject(SessionTakenOverError("another connection opened this session"))
            session.detach()
        self._awaken(session)
        session.attach(reader)

    def detach(self, session: ChatSession, reader: Reader) -> None:
        """A connection has ended; the session may have another one by now, or be gone."""
        if session.reader is reader and session.id in self._by_id:
            session.detach()
            self._leave_alone(session)

    def run(self, session: ChatSession, turn: Coroutine[Any, Any, None]) -> None:
        """Run the session's turn, with or without a connection."""
        task = asyncio.create_task(turn)
        self._tasks[session] = task
        task.add_done_callback(lambda task: self._turn_ended(session, task))

    def remove(self, session: ChatSession) -> None:
        """Forget a session and all that belongs to it."""
        self._awaken(session)
        del self._by_id[session.id]
        self._accounts.close_session(self._tenants.pop(session))
        if task := self._tasks.pop(session, None):
            task.cancel()
        self._streams.close_session(session.name)
        self._metrics.count_chat_sessions(len(self._by_id))

    def drain(self) -> None:
        """The server stops: connections without a turn are told to leave; the others leave when it has ended.

        Nobody can come back any more: turns that nobody reads end.
        """
        for eject in list(self._connections.values()):
            eject(ShuttingDownError())
        for session in self._tasks:
            if session.reader is None and session.turn is not None:
                session.turn.stop()

    async def stop(self) -> None:
        """End everything."""
        tasks = list(self._tasks.values())
        for session in list(self._by_id.values()):
            self.remove(session)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self, tenant: Tenant) -> None:
        """Count a session of the tenant; if that is one too many, it takes the place of a resting one, best its own."""
        try:
            self._accounts.open_session(tenant)
        except SessionLimitError:
            if (own := self._longest_resting(tenant)) is None:
                raise
            self.remove(own)
            self._accounts.open_session(tenant)
        if len(self._by_id) >= self._limits.max_chat_sessions:
            resting = self._longest_resting(tenant) or next(iter(self._resting), None)
            if resting is None:
                self._accounts.close_session(tenant)
                raise OverloadedError(f"{len(self._by_id)} conversations are open, which is the limit")
            self.remove(resting)

    def _longest_resting(self, tenant: Tenant) -> ChatSession | None:
        return next((session for session in self._resting if session.owner[0] == tenant.name), None)

    def _turn_ended(self, session: ChatSession, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session) is not task:  # the session is gone
            return
        del self._tasks[session]
        if session.reader is None:
            self._awaken(session)
            self._leave_alone(session)

    def _leave_alone(self, session: ChatSession) -> None:
        """Nobody reads it: give its turn the grace, or itself the rest of its life."""
        loop = asyncio.get_running_loop()
        if session.turn is not None:
            self._timers[session] = loop.call_later(self._limits.reconnect_grace_s, session.turn.stop)
        else:
            self._resting[session] = None
            self._timers[session] = loop.call_later(self._limits.session_ttl_s, self.remove, session)

    def _awaken(self, session: ChatSession) -> None:
        self._resting.pop(session, None)
        if timer := self._timers.pop(session, None):
            timer.cancel()


SESSIONS = web.AppKey("chat_sessions", ChatSessions)
