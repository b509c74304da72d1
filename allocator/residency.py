"""Where each sequence's KV is: on the device, on the host, or both.

`KVMemory` owns the block groups of both pools and every sequence's watermarks, which count leading tokens: ``computed``
(have KV), ``resident`` (are on the device), ``mirrored`` (the valid copy on the host ends there). A sequence gives its
last blocks first, so the copy may begin behind the first block, with block ``first_mirrored``: what the device keeps
was never copied.

    device  |###########resident###########|....reserved....|
    host          |######mirrored######|
                  ^ first_mirrored         ^ computed = max(resident, mirrored)

Always true, and verified by `check`:

- All KV below ``computed`` is on one side: ``max(resident, mirrored) = computed``, and where resident < computed the
  copy begins at or before ``resident``. A sequence runs only if all is resident.
- Where resident < computed, resident ends at a block boundary: a swap-in never writes into a block that has KV.
- A sequence has exactly its mirrored blocks on the host and at least its resident ones on the device, plus, on either
  side, those that a copy in flight is writing.
- The copy on the host grows at either end by a copy that touches it, so it never has a hole.
- A sequence has at most one copy in flight, so a block has at most one writer. Blocks under copy are not freed before
  the ticket ends: the ticket owns those that the sequence gives up (truncate, drop) until then.
- Every truncation of KV gives the sequence a new epoch, never used before. A ticket of an older epoch is stale: its end
  releases blocks and moves no watermark.
"""

from itertools import count

from allocator.compaction import Move
from allocator.copies import CopiesInFlight
from allocator.errors import (
    CopyPendingError,
    DuplicateOwnerError,
    NothingToCopyError,
    NotReservedError,
    NotResidentError,
    OutOfBlocksError,
    UnknownOwnerError,
)
from allocator.groups import BlockGroups
from allocator.tickets import Direction, Ticket
from allocator.watermarks import SequenceState, Watermarks

DEVICE = 0
HOST = 1
BLOCK_TOKENS = 16


class KVMemory:
    """Both pools and all sequences (ids from 0 up). A call that raises has changed nothing.

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
        self._sequences: dict[int, SequenceState] = {}
        self._copies = CopiesInFlight(self.device, self.host)
        self._epochs = count()

    def add(self, sequence: int) -> None:
        """Add a sequence without KV."""
        if sequence < 0:
            raise ValueError(f"sequence ids start at 0, {sequence} is not one")
        if sequence in self._sequences:
            raise DuplicateOwnerError(f"sequence {sequence} was already added")
        self._sequences[sequence] = SequenceState(next(self._epochs))
        self.device.grow(sequence, 0)
        self.host.grow(sequence, 0)

    def drop(self, sequence: int) -> None:
        """Forget a sequence and free its blocks; those under copy become free when their ticket ends."""
        self._truncate(sequence, self._state(sequence), 0)
        del self._sequences[sequence]
        self.device.release(sequence)
        self.host.release(sequence)

    @property
    def sequences(self) -> tuple[int, ...]:
        """All sequences, in the order in which they were added."""
        return tuple(self._sequences)

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

    def watermarks(self, sequence: int) -> Watermarks:
        """Return the sequence's watermarks, in tokens."""
        state = self._state(sequence)
        return Watermarks(state.computed, state.resident, state.mirrored, state.epoch, state.first_mirrored)

    def computed(self, sequence: int) -> int:
        """Return the number of tokens that have KV."""
        return self._state(sequence).computed

    def is_resident(self, sequence: int) -> bool:
        """Return whether the sequence may run: all its KV is on the device."""
        return self._state(sequence).is_resident

    def pending(self, sequence: int) -> Ticket | None:
        """Return the sequence's copy in flight, stale or not."""
        return self._state(sequence).ticket

    def device_blocks_for(self, tokens: int) -> int:
        """Return the number of blocks for ``tokens`` tokens, rounded up."""
        return -(-tokens // self.block_tokens)

    def reserve(self, sequence: int, tokens: int) -> None:
        """Reserve device blocks for ``tokens`` tokens in all, those with KV included. Raises OutOfBlocksError."""
        self._state(sequence)
        self.device.grow(sequence, self.device_blocks_for(tokens))

    def append(self, sequence: int, tokens: int) -> None:
        """Count the next ``tokens`` tokens as having KV on the device. Raises NotResidentError, NotReservedError."""
        state = self._state(sequence)
        if tokens < 0:
            raise ValueError(f"cannot append {tokens} tokens; truncate takes them away")
        if not state.is_resident:
            raise NotResidentError(f"sequence {sequence}: {state.resident} of {state.mirrored} tokens are resident")
        reserved = self.device.used(sequence) * self.block_tokens
        if state.resident + tokens > reserved:
            raise NotReservedError(f"sequence {sequence}: {state.resident} + {tokens} tokens, {reserved} reserved")
        state.resident += tokens

    def truncate(self, sequence: int, tokens: int) -> None:
        """Forget KV from token ``tokens`` on, and free all blocks behind it. ``truncate(0)`` precedes recomputing.

        Forgetting KV starts a new epoch; freeing blocks without KV does not.
        """
        state = self._state(sequence)
        if tokens < 0:
            raise ValueError(f"cannot truncate to {tokens} tokens")
        if tokens >= state.computed:
            self.device.shrink(sequence, self.device_blocks_for(tokens))
            return
        self._truncate(sequence, state, self.device_blocks_for(tokens))
        state.truncate(tokens, tokens, self.block_tokens)
        state.epoch = next(self._epochs)

    def swap_out(self, sequence: int, num_blocks: int | None = None) -> Ticket:
        """Start copying to the host what it lacks of the last ``num_blocks`` device blocks with KV (default: of all).

        Once that is complete, `reclaim_device` can free these blocks. The sequence may go on running meanwhile. A copy
        that the new one would not touch is given up. Raises OutOfBlocksError (host), NothingToCopyError,
        CopyPendingError.
        """
        state = self._idle_state(sequence)
        blocks, after = self._to_mirror(state, num_blocks)
        if not blocks:
            raise NothingToCopyError(f"sequence {sequence}: {state.mirrored} of {state.computed} tokens are mirrored")
        held = self.host.used(sequence)
        if (more := len(after) - held) > self.host.num_available:
            raise OutOfBlocksError(HOST, self.host.num_blocks, self.host.num_available, more)
        if after == blocks:
            self._reclaim(self.host, sequence, held)
        if (front := state.first_mirrored - after.start) > 0:
            self.host.grow_front(sequence, front)
        else:
            self.host.grow(sequence, len(after))
        end = min(blocks.stop * self.block_tokens, state.computed)
        state.ticket = self._copies.issue(sequence, Direction.OUT, blocks, end, state.epoch, after.start)
        return state.ticket

    def host_growth(self, sequence: int, num_blocks: int | None = None) -> int:
        """Return how many host blocks `swap_out` takes, those that it frees taken off."""
        _, after = self._to_mirror(self._state(sequence), num_blocks)
        return len(after) - self.host.used(sequence)

    def swap_in(self, sequence: int) -> Ticket:
        """Start copying to the device all that is not resident; the sequence may run once the ticket is complete.

        Raises OutOfBlocksError (device), NothingToCopyError, CopyPendingError.
        """
        state = self._idle_state(sequence)
        end = state.computed
        if state.is_resident:
            raise NothingToCopyError(f"sequence {sequence}: all {end} tokens are resident")
        blocks = range(state.resident // self.block_tokens, self.device_blocks_for(end))
        self.device.grow(sequence, blocks.stop)
        state.ticket = self._copies.issue(sequence, Direction.IN, blocks, end, state.epoch, state.first_mirrored)
        return state.ticket

    def complete(self, ticket: Ticket) -> bool:
        """End a successful copy: raise the watermark. False for a stale ticket, which changes none.

        Raises UnknownTicketError.
        """
        state = self._end(ticket)
        if state is None:
            return False
        applied = state.apply(ticket)
        self._settle(ticket.sequence, state)
        return applied

    def fail(self, ticket: Ticket) -> None:
        """End a failed copy: what it wrote is void, its destination is free again, and the other side still has the KV.

        Raises UnknownTicketError.
        """
        state = self._end(ticket)
        if state is None:
            return
        if ticket.direction is Direction.IN:
            if state.epoch == ticket.epoch:
                self.device.shrink(ticket.sequence, self.device_blocks_for(state.resident))
        elif ticket.first_block >= state.first_mirrored:
            # The block where mirrored ends was being rewritten, so even its valid part is in doubt. The device has it:
            # a sequence whose copy grows at this end is resident.
            state.truncate(state.resident, ticket.first_block * self.block_tokens, self.block_tokens)
        self._settle(ticket.sequence, state)

    def reclaimable_device(self, sequence: int) -> int:
        """Count what `reclaim_device` could free: a mirrored tail, or the blocks without KV; none under copy."""
        state = self._state(sequence)
        return 0 if state.ticket is not None else self._num_unneeded(sequence, state)

    def arriving_device(self, sequence: int) -> int:
        """Count what `reclaim_device` could free once the sequence's copy in flight has succeeded; 0 without one."""
        state = self._state(sequence)
        return 0 if state.ticket is None else self._num_unneeded(sequence, state.after_copy())

    def reclaimable_host(self, sequence: int) -> int:
        """Count what `reclaim_host` could free: all blocks when all KV is resident, else none; none under copy."""
        state = self._state(sequence)
        if state.ticket is not None or not state.is_resident:
            return 0
        return self.host.used(sequence)

    def reclaim_device(self, sequence: int, blocks: int) -> int:
        """Free up to ``blocks`` reclaimable device blocks, tail first. Return how many."""
        return self._reclaim(self.device, sequence, min(blocks, self.reclaimable_device(sequence)))

    def reclaim_host(self, sequence: int, blocks: int) -> int:
        """Free up to ``blocks`` reclaimable host blocks, tail first. Return how many.

        The paper calls it contaminating the copy when they are taken for a sequence of higher rank.
        """
        return self._reclaim(self.host, sequence, min(blocks, self.reclaimable_host(sequence)))

    def compact(self, budget: int) -> tuple[Move, ...]:
        """Move at most ``budget`` device blocks towards a free extent as long as an initial group. Return the moves.

        Blocks under copy do not move. Sources are free at once: steps and copies that use them follow the moves.
        """
        movable = {sequence for sequence, state in self._sequences.items() if state.ticket is None}
        return tuple(self.device.compact(self.device.initial_group, budget, movable))

    def check(self) -> None:
        """Raise AssertionError unless all that the module states is true, in both pools too."""
        self.device.check()
        self.host.check()
        self._copies.check()
        known = list(self._sequences)
        for groups in (self.device, self.host):
            assert [owner for owner in groups.owners if owner >= 0] == known, "owners are not the sequences"
        for sequence, state in self._sequences.items():
            self._check_sequence(sequence, state)

    def _check_sequence(self, sequence: int, state: SequenceState) -> None:
        name = f"sequence {sequence}"
        device, host = self.device.used(sequence), self.host.used(sequence)
        assert device >= self.device_blocks_for(state.resident), f"{name}: resident tokens without blocks"
        mirrored = self.device_blocks_for(state.mirrored) - state.first_mirrored
        assert host == mirrored or (host > mirrored and state.ticket is not None), f"{name}: {host} host blocks"
        assert mirrored > 0 or state.mirrored == state.first_mirrored == 0, f"{name}: an empty copy has a place"
        begins = state.first_mirrored * self.block_tokens
        assert state.is_resident or begins <= state.resident, f"{name}: {state.resident} resident, copy from {begins}"
        whole = state.is_resident or state.resident % self.block_tokens == 0
        assert whole, f"{name}: resident ends at token {state.resident}, inside a block"
        assert state.ticket is None or state.ticket in self.tickets, f"{name}: its ticket has ended"

    def _state(self, sequence: int) -> SequenceState:
        state = self._sequences.get(sequence)
        if state is None:
            raise UnknownOwnerError(f"there is no sequence {sequence}")
        return state

    def _idle_state(self, sequence: int) -> SequenceState:
        """Return the state of a sequence. Raises CopyPendingError if a copy of it is in flight."""
        state = self._state(sequence)
        if state.ticket is not None:
            raise CopyPendingError(f"sequence {sequence}: ticket {state.ticket.number} is in flight")
        return state

    def _end(self, ticket: Ticket) -> SequenceState | None:
        """End the ticket. Return its sequence's state, or None if that was dropped (its id may be in use again)."""
        self._copies.end(ticket)
        state = self._sequences.get(ticket.sequence)
        return None if state is None or state.ticket != ticket else state

    def _to_mirror(self, state: SequenceState, num_blocks: int | None) -> tuple[range, range]:
        """Return the blocks to copy so that the last ``num_blocks`` can be given, and those that the host has then.

        A copy grows where it touches what is asked for. Where blocks lie between, they are copied too if they are no
        more than the copy has; else the copy starts anew. So no more is copied than was asked for and copied before.
        """
        on_device, computed = self.device_blocks_for(state.resident), self.device_blocks_for(state.computed)
        first = 0 if num_blocks is None else max(0, on_device - num_blocks)
        if state.mirrored == state.computed:
            last = state.first_mirrored
            return range(first, last), range(min(first, last), computed)
        full = state.mirrored // self.block_tokens
        if state.mirrored and state.first_mirrored <= first <= 2 * full - state.first_mirrored:
            return range(full, computed), range(state.first_mirrored, computed)
        return range(first, computed), range(first, computed)

    def _num_unneeded(self, sequence: int, state: SequenceState) -> int:
        """Count the device blocks that hold no KV, or KV that is mirrored to its end."""
        is_clean = state.mirrored == state.computed
        needed = state.first_mirrored if is_clean else self.device_blocks_for(state.resident)
        return self.device.used(sequence) - needed

    def _truncate(self, sequence: int, state: SequenceState, blocks: int) -> None:
        """Keep the first ``blocks`` blocks on both sides."""
        if state.ticket is not None:
            self._copies.hand_to_ticket(state.ticket, blocks)
        self.device.shrink(sequence, blocks)
        self.host.shrink(sequence, max(0, blocks - state.first_on_host))

    def _reclaim(self, groups: BlockGroups, sequence: int, blocks: int) -> int:
        if blocks <= 0:
            return 0
        groups.shrink(sequence, groups.used(sequence) - blocks)
        state = self._state(sequence)
        device, host = self.device.used(sequence), state.first_mirrored + self.host.used(sequence)
        state.truncate(device * self.block_tokens, host * self.block_tokens, self.block_tokens)
        return blocks

    def _settle(self, sequence: int, state: SequenceState) -> None:
        """End a sequence's copy, and free the host blocks that it took and did not fill.

        The reserve stays if it filled all.
        """
        first, last = state.first_on_host, self.device_blocks_for(state.mirrored)
        state.ticket = None
        if first + self.host.used(sequence) > last:
            self.host.shrink(sequence, max(0, last - first))
        if self.host.used(sequence) and first < state.first_mirrored:
            self.host.drop_front(sequence, state.first_mirrored - first)
