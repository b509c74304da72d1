"""The CPU's runner makes tokens of plans: decoding, resuming, slots, and invalid rows beside valid ones."""

from collections.abc import Callable

import numpy as np
import pytest

from allocator import Extent
from service.core.messages.plan import Row, SlotOpening, StepPlan, StepResult
from service.core.messages.sampling import SamplingParams
from service.execution.kv import KVPools
from service.execution.runner import CPURunner

GREEDY = SamplingParams(temperature=0)
SEEDED = SamplingParams(temperature=1.5, seed=11)
PROMPT = tuple(range(100, 130))


class Driver:
    """A runner with the bookkeeping of a small core: one extent of four blocks a slot."""

    def __init__(self, random_model: Callable, **options: object) -> None:
        config, weights = random_model(**options)
        self.runner = CPURunner(config, weights, pools=KVPools.plain(config, 32), num_slots=8, max_batched_tokens=64)
        self.extents = [(Extent(0, 4 * slot, 4),) for slot in range(8)]
        self.positions = [0] * 8

    def opening(self, slot: int, tokens: tuple[int, ...], sampling: SamplingParams, prompt: int = 0) -> SlotOpening:
        return SlotOpening.of(slot, tokens, prompt or len(tokens), sampling)

    def prefill(self, slot: int, tokens: tuple[int, ...] = PROMPT, sampling: SamplingParams = GREEDY) -> int:
        row = Row(slot, 0, tokens, self.extents[slot], draws_token=True)
        result = self.runner.run(StepPlan(1, (self.opening(slot, tokens, sampling),), (row,)))
        self.positions[slot] = len(tokens)
        return result.drawn[0].token

    def decode(self, *slots: int) -> StepResult:
        rows = tuple(Row(slot, self.positions[slot], None, self.extents[slot], draws_token=True) for slot in slots)
        for slot in slots:
            self.positions[slot] += 1
        return self.runner.run(StepPlan(2, (), rows))

    def answer(self, slot: int, length: int, sampling: SamplingParams = GREEDY) -> list[int]:
        first = self.prefill(slot, sampling=sampling)
        return [first, *(self.decode(slot).drawn[0].token for _ in range(length - 1))]


@pytest.fixture
def driver(random_model: Callable) -> Driver:
    return Driver(random_model)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_decoding_equals_prefilling_the_tokens_so_far(driver: Driver, sampling: SamplingParams) -> None:
    tokens = PROMPT
    for token in driver.answer(0, 8, sampling):
        assert driver.prefill(1, tokens, sampling) == token
        tokens = (*tokens, token)


def test_a_batch_of_decodes_equals_each_alone(random_model: Callable) -> None:
    together, alone = Driver(random_model), Driver(random_model)
    slots = (5, 0, 3)
    firsts = {slot: together.prefill(slot, PROMPT[: 10 + slot], SEEDED) for slot in slots}
    steps = [together.decode(*slots) for _ in range(5)]
    for slot in slots:
        assert alone.prefill(slot, PROMPT[: 10 + slot], SEEDED) == firsts[slot]
        for step in steps:
            expected = next(drawn for drawn in step.drawn if drawn.slot == slot)
            assert alone.decode(slot).drawn == [expected]


def test_a_request_resumes_in_another_slot_with_its_kv_in_place(driver: Driver, random_model: Callable) -> None:
    expected = Driver(random_model).answer(0, 6, SEEDED)
    tokens = (*PROMPT, *driver.answer(0, 3, SEEDED))
    driver.prefill(1)  # someone else works in between
    opening = driver.opening(7, tokens, SEEDED, prompt=len(PROMPT))
    row = Row(7, len(tokens) - 1, None, driver.extents[0], draws_token=True)
    assert driver.runner.run(StepPlan(3, (opening,), (row,))).drawn[0].token == expected[3]


def test_results_come_in_row_order_and_only_for_rows_that_draw(driver: Driver) -> None:
    rows = (
        Row(2, 0, PROMPT[:5], driver.extents[2], draws_token=True),
        Row(0, 0, PROMPT[:7], driver.extents[0], draws_token=False),
        Row(1, 0, PROMPT[:6], driver.extents[1], draws_token=True),
    )
    opened = tuple(driver.opening(slot, PROMPT, GREEDY) for slot in range(3))
    result = driver.runner.run(StepPlan(9, opened, rows))
    assert [drawn.slot for drawn in result.drawn] == [2, 1]
    assert result.number == 9
    assert 0 < result.host_seconds < result.device_seconds


def test_a_plan_without_rows_draws_nothing(driver: Driver) -> None:
    assert driver.runner.run(StepPlan(4, (), ())).drawn == []


def test_a_row_with_broken_numbers_is_invalid_and_the_others_are_not(random_model: Callable) -> None:
    config, weights = random_model()
    weights.embedding[210] = np.nan
    broken, sound = Driver(lambda: (config, weights)), Driver(random_model)
    for driver in (broken, sound):
        driver.prefill(0, PROMPT[:9])
        driver.prefill(2, PROMPT[:11])
    broken.prefill(1, (5, 210, 6))
    drawn = broken.decode(0, 1, 2).drawn
    assert [d.invalid for d in drawn] == [False, True, False]
    assert [drawn[0], drawn[2]] == sound.decode(0, 2).drawn


def test_warming_up_leaves_no_trace(driver: Driver, random_model: Callable) -> None:
    driver.runner.warm_up()
    assert driver.answer(0, 5, SEEDED) == Driver(random_model).answer(0, 5, SEEDED)


@pytest.mark.parametrize("options", [{"qkv_bias": True}, {"qk_norm": True, "head_dim": 24}], ids=["bias", "norm"])
def test_the_other_families_decode_as_they_prefill(random_model: Callable, options: dict) -> None:
    driver = Driver(random_model, **options)
    tokens = PROMPT
    for token in driver.answer(0, 4):
        assert driver.prefill(1, tokens) == token
        tokens = (*tokens, token)
