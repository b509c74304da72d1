"""Shared prefixes and the tails that stand on them, one rule at a time. Blocks are of 16 tokens."""

import pytest

from allocator import (
    CopyPendingError,
    DuplicateOwnerError,
    KVMemory,
    MisuseError,
    NotReservedError,
    NotResidentError,
    OutOfBlocksError,
    UnknownOwnerError,
)

HEAD, TAIL, OTHER = 7, 1, 2


@pytest.fixture
def memory() -> KVMemory:
    """A sequence of 50 tokens whose first 32 are a prefix, on which another stands."""
    memory = KVMemory(device_blocks=20, host_blocks=20, initial_group=4)
    memory.add(TAIL)
    compute(memory, TAIL, 50)
    memory.split(TAIL, 32, HEAD)
    memory.add(OTHER, HEAD)
    return memory


def compute(memory: KVMemory, sequence: int, tokens: int) -> None:
    memory.reserve(sequence, memory.computed(sequence) + tokens)
    memory.append(sequence, tokens)


def marks(memory: KVMemory, number: int) -> tuple[int, int, int]:
    """(computed, resident, mirrored), of a memory that passes its check."""
    memory.check()
    return memory.watermarks(number)[:3]


def test_a_split_gives_whole_blocks_to_the_prefix_and_moves_none(memory: KVMemory) -> None:
    alone = KVMemory(device_blocks=20, host_blocks=20, initial_group=4)
    alone.add(TAIL)
    compute(alone, TAIL, 50)
    assert memory.extents(TAIL) == alone.extents(TAIL)
    assert (marks(memory, HEAD), marks(memory, TAIL)) == ((32, 32, 0), (18, 18, 0))
    assert (memory.device.used(HEAD), memory.device.used(TAIL)) == (2, 2)


def test_what_stands_on_a_prefix_has_its_kv_from_the_start(memory: KVMemory) -> None:
    assert memory.path(OTHER) == (HEAD, OTHER)
    assert (memory.computed(OTHER), memory.own_computed(OTHER)) == (32, 0)
    assert memory.extents(OTHER) == memory.device.extents(HEAD)
    assert memory.is_resident(OTHER)
    assert (memory.children(HEAD), memory.sequences, memory.prefixes) == ((TAIL, OTHER), (TAIL, OTHER), (HEAD,))


def test_a_split_divides_the_copy_on_the_host_too(memory: KVMemory) -> None:
    memory.complete(memory.swap_out(TAIL))
    memory.split(TAIL, 48, 8)
    assert (marks(memory, 8), marks(memory, TAIL)) == ((16, 16, 16), (2, 2, 2))
    assert (memory.host.used(8), memory.host.used(TAIL)) == (1, 1)
    assert memory.path(TAIL) == (HEAD, 8, TAIL)


@pytest.mark.parametrize(("number", "tokens"), [(TAIL, 32), (TAIL, 33), (TAIL, 16), (HEAD, 32), (HEAD, 0), (HEAD, 8)])
def test_a_node_is_split_inside_and_between_blocks(memory: KVMemory, number: int, tokens: int) -> None:
    with pytest.raises(MisuseError, match=f"node {number} from token .* cannot be split at token {tokens}"):
        memory.split(number, tokens, 8)
    memory.check()


def test_a_prefix_needs_no_kv_to_be_split_off_and_is_computed_by_any_that_stands_on_it(memory: KVMemory) -> None:
    memory.add(3)
    memory.split(3, 32, 8)
    memory.add(4, 8)
    assert [memory.next_node(sequence) for sequence in (3, 4)] == [8, 8]
    compute(memory, 4, 20)
    assert (memory.computed(3), memory.computed(4), memory.next_node(3)) == (20, 20, 8)
    compute(memory, 3, 15)
    assert (marks(memory, 8), marks(memory, 3), marks(memory, 4)) == ((32, 32, 0), (3, 3, 0), (0, 0, 0))
    assert [memory.next_node(sequence) for sequence in (3, 4)] == [3, 4]


def test_what_a_sequence_lacks_is_told_by_node_and_reserved_for_all_of_them(memory: KVMemory) -> None:
    memory.add(3)
    memory.split(3, 32, 8)
    assert memory.lacking(3, 50) == {3: 2, 8: 2}
    memory.reserve(3, 50)
    assert memory.lacking(3, 50) == {}
    assert memory.device.used(8) == 2
    with pytest.raises(OutOfBlocksError):
        memory.reserve(OTHER, 16 * 20)
    with pytest.raises(NotReservedError, match="node 3: 0 \\+ 33 tokens, 32 reserved"):
        memory.append(3, 65)
    memory.check()


def test_a_sequence_runs_only_if_all_that_it_stands_on_is_on_the_device(memory: KVMemory) -> None:
    memory.complete(memory.swap_out(HEAD))
    memory.reclaim_device(HEAD, 1)
    assert memory.away(OTHER) == memory.away(TAIL) == [HEAD]
    assert not memory.is_resident(OTHER)
    memory.device.grow(OTHER, 1)
    with pytest.raises(NotResidentError, match="sequence 2: part of its 32 tokens"):
        memory.append(OTHER, 1)
    memory.complete(memory.swap_in(HEAD))
    assert memory.away(OTHER) == []
    assert memory.is_resident(OTHER)


def test_a_prefix_loses_kv_only_when_nothing_above_it_has_any(memory: KVMemory) -> None:
    assert memory.has_kv_above(HEAD)
    with pytest.raises(MisuseError, match="there is KV in what stands on prefix 7"):
        memory.truncate(HEAD, 16)
    memory.truncate(TAIL, 32)
    assert not memory.has_kv_above(HEAD)
    memory.truncate(HEAD, 16)
    assert (marks(memory, HEAD), memory.computed(OTHER), memory.next_node(OTHER)) == ((16, 16, 0), 16, HEAD)


def test_a_tail_is_truncated_by_tokens_of_its_sequence_down_to_its_prefix(memory: KVMemory) -> None:
    memory.truncate(TAIL, 40)
    assert (marks(memory, TAIL), memory.computed(TAIL)) == ((8, 8, 0), 40)
    with pytest.raises(ValueError, match="node 1 begins at token 32 and cannot be truncated to 31"):
        memory.truncate(TAIL, 31)


def test_a_prefix_is_dropped_after_all_that_stands_on_it(memory: KVMemory) -> None:
    with pytest.raises(MisuseError, match="2 nodes stand on prefix 7"):
        memory.drop(HEAD)
    for number in (TAIL, OTHER, HEAD):
        memory.drop(number)
    memory.check()
    assert memory.device.largest_free == 20


def test_only_a_sequence_without_blocks_moves_to_another_prefix(memory: KVMemory) -> None:
    memory.split(HEAD, 16, 8)
    memory.move(OTHER, 8)
    assert (memory.path(OTHER), memory.computed(OTHER)) == ((8, OTHER), 16)
    with pytest.raises(MisuseError, match="sequence 1 has blocks"):
        memory.move(TAIL, 8)
    memory.check()


def test_nothing_under_copy_is_split(memory: KVMemory) -> None:
    memory.swap_out(HEAD)
    with pytest.raises(CopyPendingError, match="node 7: ticket 0 is in flight"):
        memory.split(HEAD, 16, 8)
    memory.split(TAIL, 48, 8)
    memory.check()


def test_numbers_are_of_what_they_should_be_of(memory: KVMemory) -> None:
    with pytest.raises(MisuseError, match="node 7 is a prefix, not a sequence"):
        memory.computed(HEAD)
    with pytest.raises(MisuseError, match="node 1 is the tail of a sequence, not a prefix"):
        memory.add(3, TAIL)
    with pytest.raises(UnknownOwnerError, match="there is no node 9"):
        memory.add(3, 9)
    with pytest.raises(DuplicateOwnerError, match="node 2 was already added"):
        memory.split(TAIL, 48, OTHER)
    memory.check()


def test_extents_of_neighbours_are_one_and_stay_the_same_object(memory: KVMemory) -> None:
    extents = memory.extents(TAIL)
    assert len(extents) == 1
    assert memory.extents(TAIL) is extents
    compute(memory, TAIL, 1)
    assert memory.extents(TAIL) is extents
