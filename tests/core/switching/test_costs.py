"""What is learned from copies and steps."""

from math import ceil, log

import pytest

from allocator import Direction
from service.core.switching.costs import FADING, WEIGHT, Costs


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


def test_a_small_copy_that_hung_tells_little_of_large_ones() -> None:
    costs = Costs()
    for blocks, seconds in ((50, 0.5), (1, 1.0)):
        costs.copy_issued(Direction.IN, blocks)
        costs.copy_ended(Direction.IN, blocks, seconds)
    assert costs.copy_s(Direction.IN, 50) == pytest.approx(0.6 / 40.2 * 50)  # not a tenth of a second a block and more


def test_an_estimate_that_keeps_copies_from_being_made_fades_until_one_is() -> None:
    costs = Costs()
    costs.copy_spared(Direction.IN)  # nothing is known that could fade
    costs.copy_issued(Direction.IN, 1)
    costs.copy_ended(Direction.IN, 1, 10.0)
    spared = 0
    while costs.copy_s(Direction.IN, 1) > 1.0:
        costs.copy_spared(Direction.IN)
        spared += 1
    assert spared == ceil(log(10) / -log(1 - FADING))
    costs.copy_issued(Direction.OUT, 1)  # the other direction's
    costs.copy_spared(Direction.IN)
    assert costs.copy_s(Direction.IN, 1) < 1.0 - FADING / 2


def test_copies_that_are_queued_will_tell_what_they_cost() -> None:
    costs = Costs()
    costs.copy_issued(Direction.IN, 1)
    costs.copy_ended(Direction.IN, 1, 10.0)
    costs.copy_issued(Direction.IN, 1)
    costs.copy_spared(Direction.IN)
    assert costs.copy_s(Direction.IN) == 10.0


def test_only_steps_that_are_mostly_prefill_tell_what_a_prefilled_token_costs() -> None:
    costs = Costs()
    costs.step_ended(5.0, 10, 5)
    assert costs.recompute_s(10) is None
    costs.step_ended(5.0, 10, 6)
    assert costs.recompute_s(4) == 2.0
