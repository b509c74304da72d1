"""Generates a trace from settings, for load tests and benchmarks alike."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clients.trace import Trace, TraceConversation, TraceTurn
from clients.workload.arrivals import arrival_times
from clients.workload.distribution import draw_counts, draw_seconds
from clients.workload.settings import ArrivalSettings, WorkloadSettings
from clients.workload.tenants import WorkloadTenant


def generate(settings: WorkloadSettings) -> Trace:
    """Draw a workload. Each quantity has a stream of its own, so that changing one leaves the others as they are."""
    streams = (np.random.default_rng([settings.seed, number]) for number in range(1, 9))
    tenants = _tenants(next(streams), settings)
    turn_counts = draw_counts(settings.turns, next(streams), settings.conversations)
    total = int(turn_counts.sum())
    inputs = draw_counts(settings.input_len, next(streams), total)
    outputs = draw_counts(settings.output_len, next(streams), total)
    thinks = draw_seconds(settings.think_time, next(streams), total)
    ends = _early_ends(next(streams), settings, outputs)
    slow = next(streams).random(settings.conversations) < settings.slow_reader_rate
    turns = [
        TraceTurn(int(tokens), int(most), float(think), cancel_after=cancel, disconnect_after=disconnect)
        for tokens, most, think, (cancel, disconnect) in zip(inputs, outputs, thinks, ends, strict=True)
    ]
    conversations, first = [], 0
    for number, (tenant, count, is_slow) in enumerate(zip(tenants, turn_counts, slow, strict=True)):
        own_turns = _until_disconnect(turns[first : first + count])
        first += count
        pace = settings.slow_reader_speed if is_slow else None
        conversations.append(
            TraceConversation(f"c{number}", None, own_turns, tenant.name, tenant.priority, pace, tenant.service_tier)
        )
    drawn = Trace(tuple(conversations), settings.seed, weights=settings.weights, source=settings.without_secrets)
    return arrange(drawn, settings)


def arrange(trace: Trace, settings: ArrivalSettings) -> Trace:
    """Return the trace with new arrivals if the settings say any or the trace has none, else as it is."""
    if settings.users is not None:
        unscheduled = tuple(replace(each, arrival_s=None) for each in trace.conversations)
        return replace(trace, conversations=unscheduled, users=settings.users)
    if settings.rate is None and (trace.users or all(each.arrival_s is not None for each in trace.conversations)):
        return trace
    mean_turns = trace.num_turns / len(trace.conversations)
    scale = 1 / mean_turns if settings.request_rate is not None else 1.0
    rate = float("inf") if settings.rate is None else settings.rate * scale
    ramp_to = None if settings.ramp_up_end_rps is None else settings.ramp_up_end_rps * scale
    rng = np.random.default_rng([settings.seed, 0])
    times = arrival_times(rng, len(trace.conversations), rate, settings.burstiness, ramp_to)
    arrived = (replace(each, arrival_s=float(at)) for each, at in zip(trace.conversations, times, strict=True))
    return replace(trace, conversations=tuple(arrived), users=None)


def _tenants(rng: np.random.Generator, settings: WorkloadSettings) -> list[WorkloadTenant]:
    """Draw the tenant of each conversation."""
    tenants = settings.tenants
    shares = np.array([tenant.share for tenant in tenants])
    return [tenants[index] for index in rng.choice(len(tenants), settings.conversations, p=shares / shares.sum())]


def _early_ends(
    rng: np.random.Generator, settings: WorkloadSettings, outputs: np.ndarray
) -> list[tuple[int | None, int | None]]:
    """Draw after how many pieces each turn is cancelled, and after how many its client vanishes; at most one is set."""
    chance, share = rng.random(len(outputs)), rng.random(len(outputs))
    after = np.floor(share * outputs).astype(np.int64)  # 0: the user cancels before anything came
    cancels = chance < settings.cancel_rate
    vanishes = ~cancels & (chance < settings.cancel_rate + settings.disconnect_rate)
    return [
        (int(pieces) if cancel else None, max(1, int(pieces)) if vanish else None)
        for pieces, cancel, vanish in zip(after, cancels, vanishes, strict=True)
    ]


def _until_disconnect(turns: Sequence[TraceTurn]) -> tuple[TraceTurn, ...]:
    """Return the turns up to the one in which the client vanishes, since it does not come back."""
    for index, turn in enumerate(turns):
        if turn.disconnect_after is not None:
            return tuple(turns[: index + 1])
    return tuple(turns)
