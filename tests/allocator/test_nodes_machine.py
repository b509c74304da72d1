"""Random lives of sequences that share prefixes, over two simulated memories; and faults that such lives must find.

Every token's KV is a number that is never used again. The model knows for each node what its KV must read, and derives
all that `KVMemory` says of sequences from that, by the definitions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import ClassVar, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import (
    AllocatorError,
    BlockGroups,
    CopyPendingError,
    Direction,
    KVMemory,
    MisuseError,
    OutOfBlocksError,
    Ticket,
    copy_runs,
)
from allocator.nodes import Node
from allocator.tree import NodeTree
from allocator.watermarks import Marks

BLOCK = 4  # tokens
DEVICE_BLOCKS, HOST_BLOCKS = 30, 24
RUBBISH = -1
LIVES, ACTIONS = 160, 80

T = TypeVar("T")

# What all lives together must have met, or they have proved nothing.
MET = (
    *("split a tail", "split a prefix", "split of what is on the host", "split of what is not computed"),
    *("split during a copy", "computed a prefix", "prefix out", "prefix in", "stale", "failed"),
    *(
        "gave up a prefix",
        "contaminated a prefix",
        "truncated a prefix",
        "moved",
        "dropped a prefix",
        "kept what stands",
    ),
)


@dataclass
class Modelled:
    """A node: the prefix that it stands on, its length in tokens (None: a tail), and what its KV must read."""

    parent: int | None
    length: int | None = None
    kv: list[int] = field(default_factory=list)


class Life:
    """One `KVMemory`, what must be true of it, and all that can be done with it."""

    met: ClassVar[Counter[str]] = Counter()

    def __init__(self, random: Random) -> None:
        self.random = random
        self.memory = KVMemory(DEVICE_BLOCKS, HOST_BLOCKS, BLOCK, initial_group=4)
        self.device = [RUBBISH] * (DEVICE_BLOCKS * BLOCK)
        self.host = [RUBBISH] * (HOST_BLOCKS * BLOCK)
        self.nodes: dict[int, Modelled] = {}
        self.values, self.numbers = count(), count()
        self.stale: set[int] = set()
        self.copied: set[int] = set()

    # What the model says

    def path(self, number: int) -> list[int]:
        parent = self.nodes[number].parent
        return [*([] if parent is None else self.path(parent)), number]

    def start(self, number: int) -> int:
        return sum(self.nodes[above].length or 0 for above in self.path(number)[:-1])

    def children(self, number: int) -> list[int]:
        return [child for child, node in self.nodes.items() if node.parent == number]

    def is_complete(self, number: int) -> bool:
        node = self.nodes[number]
        return node.length is not None and len(node.kv) == node.length

    def is_here(self, number: int) -> bool:
        marks = self.memory.watermarks(number)
        return marks.resident >= marks.mirrored

    @property
    def tails(self) -> list[int]:
        return [number for number, node in self.nodes.items() if node.length is None]

    @property
    def prefixes(self) -> list[int]:
        return [number for number, node in self.nodes.items() if node.length is not None]

    def one(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def slots(self, groups: BlockGroups, number: int) -> list[int]:
        return [
            block * BLOCK + token
            for extent in groups.extents(number)
            for block in range(extent.start, extent.end)
            for token in range(BLOCK)
        ]

    # Actions

    def add(self) -> None:
        if len(self.tails) >= 5:
            return
        number, prefix = next(self.numbers), self.one([None, *self.prefixes])
        self.memory.add(number, prefix)
        self.nodes[number] = Modelled(prefix)

    def compute(self) -> None:
        """Reserve, write and append, as a chunk of a prefill does, through all prefixes that are not complete."""
        sequence = self.one(self.tails)
        if not self.memory.is_resident(sequence):
            return
        path = self.path(sequence)
        first = next(number for number in path if not self.is_complete(number))
        left = self.random.randint(1, 14)
        wanted = self.start(first) + len(self.nodes[first].kv) + left
        if sum(self.memory.lacking(sequence, wanted).values()) > self.memory.device.num_available:
            with pytest.raises(OutOfBlocksError):
                self.memory.reserve(sequence, wanted)
            return
        self.memory.reserve(sequence, wanted)
        assert not self.memory.lacking(sequence, wanted)
        self.memory.append(sequence, left)
        for number in path[path.index(first) :]:
            node, slots = self.nodes[number], self.slots(self.memory.device, number)
            more = left if node.length is None else min(left, node.length - len(node.kv))
            for _ in range(more):
                self.device[slots[len(node.kv)]] = value = next(self.values)
                node.kv.append(value)
            left -= more
            self.met["computed a prefix"] += more > 0 and node.length is not None

    def split(self) -> None:
        number = self.one(list(self.nodes))
        node, start = self.nodes[number], self.start(number)
        length = self.random.randint(1, 4) * BLOCK
        if self.memory.pending(number) is not None:
            with pytest.raises(CopyPendingError):
                self.memory.split(number, start + length, next(self.numbers))
            self.met["split during a copy"] += 1
            return
        if node.length is not None and length >= node.length:
            with pytest.raises(MisuseError):
                self.memory.split(number, start + length, next(self.numbers))
            return
        head, was = next(self.numbers), self.memory.watermarks(number)
        self.memory.split(number, start + length, head)
        self.nodes[head] = Modelled(node.parent, length, node.kv[:length])
        node.parent, node.kv = head, node.kv[length:]
        node.length = None if node.length is None else node.length - length
        self.met["split a tail" if node.length is None else "split a prefix"] += 1
        self.met["split of what is on the host"] += was.mirrored > was.resident
        self.met["split of what is not computed"] += len(self.nodes[head].kv) < length

    def move(self) -> None:
        empty = [tail for tail in self.tails if not self.memory.device.used(tail) + self.memory.host.used(tail)]
        if empty and self.prefixes:
            tail, prefix = self.one(empty), self.one(self.prefixes)
            if not self.nodes[tail].kv:
                self.memory.move(tail, prefix)
                self.nodes[tail].parent = prefix
                self.met["moved"] += 1

    def truncate(self) -> None:
        number = self.one(list(self.nodes))
        node = self.nodes[number]
        kept = self.random.randint(0, len(node.kv))
        if any(self.nodes[child].kv for child in self.children(number)) and kept < len(node.kv):
            with pytest.raises(MisuseError):
                self.memory.truncate(number, self.start(number) + kept)
            self.met["kept what stands"] += 1
            return
        self.met["truncated a prefix"] += node.length is not None and kept < len(node.kv)
        if kept < len(node.kv):
            self._make_stale(number)
        self.memory.truncate(number, self.start(number) + kept)
        del node.kv[kept:]

    def drop(self) -> None:
        number = self.one(list(self.nodes))
        if self.children(number):
            with pytest.raises(MisuseError):
                self.memory.drop(number)
            return
        self.met["dropped a prefix"] += self.nodes[number].length is not None
        self._make_stale(number)
        self.memory.drop(number)
        del self.nodes[number]

    def swap_out(self) -> None:
        number = self.one(list(self.nodes))
        marks = self.memory.watermarks(number)
        lacks = marks.mirrored < marks.computed or marks.first_mirrored
        if self.memory.pending(number) is None and lacks:
            blocks = self.one([None, self.random.randint(1, 4)])
            with suppress(OutOfBlocksError, MisuseError):
                self.memory.swap_out(number, blocks)
                self.met["prefix out"] += self.nodes[number].length is not None

    def swap_in(self) -> None:
        away = [number for number in self.nodes if not self.is_here(number) and not self.memory.pending(number)]
        if away:
            number = self.one(away)
            with suppress(OutOfBlocksError):
                self.memory.swap_in(number)
                self.met["prefix in"] += self.nodes[number].length is not None

    def copy(self) -> None:
        if self.memory.tickets:
            self._copy(self.one(self.memory.tickets))

    def complete(self) -> None:
        if self.memory.tickets:
            ticket = self.one(self.memory.tickets)
            if ticket.number not in self.copied:
                self._copy(ticket)
            self.met["stale"] += ticket.number in self.stale
            assert self.memory.complete(ticket) is (ticket.number not in self.stale)

    def fail(self) -> None:
        if self.memory.tickets:
            ticket = self.one(self.memory.tickets)
            into = self.host if ticket.direction is Direction.OUT else self.device
            for extent in ticket.destination:
                into[extent.start * BLOCK : extent.end * BLOCK] = [RUBBISH] * (extent.length * BLOCK)
            self.met["failed"] += 1
            self.memory.fail(ticket)

    def reclaim(self) -> None:
        number, blocks = self.one(list(self.nodes)), self.random.randint(1, 6)
        could = self.memory.reclaimable_device(number)
        freed = self.memory.reclaim_device(number, blocks)
        assert freed == min(could, blocks)
        self.met["gave up a prefix"] += freed > 0 and self.nodes[number].length is not None

    def contaminate(self) -> None:
        number = self.one(list(self.nodes))
        freed = self.memory.reclaim_host(number, self.random.randint(1, 6))
        self.met["contaminated a prefix"] += freed > 0 and self.nodes[number].length is not None

    def compact(self) -> None:
        for move in self.memory.compact(self.random.randint(1, 8)):
            moved = [self.device[block * BLOCK : block * BLOCK + BLOCK] for block in move.sources]
            for block, values in zip(move.destinations, moved, strict=True):
                self.device[block * BLOCK : block * BLOCK + BLOCK] = values

    def _make_stale(self, number: int) -> None:
        if pending := self.memory.pending(number):
            self.stale.add(pending.number)

    def _copy(self, ticket: Ticket) -> None:
        out = ticket.direction is Direction.OUT
        source, into = (self.device, self.host) if out else (self.host, self.device)
        for start, to, length in copy_runs(ticket.source, ticket.destination):
            into[to * BLOCK : (to + length) * BLOCK] = source[start * BLOCK : (start + length) * BLOCK]
        self.copied.add(ticket.number)

    # What must be true

    def act(self) -> None:
        actions = [self.add, self.compute, self.compute, self.compute, self.split, self.swap_out, self.swap_out]
        actions += [self.swap_in, self.copy, self.complete, self.complete, self.reclaim, self.reclaim]
        rare = [self.move, self.truncate, self.drop, self.fail, self.contaminate, self.compact]
        action = self.one(rare if self.random.random() < 0.25 else actions)
        if action == self.add or (self.nodes and (self.tails or action != self.compute)):
            action()
        self.check()

    def check(self) -> None:
        self.memory.check()
        assert set(self.memory.sequences) == set(self.tails)
        assert set(self.memory.prefixes) == set(self.prefixes)
        for number, node in self.nodes.items():
            self._check_node(number, node)
        for tail in self.tails:
            self._check_sequence(tail)

    def _check_node(self, number: int, node: Modelled) -> None:
        computed, resident, mirrored, _, first = self.memory.watermarks(number)
        assert computed == len(node.kv) == self.memory.own_computed(number)
        assert [self.device[slot] for slot in self.slots(self.memory.device, number)[:resident]] == node.kv[:resident]
        slots, begins, pending = self.slots(self.memory.host, number), first * BLOCK, self.memory.pending(number)
        if pending is not None and pending.direction is Direction.OUT and pending.first_block < first:
            slots = slots[begins - pending.first_block * BLOCK :]  # in front of the copy, and not valid yet
        assert [self.host[slot] for slot in slots[: max(0, mirrored - begins)]] == node.kv[begins:mirrored]
        assert set(self.memory.children(number)) == set(self.children(number))
        assert self.memory.has_kv_above(number) == any(self.nodes[child].kv for child in self.children(number))

    def _check_sequence(self, tail: int) -> None:
        path = self.path(tail)
        assert list(self.memory.path(tail)) == path
        first = next(node for node in path if not self.is_complete(node))
        assert self.memory.next_node(tail) == first
        assert self.memory.computed(tail) == self.start(first) + len(self.nodes[first].kv)
        away = [node for node in path if not self.is_here(node)]
        assert self.memory.away(tail) == away
        assert self.memory.is_resident(tail) == (not away)
        if not away:  # a step reads all its KV through its blocks
            blocks = [block for extent in self.memory.extents(tail) for block in range(extent.start, extent.end)]
            slots = [block * BLOCK + token for block in blocks for token in range(BLOCK)]
            expected = [value for node in path for value in self.nodes[node].kv]
            assert [self.device[slot] for slot in slots[: len(expected)]] == expected
        assert self.memory.extents(tail) is self.memory.extents(tail)

    def end(self) -> None:
        while self.nodes:
            number = next(node for node in self.nodes if not self.children(node))
            self._make_stale(number)
            self.memory.drop(number)
            del self.nodes[number]
        for ticket in self.memory.tickets:
            self.memory.complete(ticket)
        self.memory.check()
        assert self.memory.device.largest_free == DEVICE_BLOCKS
        assert self.memory.host.largest_free == HOST_BLOCKS


def lives(seeds: range) -> None:
    for seed in seeds:
        live(Random(seed), ACTIONS)


def live(random: Random, actions: int) -> None:
    life = Life(random)
    for _ in range(actions):
        life.act()
    life.end()


@given(random=st.randoms(use_true_random=False))
def test_no_kv_is_lost_or_read_for_another(random: Random) -> None:
    live(random, 40)


def test_seeded_lives_meet_all_that_can_happen() -> None:
    Life.met.clear()
    lives(range(LIVES))
    assert {name: Life.met[name] for name in MET if Life.met[name] < 3} == {}


def cedes_only_the_device(node: Marks, head: Marks, tokens: int, block_tokens: int) -> None:
    mirrored, first = node.mirrored, node.first_mirrored
    Marks_cede(node, head, tokens, block_tokens)
    head.mirrored = head.first_mirrored = 0
    node.mirrored, node.first_mirrored = mirrored, first


def splits_a_block_too_early(groups: BlockGroups, owner: int, first: int, head: int) -> None:
    Groups_split(groups, owner, max(0, first - 1), head)


def gives_all_to_the_tail(tree: NodeTree, tail: Node, tokens: int) -> list[tuple[Node, int]]:
    return [(tail, tokens)]


def gives_all_to_the_first(tree: NodeTree, tail: Node, tokens: int) -> list[tuple[Node, int]]:
    return [(tree.next_node(tail), tokens)]


def forgets_where_it_begins(node: Node, parent: Node) -> None:
    start = node.start
    Node_stand_on(node, parent)
    node.start = start


def reads_its_own_blocks_alone(node: Node, above: object, own: object) -> object:
    return own


def merges_whatever_is_beside(node: Node, above: tuple, own: tuple) -> tuple:
    return (above[-1], *own) if above else own


def believes_any_ticket(marks: Marks, ticket: Ticket) -> bool:
    epoch, marks.epoch = marks.epoch, ticket.epoch
    applied = Marks_apply(marks, ticket)
    marks.epoch = epoch
    return applied


def moves_what_is_under_copy(groups: BlockGroups, wanted: int, budget: int, movable: set[int]) -> object:
    return Groups_compact(groups, wanted, budget, {owner for owner in groups.owners if owner >= 0})


Marks_cede, Marks_apply, Node_stand_on = Marks.cede, Marks.apply, Node.stand_on
Groups_split, Groups_compact = BlockGroups.split, BlockGroups.compact

FAULTS: dict[str, tuple[type, str, Callable[..., object]]] = {
    "a split that gives no KV away": (Marks, "cede", lambda *_: None),
    "a split that forgets the host": (Marks, "cede", cedes_only_the_device),
    "a split at another block": (BlockGroups, "split", splits_a_block_too_early),
    "a split during a copy": (NodeTree, "settled", NodeTree.node),
    "a prefix that is never computed": (NodeTree, "next_tokens", gives_all_to_the_tail),
    "a prefix beyond its end": (NodeTree, "next_tokens", gives_all_to_the_first),
    "losses that nobody counts": (NodeTree, "count_loss", lambda *_: None),
    "a tail that begins where it began": (Node, "stand_on", forgets_where_it_begins),
    "a step that reads the tail alone": (Node, "join", reads_its_own_blocks_alone),
    "a step that reads the last extent above": (Node, "join", merges_whatever_is_beside),
    "a copy of forgotten KV": (Marks, "apply", believes_any_ticket),
    "blocks that move under a copy": (BlockGroups, "compact", moves_what_is_under_copy),
    "blocks that are freed without a mark": (Marks, "truncate", lambda *_: None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_lives_find_what_is_broken(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, broken = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, AllocatorError, KeyError, IndexError, pytest.fail.Exception)):
        lives(range(LIVES))


@pytest.mark.full
def test_fifty_thousand_actions() -> None:
    lives(range(1_000, 1_625))
