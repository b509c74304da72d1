"""Core and the real data plane on too little KV memory: preempted, recomputed, and the same tokens to the last bit.

Exact equality is right here: the CPU kernels give a sequence the same numbers whatever else is in the batch and however
its prompt is split into chunks.
"""

from pathlib import Path

import pytest

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Finished
from service.core.messages.sampling import SamplingParams
from service.execution.kv import KVPools
from service.execution.models.loading import LoadedModel, load_model
from service.execution.runner import CPURunner
from service.simulation.driver import Simulation
from tests.settings import core_settings, make_policy

CONVERSATIONS = 64


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> LoadedModel:
    return load_model(tiny_model_path)


def conversation(number: int) -> Submit:
    """Return a conversation: half of them are greedy, half sampled."""
    prompt = tuple((number * 7 + i * (1 + number % 5)) % 256 for i in range(20 + number * 80 // CONVERSATIONS))
    sampling = SamplingParams(temperature=float(number % 2), top_p=0.9, seed=number, repetition_penalty=1.1)
    return Submit(f"c{number}", prompt, 64, sampling, frozenset(), None, priority=number % 3)


def answers(model: LoadedModel, blocks: int, slots: int, budget: int, policy: str) -> Simulation:
    core = Core(
        core_settings(device_blocks=blocks, max_num_seqs=slots, max_num_batched_tokens=budget),
        make_policy(policy),
    )
    sizes = {"pools": KVPools.plain(model.config, blocks), "num_slots": slots, "max_batched_tokens": budget}
    simulation = Simulation(core, CPURunner(model.config, model.weights, **sizes))
    for number in range(CONVERSATIONS):
        simulation.submit(conversation(number))
        simulation.step()
        core.check()
    simulation.run()
    core.check()
    return simulation


@pytest.fixture(scope="module")
def undisturbed(model: LoadedModel) -> Simulation:
    return answers(model, blocks=CONVERSATIONS * 9, slots=1, budget=256, policy="fcfs")


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
@pytest.mark.parametrize("budget", [33, 200])
def test_preemption_changes_no_token(model: LoadedModel, undisturbed: Simulation, policy: str, budget: int) -> None:
    scarce = answers(model, blocks=8 * 9, slots=32, budget=budget, policy=policy)
    ends = [end for end in scarce.ended.values() if isinstance(end, Finished)]
    assert len(ends) == CONVERSATIONS
    assert sum(end.usage.preemptions for end in ends) > 0
    assert sum(end.usage.recomputed for end in ends) > 0
    assert scarce.answers == undisturbed.answers
    assert scarce.core.gauges().blocks_used == 0
