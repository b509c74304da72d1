"""All WebSocket conversations: who may open which, what continues without a connection, and when they are forgotten.

At most one connection *reads* a session. A second one takes it over, since a page that was reloaded comes back before
the server knows that its old connection is dead. Without a reader, a running turn continues for a grace period. A
session with neither reader nor turn *rests*: it is forgotten after its time to live, or earlier if another session
needs its place; the one that has rested longest goes first.
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
    """All sessions and connections. Belongs to the event loop.

    Always true: a session without a reader has a timer, for the end of its grace period or of its life; a session with
    a reader has none.
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
        """Count a connection as ended."""
        del self._connections[connection]
        self._metrics.websocket_closed()

    def create(
        self, tenant: Tenant, user: str, history: Sequence[ChatMessage], cache_salt: str | None = None
    ) -> ChatSession:
        """Return a new session, which the caller attaches to at once.

        Raises `OverloadedError` or `SessionLimitError`.
        """
        self._count_or_replace(tenant)
        session_id, owner = secrets.token_urlsafe(SESSION_ID_BYTES), (tenant.name, user)
        session = ChatSession(session_id, owner, f"chat-{next(self._names)}", history, cache_salt)
        self._by_id[session.id] = session
        self._tenants[session] = tenant
        self._metrics.count_chat_sessions(len(self._by_id))
        return session

    def find(self, session_id: str, owner: Owner) -> ChatSession:
        """Return the owner's session. Raises `SessionLostError`, which does not reveal whether another owner has it."""
        session = self._by_id.get(session_id)
        if session is None or session.owner != owner:
            raise SessionLostError("no such session; open a new one with the history", param="session")
        self._metrics.chat_reopened()
        return session

    def attach(self, session: ChatSession, reader: Reader) -> None:
        """Let a connection read a session, in place of any earlier one."""
        if session.reader is not None:
            session.reader.eject(SessionTakenOverError("another connection opened this session"))
            session.detach()
        self._stop_timer(session)
        session.attach(reader)

    def detach(self, session: ChatSession, reader: Reader) -> None:
        """Detach a connection that has ended. The session may have another reader by now, or be gone."""
        if session.reader is reader and session.id in self._by_id:
            session.detach()
            self._start_timer(session)

    def run(self, session: ChatSession, turn: Coroutine[Any, Any, None]) -> None:
        """Run the session's turn, with or without a connection."""
        task = asyncio.create_task(turn)
        self._tasks[session] = task
        task.add_done_callback(lambda task: self._turn_ended(session, task))

    def remove(self, session: ChatSession) -> None:
        """Forget a session and everything that belongs to it."""
        self._stop_timer(session)
        del self._by_id[session.id]
        self._accounts.close_session(self._tenants.pop(session))
        if task := self._tasks.pop(session, None):
            task.cancel()
        self._streams.close_session(session.name)
        self._metrics.count_chat_sessions(len(self._by_id))

    def drain(self) -> None:
        """Prepare the end of the server: close connections without a turn; the others close when theirs has ended.

        Turns without a reader end now, because no client can come back for them.
        """
        for eject in list(self._connections.values()):
            eject(ShuttingDownError())
        for session in self._tasks:
            if session.reader is None and session.turn is not None:
                session.turn.stop()

    async def stop(self) -> None:
        """End all sessions and wait for their turns."""
        tasks = list(self._tasks.values())
        for session in list(self._by_id.values()):
            self.remove(session)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _count_or_replace(self, tenant: Tenant) -> None:
        """Count a session of the tenant. If that is one too many, forget a resting one, preferably of that tenant."""
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
        if self._tasks.get(session) is not task:  # the session was removed
            return
        del self._tasks[session]
        if session.reader is None:
            self._stop_timer(session)
            self._start_timer(session)

    def _start_timer(self, session: ChatSession) -> None:
        """Start the timer of a session without a reader: its turn's grace period, or its own time to live."""
        loop = asyncio.get_running_loop()
        if session.turn is not None:
            self._timers[session] = loop.call_later(self._limits.reconnect_grace_s, session.turn.stop)
        else:
            self._resting[session] = None
            self._timers[session] = loop.call_later(self._limits.session_ttl_s, self.remove, session)

    def _stop_timer(self, session: ChatSession) -> None:
        self._resting.pop(session, None)
        if timer := self._timers.pop(session, None):
            timer.cancel()


SESSIONS = web.AppKey("chat_sessions", ChatSessions)
