"""Detects that a server falls behind for good, by the rule of GuideLLM's over-saturation detection.

Over a sliding window both the turns in flight and the TTFT grow with time, each by more than chance explains: the 95 %
confidence interval of the slope of a straight line through the samples lies above 0. One of them is not enough: turns
in flight grow while a test begins, and TTFT while prompts get longer. Only an open loop saturates; a closed one waits.
"""

from collections import deque

import numpy as np

WINDOW_S = 60.0
SOONEST_S = 30.0  # samples must span this time before there is a verdict
FEWEST = 20  # samples of each kind
SLOWEST_FINE_TTFT_S = 2.5  # a TTFT below this is no saturation, however it grows
MARGIN = 1.96  # standard errors, 95 % of a normal distribution


class Saturation:
    """Watches a run. Times are seconds since its start and never decrease."""

    def __init__(self) -> None:
        self._in_flight: deque[tuple[float, float]] = deque()
        self._ttft: deque[tuple[float, float]] = deque()

    def note_in_flight(self, now: float, turns: int) -> None:
        """Take in how many turns are due and have not ended."""
        _push(self._in_flight, now, turns)

    def note_ttft(self, now: float, seconds: float) -> None:
        """Take in a turn's TTFT when its first piece has come."""
        _push(self._ttft, now, seconds)

    def reached(self) -> bool:
        """Return whether the server falls behind."""
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
    """Return whether the slope's confidence interval lies above 0."""
    times, values = np.array(samples).T
    (slope, _), covariance = np.polyfit(times, values, 1, cov=True)
    return bool(slope - MARGIN * np.sqrt(covariance[0, 0]) > 0)
