"""Where each node's KV is: on the device, on the host, or both.

A node is a shared prefix or the tail of a sequence (`allocator.nodes`). `KVMemory` owns the block groups of both pools
and every node's watermarks, which count its leading tokens: ``computed`` (have KV), ``resident`` (are on the device),
``mirrored`` (the valid copy on the host ends there). A node gives its last blocks first, so the copy may begin behind
the first block, with block ``first_mirrored``: what the device keeps was never copied.

    device  |###########resident###########|....reserved....|
    host          |######mirrored######|
                  ^ first_mirrored         ^ computed = max(resident, mirrored)

Always true, and verified by `check`:

- All KV below ``computed`` is on one side: ``max(resident, mirrored) = computed``, and where resident < computed the
  copy begins at or before ``resident``. A sequence runs only if all nodes of its path are resident.
- A node has KV only if the prefixes that it stands on have all of theirs, on either side.
- Where resident < computed, resident ends at a block boundary: a swap-in never writes into a block that has KV.
- A node has exactly its mirrored blocks on the host and at least its resident ones on the device, plus, on either
  side, those that a copy in flight is writing. A prefix never has more blocks than its length.
- The copy on the host grows at either end by a copy that touches it, so it never has a hole.
- A node has at most one copy in flight, so a block has at most one writer. Blocks under copy are not freed before
  the ticket ends: the ticket owns those that the node gives up (truncate, drop) until then.
- Every truncation of KV gives the node a new epoch, never used before. A ticket of an older epoch is stale: its end
  releases blocks and moves no watermark.
"""

from allocator.compaction import Move
from allocator.copies import CopiesInFlight
from allocator.errors import (
    MisuseError,
    NothingToCopyError,
    NotReservedError,
    NotResidentError,
    OutOfBlocksError,
)
from allocator.extents import Extent
from allocator.groups import BlockGroups
from allocator.nodes import Node
from allocator.tickets import Direction, Ticket
from allocator.tree import NodeTree
from allocator.watermarks import Marks, Watermarks

DEVICE = 0
HOST = 1
BLOCK_TOKENS = 16


class KVMemory:
    """Both pools and all nodes (numbers from 0 up). A call that raises has changed nothing.

    A sequence has the number of its tail. Tokens are counted from the begin of a sequence, except in watermarks.

    Sizes are in blocks of ``block_tokens`` tokens; ``device`` and ``host`` are the pools' block groups, to read from.
    """

    def __init__(
        self, device_blocks: int, host_blocks: int, block_tokens: int = BLOCK_TOKENS, *, initial_group: int
    ) -> None:
        if block_tokens < 1:
            raise ValueError(f"a block cannot hold {block_tokens} tokens")
        self.device = BlockGroups(device_blocks, DEVICE, initial_group=initial_group)
        self.host = BlockGroups(host_blocks, HOST, initial_group=initial_group)
        self.block_tokens = block_tokens
        self._nodes = NodeTree(block_tokens)
        self._copies = CopiesInFlight(self.device, self.host)

    def add(self, sequence: int, prefix: int | None = None) -> None:
        """Add a sequence without KV of its own, which stands on ``prefix``."""
        self._nodes.add_tail(sequence, None if prefix is None else self._nodes.prefix(prefix))
        self.device.grow(sequence, 0)
        self.host.grow(sequence, 0)

    def move(self, sequence: int, prefix: int) -> None:
        """Let a sequence without KV and blocks of its own stand on another prefix."""
        tail, to = self._nodes.tail(sequence), self._nodes.prefix(prefix)
        if self.device.used(sequence) or self.host.used(sequence):
            raise MisuseError(f"sequence {sequence} has blocks")
        tail.stand_on(to)

    def split(self, number: int, tokens: int, head: int) -> None:
        """Make the tokens of a node before token ``tokens``, whole blocks, a new prefix ``head``, on which it stands.

        Ownership of blocks changes on both sides; nothing is copied, and no sequence's blocks become others.
        Raises CopyPendingError.
        """
        node = self._nodes.settled(number)
        self._nodes.require_new(head)
        length = tokens - node.start
        if length <= 0 or length % self.block_tokens or (node.length is not None and length >= node.length):
            raise MisuseError(f"node {number} from token {node.start} on cannot be split at token {tokens}")
        blocks = length // self.block_tokens
        self.device.split(number, blocks, head)
        self.host.split(number, max(0, blocks - node.first_mirrored), head)
        self._nodes.split(node, head, length)

    def drop(self, number: int) -> None:
        """Forget a node on which nothing stands, and free its blocks; those under copy when their ticket ends."""
        node = self._nodes.node(number)
        if node.children:
            raise MisuseError(f"{len(node.children)} nodes stand on prefix {number}")
        self._truncate(number, node, 0)
        self._nodes.remove(node)
        self.device.release(number)
        self.host.release(number)

    @property
    def sequences(self) -> tuple[int, ...]:
        """All sequences, in the order in which they were added."""
        return self._nodes.tails

    @property
    def prefixes(self) -> tuple[int, ...]:
        """All shared prefixes, in the order in which they were split off."""
        return self._nodes.prefixes

    def path(self, sequence: int) -> tuple[int, ...]:
        """Return the nodes of a sequence, from the root to its tail."""
        return tuple(node.number for node in self._nodes.tail(sequence).path())

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """All copies in flight, oldest first."""
        return self._copies.tickets

    def ticket(self, number: int) -> Ticket:
        """Return the copy in flight with that number. Raises UnknownTicketError."""
        return self._copies.ticket(number)

    @property
    def num_held_by_tickets(self) -> int:
        """Device blocks that their sequences have given up and that copies in flight hold until they end."""
        return self._copies.num_held_by_tickets

    def watermarks(self, number: int) -> Watermarks:
        """Return a node's watermarks, in tokens from its start on."""
        node = self._nodes.node(number)
        return Watermarks(node.computed, node.resident, node.mirrored, node.epoch, node.first_mirrored)

    def computed(self, sequence: int) -> int:
        """Return the number of tokens that have KV."""
        tail = self._nodes.tail(sequence)
        if tail.resident or tail.mirrored or self._nodes.stands_ready(tail):
            return tail.start + tail.computed
        return next((prefix.start + prefix.computed for prefix in tail.above() if prefix.computed), 0)

    def own_computed(self, number: int) -> int:
        """Return how many tokens of a node have KV."""
        return self._nodes.node(number).computed

    def is_resident(self, sequence: int) -> bool:
        """Return whether the sequence may run: all its KV is on the device."""
        tail = self._nodes.tail(sequence)
        return tail.is_resident and (
            self._nodes.stands_ready(tail) or all(prefix.is_resident for prefix in tail.above())
        )

    def children(self, number: int) -> tuple[int, ...]:
        """Return the nodes that stand directly on a prefix."""
        return tuple(child.number for child in self._nodes.node(number).children)

    def has_kv_above(self, number: int) -> bool:
        """Return whether what stands on a node has KV."""
        return any(child.computed for child in self._nodes.node(number).children)

    def away(self, sequence: int) -> list[int]:
        """Return the nodes of a sequence's path that are not resident, the nearest to the root first."""
        return [node.number for node in self._nodes.tail(sequence).path() if not node.is_resident]

    def next_node(self, sequence: int) -> int:
        """Return the node whose KV the sequence computes next: the first that is not complete."""
        return self._nodes.next_node(self._nodes.tail(sequence)).number

    def pending(self, number: int) -> Ticket | None:
        """Return a node's copy in flight, stale or not."""
        return self._nodes.node(number).ticket

    def extents(self, sequence: int) -> tuple[Extent, ...]:
        """Return the device blocks of a sequence and its prefixes, in order; the same object until they change."""
        tail = self._nodes.tail(sequence)
        if tail.parent is None:
            return self.device.extents(sequence)
        extents: tuple[Extent, ...] = ()
        for node in tail.path():
            extents = node.join(extents, self.device.extents(node.number))
        return extents

    def device_blocks_for(self, tokens: int) -> int:
        """Return the number of blocks for ``tokens`` tokens, rounded up."""
        return -(-tokens // self.block_tokens)

    def lacking(self, sequence: int, tokens: int) -> dict[int, int]:
        """Return the device blocks that the nodes of a sequence lack for ``tokens`` tokens in all, by node."""
        tail = self._nodes.tail(sequence)
        blocks = -(-(tokens - tail.start) // self.block_tokens) - self.device.used(sequence)
        lacking = {sequence: blocks} if blocks > 0 else {}
        if self._nodes.stands_ready(tail):
            return lacking
        for prefix in tail.above():
            if blocks := self.device_blocks_for(prefix.length or 0) - self.device.used(prefix.number):
                lacking[prefix.number] = blocks
        return lacking

    def reserve(self, sequence: int, tokens: int) -> None:
        """Reserve device blocks for ``tokens`` tokens in all, those with KV included. Raises OutOfBlocksError."""
        lacking = self.lacking(sequence, tokens)
        if (more := sum(lacking.values())) > self.device.num_available:
            raise OutOfBlocksError(DEVICE, self.device.num_blocks, self.device.num_available, more)
        for number, blocks in lacking.items():
            self._grow(self.device, self._nodes.node(number), self.device.used(number) + blocks)

    def append(self, sequence: int, tokens: int) -> None:
        """Count the next ``tokens`` tokens as having KV on the device. Raises NotResidentError, NotReservedError.

        They are those of the prefixes first that the sequence stands on and that are not complete.
        """
        tail = self._nodes.tail(sequence)
        if tokens < 0:
            raise ValueError(f"cannot append {tokens} tokens; truncate takes them away")
        if not self.is_resident(sequence):
            raise NotResidentError(f"sequence {sequence}: part of its {self.computed(sequence)} tokens is not resident")
        parts = self._nodes.next_tokens(tail, tokens)
        for node, more in parts:
            reserved = self.device.used(node.number) * self.block_tokens
            if node.resident + more > reserved:
                raise NotReservedError(f"node {node.number}: {node.resident} + {more} tokens, {reserved} reserved")
        for node, more in parts:
            node.resident += more

    def truncate(self, number: int, tokens: int) -> None:
        """Forget a node's KV from token ``tokens`` of the sequence on, and free all its blocks behind it.

        Forgetting KV starts a new epoch; freeing blocks without KV does not. Raises MisuseError for a prefix while
        there is KV in what stands on it.
        """
        node = self._nodes.node(number)
        kept = tokens - node.start
        if kept < 0:
            raise ValueError(f"node {number} begins at token {node.start} and cannot be truncated to {tokens}")
        if kept >= node.computed:
            self.device.shrink(number, self.device_blocks_for(kept))
            return
        if any(child.computed for child in node.children):
            raise MisuseError(f"there is KV in what stands on prefix {number}")
        self._nodes.count_loss(node)
        self._truncate(number, node, self.device_blocks_for(kept))
        node.truncate(kept, kept, self.block_tokens)
        node.epoch = self._nodes.new_epoch()

    def swap_out(self, number: int, num_blocks: int | None = None) -> Ticket:
        """Start copying to the host what it lacks of the last ``num_blocks`` device blocks with KV (default: of all).

        Once that is complete, `reclaim_device` can free these blocks. Sequences may go on running meanwhile. A copy
        that the new one would not touch is given up. Raises OutOfBlocksError (host), NothingToCopyError,
        CopyPendingError.
        """
        node = self._nodes.settled(number)
        blocks, after = node.to_mirror(num_blocks, self.block_tokens)
        if not blocks:
            raise NothingToCopyError(f"node {number}: {node.mirrored} of {node.computed} tokens are mirrored")
        held = self.host.used(number)
        if (more := len(after) - held) > self.host.num_available:
            raise OutOfBlocksError(HOST, self.host.num_blocks, self.host.num_available, more)
        if after == blocks:
            self._reclaim(self.host, number, held)
        if (front := node.first_mirrored - after.start) > 0:
            self.host.grow_front(number, front)
        else:
            self._grow(self.host, node, len(after))
        end = min(blocks.stop * self.block_tokens, node.computed)
        node.ticket = self._copies.issue(number, Direction.OUT, blocks, end, node.epoch, after.start)
        return node.ticket

    def host_growth(self, number: int, num_blocks: int | None = None) -> int:
        """Return how many host blocks `swap_out` takes, those that it frees taken off."""
        _, after = self._nodes.node(number).to_mirror(num_blocks, self.block_tokens)
        return len(after) - self.host.used(number)

    def swap_in(self, number: int) -> Ticket:
        """Start copying to the device all of a node that is not resident.

        Raises OutOfBlocksError (device), NothingToCopyError, CopyPendingError.
        """
        node = self._nodes.settled(number)
        end = node.computed
        if node.is_resident:
            raise NothingToCopyError(f"node {number}: all {end} tokens are resident")
        blocks = range(node.resident // self.block_tokens, self.device_blocks_for(end))
        self._grow(self.device, node, blocks.stop)
        node.ticket = self._copies.issue(number, Direction.IN, blocks, end, node.epoch, node.first_mirrored)
        return node.ticket

    def complete(self, ticket: Ticket) -> bool:
        """End a successful copy: raise the watermark. False for a stale ticket, which changes none.

        Raises UnknownTicketError.
        """
        node = self._end(ticket)
        if node is None:
            return False
        applied = node.apply(ticket)
        self._settle(ticket.node, node)
        return applied

    def fail(self, ticket: Ticket) -> None:
        """End a failed copy: what it wrote is void, its destination is free again, and the other side still has the KV.

        Raises UnknownTicketError.
        """
        node = self._end(ticket)
        if node is None:
            return
        if ticket.direction is Direction.IN:
            if node.epoch == ticket.epoch:
                self.device.shrink(ticket.node, self.device_blocks_for(node.resident))
        elif ticket.first_block >= node.first_mirrored:
            # The block where mirrored ends was being rewritten, so even its valid part is in doubt. The device has it:
            # a node whose copy grows at this end is resident.
            node.truncate(node.resident, ticket.first_block * self.block_tokens, self.block_tokens)
        self._settle(ticket.node, node)

    def reclaimable_device(self, number: int) -> int:
        """Count what `reclaim_device` could free: a mirrored tail, or the blocks without KV; none under copy."""
        node = self._nodes.node(number)
        return 0 if node.ticket is not None else self.device.used(number) - node.needed_blocks(self.block_tokens)

    def arriving_device(self, number: int) -> int:
        """Count what `reclaim_device` could free once a node's copy in flight has succeeded; 0 without one."""
        node = self._nodes.node(number)
        if node.ticket is None:
            return 0
        return self.device.used(number) - node.after_copy().needed_blocks(self.block_tokens)

    def reclaimable_host(self, number: int) -> int:
        """Count what `reclaim_host` could free: all blocks when all KV is resident, else none; none under copy."""
        node = self._nodes.node(number)
        if node.ticket is not None or not node.is_resident:
            return 0
        return self.host.used(number)

    def reclaim_device(self, number: int, blocks: int) -> int:
        """Free up to ``blocks`` reclaimable device blocks, tail first. Return how many."""
        return self._reclaim(self.device, number, min(blocks, self.reclaimable_device(number)))

    def reclaim_host(self, number: int, blocks: int) -> int:
        """Free up to ``blocks`` reclaimable host blocks, tail first. Return how many.

        The paper calls it contaminating the copy when they are taken for one of higher rank.
        """
        return self._reclaim(self.host, number, min(blocks, self.reclaimable_host(number)))

    def compact(self, budget: int) -> tuple[Move, ...]:
        """Move at most ``budget`` device blocks towards a free extent as long as an initial group. Return the moves.

        Blocks under copy do not move. Sources are free at once: steps and copies that use them follow the moves.
        """
        movable = {node.number for node in self._nodes if node.ticket is None}
        return tuple(self.device.compact(self.device.initial_group, budget, movable))

    def check(self) -> None:
        """Raise AssertionError unless all that the module states is true, in both pools too."""
        self.device.check()
        self.host.check()
        self._copies.check()
        self._nodes.check()
        known = {node.number for node in self._nodes}
        for groups in (self.device, self.host):
            assert {owner for owner in groups.owners if owner >= 0} == known, "owners are not the nodes"
        for node in self._nodes:
            node.check(self.device.used(node.number), self.host.used(node.number), self.block_tokens)
            assert node.ticket is None or node.ticket in self.tickets, f"node {node.number}: its ticket has ended"

    def _grow(self, groups: BlockGroups, node: Node, num_blocks: int) -> None:
        """Give a node at least so many blocks. A prefix never grows beyond its length, so it gets no reserve."""
        groups.grow(node.number, num_blocks)
        if node.length is not None:
            groups.shrink(node.number, groups.used(node.number))

    def _end(self, ticket: Ticket) -> Node | None:
        """End the ticket. Return its node, or None if that was dropped (its number may be in use again)."""
        self._copies.end(ticket)
        return self._nodes.under_copy(ticket)

    def _truncate(self, number: int, node: Marks, blocks: int) -> None:
        """Keep the first ``blocks`` blocks on both sides."""
        if node.ticket is not None:
            self._copies.hand_to_ticket(node.ticket, blocks)
        self.device.shrink(number, blocks)
        self.host.shrink(number, max(0, blocks - node.first_on_host))

    def _reclaim(self, groups: BlockGroups, number: int, blocks: int) -> int:
        if blocks <= 0:
            return 0
        groups.shrink(number, groups.used(number) - blocks)
        node = self._nodes.node(number)
        self._nodes.count_loss(node)
        device, host = self.device.used(number), node.first_mirrored + self.host.used(number)
        node.truncate(device * self.block_tokens, host * self.block_tokens, self.block_tokens)
        return blocks

    def _settle(self, number: int, node: Marks) -> None:
        """End a node's copy, and free the host blocks that it took and did not fill.

        The reserve stays if it filled all.
        """
        first, last = node.first_on_host, self.device_blocks_for(node.mirrored)
        node.ticket = None
        if first + self.host.used(number) > last:
            self.host.shrink(number, max(0, last - first))
        if self.host.used(number) and first < node.first_mirrored:
            self.host.drop_front(number, node.first_mirrored - first)
