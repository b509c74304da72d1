"""Random lives of a `KVMemory` over two simulated memories.

Every token's KV is a number that is never used again, kept in an array by block; copies move those numbers at any time
between a ticket's start and its end, and a failed copy leaves rubbish. So a block that is freed, shared or overwritten
too early shows up as a wrong number below some sequence's watermark.
"""

from itertools import count

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocator import BlockGroups, CopyPendingError, Direction, KVMemory, OutOfBlocksError, Ticket, copy_runs

BLOCK = 4  # tokens
DEVICE_BLOCKS = 24
HOST_BLOCKS = 16
RUBBISH = -1

blocks = st.integers(1, 6)


class KVMemoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.memory = KVMemory(DEVICE_BLOCKS, HOST_BLOCKS, block_tokens=BLOCK, initial_group=4)
        self.device = [RUBBISH] * (DEVICE_BLOCKS * BLOCK)  # [block * token]
        self.host = [RUBBISH] * (HOST_BLOCKS * BLOCK)
        self.kv: dict[int, list[int]] = {}  # sequence -> what its tokens' KV must read
        self.stale: set[int] = set()  # tickets whose sequence was truncated since
        self.copied: set[int] = set()  # tickets that have copied all at least once
        self.numbers = count()

    @property
    def resident(self) -> list[int]:
        return [sequence for sequence in self.kv if self.memory.is_resident(sequence)]

    @property
    def not_resident(self) -> list[int]:
        return [sequence for sequence in self.kv if not self.memory.is_resident(sequence)]

    @property
    def dirty(self) -> list[int]:
        marks = {sequence: self.memory.watermarks(sequence) for sequence in self.kv}
        return [sequence for sequence, (computed, _, mirrored, _) in marks.items() if mirrored < computed]

    def slots(self, groups: BlockGroups, sequence: int) -> list[int]:
        """Indices into the simulated memory of the sequence's tokens, reserved ones included."""
        blocks = (block for extent in groups.extents(sequence) for block in range(extent.start, extent.end))
        return [block * BLOCK + token for block in blocks for token in range(BLOCK)]

    @precondition(lambda self: len(self.kv) < 4)
    @rule(tokens=st.integers(0, 20))
    def add(self, tokens: int) -> None:
        sequence = min(
            set(range(4)) - self.kv.keys()
        )  # ids come back while tickets of their last bearers are in flight
        self.memory.add(sequence)
        self.kv[sequence] = []
        self.compute(sequence, tokens)

    @precondition(lambda self: self.resident)
    @rule(data=st.data(), tokens=st.integers(1, 14))
    def run_sequence(self, data: st.DataObject, tokens: int) -> None:
        self.compute(data.draw(st.sampled_from(self.resident)), tokens)

    def compute(self, sequence: int, tokens: int) -> None:
        """Reserve, write and append, as a prefill chunk or a decode does."""
        wanted = len(self.kv[sequence]) + tokens
        missing = -(-wanted // BLOCK) - self.memory.device.used(sequence)
        if missing > self.memory.device.num_available:
            with pytest.raises(OutOfBlocksError):
                self.memory.reserve(sequence, wanted)
            return
        self.memory.reserve(sequence, wanted)
        slots = self.slots(self.memory.device, sequence)
        for _ in range(tokens):
            value = next(self.numbers)
            self.device[slots[len(self.kv[sequence])]] = value
            self.kv[sequence].append(value)
        self.memory.append(sequence, tokens)

    @precondition(lambda self: self.resident)
    @rule(data=st.data(), tokens=st.integers(0, 40))
    def reserve_room_only(self, data: st.DataObject, tokens: int) -> None:
        sequence = data.draw(st.sampled_from(self.resident))
        missing = -(-tokens // BLOCK) - self.memory.device.used(sequence)
        if missing <= self.memory.device.num_available:
            self.memory.reserve(sequence, tokens)

    @precondition(lambda self: self.kv)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.kv)))
        self.truncate_to(sequence, data.draw(st.integers(0, len(self.kv[sequence]))))

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def truncate_during_a_copy(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.memory.tickets)).sequence
        if self.kv.get(sequence):
            self.truncate_to(sequence, data.draw(st.integers(0, len(self.kv[sequence]) - 1)))

    def truncate_to(self, sequence: int, tokens: int) -> None:
        if tokens < len(self.kv[sequence]):
            self.make_stale(sequence)
        self.memory.truncate(sequence, tokens)
        del self.kv[sequence][tokens:]
        num_blocks = -(-tokens // BLOCK)
        assert self.memory.device.used(sequence) <= num_blocks
        assert self.memory.host.used(sequence) <= num_blocks

    @precondition(lambda self: self.kv)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.kv)))
        self.make_stale(sequence)
        self.memory.drop(sequence)
        del self.kv[sequence]

    def make_stale(self, sequence: int) -> None:
        pending = self.memory.pending(sequence)
        if pending is not None:
            self.stale.add(pending.number)

    @precondition(lambda self: self.dirty)
    @rule(data=st.data(), whole=st.booleans())
    def swap_out(self, data: st.DataObject, whole: bool) -> None:
        sequence = data.draw(st.sampled_from(self.dirty))
        computed, _, mirrored, _ = self.memory.watermarks(sequence)
        upto = computed if whole else data.draw(st.integers(mirrored + 1, computed))
        missing = -(-upto // BLOCK) - self.memory.host.used(sequence)
        if self.memory.pending(sequence) is not None:
            with pytest.raises(CopyPendingError):
                self.memory.swap_out(sequence, upto)
        elif missing > self.memory.host.num_available:
            with pytest.raises(OutOfBlocksError):
                self.memory.swap_out(sequence, upto)
        else:
            ticket = self.memory.swap_out(sequence, upto)
            assert ticket.num_blocks == -(-upto // BLOCK) - mirrored // BLOCK

    @precondition(lambda self: self.not_resident)
    @rule(data=st.data())
    def swap_in(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.not_resident))
        missing = -(-len(self.kv[sequence]) // BLOCK) - self.memory.device.used(sequence)
        if self.memory.pending(sequence) is not None:
            with pytest.raises(CopyPendingError):
                self.memory.swap_in(sequence)
        elif missing > self.memory.device.num_available:
            with pytest.raises(OutOfBlocksError):
                self.memory.swap_in(sequence)
        else:
            assert self.memory.swap_in(sequence).end == len(self.kv[sequence])

    @precondition(lambda self: self.dirty)
    @rule(data=st.data())
    def make_idle(self, data: st.DataObject) -> None:
        """A whole preemption: mirror all, give up some of the device."""
        sequence = data.draw(st.sampled_from(self.dirty))
        missing = -(-len(self.kv[sequence]) // BLOCK) - self.memory.host.used(sequence)
        if self.memory.pending(sequence) is None and missing <= self.memory.host.num_available:
            self.finish(self.memory.swap_out(sequence))
            self.memory.reclaim_device(sequence, data.draw(blocks))

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def copy_data(self, data: st.DataObject) -> None:
        self.move(data.draw(st.sampled_from(self.memory.tickets)))

    def move(self, ticket: Ticket) -> None:
        out = ticket.direction is Direction.OUT
        source, destination = (self.device, self.host) if out else (self.host, self.device)
        for start, to, length in copy_runs(ticket.source, ticket.destination):
            destination[to * BLOCK : (to + length) * BLOCK] = source[start * BLOCK : (start + length) * BLOCK]
        self.copied.add(ticket.number)

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(self.memory.tickets)))

    def finish(self, ticket: Ticket) -> None:
        if ticket.number not in self.copied:
            self.move(ticket)
        before = self.memory.watermarks(ticket.sequence) if ticket.sequence in self.kv else None
        fresh = ticket.number not in self.stale
        assert self.memory.complete(ticket) is fresh
        if fresh:
            now = self.memory.watermarks(ticket.sequence)
            assert ticket.end == (now.mirrored if ticket.direction is Direction.OUT else now.resident)
        elif before is not None:
            assert self.memory.watermarks(ticket.sequence) == before

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.memory.tickets))
        destination = self.host if ticket.direction is Direction.OUT else self.device
        for extent in ticket.destination:
            destination[extent.start * BLOCK : extent.end * BLOCK] = [RUBBISH] * (extent.length * BLOCK)
        self.memory.fail(ticket)

    @precondition(lambda self: self.kv)
    @rule(data=st.data(), num_blocks=blocks)
    def reclaim_device(self, data: st.DataObject, num_blocks: int) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.kv)))
        used = self.memory.device.used(sequence)
        computed, resident, mirrored, _ = self.memory.watermarks(sequence)
        freed = self.memory.reclaim_device(sequence, num_blocks)
        assert self.memory.device.used(sequence) == used - freed
        if self.memory.pending(sequence) is not None:
            assert freed == 0
        elif mirrored == computed:
            assert freed == min(num_blocks, used)
        else:
            assert self.memory.watermarks(sequence).resident == resident, "took dirty blocks"

    @precondition(lambda self: self.kv)
    @rule(data=st.data(), num_blocks=blocks)
    def contaminate(self, data: st.DataObject, num_blocks: int) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.kv)))
        used = self.memory.host.used(sequence)
        may = self.memory.is_resident(sequence) and self.memory.pending(sequence) is None
        freed = self.memory.reclaim_host(sequence, num_blocks)
        assert freed == (min(num_blocks, used) if may else 0)

    @invariant()
    def no_kv_is_lost_or_mixed_up(self) -> None:
        self.memory.check()
        assert set(self.memory.sequences) == self.kv.keys()
        for sequence, kv in self.kv.items():
            computed, resident, mirrored, _ = self.memory.watermarks(sequence)
            assert computed == max(resident, mirrored) == len(kv)
            on_device = [self.device[slot] for slot in self.slots(self.memory.device, sequence)[:resident]]
            assert on_device == kv[:resident]
            on_host = [self.host[slot] for slot in self.slots(self.memory.host, sequence)[:mirrored]]
            assert on_host == kv[:mirrored]

    def teardown(self) -> None:
        for sequence in list(self.kv):
            self.make_stale(sequence)
            self.memory.drop(sequence)
            del self.kv[sequence]
        for ticket in self.memory.tickets:
            self.finish(ticket)
        self.memory.check()
        assert self.memory.device.largest_free == DEVICE_BLOCKS
        assert self.memory.host.largest_free == HOST_BLOCKS


TestKVMemory = KVMemoryMachine.TestCase
