"""Sees whether a server falls behind for good: the rule of GuideLLM's over-saturation detection.

Over a sliding window both the turns in flight and the TTFT grow with time, each by more than chance explains: the 95 %
confidence interval of the slope of a straight line through the samples lies above 0. One alone is not enough: in flight
grows while a test begins, and TTFT while prompts get longer. Only an open loop can saturate; a closed one waits.
"""

from collections import deque

import numpy as np

WINDOW_S = 60.0
SOONEST_S = 30.0  # of samples before there is a verdict
FEWEST = 20  # samples of each
SLOWEST_FINE_TTFT_S = 2.5  # what stays below it is no saturation, however it grows
MARGIN = 1.96  # standard errors, 95 % of a normal distribution


class Saturation:
    """Watches. Times are seconds since the run's start and never go back."""

    def __init__(self) -> None:
        self._in_flight: deque[tuple[float, float]] = deque()
        self._ttft: deque[tuple[float, float]] = deque()

    def note_in_flight(self, now: float, turns: int) -> None:
        """So many turns are due and not done."""
        _push(self._in_flight, now, turns)

    def note_ttft(self, now: float, seconds: float) -> None:
        """A first piece came."""
        _push(self._ttft, now, seconds)

    def reached(self) -> bool:
        """Whether the server falls behind."""
        samples = self._in_flight, self._ttft
        if any(len(each) < FEWEST or each[-1][0] - each[0][0] < SOONEST_S for each in samples):
            return False
        recent = [seconds for _, seconds in self._ttft][-FEWEST:]
        return sorted(recent)[len(recent) // 2] > SLOWEST_FINE_TTFT_S and all(map(_grows, samples))


def _push(samples: deque[tuple[float, float]], now: float, value: float) -> None:
    samples.append((now, value))
    while now - samples[0][0] > WINDOW_S:
        samples.popleft()


def _grows(samples: deque[tuple[float, float]]) -> bool:
    """Whether the slope's confidence interval lies above 0."""
    times, values = np.array(samples).T
    (slope, _), covariance = np.polyfit(times, values, 1, cov=True)
    return bool(slope - MARGIN * np.sqrt(covariance[0, 0]) > 0)
