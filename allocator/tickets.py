"""Copies between pools: what a ticket names, and how its extents become contiguous copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from allocator.extents import Extent


class Direction(StrEnum):
    """Which way a ticket copies, seen from the device."""

    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A copy in flight of a node's blocks from ``first_block`` on, as extents in order on both sides.

    Both sides have the same number of blocks. Once the copy is complete, the destination has the tokens of these blocks
    up to the node's token ``end``, if its epoch is still ``epoch``. ``number`` is unique within a `KVMemory`.
    """

    number: int
    node: int
    direction: Direction
    first_block: int
    source: tuple[Extent, ...]
    destination: tuple[Extent, ...]
    end: int
    epoch: int

    @property
    def num_blocks(self) -> int:
        """Blocks to copy."""
        return sum(extent.length for extent in self.source)

    @property
    def num_runs(self) -> int:
        """Contiguous copies into which it divides."""
        return len(copy_runs(self.source, self.destination))


def copy_runs(source: Sequence[Extent], destination: Sequence[Extent]) -> list[tuple[int, int, int]]:
    """Divide a copy into contiguous ones, each (source start, destination start, length), all in blocks.

    One ends where an extent of either side ends, so there are fewer than ``len(source) + len(destination)``.
    Raises ValueError when the sides differ in length.
    """
    if sum(extent.length for extent in source) != sum(extent.length for extent in destination):
        raise ValueError(f"source {source} and destination {destination} differ in length")
    runs: list[tuple[int, int, int]] = []
    targets = iter(destination)
    to = to_end = 0
    for extent in source:
        start = extent.start
        while start < extent.end:
            if to == to_end:
                target = next(targets)
                to, to_end = target.start, target.end
                continue
            length = min(extent.end - start, to_end - to)
            runs.append((start, to, length))
            start, to = start + length, to + length
    return runs


def slice_extents(extents: Sequence[Extent], first: int, last: int) -> tuple[Extent, ...]:
    """Return the blocks with the indices ``first .. last`` of a list of extents, again as extents."""
    sliced: list[Extent] = []
    begin = 0
    for extent in extents:
        low, high = max(first - begin, 0), min(last - begin, extent.length)
        if low < high:
            sliced.append(Extent(extent.pool, extent.start + low, high - low))
        begin += extent.length
    return tuple(sliced)
