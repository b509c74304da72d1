"""A modelled link between two pools of hashes.

Each direction copies one ticket after the other. A ticket costs a time for each contiguous copy and one for each block,
whatever their bytes. Delay, reordering and failure are drawn from a seed, so a run repeats exactly. As with a real
copy, the source is read at some moment between start and end, and the destination means nothing until the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from allocator import Direction, Ticket, copy_runs
from service.core.messages.plan import CopyResult
from service.simulation.pools import HashPools


@dataclass(frozen=True, slots=True)
class Link:
    """What a copy costs in seconds, in each direction by itself, and what goes wrong.

    ``block_s`` is for a block, ``piece_s`` for a contiguous copy, ``delay_s`` at most so much more, drawn for each
    ticket. With ``reorder`` tickets do not wait for one another; ``failure`` is a probability. All are off by default.
    """

    block_s: float = 0.0
    piece_s: float = 0.0
    delay_s: float = 0.0
    reorder: bool = False
    failure: float = 0.0


@dataclass(frozen=True, slots=True)
class _Copy:
    ticket: Ticket
    result: CopyResult
    ends: float


class SimulatedCopier:
    """Copies over a `Link`. ``pieces_of`` returns how many contiguous copies a ticket takes (default: `copy_runs`)."""

    def __init__(
        self,
        pools: HashPools,
        link: Link | None = None,
        seed: int = 0,
        pieces_of: Callable[[Ticket], int] | None = None,
    ) -> None:
        self._pools = pools
        self._link = link or Link()
        self._random = Random(seed)
        self._pieces_of = pieces_of or (lambda ticket: len(copy_runs(ticket.source, ticket.destination)))
        self._free_at = {Direction.OUT: 0.0, Direction.IN: 0.0}
        self._copies: dict[int, _Copy] = {}

    def submit(self, ticket: Ticket, now: float) -> None:
        """Start a copy at ``now``."""
        pieces = self._pieces_of(ticket)
        seconds = pieces * self._link.piece_s + ticket.num_blocks * self._link.block_s
        seconds += self._random.random() * self._link.delay_s
        begins = now if self._link.reorder else max(now, self._free_at[ticket.direction])
        self._free_at[ticket.direction] = begins + seconds
        failed = self._random.random() < self._link.failure
        self._copies[ticket.number] = _Copy(
            ticket, CopyResult(ticket.number, seconds, pieces, failed), begins + seconds
        )
        self._pools.begin_copy(ticket, early=self._random.random() < 0.5)

    @property
    def next_end_s(self) -> float | None:
        """When the next copy ends; None if none is in flight."""
        return min((copy.ends for copy in self._copies.values()), default=None)

    def ended(self, now: float) -> list[CopyResult]:
        """Return the results of copies that have ended by ``now``, in the order of their ends."""
        over = sorted((copy for copy in self._copies.values() if copy.ends <= now), key=lambda copy: copy.ends)
        for copy in over:
            del self._copies[copy.ticket.number]
            self._pools.end_copy(copy.ticket, copy.result.failed)
        return [copy.result for copy in over]
