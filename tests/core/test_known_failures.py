"""How other servers with preemption are known to fail, each as a test.

Thrash behind a fence is in tests/core/switching/test_victims.py, beside what prevents it.
"""

from dataclasses import replace

import pytest

from service.core.messages.events import Finished, FinishReason, Preempted, Started, TokenOut
from service.core.policies import POLICIES
from service.simulation.driver import Simulation
from tests.core.conftest import _simulation, _submit


def times_of_start(sim: Simulation) -> dict[str, int]:
    return {event.request_id: number for number, event in enumerate(sim.log) if isinstance(event, Started)}


def test_priority_inversion_at_the_slot_limit() -> None:
    """A better request takes a slot although the batch is full and memory is not."""
    sim = _simulation("priority", max_num_seqs=2)
    for name in "ab":
        sim.submit(_submit(name, 10, max_tokens=50, priority=5))
    sim.step()
    sim.submit(_submit("better", 10, priority=1))
    assert "better" in {row.request_id for row in sim.step().rows}  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_ties_do_not_ping_pong(policy: str) -> None:
    """Requests of equal rank, more than there is room for, do not preempt each other in turn."""
    sim = _simulation(policy, max_num_seqs=2, policy_settings={"update_every": 10**6})
    for number in range(6):
        sim.submit(replace(_submit(f"r{number}", 10, max_tokens=30), tenant=f"tenant {number % 2}"))
    sim.run()
    assert not [event for event in sim.log if isinstance(event, Preempted)]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_nobody_starves(policy: str) -> None:
    """One request of the worst kind gets its answer while better ones never stop coming."""
    sim = _simulation(policy, max_num_seqs=2, policy_settings={"update_every": 5})
    worst = replace(_submit("worst", 20, max_tokens=10, priority=5), tenant="flood")
    for number in range(1000):
        sim.submit(replace(_submit(f"r{number}", 10, max_tokens=10), tenant="flood"))
        if number == 3:
            sim.submit(worst)
        for _ in range(4):  # a little less time than these two need
            sim.step()
        if "worst" in sim.ended:
            break
    end = sim.ended["worst"]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH


def test_a_preempted_request_keeps_its_place() -> None:
    """It resumes before those that came after it."""
    sim = _simulation("priority", max_num_seqs=1)
    sim.submit(_submit("first", 10, max_tokens=20))
    sim.step()
    sim.submit(_submit("second", 10))
    sim.submit(_submit("better", 10, priority=-1))
    sim.run()
    ended = [event.request_id for event in sim.log if isinstance(event, Finished)]
    assert ended == ["better", "first", "second"]


def test_a_zombie_turn_commits_nothing() -> None:
    """A turn that is cancelled while a step draws for it gets no token, and its session has none that nobody saw."""
    sim = _simulation(max_num_seqs=2)
    sim.submit(_submit("turn", 20, max_tokens=20, scope=("t", "u")))
    sim.step()
    plan = sim.core.plan(sim.now)
    assert plan is not None
    sim.core.cancel("turn", sim.now)
    told = len(sim.core._ledger._events)
    sim.core.commit(sim._runner.launch(plan)(), {}, sim.now)
    after = sim.core.events()[told:]
    assert not [event for event in after if isinstance(event, TokenOut)]
    (session,) = sim.core._ledger.sessions.idle
    assert len(session.tokens) == 21
    assert sim.core._ledger.memory.computed(session.sequence) <= 21
    sim.core.check()
