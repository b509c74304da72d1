"""How many may wait, for how long, and what a refusal says about coming back."""

from collections.abc import Callable

from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Preempted, Refused
from service.core.state.service_rate import UNKNOWN_RETRY_S
from service.simulation.driver import Simulation

MakeSimulation = Callable[..., Simulation]
MakeSubmit = Callable[..., Submit]
SCOPE = ("tenant", "user")


def refusal(sim: Simulation, request_id: str) -> Refused:
    end = sim.ended[request_id]
    assert isinstance(end, Refused)
    return end


def test_a_full_queue_says_when_it_will_have_a_place(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_queued_reqs=2, max_num_seqs=1)
    for name in ("a", "b", "early"):
        sim.submit(submit(name, 10, max_tokens=6))
    assert refusal(sim, "early").retry_after_s == UNKNOWN_RETRY_S
    for _ in range(7):  # a runs for 6 steps of a second, then b starts
        sim.step()
    for name in ("c", "d", "late"):
        sim.submit(submit(name, 10))
    late = refusal(sim, "late")
    assert (late.code, late.retry_after_s) == ("server_overloaded", 6.0)
    assert "2 requests are waiting, the limit is 2" in late.message
    sim.run()
    assert all(isinstance(sim.ended[name], Finished) for name in "abcd")


def test_prompt_tokens_that_wait_are_bounded(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_queued_tokens=100, max_num_seqs=1)
    sim.submit(submit("a", 40))
    sim.submit(submit("b", 60))
    sim.submit(submit("c", 1))
    assert refusal(sim, "c").code == "server_overloaded"
    assert "100 prompt tokens are waiting and 1 more" in refusal(sim, "c").message
    sim.step()  # a starts, and its tokens count no more
    sim.submit(submit("d", 40))
    sim.run()
    assert isinstance(sim.ended["d"], Finished)


def test_a_prompt_above_the_limit_may_wait_alone(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_queued_tokens=100)
    sim.submit(submit("long", 500))
    sim.submit(submit("short", 1))
    assert refusal(sim, "short").code == "server_overloaded"
    sim.run()
    assert isinstance(sim.ended["long"], Finished)


def test_prompt_tokens_served_lately_say_when_there_is_room_for_more(
    simulation: MakeSimulation, submit: MakeSubmit
) -> None:
    sim = simulation(max_num_queued_tokens=100, max_num_seqs=1)
    sim.submit(submit("a", 10, max_tokens=10))
    sim.submit(submit("b", 50))
    for _ in range(11):  # b starts after 10 s: 5 tokens a second
        sim.step()
    sim.submit(submit("c", 90))
    sim.submit(submit("d", 60))
    assert refusal(sim, "d").retry_after_s == 10.0


def test_only_waiting_counts_for_the_rate(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_seqs=1)
    for name in "abc":
        sim.submit(submit(name, 10))
        sim.run()
    assert sim.core.gauges().seconds_per_start is None


def test_who_waits_too_long_is_refused_and_the_others_go_on(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_seqs=1, queue_timeout_s=5.0)
    sim.submit(submit("runs", 10, max_tokens=8))
    sim.step()
    sim.submit(submit("waits", 10))
    for _ in range(3):
        sim.step()
    sim.submit(submit("comes later", 10))
    sim.run()
    late = refusal(sim, "waits")
    assert (late.code, late.retry_after_s) == ("queue_timeout", UNKNOWN_RETRY_S)
    assert late.message == "the request waited 5.0 s, the limit is 5 s"
    assert sim.ended["runs"].reason is sim.ended["comes later"].reason is FinishReason.LENGTH
    assert sim.core.gauges().blocks_used == 0
    sim.core.check()


def test_the_deadline_is_a_reason_to_plan(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_seqs=1, queue_timeout_s=5.0)
    assert sim.core.next_expiry_s() is None
    sim.submit(submit("a", 10, max_tokens=3))
    sim.submit(submit("b", 10, max_tokens=8))
    assert sim.core.next_expiry_s() == 5.0
    sim.step()
    sim.cancel("b")
    assert sim.core.next_expiry_s() is None


def test_a_session_whose_next_turn_waited_too_long_keeps_its_kv(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_seqs=1, queue_timeout_s=5.0)
    sim.submit(submit("first", 40, scope=SCOPE))
    sim.run()
    said = [*submit("first", 40).prompt, *sim.answers["first"]]
    sim.submit(submit("other", 10, max_tokens=20))
    sim.step()
    sim.submit(submit("second", [*said, 1], scope=SCOPE))
    sim.run()
    assert refusal(sim, "second").code == "queue_timeout"
    sim.submit(submit("again", [*said, 1], scope=SCOPE))
    sim.run()
    assert sim.ended["again"].usage.reused == 32


def test_who_was_preempted_has_started_and_never_times_out(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation("priority", max_num_seqs=1, queue_timeout_s=5.0)
    sim.submit(submit("low", 10, max_tokens=6, priority=1))
    sim.step()
    sim.submit(submit("high", 10, max_tokens=20))
    sim.run()
    assert any(isinstance(event, Preempted) for event in sim.log)
    assert sim.ended["low"].timings.stall_s > 5.0
    assert sim.ended["low"].reason is FinishReason.LENGTH


def test_an_id_may_be_used_again_after_its_session_was_closed(simulation: MakeSimulation, submit: MakeSubmit) -> None:
    sim = simulation(max_num_seqs=1, queue_timeout_s=5.0)
    sim.submit(submit("runs", 10, max_tokens=20))
    sim.step()
    sim.submit(submit("a", 10, session="s"))
    sim.submit(submit("b", 10))
    sim.close_session("s")
    sim.now += 2
    sim.submit(submit("a", 10))
    while "a" not in sim.ended or isinstance(sim.ended["a"], Finished):
        sim.step()
    assert refusal(sim, "b").message.startswith("the request waited 5.0 s")
    assert refusal(sim, "a").message.startswith("the request waited 5.0 s")
