"""Sessions that are found by their name: a turn continues one as far as its prompt agrees; none is ever adopted."""

from collections.abc import Callable

import pytest

from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Refused, SessionDropped
from service.simulation.driver import Simulation

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]
SCOPE = ("tenant", "user")


def reused(sim: Simulation, request_id: str) -> int:
    end = sim.ended[request_id]
    assert isinstance(end, Finished)
    return end.usage.reused


def test_the_next_turn_computes_only_what_is_new(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    first = submit("a", 20, session="s")
    sim.submit(first)
    sim.run()
    sim.submit(submit("b", [*first.prompt, *sim.answers["a"], 7, 8], session="s"))
    sim.run()
    assert reused(sim, "b") == 23  # the last answered token has no KV yet


@pytest.mark.parametrize("shared", [0, 1, 12, 19])
def test_a_history_may_differ_anywhere(simulation: MakeSimulation, submit: MakeSubmit, shared: int) -> None:
    sim = simulation()
    first = submit("a", 20, session="s")
    sim.submit(first)
    sim.run()
    other = [*first.prompt[:shared], *range(900, 925)]
    sim.submit(submit("b", other, session="s"))
    sim.run()
    cold = simulation()
    cold.submit(submit("b", other))
    cold.run()
    assert reused(sim, "b") == shared
    assert sim.answers["b"] == cold.answers["b"]


def test_the_same_prompt_again_still_computes_one_token(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, list(range(20)), session="s"))
        sim.run()
    assert reused(sim, "b") == 19


def test_a_turn_during_a_turn_is_refused_and_the_first_goes_on(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, session="s"))
    sim.step()
    sim.submit(submit("b", 20, session="s"))
    sim.run()
    assert isinstance(sim.ended["a"], Finished)
    refused = sim.ended["b"]
    assert isinstance(refused, Refused)
    assert refused.code == "session_busy"
    sim.core.check()


def test_a_stateless_history_never_continues_a_named_session(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    first = submit("a", 20, session="s", scope=SCOPE)
    sim.submit(first)
    sim.run()
    said = [*first.prompt, *sim.answers["a"], 7]
    sim.submit(submit("b", said, scope=SCOPE))
    sim.run()
    assert reused(sim, "b") == 16  # the whole blocks, which both stand on now
    sim.submit(submit("c", said, session="s", scope=SCOPE))
    sim.run()
    assert reused(sim, "c") == 23


def test_a_name_never_finds_a_session_of_another_name_or_of_none(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation()
    sim.submit(submit("a", list(range(20)), scope=SCOPE))
    sim.submit(submit("b", list(range(20)), session="s"))
    sim.run()
    sim.submit(submit("c", list(range(24)), session="t"))
    sim.submit(submit("d", list(range(24)), session="u", scope=SCOPE))
    sim.run()
    assert reused(sim, "c") == 0
    assert reused(sim, "d") == 16  # shared, not continued


def test_closing_an_idle_session_frees_its_blocks(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, session="s"))
    sim.run()
    assert sim.core.gauges().blocks_used > 0
    sim.close_session("s")
    assert sim.log[-1] == SessionDropped("closed", 24)
    assert sim.core.gauges().blocks_used == sim.core.gauges().idle_sessions == 0
    sim.core.check()


@pytest.mark.parametrize("steps_before", range(3))
def test_closing_a_busy_session_cancels_its_turn(
    simulation: MakeSimulation, submit: MakeSubmit, steps_before: int
) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, max_tokens=50, session="s"))
    for _ in range(steps_before):
        sim.step()
    sim.close_session("s")
    end = sim.ended["a"]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.CANCELLED
    assert sim.core.gauges().blocks_used == sim.core.gauges().idle_sessions == 0
    sim.core.check()


def test_closing_the_unknown_is_no_error(simulation: MakeSimulation) -> None:
    sim = simulation()
    sim.close_session("unknown")
    assert sim.log == []


def test_an_expired_session_begins_anew_under_its_name(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(session_ttl_s=50.0)
    sim.submit(submit("a", list(range(20)), session="s"))
    sim.run()
    sim.now += 50.0
    sim.step()
    assert sim.core.gauges().idle_sessions == 0
    sim.submit(submit("b", list(range(20)), session="s"))
    sim.run()
    assert reused(sim, "b") == 0
    assert sim.core.gauges().idle_sessions == 1
    sim.core.check()


def test_what_others_took_from_it_is_computed_again(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(device_blocks=10, block_group_size=1)
    first = submit("a", 90, session="s")
    sim.submit(first)
    sim.run()
    sim.submit(submit("b", 90))
    sim.run()
    sim.submit(submit("c", [*first.prompt, 5], session="s"))
    sim.run()
    assert 0 < reused(sim, "c") < 90
    sim.core.check()
