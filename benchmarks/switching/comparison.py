"""Compare variants with `groups+reuse+async`: 95 % intervals by paired bootstrap over whole conversations.

The seeds of a cell are pooled: each seed's conversations are drawn among themselves, the same ones on both sides, so
that differences between conversations cancel. Latencies are compared as ratios, goodput as a difference in turns a
second; the length of each run's window is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.switching.figures import TBT_QUANTILES, TTFT_QUANTILES
from clients.report import Run, TurnRecord
from clients.reporting.compare.bootstrap import Clustered, Counts, Floats, Interval, draws, interval
from clients.reporting.measures import answered, gaps_s, measured, ttft_s
from clients.reporting.slo import Slo, meets
from clients.reporting.statistics import measured_window

SEED = 20_240
LATENCIES = (
    *(f"ttft_p{100 * quantile:g}_s" for quantile in TTFT_QUANTILES),
    *(f"tbt_p{100 * quantile:g}_s" for quantile in TBT_QUANTILES),
)
GOODPUT = "goodput_per_s"


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference in one figure: the variant's value over the default preset's, or minus it for goodput."""

    figure: str
    value: float
    interval: Interval | None


class Pool:
    """Runs of one variant, one a seed, as one sample. ``figures`` takes how often each conversation was drawn."""

    def __init__(self, runs: Sequence[Run], slo: Slo) -> None:
        groups = [turns for run in runs for turns in _by_conversation(run)]
        self.conversations = [len(_by_conversation(run)) for run in runs]
        self._ttft = Clustered(_samples(turns, lambda turn: np.array([ttft_s(turn) or np.nan])) for turns in groups)
        self._tbt = Clustered(_samples(turns, gaps_s) for turns in groups)
        self._met = np.array([sum(meets(turn, slo) for turn in turns) for turns in groups])
        windows = [measured_window(measured(run)) for run in runs]
        self._seconds = sum(end - start for start, end in windows)

    def figures(self, counts: Counts) -> Floats:
        """Return the latencies, then the goodput."""
        ttft, tbt = self._ttft.percentiles(counts, TTFT_QUANTILES), self._tbt.percentiles(counts, TBT_QUANTILES)
        return np.concatenate([ttft, tbt, [counts @ self._met / self._seconds]])


def differences(variant: Mapping[int, Run], default: Mapping[int, Run], slo: Slo) -> list[Difference]:
    """Return the differences over the seeds that both have. Raises ValueError if their conversations differ."""
    seeds = sorted(variant.keys() & default.keys())
    one, other = (Pool([runs[seed] for seed in seeds], slo) for runs in (variant, default))
    if one.conversations != other.conversations:
        raise ValueError(f"{one.conversations} conversations against {other.conversations}")
    resamples = _draws(one.conversations)
    drawn = _changes(*(np.array([pool.figures(counts) for counts in resamples]) for pool in (one, other)))
    once = np.ones(sum(one.conversations), np.int64)
    values = _changes(one.figures(once)[None], other.figures(once)[None])[0]
    names = (*LATENCIES, GOODPUT)
    return [Difference(name, float(values[i]), interval(drawn[:, i])) for i, name in enumerate(names)]


def _changes(one: Floats, other: Floats) -> Floats:
    """Return [resamples, figures]: ratios, and differences in the last column."""
    return np.concatenate([one[:, :-1] / other[:, :-1], one[:, -1:] - other[:, -1:]], axis=1)


def _draws(conversations: Sequence[int]) -> list[Counts]:
    """Draw each seed's conversations among themselves."""
    each = [draws(count, SEED + number) for number, count in enumerate(conversations)]
    return [np.concatenate(counts) for counts in zip(*each, strict=True)]


def _by_conversation(run: Run) -> list[list[TurnRecord]]:
    """Return the turns of each conversation, in the order of the conversations' names."""
    groups: dict[str, list[TurnRecord]] = {}
    for turn in measured(run):
        groups.setdefault(turn.conversation, []).append(turn)
    return [groups[name] for name in sorted(groups)]


def _samples(turns: Sequence[TurnRecord], of: Callable[[TurnRecord], Floats]) -> Floats:
    values = [of(turn) for turn in turns if answered(turn)]
    samples = np.concatenate([np.empty(0), *values])
    return samples[np.isfinite(samples)]
