"""Host blocks for KV that must leave the device: whose host blocks are freed for it, and whose never are.

Redundant copies give blocks first, lowest rank first, tail first; they cost a longer swap-out later (the paper calls
such a copy contaminated). Then what is idle gives its own, in the order of `SessionTable.idle`; what is itself being
swapped out takes blocks only from those before it. The only copy of a live request's KV is never taken, nor one on
which other KV stands, and nothing is taken if it would not be enough.
"""

from collections.abc import Sequence

from service.core.messages.events import Contaminated
from service.core.state.ledger import Ledger
from service.core.state.owners import Owner, Prefix, Session
from service.core.state.requests import Request


class HostVictims:
    """One step's victims on the host. ``ranked`` are the live requests that run or hold KV, best rank first."""

    def __init__(self, ledger: Ledger, ranked: Sequence[Request]) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._ranked = ranked
        self._victims: list[Owner] | None = None  # in the order of giving, None until blocks are needed

    def make_available(self, num_blocks: int, owner: Owner) -> bool:
        """Make ``num_blocks`` host blocks available to ``owner``. False: it is impossible, and nothing was taken."""
        if self._memory.host.used(owner.number) + num_blocks > self._memory.host.num_blocks:
            return False
        short = num_blocks - self._memory.host.num_available
        if short <= 0:
            return True
        for victim, blocks in self._find_shares(short, owner):
            if victim.number in self._memory.host:  # else it went with another
                self._take_from(victim, blocks)
        return num_blocks <= self._memory.host.num_available

    def _find_shares(self, short: int, owner: Owner) -> list[tuple[Owner, int]]:
        """Return victims and how many blocks each gives, ``short`` in all; none if there are too few."""
        shares: list[tuple[Owner, int]] = []
        for victim in self._in_order():
            if victim is owner:
                if owner.idle_since_s is not None:
                    break  # the others were used later
                continue
            if blocks := min(short, self._num_takeable(victim, owner)):
                shares.append((victim, blocks))
                short -= blocks
            if not short:
                return shares
        return []

    def _in_order(self) -> list[Owner]:
        if self._victims is None:
            live: dict[Owner, None] = {}
            for request in self._ranked:  # the best first, so that a prefix stands where the best on it does
                live.update(dict.fromkeys([*reversed(list(request.session.path_up)), request.session]))
            holding = [owner for owner in reversed(live) if self._memory.host.used(owner.number)]
            self._victims = [*holding, *self._ledger.sessions.idle]
        return self._victims

    def _num_takeable(self, victim: Owner, owner: Owner) -> int:
        """Count the host blocks that may be taken from a victim: none if it was dropped or is under copy."""
        number = victim.number
        if number not in self._memory.host or self._memory.pending(number) is not None:
            return 0
        if redundant := self._memory.reclaimable_host(number):
            return redundant
        if victim.idle_since_s is None or self._memory.has_kv_above(number) or _is_tied(victim, owner):
            return 0
        return self._memory.host.used(number)

    def _take_from(self, victim: Owner, num_blocks: int) -> None:
        if taken := self._memory.reclaim_host(victim.number, num_blocks):
            self._ledger.emit(Contaminated(taken))
        elif isinstance(victim, Session):
            self._ledger.drop(victim, "room")
        else:
            self._ledger.drop_kv(victim, victim.start, "host_full")


def _is_tied(victim: Owner, owner: Owner) -> bool:
    """Return whether the owner stands on the victim, or would go with it, since nobody can find it any more."""
    is_hidden = isinstance(owner, Prefix) and owner.is_hidden
    return victim in set(owner.path_up) or (is_hidden and owner in set(victim.path_up))
