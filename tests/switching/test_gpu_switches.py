"""On a GPU, a step ahead, with copies on streams of their own: the CPU's tokens and log-probabilities, to the last bit.

The device is simulated: its streams run at once, and each piece of their work may be late. Freed blocks are filled with
NaN throughout.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import pytest

from service.core.events import CopyEnded, FinishReason
from service.core.mechanisms import PRESETS
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.faults import Delays, Failing, Faults, Several, Work
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.simulated_runtime import SimulatedRuntime
from tests.execution.gpu.steps import on_device
from tests.switching.conftest import Outcome, Plane, Service, conversations

COUNT, TOKENS = 6, 40


@dataclass
class GPUService(Service):
    """The same engine over a simulated device, warm. Streams after number ``compute`` are the copier's."""

    faults: Faults
    compute: float = inf

    def data_plane(self, device_blocks: int, host_blocks: int, slots: int, budget: int, by_layer: bool) -> Plane:
        config = self.model.config
        runtime = SimulatedRuntime(faults=self.faults)
        blocks = {"device_blocks": device_blocks, "host_blocks": host_blocks, "chunk_bytes": 1 << 20}
        pools = GPUPools(runtime, config, np.float32, **blocks)
        weights = on_device(runtime, self.model.weights)
        with runtime.bound():
            stream = runtime.stream(urgent=True)
        self.compute = stream.number
        runner = GPURunner(config, weights, runtime, pools, stream, num_slots=slots, max_batched_tokens=budget)
        runner.warm_up()
        return runner, GPUCopier(runtime, pools, stream, by_layer=by_layer)


def late(seed: int) -> Faults:
    """Copies by up to half a millisecond, all the rest by as little as lets streams pass each other."""
    copies = Delays(seed, 0.0005, lambda work: work.is_copy)
    return Several(copies, Delays(seed, 0.00005, lambda work: not work.is_copy))


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Outcome:
    return service.answer(conversations(COUNT, TOKENS))


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_eviction_every_so_many_tokens_changes_nothing(
    service: Service, undisturbed: Outcome, preset: str, every: int
) -> None:
    gpu = GPUService(service.model, late(every))
    outcome = gpu.answer(conversations(COUNT, TOKENS), preset, debug_preempt_every=every)
    assert outcome.answers == undisturbed.answers
    assert outcome.preemptions()["debug"] == COUNT * ((TOKENS - 1) // every)


def test_copies_of_kv_that_fail_change_nothing(service: Service, undisturbed: Outcome) -> None:
    def every_seventh(work: Work) -> bool:
        return work.stream > gpu.compute and work.is_copy and work.number % 7 == 0

    gpu = GPUService(service.model, Several(late(2), Failing(every_seventh)))
    outcome = gpu.answer(conversations(COUNT, TOKENS), debug_preempt_every=7)
    assert any(isinstance(event, CopyEnded) and event.failed for event in outcome.events)
    assert outcome.answers == undisturbed.answers


def test_a_step_that_fails_ends_its_requests_and_leaves_the_others_right(
    service: Service, undisturbed: Outcome
) -> None:
    gpu = GPUService(service.model, Several(late(3), Failing(lambda work: work.name == "sample", 40, 41)))
    outcome = gpu.answer(conversations(COUNT, TOKENS), slots=2, debug_preempt_every=7)
    failed = {name for name, end in outcome.ends.items() if end.reason is FinishReason.ERROR}
    assert 1 <= len(failed) <= 2
    for name in outcome.ends.keys() - failed:
        assert outcome.answers[name] == undisturbed.answers[name]
