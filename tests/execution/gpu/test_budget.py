"""What a device has room for."""

import pytest

from service.errors import DeviceMemoryError
from service.execution.gpu.budget import MemoryBudget

MIB, GIB = 1 << 20, 1 << 30
NEEDS = {"weights": 15 * GIB, "activations": 512 * MIB, "attention": 256 * MIB, "matrices": 256 * MIB}


def budget(free: int = 80 * GIB, total: int = 80 * GIB, **others: int) -> MemoryBudget:
    """Of a device of 80 GiB and a model that takes 16 GiB beside KV, unless told otherwise."""
    return MemoryBudget("cuda:0", free, total, NEEDS, **{"block_bytes": 2 * MIB, **others})


def test_kv_gets_what_the_share_leaves() -> None:
    assert budget().blocks(0.9) == (72 - 16) * 512


def test_what_others_took_counts_to_the_share() -> None:
    assert budget(free=60 * GIB).blocks(0.9) == (72 - 20 - 16) * 512


def test_spare_blocks_are_counted_in() -> None:
    assert budget(spare_blocks=1).blocks(0.9) == budget().blocks(0.9) - 1


def test_all_of_it_fits_and_one_block_more_does_not() -> None:
    tight = budget(spare_blocks=1)
    blocks = tight.blocks(1.0)
    tight.require(blocks)
    with pytest.raises(DeviceMemoryError):
        tight.require(blocks + 1)


def test_a_model_that_does_not_fit_is_told_with_all_numbers() -> None:
    with pytest.raises(DeviceMemoryError) as caught:
        budget(free=14 * GIB, total=16 * GIB).blocks(0.9)
    message = caught.value.message
    assert message.startswith("cuda:0: 16 GiB asked for, 14 GiB of 16 GiB free: weights 15 GiB, activations 512 MiB")
    assert "KV of 16 tokens 2 MiB" in message
    assert message.endswith("more than the 12.4 GiB that --gpu-memory-utilization 0.9 leaves")


def test_not_one_block_is_as_little_as_no_model() -> None:
    just = 16 * GIB + 2 * MIB
    assert budget(free=just, total=just).blocks(1.0) == 1
    with pytest.raises(DeviceMemoryError, match=r"KV of 16 tokens"):
        budget(free=just - 1, total=just - 1).blocks(1.0)


def test_others_that_hold_more_than_the_share_leave_nothing() -> None:
    with pytest.raises(DeviceMemoryError, match=r"the 0 bytes that"):
        budget(free=4 * GIB).blocks(0.9)


def test_blocks_asked_for_may_take_all_that_is_free() -> None:
    budget().require(64 * 512)
    with pytest.raises(DeviceMemoryError, match=r"KV of 524304 tokens 64 GiB are more than there is"):
        budget().require(64 * 512 + 1)
