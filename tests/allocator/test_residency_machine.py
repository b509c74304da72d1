"""Random lives of a `KVMemory` over two simulated memories.

Every token's KV is a number that is never used again, kept in an array by block; copies move those numbers at any time
between a ticket's start and its end, and a failed copy leaves rubbish. So a block that is freed, shared or overwritten
too early shows up as a wrong number below some sequence's watermark.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocator import (
    BlockGroups,
    CopyPendingError,
    Direction,
    KVMemory,
    NothingToCopyError,
    OutOfBlocksError,
    Ticket,
    copy_runs,
)

BLOCK = 4  # tokens
DEVICE_BLOCKS = 24
HOST_BLOCKS = 16
RUBBISH = -1

blocks = st.integers(1, 6)
Source = st.DataObject | Random


T = TypeVar("T")

# What seeded lives must have met, or they have proved nothing.
MET = tuple(f"{what} {where}" for what in ("copied", "failed", "stale") for where in ("in front", "at the end", "anew"))


def one_of(source: Source, options: Sequence[T]) -> T:
    return source.choice(options) if isinstance(source, Random) else source.draw(st.sampled_from(options))


def number(source: Source, low: int, high: int) -> int:
    return source.randint(low, high) if isinstance(source, Random) else source.draw(st.integers(low, high))


class KVMemoryMachine(RuleBasedStateMachine):
    met: ClassVar[Counter[str]] = Counter()  # over all examples

    def __init__(self) -> None:
        super().__init__()
        self.memory = KVMemory(DEVICE_BLOCKS, HOST_BLOCKS, block_tokens=BLOCK, initial_group=4)
        self.device = [RUBBISH] * (DEVICE_BLOCKS * BLOCK)  # [block * token]
        self.host = [RUBBISH] * (HOST_BLOCKS * BLOCK)
        self.kv: dict[int, list[int]] = {}  # sequence -> what its tokens' KV must read
        self.stale: set[int] = set()  # tickets whose sequence was truncated since
        self.copied: set[int] = set()  # tickets that have copied all at least once
        self.where: dict[int, str] = {}  # how tickets to the host enlarge the copy there
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
        return [sequence for sequence, now in marks.items() if now.mirrored < now.computed]

    @property
    def unmirrored(self) -> list[int]:
        """Those of which the device has blocks that the host lacks."""
        marks = {sequence: self.memory.watermarks(sequence) for sequence in self.kv}
        return [sequence for sequence, now in marks.items() if now.mirrored < now.computed or now.first_mirrored]

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
    def run_sequence(self, data: Source, tokens: int) -> None:
        self.compute(one_of(data, self.resident), tokens)

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
    def reserve_room_only(self, data: Source, tokens: int) -> None:
        sequence = one_of(data, self.resident)
        missing = -(-tokens // BLOCK) - self.memory.device.used(sequence)
        if missing <= self.memory.device.num_available:
            self.memory.reserve(sequence, tokens)

    @precondition(lambda self: self.kv)
    @rule(data=st.data())
    def truncate(self, data: Source) -> None:
        sequence = one_of(data, sorted(self.kv))
        self.truncate_to(sequence, number(data, 0, len(self.kv[sequence])))

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def truncate_during_a_copy(self, data: Source) -> None:
        sequence = one_of(data, self.memory.tickets).node
        if self.kv.get(sequence):
            self.truncate_to(sequence, number(data, 0, len(self.kv[sequence]) - 1))

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
    def drop(self, data: Source) -> None:
        sequence = one_of(data, sorted(self.kv))
        self.make_stale(sequence)
        self.memory.drop(sequence)
        del self.kv[sequence]

    def make_stale(self, sequence: int) -> None:
        pending = self.memory.pending(sequence)
        if pending is not None:
            self.stale.add(pending.number)

    @precondition(lambda self: self.unmirrored)
    @rule(data=st.data(), asked=blocks, whole=st.booleans())
    def swap_out(self, data: Source, asked: int, whole: bool) -> None:
        sequence = one_of(data, self.unmirrored)
        num_blocks = None if whole else asked
        before, on_host = self.memory.watermarks(sequence), self.memory.host.used(sequence)
        if self.memory.pending(sequence) is not None:
            with pytest.raises(CopyPendingError):
                self.memory.swap_out(sequence, num_blocks)
        elif self.lacks_nothing_of(sequence, asked) and not whole:
            with pytest.raises(NothingToCopyError):
                self.memory.swap_out(sequence, num_blocks)
        elif (growth := self.memory.host_growth(sequence, num_blocks)) > self.memory.host.num_available:
            with pytest.raises(OutOfBlocksError):
                self.memory.swap_out(sequence, num_blocks)
            assert self.memory.watermarks(sequence) == before
        else:
            ticket = self.memory.swap_out(sequence, num_blocks)
            self.where[ticket.number] = self.how_it_grows(ticket)
            assert self.memory.host.used(sequence) == on_host + growth
            on_device = -(-before.resident // BLOCK)
            wanted = on_device if whole else min(asked, on_device)
            assert ticket.num_blocks <= wanted + on_host, "copied more than what was asked for and the copy's length"
            arriving = self.memory.arriving_device(sequence)
            assert arriving - (self.memory.device.used(sequence) - on_device) >= wanted, "too few blocks arrive"

    def how_it_grows(self, ticket: Ticket) -> str:
        now = self.memory.watermarks(ticket.node)
        if now.mirrored == 0:
            return "anew"
        return "in front" if ticket.first_block < now.first_mirrored else "at the end"

    def lacks_nothing_of(self, sequence: int, asked: int) -> bool:
        """Whether the host has the KV of the last ``asked`` blocks on the device."""
        now = self.memory.watermarks(sequence)
        return now.mirrored == now.computed and -(-now.resident // BLOCK) - asked >= now.first_mirrored

    @precondition(lambda self: self.not_resident)
    @rule(data=st.data())
    def swap_in(self, data: Source) -> None:
        sequence = one_of(data, self.not_resident)
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
    def make_idle(self, data: Source) -> None:
        """A whole preemption: mirror all, give up some of the device."""
        sequence = one_of(data, self.dirty)
        missing = self.memory.host_growth(sequence)
        if self.memory.pending(sequence) is None and missing <= self.memory.host.num_available:
            self.finish(self.memory.swap_out(sequence))
            self.memory.reclaim_device(sequence, number(data, 1, 6))

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def copy_data(self, data: Source) -> None:
        self.move(one_of(data, self.memory.tickets))

    def move(self, ticket: Ticket) -> None:
        out = ticket.direction is Direction.OUT
        source, destination = (self.device, self.host) if out else (self.host, self.device)
        for start, to, length in copy_runs(ticket.source, ticket.destination):
            destination[to * BLOCK : (to + length) * BLOCK] = source[start * BLOCK : (start + length) * BLOCK]
        self.copied.add(ticket.number)

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def complete(self, data: Source) -> None:
        self.finish(one_of(data, self.memory.tickets))

    def finish(self, ticket: Ticket) -> None:
        if ticket.number not in self.copied:
            self.move(ticket)
        before = self.memory.watermarks(ticket.node) if ticket.node in self.kv else None
        arriving = 0 if before is None else self.memory.arriving_device(ticket.node)
        belongs = before is not None and self.memory.pending(ticket.node) == ticket
        fresh = ticket.number not in self.stale
        self.note("copied" if fresh else "stale", ticket)
        assert self.memory.complete(ticket) is fresh
        if belongs:
            assert self.memory.reclaimable_device(ticket.node) == arriving, "not what was to arrive"
        if fresh:
            now = self.memory.watermarks(ticket.node)
            if ticket.direction is Direction.IN:
                assert ticket.end == now.resident
            else:
                assert now.first_mirrored <= ticket.first_block
                assert now.mirrored >= ticket.end
        elif before is not None:
            assert self.memory.watermarks(ticket.node) == before

    @precondition(lambda self: self.memory.tickets)
    @rule(data=st.data())
    def fail(self, data: Source) -> None:
        ticket = one_of(data, self.memory.tickets)
        destination = self.host if ticket.direction is Direction.OUT else self.device
        for extent in ticket.destination:
            destination[extent.start * BLOCK : extent.end * BLOCK] = [RUBBISH] * (extent.length * BLOCK)
        self.note("failed", ticket)
        self.memory.fail(ticket)

    def note(self, what: str, ticket: Ticket) -> None:
        if where := self.where.get(ticket.number):
            self.met[f"{what} {where}"] += 1

    @precondition(lambda self: self.kv)
    @rule(data=st.data(), num_blocks=blocks)
    def reclaim_device(self, data: Source, num_blocks: int) -> None:
        sequence = one_of(data, sorted(self.kv))
        used = self.memory.device.used(sequence)
        computed, resident, mirrored, _, first_mirrored = self.memory.watermarks(sequence)
        freed = self.memory.reclaim_device(sequence, num_blocks)
        assert self.memory.device.used(sequence) == used - freed
        if self.memory.pending(sequence) is not None:
            assert freed == 0
        elif mirrored == computed:
            assert freed == min(num_blocks, used - first_mirrored)
        else:
            assert self.memory.watermarks(sequence).resident == resident, "took dirty blocks"

    @precondition(lambda self: self.kv)
    @rule(data=st.data(), num_blocks=blocks)
    def contaminate(self, data: Source, num_blocks: int) -> None:
        sequence = one_of(data, sorted(self.kv))
        used = self.memory.host.used(sequence)
        may = self.memory.is_resident(sequence) and self.memory.pending(sequence) is None
        freed = self.memory.reclaim_host(sequence, num_blocks)
        assert freed == (min(num_blocks, used) if may else 0)

    @invariant()
    def no_kv_is_lost_or_mixed_up(self) -> None:
        self.memory.check()
        assert set(self.memory.sequences) == self.kv.keys()
        for sequence, kv in self.kv.items():
            computed, resident, mirrored, _, first_mirrored = self.memory.watermarks(sequence)
            assert computed == max(resident, mirrored) == len(kv)
            assert resident == computed or first_mirrored * BLOCK <= resident, "KV is nowhere"
            on_device = [self.device[slot] for slot in self.slots(self.memory.device, sequence)[:resident]]
            assert on_device == kv[:resident]
            slots = self.slots(self.memory.host, sequence)
            begins = first_mirrored * BLOCK
            pending = self.memory.pending(sequence)
            if pending is not None and pending.direction is Direction.OUT and pending.first_block < first_mirrored:
                slots = slots[begins - pending.first_block * BLOCK :]  # in front of the copy, and not valid yet
            assert [self.host[slot] for slot in slots[: max(0, mirrored - begins)]] == kv[begins:mirrored]

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


LIVES = 120  # 0.01 s each
ACTIONS = 80


def act(machine: KVMemoryMachine, random: Random) -> None:
    """One action drawn evenly, where Hypothesis likes the simple and the short."""
    few = random.randint(1, 4)
    actions = [
        (len(machine.kv) < 4, lambda: machine.add(random.randint(0, 40))),
        (machine.resident, lambda: machine.run_sequence(random, random.randint(1, 14))),
        (random.random() < 0.2 and machine.kv, lambda: machine.truncate(random)),
        (random.random() < 0.3 and machine.memory.tickets, lambda: machine.truncate_during_a_copy(random)),
        (random.random() < 0.1 and machine.kv, lambda: machine.drop(random)),
        (machine.unmirrored, lambda: machine.swap_out(random, few, whole=random.random() < 0.1)),
        (machine.not_resident, lambda: machine.swap_in(random)),
        (machine.memory.tickets, lambda: machine.copy_data(random)),
        (machine.memory.tickets, lambda: machine.complete(random)),
        (random.random() < 0.5 and machine.memory.tickets, lambda: machine.fail(random)),
        (machine.kv, lambda: machine.reclaim_device(random, few)),
        (random.random() < 0.3 and machine.kv, lambda: machine.contaminate(random, few)),
    ]
    random.choice([action for possible, action in actions if possible])()


def test_seeded_lives_meet_all_ways_in_which_a_copy_grows_and_fails() -> None:
    KVMemoryMachine.met.clear()
    for seed in range(LIVES):
        machine, random = KVMemoryMachine(), Random(seed)
        for _ in range(ACTIONS):
            act(machine, random)
            machine.no_kv_is_lost_or_mixed_up()
        machine.teardown()
    assert {name: KVMemoryMachine.met[name] for name in MET if KVMemoryMachine.met[name] < 5} == {}
