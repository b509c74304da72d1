"""Both pools with hashes as KV: a block holds, for each of its tokens, a hash of the sequence up to that token."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from allocator import DEVICE, Extent, Move, Ticket


@dataclass(slots=True)
class Block:
    """A block: the hash of the sequence ``before`` it, and the ``hashes`` after each of its tokens."""

    before: int
    hashes: list[int] = field(default_factory=list)

    def copy(self) -> "Block":
        """Return a copy that shares nothing."""
        return Block(self.before, list(self.hashes))


Blocks = dict[int, Block]  # by number; the contents of a missing one mean nothing


class HashPools:
    """The blocks of device and host, and what copies in flight have read."""

    def __init__(self) -> None:
        self.pools: tuple[Blocks, Blocks] = ({}, {})
        self._read: dict[int, list[Block | None]] = {}  # by ticket, for copies that read at their start

    @property
    def device(self) -> Blocks:
        """The blocks that the model reads and writes."""
        return self.pools[DEVICE]

    def poison(self, extents: Iterable[Extent]) -> None:
        """Forget the contents of blocks."""
        for extent in extents:
            for number in range(extent.start, extent.end):
                self.pools[extent.pool].pop(number, None)

    def move(self, moves: Iterable[Move]) -> None:
        """Move the contents of device blocks; those of the sources mean nothing then."""
        for move in moves:
            for source, destination in zip(move.sources, move.destinations, strict=True):
                self.device.pop(destination, None)
                if source in self.device:
                    self.device[destination] = self.device.pop(source)

    def begin_copy(self, ticket: Ticket, *, early: bool) -> None:
        """Start a copy. It reads its source now if ``early``, else at its end. Until then its destination is void."""
        if early:
            self._read[ticket.number] = self._source(ticket)
        self.poison(ticket.destination)

    def end_copy(self, ticket: Ticket, failed: bool) -> None:
        """End a copy. A failed one has written half of its blocks."""
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
