"""Room on the host for KV that must leave the device: what is given up for it, and what never is.

First redundant copies, of the lowest rank first, tail first: they cost a longer swap-out some day (the paper calls such
a copy contaminated). Then idle conversations, longest silent first; one that is itself on its way out takes room from
older ones only. The only copy of a live request's KV is never taken, and nothing is unless it is enough.
"""

from collections.abc import Sequence

from service.core.messages.events import Contaminated
from service.core.state.ledger import Ledger
from service.core.state.requests import Request
from service.core.state.sessions import Session


class HostRoom:
    """One step's givers of host blocks; ``ranked`` are all live requests, best rank first."""

    def __init__(self, ledger: Ledger, ranked: Sequence[Request]) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._ranked = ranked
        self._givers: list[Session] | None = None  # in the order of giving, once somebody asked

    def make(self, num_blocks: int, owner: Session) -> bool:
        """See to it that ``owner`` can grow by ``num_blocks`` host blocks. False: it cannot, and nothing was taken."""
        if self._memory.host.used(owner.sequence) + num_blocks > self._memory.host.num_blocks:
            return False
        short = num_blocks - self._memory.host.num_available
        if short <= 0:
            return True
        gifts = self._find(short, owner)
        for session, blocks in gifts:
            self._take(session, blocks)
        return bool(gifts)

    def _find(self, short: int, owner: Session) -> list[tuple[Session, int]]:
        """Who gives how many blocks, ``short`` in all; nobody if that is not to be had."""
        gifts = []
        for session in self._in_order():
            if session is owner:
                if owner.idle_since_s is not None:
                    break  # the others are younger
                continue
            if blocks := min(short, self._gives(session)):
                gifts.append((session, blocks))
                short -= blocks
            if not short:
                return gifts
        return []

    def _in_order(self) -> list[Session]:
        if self._givers is None:
            live = [request.session for request in reversed(self._ranked)]
            holding = [session for session in live if self._memory.host.used(session.sequence)]
            self._givers = [*holding, *self._ledger.sessions.idle]
        return self._givers

    def _gives(self, session: Session) -> int:
        """Host blocks that may be taken from a session, which may have gone meanwhile; none under copy."""
        sequence = session.sequence
        if sequence not in self._memory.host or self._memory.pending(sequence) is not None:
            return 0
        if redundant := self._memory.reclaimable_host(sequence):
            return redundant
        return 0 if session.idle_since_s is None else self._memory.host.used(sequence)

    def _take(self, session: Session, num_blocks: int) -> None:
        if taken := self._memory.reclaim_host(session.sequence, num_blocks):
            self._ledger.emit(Contaminated(taken))
        else:
            self._ledger.drop_session(session, "room")
