"""Compares runs with the first of them.

Latencies are compared by ratio, shares by difference, both with intervals by `bootstrap`. Two runs of the same
conversations are paired: both resample the same ones, so that differences between conversations cancel out. Rates come
from one window a run, so there is nothing to resample: they have a ratio and no interval.

An interval says what other conversations of the same kind would show, not what another run would.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.compare.bootstrap import Clustered, Counts, Floats, Interval, draws, interval
from clients.reporting.distribution import percentile_name
from clients.reporting.measures import answered, e2e_s, gaps_s, longest_stall_s, measured, ttft_s
from clients.reporting.slo import Slo, meets
from clients.reporting.statistics import measured_window, throughput

QUANTILES = (0.5, 0.9, 0.99)
SEED = 20_240

LATENCIES: dict[str, Callable[[TurnRecord], float | Floats | None]] = {
    "TTFT": ttft_s,
    "TBT": gaps_s,
    "E2E": e2e_s,
    "longest stall": longest_stall_s,
}


class Kind(StrEnum):
    """How two values of a figure are compared: B / A, or B - A."""

    RATIO = "ratio"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure to compare. ``unit`` is s or /s, or empty for a share."""

    name: str
    unit: str
    kind: Kind
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of one run against the first. ``change`` is None if a value is missing, ``interval`` if unknown."""

    figure: Figure
    first: float | None
    value: float | None
    change: float | None
    interval: Interval | None

    @property
    def significant(self) -> bool:
        """Whether the interval excludes "no change"."""
        return self.interval is not None and self.interval.excludes(1.0 if self.figure.kind is Kind.RATIO else 0.0)

    @property
    def better(self) -> bool:
        """Whether the change is an improvement, which only means something if it is significant."""
        same = 1.0 if self.figure.kind is Kind.RATIO else 0.0
        return self.change is not None and (self.change > same) == self.figure.more_is_better


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run against the first. It is ``paired`` if both played the same conversations and were resampled together."""

    first: str
    name: str
    paired: bool
    conversations: tuple[int, int]
    changes: tuple[Change, ...]


class _Sample:
    """A run's conversations, ready to be resampled."""

    def __init__(self, run: Run, slo: Slo | None) -> None:
        turns = measured(run)
        self.by_conversation: dict[str, list[TurnRecord]] = {}
        for turn in sorted(turns, key=lambda turn: (turn.conversation, turn.turn)):
            self.by_conversation.setdefault(turn.conversation, []).append(turn)
        self.latencies = [self._clustered(of, answered) for of in LATENCIES.values()]
        self.shares = [self._clustered(lambda turn: float(turn.outcome is Outcome.ERROR), lambda _: True)]
        if slo is not None:
            self.shares.append(self._clustered(lambda turn: float(meets(turn, slo)), _due))
        start, end = measured_window(turns)
        flow = throughput(turns, end - start)
        self.rates = [flow.requests_per_s, flow.output_tokens_per_s]

    def _clustered(
        self, of: Callable[[TurnRecord], float | Floats | None], counts: Callable[[TurnRecord], bool]
    ) -> Clustered:
        return Clustered(
            np.concatenate([np.empty(0), *(_samples(of(turn)) for turn in turns if counts(turn))])
            for turns in self.by_conversation.values()
        )

    def figures(self, counts: Counts) -> Floats:
        """Return the values of all figures except the rates, in the order of `_figures`."""
        percentiles = [one.percentiles(counts, QUANTILES) for one in self.latencies]
        return np.concatenate([*percentiles, [one.mean(counts) for one in self.shares]])

    def unresampled(self) -> Counts:
        """Return the counts of the run as it was: each conversation once."""
        return np.ones(len(self.by_conversation), np.int64)


def compare(runs: Mapping[str, Run], slo: Slo | None = None) -> list[Comparison]:
    """Compare each run, by its name, with the first."""
    (first, run), *others = runs.items()
    sample = _Sample(run, slo)
    return [_comparison(first, sample, name, _Sample(other, slo), slo) for name, other in others]


def same_conversations(a: Mapping[str, Sequence[TurnRecord]], b: Mapping[str, Sequence[TurnRecord]]) -> bool:
    """Return whether two runs have the same names, tenants and turns, and first prompts of the same length."""
    return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)


def _alike(a: Sequence[TurnRecord], b: Sequence[TurnRecord]) -> bool:
    if [(turn.turn, turn.tenant) for turn in a] != [(turn.turn, turn.tenant) for turn in b]:
        return False
    lengths = {turn.prompt_tokens for turn in (a[0], b[0])} - {None}
    return len(lengths) <= 1


def _comparison(first: str, a: _Sample, name: str, b: _Sample, slo: Slo | None) -> Comparison:
    paired = same_conversations(a.by_conversation, b.by_conversation)
    sizes = len(a.by_conversation), len(b.by_conversation)
    changes = [*_resampled(a, b, paired, _figures(slo)), *_rates(a, b)] if all(sizes) else []
    return Comparison(first, name, paired, sizes, tuple(changes))


def _figures(slo: Slo | None) -> list[Figure]:
    quantiles = ((name, quantile) for name in LATENCIES for quantile in QUANTILES)
    found = [Figure(f"{name} {percentile_name(quantile)}", "s", Kind.RATIO, False) for name, quantile in quantiles]
    found.append(Figure("errors", "", Kind.DIFFERENCE, False))
    return [*found, Figure("SLO met", "", Kind.DIFFERENCE, True)] if slo else found


def _resampled(a: _Sample, b: _Sample, paired: bool, figures: list[Figure]) -> list[Change]:
    of_a = draws(len(a.by_conversation), SEED)
    of_b = of_a if paired else draws(len(b.by_conversation), SEED + 1)
    drawn_a, drawn_b = (np.array([s.figures(c) for c in counts]) for s, counts in ((a, of_a), (b, of_b)))
    first, value = a.figures(a.unresampled()), b.figures(b.unresampled())
    return [
        Change(
            figure,
            _finite(first[i]),
            _finite(value[i]),
            _finite(_changed(figure.kind, first[i : i + 1], value[i : i + 1])[0]),
            interval(_changed(figure.kind, drawn_a[:, i], drawn_b[:, i])),
        )
        for i, figure in enumerate(figures)
    ]


def _rates(a: _Sample, b: _Sample) -> list[Change]:
    figures = (Figure(name, "/s", Kind.RATIO, True) for name in ("requests/s", "output tokens/s"))
    pairs = zip(figures, a.rates, b.rates, strict=True)
    return [Change(figure, x, y, y / x if x else None, None) for figure, x, y in pairs]


def _changed(kind: Kind, a: Floats, b: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return b / a if kind is Kind.RATIO else b - a


def _due(turn: TurnRecord) -> bool:
    return turn.outcome in {Outcome.OK, Outcome.ERROR}


def _samples(value: float | Floats | None) -> Floats:
    return np.empty(0) if value is None else np.atleast_1d(value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
