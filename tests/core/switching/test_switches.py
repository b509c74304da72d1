"""Context switches as clients see them: what runs meanwhile, what is copied, what is not."""

from collections.abc import Callable
from itertools import groupby

import pytest

from allocator import Direction
from service.core.admission import Budget, Claim
from service.core.messages.commands import Submit
from service.core.messages.events import CopyEnded, CopyStarted, Event, FinishReason, KVDropped, Preempted, Resumed
from service.core.messages.plan import StepPlan
from service.core.policies.ranking import Patience, Ranking
from service.core.scheduler import Scheduler
from service.core.switching.mechanisms import PRESETS, Mechanisms
from service.core.switching.swaps import RETRIES
from service.simulation.copier import Link
from service.simulation.driver import Simulation
from tests.core.bench import BLOCK, Bench

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]


def names(plan: StepPlan) -> set[str]:
    return {row.request_id for row in plan.rows}


def events(sim: Simulation, kind: type[Event]) -> list[Event]:
    return [event for event in sim.log if isinstance(event, kind)]


def blocks(sim: Simulation, direction: str) -> int:
    return sum(event.blocks for event in events(sim, CopyEnded) if event.direction == direction and not event.failed)


def pressed(make: MakeSimulation, submit: MakeSubmit, preset: str, link: Link, **settings: object) -> Simulation:
    """8 blocks: ``small`` and ``low`` run; ``vip`` has come and needs the blocks of ``low``."""
    values = {"device_blocks": 8, "host_blocks": 20, "mechanisms": PRESETS[preset], **settings}
    sim = make("priority", link, **values)
    sim.submit(submit("small", 4, max_tokens=12, priority=1))
    sim.submit(submit("low", 60, max_tokens=30, priority=5))
    sim.step()
    sim.step()
    sim.submit(submit("vip", 80, max_tokens=4, priority=0))
    return sim


def test_others_run_while_a_copy_is_in_flight(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link(block_s=0.6))
    plans = [sim.step() for _ in range(4)]
    assert [len(plan.copies) for plan in plans[:2]] == [1, 0]
    assert [names(plan) for plan in plans] == [{"small"}, {"small"}, {"small", "vip"}, {"small", "vip"}]


@pytest.mark.parametrize("preset", ["vllm-0.3.3", "groups", "groups+reuse"])
def test_a_synchronous_preset_stands_still_until_the_copy_has_ended(
    simulation: MakeSimulation, submit: MakeSubmit, preset: str
) -> None:
    sim = pressed(simulation, submit, preset, Link(block_s=0.6))
    plans = [sim.step() for _ in range(2)]
    assert [names(plan) for plan in plans] == [set(), {"small", "vip"}]


def test_a_preset_without_swapping_drops_and_goes_on(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = pressed(simulation, submit, "vllm-recompute", Link(block_s=0.6))
    assert names(sim.step()) == {"small", "vip"}
    assert {event.reason for event in events(sim, KVDropped)} == {"no_swap"}
    assert not events(sim, CopyStarted)


def test_kv_is_dropped_where_the_host_is_full_and_the_answer_stays_the_same(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link(), host_blocks=2)
    sim.run()
    assert {event.reason for event in events(sim, KVDropped)} == {"host_full"}
    assert sim.ended["low"].usage.recomputed > 0
    alone = simulation()
    alone.submit(submit("low", 60, max_tokens=30))
    alone.run()
    assert sim.answers["low"] == alone.answers["low"]


def test_events_say_when_a_victim_loses_its_slot_and_gets_one_again(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link())
    sim.run()
    turns = [event for event in sim.log if isinstance(event, Preempted | Resumed)]
    assert [(type(event), event.request_id) for event in turns] == [(Preempted, "low"), (Resumed, "low")]
    assert turns[1].parked_s == sim.ended["low"].timings.stall_s > 0


def test_usage_has_the_blocks_that_were_copied_for_a_request(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link())
    sim.run()
    usage = sim.ended["low"].usage
    assert usage.swapped_out == blocks(sim, "out") > 0
    assert usage.swapped_in == blocks(sim, "in") > 0
    assert usage.recomputed == 0


def test_a_slow_copy_for_one_that_waits_preempts_nobody_else(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    """Thrash behind a fence: the blocks under copy are those that the next steps lack, too."""
    sim = simulation("priority", Link(block_s=30.0), device_blocks=40, host_blocks=40, max_num_batched_tokens=640)
    for name in "abcd":
        sim.submit(submit(name, 140, max_tokens=60, priority=5))
    sim.step()
    sim.step()
    sim.submit(submit("vip", 100, max_tokens=2))
    plans = [sim.step() for _ in range(12)]
    assert [names(plan) for plan in plans] == [{"a", "b", "c"}] * 12
    assert events(sim, Preempted) == [Preempted("d", "room")]
    sim.run()
    assert sim.ended["vip"].usage.completion == 2


def test_a_victim_that_returns_before_its_blocks_were_needed_pays_nothing(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", Link(block_s=0.1), device_blocks=10, host_blocks=20, max_num_seqs=1)
    sim.submit(submit("low", 100, max_tokens=10, priority=5))
    while not sim.answers["low"]:
        sim.step()
    sim.submit(submit("vip", 30, max_tokens=2))
    sim.run()
    assert events(sim, Preempted) == [Preempted("low", "slot")]
    assert blocks(sim, "in") == 0
    assert sim.ended["low"].usage.recomputed == 0


def test_a_victim_whose_copy_out_is_still_in_flight_returns_at_once(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link(block_s=5.0))
    sim.step()
    sim.cancel("vip")
    assert names(sim.step()) == {"small", "low"}
    assert sim.core.gauges().copies_in_flight == 1
    sim.run()
    assert blocks(sim, "in") == 0


def switched_twice(simulation: MakeSimulation, submit: MakeSubmit, preset: str) -> list[CopyStarted]:
    sim = pressed(simulation, submit, preset, Link())
    while "vip" not in sim.ended or len(sim.answers["low"]) < 20:
        sim.step()
    sim.submit(submit("vip2", 100, max_tokens=4, priority=0))
    sim.run()
    return [event for event in events(sim, CopyStarted) if event.direction == "out"]


def test_a_copy_survives_the_return_so_that_the_next_swap_out_copies_only_what_is_new(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    *first, second = switched_twice(simulation, submit, "groups+reuse+async")
    assert [(copy.blocks, copy.reused) for copy in first] == [(2, 0), (1, 2), (1, 3)], "as the others grow"
    assert (second.blocks, second.reused) == (2, 3)


def test_without_reuse_the_next_swap_out_copies_all_again(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    first, second = switched_twice(simulation, submit, "groups")
    assert (first.blocks, first.reused) == (4, 0)
    assert (second.blocks, second.reused) == (5, 0)


def test_the_next_turn_of_a_conversation_on_the_host_is_copied_in_and_not_computed_again(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(device_blocks=10, host_blocks=20)
    sim.submit(submit("first", 100, max_tokens=4, scope=("t", "u")))
    sim.run()
    sim.submit(submit("other", 120, max_tokens=2))
    sim.run()
    assert sim.core.gauges().host_blocks_used == 6
    history = [*submit("first", 100).prompt, *sim.answers["first"], 1, 2, 3]
    sim.submit(submit("second", history, max_tokens=4, scope=("t", "u")))
    sim.run()
    usage = sim.ended["second"].usage
    assert (usage.reused, usage.recomputed) == (103, 0)
    assert usage.swapped_in > 0
    assert not events(sim, KVDropped)


def test_a_copy_that_fails_is_tried_again_and_then_its_kv_is_computed_again(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link(block_s=0.1, failure=1.0))
    sim.run()
    ends = [event for event in sim.log if isinstance(event, CopyEnded | KVDropped)]
    assert all(isinstance(event, CopyEnded) and event.failed for event in ends[: RETRIES + 1])
    assert isinstance(ends[RETRIES + 1], KVDropped)
    assert {event.reason for event in events(sim, KVDropped)} == {"copy_failed"}
    usage = sim.ended["low"].usage
    assert usage.completion == 30
    assert usage.swapped_blocks == 0


def scheduler(bench: Bench, **mechanisms: bool) -> Scheduler:
    """First come, first served, without patience."""
    ranking = Ranking(bench.policy, Patience(0, promote_after=4))
    return Scheduler(bench.ledger, ranking, bench.swaps, Budget(tokens=64, rows=8), Claim(30), Mechanisms(**mechanisms))


def teach(bench: Bench, block_s: float, step_s: float, prefill_token_s: float) -> None:
    """What copies in and steps have cost so far."""
    bench.swaps.costs.copy_issued(Direction.IN, 1, 1)
    bench.swaps.costs.copy_ended(Direction.IN, 1, 1, block_s)
    bench.swaps.costs.step_ended(prefill_token_s, 1, 1)
    bench.swaps.costs.step_ended(step_s, 1, 0)


@pytest.mark.parametrize(
    ("block_s", "bystanders", "waits"),
    [(0.1, 1, True), (0.1, 4, True), (0.1, 6, False), (0.6, 1, False)],
    ids=["a short wait for one", "for four", "for six", "a long wait for one"],
)
def test_a_step_waits_for_copies_where_that_costs_less(block_s: float, bystanders: int, waits: bool) -> None:
    """Two are swapped in, four blocks in all: not waiting costs each a step of a second."""
    bench = Bench()
    teach(bench, block_s, step_s=1.0, prefill_token_s=1.0)
    swapping_in = [bench.swapped(2) for _ in range(2)]
    running = [bench.running(1, 8) for _ in range(bystanders)]
    plan = scheduler(bench).plan(0.0)
    assert {ticket.node for ticket in plan.copies} == {request.sequence for request in swapping_in}
    assert names(plan) == (set() if waits else {request.request_id for request in running})


def test_a_large_prefill_before_does_not_make_decodes_wait_for_copies() -> None:
    bench = Bench()
    teach(bench, 0.1, step_s=0.05, prefill_token_s=0.01)
    bench.swaps.costs.step_ended(10.0, 1000, 1000)
    swapping_in, running = bench.swapped(2), bench.running(1, 8)
    plan = scheduler(bench).plan(0.0)
    assert [ticket.node for ticket in plan.copies] == [swapping_in.sequence]
    assert names(plan) == {running.request_id}


def test_a_step_with_a_large_prefill_waits_for_a_short_copy() -> None:
    """It would take 0.064 s longer than the same step of decodes, and one that swaps in would miss all of it."""
    bench = Bench()
    teach(bench, 0.01, step_s=0.01, prefill_token_s=0.001)
    bench.swapped(2)
    bench.running(6, 8).session.tokens = [0] * 90
    assert not scheduler(bench).plan(0.0).rows


def test_kv_is_computed_again_where_the_link_would_take_longer() -> None:
    bench = Bench()
    teach(bench, block_s=1.0, step_s=0.1, prefill_token_s=0.01)
    request = bench.swapped(2)
    plan = scheduler(bench).plan(0.0)
    assert [(row.request_id, row.start, row.num_tokens) for row in plan.rows] == [(request.request_id, 0, 33)]
    assert not plan.copies
    assert bench.events(KVDropped) == [KVDropped("link_busy", 32)]


def test_a_link_that_hung_once_is_tried_again() -> None:
    bench, spared = Bench(), 0
    teach(bench, block_s=0.4, step_s=0.1, prefill_token_s=0.01)
    request = bench.swapped(2)
    while not scheduler(bench).plan(0.0).copies:
        spared += 1
        bench.ledger.finish(request, FinishReason.CANCELLED, 0.0)
        request = bench.swapped(2)
    assert spared == 46  # 0.98 ** 46 * 0.8 s is less than 0.32 s


def test_kv_is_not_given_up_for_a_busy_link_before_there_are_blocks_to_compute_it() -> None:
    bench = Bench(device=10)
    teach(bench, block_s=1.0, step_s=0.1, prefill_token_s=0.01)
    request, leaving = bench.swapped(2), bench.preempted(9)
    bench.swaps.start_swap_out(leaving.session, bench.host_victims([]), leaving)
    bench.ledger.finish(leaving, FinishReason.CANCELLED, 0.0)
    scheduler(bench).plan(0.0)
    assert bench.memory.computed(request.sequence) == 32


def test_the_time_a_switch_took_counts_from_when_a_request_should_have_run(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse", Link(block_s=0.5))
    sim.run()
    resumed = events(sim, Resumed)
    copied = sum(event.seconds for event in events(sim, CopyEnded) if event.direction == "in")
    assert [event.request_id for event in resumed] == ["low"]
    assert resumed[0].switch_s == copied > 0


def test_copies_in_are_tried_again_after_kv_was_computed_for_their_failures() -> None:
    bench = Bench()
    request = bench.swapped(2)
    for _ in range(RETRIES + 1):
        bench.swaps.start_swap_in(request, request.sequence)
        bench.end_copies(failed=True)
    assert scheduler(bench).plan(0.0).rows
    assert bench.events(KVDropped) == [KVDropped("copy_failed", 32)]
    assert bench.swaps.must_recompute(request.sequence) is None


def test_the_block_behind_kv_that_is_swapped_in_is_reserved_for_it() -> None:
    bench = Bench(device=10)
    swapping_in, newcomer = bench.swapped(4), bench.waiting(4 * BLOCK)
    leaving = bench.preempted(2)
    bench.swaps.start_swap_in(swapping_in, swapping_in.sequence)
    bench.swaps.start_swap_out(leaving.session, bench.host_victims([]), leaving)
    bench.ledger.finish(leaving, FinishReason.CANCELLED, 0.0)
    plans = scheduler(bench)
    assert not plans.plan(0.0).rows  # 4 blocks are free, one of them is not the newcomer's
    bench.end_copies()
    assert names(plans.plan(1.0)) == {swapping_in.request_id, newcomer.request_id}


def test_waiting_for_the_copies_of_others_counts_as_part_of_a_switch() -> None:
    bench = Bench()
    ready, swapping_in = bench.preempted(2), bench.swapped(2)
    synchronous = scheduler(bench, asynchronous=False)
    assert not synchronous.plan(1.0).rows
    bench.end_copies()
    bench.events(Resumed)
    synchronous.plan(6.0)
    switched = {event.request_id: event.switch_s for event in bench.events(Resumed)}
    assert switched == {ready.request_id: 5.0, swapping_in.request_id: 5.0}


def test_a_full_batch_gives_a_slot_to_a_higher_rank_and_copies_nothing(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", host_blocks=100, max_num_seqs=2)
    for name in ("a", "b"):
        sim.submit(submit(name, 30, max_tokens=20, priority=5))
    sim.step()
    sim.submit(submit("vip", 10, priority=1))
    assert names(sim.step()) == {"a", "vip"}
    assert events(sim, Preempted) == [Preempted("b", "slot")]
    sim.run()
    assert not events(sim, CopyStarted)


def test_a_slot_is_kept_for_a_quantum_of_steps(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", max_num_seqs=1, patience=Patience(5, promote_after=4))
    sim.submit(submit("low", 4, max_tokens=20, priority=5))
    sim.step()
    sim.submit(submit("vip", 4, priority=1))
    served = [names(sim.step()) for _ in range(5)]
    assert served == [{"low"}] * 4 + [{"vip"}]


def test_a_request_that_is_preempted_again_and_again_then_runs_for_long(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", max_num_seqs=1, patience=Patience(1, promote_after=2))
    sim.submit(submit("low", 4, max_tokens=40, priority=5))
    served = []
    for number in range(10):
        served += [names(sim.step()) for _ in range(2)]
        sim.submit(submit(f"vip{number}", 4, max_tokens=1, priority=1))
    runs = [len(list(run)) for served_ids, run in groupby(served) if served_ids == {"low"}]
    assert runs == [2, 1, Patience(1, promote_after=2).long_quantum]


def test_a_cancel_during_a_copy_ends_the_request_now_and_its_blocks_with_the_copy(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = pressed(simulation, submit, "groups+reuse+async", Link(block_s=0.6))
    copies = sim.step().copies
    for name in ("low", "vip", "small"):
        sim.cancel(name)
        assert name in sim.ended
    assert sim.core.gauges().blocks_used == sum(copy.num_blocks for copy in copies) > 0
    sim.now += 10
    sim.step()
    assert sim.core.gauges().blocks_used == 0
    sim.core.check()
