"""`ExtentPool`, one rule at a time."""

import pytest

from allocator import Extent, ExtentPool, NotAllocatedError, OutOfBlocksError


def pool_with_holes(*holes: int) -> ExtentPool:
    """A pool whose free extents have exactly these lengths, in this order, with an allocated block between any two."""
    pool = ExtentPool(sum(holes) + len(holes) - 1)
    extents = []
    for length in holes:
        extents.append(pool.allocate(length))
        if pool.num_free:
            pool.allocate(1)
    for extent in extents:
        pool.free(extent)
    return pool


def test_an_extent_knows_its_end() -> None:
    assert Extent(pool=1, start=3, length=4).end == 7


def test_allocation_takes_the_smallest_free_extent_that_fits() -> None:
    pool = pool_with_holes(8, 3, 5)
    assert pool.allocate(4) == Extent(0, 13, 4)
    assert pool.allocate(3) == Extent(0, 9, 3)
    pool.check()


def test_the_rest_of_a_split_extent_stays_free() -> None:
    pool = pool_with_holes(8, 3)
    pool.allocate(5)
    assert pool.num_free == 6
    assert pool.largest_free == 3


def test_freeing_merges_with_both_neighbours() -> None:
    pool = ExtentPool(9)
    left, middle, right = (pool.allocate(3) for _ in range(3))
    pool.free(left)
    pool.free(right)
    assert pool.largest_free == 3
    pool.free(middle)
    assert pool.largest_free == 9
    pool.check()


def test_no_extent_long_enough_is_out_of_blocks_with_numbers() -> None:
    pool = pool_with_holes(4, 4)
    with pytest.raises(OutOfBlocksError, match="8 of 9 blocks free, 5 asked for") as caught:
        pool.allocate(5)
    assert (caught.value.pool, caught.value.total, caught.value.free, caught.value.asked) == (0, 9, 8, 5)
    pool.check()


def test_an_extent_grows_in_place_into_free_blocks() -> None:
    pool = ExtentPool(10)
    extent = pool.allocate(4)
    assert pool.num_free_after(extent) == 6
    assert pool.extend(extent, 5) == Extent(0, 0, 9)
    assert pool.num_free == 1
    pool.check()


def test_an_extent_does_not_grow_over_its_neighbour() -> None:
    pool = ExtentPool(10)
    extent = pool.allocate(4)
    pool.allocate(1)
    assert pool.num_free_after(extent) == 0
    with pytest.raises(OutOfBlocksError):
        pool.extend(extent, 1)
    pool.check()


def test_a_tail_can_be_freed_alone() -> None:
    pool = ExtentPool(10)
    kept = pool.trim(pool.allocate(10), 4)
    assert kept == Extent(0, 0, 4)
    assert pool.largest_free == 6
    pool.check()


def test_both_parts_of_a_split_are_freed_apart() -> None:
    pool = ExtentPool(10)
    head, tail = pool.split(pool.allocate(10), 3)
    pool.free(head)
    assert pool.num_free == 3
    pool.free(tail)
    assert pool.largest_free == 10


def test_freeing_twice_raises() -> None:
    pool = ExtentPool(4)
    extent = pool.allocate(4)
    pool.free(extent)
    with pytest.raises(NotAllocatedError):
        pool.free(extent)
    pool.check()


def test_freeing_an_outdated_extent_raises() -> None:
    pool = ExtentPool(4)
    extent = pool.allocate(4)
    pool.trim(extent, 2)
    with pytest.raises(NotAllocatedError):
        pool.free(extent)


def test_freeing_another_pools_extent_raises() -> None:
    pool, other = ExtentPool(4, pool=0), ExtentPool(4, pool=1)
    pool.allocate(4)
    with pytest.raises(NotAllocatedError):
        pool.free(other.allocate(4))


@pytest.mark.parametrize("length", [0, 4, 5, -1])
def test_a_split_outside_the_extent_raises(length: int) -> None:
    pool = ExtentPool(8)
    extent = pool.allocate(4)
    for shorten in (pool.trim, pool.split):
        with pytest.raises(ValueError, match="cannot split"):
            shorten(extent, length)


def test_an_empty_allocation_raises() -> None:
    with pytest.raises(ValueError, match="cannot allocate 0"):
        ExtentPool(4).allocate(0)


def test_a_pool_may_be_empty() -> None:
    pool = ExtentPool(0)
    assert (pool.num_free, pool.largest_free) == (0, 0)
    pool.check()
    with pytest.raises(OutOfBlocksError):
        pool.allocate(1)


def test_check_finds_a_lost_block() -> None:
    pool = ExtentPool(4)
    extent = pool.allocate(2)
    pool._held[extent.start] = 1
    with pytest.raises(AssertionError):
        pool.check()


def test_free_extents_of_a_crowded_pool_have_few_different_lengths() -> None:
    """The size index stays short: at most sqrt(2 N) lengths, even where every possible length occurs."""
    pool = pool_with_holes(*range(1, 440))
    assert pool.num_blocks < 100_000
    lengths = {length for length, _ in pool._by_length}
    assert len(lengths) == 439 < (2 * pool.num_blocks) ** 0.5
