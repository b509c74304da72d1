"""What decisions cost: plan and commit, with 64 requests running and 1,000 waiting, on the simulated runner."""

import time

import numpy as np

from benchmarks.record import Figures
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.core.policies import POLICIES
from service.simulation.runner import SimulatedRunner

RUNNING, WAITING = 64, 1000
WARM_UP_STEPS, STEPS = 200, 1000


def measure() -> Figures:
    """Return milliseconds a step, for each policy, with KV memory for all running requests and for half of them."""
    figures: Figures = {"running": RUNNING, "waiting": WAITING, "steps": STEPS}
    for policy in sorted(POLICIES):
        for memory, blocks in (("ample", 16_384), ("short", 1_100)):
            p50, p99 = np.percentile(_step_costs_ms(policy, blocks), [50, 99])
            figures[f"plan_commit_ms_p50_{policy}_{memory}_memory"] = float(p50)
            figures[f"plan_commit_ms_p99_{policy}_{memory}_memory"] = float(p99)
    return figures


def _step_costs_ms(policy: str, blocks: int) -> list[float]:
    settings = ServeSettings(policy=policy, max_num_seqs=RUNNING, max_num_queued_reqs=10 * WAITING)
    core = Core(wiring.core_settings(settings, blocks, host_blocks=0), wiring.policy(settings))
    runner = SimulatedRunner(vocab_size=50_000)
    costs = []
    arrived = 0
    for step in range(WARM_UP_STEPS + STEPS):
        while core.gauges().waiting + core.gauges().running < RUNNING + WAITING:
            core.submit(_request(arrived), now=float(step))
            arrived += 1
        began = time.perf_counter()
        plan = core.plan(now=float(step))
        planned = time.perf_counter() - began
        assert plan is not None
        result = runner.run(plan)
        began = time.perf_counter()
        core.commit(result, {}, now=float(step))
        core.events()
        costs.append(1e3 * (planned + time.perf_counter() - began))
    return costs[WARM_UP_STEPS:]


def _request(number: int) -> Submit:
    prompt = tuple(range(50 + number % 100))
    return Submit(f"r{number}", prompt, 200 + number % 200, SamplingParams(), frozenset(), None, number % 3)
