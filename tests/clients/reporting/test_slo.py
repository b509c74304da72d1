"""Objectives, and the goodput under them."""

from collections.abc import Callable

import numpy as np
import pytest

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.slo import Slo, SloError, format_slo, meets, parse_slo
from clients.reporting.statistics import summarise

TurnMaker = Callable[..., TurnRecord]
RunMaker = Callable[..., Run]


@pytest.mark.parametrize(
    ("text", "slo"),
    [("ttft=0.5,tbt=0.1", Slo(0.5, 0.1)), ("tbt=0.05", Slo(None, 0.05)), (" ttft = 2 ", Slo(2.0, None))],
)
def test_bounds_are_read_and_written(text: str, slo: Slo) -> None:
    assert parse_slo(text) == slo
    assert parse_slo(format_slo(slo)) == slo


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=", "e2e=1", "ttft=0", "ttft=-1", "ttft=nan", "ttft=inf", "ttft=1,ttft=2", "ttft=1;tbt=2"]
)
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(SloError):
        parse_slo(text)


def test_goodput_counts_turns_within_both_bounds(turn: TurnMaker, run_of: RunMaker) -> None:
    turns = (
        turn([0.5, 0.6, 0.7]),
        turn([0.6, 0.7], end_s=10.0),  # late
        turn([0.1, 0.9]),  # stalled
        turn([0.1], outcome=Outcome.ERROR),
        turn([0.1, 0.2], outcome=Outcome.CANCELLED),
        turn([0.1, 0.2], outcome=Outcome.DISCONNECTED),
    )
    found = summarise(run_of(*turns), parse_slo("ttft=0.5,tbt=0.101")).goodput
    assert found is not None
    assert (found.met, found.due, found.attainment, found.requests_per_s) == (1, 4, 0.25, 0.1)


def test_an_answer_without_a_piece_meets_nothing(turn: TurnMaker) -> None:
    assert not meets(turn(), Slo(tbt_s=1.0))


def test_one_piece_has_no_gap_to_fail_by(turn: TurnMaker) -> None:
    assert meets(turn([0.3]), Slo(tbt_s=0.01))


@pytest.mark.parametrize(("steady", "met"), [(20, False), (500, True)])
def test_one_stall_fails_a_short_answer_only(turn: TurnMaker, steady: int, met: bool) -> None:
    gaps = np.full(steady + 1, 0.05)
    gaps[steady // 2] = 5.0
    assert meets(turn([float(at) for at in np.cumsum(gaps)]), Slo(tbt_s=0.06)) is met
