"""Service by tenant, and how evenly it was distributed.

Service is counted as in the paper on virtual token counters (Sheng et al., 2024): a new prompt token is 1, a token of
the answer 2; reused and recomputed tokens count for no tenant. It is credited when the client sees it: the prompt with
the first piece, the answer's tokens evenly over its pieces. *Weighted* service is service over the tenant's weight.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.report import TurnRecord
from clients.reporting.measures import answer_tokens, new_prompt_tokens

PROMPT_WEIGHT, ANSWER_WEIGHT = 1.0, 2.0

Array = NDArray[np.float64]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Fairness:
    """Jain's index of weighted service: 1 if all tenants are alike, 1/n if one has everything; None without service.

    ``whole`` covers the window; it also falls when tenants merely ask for different amounts. ``contended`` covers only
    the time when every tenant had a turn open, which is ``contended_share`` of the window.
    """

    whole: float | None
    contended: float | None
    contended_share: float


def jain(shares: Collection[float]) -> float | None:
    """Return ``(sum x)^2 / (n sum x^2)`` (Jain, Chiu and Hawe, 1984); None if all are 0."""
    x = np.asarray(list(shares), np.float64)
    squares = float((x * x).sum())
    return float(x.sum()) ** 2 / (x.size * squares) if squares else None


def service_of(turns: Sequence[TurnRecord]) -> tuple[Array, Array]:
    """Return when service was seen and how much, in order of time: two arrays ``[pieces]``."""
    moments, amounts = [np.empty(0)], [np.empty(0)]
    for turn in turns:
        if turn.piece_s:
            of_turn = np.full(len(turn.piece_s), ANSWER_WEIGHT * answer_tokens(turn) / len(turn.piece_s))
            of_turn[0] += PROMPT_WEIGHT * new_prompt_tokens(turn)
            moments.append(np.asarray(turn.piece_s))
            amounts.append(of_turn)
    at, amount = np.concatenate(moments), np.concatenate(amounts)
    order = np.argsort(at, kind="stable")
    return at[order], amount[order]


def fairness(by_tenant: dict[str, list[TurnRecord]], weights: dict[str, float], window: Span) -> Fairness | None:
    """Return Jain's indices over the tenants; None with fewer than two. A tenant without a weight has 1."""
    if len(by_tenant) < 2:
        return None
    contended = all_open([open_intervals(turns) for turns in by_tenant.values()])
    whole, while_contended = [], []
    for tenant, turns in by_tenant.items():
        at, amount = service_of(turns)
        weight = weights.get(tenant, 1.0)
        whole.append(float(amount.sum()) / weight)
        while_contended.append(float(amount[_inside(at, contended)].sum()) / weight)
    covered = sum(end - start for start, end in contended)
    length = window[1] - window[0]
    return Fairness(jain(whole), jain(while_contended), covered / length if length > 0 else 0.0)


def open_intervals(turns: Sequence[TurnRecord]) -> list[Span]:
    """Return when at least one turn was open (due and not ended), as disjoint intervals in order."""
    merged: list[Span] = []
    for start, end in sorted((turn.scheduled_s, turn.end_s) for turn in turns):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def all_open(tenants: Sequence[Sequence[Span]]) -> list[Span]:
    """Return the intersection of the tenants' intervals. Those of one tenant must be disjoint."""
    edges = sorted(
        (at, step) for own in tenants for interval in own for at, step in zip(interval, (1, -1), strict=True)
    )
    times = np.array([at for at, _ in edges])
    count = np.cumsum([step for _, step in edges])
    full = np.flatnonzero(count[:-1] == len(tenants))
    return [(float(times[i]), float(times[i + 1])) for i in full if times[i] < times[i + 1]]


def _inside(at: Array, intervals: Sequence[Span]) -> NDArray[np.bool_]:
    starts, ends = (np.array([interval[i] for interval in intervals]) for i in (0, 1))
    return np.searchsorted(starts, at, "right") > np.searchsorted(ends, at, "left")
