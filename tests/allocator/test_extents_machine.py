"""Random lives of an `ExtentPool`, against a set of block numbers for each extent."""

from itertools import groupby

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from allocator import Extent, ExtentPool, OutOfBlocksError

NUM_BLOCKS = 40
lengths = st.integers(1, NUM_BLOCKS)


class ExtentPoolMachine(RuleBasedStateMachine):
    extents = Bundle("extents")

    @initialize()
    def start(self) -> None:
        self.pool = ExtentPool(NUM_BLOCKS)
        self.free = set(range(NUM_BLOCKS))

    def free_runs(self) -> list[int]:
        """Lengths of the maximal runs of free blocks."""
        runs = groupby(enumerate(sorted(self.free)), key=lambda at_block: at_block[1] - at_block[0])
        return [len(list(run)) for _, run in runs]

    def run_around(self, block: int) -> int:
        """Length of the free run that starts at ``block``."""
        length = 0
        while block + length in self.free:
            length += 1
        return length

    @rule(target=extents, length=lengths)
    def allocate(self, length: int) -> object:
        fitting = [run for run in self.free_runs() if run >= length]
        if not fitting:
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate(length)
            return multiple()
        extent = self.pool.allocate(length)
        assert self.run_around(extent.start) == min(fitting), "not the best fit"
        assert extent.start - 1 not in self.free, "allocated inside a free extent"
        self.take(extent)
        return extent

    @rule(target=extents, extent=consumes(extents), length=lengths)
    def extend(self, extent: Extent, length: int) -> Extent:
        num_free = self.run_around(extent.end)
        assert self.pool.num_free_after(extent) == num_free
        if length > num_free:
            with pytest.raises(OutOfBlocksError):
                self.pool.extend(extent, length)
            return extent
        longer = self.pool.extend(extent, length)
        assert longer == Extent(0, extent.start, extent.length + length)
        self.take(Extent(0, extent.end, length))
        return longer

    @rule(target=extents, extent=extents, length=lengths)
    def allocate_before(self, extent: Extent, length: int) -> object:
        num_free = 0
        while extent.start - num_free - 1 in self.free:
            num_free += 1
        assert self.pool.num_free_before(extent) == num_free
        if length > num_free:
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate_before(extent, length)
            return multiple()
        before = self.pool.allocate_before(extent, length)
        assert (before.length, before.end) == (length, extent.start)
        self.take(before)
        return before

    @rule(target=extents, extent=consumes(extents), data=st.data())
    def split(self, extent: Extent, data: st.DataObject) -> object:
        if extent.length == 1:
            return extent
        return multiple(*self.pool.split(extent, data.draw(st.integers(1, extent.length - 1))))

    @rule(target=extents, extent=consumes(extents), data=st.data())
    def trim(self, extent: Extent, data: st.DataObject) -> Extent:
        if extent.length == 1:
            return extent
        kept = self.pool.trim(extent, data.draw(st.integers(1, extent.length - 1)))
        self.free |= set(range(kept.end, extent.end))
        return kept

    @rule(extent=consumes(extents))
    def give_back(self, extent: Extent) -> None:
        self.pool.free(extent)
        self.free |= set(range(extent.start, extent.end))

    def take(self, extent: Extent) -> None:
        blocks = set(range(extent.start, extent.end))
        assert blocks <= self.free, "allocated twice"
        self.free -= blocks

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.pool.check()
        assert self.pool.num_free == len(self.free)
        assert self.pool.largest_free == max(self.free_runs(), default=0)


TestExtentPool = ExtentPoolMachine.TestCase
