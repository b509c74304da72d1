"""Requests that do not fit are passed over, for a bounded time; none that fits waits."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Preempted, Started
from service.core.messages.plan import StepPlan
from service.core.policies import POLICIES
from service.core.state.requests import State
from service.simulation.driver import Simulation
from tests.core.conftest import _simulation, _submit

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]


def started(sim: Simulation) -> list[str]:
    return [event.request_id for event in sim.log if isinstance(event, Started)]


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_a_large_request_in_second_place_stops_no_one_behind_it(
    simulation: MakeSimulation, submit: MakeSubmit, policy: str
) -> None:
    """One request of 41 blocks first, one of 63 second, 20 small ones: 21 rows go on."""
    sim = simulation(policy, max_num_seqs=32, max_num_batched_tokens=2000, blocked_timeout_s=1e9)
    sim.submit(submit("top", 650, max_tokens=900, priority=0))
    sim.submit(submit("large", 63 * 16 - 20, max_tokens=50, priority=1))
    for number in range(20):
        sim.submit(submit(f"small{number}", 16, max_tokens=16, priority=5))
    assert [len(sim.step().rows) for _ in range(10)] == [21] * 10
    assert not [event for event in sim.log if isinstance(event, Preempted)]


def test_a_blocked_request_takes_its_blocks_from_those_that_backfilled(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(device_blocks=20, max_num_seqs=4, host_blocks=40)
    sim.submit(submit("top", 160, max_tokens=8))
    sim.step()
    sim.submit(submit("large", 250, max_tokens=4))
    sim.submit(submit("small", 60, max_tokens=100))
    sim.run()
    assert started(sim) == ["top", "small", "large"]
    assert Preempted("small", "room") in sim.log
    assert all(event.reason == "length" for event in sim.ended.values())


def test_a_request_that_was_passed_over_for_long_enough_goes_first(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", device_blocks=20, host_blocks=40, max_num_seqs=4, blocked_timeout_s=30.0)
    sim.submit(submit("top", 160, max_tokens=150, priority=0))
    sim.submit(submit("large", 250, max_tokens=4, priority=1))
    sim.submit(submit("small", 16, max_tokens=90, priority=2))
    begun = {}
    for second in range(60):
        sim.step()
        for name in started(sim):
            begun.setdefault(name, second)
    assert 30 <= begun["large"] <= 30 + 4
    sim.run()
    assert all(event.reason == "length" for event in sim.ended.values())


def test_waiting_behind_better_ranks_alone_is_no_claim(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    """No smaller request passed it over: first come, first served stays so, however long it takes."""
    sim = simulation(device_blocks=20, max_num_seqs=4, blocked_timeout_s=5.0)
    sim.submit(submit("first", 160, max_tokens=100))
    sim.submit(submit("second", 250, max_tokens=4))
    sim.run()
    assert not [event for event in sim.log if isinstance(event, Preempted)]


def test_backfilled_requests_earn_no_promotion(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", device_blocks=20, host_blocks=40, max_num_seqs=4)
    sim.submit(submit("top", 160, max_tokens=60, priority=0))
    sim.submit(submit("large", 250, max_tokens=4, priority=1))
    sim.submit(submit("small", 100, max_tokens=30, priority=2))
    sim.step()
    for number in range(4):  # each of them takes the place of the backfilled one
        sim.submit(submit(f"vip{number}", 60, max_tokens=2, priority=0))
        for _ in range(4):
            sim.step()
    request = sim.core._ledger.live["small"]
    assert request.preemptions >= 1
    assert request.preemptions_unrewarded == 0


def no_request_that_fits_waits(core: Core, plan: StepPlan | None) -> None:
    """The property, by what is free after a plan: it shares nothing with how admission counts."""
    ledger, memory = core._ledger, core._ledger.memory
    if plan is None or memory.tickets or not ledger.slots.num_free:
        return
    running = len(ledger.slots.running)
    for request in ledger.live.values():
        if request.state is not State.RUNNING:
            missing = memory.device_blocks_for(request.num_tokens) - memory.device.used(request.sequence)
            assert missing + running > memory.device.num_available, request.request_id


requests = st.tuples(st.integers(1, 400), st.integers(1, 30), st.integers(0, 3), st.integers(0, 5))


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(arrivals=st.lists(requests, max_size=30), host_blocks=st.sampled_from([0, 10, 60]))
def test_no_step_leaves_a_fitting_request_waiting(
    policy: str, arrivals: list[tuple[int, int, int, int]], host_blocks: int
) -> None:
    sim = _simulation(policy, device_blocks=30, host_blocks=host_blocks, max_num_seqs=6, blocked_timeout_s=20.0)
    plan_step = sim.core.plan

    def plan(now: float) -> StepPlan | None:
        planned = plan_step(now)
        no_request_that_fits_waits(sim.core, planned)
        return planned

    sim.core.plan = plan  # type: ignore[method-assign]
    for number, (prompt, answer, priority, pause) in enumerate(arrivals):
        sim.submit(_submit(f"r{number}", prompt, max_tokens=answer, priority=priority))
        for _ in range(pause):
            sim.step()
    sim.run()
    assert len(sim.ended) == len(arrivals)
