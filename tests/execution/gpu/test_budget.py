"""What a runner takes is known before it takes it, and so is what is left for KV."""

import numpy as np
import pytest

from allocator import BLOCK_TOKENS
from service.errors import DeviceMemoryError
from service.execution.gpu.budget import MemoryBudget, StepSizes
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.steps import on_device

Model = tuple[ModelConfig, ModelWeights]
MIB, GIB = 1 << 20, 1 << 30
NEEDS = {"weights": 15 * GIB, "activations": 512 * MIB, "attention": 256 * MIB, "matrices": 256 * MIB}


def budget(free: int = 80 * GIB, total: int = 80 * GIB, **others: int) -> MemoryBudget:
    """The budget of a device, by default of 80 GiB, and a model that takes 16 GiB besides KV."""
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


def test_a_model_that_does_not_fit_is_refused_with_all_numbers() -> None:
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


def test_a_runner_takes_what_was_worked_out(tiny: Model) -> None:
    config, weights = tiny
    sizes = StepSizes(config, num_blocks=20, num_slots=5, max_batched_tokens=70, processors=4)
    runtime = SimulatedRuntime()
    pools = GPUPools(runtime, config, np.float32, device_blocks=20, host_blocks=0)
    placed = on_device(runtime, weights)
    with runtime.bound():
        stream = runtime.stream()
    before = runtime.free_bytes()
    GPURunner(config, placed, runtime, pools, stream, num_slots=5, max_batched_tokens=70)
    assert before - runtime.free_bytes() == sum(sizes.needs(np.float32).values())


def test_half_the_bytes_an_element_are_half_the_activations(tiny: Model) -> None:
    sizes = StepSizes(tiny[0], num_blocks=20, num_slots=5, max_batched_tokens=70, processors=4)
    config, wide, narrow = tiny[0], sizes.needs(np.float32), sizes.needs(np.float16)
    heads = 2 * config.num_heads + 2 * config.num_kv_heads
    elements = 3 * config.hidden_size + heads * config.head_dim + 3 * config.intermediate_size
    assert wide["activations"] - narrow["activations"] == 2 * (70 * elements + 5 * config.hidden_size)
    assert {**wide, "activations": 0} == {**narrow, "activations": 0}


def test_sequences_are_as_long_as_the_context_or_the_pool(tiny: Model) -> None:
    small = StepSizes(tiny[0], num_blocks=20, num_slots=5, max_batched_tokens=70, processors=4)
    assert (small.max_positions, small.max_blocks) == (20 * BLOCK_TOKENS, 20)
    large = StepSizes(tiny[0], num_blocks=9000, num_slots=5, max_batched_tokens=70, processors=4)
    assert (large.max_positions, large.max_blocks) == (2048, 128)


def test_a_batch_of_every_slot_has_room_even_where_the_budget_is_smaller(tiny: Model) -> None:
    sizes = StepSizes(tiny[0], num_blocks=20, num_slots=5, max_batched_tokens=3, processors=4)
    assert sizes.max_tokens == 5
