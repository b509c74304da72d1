"""What one run shows of fairness, from the client's records and from the server's own figures.

Service is VTC's, and is credited when the client sees it: see `clients.reporting.fairness`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf

import numpy as np
from scipy.stats import CensoredData, ecdf

from clients.report import TurnRecord
from clients.reporting.fairness import Span, all_open, open_intervals, service_of
from clients.reporting.measures import ttft_s

GAP, BOUND = "fastswitch_fairness_gap", "fastswitch_fairness_bound"
Turns = Sequence[TurnRecord]


def ttft_quantile(turns: Turns, quantile: float) -> float | None:
    """Return a quantile of the time to the first token; None without turns.

    A turn that was cut off while it waited says only that its time is longer than it waited (the Kaplan-Meier
    estimate). If the quantile lies beyond all that is known, the longest wait is returned, which is a lower bound.
    """
    if not turns:
        return None
    seen = [ttft for turn in turns if (ttft := ttft_s(turn)) is not None]
    cut_off = [turn.end_s - turn.scheduled_s for turn in turns if not turn.piece_s]
    if not seen:
        return max(cut_off)
    cdf = ecdf(CensoredData(uncensored=seen, right=cut_off)).cdf
    reached = np.flatnonzero(cdf.probabilities >= quantile - 1e-9)
    return float(cdf.quantiles[reached[0]]) if reached.size else max([*seen, *cut_off])


def backlogged(turns: Turns) -> list[Span]:
    """Return when at least one of a tenant's turns waited for its first token, as disjoint intervals in order."""
    waits = [replace(turn, end_s=turn.piece_s[0]) if turn.piece_s else turn for turn in turns]
    return open_intervals(waits)


def largest_gap(by_tenant: Mapping[str, Turns], weights: Mapping[str, float]) -> float:
    """Return by how much one tenant got more weighted service than another while both were backlogged.

    It is the largest over all pairs and over all parts of the intervals in which both were backlogged throughout. If
    counters never differ by more than U, no such part shows more than 2 U (theorem 4.8 of the paper).
    """
    pairs = combinations(by_tenant.items(), 2)
    return max((_gap_of(one, other, weights) for one, other in pairs), default=0.0)


def _gap_of(one: tuple[str, Turns], other: tuple[str, Turns], weights: Mapping[str, float]) -> float:
    moments, amounts = [], []
    for sign, (tenant, turns) in ((1.0, one), (-1.0, other)):
        at, amount = service_of(turns)
        moments.append(at)
        amounts.append(sign * amount / weights.get(tenant, 1.0))
    at = np.concatenate(moments)
    order = np.argsort(at, kind="stable")
    lead = np.concatenate([[0.0], np.cumsum(np.concatenate(amounts)[order])])  # lead[n]: after n pieces
    gap = 0.0
    for start, end in all_open([backlogged(one[1]), backlogged(other[1])]):
        first, last = np.searchsorted(at[order], [start, end], "right")
        gap = max(gap, float(np.ptp(lead[first : last + 1])))
    return gap


def accumulated(turns: Turns, moments: Sequence[float]) -> list[float]:
    """Return the service that was seen up to each moment."""
    at, amount = service_of(turns)
    total = np.concatenate([[0.0], np.cumsum(amount)])
    return [float(total[count]) for count in np.searchsorted(at, moments, "right")]


def gap_over_bound(samples: Iterable[Mapping[str, float]]) -> float | None:
    """Return the largest ratio of the server's two gauges in any sample of /metrics; None if it has no bound."""
    found = [sample[GAP] / sample[BOUND] for sample in samples if sample.get(BOUND, 0.0) > 0.0 and GAP in sample]
    return max(found, default=None)


def largest_bound(samples: Iterable[Mapping[str, float]]) -> float | None:
    """Return the largest bound in any sample; None if there is none."""
    return max((sample[BOUND] for sample in samples if sample.get(BOUND, 0.0) > 0.0), default=None)


def histogram_quantile(growth: Mapping[str, float], name: str, quantile: float) -> float | None:
    """Return a quantile of a histogram as Prometheus does: linear inside its bucket. None if it is empty."""
    prefix = f"{name}_bucket{{le="
    buckets = sorted((float(key[len(prefix) : -1]), n) for key, n in growth.items() if key.startswith(prefix))
    if not buckets or not buckets[-1][1]:
        return None
    wanted = quantile * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted and count > below:
            return low if bound == inf else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low
