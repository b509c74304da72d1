"""Switches as Prometheus sees them."""

import pytest
from prometheus_client import CollectorRegistry

from service.core.messages.events import (
    Contaminated,
    CopyEnded,
    CopyStarted,
    Gauges,
    KVDropped,
    Preempted,
    Resumed,
    ShadowSwitched,
    StepDone,
)
from service.telemetry.switches import DIRECTIONS, DROPS, PREEMPTIONS, SwitchMetrics

BLOCK_BYTES = 1000


class Seen:
    """The metrics and what they show."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = SwitchMetrics(self.registry, BLOCK_BYTES)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fastswitch_{name}", labels)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def state(**values: int) -> Gauges:
    return Gauges(**dict.fromkeys(Gauges.__dataclass_fields__, 0) | values)


def test_every_label_starts_at_zero(seen: Seen) -> None:
    for direction in DIRECTIONS:
        for name in ("swap_copies", "swap_bytes", "swap_failures", "link_busy_seconds", "swap_reused_blocks"):
            assert seen(f"{name}_total", direction=direction) == 0
    assert all(seen("num_preemptions_total", reason=reason) == 0 for reason in PREEMPTIONS)
    assert all(seen("kv_dropped_tokens_total", reason=reason) == 0 for reason in DROPS)


def test_preemptions_are_counted_by_reason(seen: Seen) -> None:
    for reason in ("slot", "room", "room"):
        seen.metrics.observe(Preempted("r", reason))
    assert [seen("num_preemptions_total", reason=reason) for reason in ("slot", "room", "growth")] == [1, 2, 0]


def test_a_resumption_reports_the_stall_and_the_switch(seen: Seen) -> None:
    seen.metrics.observe(Resumed("r", parked_s=3.0, switch_s=0.5))
    assert (seen("stall_seconds_sum"), seen("switch_seconds_sum")) == (3.0, 0.5)


def test_a_copy_is_counted_in_its_direction_with_bytes_pieces_and_time(seen: Seen) -> None:
    seen.metrics.observe(CopyEnded("out", blocks=12, pieces=3, seconds=0.5, failed=False))
    assert seen("swap_copies_total", direction="out") == 3
    assert seen("swap_bytes_total", direction="out") == 12 * BLOCK_BYTES
    assert seen("link_busy_seconds_total", direction="out") == 0.5
    assert seen("swap_blocks_per_copy_sum", direction="out") == 4
    assert seen("swap_bytes_total", direction="in") == 0


def test_a_failed_copy_took_time_and_moved_nothing(seen: Seen) -> None:
    seen.metrics.observe(CopyEnded("in", blocks=12, pieces=0, seconds=0.5, failed=True))
    assert seen("swap_failures_total", direction="in") == 1
    assert seen("link_busy_seconds_total", direction="in") == 0.5
    assert seen("swap_bytes_total", direction="in") == seen("swap_copies_total", direction="in") == 0


def test_reuse_contamination_and_drops_are_counted(seen: Seen) -> None:
    for event in (CopyStarted("out", 4, reused=6), Contaminated(5), KVDropped("host_full", 70)):
        seen.metrics.observe(event)
    assert seen("swap_reused_blocks_total", direction="out") == 6
    assert seen("contaminated_blocks_total") == 5
    assert seen("kv_dropped_tokens_total", reason="host_full") == 70


def test_the_shadows_switches_are_counted_with_their_bytes(seen: Seen) -> None:
    seen.metrics.observe(ShadowSwitched(preemptions=2, blocks=7))
    assert (seen("shadow_preemptions_total"), seen("shadow_swap_bytes_total")) == (2, 7 * BLOCK_BYTES)


def test_a_step_reports_its_wait_for_copies_and_what_they_cost_the_engine(seen: Seen) -> None:
    seen.metrics.observe(StepDone(1, 0, 4, 0.1, 0.5, 0.1, 0.3, state(), copy_wait_s=0.25, swap_s=0.125))
    assert (seen("copy_wait_seconds_total"), seen("swap_manager_seconds_total")) == (0.25, 0.125)


def test_the_state_of_things_is_shown(seen: Seen) -> None:
    seen.metrics.show(state(swapped=2, copies_in_flight=3, host_blocks_total=40, host_blocks_used=5))
    names = ("num_requests_swapped", "swaps_in_flight", "host_kv_blocks_total", "host_kv_blocks_used")
    assert [seen(name) for name in names] == [2, 3, 40, 5]


def test_updates_are_counted_by_their_growth(seen: Seen) -> None:
    for total in (3, 3, 5):
        seen.metrics.show(state(priority_updates=total))
    assert seen("priority_updates_total") == 5
