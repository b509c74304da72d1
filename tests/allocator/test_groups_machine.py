"""Random lives of `BlockGroups`, against a list of block numbers for each owner."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allocator import BlockGroups, OutOfBlocksError

owners = st.integers(0, 7)


class BlockGroupsMachine(RuleBasedStateMachine):
    num_blocks = 60
    initial_group = 8

    def __init__(self) -> None:
        super().__init__()
        self.groups = BlockGroups(self.num_blocks, initial_group=self.initial_group)
        self.blocks: dict[int, list[int]] = {}
        self.owner_of: dict[int, int] = {}

    @property
    def available(self) -> int:
        return self.num_blocks - len(self.owner_of)

    def now(self, owner: int) -> list[int]:
        return [block for extent in self.groups.extents(owner) for block in range(extent.start, extent.end)]

    def follow(self, owner: int) -> None:
        """Note the blocks that ``owner`` has now, which no other owner may have."""
        for block in self.blocks.pop(owner, ()):
            del self.owner_of[block]
        if owner not in self.groups:
            return
        self.blocks[owner] = now = self.now(owner)
        assert self.owner_of.keys().isdisjoint(now), "owned twice"
        self.owner_of |= dict.fromkeys(now, owner)
        assert len(set(now)) == len(now) == self.groups.used(owner)

    @rule(owner=owners, share=st.floats(0, 1))
    def grow(self, owner: int, share: float) -> None:
        before = self.blocks.get(owner, [])
        target = len(before) + round(share**2 * self.num_blocks / 2)
        if target - len(before) > self.available:
            with pytest.raises(OutOfBlocksError):
                self.groups.grow(owner, target)
            assert self.available == self.groups.num_available
        else:
            self.groups.grow(owner, target)
            assert self.groups.used(owner) == target
            assert self.now(owner)[: len(before)] == before, "growing moved blocks"
            self.follow(owner)

    @rule(owner=owners)
    def grow_by_one(self, owner: int) -> None:
        if self.available:
            self.groups.grow(owner, len(self.blocks.get(owner, [])) + 1)
            self.follow(owner)

    @rule(owner=owners)
    def take_all_that_is_left(self, owner: int) -> None:
        self.groups.grow(owner, len(self.blocks.get(owner, [])) + self.available)
        self.follow(owner)
        assert self.groups.num_free == self.groups.num_reserved == 0

    @precondition(lambda self: self.blocks)
    @rule(data=st.data(), share=st.floats(0, 1))
    def truncate(self, data: st.DataObject, share: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        kept = round(share * len(self.blocks[owner]))
        self.groups.shrink(owner, kept)
        assert self.now(owner) == self.blocks[owner][:kept]
        self.follow(owner)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data(), to=owners, share=st.floats(0, 1))
    def hand_over(self, data: st.DataObject, to: int, share: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        first = round(share * len(self.blocks[owner]))
        moved, had = self.blocks[owner][first:], self.blocks.get(to, [])
        self.groups.hand_over(owner, first, to)
        if owner != to and moved:
            assert (self.now(owner), self.now(to)) == (self.blocks[owner][:first], had + moved)
            self.owner_of |= dict.fromkeys(moved, to)
            self.blocks[owner], self.blocks[to] = self.blocks[owner][:first], had + moved

    @precondition(lambda self: self.blocks and len(self.blocks) < 8)
    @rule(data=st.data(), share=st.floats(0, 1))
    def split(self, data: st.DataObject, share: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        head = min(set(range(8)) - self.blocks.keys())
        first = round(share * len(self.blocks[owner]))
        given, kept = self.blocks[owner][:first], self.blocks[owner][first:]
        self.groups.split(owner, first, head)
        assert (self.now(head), self.now(owner)) == (given, kept), "a split moved blocks"
        self.follow(owner)
        self.follow(head)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data(), share=st.floats(0, 1))
    def grow_front(self, data: st.DataObject, share: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        more, before = round(share**2 * self.num_blocks / 2), self.blocks[owner]
        if more > self.available:
            with pytest.raises(OutOfBlocksError):
                self.groups.grow_front(owner, more)
        else:
            self.groups.grow_front(owner, more)
            assert self.now(owner)[more:] == before, "growing moved blocks"
            self.follow(owner)
            assert len(self.blocks[owner]) == more + len(before)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data(), share=st.floats(0, 1))
    def drop_front(self, data: st.DataObject, share: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        dropped = round(share * len(self.blocks[owner]))
        self.groups.drop_front(owner, dropped)
        assert self.now(owner) == self.blocks[owner][dropped:]
        self.follow(owner)

    @rule(wanted=st.integers(1, 24), budget=st.integers(1, 24), staying=st.sets(owners))
    def compact(self, wanted: int, budget: int, staying: set[int]) -> None:
        moves = self.groups.compact(wanted, budget, self.blocks.keys() - staying)
        goes_to = {a: b for move in moves for a, b in zip(move.sources, move.destinations, strict=True)}
        assert len(goes_to) == len(set(goes_to.values())) == sum(move.length for move in moves) <= budget
        assert self.owner_of.keys().isdisjoint(goes_to.values()), "moved to blocks in use"
        for move in moves:
            assert {self.owner_of[block] for block in move.sources} == {move.owner} - staying
        for owner, before in self.blocks.items():
            assert self.now(owner) == [goes_to.get(block, block) for block in before]
        self.blocks = {owner: self.now(owner) for owner in self.blocks}
        self.owner_of = {block: owner for owner, blocks in self.blocks.items() for block in blocks}

    @precondition(lambda self: self.blocks)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.blocks)))
        self.groups.release(owner)
        self.follow(owner)

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.groups.check()
        assert set(self.groups.owners) == self.blocks.keys()
        assert self.groups.num_available == self.available
        assert self.groups.num_free + self.groups.num_reserved == self.available
        for owner, blocks in self.blocks.items():
            assert self.groups.used(owner) == len(blocks)
            assert self.groups.extents(owner) is self.groups.extents(owner)

    def teardown(self) -> None:
        for owner in list(self.blocks):
            assert self.now(owner) == self.blocks[owner], "another owner's action moved blocks"
            self.groups.release(owner)
        self.groups.check()
        assert self.groups.largest_free == self.num_blocks


class LargePoolMachine(BlockGroupsMachine):
    """The same with 100,000 blocks and the service's group size."""

    num_blocks = 100_000
    initial_group = 60


TestBlockGroups = BlockGroupsMachine.TestCase
TestLargePool = LargePoolMachine.TestCase
