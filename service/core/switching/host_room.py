"""Host blocks for KV that must leave the device: whose host blocks are freed for it, and whose never are.

Redundant copies give blocks first, lowest rank first, tail first; they cost a longer swap-out later (the paper calls
such a copy contaminated). Then idle sessions give theirs, longest silent first; one that is itself being swapped out
takes blocks from older ones only. The only copy of a live request's KV is never taken, and nothing is taken if it would
not be enough.
"""

from collections.abc import Sequence

from service.core.messages.events import Contaminated
from service.core.state.ledger import Ledger
from service.core.state.requests import Request
from service.core.state.sessions import Session


class HostVictims:
    """One step's victims on the host. ``ranked`` are the live requests that run or hold KV, best rank first."""

    def __init__(self, ledger: Ledger, ranked: Sequence[Request]) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._ranked = ranked
        self._victims: list[Session] | None = None  # in the order of giving, None until blocks are needed

    def make_available(self, num_blocks: int, owner: Session) -> bool:
        """Make ``num_blocks`` host blocks available to ``owner``. False: it is impossible, and nothing was taken."""
        if self._memory.host.used(owner.sequence) + num_blocks > self._memory.host.num_blocks:
            return False
        short = num_blocks - self._memory.host.num_available
        if short <= 0:
            return True
        shares = self._find_shares(short, owner)
        for session, blocks in shares:
            self._take_from(session, blocks)
        return bool(shares)

    def _find_shares(self, short: int, owner: Session) -> list[tuple[Session, int]]:
        """Return victims and how many blocks each gives, ``short`` in all; none if there are too few."""
        shares = []
        for session in self._in_order():
            if session is owner:
                if owner.idle_since_s is not None:
                    break  # the others are younger
                continue
            if blocks := min(short, self._num_takeable(session)):
                shares.append((session, blocks))
                short -= blocks
            if not short:
                return shares
        return []

    def _in_order(self) -> list[Session]:
        if self._victims is None:
            live = [request.session for request in reversed(self._ranked)]
            holding = [session for session in live if self._memory.host.used(session.sequence)]
            self._victims = [*holding, *self._ledger.sessions.idle]
        return self._victims

    def _num_takeable(self, session: Session) -> int:
        """Count the host blocks that may be taken from a session: none if it was dropped or is under copy."""
        sequence = session.sequence
        if sequence not in self._memory.host or self._memory.pending(sequence) is not None:
            return 0
        if redundant := self._memory.reclaimable_host(sequence):
            return redundant
        return 0 if session.idle_since_s is None else self._memory.host.used(sequence)

    def _take_from(self, session: Session, num_blocks: int) -> None:
        if taken := self._memory.reclaim_host(session.sequence, num_blocks):
            self._ledger.emit(Contaminated(taken))
        else:
            self._ledger.drop_session(session, "room")
