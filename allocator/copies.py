"""Copies in flight, and the blocks that they hold.

`CopiesInFlight` owns the tickets. The blocks of a ticket belong to its node. Those that the node gives up
belong to the ticket itself, which is then an owner of block groups. Always true: no block is under two copies, and no
block is freed before its ticket ends.
"""

from itertools import chain, count

from allocator.errors import UnknownTicketError
from allocator.extents import Extent
from allocator.groups import BlockGroups
from allocator.tickets import Direction, Ticket, slice_extents


class CopiesInFlight:
    """The tickets of copies between the two pools of a `KVMemory`."""

    def __init__(self, device: BlockGroups, host: BlockGroups) -> None:
        self._device = device
        self._host = host
        self._tickets: dict[int, Ticket] = {}  # by number
        self._own_end: dict[int, int] = {}  # by number: the node's own blocks under copy end at this index
        self._host_first: dict[int, int] = {}  # by number: the index of the first block that the host has
        self._numbers = count()

    def issue(self, node: int, direction: Direction, blocks: range, end: int, epoch: int, host_first: int) -> Ticket:
        """Return a new ticket for the node's blocks with the indices ``blocks``, which it has on both sides.

        Its blocks on the host begin with index ``host_first``, and will until the ticket ends.
        """
        source = slice_extents(self._device.extents(node), blocks.start, blocks.stop)
        on_host = self._host.extents(node)
        destination = slice_extents(on_host, blocks.start - host_first, blocks.stop - host_first)
        if direction is Direction.IN:
            source, destination = destination, source
        number = next(self._numbers)
        ticket = Ticket(number, node, direction, blocks.start, source, destination, end, epoch)
        self._tickets[number] = ticket
        self._own_end[number] = blocks.stop
        self._host_first[number] = host_first
        return ticket

    def hand_to_ticket(self, ticket: Ticket, num_blocks: int) -> None:
        """Leave the node ``num_blocks`` blocks a side; the ticket now owns the blocks under copy behind those."""
        own_end = self._own_end[ticket.number]
        if num_blocks >= own_end:
            return
        new_end = max(num_blocks, ticket.first_block)
        for groups, first in self._sides(ticket):
            groups.shrink(ticket.node, own_end - first)
            groups.hand_over(ticket.node, new_end - first, _holder(ticket.number))
        self._own_end[ticket.number] = new_end

    def end(self, ticket: Ticket) -> None:
        """Forget the ticket and free the blocks that it owns. Raises UnknownTicketError when it has already ended."""
        if self._tickets.get(ticket.number) != ticket:
            raise UnknownTicketError(f"ticket {ticket.number} is not in flight")
        del self._tickets[ticket.number], self._own_end[ticket.number], self._host_first[ticket.number]
        for groups in (self._device, self._host):
            if _holder(ticket.number) in groups:
                groups.release(_holder(ticket.number))

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """All tickets in flight, oldest first."""
        return tuple(self._tickets.values())

    def ticket(self, number: int) -> Ticket:
        """Return the ticket in flight with that number. Raises UnknownTicketError."""
        ticket = self._tickets.get(number)
        if ticket is None:
            raise UnknownTicketError(f"ticket {number} is not in flight")
        return ticket

    @property
    def num_held_by_tickets(self) -> int:
        """Device blocks that tickets own themselves."""
        holders = map(_holder, self._tickets)
        return sum(self._device.used(holder) for holder in holders if holder in self._device)

    def check(self) -> None:
        """Raise AssertionError unless every block under copy has exactly one ticket, and an owner."""
        sides = [_by_pool(ticket) for ticket in self._tickets.values()]
        for pool, groups in enumerate((self._device, self._host)):
            under_copy = [block for ticket in sides for block in _blocks(ticket[pool])]
            assert len(under_copy) == len(set(under_copy)), f"pool {pool}: a block is under two copies"
            holders = {owner for owner in groups.owners if owner < 0}
            assert holders <= {_holder(number) for number in self._tickets}, f"pool {pool}: an ended ticket has blocks"
            for ticket in self._tickets.values():
                held = _blocks(self._held(ticket, *self._sides(ticket)[pool]))
                assert held == _blocks(_by_pool(ticket)[pool]), f"pool {pool}: {ticket} lost blocks"

    def _sides(self, ticket: Ticket) -> tuple[tuple[BlockGroups, int], tuple[BlockGroups, int]]:
        """Return both pools, each with the index of the first block that the ticket's node has there."""
        return (self._device, 0), (self._host, self._host_first[ticket.number])

    def _held(self, ticket: Ticket, groups: BlockGroups, first: int) -> tuple[Extent, ...]:
        """Return the blocks of a ticket as their owners have them: the node's, then the ticket's own."""
        own_end = self._own_end[ticket.number]
        own: tuple[Extent, ...] = ()
        if own_end > ticket.first_block:
            own = slice_extents(groups.extents(ticket.node), ticket.first_block - first, own_end - first)
        holder = _holder(ticket.number)
        return own + (groups.extents(holder) if holder in groups else ())


def _holder(number: int) -> int:
    """Return the owner id of a ticket; nodes have numbers from 0 up."""
    return -1 - number


def _by_pool(ticket: Ticket) -> tuple[tuple[Extent, ...], tuple[Extent, ...]]:
    """Return the ticket's extents as (device, host)."""
    if ticket.direction is Direction.OUT:
        return ticket.source, ticket.destination
    return ticket.destination, ticket.source


def _blocks(extents: tuple[Extent, ...]) -> list[int]:
    return sorted(chain.from_iterable(range(extent.start, extent.end) for extent in extents))
