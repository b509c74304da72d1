"""Core on the simulated runner, and a quick way to say what a request wants."""

from collections.abc import Callable

import pytest

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.core.policies.ranking import Patience
from service.simulation.copier import Link, SimulatedCopier
from service.simulation.driver import Simulation
from service.simulation.pools import HashPools
from service.simulation.runner import SimulatedRunner, StepCost
from tests.settings import core_settings, make_policy

SCOPE = ("tenant", "user")


def _submit(request_id: str, prompt: list[int] | int, max_tokens: int = 4, **fields: object) -> Submit:
    """A greedy turn; an int prompt is that many tokens, which depend on the request's id."""
    tokens = [sum(request_id.encode()) + i for i in range(prompt)] if isinstance(prompt, int) else prompt
    values = {"sampling_params": SamplingParams(temperature=0), "stop_tokens": frozenset(), "scope": None, **fields}
    return Submit(request_id=request_id, prompt=tuple(tokens), max_tokens=max_tokens, **values)  # type: ignore[arg-type]


def _simulation(
    policy: str = "fcfs",
    link: Link | None = None,
    seed: int = 0,
    policy_settings: dict[str, float] | None = None,
    **settings: object,
) -> Simulation:
    """A fresh core with 100 device blocks by default; a step takes one virtual second, a copy no time.

    There is no quantum: ranks count at once.
    """
    sizes = {
        "device_blocks": 100,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
        "patience": Patience(0, promote_after=4),
        **settings,
    }
    core = Core(core_settings(**sizes), make_policy(policy, **policy_settings or {}))  # type: ignore[arg-type]
    pools = HashPools()
    return Simulation(core, SimulatedRunner(1000, StepCost(step_s=1.0), pools), SimulatedCopier(pools, link, seed))


@pytest.fixture
def simulation() -> Callable[..., Simulation]:
    """Builds simulations."""
    return _simulation


@pytest.fixture
def submit() -> Callable[..., Submit]:
    """Builds turns."""
    return _submit
