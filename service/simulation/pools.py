"""KV as hashes, on both sides: a block holds, for each of its tokens, a hash of the whole sequence up to there."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from allocator import DEVICE, Extent, Move, Ticket


@dataclass(slots=True)
class Block:
    """``before``: the hash of the sequence before this block; ``hashes``: after each of its tokens."""

    before: int
    hashes: list[int] = field(default_factory=list)

    def copy(self) -> "Block":
        """One of its own."""
        return Block(self.before, list(self.hashes))


Blocks = dict[int, Block]  # by number; a missing one holds nothing that means anything


class HashPools:
    """The device's and the host's blocks, and what copies in flight have read."""

    def __init__(self) -> None:
        self.pools: tuple[Blocks, Blocks] = ({}, {})
        self._read: dict[int, list[Block | None]] = {}  # by ticket, those read at their start

    @property
    def device(self) -> Blocks:
        """What the model reads and writes."""
        return self.pools[DEVICE]

    def poison(self, extents: Iterable[Extent]) -> None:
        """Forget what blocks hold."""
        for extent in extents:
            for number in range(extent.start, extent.end):
                self.pools[extent.pool].pop(number, None)

    def move(self, moves: Iterable[Move]) -> None:
        """Device blocks change places, with what they hold, if anything; the sources mean nothing then."""
        for move in moves:
            for source, destination in zip(move.sources, move.destinations, strict=True):
                self.device.pop(destination, None)
                if source in self.device:
                    self.device[destination] = self.device.pop(source)

    def begin_copy(self, ticket: Ticket, *, early: bool) -> None:
        """A copy starts; ``early``: it reads its source now, else at its end. What it writes is void till then."""
        if early:
            self._read[ticket.number] = self._source(ticket)
        self.poison(ticket.destination)

    def end_copy(self, ticket: Ticket, failed: bool) -> None:
        """A copy ends; a failed one has written half of it."""
        blocks = self._read.pop(ticket.number, None) or self._source(ticket)
        written = blocks[: len(blocks) // 2] if failed else blocks
        for (pool, number), block in zip(_numbers(ticket.destination), written, strict=False):
            if block is not None:
                self.pools[pool][number] = block

    def _source(self, ticket: Ticket) -> list[Block | None]:
        found = [self.pools[pool].get(number) for pool, number in _numbers(ticket.source)]
        return [block and block.copy() for block in found]


def _numbers(extents: Iterable[Extent]) -> Iterable[tuple[int, int]]:
    return ((extent.pool, number) for extent in extents for number in range(extent.start, extent.end))
