"""Compaction chooses which groups to move so that free blocks become contiguous.

A *region* is the part of a pool from one free extent to another. The region to empty is the one that is at least as
long as wanted and has the fewest used blocks. They move to free extents outside of it, so a move never overlaps itself.
A region with more used blocks than the budget is emptied group by group, over several calls, each of which chooses it
again because it then has the fewest used blocks left.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from allocator.extents import Extent


class Move(NamedTuple):
    """A move of ``length`` blocks of ``owner`` inside a pool, from block ``source`` on to block ``destination`` on."""

    owner: int
    source: int
    destination: int
    length: int

    @property
    def sources(self) -> range:
        """The blocks that the move frees."""
        return range(self.source, self.source + self.length)

    @property
    def destinations(self) -> range:
        """The blocks that the move fills."""
        return range(self.destination, self.destination + self.length)


class Group(NamedTuple):
    """A block group and its extent. Its owner uses the first ``used`` blocks; those behind are reserve."""

    owner: int
    extent: Extent
    used: int


@dataclass(frozen=True, slots=True)
class Region:
    """The free extents of a region and all the groups between them, in order of their start."""

    free: tuple[Extent, ...]
    groups: tuple[Group, ...]

    @property
    def num_used(self) -> int:
        """Blocks that would have to move; reserves do not move."""
        return sum(group.used for group in self.groups)

    @property
    def num_free(self) -> int:
        """Free blocks of the region."""
        return sum(extent.length for extent in self.free)


def best_region(
    free: Sequence[Extent], groups: Sequence[Group], movable: Collection[Group], wanted: int
) -> Region | None:
    """Return the cheapest region of ``wanted`` blocks whose groups fit into the free blocks outside of it. O(extents).

    ``free`` and ``groups`` are all those of a pool, in order of their start; ``movable`` are the groups that may move.
    """
    num_free = sum(extent.length for extent in free)
    fitting = [w for w in _regions(free, groups, movable, wanted) if 0 < w.num_used <= num_free - w.num_free]
    return min(fitting, key=lambda region: region.num_used, default=None)


def _regions(
    free: Sequence[Extent], groups: Sequence[Group], movable: Collection[Group], wanted: int
) -> Iterator[Region]:
    """Yield, from each free extent on, the shortest region that is long enough and whose groups may all move."""
    between = _between(free, groups)
    for first in range(len(free)):
        inside: list[Group] = []
        for last in range(first + 1, len(free)):
            gap = between[last - 1]
            if any(group not in movable for group in gap):
                break
            inside += gap
            if free[last].end - free[first].start >= wanted:
                yield Region(tuple(free[first : last + 1]), tuple(inside))
                break


def _between(free: Sequence[Extent], groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups between each free extent and the next."""
    gaps: list[list[Group]] = []
    rest = iter(groups)
    group = next(rest, None)
    while group is not None and free and group.extent.start < free[0].start:
        group = next(rest, None)
    for _, after in pairwise(free):
        gap = []
        while group is not None and group.extent.start < after.start:
            gap.append(group)
            group = next(rest, None)
        gaps.append(gap)
    return gaps
