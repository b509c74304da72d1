"""One run: a server of its own, a scene's requests, and the figures of both."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fairness import measures
from benchmarks.fairness.cases import CASES, SERVER, Scene
from benchmarks.fairness.client import Player
from benchmarks.fairness.keys import OPERATOR, bearer, write_keys
from benchmarks.fairness.traces import kept, trace_of
from benchmarks.record import commit
from benchmarks.server import Server, running_server
from clients.report import Outcome, TurnRecord
from clients.reporting.fairness import fairness, service_of
from clients.reporting.measures import gaps_s
from clients.reporting.statistics import group_by_tenant

SCRAPE_S = 1.0
NUM_POINTS = 30  # of the curves of accumulated service
STEPS, PREEMPTIONS = "fastswitch_step_seconds", "fastswitch_num_preemptions_total"

Metrics = dict[str, float]


async def run_scene(scene: Scene, policy: str, seconds: float, model: str | None = None) -> dict[str, Any]:
    """Play a scene under a policy and return its figures. ``model``: None for the default one."""
    case = CASES[scene.case]
    weights = {tenant.name: tenant.weight for tenant in case.tenants}
    about = {
        "scene": scene.name,
        "policy": policy,
        "seconds": seconds,
        "model": model,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "load_average": os.getloadavg()[0],  # before the run
    }
    flags = [*SERVER, "--policy", policy, *(() if model is None else ("--model", model))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.toml")
        keys = write_keys(path, weights)
        async with running_server("--keys", str(path), *flags) as server:
            player = Player(server.url, keys, frozenset(each.name for each in case.tenants if each.flex))
            trace = trace_of(case, seconds)
            async with _samples(server, bearer(keys[OPERATOR])) as samples:
                records = await player.play(kept(scene, trace), trace, seconds)
    return {**about, "flags": flags, **figures(records, weights, samples, seconds)}


def figures(
    records: Sequence[TurnRecord], weights: Mapping[str, float], samples: Sequence[Metrics], seconds: float
) -> dict[str, Any]:
    """Return the figures of a run. ``samples``: of /metrics, the first before the run, the last at its end."""
    by_tenant = group_by_tenant(records)
    growth = {key: value - samples[0].get(key, 0.0) for key, value in samples[-1].items()}
    shares = fairness(by_tenant, dict(weights), (0.0, seconds))
    bound, gap = measures.largest_bound(samples), measures.largest_gap(by_tenant, weights)
    moments = np.linspace(0, seconds, NUM_POINTS + 1).round(3).tolist()
    steps = growth.get(f"{STEPS}_count", 0.0)
    preemptions = sum(n for key, n in growth.items() if key.split("{")[0] == PREEMPTIONS)
    tenants = {name: _of_tenant(turns, weights[name], seconds) for name, turns in by_tenant.items()}
    return {
        "service_per_s": sum(each["service_per_s"] for each in tenants.values()),
        "tokens_per_s": sum(each["tokens_per_s"] for each in tenants.values()),
        "jain_while_all_ask": None if shares is None else shares.contended,
        "all_ask_share": None if shares is None else shares.contended_share,
        "gap_seen": gap,
        "gap_seen_over_twice_bound": None if bound is None else gap / (2 * bound),
        "gap_over_bound": measures.gap_over_bound(samples),
        "bound": bound,
        "busy_share": growth.get(f"{STEPS}_sum", 0.0) / seconds,  # time in which a step ran
        "step_p99_s": measures.histogram_quantile(growth, STEPS, 0.99),
        "preemptions_per_step": preemptions / steps if steps else None,
        "tenants": tenants,
        "moments_s": moments,
        "service": {name: measures.accumulated(turns, moments) for name, turns in by_tenant.items()},
    }


def _of_tenant(turns: Sequence[TurnRecord], weight: float, seconds: float) -> dict[str, Any]:
    gaps = np.concatenate([gaps_s(turn) for turn in turns])
    return {
        "weight": weight,
        "requests": len(turns),
        "answered": sum(turn.outcome is Outcome.OK for turn in turns),
        "errors": sorted({turn.error for turn in turns if turn.error is not None}),
        "sent_late_max_s": max(turn.sent_s - turn.scheduled_s for turn in turns),
        "ttft_p50_s": measures.ttft_quantile(turns, 0.50),
        "ttft_p99_s": measures.ttft_quantile(turns, 0.99),
        "tbt_p50_s": float(np.percentile(gaps, 50)) if gaps.size else None,
        "tbt_p99_s": float(np.percentile(gaps, 99)) if gaps.size else None,
        "service_per_s": float(service_of(turns)[1].sum()) / seconds,
        "tokens_per_s": sum(turn.completion_tokens or 0 for turn in turns) / seconds,
    }


@asynccontextmanager
async def _samples(server: Server, headers: Mapping[str, str]) -> AsyncIterator[list[Metrics]]:
    """Scrape /metrics before, during and after the block; the list is whole when it ends."""
    samples = [await server.metrics(headers)]

    async def scrape() -> None:
        while True:
            await asyncio.sleep(SCRAPE_S)
            samples.append(await server.metrics(headers))

    scraping = asyncio.create_task(scrape())
    try:
        yield samples
    finally:
        scraping.cancel()
        await asyncio.gather(scraping, return_exceptions=True)
    samples.append(await server.metrics(headers))
