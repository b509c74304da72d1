"""Which blocks a plan names to be spoiled."""

import pytest

from allocator import DEVICE, HOST, Extent, KVMemory
from service.core.switching.poison import Poison


@pytest.fixture
def memory() -> KVMemory:
    """Sequence 0 has KV in the first three of ten device blocks."""
    memory = KVMemory(10, 10, initial_group=1)
    memory.add(0)
    memory.reserve(0, 48)
    memory.append(0, 48)
    return memory


def test_blocks_that_come_to_an_owner_are_spoiled_once(memory: KVMemory) -> None:
    poison = Poison(memory)
    assert poison.take() == (Extent(DEVICE, 0, 3),)
    assert poison.take() == ()


def test_blocks_that_are_freed_are_spoiled(memory: KVMemory) -> None:
    poison = Poison(memory)
    poison.take()
    memory.truncate(0, 16)
    assert poison.take() == (Extent(DEVICE, 1, 2),)


def test_blocks_that_are_freed_and_taken_again_are_spoiled_if_there_was_a_look_between(memory: KVMemory) -> None:
    poison = Poison(memory)
    poison.take()
    memory.truncate(0, 16)
    poison.look()
    memory.reserve(0, 48)
    assert set(poison.take()) == {Extent(DEVICE, 1, 2)}


def test_blocks_that_go_from_one_owner_to_another_between_two_looks_are_spoiled(memory: KVMemory) -> None:
    poison = Poison(memory)
    poison.take()
    memory.drop(0)
    memory.add(1)
    memory.reserve(1, 16)
    assert sum(extent.length for extent in poison.take()) == 3


def test_blocks_under_copy_keep_what_they_hold_when_their_sequence_goes(memory: KVMemory) -> None:
    poison = Poison(memory)
    ticket = memory.swap_out(0)
    poison.take()
    memory.drop(0)
    assert poison.take() == ()
    memory.complete(ticket)
    assert poison.take() == (Extent(DEVICE, 0, 3), Extent(HOST, 0, 3))


def test_the_hosts_blocks_count_too(memory: KVMemory) -> None:
    poison = Poison(memory)
    poison.take()
    memory.complete(memory.swap_out(0))
    assert poison.take() == (Extent(HOST, 0, 3),)
