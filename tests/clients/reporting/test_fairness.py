"""Service, and Jain's index of it, by hand."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.report import Run, TurnRecord
from clients.reporting.fairness import all_open, jain, open_intervals
from clients.reporting.statistics import summarise

TurnMaker = Callable[..., TurnRecord]
RunMaker = Callable[..., Run]


@pytest.mark.parametrize(
    ("shares", "index"), [([3.0, 3.0, 3.0], 1.0), ([5.0, 0.0, 0.0, 0.0], 0.25), ([1.0, 2.0, 3.0], 36 / 42)]
)
def test_jains_index(shares: list[float], index: float) -> None:
    assert jain(shares) == pytest.approx(index)


def test_jains_index_of_nothing_is_unknown() -> None:
    assert jain([0.0, 0.0]) is None


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=9))
def test_jains_index_lies_between_one_nth_and_one(shares: list[float]) -> None:
    index = jain(shares)
    assert index is not None
    assert 1 / len(shares) - 1e-9 <= index <= 1 + 1e-9


def test_service_is_new_prompt_tokens_and_twice_the_answers(turn: TurnMaker, run_of: RunMaker) -> None:
    one = turn([1.0, 2.0], prompt_tokens=100, reused=60, completion_tokens=10, recomputed=500)
    assert summarise(run_of(one)).tenants[0].service == 40 + 2 * 10


def test_tenants_served_by_their_weights_are_served_alike(turn: TurnMaker, run_of: RunMaker) -> None:
    turns = turn([1.0], tenant="a", completion_tokens=30), turn([1.0], tenant="b", completion_tokens=10)
    even = summarise(run_of(*turns, weights={"a": 3.0, "b": 1.0})).fairness
    uneven = summarise(run_of(*turns)).fairness
    assert even is not None
    assert even.whole == pytest.approx(1.0)
    assert uneven is not None
    assert uneven.whole == pytest.approx(0.8)


def test_one_tenant_is_neither_fair_nor_unfair(turn: TurnMaker, run_of: RunMaker) -> None:
    assert summarise(run_of(turn([1.0], completion_tokens=3))).fairness is None


def test_only_service_while_every_tenant_had_a_turn_open_is_contended(turn: TurnMaker, run_of: RunMaker) -> None:
    """Both get 40 in the end, but while both wanted a got 30 and b 10."""
    a = turn([1.0, 2.0, 3.0], tenant="a", completion_tokens=15, end_s=4.0)
    a_again = turn([7.0], tenant="a", completion_tokens=5, scheduled_s=6.0, end_s=8.0)
    b = turn([2.5, 4.5, 4.6, 4.7], tenant="b", completion_tokens=20, end_s=5.0)
    found = summarise(run_of(a, a_again, b)).fairness
    assert found is not None
    assert found.whole == pytest.approx(1.0)
    assert found.contended == pytest.approx(jain([30.0, 10.0]))
    assert found.contended_share == 0.5


def test_open_turns_that_touch_are_one_interval(turn: TurnMaker) -> None:
    turns = [turn(scheduled_s=a, end_s=b) for a, b in ((4.0, 5.0), (0.0, 1.0), (1.0, 2.0), (0.5, 0.7))]
    assert open_intervals(turns) == [(0.0, 2.0), (4.0, 5.0)]


def test_all_open_is_the_intersection() -> None:
    assert all_open([[(0, 3), (5, 9)], [(1, 6)], [(0, 2), (2.5, 5.5)]]) == [(1, 2), (2.5, 3), (5, 5.5)]
    assert all_open([[(0, 1)], [(1, 2)]]) == []
