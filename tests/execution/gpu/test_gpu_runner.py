"""The GPU's runner on a simulated device draws what the CPU's draws, to the bit, however late everything comes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from allocator import Extent, Move
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.execution.gpu.simulated.faults import Delays
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.steps import ALL, SETTINGS, Device, Script, expected, played, script

Model = tuple[ModelConfig, ModelWeights]


@pytest.fixture(scope="module")
def mixed(tiny: Model) -> Script:
    """Return requests of all kinds, prefills and decodes in one batch."""
    return script(*tiny, 60, ALL)


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_and_logprobs_are_the_cpus(tiny: Model, name: str) -> None:
    plays = script(*tiny, 25, [SETTINGS[name]])
    assert Device(*tiny).play(plays, depth=0) == expected(plays)


@pytest.mark.parametrize("seed", range(3))
def test_a_step_launched_before_the_last_result_is_known_draws_the_same(tiny: Model, mixed: Script, seed: int) -> None:
    device = Device(*tiny, faults=Delays(seed, 0.0005))
    assert device.play(mixed, device.runner.depth) == expected(mixed)


@pytest.mark.parametrize("options", [{"qkv_bias": True}, {"qk_norm": True, "head_dim": 24}], ids=["bias", "norm"])
def test_the_other_families_draw_the_same(random_model: Callable, options: dict) -> None:
    model = random_model(**options)
    plays = script(*model, 15, ALL)
    assert Device(*model).play(plays, depth=1) == expected(plays)


def test_warming_up_changes_nothing(tiny: Model, mixed: Script) -> None:
    device = Device(*tiny)
    device.runner.warm_up()
    assert device.play(mixed, depth=1) == expected(mixed)


def test_a_slot_changes_requests_while_a_step_of_the_last_one_is_under_way(tiny: Model) -> None:
    """Neither request sees the other's history, bias, seed, block table or newest token."""
    first, second = SETTINGS["everything"], SETTINGS["penalized"]
    extents = (Extent(0, 5, 1), Extent(0, 2, 1)), (Extent(0, 2, 1), Extent(0, 9, 1))
    prompts = tuple(range(40, 60)), tuple(range(70, 95))
    plays = played(
        *tiny,
        StepPlan(
            0, (SlotOpening.of(0, prompts[0], 20, first),), (Row(0, 0, prompts[0], extents[0], draws_token=True),)
        ),
        StepPlan(1, (), (Row(0, 20, None, extents[0], draws_token=True),)),
        StepPlan(
            2, (SlotOpening.of(0, prompts[1], 25, second),), (Row(0, 0, prompts[1], extents[1], draws_token=True),)
        ),
        StepPlan(3, (), (Row(0, 25, None, extents[1], draws_token=True),)),
    )
    assert Device(*tiny, faults=Delays(1, 0.002)).play(plays) == expected(plays)


@pytest.mark.parametrize("warm", [False, True], ids=["plain", "replayed"])
def test_blocks_move_one_after_the_other_before_the_rows_read_them(tiny: Model, warm: bool) -> None:
    """The second run moves to where the first was; the third, of another request, overlaps its own destination."""
    prompts = tuple(range(40, 75)), tuple(range(90, 130))
    before = (Extent(0, 5, 1), Extent(0, 2, 2)), (Extent(0, 20, 3),)
    after = (Extent(0, 9, 1), Extent(0, 4, 2)), (Extent(0, 21, 3),)
    moves = (Move(0, 5, 9, 1), Move(0, 2, 4, 2), Move(1, 20, 21, 3))
    opened = tuple(SlotOpening.of(slot, prompts[slot], len(prompts[slot]), SETTINGS["seeded"]) for slot in (0, 1))
    first = (
        Row(0, 0, prompts[0], before[0], draws_token=True),
        Row(1, 0, prompts[1][:1], before[1], draws_token=False),
    )
    rest = Row(1, 1, prompts[1][1:], before[1], draws_token=True)
    decodes = (Row(1, 40, None, after[1], draws_token=True), Row(0, 35, None, after[0], draws_token=True))
    plays = played(
        *tiny,
        StepPlan(0, opened, first),
        StepPlan(1, (), (rest,)),
        StepPlan(2, (), decodes, moves=moves),
        StepPlan(3, (), tuple(replace(row, start=row.start + 1) for row in decodes)),
    )
    device = Device(*tiny, faults=Delays(2, 0.001))
    if warm:
        device.runner.warm_up()
    assert device.play(plays) == expected(plays)


def test_results_can_be_read_late_and_on_another_thread(tiny: Model) -> None:
    device, plays = Device(*tiny), script(*tiny, 2, ALL)
    first, second = (device.runner.launch(plan) for plan, _ in plays)
    with ThreadPoolExecutor(1) as threads:
        results = [threads.submit(read).result() for read in (first, second)]
    assert [result.drawn for result in results] == expected(plays)
    assert [result.number for result in results] == [0, 1]
    assert all(result.device_seconds > 0 for result in results)


def test_a_plan_without_rows_opens_slots_and_draws_nothing(tiny: Model) -> None:
    prompt, extents = tuple(range(20)), (Extent(0, 3, 2),)
    opened, row = (SlotOpening.of(2, prompt, 20, SETTINGS["everything"]),), Row(2, 0, prompt, extents, draws_token=True)
    plays = played(*tiny, StepPlan(0, opened, ()), StepPlan(1, (), (row,)))
    assert Device(*tiny).play(plays) == expected(plays)
    assert expected(plays)[0] == []


def test_a_step_that_draws_nothing_still_computes_its_kv(tiny: Model) -> None:
    prompt, extents = tuple(range(30)), (Extent(0, 3, 2),)
    chunk, rest = Row(1, 0, prompt[:20], extents, draws_token=False), Row(1, 20, prompt[20:], extents, draws_token=True)
    opened = (SlotOpening.of(1, prompt, 30, SETTINGS["seeded"]),)
    plays = played(*tiny, StepPlan(0, opened, (chunk,)), StepPlan(1, (), (rest,)))
    assert Device(*tiny).play(plays) == expected(plays)


def test_a_row_with_broken_numbers_is_invalid_and_the_others_are_not(random_model: Callable) -> None:
    config, weights = random_model()
    prompts = [(5, 6), (5, 210), (7, 8)]
    rows = tuple(Row(slot, 0, prompt, (Extent(0, slot, 1),), draws_token=True) for slot, prompt in enumerate(prompts))
    opened = tuple(SlotOpening.of(slot, prompt, 2, SETTINGS["reported"]) for slot, prompt in enumerate(prompts))
    weights.embedding[210] = np.nan
    plays = played(config, weights, StepPlan(0, opened, rows))
    drawn = Device(config, weights).play(plays)
    assert [token.invalid for token in drawn[0]] == [False, True, False]
    assert drawn == expected(plays)


def test_poisoned_blocks_hold_nothing(tiny: Model) -> None:
    """They are poisoned after every step launched before has used them."""
    prompt, extents = tuple(range(16)), (Extent(0, 3, 2),)
    opened = (SlotOpening.of(0, prompt, 16, SETTINGS["greedy"]),)
    plan = StepPlan(0, opened, (Row(0, 0, prompt, extents, draws_token=True),))
    device = Device(*tiny, faults=Delays(3, 0.002))
    first = device.runner.launch(plan)
    device.runner.poison([Extent(0, 3, 1)])
    second = device.runner.launch(StepPlan(1, (), (Row(0, 16, None, extents, draws_token=True),)))
    assert first().drawn == expected(played(*tiny, plan))[0]
    assert [drawn.invalid for drawn in second().drawn] == [True]
