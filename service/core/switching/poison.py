"""Poison finds the blocks whose contents must not be read: those freed or given to a new owner since the last look.

It is for debugging: the data plane spoils them, so that a block read before it is written cannot look right by chance.
"""

from collections.abc import Iterable
from itertools import groupby

from allocator import DEVICE, BlockGroups, Extent, KVMemory, Move


class Poison:
    """Remembers each block's owner. O(blocks) a look.

    A block that is freed and taken again by the same owner between two looks is missed.
    """

    def __init__(self, memory: KVMemory) -> None:
        self._pools = (memory.device, memory.host)
        self._owners: list[dict[int, int]] = [{}, {}]
        self._found: list[Extent] = []
        self._moving = False

    def take(self) -> tuple[Extent, ...]:
        """Return the blocks found since the last call, as extents of both pools. Look first, unless the plan moves any.

        A plan spoils before it moves, so the sources of its moves are left to the next plan.
        """
        if not self._moving:
            self.look()
        self._moving = False
        found, self._found = tuple(self._found), []
        return found

    def follow(self, moves: Iterable[Move]) -> None:
        """Note that this plan moves device blocks with their contents."""
        for move in moves:
            self._moving = True
            self._owners[DEVICE].update(dict.fromkeys(move.destinations, move.owner))

    def split(self, number: int, head: int) -> None:
        """Note that the first blocks of a node belong to a new prefix, with their contents."""
        for owners, groups in zip(self._owners, self._pools, strict=True):
            for extent in groups.extents(head):
                for block in range(extent.start, extent.end):
                    if owners.get(block) == number:
                        owners[block] = head

    def look(self) -> None:
        """Compare the owners of blocks with those of the last look."""
        for pool, groups in enumerate(self._pools):
            before, now = self._owners[pool], _owners(groups)
            spoiled = [block for block in before if block not in now]
            # A copy in flight (owner < 0) holds blocks with their contents; their next owner must not read those.
            spoiled += [block for block, owner in now.items() if owner >= 0 and before.get(block) != owner]
            self._found += _extents(pool, sorted(spoiled))
            self._owners[pool] = now


def _owners(groups: BlockGroups) -> dict[int, int]:
    return {
        block: owner
        for owner in groups.owners
        for extent in groups.extents(owner)
        for block in range(extent.start, extent.end)
    }


def _extents(pool: int, blocks: list[int]) -> list[Extent]:
    runs = [[block for _, block in run] for _, run in groupby(enumerate(blocks), key=lambda item: item[1] - item[0])]
    return [Extent(pool, run[0], len(run)) for run in runs]
