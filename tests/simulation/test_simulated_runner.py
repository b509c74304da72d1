"""The data plane of hashes: it answers by the sequence, and notices KV that is not the sequence's."""

import pytest

from allocator import Extent
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams
from service.simulation.runner import PlanError, SimulatedRunner

BLOCK_0, BLOCK_1 = (Extent(0, 0, 1),), (Extent(0, 1, 1),)


def opening(slot: int, tokens: tuple[int, ...], seed: int = 0) -> SlotOpening:
    return SlotOpening.of(slot, tokens, len(tokens), SamplingParams(seed=seed))


def prefill(
    runner: SimulatedRunner, slot: int, tokens: tuple[int, ...], extents: tuple[Extent, ...], seed: int = 0
) -> int:
    row = Row(slot, 0, tokens, extents, draws_token=True)
    return runner.run(StepPlan(1, (opening(slot, tokens, seed),), (row,))).drawn[0].token


def decode(runner: SimulatedRunner, slot: int, start: int, extents: tuple[Extent, ...]) -> int:
    return runner.run(StepPlan(2, (), (Row(slot, start, None, extents, draws_token=True),))).drawn[0].token


def test_the_draw_depends_on_the_sequence_and_the_seed_and_not_on_where_it_lies() -> None:
    runner = SimulatedRunner(1_000_000)
    token = prefill(runner, 0, (1, 2, 3), BLOCK_0)
    assert token == prefill(runner, 1, (1, 2, 3), BLOCK_1)
    assert token != prefill(runner, 0, (1, 2, 4), BLOCK_0)
    assert token != prefill(runner, 0, (1, 2, 3), BLOCK_0, seed=1)


def test_a_block_that_another_sequence_has_overwritten_is_noticed() -> None:
    runner = SimulatedRunner(100)
    prefill(runner, 0, tuple(range(20)), (Extent(0, 0, 2),))
    prefill(runner, 1, tuple(range(30, 40)), BLOCK_0)
    with pytest.raises(PlanError, match="is not this sequence's"):
        decode(runner, 0, 20, (Extent(0, 0, 2),))


def test_a_block_that_was_never_written_is_noticed() -> None:
    runner = SimulatedRunner(100)
    prefill(runner, 0, (1, 2, 3), BLOCK_0)
    with pytest.raises(PlanError, match="is not this sequence's"):
        decode(runner, 0, 3, BLOCK_1)


def test_a_row_longer_than_its_blocks_is_noticed() -> None:
    with pytest.raises(PlanError, match="ends at 17, has 1 blocks"):
        prefill(SimulatedRunner(100), 0, tuple(range(17)), BLOCK_0)
