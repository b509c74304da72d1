"""Computes all figures of one run."""

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
    """Latencies in seconds; None where nothing was measured."""

    ttft: Distribution | None
    tbt: Distribution | None
    e2e: Distribution | None
    stall: Distribution | None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rates: ``requests_per_s`` counts turns that ended well, ``output_tokens_per_s`` all tokens that came.

    ``without_usage`` is the number of turns whose pieces were counted, since the server reported no usage.
    """

    requests_per_s: float
    output_tokens_per_s: float
    output_tokens: int
    without_usage: int


@dataclass(frozen=True, slots=True)
class ServerTotals:
    """Sums of what the server reports about its turns; None for a figure that it never reports."""

    prompt_tokens: int | None
    reused: int | None
    recomputed: int | None
    preemptions: int | None
    swapped_bytes: int | None
    queue_s: Distribution | None
    stall_s: Distribution | None


@dataclass(frozen=True, slots=True)
class Share:
    """One tenant's figures. `clients.reporting.fairness` defines ``service``; ``weighted`` is over the weight."""

    tenant: str
    weight: float
    turns: int
    outcomes: dict[Outcome, int]
    latencies: Latencies
    throughput: Throughput
    goodput: Goodput | None
    service: float
    weighted: float
    server: ServerTotals


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's figures without its warm-up.

    ``window`` is from when the first turn was due to when the last one ended, in seconds since the run's start.
    ``late_s`` is how long after they were due turns were sent: the client's own fault if it is not close to 0.
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
    server: ServerTotals
    late_s: Distribution | None

    @property
    def window_s(self) -> float:
        """The length of the window."""
        return self.window[1] - self.window[0]


def summarise(run: Run, slo: Slo | None = None) -> Summary:
    """Compute all figures, goodput only with an ``slo``."""
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
        server=server_totals(turns),
        late_s=distribution(turn.sent_s - turn.scheduled_s for turn in turns),
    )


def measured_window(turns: Sequence[TurnRecord]) -> Span:
    """Return the time from when the first turn was due to the end of the last one; (0, 0) if there is none."""
    if not turns:
        return 0.0, 0.0
    return min(turn.scheduled_s for turn in turns), max(turn.end_s for turn in turns)


def group_by_tenant(turns: Sequence[TurnRecord]) -> dict[str, list[TurnRecord]]:
    """Return the turns by tenant, in the order of the tenants' names."""
    groups: dict[str, list[TurnRecord]] = {name: [] for name in sorted({turn.tenant for turn in turns})}
    for turn in turns:
        groups[turn.tenant].append(turn)
    return groups


def latencies(turns: Iterable[TurnRecord]) -> Latencies:
    """Return the latencies of the turns without an error."""
    good = [turn for turn in turns if answered(turn)]
    gaps = [gaps_s(turn) for turn in good]
    return Latencies(
        ttft=distribution(_known(good, ttft_s)),
        tbt=distribution(np.concatenate(gaps) if gaps else ()),
        e2e=distribution(_known(good, e2e_s)),
        stall=distribution(_known(good, longest_stall_s)),
    )


def throughput(turns: Sequence[TurnRecord], window_s: float) -> Throughput:
    """Return the rates over the window; 0 if it has no length."""
    done = sum(turn.outcome is Outcome.OK for turn in turns)
    tokens = sum(answer_tokens(turn) for turn in turns)
    a_second = 1 / window_s if window_s > 0 else 0.0
    without_usage = sum(turn.completion_tokens is None for turn in turns if turn.piece_s)
    return Throughput(done * a_second, tokens * a_second, tokens, without_usage)


def server_totals(turns: Sequence[TurnRecord]) -> ServerTotals:
    """Sum up what the server reports about ``turns``."""
    return ServerTotals(
        prompt_tokens=_sum(turns, lambda turn: turn.prompt_tokens),
        reused=_sum(turns, lambda turn: turn.reused),
        recomputed=_sum(turns, lambda turn: turn.recomputed),
        preemptions=_sum(turns, lambda turn: turn.preemptions),
        swapped_bytes=_sum(turns, lambda turn: turn.swapped_bytes),
        queue_s=distribution(_known(turns, lambda turn: turn.queue_s)),
        stall_s=distribution(_known(turns, lambda turn: turn.stall_s)),
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
        server=server_totals(turns),
    )


def _outcomes(turns: Iterable[TurnRecord]) -> dict[Outcome, int]:
    counts = Counter(turn.outcome for turn in turns)
    return {outcome: counts[outcome] for outcome in Outcome}


def _known(turns: Iterable[TurnRecord], figure: Callable[[TurnRecord], float | None]) -> list[float]:
    return [value for turn in turns if (value := figure(turn)) is not None]


def _sum(turns: Iterable[TurnRecord], figure: Callable[[TurnRecord], int | None]) -> int | None:
    values = _known(turns, figure)
    return int(sum(values)) if values else None
