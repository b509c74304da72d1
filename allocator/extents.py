"""A pool of numbered blocks that allocates extents, and nothing else.

The pool knows which blocks are free; `allocator.groups` knows the owner of an extent. Always true:

- free and allocated extents tile ``0 .. num_blocks`` without gap or overlap;
- no two free extents touch: they are merged when freed;
- an extent is known by its start and length, so freeing one twice, or after a split or a trim, raises.

Best fit, split, merge, extend and free cost O(log n) comparisons (`allocator.sizes` has the bound).
"""

from collections.abc import Iterator
from typing import NamedTuple

from allocator.errors import NotAllocatedError, OutOfBlocksError
from allocator.sizes import SizeIndex


class Extent(NamedTuple):
    """Contiguous blocks of a pool: ``length`` of them, from block ``start`` on."""

    pool: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """The block after the last one."""
        return self.start + self.length


class ExtentPool:
    """The blocks ``0 .. num_blocks`` of pool number ``pool``. Its methods accept extents of this pool only."""

    def __init__(self, num_blocks: int, pool: int = 0) -> None:
        if num_blocks < 0:
            raise ValueError(f"a pool cannot have {num_blocks} blocks")
        self.num_blocks = num_blocks
        self.pool = pool
        self._num_free = 0
        self._held: dict[int, int] = {}  # start -> length of allocated extents
        self._free: dict[int, int] = {}  # start -> length of free extents
        self._free_ends: dict[int, int] = {}  # end -> start of free extents
        self._by_length = SizeIndex()  # starts of free extents by length
        if num_blocks:
            self._release(0, num_blocks)

    @property
    def num_free(self) -> int:
        """Blocks in free extents."""
        return self._num_free

    @property
    def largest_free(self) -> int:
        """Length of the longest free extent."""
        return self._by_length.largest

    def allocate(self, num_blocks: int) -> Extent:
        """Allocate ``num_blocks`` (at least 1) contiguous blocks from the smallest free extent that has them.

        Raises OutOfBlocksError when no single extent does: callers look at ``largest_free`` first.
        """
        if num_blocks < 1:
            raise ValueError(f"cannot allocate {num_blocks} blocks")
        found = self._by_length.pop_at_least(num_blocks)
        if found is None:
            raise OutOfBlocksError(self.pool, self.num_blocks, self._num_free, num_blocks)
        length, start = found
        del self._free[start], self._free_ends[start + length]
        if length > num_blocks:
            self._add_free(start + num_blocks, length - num_blocks)
        self._num_free -= num_blocks
        self._held[start] = num_blocks
        return Extent(self.pool, start, num_blocks)

    def num_free_after(self, extent: Extent) -> int:
        """Return the number of free blocks directly behind the extent."""
        return self._free.get(extent.start + extent.length, 0)

    def extend(self, extent: Extent, num_blocks: int) -> Extent:
        """Add the ``num_blocks`` free blocks behind the extent to it. Raises OutOfBlocksError if they are too few."""
        self._require_held(extent)
        end = extent.start + extent.length
        free = self._free.get(end, 0)
        if free < num_blocks:
            raise OutOfBlocksError(self.pool, self.num_blocks, free, num_blocks)
        self._remove_free(end, free)
        if free > num_blocks:
            self._add_free(end + num_blocks, free - num_blocks)
        self._num_free -= num_blocks
        self._held[extent.start] = length = extent.length + num_blocks
        return Extent(self.pool, extent.start, length)

    def num_free_before(self, extent: Extent) -> int:
        """Return the number of free blocks directly in front of the extent."""
        return extent.start - self._free_ends.get(extent.start, extent.start)

    def allocate_before(self, extent: Extent, num_blocks: int) -> Extent:
        """Allocate the ``num_blocks`` free blocks directly in front of the extent, as an extent of their own.

        Raises OutOfBlocksError if they are too few.
        """
        if num_blocks < 1:
            raise ValueError(f"cannot allocate {num_blocks} blocks")
        free, end = self.num_free_before(extent), extent.start
        if free < num_blocks:
            raise OutOfBlocksError(self.pool, self.num_blocks, free, num_blocks)
        self._remove_free(end - free, free)
        if free > num_blocks:
            self._add_free(end - free, free - num_blocks)
        self._num_free -= num_blocks
        self._held[end - num_blocks] = num_blocks
        return Extent(self.pool, end - num_blocks, num_blocks)

    def split(self, extent: Extent, length: int) -> tuple[Extent, Extent]:
        """Divide the extent in two: its first ``length`` blocks and the rest, neither empty."""
        self._require_held(extent)
        self._require_inside(extent, length)
        self._held[extent.start] = length
        self._held[extent.start + length] = extent.length - length
        return (
            Extent(self.pool, extent.start, length),
            Extent(self.pool, extent.start + length, extent.length - length),
        )

    def trim(self, extent: Extent, length: int) -> Extent:
        """Keep the first ``length`` blocks, at least one and not all; free the rest."""
        self._require_held(extent)
        self._require_inside(extent, length)
        self._held[extent.start] = length
        self._release(extent.start + length, extent.length - length)
        return Extent(self.pool, extent.start, length)

    def free(self, extent: Extent) -> None:
        """Free the blocks, merging them with free neighbours."""
        self._require_held(extent)
        del self._held[extent.start]
        self._release(extent.start, extent.length)

    def take(self, extent: Extent) -> None:
        """Allocate exactly this free extent. Raises NotAllocatedError if it is not one."""
        if self._free.get(extent.start) != extent.length or extent.pool != self.pool:
            raise NotAllocatedError(f"{extent} is no free extent of pool {self.pool}")
        self._remove_free(extent.start, extent.length)
        self._num_free -= extent.length
        self._held[extent.start] = extent.length

    def free_extents(self) -> list[Extent]:
        """Return the free extents in order of their start."""
        return [Extent(self.pool, start, length) for start, length in sorted(self._free.items())]

    def allocated(self) -> Iterator[Extent]:
        """Return the allocated extents, in no order."""
        return (Extent(self.pool, start, length) for start, length in self._held.items())

    def check(self) -> None:
        """Raise AssertionError unless all that the module states is true. O(n log n) in the number of extents."""
        end, was_free = 0, False
        for start, length, is_free in self._all_extents():
            assert start == end, f"pool {self.pool}: an extent starts at {start}, the one before ends at {end}"
            assert length > 0, f"pool {self.pool}: empty extent at {start}"
            assert not (is_free and was_free), f"pool {self.pool}: free extents touch at {start}"
            end, was_free = start + length, is_free
        assert end == self.num_blocks, f"pool {self.pool}: extents end at {end} of {self.num_blocks}"
        assert self._num_free == sum(self._free.values()), f"pool {self.pool}: {self._num_free} counted as free"
        assert self._free_ends == {s + n: s for s, n in self._free.items()}, f"pool {self.pool}: ends disagree"
        assert sorted(self._by_length) == sorted((n, s) for s, n in self._free.items()), "length index disagrees"

    def _all_extents(self) -> list[tuple[int, int, bool]]:
        """Return (start, length, is free) of every extent in order of start."""
        held = [(start, length, False) for start, length in self._held.items()]
        return sorted(held + [(start, length, True) for start, length in self._free.items()])

    def _release(self, start: int, length: int) -> None:
        """Make blocks free, merged with the free neighbours on both sides."""
        self._num_free += length
        end = start + length
        after = self._free.get(end)
        if after is not None:
            self._remove_free(end, after)
            length += after
        before = self._free_ends.get(start)
        if before is not None:
            self._remove_free(before, start - before)
            length += start - before
            start = before
        self._add_free(start, length)

    def _add_free(self, start: int, length: int) -> None:
        self._free[start] = length
        self._free_ends[start + length] = start
        self._by_length.add(length, start)

    def _remove_free(self, start: int, length: int) -> None:
        del self._free[start], self._free_ends[start + length]
        self._by_length.remove(length, start)

    def _require_held(self, extent: Extent) -> None:
        if self._held.get(extent.start) != extent.length or extent.pool != self.pool:
            raise NotAllocatedError(f"{extent} is not allocated in pool {self.pool}")

    @staticmethod
    def _require_inside(extent: Extent, length: int) -> None:
        if not 0 < length < extent.length:
            raise ValueError(f"cannot split {extent} after {length} blocks")
