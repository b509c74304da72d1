"""What one owner holds in a pool: a list of extents. It uses their first blocks; the rest is its reserve."""

from allocator.extents import Extent, ExtentPool


class Holding:
    """Extents in order, all full but the last, so that two counts give the reserve: ``capacity - used``.

    `allocator.groups` owns and changes it. ``filed`` is the reserve under which it is indexed there, 0 if it is not.
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
        """Return the used blocks in order, neighbours merged; the same object until ``used`` changes."""
        if self.view is None:
            self.view = self._merged()
        return self.view

    def set_used(self, num_blocks: int) -> None:
        """Use the first ``num_blocks`` blocks, at most ``capacity``."""
        self.used = num_blocks
        self.view = None

    def add(self, group: Extent) -> None:
        """Append a group, behind a full one only."""
        self.groups.append(group)
        self.capacity += group.length

    def add_front(self, group: Extent) -> None:
        """Put a group in front of the others, and use all of it."""
        self.groups.insert(0, group)
        self.capacity += group.length
        self.set_used(self.used + group.length)

    def drop_front(self, pool: ExtentPool, num_blocks: int) -> None:
        """Free the first ``num_blocks`` blocks; there must be no reserve."""
        rest = self.detach(pool, num_blocks)
        for group in self.groups:
            pool.free(group)
        self.groups, self.capacity = rest, sum(group.length for group in rest)
        self.set_used(self.capacity)

    def extend(self, pool: ExtentPool, num_blocks: int) -> None:
        """Make the last group longer in place."""
        self.groups[-1] = pool.extend(self.groups[-1], num_blocks)
        self.capacity += num_blocks

    def free_reserve(self, pool: ExtentPool) -> None:
        """Free all blocks behind the used ones."""
        while self.capacity > self.used:
            last = self.groups[-1]
            used_of_last = last.length - (self.capacity - self.used)
            if used_of_last > 0:
                self.groups[-1] = pool.trim(last, used_of_last)
                self.capacity = self.used
            else:
                pool.free(self.groups.pop())
                self.capacity -= last.length

    def detach(self, pool: ExtentPool, first_block: int) -> list[Extent]:
        """Remove and return the blocks from index ``first_block`` on, still allocated; this may split an extent."""
        detached: list[Extent] = []
        while self.capacity > first_block:
            last = self.groups.pop()
            self.capacity -= last.length
            if self.capacity < first_block:
                head, last = pool.split(last, first_block - self.capacity)
                self.add(head)
            detached.append(last)
        self.set_used(min(self.used, self.capacity))
        return detached[::-1]

    def detach_front(self, pool: ExtentPool, num_blocks: int) -> list[Extent]:
        """Remove and return the first ``num_blocks`` used blocks, still allocated; this may split an extent."""
        detached: list[Extent] = []
        left = num_blocks
        while left:
            first = self.groups.pop(0)
            if first.length > left:
                first, rest = pool.split(first, left)
                self.groups.insert(0, rest)
            detached.append(first)
            left -= first.length
        self.capacity -= num_blocks
        self.set_used(self.used - num_blocks)
        return detached

    def replace(self, group: Extent, by: list[Extent]) -> None:
        """Replace a group without reserve by other extents with as many blocks, all used."""
        at = self.groups.index(group)
        self.groups[at : at + 1] = by
        self.view = None

    def check(self, owner: int) -> None:
        """Raise AssertionError unless counts, reserve and view agree with the extents."""
        held = sum(group.length for group in self.groups)
        assert held == self.capacity, f"owner {owner} holds {held} blocks, {self.capacity} counted"
        in_last = self.groups[-1].length if self.groups else 1
        assert 0 <= self.reserve < in_last, f"owner {owner} reserves {self.reserve} of its last group's {in_last}"
        assert self.reserve <= self.filed, f"owner {owner} reserves {self.reserve}, filed as {self.filed}"
        assert self.view is None or self.view == self._merged(), f"owner {owner}: outdated extents"

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
