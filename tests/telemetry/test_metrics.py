"""Events become metrics."""

from dataclasses import MISSING, fields
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.messages.events import (
    Finished,
    FinishReason,
    Gauges,
    PrefixDropped,
    Refused,
    SessionDropped,
    Started,
    StepDone,
    Timings,
    TokenOut,
    Usage,
)
from service.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"fastswitch_{name}", labels)
    assert found is not None, f"no sample {name} {labels}"
    return found


def step(**gauges: Any) -> StepDone:
    return StepDone(1, 30, 4, plan_s=0.001, device_s=0.5, commit_s=0.002, idle_s=0.25, gauges=state(**gauges))


def state(**gauges: Any) -> Gauges:
    counts = {each.name: 0 for each in fields(Gauges) if each.default is MISSING} | gauges
    return Gauges(**counts)


def token(index: int, gap_s: float) -> TokenOut:
    return TokenOut("r", index, 7, None, gap_s)


def test_the_first_token_counts_to_ttft_and_later_ones_to_tbt(metrics: Metrics) -> None:
    for index, gap_s in enumerate([0.5, 0.25, 0.125]):
        metrics.observe(token(index, gap_s))
    assert value(metrics, "time_to_first_token_seconds_sum") == 0.5
    assert value(metrics, "time_between_tokens_seconds_sum") == 0.375
    assert value(metrics, "generation_tokens_total") == 3


def test_a_start_reports_queue_time(metrics: Metrics) -> None:
    metrics.observe(Started("r", queue_s=0.5, reused=40))
    assert value(metrics, "request_queue_time_seconds_sum") == 0.5


@pytest.mark.parametrize(("continued", "shared"), [(16, 32), (0, 32), (16, 0), (0, 0)])
def test_reuse_is_counted_by_kind_when_a_request_ends(metrics: Metrics, continued: int, shared: int) -> None:
    usage = Usage(prompt=99, completion=3, reused=continued + shared, recomputed=0, preemptions=0, continued=continued)
    metrics.observe(Finished("r", FinishReason.STOP, usage, Timings(0.1, 0.2, 1.5)))
    for kind, tokens in ("continued", continued), ("shared", shared):
        assert value(metrics, "reused_tokens_total", kind=kind) == tokens
        assert value(metrics, "reusing_requests_total", kind=kind) == (tokens > 0)


def test_prefixes_are_shown_and_counted_when_they_go(metrics: Metrics) -> None:
    metrics.observe(state(prefixes=3, prefix_blocks=40, shared_blocks=30))
    found = [value(metrics, name) for name in ("prefixes", "prefix_blocks", "shared_blocks")]
    assert found == [3, 40, 30]
    metrics.observe(PrefixDropped("room", 100))
    assert value(metrics, "prefixes_dropped_total", reason="room") == 1
    assert value(metrics, "prefixes_dropped_total", reason="expired") == 0


def test_an_end_is_counted_by_reason_with_its_tokens(metrics: Metrics) -> None:
    usage = Usage(prompt=10, completion=3, reused=4, recomputed=2, preemptions=1)
    metrics.observe(Finished("r", FinishReason.CANCELLED, usage, Timings(0.1, 0.2, 1.5)))
    assert value(metrics, "request_success_total", finished_reason="cancelled") == 1
    assert value(metrics, "request_success_total", finished_reason="stop") == 0
    assert value(metrics, "prompt_tokens_total") == 10
    assert value(metrics, "recomputed_tokens_total") == 2
    assert value(metrics, "e2e_request_latency_seconds_sum") == 1.5


def test_refusals_are_counted_by_code(metrics: Metrics) -> None:
    metrics.observe(Refused("r", "server_overloaded", "no"))
    assert value(metrics, "requests_refused_total", code="server_overloaded") == 1


def test_dropped_sessions_are_counted_by_reason(metrics: Metrics) -> None:
    metrics.observe(SessionDropped("room", 100))
    assert value(metrics, "sessions_dropped_total", reason="room") == 1


def test_a_step_sets_the_gauges(metrics: Metrics) -> None:
    metrics.observe(
        step(running=2, waiting=3, preempted=1, idle_sessions=5, blocks_total=8, blocks_used=6, blocks_reserved=1)
    )
    assert value(metrics, "num_requests_running") == 2
    assert value(metrics, "num_requests_waiting") == 3
    assert value(metrics, "num_requests_preempted") == 1
    assert value(metrics, "idle_sessions") == 5
    assert value(metrics, "kv_cache_usage_ratio") == 0.75
    assert value(metrics, "kv_blocks_reserved") == 1


def test_fairness_shows_after_a_step_and_when_no_step_follows(metrics: Metrics) -> None:
    metrics.observe(step(waiting=3, waiting_for="room", fairness_gap=40.0))
    assert value(metrics, "num_requests_waiting_by_reason", reason="room") == 3
    assert value(metrics, "fairness_gap") == 40
    metrics.observe(state())
    assert value(metrics, "num_requests_waiting_by_reason", reason="room") == 0
    assert value(metrics, "fairness_gap") == 0


def test_a_step_is_accounted_for(metrics: Metrics) -> None:
    metrics.observe(step())
    assert value(metrics, "step_seconds_sum") == pytest.approx(0.503)
    assert value(metrics, "device_idle_seconds_total") == 0.25
    assert value(metrics, "computed_tokens_total", phase="prefill") == 30
    assert value(metrics, "computed_tokens_total", phase="decode") == 4


def test_capacity_shows_before_the_first_step(metrics: Metrics) -> None:
    metrics.set_capacity(500)
    assert value(metrics, "kv_blocks_total") == 500


def test_two_servers_in_a_process_do_not_meet(metrics: Metrics) -> None:
    other = Metrics()
    metrics.observe(token(0, 1.0))
    assert value(other, "generation_tokens_total") == 0


def test_prometheus_can_read_it(metrics: Metrics) -> None:
    metrics.observe(step())
    metrics.http_answered("/health", "GET", 200)
    families = {family.name for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert {"fastswitch_http_requests", "fastswitch_step_seconds", "process_resident_memory_bytes"} <= families
