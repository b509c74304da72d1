"""One slice of the same-tokens matrix on the real model."""

import pytest

from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.execution.models.loading import load_model
from tests.switching.conftest import Outcome, Service

SIZES = {"device_blocks": 24, "host_blocks": 24, "slots": 3, "budget": 64}
QUESTIONS = ("Why is the sky blue?", "Tell me a short story about a fox who could not sleep.", "Count to ten.")


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(load_model())


@pytest.fixture(scope="module")
def turns(service: Service) -> list[Submit]:
    """Return two greedy turns and one sampled."""

    def turn(number: int, question: str) -> Submit:
        text = service.model.chat_template.render([{"role": "user", "content": question}])
        sampling = SamplingParams(temperature=number // 2, seed=5, logprobs=1)
        return Submit(f"c{number}", tuple(service.model.tokenizer.encode(text)), 16, sampling, frozenset(), None)

    return [turn(number, question) for number, question in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def undisturbed(service: Service, turns: list[Submit]) -> Outcome:
    return service.answer(turns, **SIZES)


@pytest.mark.parametrize("preset", ["vllm-0.3.3", "vllm-recompute", "groups+reuse+async"])
def test_evictions_change_no_token(service: Service, turns: list[Submit], undisturbed: Outcome, preset: str) -> None:
    outcome = service.answer(turns, preset, debug_preempt_every=7, **SIZES)
    assert outcome.answers == undisturbed.answers
    assert outcome.preemptions()["debug"] == 2 * len(turns)
