"""Whole steps by the CUDA kernels, on a simulated device: the runner's order of them, its arrays, its graphs.

The model has two layers of random weights, heads of 16 and a vocabulary of 211, which is no multiple of a vector. Its
results equal those of the CPU's runner on the reference's ops, with the same rounded weights in float32.
"""

import numpy as np
import pytest
from arrays import DTYPES

from allocator import Extent
from kernels import reference
from service.core.messages.plan import Drawn, Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.conftest import make_random_model
from tests.execution.gpu.steps import SETTINGS, Device, each_array, expected, played

PROMPTS = (tuple(range(100, 118)), (7, 8, 9))
EXTENTS = ((Extent(0, 5, 1), Extent(0, 2, 1)), (Extent(0, 9, 1),))


def opening(slot: int, sampling: SamplingParams) -> SlotOpening:
    return SlotOpening.of(slot, PROMPTS[slot], len(PROMPTS[slot]), sampling)


def row(slot: int, start: int, tokens: tuple[int, ...] | None, draws_token: bool = True) -> Row:
    return Row(slot, start, tokens, EXTENTS[slot], draws_token)


def rounded(weights: ModelWeights, dtype: str) -> ModelWeights:
    return each_array(weights, lambda values: values.astype(DTYPES[dtype]).astype(np.float32))


def model(**options: object) -> tuple[ModelConfig, ModelWeights]:
    return make_random_model(heads=4, kv_heads=2, **options)


def close(got: Drawn, expected: Drawn, tolerance: float) -> None:
    """Assert that the tokens are equal, and their log-probabilities and the likeliest ones within the tolerance."""
    assert got.token == expected.token
    if expected.logprobs is not None:
        assert got.logprobs.logprob == pytest.approx(expected.logprobs.logprob, abs=tolerance)
        values = [[value for _, value in drawn.logprobs.top] for drawn in (got, expected)]
        np.testing.assert_allclose(values[0], values[1], atol=tolerance)


def test_a_conversation_in_float32_has_the_references_tokens() -> None:
    """A prompt in chunks beside one that decodes, one greedy, one with every sampling parameter."""
    plans = [
        StepPlan(
            0,
            (opening(0, SETTINGS["everything"]), opening(1, SamplingParams(temperature=0, logprobs=5))),
            (row(0, 0, PROMPTS[0][:10], draws_token=False), row(1, 0, PROMPTS[1])),
        ),
        StepPlan(1, (), (row(1, 3, None), row(0, 10, PROMPTS[0][10:]))),
        StepPlan(2, (), (row(0, 18, None), row(1, 4, None))),
    ]
    config, weights = model(qkv_bias=True)
    plays = played(config, weights, *plans, kernels=reference)
    got = Device(config, weights, simulate_kernels=True).play(plays)
    for step, expected_step in zip(got, expected(plays), strict=True):
        assert [drawn.slot for drawn in step] == [drawn.slot for drawn in expected_step]
        for drawn, expected_drawn in zip(step, expected_step, strict=True):
            close(drawn, expected_drawn, 1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.0125)])
def test_logits_of_short_types_are_near_those_of_float32(dtype: str, tolerance: float) -> None:
    """Logits are of order 3, after sums of up to 256 products in eight matrices. Chunks go through tensor cores."""
    config, weights = model(qk_norm=True, head_dim=64)
    weights = rounded(weights, dtype)
    sampling = SamplingParams(temperature=0, logprobs=20)
    chunks = row(0, 0, PROMPTS[0][:10], draws_token=False), row(0, 10, PROMPTS[0][10:])
    plans = [
        StepPlan(0, (opening(0, sampling), opening(1, sampling)), (chunks[0], row(1, 0, PROMPTS[1]))),
        StepPlan(1, (), (row(1, 3, (50,)), chunks[1])),
    ]
    plays = played(config, weights, *plans, kernels=reference)
    got = Device(config, weights, dtype=DTYPES[dtype], simulate_kernels=True).play(plays)
    for step, expected_step in zip(got, expected(plays), strict=True):
        for drawn, expected_drawn in zip(step, expected_step, strict=True):
            close(drawn, expected_drawn, tolerance)


def test_replayed_decodes_in_bfloat16_are_those_of_the_plain_path() -> None:
    opened = opening(0, SETTINGS["seeded"]), opening(1, SETTINGS["seeded"])
    plans = [
        StepPlan(0, opened, (row(0, 0, PROMPTS[0][:2]), row(1, 0, PROMPTS[1]))),
        StepPlan(1, (), (row(1, 3, None), row(0, 2, None))),
        StepPlan(2, (), (row(0, 3, None),)),
    ]
    plays = [(plan, ()) for plan in plans]
    options = {"dtype": DTYPES["bfloat16"], "slots": 2, "budget": 5, "simulate_kernels": True}
    plain, replayed = (Device(*model(), **options) for _ in range(2))
    replayed.runner.warm_up()
    assert replayed.play(plays) == plain.play(plays)
