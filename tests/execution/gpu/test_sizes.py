"""What a runner will take is known before it takes it."""

import numpy as np

from allocator import BLOCK_TOKENS
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.gpu.sizes import StepSizes
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.steps import on_device

Model = tuple[ModelConfig, ModelWeights]


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
