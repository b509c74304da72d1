"""Turns, sessions, cancellation, refusal."""

from collections.abc import Callable

import pytest

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Refused, SessionDropped, Started, TokenOut
from service.core.messages.plan import Drawn, StepPlan, StepResult
from service.core.messages.sampling import RepetitionDetection
from service.simulation.driver import Simulation
from tests.settings import core_settings, make_policy

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]
SCOPE = ("tenant", "user")


def history(sim: Simulation, request_id: str, prompt: tuple[int, ...]) -> list[int]:
    return [*prompt, *sim.answers[request_id]]


def test_tokens_come_numbered_and_the_last_event_has_the_counts(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    sim.submit(submit("a", 20, max_tokens=3))
    sim.run()
    assert [e.index for e in sim.log if isinstance(e, TokenOut)] == [0, 1, 2]
    last = sim.log[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.prompt, last.usage.completion, last.usage.reused) == ("length", 20, 3, 0)


def test_an_answer_that_repeats_itself_ends_whatever_its_prompt_repeats(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=8), make_policy("fcfs"))
    turn = submit("a", [7] * 20, max_tokens=30, repetition=RepetitionDetection(4, 2, 3))
    assert core.submit(turn, 0.0)
    for drawn in [5, 7, 7, 7, 7, 7, 7, *[None] * 3]:
        plan = core.plan(0.0)
        if plan is None:
            break
        assert drawn is not None
        core.commit(StepResult(plan.number, [Drawn(plan.rows[0].slot, drawn)], 0.0), {}, 0.0)
    last = core.events()[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.completion) == (FinishReason.REPETITION, 7)


def test_timings_are_the_drivers_clock(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_batched_tokens=16)
    sim.submit(submit("a", 32, max_tokens=3))
    sim.run()
    timings = sim.ended["a"].timings
    assert (timings.queue_s, timings.ttft_s, timings.e2e_s) == (0.0, 2.0, 4.0)


def test_the_third_turn_prefills_only_its_new_tokens(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    prompt: tuple[int, ...] = tuple(range(20))
    for turn in range(3):
        name = f"turn{turn}"
        sim.submit(submit(name, list(prompt), scope=SCOPE))
        sim.run()
        usage = sim.ended[name].usage
        assert usage.reused == (0 if turn == 0 else len(prompt) - 7 - 1)  # 7 new tokens; the last answer's has no KV
        prompt = (*history(sim, name, prompt), *range(500, 507))


def test_reuse_changes_no_answer(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    warm, cold = simulation(), simulation()
    first = submit("a", 20, scope=SCOPE)
    warm.submit(first)
    warm.run()
    second = [*history(warm, "a", first.prompt), 7, 8, 9]
    for sim in (warm, cold):
        sim.submit(submit("b", second, scope=SCOPE))
        sim.run()
    assert warm.ended["b"].usage.reused > 0
    assert warm.answers["b"] == cold.answers["b"]


@pytest.mark.parametrize("scope", [None, ("other", "user"), ("tenant", "other")])
def test_a_history_is_never_continued_across_scopes(
    simulation: MakeSimulation, submit: MakeSubmit, scope: tuple[str, str] | None
) -> None:
    sim = simulation()
    first = submit("a", 20, scope=SCOPE)
    sim.submit(first)
    sim.run()
    sim.submit(submit("b", [*history(sim, "a", first.prompt), 1, 2], scope=scope))
    sim.run()
    assert sim.ended["b"].usage.reused == 0


def test_a_busy_session_is_not_continued_and_shares_its_whole_blocks(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, list(range(20)), scope=SCOPE))
    sim.run()
    assert sim.ended["b"].usage.reused == 16
    assert sim.answers["a"] == sim.answers["b"]


def test_an_edited_answer_is_adopted_up_to_the_edit(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    first = submit("a", 20, max_tokens=6, scope=SCOPE)
    sim.submit(first)
    sim.run()
    edited = history(sim, "a", first.prompt)
    edited[22] += 1
    sim.submit(submit("b", [*edited, 1, 2], scope=SCOPE))
    sim.run()
    assert sim.ended["b"].usage.reused == 22


def test_an_edited_question_is_a_branch(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    first = submit("a", 20, scope=SCOPE)
    sim.submit(first)
    sim.run()
    edited = history(sim, "a", first.prompt)
    edited[19] += 1
    sim.submit(submit("b", edited, scope=SCOPE))
    sim.run()
    assert sim.ended["b"].usage.reused == 16


def test_the_same_prompt_again_still_computes_one_token(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    for name in "ab":
        sim.submit(submit(name, list(range(32)), scope=SCOPE))
        sim.run()
    assert sim.ended["b"].usage.reused == 16
    assert sim.answers["a"] == sim.answers["b"]


@pytest.mark.parametrize("steps_before", range(5))
def test_cancel_ends_at_once_and_leaves_no_blocks_behind(
    simulation: MakeSimulation, submit: MakeSubmit, steps_before: int
) -> None:
    sim = simulation()
    sim.submit(submit("a", 100, max_tokens=50))
    for _ in range(steps_before):
        sim.step()
    sim.cancel("a")
    assert sim.ended["a"].reason is FinishReason.CANCELLED
    assert sim.core.gauges().blocks_used == 0
    sim.core.check()
    assert sim.step() is None


def test_rows_cancelled_while_the_step_ran_are_dropped_at_commit(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation()
    sim.submit(submit("a", 10))
    sim.submit(submit("b", 10))
    plan = sim.core.plan(0.0)
    assert plan is not None
    sim.core.cancel("a", 0.0)
    sim.core.commit(StepResult(plan.number, [Drawn(0, 5), Drawn(1, 6)], 1.0), {}, 1.0)
    tokens = [(e.request_id, e.token) for e in sim.core.events() if isinstance(e, TokenOut)]
    assert tokens == [("b", 6)]
    sim.core.check()


def test_cancelling_the_unknown_is_no_error(simulation: MakeSimulation) -> None:
    sim = simulation()
    sim.cancel("unknown")
    assert sim.log == []


def drive_to_token(core: Core, token: int, stopped: dict[str, int]) -> list[object]:
    plan = core.plan(0.0)
    assert plan is not None
    core.commit(
        StepResult(plan.number, [Drawn(row.slot, token) for row in plan.rows if row.draws_token], 0.0), stopped, 0.0
    )
    return list(core.events())


def test_a_stop_token_ends_the_answer_and_counts_as_generated(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=10), make_policy("fcfs"))
    core.submit(submit("a", 5, max_tokens=9, stop_tokens=frozenset({7})), 0.0)
    assert not any(isinstance(e, Finished) for e in drive_to_token(core, 6, {}))
    last = drive_to_token(core, 7, {})[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.completion) == (FinishReason.STOP, 2)


def test_a_stop_string_truncates_the_conversation_to_what_precedes_it(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=10), make_policy("fcfs"))
    prompt = list(range(20))
    core.submit(submit("a", prompt, max_tokens=9, scope=SCOPE), 0.0)
    for token in (11, 12):
        drive_to_token(core, token, {})
    last = drive_to_token(core, 13, {"a": 1})[-1]
    core.check()  # no KV beyond the conversation's end
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.completion) == (FinishReason.STOP, 3)
    core.submit(submit("b", [*prompt, 11, 12, 99], scope=SCOPE), 0.0)
    core.plan(0.0)
    assert [e.reused for e in core.events() if isinstance(e, Started)] == [21]  # with 11: the 12 is forgotten
    core.check()


def test_logits_that_are_not_finite_end_that_request_only(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=10), make_policy("fcfs"))
    core.submit(submit("bad", 5, scope=SCOPE), 0.0)
    core.submit(submit("good", 6, scope=SCOPE), 0.0)
    plan = core.plan(0.0)
    assert plan is not None
    core.commit(StepResult(plan.number, [Drawn(0, 0, invalid=True), Drawn(1, 5)], 0.0), {}, 0.0)
    events = core.events()
    assert [(e.request_id, e.reason) for e in events if isinstance(e, Finished)] == [("bad", FinishReason.ERROR)]
    assert core.gauges().running == 1
    assert core.gauges().idle_sessions == 0
    core.check()


def test_a_failed_step_ends_its_requests_and_trusts_their_kv_no_more(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=10), make_policy("fcfs"))
    core.submit(submit("a", 5, scope=SCOPE), 0.0)
    plan = core.plan(0.0)
    assert plan is not None
    core.abandon(plan.number, 1.0)
    assert [e.reason for e in core.events() if isinstance(e, Finished)] == [FinishReason.ERROR]
    assert core.gauges().blocks_used == core.gauges().idle_sessions == 0
    core.check()


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "code"),
    [
        ([], 1, "invalid_request_error"),
        ([1], 0, "invalid_request_error"),
        (list(range(100)), 61, "kv_capacity_exceeded"),
    ],
)
def test_what_can_never_run_is_refused_at_once(
    simulation: MakeSimulation, submit: MakeSubmit, prompt: list[int], max_tokens: int, code: str
) -> None:
    sim = simulation(device_blocks=10)
    sim.submit(submit("a", prompt, max_tokens=max_tokens))
    refused = sim.ended["a"]
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert sim.step() is None


def test_what_just_fits_runs(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(device_blocks=10)
    sim.submit(submit("a", 100, max_tokens=60))
    sim.run()
    assert sim.ended["a"].usage.completion == 60


def test_a_full_queue_refuses(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_queued_reqs=2, max_num_seqs=1)
    for name in "abc":
        sim.submit(submit(name, 10))
    assert sim.ended["c"].code == "server_overloaded"
    sim.run()
    assert sim.ended.keys() == {"a", "b", "c"}


def test_an_id_under_way_is_refused_and_the_first_goes_on(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation()
    assert sim.core.submit(submit("a", 10), 0.0)
    assert not sim.core.submit(submit("a", 10), 0.0)
    sim.run()
    assert isinstance(sim.ended["a"], Finished)


def test_idle_sessions_expire(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(session_ttl_s=50.0)
    sim.submit(submit("a", 20, scope=SCOPE))
    sim.run()
    expiry = sim.core.next_expiry_s()
    assert expiry == sim.now + 50.0
    sim.now = expiry
    sim.step()
    assert isinstance(sim.log[-1], SessionDropped)
    assert sim.core.gauges().blocks_used == sim.core.gauges().idle_sessions == 0


def test_no_more_idle_sessions_than_allowed(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_idle_sessions=2)
    for name in "abcd":
        sim.submit(submit(name, 20, scope=SCOPE))
    sim.run()
    sim.step()
    assert sim.core.gauges().idle_sessions == 2


def test_the_same_calls_give_the_same_events(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    def trace() -> tuple[list[object], list[StepPlan | None]]:
        sim = simulation(device_blocks=12)
        for name in "abcdef":
            sim.submit(submit(name, 40, max_tokens=12, scope=SCOPE))
        plans = [sim.step() for _ in range(60)]
        return list(sim.log), plans

    assert trace() == trace()


def test_a_step_too_small_for_a_full_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="64 sequences do not fit a step of 63 tokens"):
        core_settings(device_blocks=10, max_num_seqs=64, max_num_batched_tokens=63)


def test_a_slot_that_a_failed_step_opened_is_opened_again(submit: MakeSubmit) -> None:
    core = Core(core_settings(device_blocks=20, max_num_seqs=2, max_num_batched_tokens=16), make_policy("fcfs"))
    core.submit(submit("runs", 40), 0.0)
    core.submit(submit("only opened", 40), 0.0)
    plan = core.plan(0.0)
    assert plan is not None
    assert (len(plan.opened), len(plan.rows)) == (2, 1)
    core.abandon(plan.number, 1.0)
    core.check()
    again = core.plan(2.0)
    assert again is not None
    assert [row.request_id for row in again.rows] == ["only opened"]
    assert [opening.slot for opening in again.opened] == [again.rows[0].slot]
