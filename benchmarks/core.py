"""What decisions cost: submit, and plan, commit and gauges of a step, on the simulated runner with a full pool."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from benchmarks.record import Figures
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.core.policies import POLICIES
from service.simulation.runner import SimulatedRunner

RUNNING = 64
WAITING = (1_000, 10_000, 100_000)
WARM_UP_STEPS, STEPS = 100, 500
POOLS = {"ample": 16_384, "short": 1_100}  # KV memory in blocks: for all running requests, and for half of them
DRAWN = ("markov", "random")  # policies in which a step now and then gives everyone a new rank


def measure() -> Figures:
    """Return milliseconds for each policy, number of waiting requests and pool: `Figures` by readable names."""
    figures: Figures = {"running": RUNNING, "steps": STEPS}
    for policy in sorted(POLICIES):
        for waiting in WAITING:
            for memory, blocks in POOLS.items():
                name = f"{policy}_{waiting}_waiting_{memory}_memory"
                submits, steps, updates = costs_ms(policy, waiting, blocks, map(_request, count()))
                figures[f"submit_ms_p50_{name}"] = float(np.percentile(submits, 50))
                figures[f"step_ms_p50_{name}"], figures[f"step_ms_p99_{name}"] = np.percentile(steps, [50, 99]).tolist()
                if updates:
                    figures[f"update_step_ms_p50_{name}"] = float(np.percentile(updates, 50))
    return figures


def costs_ms(
    policy: str, waiting: int, blocks: int, requests: Iterator[Submit]
) -> tuple[list[float], list[float], list[float]]:
    """Return the costs of each submit, of each step, and of each step that begins an update, in ms."""
    settings = ServeSettings(policy=policy, max_num_seqs=RUNNING, max_num_queued_reqs=2 * waiting)
    core = Core(wiring.core_settings(settings, blocks, host_blocks=0), wiring.policy(settings))
    runner = SimulatedRunner(vocab_size=50_000)
    submits: list[float] = []
    steps: list[float] = []
    updates: list[float] = []

    def timed(costs: list[float], call: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments)
        costs.append(1e3 * (time.perf_counter() - began))
        return result

    def commit(core: Core, result: Any, now: float) -> None:
        core.commit(result, {}, now)
        core.gauges()
        core.events()

    for step in range(WARM_UP_STEPS + STEPS):
        while (gauges := core.gauges()).waiting + gauges.preempted + gauges.running < RUNNING + waiting:
            timed(submits, core.submit, next(requests), 0.03 * step)
        planned: list[float] = []
        plan = timed(planned, core.plan, 0.03 * step)
        assert plan is not None
        result = runner.run(plan)
        timed(planned, commit, core, result, 0.03 * step)
        begins_update = policy in DRAWN and step % settings.priority_update_every == 0
        if step >= WARM_UP_STEPS:
            (updates if begins_update else steps).append(sum(planned))
    return submits[-1000:], steps, updates


def _request(number: int) -> Submit:
    prompt = tuple(range(50 + number % 100))
    named = {"priority": number % 3, "tenant": f"tenant {number % 50}", "user": f"user {number % 700}"}
    return Submit(f"r{number}", prompt, 200 + number % 200, SamplingParams(), frozenset(), None, **named)  # type: ignore[arg-type]
