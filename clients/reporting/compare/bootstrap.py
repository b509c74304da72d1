"""Intervals by resampling whole conversations, since gaps of an answer and turns of a conversation are not independent.

A resample says how often each conversation was drawn: ``counts [conversations]``. Samples are weighed, never copied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval that holds the middle `CONFIDENCE` of the resamples' values."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether ``value`` lies outside."""
        return value < self.low or value > self.high


class Clustered:
    """Samples of one kind, each of which belongs to a conversation. It never changes."""

    def __init__(self, samples: Iterable[Sequence[float] | Floats]) -> None:
        """Take the samples of conversation ``i`` from ``samples[i]``."""
        each = [np.asarray(own, np.float64) for own in samples]
        values = np.concatenate(each) if each else np.empty(0)
        owners = np.repeat(np.arange(len(each)), [own.size for own in each])
        order = np.argsort(values, kind="stable")
        self._values, self._owners = values[order], owners[order]

    def percentiles(self, counts: Counts, quantiles: Sequence[float]) -> Floats:
        """Return the same as `numpy.percentile` over the drawn conversations' samples; NaN if they have none."""
        reached = np.cumsum(counts[self._owners])
        if not reached.size or not reached[-1]:
            return np.full(len(quantiles), np.nan)
        rank = np.asarray(quantiles) * (reached[-1] - 1)
        below = np.floor(rank)
        low = self._values[np.searchsorted(reached, below, "right")]
        high = self._values[np.searchsorted(reached, np.minimum(below + 1, reached[-1] - 1), "right")]
        between: Floats = low + (high - low) * (rank - below)
        return between

    def mean(self, counts: Counts) -> float:
        """Return the mean over the drawn conversations' samples; NaN if they have none."""
        weights = counts[self._owners]
        return float(weights @ self._values / total) if (total := weights.sum()) else float("nan")


def draws(conversations: int, seed: int) -> list[Counts]:
    """Draw `RESAMPLES` times as many conversations as there are, with replacement."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(conversations, size=(RESAMPLES, conversations))
    return [np.bincount(pick, minlength=conversations) for pick in picks]


def interval(values: Floats) -> Interval | None:
    """Return the percentile interval of the resamples' values; None if a resample had none."""
    if not np.isfinite(values).all():
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))
