"""Each slot is drawn for by its own settings and history."""

import numpy as np
import pytest

from kernels import cpu
from service.core.plan import SlotOpening
from service.core.sampling import SamplingParams
from service.execution.sampler import Sampler

VOCAB = 50


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(num_slots=4, vocab_size=VOCAB, kernels=cpu)


def logits(rows: int = 1) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, VOCAB), dtype=np.float32)


def opening(slot: int, prompt: tuple[int, ...] = (1,), output: tuple[int, ...] = (), **settings: object) -> SlotOpening:
    return SlotOpening(slot, prompt + output, len(prompt), SamplingParams(**settings))


def test_a_greedy_row_beside_a_seeded_one(sampler: Sampler) -> None:
    sampler.open(opening(2, temperature=0))
    sampler.open(opening(0, seed=5))
    both = sampler.draw(logits(2), [2, 0], [9, 4])
    assert [drawn.slot for drawn in both] == [2, 0]
    assert both[0].token == logits(2)[0].argmax()
    alone = sampler.draw(logits(2)[1:], [0], [4])
    assert alone == both[1:]


def test_a_negative_or_huge_seed_is_a_seed(sampler: Sampler) -> None:
    sampler.open(opening(0, seed=-1))
    first = sampler.draw(logits(), [0], [0])
    sampler.open(opening(0, seed=2**64 - 1))
    assert sampler.draw(logits(), [0], [0]) == first


def test_bias_decides(sampler: Sampler) -> None:
    sampler.open(opening(0, temperature=0, logit_bias={7: 100.0}))
    assert sampler.draw(logits(), [0], [0])[0].token == 7


def test_what_was_drawn_is_penalised_from_then_on(sampler: Sampler) -> None:
    sampler.open(opening(0, temperature=0, presence_penalty=2.0, frequency_penalty=2.0))
    order = np.argsort(-logits()[0])
    drawn = [sampler.draw(logits(), [0], [i])[0].token for i in range(2)]
    assert drawn == order[:2].tolist()


def test_a_resumed_output_is_penalised_and_a_prompt_is_not(sampler: Sampler) -> None:
    order = np.argsort(-logits()[0]).tolist()
    sampler.open(opening(0, prompt=(order[0],), temperature=0, presence_penalty=2.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[0]
    sampler.open(opening(0, output=(order[0],), temperature=0, presence_penalty=2.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[1]


def test_repetition_penalises_the_prompt_too(sampler: Sampler) -> None:
    order = np.argsort(-logits()[0]).tolist()
    sampler.open(opening(0, prompt=(order[0],), temperature=0, repetition_penalty=50.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[1]


def test_a_reopened_slot_forgets_penalties_and_bias(sampler: Sampler) -> None:
    best = int(logits()[0].argmax())
    sampler.open(opening(0, output=(best,), temperature=0, presence_penalty=2.0, logit_bias={3: 100.0}))
    sampler.open(opening(0, temperature=0))
    assert sampler.draw(logits(), [0], [0])[0].token == best


def test_logprobs_are_of_the_raw_logits(sampler: Sampler) -> None:
    sampler.open(opening(0, temperature=0, logit_bias={7: 100.0}, logprobs=3))
    raw = logits()[0].astype(np.float64)
    expected = raw - np.log(np.exp(raw).sum())
    drawn = sampler.draw(logits(), [0], [0])[0]
    assert drawn.token == 7
    assert drawn.logprobs is not None
    assert drawn.logprobs.logprob == pytest.approx(expected[7], rel=1e-5)
    assert [token for token, _ in drawn.logprobs.top] == np.argsort(-raw)[:3].tolist()
    assert [value for _, value in drawn.logprobs.top] == pytest.approx(np.sort(expected)[::-1][:3].tolist(), rel=1e-5)


def test_no_logprobs_unless_asked(sampler: Sampler) -> None:
    sampler.open(opening(0))
    sampler.open(opening(1, logprobs=0))
    plain, zero = sampler.draw(logits(2), [0, 1], [0, 0])
    assert plain.logprobs is None
    assert zero.logprobs is not None
    assert zero.logprobs.top == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_finite_logits_is_invalid_and_the_others_are_not(sampler: Sampler, bad: float) -> None:
    settings = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "presence_penalty": 1.0, "logprobs": 2}
    for slot in range(3):
        sampler.open(opening(slot, seed=slot, **settings))
    broken = logits(3)
    broken[1, 20] = bad
    drawn = sampler.draw(broken, [0, 1, 2], [5, 5, 5])
    assert [d.invalid for d in drawn] == [False, True, False]
    assert drawn[1].logprobs is None
    for slot in range(3):
        sampler.open(opening(slot, seed=slot, **settings))
    sound = sampler.draw(logits(3), [0, 1, 2], [5, 5, 5])
    assert (drawn[0], drawn[2]) == (sound[0], sound[2])
