"""What is learned from copies and steps."""

from math import ceil, log

import pytest

from allocator import Direction
from service.core.switching.costs import FADING, WEIGHT, Costs


def test_nothing_is_known_before_anything_was_seen() -> None:
    costs = Costs()
    assert costs.step_s(0) is costs.step_s(5) is None
    assert costs.copy_s(Direction.IN, 5) is None
    assert costs.recompute_s(5) is None


def test_a_copy_takes_as_long_as_copies_took_a_block_behind_those_queued() -> None:
    costs = Costs()
    costs.copy_issued(Direction.IN, 1, 4)
    costs.copy_ended(Direction.IN, 1, 4, 2.0)
    assert costs.copy_s(Direction.IN, 3) == 1.5
    costs.copy_issued(Direction.IN, 1, 6)
    assert costs.copy_s(Direction.IN, 3) == 4.5


def test_the_directions_know_nothing_of_each_other() -> None:
    costs = Costs()
    costs.copy_issued(Direction.OUT, 1, 4)
    costs.copy_ended(Direction.OUT, 1, 4, 2.0)
    costs.copy_issued(Direction.OUT, 1, 8)
    assert costs.copy_s(Direction.IN, 3) is None


def test_a_failed_copy_leaves_the_queue_and_teaches_nothing() -> None:
    costs = Costs()
    for seconds in (2.0, None):
        costs.copy_issued(Direction.IN, 1, 4)
        costs.copy_ended(Direction.IN, 1, 4, seconds)
    assert costs.copy_s(Direction.IN, 1) == 0.5


def test_a_mean_leans_to_what_was_seen_last() -> None:
    costs = Costs()
    costs.step_ended(1.0, 4, 0)
    costs.step_ended(2.0, 4, 0)
    assert costs.step_s(0) == pytest.approx(1 + WEIGHT)


def seen(*copies: tuple[int, int, float]) -> Costs:
    """Costs after copies in of so many pieces and blocks, and seconds."""
    costs = Costs()
    for pieces, blocks, seconds in copies:
        costs.copy_issued(Direction.IN, pieces, blocks)
        costs.copy_ended(Direction.IN, pieces, blocks, seconds)
    return costs


def test_a_small_copy_that_hung_tells_little_of_large_ones() -> None:
    costs = seen(*[(5, 50, 0.5)] * 9, (1, 1, 1.0))
    assert costs.copy_s(Direction.IN, 50) == pytest.approx(0.5, rel=0.1)  # not 50 s


def test_a_piece_and_a_block_have_costs_of_their_own() -> None:
    costs = seen((1, 40, 0.5), (20, 40, 2.4), (3, 3, 0.33), (8, 30, 1.1))  # 0.1 s a piece, 0.01 s a block
    costs.copy_issued(Direction.IN, 10, 10)
    assert costs.copy_s(Direction.IN) == pytest.approx(1.1)
    costs.copy_ended(Direction.IN, 10, 10, None)
    costs.copy_issued(Direction.IN, 1, 10)
    assert costs.copy_s(Direction.IN) == pytest.approx(0.2)


def test_no_cost_is_ever_below_nothing() -> None:
    costs = seen((1, 10, 1.0), (10, 11, 0.2))  # more pieces were quicker, by chance
    costs.copy_issued(Direction.IN, 100, 1)
    assert 0 < costs.copy_s(Direction.IN) < 0.1


def test_a_copy_not_yet_made_comes_in_as_many_pieces_as_copies_mostly_did() -> None:
    costs = seen((1, 10, 0.2), (30, 30, 3.3))  # 0.1 s a piece, 0.01 s a block, less than one piece a block
    pieces = 0.9 * 1 + 30, 0.9 * 10 + 30
    assert costs.copy_s(Direction.IN, 8) == pytest.approx(0.1 * 8 * pieces[0] / pieces[1] + 0.08)


def test_an_estimate_that_keeps_copies_from_being_made_fades_until_one_is() -> None:
    costs = Costs()
    costs.copy_spared(Direction.IN)  # nothing is known that could fade
    costs.copy_issued(Direction.IN, 1, 1)
    costs.copy_ended(Direction.IN, 1, 1, 10.0)
    spared = 0
    while costs.copy_s(Direction.IN, 1) > 1.0:
        costs.copy_spared(Direction.IN)
        spared += 1
    assert spared == ceil(log(10) / -log(1 - FADING))
    costs.copy_issued(Direction.OUT, 1, 1)  # the other direction's
    costs.copy_spared(Direction.IN)
    assert costs.copy_s(Direction.IN, 1) < 1.0 - FADING / 2


def test_copies_that_are_queued_will_tell_what_they_cost() -> None:
    costs = Costs()
    costs.copy_issued(Direction.IN, 1, 1)
    costs.copy_ended(Direction.IN, 1, 1, 10.0)
    costs.copy_issued(Direction.IN, 1, 1)
    costs.copy_spared(Direction.IN)
    assert costs.copy_s(Direction.IN) == 10.0


def test_only_steps_that_are_mostly_prefill_tell_what_a_prefilled_token_costs() -> None:
    costs = Costs()
    costs.step_ended(5.0, 10, 5)
    assert costs.recompute_s(10) is None
    costs.step_ended(5.0, 10, 6)
    assert costs.recompute_s(4) == 2.0


def test_a_large_prefill_does_not_lengthen_the_steps_of_decodes_after_it() -> None:
    costs = Costs()
    costs.step_ended(0.02, 16, 0)
    costs.step_ended(4.0, 2000, 1990)
    assert costs.step_s(0) == 0.02
    assert costs.step_s(500) == pytest.approx(0.02 + 1.0)


def test_a_step_is_estimated_by_what_is_known_of_its_parts() -> None:
    prefills, decodes = Costs(), Costs()
    prefills.step_ended(1.0, 100, 100)
    decodes.step_ended(0.02, 16, 0)
    assert (prefills.step_s(50), prefills.step_s(0)) == (0.5, None)
    assert (decodes.step_s(50), decodes.step_s(0)) == (None, 0.02)


def test_the_tokens_that_are_prefilled_in_a_time_are_what_it_costs_to_compute_them() -> None:
    costs = Costs()
    assert costs.prefill_tokens(1.0) is None
    costs.step_ended(2.0, 100, 100)
    assert costs.prefill_tokens(0.5) == 25
