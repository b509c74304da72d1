"""`KVMemory`, one rule at a time. Blocks are of 16 tokens."""

import pytest

from allocator import (
    CopyPendingError,
    DuplicateOwnerError,
    Extent,
    KVMemory,
    NothingToCopyError,
    NotReservedError,
    NotResidentError,
    OutOfBlocksError,
    UnknownOwnerError,
    UnknownTicketError,
)


@pytest.fixture
def memory() -> KVMemory:
    return KVMemory(device_blocks=20, host_blocks=20, initial_group=4)


def add(memory: KVMemory, sequence: int, tokens: int) -> None:
    memory.add(sequence)
    memory.reserve(sequence, tokens)
    memory.append(sequence, tokens)


def mirror(memory: KVMemory, sequence: int) -> None:
    assert memory.complete(memory.swap_out(sequence))


def marks(memory: KVMemory, sequence: int) -> tuple[int, int, int]:
    """(computed, resident, mirrored), of a memory that passes its check."""
    memory.check()
    return memory.watermarks(sequence)[:3]


def test_blocks_for_tokens_round_up(memory: KVMemory) -> None:
    assert [memory.device_blocks_for(tokens) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]


def test_appended_tokens_are_resident_and_not_mirrored(memory: KVMemory) -> None:
    add(memory, 1, 50)
    assert marks(memory, 1) == (50, 50, 0)
    assert memory.is_resident(1)
    assert memory.device.used(1) == 4


def test_append_needs_reserved_blocks(memory: KVMemory) -> None:
    add(memory, 1, 16)
    with pytest.raises(NotReservedError, match="16 \\+ 1 tokens, 16 reserved"):
        memory.append(1, 1)
    assert marks(memory, 1) == (16, 16, 0)


def test_reserving_too_much_is_out_of_blocks_and_changes_nothing(memory: KVMemory) -> None:
    add(memory, 1, 16)
    with pytest.raises(OutOfBlocksError):
        memory.reserve(1, 321)
    assert memory.device.used(1) == 1


def test_swapping_out_mirrors_and_leaves_the_sequence_resident(memory: KVMemory) -> None:
    add(memory, 1, 50)
    ticket = memory.swap_out(1)
    assert marks(memory, 1) == (50, 50, 0)
    assert (ticket.source, ticket.destination) == ((Extent(0, 0, 4),), (Extent(1, 0, 4),))
    assert memory.complete(ticket)
    assert marks(memory, 1) == (50, 50, 50)


def test_only_blocks_from_the_end_of_the_mirror_are_copied(memory: KVMemory) -> None:
    add(memory, 1, 40)
    mirror(memory, 1)
    memory.reserve(1, 70)
    memory.append(1, 30)
    ticket = memory.swap_out(1)
    assert (ticket.first_block, ticket.source) == (2, (Extent(0, 2, 3),)), "the half-mirrored block goes again"
    memory.complete(ticket)
    assert marks(memory, 1) == (70, 70, 70)


def test_only_the_tail_that_is_asked_for_is_mirrored_and_can_be_given(memory: KVMemory) -> None:
    add(memory, 1, 150)
    ticket = memory.swap_out(1, 3)
    assert (ticket.first_block, ticket.num_blocks, ticket.end) == (7, 3, 150)
    assert memory.arriving_device(1) == 3
    memory.complete(ticket)
    assert memory.host.used(1) == memory.reclaimable_device(1) == 3
    assert memory.reclaim_device(1, 9) == 3
    assert (*marks(memory, 1), memory.watermarks(1).first_mirrored) == (150, 112, 150, 7)
    assert memory.swap_in(1).num_blocks == 3


def test_a_copy_grows_in_front_when_more_is_asked_for(memory: KVMemory) -> None:
    add(memory, 1, 150)
    memory.complete(memory.swap_out(1, 3))
    memory.reclaim_device(1, 2)
    ticket = memory.swap_out(1, 4)
    assert (ticket.first_block, ticket.num_blocks, ticket.end) == (4, 3, 112)
    memory.complete(ticket)
    assert memory.reclaim_device(1, 9) == 4
    assert (*marks(memory, 1), memory.watermarks(1).first_mirrored) == (150, 64, 150, 4)
    with pytest.raises(NothingToCopyError):
        memory.swap_out(1, 0)


def test_a_copy_that_failed_in_front_leaves_what_was_mirrored(memory: KVMemory) -> None:
    add(memory, 1, 150)
    memory.complete(memory.swap_out(1, 3))
    memory.reclaim_device(1, 3)
    memory.fail(memory.swap_out(1, 2))
    assert (*marks(memory, 1), memory.watermarks(1).first_mirrored) == (150, 112, 150, 7)
    assert memory.host.used(1) == 3


def test_a_short_copy_far_from_the_tail_that_is_asked_for_is_given_up(memory: KVMemory) -> None:
    add(memory, 1, 20)
    mirror(memory, 1)
    memory.reserve(1, 160)
    memory.append(1, 140)
    ticket = memory.swap_out(1, 3)
    assert (ticket.first_block, ticket.num_blocks, memory.host.used(1)) == (7, 3, 3)


def test_a_copy_that_is_long_enough_is_kept_and_what_lies_between_is_copied(memory: KVMemory) -> None:
    add(memory, 1, 100)
    mirror(memory, 1)
    memory.reserve(1, 160)
    memory.append(1, 60)
    ticket = memory.swap_out(1, 2)
    assert (ticket.first_block, ticket.num_blocks, memory.host.used(1)) == (6, 4, 10)


def test_a_truncation_before_the_copy_leaves_the_host_nothing(memory: KVMemory) -> None:
    add(memory, 1, 150)
    memory.complete(memory.swap_out(1, 3))
    memory.truncate(1, 100)
    assert (*marks(memory, 1), memory.host.used(1)) == (100, 100, 0, 0)


def test_a_sequence_runs_on_while_it_is_swapped_out(memory: KVMemory) -> None:
    add(memory, 1, 50)
    ticket = memory.swap_out(1)
    memory.append(1, 5)
    memory.complete(ticket)
    assert marks(memory, 1) == (55, 55, 50)


def test_dirty_blocks_are_not_reclaimed(memory: KVMemory) -> None:
    add(memory, 1, 50)
    assert memory.reclaim_device(1, 4) == 0
    assert marks(memory, 1) == (50, 50, 0)


def test_blocks_without_kv_are_reclaimed_even_if_dirty(memory: KVMemory) -> None:
    add(memory, 1, 50)
    memory.reserve(1, 100)
    assert memory.reclaim_device(1, 10) == 3
    assert marks(memory, 1) == (50, 50, 0)


def test_mirrored_blocks_are_reclaimed_tail_first(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    assert memory.reclaim_device(1, 2) == 2
    assert marks(memory, 1) == (50, 32, 50)
    assert not memory.is_resident(1)
    assert memory.device.extents(1) == (Extent(0, 0, 2),)


def test_a_sequence_without_all_its_kv_does_not_run(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 1)
    with pytest.raises(NotResidentError):
        memory.append(1, 1)


def test_swapping_in_copies_only_what_was_reclaimed(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 2)
    ticket = memory.swap_in(1)
    assert (ticket.source, ticket.destination) == ((Extent(1, 2, 2),), (Extent(0, 2, 2),))
    assert not memory.is_resident(1)
    assert memory.complete(ticket)
    assert marks(memory, 1) == (50, 50, 50)


def test_host_blocks_are_contaminated_tail_first(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    assert memory.reclaim_host(1, 1) == 1
    assert marks(memory, 1) == (50, 50, 48)
    assert memory.host.used(1) == 3


def test_an_only_copy_is_never_taken(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 1)
    assert memory.reclaimable_host(1) == memory.reclaim_host(1, 4) == 0
    assert marks(memory, 1) == (50, 48, 50)


def test_host_blocks_that_a_copy_writes_are_not_contaminated(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.append(1, 10)
    memory.swap_out(1)
    assert memory.reclaim_host(1, 4) == 0


def test_device_blocks_that_a_copy_writes_are_not_reclaimed(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 2)
    memory.swap_in(1)
    assert memory.reclaim_device(1, 4) == 0


def test_device_blocks_that_a_stale_copy_reads_are_not_reclaimed(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.append(1, 10)
    ticket = memory.swap_out(1)
    memory.truncate(1, 50)
    assert marks(memory, 1) == (50, 50, 50)
    assert memory.reclaim_device(1, 1) == 0
    memory.complete(ticket)
    assert memory.reclaim_device(1, 1) == 1


def test_truncating_lowers_every_watermark_and_frees_blocks(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.truncate(1, 20)
    assert marks(memory, 1) == (20, 20, 20)
    assert (memory.device.used(1), memory.host.used(1)) == (2, 2)


def test_truncating_raises_the_epoch(memory: KVMemory) -> None:
    add(memory, 1, 50)
    before = memory.watermarks(1).epoch
    memory.truncate(1, 20)
    assert memory.watermarks(1).epoch > before


def test_truncating_blocks_without_kv_keeps_the_epoch_and_so_the_copy_in_flight(memory: KVMemory) -> None:
    add(memory, 1, 50)
    memory.reserve(1, 100)
    ticket = memory.swap_out(1)
    memory.truncate(1, 60)
    assert memory.device.used(1) == 4
    assert memory.complete(ticket)
    assert marks(memory, 1) == (50, 50, 50)


def test_a_ticket_is_stale_after_truncation_and_moves_nothing(memory: KVMemory) -> None:
    add(memory, 1, 50)
    ticket = memory.swap_out(1)
    memory.truncate(1, 40)
    assert not memory.complete(ticket)
    assert marks(memory, 1) == (40, 40, 0)
    assert memory.host.num_used == 0


def test_truncated_blocks_stay_with_the_copy_until_it_ends(memory: KVMemory) -> None:
    add(memory, 1, 64)
    ticket = memory.swap_out(1)
    memory.truncate(1, 0)
    memory.check()
    assert (memory.device.num_used, memory.host.num_used) == (4, 4)
    memory.reserve(1, 64)
    assert not set(memory.device.extents(1)) & set(ticket.source)
    memory.complete(ticket)
    memory.check()
    assert (memory.device.num_used, memory.host.num_used) == (4, 0)


def test_truncating_again_hands_over_only_what_is_still_under_copy(memory: KVMemory) -> None:
    add(memory, 1, 64)
    ticket = memory.swap_out(1)
    memory.truncate(1, 33)
    memory.reserve(1, 80)
    memory.append(1, 40)
    memory.truncate(1, 5)
    memory.check()
    assert memory.device.num_used == 4, "the sequence still has one of them"
    memory.complete(ticket)
    assert marks(memory, 1) == (5, 5, 0)
    assert memory.device.num_used == 1


def test_a_truncated_swap_in_is_stale_and_can_start_again(memory: KVMemory) -> None:
    add(memory, 1, 64)
    mirror(memory, 1)
    memory.reclaim_device(1, 3)
    stale = memory.swap_in(1)
    memory.truncate(1, 40)
    assert marks(memory, 1) == (40, 16, 40)
    assert not memory.complete(stale)
    assert memory.complete(memory.swap_in(1))
    assert marks(memory, 1) == (40, 40, 40)


def test_a_swap_in_truncated_to_what_is_resident_lets_the_sequence_run_at_once(memory: KVMemory) -> None:
    add(memory, 1, 64)
    mirror(memory, 1)
    memory.reclaim_device(1, 3)
    ticket = memory.swap_in(1)
    memory.truncate(1, 10)
    memory.append(1, 6)
    assert marks(memory, 1) == (16, 16, 10)
    memory.complete(ticket)
    assert marks(memory, 1) == (16, 16, 10)


def test_a_failed_swap_out_frees_its_destination_and_can_be_tried_again(memory: KVMemory) -> None:
    add(memory, 1, 50)
    memory.fail(memory.swap_out(1))
    assert marks(memory, 1) == (50, 50, 0)
    assert memory.host.num_used == 0
    mirror(memory, 1)
    assert marks(memory, 1) == (50, 50, 50)


def test_a_failed_swap_out_voids_the_block_it_was_rewriting(memory: KVMemory) -> None:
    add(memory, 1, 40)
    mirror(memory, 1)
    memory.append(1, 8)
    memory.fail(memory.swap_out(1))
    assert marks(memory, 1) == (48, 48, 32)


def test_a_failed_swap_in_loses_nothing(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 3)
    memory.fail(memory.swap_in(1))
    assert marks(memory, 1) == (50, 16, 50)
    assert memory.device.num_used == 1


def test_a_stale_swap_in_that_fails_leaves_the_blocks_taken_since(memory: KVMemory) -> None:
    add(memory, 1, 50)
    mirror(memory, 1)
    memory.reclaim_device(1, 3)
    ticket = memory.swap_in(1)
    memory.truncate(1, 16)
    memory.reserve(1, 40)
    memory.fail(ticket)
    memory.append(1, 24)
    assert marks(memory, 1) == (40, 40, 16)


def test_a_sequence_has_one_copy_at_a_time(memory: KVMemory) -> None:
    add(memory, 1, 50)
    ticket = memory.swap_out(1)
    assert memory.pending(1) == ticket
    with pytest.raises(CopyPendingError):
        memory.swap_out(1)
    memory.truncate(1, 40)
    with pytest.raises(CopyPendingError):
        memory.swap_out(1)
    memory.complete(ticket)
    assert memory.pending(1) is None


def test_there_must_be_something_to_copy(memory: KVMemory) -> None:
    add(memory, 1, 50)
    with pytest.raises(NothingToCopyError):
        memory.swap_in(1)
    mirror(memory, 1)
    with pytest.raises(NothingToCopyError):
        memory.swap_out(1)


def test_a_swap_out_without_host_blocks_changes_nothing() -> None:
    memory = KVMemory(device_blocks=20, host_blocks=3, initial_group=60)
    add(memory, 1, 50)
    with pytest.raises(OutOfBlocksError):
        memory.swap_out(1)
    assert marks(memory, 1) == (50, 50, 0)
    assert memory.tickets == ()


def test_dropping_frees_all_but_what_is_under_copy(memory: KVMemory) -> None:
    add(memory, 1, 64)
    mirror(memory, 1)
    memory.reserve(1, 80)
    memory.append(1, 16)
    ticket = memory.swap_out(1)
    memory.drop(1)
    memory.check()
    assert (memory.device.num_used, memory.host.num_used) == (1, 1)
    assert not memory.complete(ticket)
    assert (memory.device.num_used, memory.host.num_used) == (0, 0)
    memory.check()


def test_an_old_ticket_does_not_touch_a_new_sequence_of_the_same_id(memory: KVMemory) -> None:
    add(memory, 1, 64)
    old = memory.swap_out(1)
    memory.drop(1)
    add(memory, 1, 64)
    new = memory.swap_out(1)
    assert not memory.complete(old)
    assert marks(memory, 1) == (64, 64, 0)
    assert memory.complete(new)


def test_a_ticket_ends_once(memory: KVMemory) -> None:
    add(memory, 1, 50)
    ticket = memory.swap_out(1)
    memory.complete(ticket)
    for end in (memory.complete, memory.fail):
        with pytest.raises(UnknownTicketError):
            end(ticket)


def test_unknown_sequences_raise(memory: KVMemory) -> None:
    with pytest.raises(UnknownOwnerError):
        memory.computed(1)
    with pytest.raises(UnknownOwnerError):
        memory.reserve(1, 5)


def test_sequences_are_added_once(memory: KVMemory) -> None:
    memory.add(3)
    with pytest.raises(DuplicateOwnerError):
        memory.add(3)
    assert memory.sequences == (3,)


def test_negative_sequence_ids_are_refused(memory: KVMemory) -> None:
    with pytest.raises(ValueError, match="-1"):
        memory.add(-1)


def test_check_finds_tokens_without_blocks(memory: KVMemory) -> None:
    add(memory, 1, 50)
    memory.device.shrink(1, 2)
    with pytest.raises(AssertionError):
        memory.check()
