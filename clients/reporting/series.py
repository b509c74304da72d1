"""Curves to plot, thinned so that a page stays small however long the run is."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.report import TurnRecord
from clients.reporting.fairness import service_of
from clients.reporting.measures import answer_tokens, answered, ttft_s

CURVE_POINTS = 300
TIME_BINS = 50
DOTS = 1000

Array = NDArray[np.float64]
Curve = tuple[Array, Array]  # x and y, [points] each


def cumulative(samples: Iterable[float]) -> Curve:
    """Return values and the share of samples up to each: every value if there are few, else evenly spread ranks."""
    values = np.sort(np.fromiter(samples, np.float64))
    ranks = np.unique(np.linspace(1, values.size, min(values.size, CURVE_POINTS)).round().astype(int))
    return values[ranks - 1], ranks / max(1, values.size)


def ttft_dots(turns: Sequence[TurnRecord]) -> Curve:
    """Return when turns were due and their TTFT, in order of time; only every k-th if there are too many to draw."""
    due, ttft = ttft_all(turns)
    every = 1 + due.size // DOTS
    return due[::every], ttft[::every]


def ttft_over_time(turns: Sequence[TurnRecord], quantile: float) -> Curve:
    """Return a percentile of TTFT over the turns due in each of `TIME_BINS` parts of the time, at their middles."""
    due, ttft = ttft_all(turns)
    if not due.size:
        return due, ttft
    edges = np.linspace(due[0], due[-1], min(TIME_BINS, 1 + due.size // 10) + 1)
    bins = np.clip(np.searchsorted(edges, due, "right") - 1, 0, edges.size - 2)
    used = np.unique(bins)
    middles = (edges[used] + edges[used + 1]) / 2
    return middles, np.array([np.percentile(ttft[bins == one], 100 * quantile) for one in used])


def ttft_all(turns: Sequence[TurnRecord]) -> Curve:
    """Return when each turn was due and its TTFT, in order of time."""
    pairs = sorted((turn.scheduled_s, ttft) for turn in turns if answered(turn) and (ttft := ttft_s(turn)) is not None)
    both = np.asarray(pairs).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def service_over_time(turns: Sequence[TurnRecord], weight: float) -> Curve:
    """Return the weighted service that the client has seen so far."""
    at, amount = service_of(turns)
    return _last_of_bins(at, np.cumsum(amount) / weight)


def tokens_in_flight(turns: Sequence[TurnRecord]) -> Curve:
    """Return the prompt tokens (if reported) and answer tokens so far, of all turns that were sent and have not ended.

    The curve has the highest value of each part of the time.
    """
    times, steps = [np.empty(0)], [np.empty(0)]
    for turn in turns:
        prompt, pieces = float(turn.prompt_tokens or 0), len(turn.piece_s)
        of_answer = [answer_tokens(turn) / pieces] * pieces if pieces else []
        times.append(np.asarray([turn.sent_s, *turn.piece_s, turn.end_s]))
        steps.append(np.asarray([prompt, *of_answer, -(prompt + sum(of_answer))]))
    at, step = np.concatenate(times), np.concatenate(steps)
    order = np.argsort(at, kind="stable")
    return _highest_of_bins(at[order], np.cumsum(step[order]))


def _last_of_bins(x: Array, y: Array) -> Curve:
    if x.size <= CURVE_POINTS:
        return x, y
    last = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], CURVE_POINTS), "right") - 1)
    return x[last], y[last]


def _highest_of_bins(x: Array, y: Array) -> Curve:
    if x.size <= CURVE_POINTS:
        return x, y
    starts = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], CURVE_POINTS), "left"))
    return x[starts], np.maximum.reduceat(y, starts)
