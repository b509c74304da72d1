"""When a server counts as falling behind."""

import numpy as np

from clients.load.saturation import Saturation


def watched(in_flight, ttft, seconds=60) -> bool:
    watch, noise = Saturation(), np.random.default_rng(1).normal(1, 0.1, seconds)
    for second in range(seconds):
        watch.note_in_flight(second, in_flight(second) * noise[second])
        watch.note_ttft(second, ttft(second) * noise[second])
    return watch.reached()


def test_a_queue_and_waits_that_grow_are_saturation():
    assert watched(lambda s: 10 + 2 * s, lambda s: 1 + 0.2 * s)


def test_a_steady_server_is_not_saturated():
    assert not watched(lambda s: 50, lambda s: 10)


def test_a_test_that_only_warms_up_is_not_saturated():
    assert not watched(lambda s: 2 * s, lambda s: 3)


def test_short_waits_are_no_saturation_however_they_grow():
    assert not watched(lambda s: 2 * s, lambda s: 0.01 * s)


def test_there_is_no_verdict_before_there_is_enough_to_see():
    assert not watched(lambda s: 10 + 2 * s, lambda s: 1 + 0.2 * s, seconds=25)
