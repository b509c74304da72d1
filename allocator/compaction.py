"""Which groups move so that free blocks come together.

A *window* is a stretch of a pool from one free extent to another. The one that is emptied is as long as what is wanted
and has the fewest used blocks; they move to free extents outside of it, so a move never overlaps itself. A window that
takes more than the budget is emptied group by group, in several calls: it is then the one with the fewest left.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from allocator.extents import Extent


class Move(NamedTuple):
    """``length`` blocks of ``owner`` that change places inside a pool, from ``source`` on to ``destination`` on."""

    owner: int
    source: int
    destination: int
    length: int

    @property
    def sources(self) -> range:
        """The blocks that are left."""
        return range(self.source, self.source + self.length)

    @property
    def destinations(self) -> range:
        """The blocks that are taken."""
        return range(self.destination, self.destination + self.length)


class Group(NamedTuple):
    """A block group where it lies. ``used``: the blocks that its owner uses, its first; what is behind is reserve."""

    owner: int
    extent: Extent
    used: int


@dataclass(frozen=True, slots=True)
class Window:
    """What is between and in the free extents ``free``, all of it, in order of place."""

    free: tuple[Extent, ...]
    groups: tuple[Group, ...]

    @property
    def num_used(self) -> int:
        """Blocks that would have to move: reserves do not."""
        return sum(group.used for group in self.groups)

    @property
    def num_free(self) -> int:
        """Free blocks in it."""
        return sum(extent.length for extent in self.free)


def best_window(
    free: Sequence[Extent], groups: Sequence[Group], movable: Collection[Group], wanted: int
) -> Window | None:
    """The cheapest window of ``wanted`` blocks whose groups fit into what is free outside of it. O(extents).

    ``free`` and ``groups`` are all of a pool by place; ``movable``: the groups that may move.
    """
    num_free = sum(extent.length for extent in free)
    fitting = [w for w in _windows(free, groups, movable, wanted) if 0 < w.num_used <= num_free - w.num_free]
    return min(fitting, key=lambda window: window.num_used, default=None)


def _windows(
    free: Sequence[Extent], groups: Sequence[Group], movable: Collection[Group], wanted: int
) -> Iterator[Window]:
    """From each free extent the shortest window that is long enough and has nothing in it that must stay."""
    between = _between(free, groups)
    for first in range(len(free)):
        inside: list[Group] = []
        for last in range(first + 1, len(free)):
            gap = between[last - 1]
            if any(group not in movable for group in gap):
                break
            inside += gap
            if free[last].end - free[first].start >= wanted:
                yield Window(tuple(free[first : last + 1]), tuple(inside))
                break


def _between(free: Sequence[Extent], groups: Sequence[Group]) -> list[list[Group]]:
    """The groups between each free extent and the next."""
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
