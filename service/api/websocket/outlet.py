"""What one connection has sent of its session, and what it still has to send.

An outlet keeps numbers, not frames: what a slow connection has not taken yet is stored once, in the session, and comes
out as one `token` frame when the connection takes it.
"""

import asyncio
from collections.abc import Callable

from service.api.waiting_line import Place
from service.api.websocket.frames import PreemptedFrame, QueuedFrame, ResumedFrame, ServerFrame, TokenFrame
from service.api.websocket.session import ChatSession
from service.errors import RequestError


class Outlet:
    """One connection's position in its session.

    ``sent``: the last number sent. ``read``: the last number that the client acknowledged. ``eject`` closes the
    connection with an error.
    """

    def __init__(self, session: ChatSession, last: int, eject: Callable[[RequestError], None]) -> None:
        self.sent = last
        self.read: int | None = None  # the client sends no acknowledgements
        self.eject = eject
        self.news = asyncio.Event()
        self._session = session
        self._reported_preempted = False
        self._reported_place: Place | None = None
        self.news.set()

    @property
    def up_to_date(self) -> bool:
        """Whether everything was sent."""
        return self.sent >= self._session.newest

    def wake(self) -> None:
        """Signal that there is something to take."""
        self.news.set()

    def take(self) -> list[ServerFrame]:
        """Return frames for everything that happened since the last call."""
        self.news.clear()
        session, frames = self._session, self._place()
        frames += self._tokens()
        frames += self._changes()
        if session.end is not None and not self.up_to_date:
            frames.append(session.end)
        self.sent = max(self.sent, session.newest)
        return frames

    def _place(self) -> list[ServerFrame]:
        """Return a frame if the turn's place in the queue has changed, or it has left the queue."""
        place = self._session.place
        if place == self._reported_place:
            return []
        self._reported_place = place
        place = place or Place(0, None, None)
        return [QueuedFrame(position=place.position, reason=place.reason, estimate_s=place.estimate_s)]

    def _tokens(self) -> list[ServerFrame]:
        answer = self._session.answer
        text = answer.since(self.sent)
        return [TokenFrame(text=text, number=answer.last)] if text else []

    def _changes(self) -> list[ServerFrame]:
        """Return a frame if the turn was preempted or resumed since then."""
        reason = self._session.preempted
        if (reason is not None) == self._reported_preempted:
            return []
        self._reported_preempted = reason is not None
        if reason is not None:
            return [PreemptedFrame(reason=reason)]
        return [ResumedFrame(stalled_s=self._session.last_stall_s)] if self._session.end is None else []
