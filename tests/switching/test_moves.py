"""Blocks that move on the real data planes, between steps of the requests whose KV they hold."""

from random import Random

import pytest

from service.core.messages.commands import Submit
from service.core.messages.events import Compacted
from service.core.messages.sampling import SamplingParams
from service.execution.gpu.simulated.faults import Delays
from tests.switching.conftest import Outcome, Service, deep
from tests.switching.test_gpu_races import GPUService, steps

SLOTS = 24
TRIES = 5  # how copies and steps meet decides whether a run needs compaction: about nine in ten do
FEW = {"slots": SLOTS, "device_blocks": 80, "host_blocks": 80, "group": 10}


def short_turns() -> list[Submit]:
    """Return turns of lengths that leave scattered holes when they end, all with log-probabilities."""
    random = Random(5)

    def turn(number: int) -> Submit:
        prompt = tuple(random.randrange(256) for _ in range(random.randint(1, 20)))
        sampling = SamplingParams(temperature=number % 2, seed=number, logprobs=1)
        return Submit(f"c{number}", prompt, random.randint(1, 80), sampling, frozenset(), None)

    return [turn(number) for number in range(120)]


@pytest.fixture(scope="module")
def expected(service: Service) -> Outcome:
    return service.answer(short_turns(), slots=SLOTS, device_blocks=600)


def moved(outcome: Outcome) -> int:
    return sum(event.blocks for event in outcome.events if isinstance(event, Compacted))


@pytest.mark.parametrize("wrap", [None, deep])
def test_moved_blocks_change_no_answer(service: Service, expected: Outcome, wrap: object) -> None:
    blocks = 0
    for _ in range(TRIES):
        outcome = service.answer(short_turns(), "full", **FEW, **({"wrap": wrap} if wrap else {}))
        assert outcome.answers == expected.answers
        blocks += moved(outcome)
        if blocks:
            return
    pytest.fail("nothing had to move")


@pytest.mark.parametrize("service", ["float32"], indirect=True, scope="package")  # as a GPU has weights
def test_moved_blocks_change_no_answer_on_a_gpu(service: Service, expected: Outcome) -> None:
    late = Delays(seed=1, longest_s=0.002, which=steps)
    outcome = GPUService(service.model, faults=late).answer(short_turns(), "full", **FEW)
    assert moved(outcome) > 0
    assert outcome.answers == expected.answers
