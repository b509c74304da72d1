"""Figures of runs small enough to work them out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.distribution import QUANTILES, distribution
from clients.reporting.statistics import summarise

TurnMaker = Callable[..., TurnRecord]
RunMaker = Callable[..., Run]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50))
def test_percentiles_are_numpys(samples: list[float]) -> None:
    found = distribution(samples)
    assert found is not None
    assert [each.value for each in found.percentiles] == [np.percentile(samples, 100 * q) for q in QUANTILES]
    assert (found.n, found.maximum) == (len(samples), max(samples))


def test_percentiles_lie_linearly_between_ranks() -> None:
    found = distribution([0.0, 1.0, 2.0, 4.0])
    assert found is not None
    assert [each.value for each in found.percentiles] == pytest.approx([1.5, 3.4, 3.7, 3.94, 3.994])


def test_nothing_measured_is_no_distribution() -> None:
    assert distribution([]) is None


@pytest.mark.parametrize(
    ("n", "sure"),
    [(9, []), (10, ["P50"]), (499, ["P50", "P90", "P95"]), (500, ["P50", "P90", "P95", "P99"])],
)
def test_a_percentile_is_sure_with_five_samples_above(n: int, sure: list[str]) -> None:
    found = distribution(np.arange(n))
    assert found is not None
    assert [each.name for each in found.percentiles if each.sure] == sure


def test_latencies_count_from_when_the_turn_was_due(turn: TurnMaker, run_of: RunMaker) -> None:
    """The server stalled all clients, so this one sent late: that is the server's fault (coordinated omission)."""
    late = turn([5.5, 6.0], scheduled_s=1.0, sent_s=5.0, end_s=6.5)
    summary = summarise(run_of(late))
    latencies = summary.latencies
    assert latencies.ttft is not None
    assert latencies.ttft.maximum == 4.5
    assert latencies.e2e is not None
    assert latencies.e2e.maximum == 5.5
    assert summary.late_s is not None
    assert summary.late_s.maximum == 4.0


def test_gaps_are_those_of_all_turns_together(turn: TurnMaker, run_of: RunMaker) -> None:
    latencies = summarise(run_of(turn([1.0, 1.5, 3.5]), turn([2.0, 2.25]), turn([4.0]))).latencies
    assert latencies.tbt is not None
    assert latencies.stall is not None
    assert (latencies.tbt.n, latencies.tbt.mean, latencies.tbt.maximum) == (3, 2.75 / 3, 2.0)
    assert (latencies.stall.n, latencies.stall.mean, latencies.stall.maximum) == (2, 1.125, 2.0)


def test_warm_up_counts_nowhere(turn: TurnMaker, run_of: RunMaker) -> None:
    cold = turn([90.0, 99.0], warmup=True, completion_tokens=1000, outcome=Outcome.OK, tenant="cold", preemptions=7)
    failed = turn(warmup=True, outcome=Outcome.ERROR, error="timeout")
    warm = turn([11.0, 12.0], scheduled_s=10.0, completion_tokens=4)
    alone, mixed = summarise(run_of(warm)), summarise(run_of(cold, failed, warm))
    assert mixed.latencies == alone.latencies
    assert mixed.throughput == alone.throughput
    assert (mixed.window, mixed.errors, mixed.tenants, mixed.server) == ((10.0, 12.0), {}, alone.tenants, alone.server)
    assert (mixed.turns, mixed.warmup_turns) == (1, 2)


def test_throughput_is_over_the_measured_window(turn: TurnMaker, run_of: RunMaker) -> None:
    turns = (
        turn([11.0, 12.0], scheduled_s=10.0, completion_tokens=30),
        turn([13.0], scheduled_s=10.0, completion_tokens=10, outcome=Outcome.CANCELLED),
        turn([15.0], scheduled_s=12.0, completion_tokens=10, end_s=20.0),
    )
    flow = summarise(run_of(*turns)).throughput
    assert (flow.output_tokens, flow.output_tokens_per_s, flow.requests_per_s) == (50, 5.0, 0.2)
    assert flow.without_usage == 0


def test_pieces_stand_for_tokens_that_were_not_reported(turn: TurnMaker, run_of: RunMaker) -> None:
    flow = summarise(run_of(turn([1.0, 2.0]), turn([1.0], completion_tokens=5))).throughput
    assert flow.output_tokens == 7
    assert flow.without_usage == 1


def test_turns_with_an_error_are_counted_by_kind_and_not_timed(turn: TurnMaker, run_of: RunMaker) -> None:
    broken = [turn([50.0, 90.0], outcome=Outcome.ERROR, error=kind) for kind in ("connect", "timeout", "timeout")]
    summary = summarise(run_of(turn([1.0, 2.0]), *broken))
    assert summary.errors == {"timeout": 2, "connect": 1}
    assert summary.latencies.ttft is not None
    assert summary.latencies.ttft.n == 1
    assert summary.latencies.tbt is not None
    assert summary.latencies.tbt.maximum == 1.0


def test_a_cancelled_turn_is_timed_but_has_no_end_to_end(turn: TurnMaker, run_of: RunMaker) -> None:
    latencies = summarise(run_of(turn([1.0, 2.0], outcome=Outcome.CANCELLED))).latencies
    assert latencies.ttft is not None
    assert latencies.tbt is not None
    assert latencies.e2e is None


def test_what_the_server_reports_is_summed_up_and_the_rest_is_unknown(turn: TurnMaker, run_of: RunMaker) -> None:
    totals = summarise(run_of(turn(preemptions=2, reused=100, queue_s=0.5), turn(preemptions=1), turn())).server
    assert (totals.preemptions, totals.reused, totals.recomputed, totals.swapped_bytes) == (3, 100, None, None)
    assert totals.queue_s is not None
    assert totals.queue_s.n == 1


def test_a_run_without_turns_has_no_figures(run_of: RunMaker) -> None:
    summary = summarise(run_of())
    assert (summary.turns, summary.window_s, summary.throughput.requests_per_s) == (0, 0.0, 0.0)
    assert summary.latencies.ttft is None
    assert summary.fairness is None


def test_tenants_have_the_figures_that_they_would_have_alone(turn: TurnMaker, run_of: RunMaker) -> None:
    a = [turn([1.0, 1.5], tenant="a", completion_tokens=2), turn([3.0], tenant="a", outcome=Outcome.ERROR)]
    b = [turn([2.0, 4.0], tenant="b", completion_tokens=3)]
    whole = summarise(run_of(*a, *b, weights={"b": 2.0}))
    assert [share.tenant for share in whole.tenants] == ["a", "b"]
    assert whole.tenants[0].latencies == summarise(run_of(*a)).latencies
    assert whole.tenants[1].latencies == summarise(run_of(*b)).latencies
    assert whole.tenants[0].outcomes[Outcome.ERROR] == 1
    assert (whole.tenants[1].service, whole.tenants[1].weighted) == (6.0, 3.0)
