"""Each slot's token depends on its own sampling parameters and history."""

import numpy as np
import pytest

from kernels import cpu
from service.core.messages.plan import Drawn, SlotOpening
from service.core.messages.sampling import SamplingParams
from service.execution.draws import DrawOutputs
from service.execution.memory import HostMemory
from service.execution.sampler import Sampler

VOCAB = 50


class Bench:
    """A sampler of four slots on the host."""

    def __init__(self) -> None:
        self._sampler = Sampler(4, VOCAB, cpu, HostMemory())
        self.open = self._sampler.open

    def draw(self, logits: np.ndarray, slots: list[int], positions: list[int]) -> list[Drawn]:
        draws = self._sampler.draws(slots, positions)
        outputs = DrawOutputs.on_host(draws)
        self._sampler.draw(logits, draws, draws.inputs, outputs)
        return outputs.read(draws)


@pytest.fixture
def sampler() -> Bench:
    return Bench()


def logits(rows: int = 1) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, VOCAB), dtype=np.float32)


def opening(slot: int, prompt: tuple[int, ...] = (1,), output: tuple[int, ...] = (), **settings: object) -> SlotOpening:
    return SlotOpening.of(slot, prompt + output, len(prompt), SamplingParams(**settings))


def test_a_greedy_row_beside_a_seeded_one(sampler: Bench) -> None:
    sampler.open(opening(2, temperature=0))
    sampler.open(opening(0, seed=5))
    both = sampler.draw(logits(2), [2, 0], [9, 4])
    assert [drawn.slot for drawn in both] == [2, 0]
    assert both[0].token == logits(2)[0].argmax()
    alone = sampler.draw(logits(2)[1:], [0], [4])
    assert alone == both[1:]


def test_a_negative_or_huge_seed_is_a_seed(sampler: Bench) -> None:
    sampler.open(opening(0, seed=-1))
    first = sampler.draw(logits(), [0], [0])
    sampler.open(opening(0, seed=2**64 - 1))
    assert sampler.draw(logits(), [0], [0]) == first


def test_bias_decides(sampler: Bench) -> None:
    sampler.open(opening(0, temperature=0, logit_bias={7: 100.0}))
    assert sampler.draw(logits(), [0], [0])[0].token == 7


def test_what_was_drawn_is_penalised_from_then_on(sampler: Bench) -> None:
    sampler.open(opening(0, temperature=0, presence_penalty=2.0, frequency_penalty=2.0))
    order = np.argsort(-logits()[0])
    drawn = [sampler.draw(logits(), [0], [i])[0].token for i in range(2)]
    assert drawn == order[:2].tolist()


def test_a_resumed_output_is_penalised_and_a_prompt_is_not(sampler: Bench) -> None:
    order = np.argsort(-logits()[0]).tolist()
    sampler.open(opening(0, prompt=(order[0],), temperature=0, presence_penalty=2.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[0]
    sampler.open(opening(0, output=(order[0],), temperature=0, presence_penalty=2.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[1]


def test_repetition_penalises_the_prompt_too(sampler: Bench) -> None:
    order = np.argsort(-logits()[0]).tolist()
    sampler.open(opening(0, prompt=(order[0],), temperature=0, repetition_penalty=50.0))
    assert sampler.draw(logits(), [0], [0])[0].token == order[1]


def test_a_reopened_slot_forgets_penalties_and_bias(sampler: Bench) -> None:
    best = int(logits()[0].argmax())
    sampler.open(opening(0, output=(best,), temperature=0, presence_penalty=2.0, logit_bias={3: 100.0}))
    sampler.open(opening(0, temperature=0))
    assert sampler.draw(logits(), [0], [0])[0].token == best


def test_logprobs_are_of_the_raw_logits(sampler: Bench) -> None:
    sampler.open(opening(0, temperature=0, logit_bias={7: 100.0}, logprobs=3))
    raw = logits()[0].astype(np.float64)
    expected = raw - np.log(np.exp(raw).sum())
    drawn = sampler.draw(logits(), [0], [0])[0]
    assert drawn.token == 7
    assert drawn.logprobs is not None
    assert drawn.logprobs.logprob == pytest.approx(expected[7], rel=1e-5)
    assert [token for token, _ in drawn.logprobs.top] == np.argsort(-raw)[:3].tolist()
    assert [value for _, value in drawn.logprobs.top] == pytest.approx(np.sort(expected)[::-1][:3].tolist(), rel=1e-5)


def test_each_reports_as_many_alternatives_as_it_asked_for(sampler: Bench) -> None:
    for slot, count in enumerate((1, 4, 0)):
        sampler.open(opening(slot, temperature=0, logprobs=count))
    reported = [drawn.logprobs for drawn in sampler.draw(logits(3), [0, 1, 2], [0, 0, 0])]
    assert [len(logprobs.top) for logprobs in reported if logprobs] == [1, 4, 0]
    assert reported[0].top[0] == (logits(3)[0].argmax(), reported[0].logprob)


def test_draws_do_not_change_when_their_slot_is_reopened() -> None:
    sampler = Sampler(2, VOCAB, cpu, HostMemory())
    sampler.open(opening(1, seed=3, logprobs=2, presence_penalty=1.0))
    draws = sampler.draws([1], [4])
    sampler.open(opening(1, seed=8))
    assert draws.inputs.seeds.tolist() == [3]
    assert [report.count for report in draws.reports] == [2]
    assert draws.penalized


def test_the_next_draws_of_the_same_slots_have_their_own_positions() -> None:
    sampler = Sampler(2, VOCAB, cpu, HostMemory())
    sampler.open(opening(1, seed=3))
    first, second = sampler.draws([1], [4]), sampler.draws([1], [5])
    assert (first.inputs.positions.tolist(), second.inputs.positions.tolist()) == ([4], [5])
    sampler.open(opening(1, seed=8, temperature=0))
    assert sampler.draws([1], [6]).inputs.seeds.tolist() == [8]
    assert second.inputs.seeds.tolist() == [3]


def test_biases_and_penalties_beside_each_other_change_their_own_rows(sampler: Bench) -> None:
    order = np.argsort(-logits()[0]).tolist()
    sampler.open(opening(0, temperature=0, logit_bias={7: 100.0}))
    sampler.open(opening(1, output=(order[0],), temperature=0, presence_penalty=50.0))
    sampler.open(opening(2, temperature=0))
    rows = np.repeat(logits(), 3, axis=0)
    drawn = [each.token for each in sampler.draw(rows, [2, 0, 1], [0, 0, 0])]
    assert drawn == [order[0], 7, order[1]]


def test_no_logprobs_unless_asked(sampler: Bench) -> None:
    sampler.open(opening(0))
    sampler.open(opening(1, logprobs=0))
    plain, zero = sampler.draw(logits(2), [0, 1], [0, 0])
    assert plain.logprobs is None
    assert zero.logprobs is not None
    assert zero.logprobs.top == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_finite_logits_is_invalid_and_the_others_are_not(sampler: Bench, bad: float) -> None:
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
