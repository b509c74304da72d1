"""From a plan's rows to a batch's arrays and the changes of block tables."""

import numpy as np
import pytest

from allocator import Extent
from service.core.messages.plan import Row, SlotOpening
from service.core.messages.sampling import SamplingParams
from service.execution.batch import Batch, Batcher, TableChanges


@pytest.fixture
def batcher() -> Batcher:
    return Batcher(num_slots=4, max_blocks=10)


def opening(slot: int, *tokens: int) -> SlotOpening:
    return SlotOpening.of(slot, tokens, len(tokens), SamplingParams())


def row(slot: int, start: int, tokens: tuple[int, ...] | None, *extents: Extent, draws_token: bool = True) -> Row:
    return Row(slot, start, tokens, extents, draws_token)


def input_ids(batcher: Batcher, *rows: Row) -> list[int]:
    return batcher.build(rows)[0].input_ids.tolist()


def entries(changes: TableChanges) -> dict[int, int]:
    return dict(zip(changes.entries.tolist(), changes.blocks.tolist(), strict=True))


def test_the_slot_mapping_follows_the_extents(batcher: Batcher) -> None:
    batch, _ = batcher.build([row(1, 14, (5, 6, 7), Extent(0, 7, 1), Extent(0, 2, 2))])
    assert batch.positions.tolist() == [14, 15, 16]
    assert batch.slot_mapping.tolist() == [7 * 16 + 14, 7 * 16 + 15, 2 * 16]
    assert batch.seq_lens.tolist() == [17]


def test_rows_of_different_lengths_stand_one_after_the_other(batcher: Batcher) -> None:
    batcher.open(opening(2, 8, 9))
    rows = [
        row(0, 0, (1, 2, 3), Extent(0, 0, 1), draws_token=False),
        row(2, 1, None, Extent(0, 1, 1)),
        row(1, 5, (4,), Extent(0, 2, 1)),
    ]
    batch, _ = batcher.build(rows)
    assert batch.input_ids.tolist() == [1, 2, 3, 9, 4]
    assert batch.positions.tolist() == [0, 1, 2, 1, 5]
    assert batch.query_start_loc.tolist() == [0, 3, 4, 5]
    assert batch.slots.tolist() == [0, 2, 1]
    assert batch.logits_indices.tolist() == [3, 4]


def test_a_decode_takes_the_openings_last_token_until_one_is_drawn(batcher: Batcher) -> None:
    batcher.open(opening(3, 7, 42))
    decode = row(3, 1, None, Extent(0, 0, 1))
    assert input_ids(batcher, decode) == [42]
    assert input_ids(batcher, decode) == [-1 - 3]
    batcher.open(opening(3, 5))
    assert input_ids(batcher, decode) == [5]


def test_a_chunk_that_draws_nothing_leaves_the_input_as_it_was(batcher: Batcher) -> None:
    batcher.open(opening(0, 7, 8, 9))
    batcher.build([row(0, 0, (7, 8), Extent(0, 0, 1), draws_token=False)])
    assert input_ids(batcher, row(0, 2, None, Extent(0, 0, 1))) == [9]


def test_only_entries_of_block_tables_that_differ_are_sent(batcher: Batcher) -> None:
    first = row(1, 0, (1,), Extent(0, 7, 1), Extent(0, 2, 2))
    assert entries(batcher.build([first])[1]) == {10: 7, 11: 2, 12: 3}
    assert entries(batcher.build([first])[1]) == {}
    grown = row(1, 48, (1,), Extent(0, 7, 1), Extent(0, 2, 3))
    batch, changes = batcher.build([grown])
    assert entries(changes) == {13: 4}
    assert batch.slot_mapping.tolist() == [4 * 16]


def test_a_reopened_slot_gets_the_entries_that_its_last_request_did_not_have(batcher: Batcher) -> None:
    batcher.build([row(0, 0, (1,), Extent(0, 4, 2))])
    batcher.open(opening(0, 1))
    batch, changes = batcher.build([row(0, 0, (1,), Extent(0, 4, 1), Extent(0, 8, 1))])
    assert entries(changes) == {1: 8}
    assert batch.slot_mapping.tolist() == [4 * 16]


def test_whole_tables_are_sent_again_when_changes_may_not_have_arrived(batcher: Batcher) -> None:
    first = row(2, 0, (1,), Extent(0, 0, 2))
    batcher.build([first])
    batcher.forget()
    batch, changes = batcher.build([first])
    assert entries(changes) == {20: 0, 21: 1}
    assert batch.slot_mapping.tolist() == [0]


def test_decodes_that_follow_decodes_are_built_as_any_other_batch(batcher: Batcher) -> None:
    blocks = {slot: (Extent(0, 3 * slot, 2),) for slot in range(3)}

    def decodes(start: int, *slots: int) -> list[Row]:
        return [Row(slot, start + slot, None, blocks[slot], draws_token=True) for slot in slots]

    for slot in range(3):
        batcher.open(opening(slot, 5, 6))
    batcher.build(decodes(14, 2, 0, 1))
    fresh = Batcher(num_slots=4, max_blocks=10)
    for start, slots in ((15, (2, 0, 1)), (16, (2, 0, 1)), (17, (0, 1)), (18, (1, 0)), (19, (1, 0))):
        got, expected = batcher.build(decodes(start, *slots))[0], fresh.build(decodes(start, *slots))[0]
        fresh.open(opening(3, 1))  # which has it forget the batch before
        for name in Batch.__slots__:
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
            assert getattr(got, name).dtype == getattr(expected, name).dtype


def test_a_grown_sequence_decodes_into_its_new_block(batcher: Batcher) -> None:
    for start, extents in (
        (30, (Extent(0, 4, 2),)),
        (31, (Extent(0, 4, 2),)),
        (32, (Extent(0, 4, 2), Extent(0, 9, 1))),
    ):
        batch, changes = batcher.build([row(0, start, None, *extents)])
    assert batch.slot_mapping.tolist() == [9 * 16]
    assert entries(changes) == {2: 9}
