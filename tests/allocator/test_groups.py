"""`BlockGroups`, one rule at a time."""

import pytest

from allocator import BlockGroups, Extent, OutOfBlocksError, UnknownOwnerError


def blocks_of(groups: BlockGroups, owner: int) -> list[int]:
    return [block for extent in groups.extents(owner) for block in range(extent.start, extent.end)]


def test_a_new_owner_gets_a_group_of_the_initial_size() -> None:
    groups = BlockGroups(100, initial_group=60)
    groups.grow(1, 5)
    assert groups.extents(1) == (Extent(0, 0, 5),)
    assert (groups.num_free, groups.num_reserved, groups.num_available) == (40, 55, 95)


def test_the_best_smaller_group_does_when_none_is_large_enough() -> None:
    groups = BlockGroups(70, initial_group=60)
    groups.grow(1, 1)
    groups.grow(2, 1)
    assert (groups.num_free, groups.num_reserved) == (0, 68)


def test_a_long_prompt_gets_whole_initial_groups() -> None:
    groups = BlockGroups(1000, initial_group=60)
    groups.grow(1, 130)
    assert groups.num_reserved == 50


def test_growth_uses_the_reserve_first() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 3)
    groups.grow(1, 10)
    assert groups.extents(1) == (Extent(0, 0, 10),)
    assert groups.num_free == 90


def test_growth_extends_in_place_before_it_takes_another_group() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 10)
    groups.grow(1, 11)
    assert groups.statistics().groups == 1
    assert groups.extents(1) == (Extent(0, 0, 11),)
    assert groups.num_reserved == 9


def test_growth_takes_another_group_behind_a_neighbour() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 10)
    groups.grow(2, 1)
    groups.grow(1, 11)
    assert groups.extents(1) == (Extent(0, 0, 10), Extent(0, 20, 1))


def test_growing_to_less_changes_nothing() -> None:
    groups = BlockGroups(100, initial_group=60)
    groups.grow(1, 5)
    groups.grow(1, 3)
    assert groups.used(1) == 5


def test_the_largest_reserve_is_stolen_first() -> None:
    groups = BlockGroups(30, initial_group=10)
    for owner, used in ((1, 4), (2, 2), (3, 7)):
        groups.grow(owner, used)
    groups.grow(4, 1)
    assert groups.extents(4) == (Extent(0, 16, 1),), "the last four of owner 2's eight reserved blocks"
    groups.check()


def test_growth_into_a_reserve_counts_when_the_largest_is_sought() -> None:
    groups = BlockGroups(30, initial_group=10)
    for owner, used in ((1, 4), (2, 2), (3, 7)):
        groups.grow(owner, used)
    groups.grow(2, 9)
    groups.grow(4, 1)
    assert groups.extents(4) == (Extent(0, 7, 1),), "the last three of owner 1's six"


def test_a_victim_keeps_its_used_blocks_and_half_its_reserve() -> None:
    groups = BlockGroups(20, initial_group=20)
    groups.grow(1, 4)
    groups.grow(2, 1)
    assert blocks_of(groups, 1) == [0, 1, 2, 3]
    groups.grow(1, 12)
    assert groups.extents(1) == (Extent(0, 0, 12),)


def test_everything_reserved_can_be_had() -> None:
    groups = BlockGroups(30, initial_group=10)
    for owner in (1, 2, 3):
        groups.grow(owner, 1)
    groups.grow(1, 28)
    assert len(set(blocks_of(groups, 1))) == 28
    assert groups.num_available == 0
    groups.check()


def test_too_few_blocks_is_an_error_with_numbers_that_changes_nothing() -> None:
    groups = BlockGroups(30, pool=1, initial_group=10)
    groups.grow(1, 12)
    before = groups.statistics()
    with pytest.raises(OutOfBlocksError) as caught:
        groups.grow(2, 19)
    assert (caught.value.pool, caught.value.total, caught.value.free, caught.value.asked) == (1, 30, 18, 19)
    assert groups.statistics() == before
    assert 2 not in groups
    groups.check()


def test_shrinking_frees_the_tail_and_the_reserve() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 15)
    groups.shrink(1, 4)
    assert (groups.used(1), groups.num_free) == (4, 96)
    groups.check()


def test_shrinking_to_more_only_frees_the_reserve() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 4)
    groups.shrink(1, 7)
    assert (groups.used(1), groups.num_free) == (4, 96)


def test_release_returns_everything_in_one_piece() -> None:
    groups = BlockGroups(100, initial_group=10)
    for step in range(1, 4):
        for owner in (1, 2):
            groups.grow(owner, 10 * step)
    groups.release(1)
    groups.release(2)
    assert groups.largest_free == 100
    assert groups.owners == ()
    groups.check()


def test_extents_are_the_same_object_until_blocks_change() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 4)
    first = groups.extents(1)
    groups.grow(1, 4)
    groups.grow(2, 1)
    groups.shrink(1, 4)
    groups.hand_over(1, 4, to=2)
    assert groups.extents(1) is first
    groups.grow(1, 5)
    assert groups.extents(1) is not first


def test_a_stolen_reserve_leaves_the_extents_the_same_object() -> None:
    groups = BlockGroups(20, initial_group=20)
    groups.grow(1, 4)
    first = groups.extents(1)
    groups.grow(2, 16)
    assert groups.extents(1) is first


def test_neighbouring_groups_show_as_one_extent() -> None:
    groups = BlockGroups(20, initial_group=5)
    groups.grow(1, 5)
    groups.grow(2, 5)
    groups.hand_over(2, 0, to=1)
    assert groups.statistics().groups == 2
    assert groups.extents(1) == (Extent(0, 0, 10),)


def test_blocks_handed_over_keep_their_order_and_are_freed_by_the_receiver() -> None:
    groups = BlockGroups(60, initial_group=5)
    for step in (5, 10, 15):
        groups.grow(1, step)
        groups.grow(2, step)
    blocks = blocks_of(groups, 1)
    groups.hand_over(1, 7, to=-1)
    assert blocks_of(groups, 1) == blocks[:7]
    assert blocks_of(groups, -1) == blocks[7:]
    groups.check()
    groups.release(-1)
    assert groups.num_available == 60 - 15 - 7
    groups.check()


def test_handing_over_frees_the_reserve() -> None:
    groups = BlockGroups(60, initial_group=10)
    groups.grow(1, 5)
    groups.hand_over(1, 3, to=2)
    assert groups.num_free == 55
    groups.check()


def test_an_owner_without_blocks_is_known() -> None:
    groups = BlockGroups(10, initial_group=60)
    groups.grow(1, 0)
    assert (groups.used(1), groups.extents(1), groups.num_free) == (0, (), 10)
    groups.check()


def test_unknown_owners_raise() -> None:
    groups = BlockGroups(10, initial_group=60)
    groups.grow(1, 1)
    groups.release(1)
    for misuse in (groups.release, groups.used, groups.extents, lambda owner: groups.shrink(owner, 0)):
        with pytest.raises(UnknownOwnerError):
            misuse(1)


def test_statistics_count_groups_a_sequence() -> None:
    groups = BlockGroups(100, initial_group=10)
    groups.grow(1, 10)
    groups.grow(2, 1)
    groups.grow(1, 11)
    groups.grow(3, 0)
    statistics = groups.statistics()
    assert (statistics.owners, statistics.groups) == (2, 3)
    assert (statistics.used, statistics.reserved, statistics.free, statistics.largest_free) == (12, 18, 70, 70)


def test_an_initial_group_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 blocks"):
        BlockGroups(10, initial_group=0)


def test_check_finds_a_block_without_an_owner() -> None:
    groups = BlockGroups(10, initial_group=1)
    groups.grow(1, 2)
    groups._owners.clear()
    with pytest.raises(AssertionError):
        groups.check()


def test_side_by_side_growth_without_free_blocks_does_not_end_in_single_blocks() -> None:
    groups = BlockGroups(2000, initial_group=2000)
    for used in range(1, 1000):
        groups.grow(1, used)
        groups.grow(2, used)
    assert groups.statistics().groups < 30
