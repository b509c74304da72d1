"""The Dynamic Block Group Manager: which owner has which blocks of one pool.

A *block group* is an extent with a used head and a reserved tail. An owner (a node, or a copy in flight) has a list
of groups. Always true:

- only an owner's last group has a reserve, and its head is not empty: growth uses the reserve before anything else;
- every allocated extent of the pool is a group of exactly one owner;
- a reserve is no promise: an owner that needs blocks when none are free splits them off another owner's reserve, the
  largest first. So all unused blocks are available to any owner, and growing fails only when they are too few.

After FastSwitch (arXiv 2411.18424): large groups make a swap few large copies instead of many small ones.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from allocator.compaction import Group, Move, Region, best_region
from allocator.errors import DuplicateOwnerError, OutOfBlocksError, UnknownOwnerError
from allocator.extents import Extent, ExtentPool
from allocator.holding import Holding
from allocator.sizes import SizeIndex


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """How a pool is divided, in blocks, except ``owners`` (those with blocks) and ``groups``."""

    owners: int
    groups: int
    used: int
    reserved: int
    free: int
    largest_free: int


class BlockGroups:
    """The block groups of one pool. An owner is any int; it exists from its first `grow` to its `release`."""

    def __init__(self, num_blocks: int, pool: int = 0, *, initial_group: int) -> None:
        if initial_group < 1:
            raise ValueError(f"a group cannot start with {initial_group} blocks")
        self.initial_group = initial_group
        self._pool = ExtentPool(num_blocks, pool)
        self._owners: dict[int, Holding] = {}
        self._num_used = 0
        # Owners by reserve. Growing into the reserve does not update the index, so a size is an upper bound until
        # `_pop_victim` looks: the common step costs nothing, and a grow has paid for each update (amortised O(log n)).
        self._reserves = SizeIndex()

    @property
    def num_blocks(self) -> int:
        """Blocks of the pool."""
        return self._pool.num_blocks

    @property
    def num_free(self) -> int:
        """Blocks without an owner."""
        return self._pool.num_free

    @property
    def num_used(self) -> int:
        """Blocks that owners use."""
        return self._num_used

    @property
    def num_reserved(self) -> int:
        """Blocks that owners hold but do not use."""
        return self._pool.num_blocks - self._pool.num_free - self._num_used

    @property
    def num_available(self) -> int:
        """Blocks by which any one owner can still grow: the free ones and every reserve."""
        return self._pool.num_blocks - self._num_used

    @property
    def largest_free(self) -> int:
        """Length of the longest free extent."""
        return self._pool.largest_free

    def grow(self, owner: int, num_blocks: int) -> None:
        """Give ``owner`` at least ``num_blocks`` used blocks in all, from its reserve, in place, then as more groups.

        Raises OutOfBlocksError, having changed nothing, when fewer are available. 0 blocks only add the owner.
        """
        holding = self._owners.get(owner) or Holding()
        more = num_blocks - holding.used
        if num_blocks > holding.capacity:
            if more > self.num_available:
                raise OutOfBlocksError(self._pool.pool, self.num_blocks, self.num_available, more)
            self._enlarge(owner, holding, num_blocks)
        if not holding.used:
            self._owners[owner] = holding  # a new owner is added once it has its blocks
        if more > 0:
            holding.used = num_blocks
            holding.view = None
            self._num_used += more

    def shrink(self, owner: int, num_blocks: int) -> None:
        """Keep the first ``num_blocks`` used blocks; free those behind them, and the reserve."""
        if num_blocks < 0:
            raise ValueError(f"cannot keep {num_blocks} blocks")
        holding = self._holding(owner)
        if num_blocks < holding.used:
            self._num_used -= holding.used - num_blocks
            holding.set_used(num_blocks)
        if holding.capacity > holding.used:
            self._file(owner, holding, 0)
            holding.free_reserve(self._pool)

    def grow_front(self, owner: int, num_blocks: int) -> None:
        """Give ``owner`` ``num_blocks`` more used blocks in front of those it has, in place as far as possible.

        Its reserve is freed. Raises OutOfBlocksError, having changed nothing, when fewer are available.
        """
        holding = self._holding(owner)
        if num_blocks > self.num_available:
            raise OutOfBlocksError(self._pool.pool, self.num_blocks, self.num_available, num_blocks)
        self.shrink(owner, holding.used)
        missing = num_blocks
        while missing > 0:
            free_before = self._pool.num_free_before(holding.groups[0]) if holding.groups else 0
            if free_before:
                group = self._pool.allocate_before(holding.groups[0], min(free_before, missing))
            elif largest := self._pool.largest_free:
                group = self._pool.allocate(min(missing, largest))
            else:
                group = self._steal(owner, missing, missing)
            holding.add_front(group)
            missing -= group.length
        self._num_used += num_blocks

    def drop_front(self, owner: int, num_blocks: int) -> None:
        """Free the first ``num_blocks`` used blocks, and the reserve."""
        holding = self._holding(owner)
        if not 0 <= num_blocks <= holding.used:
            raise ValueError(f"cannot drop {num_blocks} of {holding.used} blocks")
        self.shrink(owner, holding.used)
        holding.drop_front(self._pool, num_blocks)
        self._num_used -= num_blocks

    def release(self, owner: int) -> None:
        """Free all blocks of ``owner`` and forget it."""
        holding = self._holding(owner)
        del self._owners[owner]
        self._num_used -= holding.used
        self._file(owner, holding, 0)
        for group in holding.groups:
            self._pool.free(group)

    def hand_over(self, owner: int, first_block: int, to: int) -> None:
        """Append ``owner``'s used blocks from index ``first_block`` on to those of ``to``, which may be new.

        This is how a copy in flight holds the blocks that its node gives up. The reserves of both are freed.
        """
        if first_block < 0:
            raise ValueError(f"there is no block {first_block}")
        if owner == to or first_block >= self.used(owner):
            return
        self.shrink(owner, self.used(owner))
        self.grow(to, 0)
        self.shrink(to, self.used(to))
        receiver = self._owners[to]
        for group in self._owners[owner].detach(self._pool, first_block):
            receiver.add(group)
        receiver.set_used(receiver.capacity)

    def split(self, owner: int, num_blocks: int, to: int) -> None:
        """Give the first ``num_blocks`` used blocks, or all there are, to ``to``, a new owner.

        The reserve stays with ``owner`` behind the blocks that it keeps; it is freed if it keeps none.
        """
        if to in self._owners:
            raise DuplicateOwnerError(f"pool {self._pool.pool} has an owner {to} already")
        holding = self._holding(owner)
        if num_blocks >= holding.used:
            num_blocks = holding.used
            self.shrink(owner, num_blocks)
        head = self._owners[to] = Holding()
        for group in holding.detach_front(self._pool, num_blocks):
            head.add(group)
        head.set_used(num_blocks)

    def compact(self, wanted: int, budget: int, movable: Collection[int]) -> list[Move]:
        """Move groups of ``movable`` owners towards a free extent of ``wanted`` blocks, and return the moves.

        At most ``budget`` blocks move, in whole groups: a group that uses more stays, since it is long already. The
        caller carries the moves out in order, before anything else touches these blocks. Nothing moves where no region
        can be emptied; finding out is O(extents log extents).
        """
        groups = sorted(self._all_groups(), key=lambda group: group.extent.start)
        may_move = {group for group in groups if group.owner in movable and group.used <= budget}
        region = best_region(self._pool.free_extents(), groups, may_move, wanted)
        return [] if region is None else self._empty(region, budget)

    def _all_groups(self) -> Iterator[Group]:
        for owner, holding in self._owners.items():
            for number, extent in enumerate(holding.groups, 1):
                reserve = holding.reserve if number == len(holding.groups) else 0
                yield Group(owner, extent, extent.length - reserve)

    def _empty(self, region: Region, budget: int) -> list[Move]:
        freed = list(region.free)  # allocated meanwhile, so that no group moves into the region
        for extent in region.free:
            self._pool.take(extent)
        moves: list[Move] = []
        for group in region.groups:
            if sum(move.length for move in moves) + group.used > budget:
                break
            used, reserve = self._without_reserve(group)
            freed += [used, *reserve]
            moves += self._evacuate(group.owner, used)
        for extent in freed:
            self._pool.free(extent)
        return moves

    def _without_reserve(self, group: Group) -> tuple[Extent, list[Extent]]:
        """Return the used blocks of a group, and its former reserve, which has no owner now and is not free."""
        extent = group.extent
        if group.used == extent.length:
            return extent, []
        self.shrink(group.owner, self._owners[group.owner].used)
        reserve = Extent(extent.pool, extent.start + group.used, extent.length - group.used)
        self._pool.take(reserve)
        return Extent(extent.pool, extent.start, group.used), [reserve]

    def _evacuate(self, owner: int, group: Extent) -> list[Move]:
        """Replace a group by the free extents that fit best; the group has no owner then."""
        moves, replacement, source = [], [], group.start
        while source < group.end:
            extent = self._pool.allocate(min(group.end - source, self._pool.largest_free))
            moves.append(Move(owner, source, extent.start, extent.length))
            replacement.append(extent)
            source += extent.length
        self._owners[owner].replace(group, replacement)
        return moves

    def used(self, owner: int) -> int:
        """Return the number of blocks that ``owner`` uses."""
        return self._holding(owner).used

    def extents(self, owner: int) -> tuple[Extent, ...]:
        """Return the used blocks in order, neighbours merged; the same object until they change."""
        return self._holding(owner).used_extents()

    def __contains__(self, owner: int) -> bool:
        return owner in self._owners

    @property
    def owners(self) -> tuple[int, ...]:
        """All owners, with blocks or without, in the order in which they were added."""
        return tuple(self._owners)

    def statistics(self) -> GroupStatistics:
        """Return how the pool is divided now. O(owners)."""
        counts = [len(holding.groups) for holding in self._owners.values() if holding.groups]
        return GroupStatistics(
            owners=len(counts),
            groups=sum(counts),
            used=self._num_used,
            reserved=self.num_reserved,
            free=self.num_free,
            largest_free=self.largest_free,
        )

    def check(self) -> None:
        """Raise AssertionError unless all that the module states is true."""
        self._pool.check()
        for owner, holding in self._owners.items():
            holding.check(owner)
        held = sorted(group for holding in self._owners.values() for group in holding.groups)
        assert held == sorted(self._pool.allocated()), "the owners' groups are not the allocated extents"
        used = sum(holding.used for holding in self._owners.values())
        assert used == self._num_used, f"{self._num_used} blocks counted as used, owners use {used}"
        filed = sorted((holding.filed, owner) for owner, holding in self._owners.items() if holding.filed)
        assert filed == sorted(self._reserves), "the index of reserves disagrees with the owners"

    def _holding(self, owner: int) -> Holding:
        holding = self._owners.get(owner)
        if holding is None:
            raise UnknownOwnerError(f"pool {self._pool.pool} has no owner {owner}")
        return holding

    def _enlarge(self, owner: int, holding: Holding, num_blocks: int) -> None:
        """Add groups until the owner holds ``num_blocks`` blocks, which are known to be available."""
        while (missing := num_blocks - holding.capacity) > 0:
            # Whole initial groups: a long prompt's last blocks get a reserve too.
            wanted = -(-missing // self.initial_group) * self.initial_group
            free_after = self._pool.num_free_after(holding.groups[-1]) if holding.groups else 0
            if free_after:
                holding.extend(self._pool, min(free_after, wanted))
            elif largest := self._pool.largest_free:
                holding.add(self._pool.allocate(min(wanted, largest)))
            else:
                holding.add(self._steal(owner, missing, wanted))
        self._file(owner, holding, holding.capacity - num_blocks)

    def _steal(self, thief: int, missing: int, wanted: int) -> Extent:
        """Split blocks off the end of the largest reserve.

        It takes half of the reserve, or ``missing`` blocks if that is more. If it took all, two sequences that grow
        side by side would rob each other at every block and end up in single blocks.
        """
        victim, holding = self._pop_victim(thief)
        reserve = holding.reserve
        size = min(reserve, wanted, max(missing, (reserve + 1) // 2))
        holding.groups[-1], stolen = self._pool.split(holding.groups[-1], holding.groups[-1].length - size)
        holding.capacity -= size
        self._file(victim, holding, reserve - size)
        return stolen

    def _pop_victim(self, thief: int) -> tuple[int, Holding]:
        """Remove the owner with the largest reserve from the index, never the thief: it uses its own reserve."""
        while found := self._reserves.pop_at_least(self._reserves.largest):
            size, owner = found
            holding = self._owners[owner]
            holding.filed = 0
            if owner != thief:
                if holding.reserve == size:
                    return owner, holding
                self._file(owner, holding, holding.reserve)
        raise AssertionError("no owner has the blocks counted as available")

    def _file(self, owner: int, holding: Holding, reserve: int) -> None:
        """Index ``owner`` by its reserve, or not at all if that is 0."""
        if holding.filed:
            self._reserves.remove(holding.filed, owner)
        if reserve:
            self._reserves.add(reserve, owner)
        holding.filed = reserve
