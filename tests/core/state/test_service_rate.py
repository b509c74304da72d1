"""The rate of starts, and what follows from it for those that wait or are refused."""

import pytest

from service.core.state.service_rate import LONGEST_RETRY_S, STARTS, UNKNOWN_RETRY_S, ServiceRate


def test_before_any_start_nothing_is_known() -> None:
    rate = ServiceRate()
    assert rate.seconds_per_start is None
    assert rate.retry_after_s(starts=1000) == UNKNOWN_RETRY_S


def test_requests_that_wait_together_take_the_time_between_their_starts() -> None:
    rate = ServiceRate()
    for start in (4.0, 6.0, 8.0):
        rate.started(100, arrival_s=2.0, now=start)
    assert rate.seconds_per_start == 2.0
    assert rate.retry_after_s(starts=3) == 6.0
    assert rate.retry_after_s(prompt_tokens=200) == 4.0
    assert rate.retry_after_s(starts=1, prompt_tokens=200) == 4.0


def test_a_time_without_a_queue_does_not_count() -> None:
    rate = ServiceRate()
    rate.started(10, arrival_s=0.0, now=2.0)
    rate.started(10, arrival_s=1000.0, now=1002.0)
    assert rate.seconds_per_start == 2.0


def test_only_the_last_starts_count() -> None:
    rate = ServiceRate()
    rate.started(10, arrival_s=0.0, now=500.0)
    for start in range(STARTS):
        rate.started(10, arrival_s=0.0, now=503.0 + 3 * start)
    assert rate.seconds_per_start == 3.0


@pytest.mark.parametrize(("starts", "expected"), [(0, 1.0), (1, 1.0), (2000, 20.0), (1_000_000, LONGEST_RETRY_S)])
def test_the_answer_is_bounded(starts: int, expected: float) -> None:
    rate = ServiceRate()
    rate.started(10, arrival_s=0.0, now=0.01)
    assert rate.retry_after_s(starts=starts) == pytest.approx(expected)
