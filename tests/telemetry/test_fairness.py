"""Fairness as Prometheus sees it."""

import pytest
from prometheus_client import CollectorRegistry

from service.core.messages.events import Gauges
from service.telemetry.fairness import WAITING_FOR, FairnessMetrics


class Seen:
    """The metrics and what they show."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = FairnessMetrics(self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fastswitch_{name}", labels)

    def waiting(self) -> list[float | None]:
        return [self("num_requests_waiting_by_reason", reason=reason) for reason in WAITING_FOR]


@pytest.fixture
def seen() -> Seen:
    return Seen()


def state(waiting: int = 0, **values: float | str | None) -> Gauges:
    return Gauges(0, waiting, 0, 0, 1, 0, 0, **values)  # type: ignore[arg-type]


def test_every_reason_is_there_before_anything_waits(seen: Seen) -> None:
    assert seen.waiting() == [0, 0, 0]


def test_all_that_wait_wait_for_one_reason_at_a_time(seen: Seen) -> None:
    seen.metrics.show(state(3, waiting_for="slot"))
    assert seen.waiting() == [3, 0, 0]
    seen.metrics.show(state(2, waiting_for="room"))
    assert seen.waiting() == [0, 2, 0]
    seen.metrics.show(state(0, waiting_for=None))
    assert seen.waiting() == [0, 0, 0]


def test_the_gap_its_bound_and_the_waiting_tokens_are_as_the_newest_gauges_say(seen: Seen) -> None:
    for values in ((900, 50.0, 4000.0), (70, 12.5, 8000.0)):
        tokens, gap, bound = values
        seen.metrics.show(state(waiting_tokens=tokens, fairness_gap=gap, fairness_bound=bound))
        assert (seen("num_prompt_tokens_waiting"), seen("fairness_gap"), seen("fairness_bound")) == values


def test_the_time_of_excluded_tenants_grows_with_the_gauges_and_counts_nothing_twice(seen: Seen) -> None:
    assert seen("fairness_excluded_seconds_total") == 0
    for excluded_s in (0.5, 0.5, 2.0):
        seen.metrics.show(state(fairness_excluded_s=excluded_s))
    assert seen("fairness_excluded_seconds_total") == 2.0
