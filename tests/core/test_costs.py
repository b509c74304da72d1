"""What is learned from copies and steps."""

import pytest

from allocator import Direction
from service.core.costs import WEIGHT, Costs


def test_nothing_is_known_before_anything_was_seen() -> None:
    costs = Costs()
    assert costs.step_s is None
    assert costs.copy_s(Direction.IN, 5) is None
    assert costs.recompute_s(5) is None


def test_a_copy_takes_as_long_as_copies_took_a_block_behind_those_queued() -> None:
    costs = Costs()
    costs.copy_issued(Direction.IN, 4)
    costs.copy_ended(Direction.IN, 4, 2.0)
    assert costs.copy_s(Direction.IN, 3) == 1.5
    costs.copy_issued(Direction.IN, 6)
    assert costs.copy_s(Direction.IN, 3) == 4.5


def test_the_directions_know_nothing_of_each_other() -> None:
    costs = Costs()
    costs.copy_issued(Direction.OUT, 4)
    costs.copy_ended(Direction.OUT, 4, 2.0)
    costs.copy_issued(Direction.OUT, 8)
    assert costs.copy_s(Direction.IN, 3) is None


def test_a_failed_copy_leaves_the_queue_and_teaches_nothing() -> None:
    costs = Costs()
    for seconds in (2.0, None):
        costs.copy_issued(Direction.IN, 4)
        costs.copy_ended(Direction.IN, 4, seconds)
    assert costs.copy_s(Direction.IN, 1) == 0.5


def test_a_mean_leans_to_what_was_seen_last() -> None:
    costs = Costs()
    costs.step_ended(1.0, 4, 0)
    costs.step_ended(2.0, 4, 0)
    assert costs.step_s == pytest.approx(1 + WEIGHT)


def test_only_steps_that_are_mostly_prefill_tell_what_a_prefilled_token_costs() -> None:
    costs = Costs()
    costs.step_ended(5.0, 10, 5)
    assert costs.recompute_s(10) is None
    costs.step_ended(5.0, 10, 6)
    assert costs.recompute_s(4) == 2.0
