"""Placement: which session a turn continues, or on which prefix it opens one.

A node with a copy in flight is not split. A turn that needs a part of one is *deferred*: its request waits, without
blocks, for the end of the copy, and is placed then.
"""

from collections.abc import Callable

from service.core.messages.commands import Submit
from service.core.state.ledger import Ledger
from service.core.state.owners import Owner, Prefix, Session
from service.core.state.prefixes import Agreement
from service.core.state.requests import Request, State


class Placement:
    """Places turns. ``on_split`` is told of each split: the number of the node, and that of the prefix before it."""

    def __init__(self, ledger: Ledger, on_split: Callable[[int, int], None]) -> None:
        self._ledger = ledger
        self._sessions = ledger.sessions
        self._memory = ledger.memory
        self._on_split = on_split
        self._deferred: dict[Request, Owner] = {}  # with what is under copy, and is to be split for it

    @property
    def num_deferred(self) -> int:
        """Number of requests that wait for the end of a copy to be placed."""
        return len(self._deferred)

    def place(self, command: Submit, number: int, now: float) -> Request:
        """Return the request number ``number``, for a turn that core accepts, in a session that is busy now."""
        session, blocking = self._continued(command), None
        continued = 0
        if session is not None:
            continued = max(0, self._memory.computed(session.sequence) - session.start)
        else:
            session, blocking = self._opened(command)
        self._sessions.begin_turn(session, command.prompt, command.packed)
        if command.does_not_expire:
            self._sessions.keep(session)
        session.tenant = command.tenant
        request = Request(number, command, session, arrival_s=now, continued=continued)
        self._ledger.accept(request)
        if blocking is not None:
            self._defer(request, blocking)
        return request

    def place_deferred(self) -> None:
        """Give their prefixes to the requests for which no copy is in the way any more."""
        for request, blocking in list(self._deferred.items()):
            if request.state is State.FINISHED:
                del self._deferred[request]
            elif not self._is_under_copy(blocking):
                del self._deferred[request]
                self._place_again(request)

    def _continued(self, command: Submit) -> Session | None:
        """Return the idle session that the turn continues, now busy, with the KV that the prompt agrees with."""
        found = self._named(command) if command.session is not None else self._by_tokens(command)
        if found is None:
            return None
        session, agreed = found
        self._sessions.resume(session)
        self._memory.truncate(session.sequence, agreed)
        return session

    def _named(self, command: Submit) -> tuple[Session, int] | None:
        assert command.session is not None
        before = self._sessions.named(command.session)
        found = self._sessions.continued(command.session, command.scope, command.packed)
        if found is None and before is not None and not before.can_be_continued:
            self._ledger.drop(before, "closed")
        return found

    def _by_tokens(self, command: Submit) -> tuple[Session, int] | None:
        if command.scope is None:
            return None
        place = self._sessions.find(command.scope, command.packed)
        if isinstance(place.child, Session) and self._sessions.is_continued_by(place):
            return place.child, place.tokens
        return None

    def _opened(self, command: Submit) -> tuple[Session, Owner | None]:
        """Return a new session for the turn, and what is under copy and must be split for it."""
        if command.scope is None:
            return self._open(command, None), None
        place = self._sessions.find(command.scope, command.packed)
        if blocking := self._blocking(place):
            return self._open(command, place.prefix), blocking
        session = self._open(command, self._prefix_at(place))
        self._ledger.drop_if_useless(place.child)
        return session, None

    def _open(self, command: Submit, prefix: Prefix | None) -> Session:
        session = self._sessions.open(command.scope, command.session, prefix)
        self._memory.add(session.sequence, None if prefix is None else prefix.number)
        return session

    def _place_again(self, request: Request) -> None:
        request.is_deferred = False
        session = request.session
        assert session.scope is not None
        self._sessions.leave(session)  # it must not find itself
        place = self._sessions.find(session.scope, session.packed)
        blocking = self._blocking(place)
        prefix = place.prefix if blocking is not None else self._prefix_at(place)
        if prefix is not None and prefix is not session.prefix:
            self._ledger.move(request, prefix)
            self._ledger.drop_if_useless(place.child)
        else:
            self._sessions.enter(session)
        if blocking is not None:
            self._defer(request, blocking)

    def _defer(self, request: Request, blocking: Owner) -> None:
        request.is_deferred = True
        self._deferred[request] = blocking

    def _blocking(self, place: Agreement) -> Owner | None:
        """Return what would have to be split and cannot be now."""
        child = place.child
        return child if child is not None and place.cut is not None and self._is_under_copy(child) else None

    def _is_under_copy(self, owner: Owner) -> bool:
        return owner.number in self._sessions.owners and self._memory.pending(owner.number) is not None

    def _prefix_at(self, place: Agreement) -> Prefix | None:
        """Return the prefix up to which a prompt agrees in whole blocks, split off if need be."""
        if place.child is None or place.cut is None:
            return place.prefix
        prefix = self._ledger.split(place.child, place.cut)
        self._on_split(place.child.number, prefix.number)
        return prefix
