"""Plans: budgets, ranks and victims."""

from collections.abc import Callable

from service.core.messages.commands import Submit
from service.core.messages.events import Finished, Preempted, Resumed
from service.core.messages.plan import StepPlan
from service.simulation.driver import Simulation

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]


def rows(plan: StepPlan) -> dict[str, tuple[int, int]]:
    return {row.request_id: (row.start, row.num_tokens) for row in plan.rows}


def test_a_prompt_is_prefilled_in_chunks_of_the_token_budget(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_batched_tokens=64)
    sim.submit(submit("a", 150))
    plans = [sim.step() for _ in range(4)]
    assert [rows(p)["a"] for p in plans] == [(0, 64), (64, 64), (128, 22), (150, 1)]
    assert [p.rows[0].draws_token for p in plans] == [False, False, True, True]


def test_decodes_go_before_prefill_and_the_rest_of_the_budget_is_shared_by_rank(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(max_num_batched_tokens=64)
    sim.submit(submit("a", 10, max_tokens=20))
    sim.step()
    sim.submit(submit("b", 50))
    sim.submit(submit("c", 50))
    assert rows(sim.step()) == {"a": (10, 1), "b": (0, 50), "c": (0, 13)}


def test_no_step_exceeds_its_budget_and_runs_no_request_twice(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_batched_tokens=16, max_num_seqs=4)
    for name in "abcdefgh":
        sim.submit(submit(name, 37, max_tokens=9))
    while plan := sim.step():
        assert plan.num_tokens <= 16
        assert len(plan.rows) <= 4
        assert len({row.slot for row in plan.rows}) == len(plan.rows)
    assert len(sim.ended) == 8


def test_a_higher_priority_takes_the_slot_of_a_lower_one_when_the_batch_is_full(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", max_num_seqs=2)
    for name in "ab":
        sim.submit(submit(name, 10, max_tokens=20, priority=5))
    sim.step()
    sim.submit(submit("vip", 10, priority=1))
    assert set(rows(sim.step())) == {"a", "vip"}
    assert Preempted("b", "slot") in sim.log
    sim.run()
    assert any(isinstance(event, Resumed) and event.request_id == "b" for event in sim.log)


def test_an_equal_priority_never_preempts(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", max_num_seqs=1)
    sim.submit(submit("a", 10, max_tokens=10))
    sim.step()
    sim.submit(submit("b", 10))
    sim.run()
    assert not any(isinstance(event, Preempted) for event in sim.log)


def test_a_preempted_request_that_resumes_before_its_blocks_are_needed_pays_nothing(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", max_num_seqs=1)
    sim.submit(submit("a", 30, max_tokens=10, priority=5))
    sim.step()
    sim.submit(submit("vip", 10, max_tokens=2))
    sim.run()
    usage = sim.ended["a"].usage
    assert (usage.preemptions, usage.recomputed) == (1, 0)


def test_a_higher_priority_takes_blocks_and_the_victim_recomputes_only_what_it_lost(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", device_blocks=10)
    sim.submit(submit("a", 100, max_tokens=20, priority=5))
    sim.step()
    sim.step()
    sim.submit(submit("vip", 60, max_tokens=4))
    sim.step()
    assert Preempted("a", "room") in sim.log
    sim.run()
    usage = sim.ended["a"].usage
    assert 0 < usage.recomputed < 100
    assert usage.completion == 20


def test_growth_never_takes_from_those_above(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(device_blocks=8, max_num_batched_tokens=128)
    for name in "abcd":
        sim.submit(submit(name, 16, max_tokens=64))
    sim.run()
    finished = [event.request_id for event in sim.log if isinstance(event, Finished)]
    assert finished[0] == "a"
    assert sim.ended["a"].usage.preemptions == 0
    assert all(event.usage.completion == 64 for event in sim.ended.values())


def test_idle_sessions_give_way_before_anyone_live(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(device_blocks=10)
    sim.submit(submit("old", 100, scope=("t", "u")))
    sim.run()
    sim.submit(submit("new", 100))
    sim.run()
    assert sim.ended["new"].usage.preemptions == 0
    assert sim.core.gauges().idle_sessions == 1
    sim.submit(submit("newer", 150))
    sim.run()
    assert sim.core.gauges().idle_sessions == 0


def test_a_newcomer_waits_unless_those_running_can_grow_by_a_block(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(device_blocks=4)
    sim.submit(submit("a", 30))
    sim.submit(submit("b", 30))
    assert set(rows(sim.step())) == {"a"}


def test_those_running_may_fill_memory_to_the_last_block(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(device_blocks=4)
    for name in "ab":
        sim.submit(submit(name, 10, max_tokens=22))
    sim.run()
    assert not any(isinstance(event, Preempted) for event in sim.log)


def test_the_request_preempted_longer_gives_up_kv_first(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", device_blocks=10, max_num_seqs=1)
    for name, priority in (("low", 5), ("middle", 3)):
        sim.submit(submit(name, 48, max_tokens=10, priority=priority))
        sim.step()
    sim.submit(submit("high", 70, priority=1))
    sim.run()
    assert sim.ended["middle"].usage.recomputed == 0
    assert sim.ended["low"].usage.recomputed > 0
