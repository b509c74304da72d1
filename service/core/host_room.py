"""Room on the host for KV that must leave the device: what is given up for it, and what never is.

First redundant copies, of the lowest rank first, tail first: they cost a longer swap-out some day (the paper calls such
a copy contaminated). Then idle conversations, longest silent first; one that is itself on its way out takes room from
older ones only. The only copy of a live request's KV is never taken.
"""

from collections.abc import Sequence

from service.core.events import Contaminated
from service.core.ledger import Ledger
from service.core.requests import Request
from service.core.sessions import Session


class HostRoom:
    """One step's givers of host blocks; ``ranked`` are all live requests, best rank first."""

    def __init__(self, ledger: Ledger, ranked: Sequence[Request]) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._live = list(ranked)
        self._idle: list[Session] | None = None  # youngest first, once somebody asked

    def make(self, num_blocks: int, owner: Session) -> bool:
        """See to it that ``owner`` can grow by ``num_blocks`` host blocks. False: it cannot."""
        if self._memory.host.used(owner.sequence) + num_blocks > self._memory.host.num_blocks:
            return False
        while (short := num_blocks - self._memory.host.num_available) > 0:
            if not (self._take_from_live(short, owner) or self._take_from_idle(short, owner)):
                return False
        return True

    def _take_from_live(self, short: int, owner: Session) -> bool:
        while self._live:
            session = self._live[-1].session
            if session is not owner and self._contaminate(session, short):
                return True
            self._live.pop()
        return False

    def _take_from_idle(self, short: int, owner: Session) -> bool:
        if self._idle is None:
            self._idle = self._ledger.sessions.idle[::-1]
        while self._idle:
            session = self._idle[-1]
            if session is owner:
                return False
            if self._contaminate(session, short):
                return True
            self._idle.pop()
            if self._is_only_here(session):
                self._ledger.drop_session(session, "room")
                return True
        return False

    def _contaminate(self, session: Session, short: int) -> bool:
        if session.sequence not in self._memory.host:  # dropped meanwhile
            return False
        taken = self._memory.reclaim_host(session.sequence, short)
        if taken:
            self._ledger.emit(Contaminated(taken))
        return taken > 0

    def _is_only_here(self, session: Session) -> bool:
        """An idle session, still there, whose KV is on the host alone and not under copy."""
        sequence = session.sequence
        if session.idle_since_s is None or sequence not in self._memory.host:
            return False
        return self._memory.host.used(sequence) > 0 and self._memory.pending(sequence) is None
