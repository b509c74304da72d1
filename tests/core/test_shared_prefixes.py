"""What core decides about prefixes: who computes one, what it counts for, when it goes, and who never sees it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, PrefixDropped, SessionDropped
from service.core.messages.plan import StepPlan
from service.core.switching.mechanisms import PRESETS
from service.simulation.copier import Link
from service.simulation.driver import Simulation

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]
SCOPE = ("tenant",)
SYSTEM = list(range(64))  # four blocks


def reused(sim: Simulation, name: str) -> int:
    end = sim.ended[name]
    assert isinstance(end, Finished)
    return end.usage.reused


def rows(plan: StepPlan | None) -> dict[str, tuple[int, int]]:
    """Return where each request's row begins and how many tokens it has."""
    assert plan is not None
    return {row.request_id: (row.start, row.num_tokens) for row in plan.rows}


def test_sixty_four_prompts_at_once_compute_and_hold_their_system_prompt_once(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    system = [number % 251 for number in range(2000)]
    blocks = 8 * 126 + 64
    sim = simulation(device_blocks=blocks, max_num_seqs=64, max_num_batched_tokens=512)
    for number in range(64):
        sim.submit(submit(f"r{number}", [*system, number, 7], max_tokens=20, scope=SCOPE))
    computed, most = 0, 0
    while (plan := sim.step()) is not None:
        computed += sum(row.num_tokens for row in plan.rows if row.tokens is not None)
        most = max(most, sim.core.gauges().running)
        assert sim.core.gauges().blocks_used <= 125 + 64 * 2
        sim.core.check()
    assert most == 64
    assert computed == 2000 + 64 * 2
    sim.submit(submit("later", [*system, 99, 7], scope=SCOPE))
    assert rows(sim.step()) == {"later": (2000, 2)}
    sim.run()


def test_without_sharing_the_same_memory_holds_eight(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    """The control of the test above."""
    system = [number % 251 for number in range(2000)]
    sim = simulation(device_blocks=8 * 126 + 64, max_num_seqs=64, max_num_batched_tokens=512)
    for number in range(64):
        sim.submit(submit(f"r{number}", [*system, number, 7], max_tokens=20))
    most = 0
    while sim.step() is not None:
        most = max(most, sim.core.gauges().running)
    assert most == 8


def test_the_best_in_rank_computes_and_the_others_wait(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", max_num_batched_tokens=16)
    sim.submit(submit("low", [*SYSTEM, 1], priority=2, scope=SCOPE))
    assert rows(sim.step()) == {"low": (0, 16)}
    sim.submit(submit("high", [*SYSTEM, 2], priority=0, scope=SCOPE))
    sim.submit(submit("middle", [*SYSTEM, 3], priority=1, scope=SCOPE))
    assert rows(sim.step()) == {"high": (16, 16)}  # from where the other stood
    sim.cancel("high")
    assert rows(sim.step()) == {"middle": (32, 16)}
    sim.run()
    assert reused(sim, "middle") == 32
    assert reused(sim, "low") == 48  # all that others have computed


def test_a_row_never_reads_what_another_row_of_its_step_computes(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(max_num_batched_tokens=64)
    for name in "ab":
        sim.submit(submit(name, [*SYSTEM[:32], ord(name)], scope=SCOPE))
    assert rows(sim.step()) == {"a": (0, 33)}
    assert rows(sim.step()) == {"a": (33, 1), "b": (32, 1)}


def test_choices_of_one_prompt_share_it(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    for number in range(4):
        sim.submit(submit(f"c{number}", [*SYSTEM, 1, 2], scope=SCOPE))
    sim.run()
    assert [reused(sim, f"c{number}") for number in range(4)] == [0, 64, 64, 64]
    assert sim.core.gauges().blocks_used == sim.core.gauges().prefix_blocks == 4


def test_a_branch_leaves_the_conversation_where_it_is(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("first", [*SYSTEM, 1], max_tokens=20, scope=SCOPE))
    sim.run()
    said = [*SYSTEM, 1, *sim.answers["first"]]
    sim.submit(submit("again", [*SYSTEM, 1], max_tokens=20, scope=SCOPE))  # another answer, please
    sim.run()
    sim.submit(submit("edited", [*SYSTEM[:40], 7, 7], scope=SCOPE))
    sim.run()
    sim.submit(submit("on", [*said, 5], scope=SCOPE))
    sim.run()
    assert (reused(sim, "again"), reused(sim, "edited"), reused(sim, "on")) == (64, 32, len(said) - 1)
    sim.core.check()


@pytest.mark.parametrize("other", [("tenant", "user"), ("another",), None])
def test_nothing_is_shared_across_scopes(
    simulation: MakeSimulation, submit: MakeSubmit, other: tuple[str, ...] | None
) -> None:
    sim = simulation()
    for name, scope in (("mine", SCOPE), ("theirs", other)):
        sim.submit(submit(name, [*SYSTEM, 1], scope=scope))
    sim.run()
    assert reused(sim, "theirs") == 0
    assert sim.core.gauges().prefixes == 0


def test_blocks_come_from_prefixes_nobody_holds_before_idle_conversations(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(device_blocks=16, host_blocks=0, mechanisms=PRESETS["vllm-recompute"], session_ttl_s=1000)
    for name in "ab":
        sim.submit(submit(name, [*SYSTEM, ord(name)], session=name, scope=SCOPE))
        sim.run()
    sim.submit(submit("idle", [9] * 64, scope=SCOPE))
    sim.run()
    for name in "ab":
        sim.close_session(name)
    assert sim.core.gauges().prefixes == 1
    sim.log.clear()
    sim.submit(submit("new", [8] * 160))
    sim.run()
    assert [event for event in sim.log if isinstance(event, PrefixDropped | SessionDropped)] == [
        PrefixDropped("room", 64)
    ]


def test_a_prefix_nobody_holds_expires(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(session_ttl_s=100)
    for name in "ab":
        sim.submit(submit(name, [*SYSTEM, ord(name)], session=name, scope=SCOPE))
        sim.run()
        sim.close_session(name) if name == "b" else None
    sim.close_session("a")
    assert sim.core.gauges().blocks_used == 4
    expiry = sim.core.next_expiry_s()
    assert expiry is not None
    sim.now = expiry
    sim.step()
    assert sim.log[-1] == PrefixDropped("expired", 64)
    assert sim.core.gauges().blocks_used == sim.core.gauges().prefixes == 0


def test_a_prefix_is_swapped_out_once_and_in_once_for_all_on_it(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", device_blocks=14, host_blocks=40, link=Link(block_s=0.01))
    for name in "abc":
        sim.submit(submit(name, [*SYSTEM, ord(name)], max_tokens=30, priority=1, scope=SCOPE))
    for _ in range(6):
        sim.step()
    sim.submit(submit("first", [5] * 200, max_tokens=4, priority=0))
    sim.run()
    ends = {name: sim.ended[name] for name in "abc"}
    assert all(isinstance(end, Finished) and end.reason is FinishReason.LENGTH for end in ends.values())
    copied_in = sum(end.usage.swapped_in for end in ends.values() if isinstance(end, Finished))
    assert 0 < copied_in <= 4 + 3 * 3  # the prefix's four blocks once, and each tail
    sim.core.check()


def test_what_is_under_copy_is_not_split_and_shared_when_the_copy_has_ended(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation("priority", device_blocks=16, host_blocks=40, max_num_seqs=3, link=Link(block_s=1.0))
    sim.submit(submit("a", [*SYSTEM, 1, *range(100, 180)], max_tokens=8, priority=1, scope=SCOPE))
    for _ in range(4):
        sim.step()
    sim.submit(submit("b", [5] * 128, max_tokens=4, priority=0))
    sim.step()
    assert sim.core.gauges().copies_in_flight
    sim.submit(submit("c", [*SYSTEM, 2], priority=2, scope=SCOPE))
    assert sim.core._placement.num_deferred == 1
    sim.run()
    assert reused(sim, "c") == 64
    sim.core.check()


def test_a_failed_step_spares_a_prefix_that_it_only_read(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, [*SYSTEM, ord(name)], max_tokens=20, scope=SCOPE))
    for _ in range(4):
        sim.step()
    plan = sim.core.plan(sim.now)
    assert plan is not None
    sim.core.abandon(plan.number, sim.now)
    sim._observe()
    assert {name: sim.ended[name].reason for name in "ab"} == dict.fromkeys("ab", FinishReason.ERROR)  # type: ignore[union-attr]
    sim.submit(submit("c", [*SYSTEM, 3], scope=SCOPE))
    sim.run()
    assert reused(sim, "c") == 64


def test_a_prefix_under_logits_that_are_not_finite_is_not_found_again(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, [*SYSTEM, ord(name)], max_tokens=20, scope=SCOPE))
    for _ in range(4):
        sim.step()
    plan = sim.core.plan(sim.now)
    assert plan is not None
    result = sim._runner.launch(plan)()
    drawn = [replace(each, invalid=number == 0) for number, each in enumerate(result.drawn)]
    sim.core.commit(replace(result, drawn=drawn), {}, sim.now)
    sim._observe()
    sim.submit(submit("c", [*SYSTEM, 3], scope=SCOPE))
    sim.run()
    assert isinstance(sim.ended["b"], Finished)
    assert sim.ended["b"].reason is FinishReason.LENGTH
    assert reused(sim, "c") == 0
    sim.core.check()
