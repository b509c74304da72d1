"""What an operator sees of a shadowed policy."""

from collections.abc import Callable

import pytest

from service.core.messages.commands import Submit
from service.core.messages.events import CopyStarted, Finished, Preempted, ShadowSwitched
from service.core.switching.mechanisms import PRESETS
from service.simulation.driver import Simulation


@pytest.fixture
def observed(simulation: Callable[..., Simulation], submit: Callable[..., Submit]) -> Simulation:
    """Ordinary requests fill the batch, then better ones come."""
    sim = simulation("priority", max_num_seqs=2, host_blocks=100, mechanisms=PRESETS["observe"])
    for name in "ab":
        sim.submit(submit(name, 20, max_tokens=20, priority=5))
    sim.step()
    sim.step()
    for name in "yz":
        sim.submit(submit(name, 20, max_tokens=5, priority=1))
    return sim


def test_those_that_came_first_are_served_first(observed: Simulation) -> None:
    observed.run()
    assert [event.request_id for event in observed.log if isinstance(event, Finished)] == ["a", "b", "y", "z"]
    assert not any(isinstance(event, Preempted | CopyStarted) for event in observed.log)


def test_what_the_policy_would_have_preempted_is_counted_once_with_its_blocks(observed: Simulation) -> None:
    observed.step()
    assert [event for event in observed.log if isinstance(event, ShadowSwitched)] == [ShadowSwitched(2, 4)]
    observed.step()
    assert sum(isinstance(event, ShadowSwitched) for event in observed.log) == 1


def test_a_policy_that_agrees_would_switch_nothing(
    simulation: Callable[..., Simulation], submit: Callable[..., Submit]
) -> None:
    sim = simulation("fcfs", max_num_seqs=2, mechanisms=PRESETS["observe"])
    for name in "abcdef":
        sim.submit(submit(name, 20, max_tokens=7))
    sim.run()
    assert not any(isinstance(event, ShadowSwitched) for event in sim.log)
    assert sim.core.gauges().priority_updates == 0


def test_updates_are_those_of_the_policy_in_the_shadow(
    simulation: Callable[..., Simulation], submit: Callable[..., Submit]
) -> None:
    counts = {}
    for preset in ("observe", "vllm-recompute"):
        sim = simulation("random", mechanisms=PRESETS[preset])
        for name in "abcd":
            sim.submit(submit(name, 20, max_tokens=160))
        sim.run()
        counts[preset] = sim.core.gauges().priority_updates
    assert counts["observe"] == counts["vllm-recompute"] > 0
