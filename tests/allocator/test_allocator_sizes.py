"""`SizeIndex`: items by size."""

import pytest

from allocator.sizes import SizeIndex


@pytest.fixture
def index() -> SizeIndex:
    index = SizeIndex()
    for size, item in ((5, 50), (2, 20), (9, 90), (5, 51)):
        index.add(size, item)
    return index


def test_pop_at_least_takes_the_smallest_that_fits(index: SizeIndex) -> None:
    assert index.pop_at_least(3)[0] == 5
    assert index.pop_at_least(6) == (9, 90)
    assert index.pop_at_least(6) is None


def test_equal_sizes_leave_last_in_first_out(index: SizeIndex) -> None:
    assert [index.pop_at_least(5), index.pop_at_least(5)] == [(5, 51), (5, 50)]


def test_largest_follows_additions_and_removals(index: SizeIndex) -> None:
    index.remove(9, 90)
    assert index.largest == 5
    index.add(7, 70)
    assert index.largest == 7


def test_largest_of_nothing_is_zero() -> None:
    assert SizeIndex().largest == 0


def test_removing_an_item_that_is_not_there_raises(index: SizeIndex) -> None:
    with pytest.raises(KeyError):
        index.remove(5, 90)


def test_iteration_yields_every_item_once_by_size(index: SizeIndex) -> None:
    assert list(index) == [(2, 20), (5, 50), (5, 51), (9, 90)]
