"""Copies in flight, and the blocks that they keep.

`CopiesInFlight` owns the tickets. The blocks of a ticket belong to its sequence, as far as that still wants them, and
else to the ticket itself, as an owner of block groups of its own. Always true: no block is under two copies, and none
is freed before its ticket ends.
"""

from itertools import chain, count

from allocator.errors import UnknownTicketError, require
from allocator.extents import Extent
from allocator.groups import BlockGroups
from allocator.tickets import Direction, Ticket, slice_extents


class CopiesInFlight:
    """Tickets between the two pools of a `KVMemory`."""

    def __init__(self, device: BlockGroups, host: BlockGroups) -> None:
        self._device = device
        self._host = host
        self._tickets: dict[int, Ticket] = {}  # by number
        self._held: dict[int, int] = {}  # by number: the sequence's own blocks under copy end at this index
        self._numbers = count()

    def issue(self, sequence: int, direction: Direction, blocks: range, end: int, epoch: int) -> Ticket:
        """A ticket for the sequence's blocks with the indices ``blocks``, which it has on both sides."""
        source = slice_extents(self._device.extents(sequence), blocks.start, blocks.stop)
        destination = slice_extents(self._host.extents(sequence), blocks.start, blocks.stop)
        if direction is Direction.IN:
            source, destination = destination, source
        number = next(self._numbers)
        ticket = Ticket(number, sequence, direction, blocks.start, source, destination, end, epoch)
        self._tickets[number] = ticket
        self._held[number] = blocks.stop
        return ticket

    def let_go(self, ticket: Ticket, num_blocks: int) -> None:
        """The sequence keeps ``num_blocks`` blocks a side: those under copy beyond now belong to the ticket."""
        held = self._held[ticket.number]
        if num_blocks >= held:
            return
        kept = max(num_blocks, ticket.first_block)
        for groups in (self._device, self._host):
            groups.shrink(ticket.sequence, held)
            groups.hand_over(ticket.sequence, kept, _holder(ticket.number))
        self._held[ticket.number] = kept

    def end(self, ticket: Ticket) -> None:
        """Forget the ticket and free what belongs to it. Raises UnknownTicketError when it has ended before."""
        if self._tickets.get(ticket.number) != ticket:
            raise UnknownTicketError(f"ticket {ticket.number} is not in flight")
        del self._tickets[ticket.number], self._held[ticket.number]
        for groups in (self._device, self._host):
            if _holder(ticket.number) in groups:
                groups.release(_holder(ticket.number))

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """All in flight, oldest first."""
        return tuple(self._tickets.values())

    def ticket(self, number: int) -> Ticket:
        """The one in flight of that number. Raises UnknownTicketError."""
        ticket = self._tickets.get(number)
        if ticket is None:
            raise UnknownTicketError(f"ticket {number} is not in flight")
        return ticket

    @property
    def num_let_go(self) -> int:
        """Device blocks that belong to tickets alone."""
        holders = map(_holder, self._tickets)
        return sum(self._device.used(holder) for holder in holders if holder in self._device)

    def check(self) -> None:
        """Raise InvariantError unless every block under copy has exactly one ticket, and an owner that keeps it."""
        sides = [_by_pool(ticket) for ticket in self._tickets.values()]
        for pool, groups in enumerate((self._device, self._host)):
            under_copy = [block for ticket in sides for block in _blocks(ticket[pool])]
            require(len(under_copy) == len(set(under_copy)), f"pool {pool}: a block is under two copies")
            holders = {owner for owner in groups.owners if owner < 0}
            require(holders <= {_holder(number) for number in self._tickets}, f"pool {pool}: a ticket left blocks")
            for ticket in self._tickets.values():
                kept = _blocks(self._kept(ticket, groups))
                require(kept == _blocks(_by_pool(ticket)[pool]), f"pool {pool}: {ticket} lost blocks")

    def _kept(self, ticket: Ticket, groups: BlockGroups) -> tuple[Extent, ...]:
        """The blocks of a ticket by who has them: the sequence's own, then those handed over."""
        held = self._held[ticket.number]
        own: tuple[Extent, ...] = ()
        if held > ticket.first_block:
            own = slice_extents(groups.extents(ticket.sequence), ticket.first_block, held)
        holder = _holder(ticket.number)
        return own + (groups.extents(holder) if holder in groups else ())


def _holder(number: int) -> int:
    """The owner id under which a ticket has blocks; sequences have ids from 0 up."""
    return -1 - number


def _by_pool(ticket: Ticket) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """The ticket's extents as (device, host)."""
    if ticket.direction is Direction.OUT:
        return ticket.source, ticket.destination
    return ticket.destination, ticket.source


def _blocks(extents: tuple[Extent, ...]) -> list[int]:
    return sorted(chain.from_iterable(range(extent.start, extent.end) for extent in extents))
