"""All figures of one run."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.distribution import Distribution, distribution
from clients.reporting.fairness import Fairness, Span, fairness, service_of
from clients.reporting.measures import answer_tokens, answered, e2e_s, gaps_s, longest_stall_s, measured, ttft_s
from clients.reporting.slo import Goodput, Slo, goodput


@dataclass(frozen=True, slots=True)
class Latencies:
    """In seconds; None where nothing was measured."""

    ttft: Distribution | None
    tbt: Distribution | None
    e2e: Distribution | None
    stall: Distribution | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """``requests_per_s`` counts turns that ended well, ``output_tokens_per_s`` all tokens that came.

    ``untold``: turns of which the server told no usage, so that pieces were counted.
    """

    requests_per_s: float
    output_tokens_per_s: float
    output_tokens: int
    untold: int


@dataclass(frozen=True, slots=True)
class Told:
    """Sums of what the server told of its turns; None where it told nothing of the kind."""

    prompt_tokens: int | None
    reused: int | None
    recomputed: int | None
    preemptions: int | None
    swapped_bytes: int | None
    queue_s: Distribution | None
    stall_s: Distribution | None


@dataclass(frozen=True, slots=True)
class Share:
    """One tenant's part. ``service`` is in the units of `clients.reporting.fairness`, ``weighted`` over the weight."""

    tenant: str
    weight: float
    turns: int
    outcomes: dict[Outcome, int]
    latencies: Latencies
    throughput: Throughput
    goodput: Goodput | None
    service: float
    weighted: float
    told: Told


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's figures, warm-up left out.

    ``window``: from when the first turn was due to when the last one ended, seconds since the run's start.
    ``late_s``: how long after they were due turns were sent: the client's own fault if it is not next to nothing.
    """

    run: Run
    window: Span
    conversations: int
    turns: int
    warmup_turns: int
    outcomes: dict[Outcome, int]
    errors: dict[str, int]
    latencies: Latencies
    throughput: Throughput
    goodput: Goodput | None
    fairness: Fairness | None
    tenants: tuple[Share, ...]
    told: Told
    late_s: Distribution | None

    @property
    def window_s(self) -> float:
        """Length of the window."""
        return self.window[1] - self.window[0]


def summarise(run: Run, slo: Slo | None = None) -> Summary:
    """Work all figures out, the goodput only if there is an ``slo``."""
    turns = measured(run)
    window = measured_window(turns)
    window_s = window[1] - window[0]
    by_tenant = group_by_tenant(turns)
    return Summary(
        run=run,
        window=window,
        conversations=len({turn.conversation for turn in turns}),
        turns=len(turns),
        warmup_turns=len(run.records) - len(turns),
        outcomes=_outcomes(turns),
        errors=dict(Counter(turn.error or "unknown" for turn in turns if not answered(turn)).most_common()),
        latencies=latencies(turns),
        throughput=throughput(turns, window_s),
        goodput=goodput(turns, slo, window_s) if slo else None,
        fairness=fairness(by_tenant, run.weights, window),
        tenants=tuple(_share(name, run.weights, of, slo, window_s) for name, of in by_tenant.items()),
        told=told(turns),
        late_s=distribution(turn.sent_s - turn.scheduled_s for turn in turns),
    )


def measured_window(turns: Sequence[TurnRecord]) -> Span:
    """From when the first turn was due to the end of the last one; (0, 0) if there is none."""
    if not turns:
        return 0.0, 0.0
    return min(turn.scheduled_s for turn in turns), max(turn.end_s for turn in turns)


def group_by_tenant(turns: Sequence[TurnRecord]) -> dict[str, list[TurnRecord]]:
    """Tenants in the order of their names."""
    groups: dict[str, list[TurnRecord]] = {name: [] for name in sorted({turn.tenant for turn in turns})}
    for turn in turns:
        groups[turn.tenant].append(turn)
    return groups


def latencies(turns: Iterable[TurnRecord]) -> Latencies:
    """Over the turns that brought no error."""
    good = [turn for turn in turns if answered(turn)]
    gaps = [gaps_s(turn) for turn in good]
    return Latencies(
        ttft=distribution(_told(good, ttft_s)),
        tbt=distribution(np.concatenate(gaps) if gaps else ()),
        e2e=distribution(_told(good, e2e_s)),
        stall=distribution(_told(good, longest_stall_s)),
    )


def throughput(turns: Sequence[TurnRecord], window_s: float) -> Throughput:
    """Rates over the window; 0 if it has no length."""
    done = sum(turn.outcome is Outcome.OK for turn in turns)
    tokens = sum(answer_tokens(turn) for turn in turns)
    a_second = 1 / window_s if window_s > 0 else 0.0
    untold = sum(turn.completion_tokens is None for turn in turns if turn.piece_s)
    return Throughput(done * a_second, tokens * a_second, tokens, untold)


def told(turns: Sequence[TurnRecord]) -> Told:
    """Sum up what the server told."""
    return Told(
        prompt_tokens=_sum(turns, lambda turn: turn.prompt_tokens),
        reused=_sum(turns, lambda turn: turn.reused),
        recomputed=_sum(turns, lambda turn: turn.recomputed),
        preemptions=_sum(turns, lambda turn: turn.preemptions),
        swapped_bytes=_sum(turns, lambda turn: turn.swapped_bytes),
        queue_s=distribution(_told(turns, lambda turn: turn.queue_s)),
        stall_s=distribution(_told(turns, lambda turn: turn.stall_s)),
    )


def _share(tenant: str, weights: dict[str, float], turns: list[TurnRecord], slo: Slo | None, window_s: float) -> Share:
    service = float(service_of(turns)[1].sum())
    weight = weights.get(tenant, 1.0)
    return Share(
        tenant=tenant,
        weight=weight,
        turns=len(turns),
        outcomes=_outcomes(turns),
        latencies=latencies(turns),
        throughput=throughput(turns, window_s),
        goodput=goodput(turns, slo, window_s) if slo else None,
        service=service,
        weighted=service / weight,
        told=told(turns),
    )


def _outcomes(turns: Iterable[TurnRecord]) -> dict[Outcome, int]:
    counts = Counter(turn.outcome for turn in turns)
    return {outcome: counts[outcome] for outcome in Outcome}


def _told(turns: Iterable[TurnRecord], of: Callable[[TurnRecord], float | None]) -> list[float]:
    return [value for turn in turns if (value := of(turn)) is not None]


def _sum(turns: Iterable[TurnRecord], of: Callable[[TurnRecord], int | None]) -> int | None:
    values = _told(turns, of)
    return int(sum(values)) if values else None
