"""What one owner holds of a pool: a list of extents whose first blocks it uses; the rest is its reserve."""

from allocator.errors import require
from allocator.extents import Extent, ExtentPool


class Holding:
    """Extents in order. All but the last are full, so two counts describe the reserve: ``capacity - used``.

    `allocator.groups` owns and changes it; ``filed`` is the size under which it filed the reserve, 0 for not at all.
    """

    __slots__ = ("capacity", "filed", "groups", "used", "view")

    def __init__(self) -> None:
        self.groups: list[Extent] = []
        self.used = 0  # blocks
        self.capacity = 0  # blocks
        self.filed = 0
        self.view: tuple[Extent, ...] | None = None  # what `used_extents` returned, until `used` changes

    @property
    def reserve(self) -> int:
        """Blocks held but not used."""
        return self.capacity - self.used

    def used_extents(self) -> tuple[Extent, ...]:
        """The used blocks in order, neighbours merged; the same object until ``used`` changes."""
        if self.view is None:
            self.view = self._merged()
        return self.view

    def set_used(self, num_blocks: int) -> None:
        """Use the first ``num_blocks`` blocks, of which there are enough."""
        self.used = num_blocks
        self.view = None

    def gain(self, group: Extent) -> None:
        """One more group, which must follow a full one."""
        self.groups.append(group)
        self.capacity += group.length

    def extend(self, pool: ExtentPool, num_blocks: int) -> None:
        """Make the last group longer in place."""
        self.groups[-1] = pool.extend(self.groups[-1], num_blocks)
        self.capacity += num_blocks

    def free_reserve(self, pool: ExtentPool) -> None:
        """Give all blocks behind the used ones back."""
        while self.capacity > self.used:
            last = self.groups[-1]
            kept = last.length - (self.capacity - self.used)
            if kept > 0:
                self.groups[-1] = pool.trim(last, kept)
                self.capacity = self.used
            else:
                pool.free(self.groups.pop())
                self.capacity -= last.length

    def detach(self, pool: ExtentPool, first_block: int) -> list[Extent]:
        """Take out the blocks from index ``first_block`` on, still allocated, splitting one extent if need be."""
        detached: list[Extent] = []
        while self.capacity > first_block:
            last = self.groups.pop()
            self.capacity -= last.length
            if self.capacity < first_block:
                head, last = pool.split(last, first_block - self.capacity)
                self.gain(head)
            detached.append(last)
        self.set_used(min(self.used, self.capacity))
        return detached[::-1]

    def replace(self, group: Extent, by: list[Extent]) -> None:
        """Other extents, as many blocks and all used, in the place of a group without reserve."""
        at = self.groups.index(group)
        self.groups[at : at + 1] = by
        self.view = None

    def check(self, owner: int) -> None:
        """Raise InvariantError unless counts, reserve and view agree with the extents."""
        held = sum(group.length for group in self.groups)
        require(held == self.capacity, f"owner {owner} holds {held} blocks, {self.capacity} counted")
        in_last = self.groups[-1].length if self.groups else 1
        require(0 <= self.reserve < in_last, f"owner {owner} reserves {self.reserve} of its last group's {in_last}")
        require(self.reserve <= self.filed, f"owner {owner} reserves {self.reserve}, filed as {self.filed}")
        require(self.view is None or self.view == self._merged(), f"owner {owner}: outdated extents")

    def _merged(self) -> tuple[Extent, ...]:
        merged: list[Extent] = []
        left = self.used
        for group in self.groups:
            length = min(group.length, left)
            left -= length
            if merged and merged[-1].end == group.start:
                merged[-1] = Extent(group.pool, merged[-1].start, merged[-1].length + length)
            else:
                merged.append(Extent(group.pool, group.start, length))
        return tuple(merged)
