"""Closing a scope: its sessions are not kept, and those of other scopes are untouched."""

from collections.abc import Callable

import pytest

from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, SessionDropped
from service.simulation.driver import Simulation

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]
GONE, OTHER = ("connection:a", ""), ("connection:b", "")


def test_its_idle_conversation_is_dropped(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, scope=GONE))
    sim.run()
    sim.close_scope(GONE)
    assert sim.log[-1] == SessionDropped("closed", 24)
    assert sim.core.gauges().blocks_used == sim.core.gauges().idle_sessions == 0
    sim.core.check()


@pytest.mark.parametrize("steps_before", range(3))
def test_its_live_request_ends_as_usual_and_is_not_kept(
    simulation: MakeSimulation, submit: MakeSubmit, steps_before: int
) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, scope=GONE))
    for _ in range(steps_before):
        sim.step()
    sim.close_scope(GONE)
    sim.run()
    end = sim.ended["a"]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert sim.core.gauges().blocks_used == sim.core.gauges().idle_sessions == 0
    sim.core.check()


def test_conversations_of_other_scopes_and_names_stay(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, scope=OTHER))
    sim.submit(submit("b", 20, scope=GONE, session="named"))
    sim.run()
    sim.close_scope(GONE)
    assert sim.core.gauges().idle_sessions == 2
    sim.core.check()
