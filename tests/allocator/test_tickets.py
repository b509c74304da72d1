"""Extent lists of a copy: slices, and the contiguous runs of blocks to copy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import Direction, Extent, Ticket, copy_runs, slice_extents


def extents(*spans: tuple[int, int], pool: int = 0) -> tuple[Extent, ...]:
    return tuple(Extent(pool, start, length) for start, length in spans)


def scattered(lengths: list[int], pool: int) -> tuple[Extent, ...]:
    """Extents of these lengths with gaps between them."""
    starts = [sum(lengths[:at]) + 10 * at for at in range(len(lengths))]
    return extents(*zip(starts, lengths, strict=True), pool=pool)


def flat(extents: tuple[Extent, ...]) -> list[int]:
    return [block for extent in extents for block in range(extent.start, extent.end)]


def test_a_run_ends_where_an_extent_of_either_side_ends() -> None:
    assert copy_runs(extents((0, 5), (20, 3)), extents((100, 2), (50, 6), pool=1)) == [
        (0, 100, 2),
        (2, 50, 3),
        (20, 53, 3),
    ]


def test_equal_extents_give_a_run_an_extent() -> None:
    assert copy_runs(extents((0, 5), (9, 2)), extents((1, 5), (7, 2))) == [(0, 1, 5), (9, 7, 2)]


def test_nothing_is_copied_in_no_runs() -> None:
    assert copy_runs((), ()) == []


def test_sides_of_different_length_raise() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        copy_runs(extents((0, 5)), extents((0, 4)))


@given(st.lists(st.integers(1, 9), max_size=6), st.data())
def test_runs_pair_the_same_blocks_as_walking_both_sides(lengths: list[int], data: st.DataObject) -> None:
    total = sum(lengths)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, total - 1)), max_size=5))) if total > 1 else []
    others = [high - low for low, high in zip([0, *cuts], [*cuts, total], strict=True)] if total else []
    source, destination = scattered(lengths, 0), scattered(others, 1)
    runs = copy_runs(source, destination)
    pairs = [(start + i, to + i) for start, to, length in runs for i in range(length)]
    assert pairs == list(zip(flat(source), flat(destination), strict=True))
    assert len(runs) < max(1, len(source) + len(destination))


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_slice_has_the_blocks_with_those_indices(lengths: list[int], first: int, last: int) -> None:
    whole = scattered(lengths, 0)
    assert flat(slice_extents(whole, first, last)) == flat(whole)[first:last]


def test_a_ticket_counts_its_blocks() -> None:
    ticket = Ticket(0, 0, Direction.OUT, 0, extents((0, 5), (9, 2)), extents((0, 7), pool=1), 112, 0)
    assert ticket.num_blocks == 7
