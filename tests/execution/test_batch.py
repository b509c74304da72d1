"""From plan rows to arrays: positions, places, block tables and inputs."""

import pytest

from allocator import Extent
from service.core.plan import Row, SlotOpening
from service.core.sampling import SamplingParams
from service.execution.batch import Batcher


@pytest.fixture
def batcher() -> Batcher:
    return Batcher(num_slots=4, max_blocks=10)


def opening(slot: int, *tokens: int) -> SlotOpening:
    return SlotOpening(slot, tokens, len(tokens), SamplingParams())


def test_places_follow_the_extents(batcher: Batcher) -> None:
    extents = (Extent(0, 7, 1), Extent(0, 2, 2))
    batch = batcher.build([Row(1, 14, (5, 6, 7), extents, samples=True)])
    assert batch.positions.tolist() == [14, 15, 16]
    assert batch.places.tolist() == [7 * 16 + 14, 7 * 16 + 15, 2 * 16]
    assert batch.block_tables[1, :3].tolist() == [7, 2, 3]
    assert batch.lengths.tolist() == [17]


def test_rows_of_different_lengths_stand_in_a_line(batcher: Batcher) -> None:
    batcher.open(opening(2, 8, 9))
    rows = [
        Row(0, 0, (1, 2, 3), (Extent(0, 0, 1),), samples=False),
        Row(2, 1, None, (Extent(0, 1, 1),), samples=True),
        Row(1, 5, (4,), (Extent(0, 2, 1),), samples=True),
    ]
    batch = batcher.build(rows)
    assert batch.tokens.tolist() == [1, 2, 3, 9, 4]
    assert batch.positions.tolist() == [0, 1, 2, 1, 5]
    assert batch.query_starts.tolist() == [0, 3, 4, 5]
    assert batch.slots.tolist() == [0, 2, 1]
    assert batch.sampling.tolist() == [3, 4]


def test_a_decode_takes_the_token_last_drawn(batcher: Batcher) -> None:
    batcher.open(opening(0, 3))
    batcher.set_next_token(0, 42)
    assert batcher.build([Row(0, 1, None, (Extent(0, 0, 1),), samples=True)]).tokens.tolist() == [42]


def test_the_block_table_follows_a_new_tuple(batcher: Batcher) -> None:
    batcher.build([Row(0, 0, (1,), (Extent(0, 4, 1),), samples=True)])
    batch = batcher.build([Row(0, 16, (1,), (Extent(0, 4, 1), Extent(0, 9, 1)), samples=True)])
    assert batch.places.tolist() == [9 * 16]


def test_the_same_tuple_in_a_reopened_slot_is_expanded_for_it(batcher: Batcher) -> None:
    first, second = (Extent(0, 4, 1),), (Extent(0, 5, 1),)
    batcher.build([Row(0, 0, (1,), first, samples=True)])
    batcher.open(opening(0, 1))
    assert batcher.build([Row(0, 0, (1,), second, samples=True)]).places.tolist() == [5 * 16]
    batcher.open(opening(0, 1))
    assert batcher.build([Row(0, 0, (1,), first, samples=True)]).places.tolist() == [4 * 16]
