"""What one connection has been given of its session, and what it is still to be given.

It keeps numbers, not frames: whatever a slow connection has not taken yet stays in the session once, and comes out as
one `token` frame when it is asked for.
"""

import asyncio
from collections.abc import Callable

from service.api.websocket.frames import PreemptedFrame, ResumedFrame, ServerFrame, TokenFrame
from service.api.websocket.session import ChatSession
from service.errors import RequestError


class Outlet:
    """Belongs to one connection. ``sent``: the last number given. ``read``: the last the client says it has read.

    ``eject`` closes the connection with an error.
    """

    def __init__(self, session: ChatSession, last: int, eject: Callable[[RequestError], None]) -> None:
        self.sent = last
        self.read: int | None = None  # the client never said
        self.eject = eject
        self.news = asyncio.Event()
        self._session = session
        self._reported_preempted = False
        self.news.set()

    @property
    def up_to_date(self) -> bool:
        """Whether the client has been given everything."""
        return self.sent >= self._session.newest

    def wake(self) -> None:
        """There is something to take."""
        self.news.set()

    def take(self) -> list[ServerFrame]:
        """Frames for everything that happened since the last call."""
        self.news.clear()
        session, frames = self._session, self._tokens()
        frames += self._changes()
        if session.end is not None and not self.up_to_date:
            frames.append(session.end)
        self.sent = max(self.sent, session.newest)
        return frames

    def _tokens(self) -> list[ServerFrame]:
        answer = self._session.answer
        text = answer.since(self.sent)
        return [TokenFrame(text=text, number=answer.last)] if text else []

    def _changes(self) -> list[ServerFrame]:
        """Whether the turn was preempted or resumed since then."""
        reason = self._session.preempted
        if (reason is not None) == self._reported_preempted:
            return []
        self._reported_preempted = reason is not None
        if reason is not None:
            return [PreemptedFrame(reason=reason)]
        return [ResumedFrame(stalled_s=self._session.last_stall_s)] if self._session.end is None else []
