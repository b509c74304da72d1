"""The loop, on real threads, with the simulated data plane."""

import threading
from collections import defaultdict
from collections.abc import Callable

import pytest

from allocator import Ticket
from service.core.messages.commands import Cancel
from service.core.messages.events import Finished, FinishReason, Refused, TokenOut
from service.core.messages.plan import CopyResult, Drawn, StepPlan, StepResult
from service.core.messages.ports import DirectRunner
from service.core.policies.ranking import Patience
from service.core.switching.mechanisms import PRESETS
from service.execution.models.tokenizer import Tokenizer
from service.simulation.runner import SimulatedRunner
from tests.service.conftest import PATIENCE_S, Start, turn


class Scripted(DirectRunner):
    """A data plane that answers every request with the same tokens."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._said: dict[int, int] = defaultdict(int)

    def run(self, plan: StepPlan) -> StepResult:
        drawn = []
        for row in plan.rows:
            if row.draws_token:
                drawn.append(Drawn(row.slot, self._tokens[self._said[row.slot]]))
                self._said[row.slot] += 1
        return StepResult(plan.number, drawn, 0.0)


def test_answers_stream_out_and_end_with_the_counts(start: Start, tokenizer: Tokenizer) -> None:
    text = "Hello there!"
    tokens = tokenizer.encode(text)
    engine, inbox = start(Scripted(tokens))
    engine.post(turn("a", max_tokens=len(tokens)))
    inbox.until_ended("a")
    assert inbox.text("a") == text
    assert [o.event.token for o in inbox.outputs["a"] if isinstance(o.event, TokenOut)] == tokens
    last = inbox.last("a")
    assert isinstance(last, Finished)
    assert (last.reason, last.usage.completion) == (FinishReason.LENGTH, len(tokens))


def test_a_stop_string_ends_the_answer_before_it(start: Start, tokenizer: Tokenizer) -> None:
    engine, inbox = start(Scripted(tokenizer.encode("one two three four five six seven eight nine")))
    engine.post(turn("a", max_tokens=30, stop=("four",)))
    inbox.until_ended("a")
    assert inbox.text("a") == "one two three "
    assert inbox.last("a").reason is FinishReason.STOP


def test_text_held_back_for_a_stop_string_comes_with_the_end(start: Start, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("one two fo")
    engine, inbox = start(Scripted(tokens))
    engine.post(turn("a", max_tokens=len(tokens), stop=("four",)))
    inbox.until_ended("a")
    assert inbox.text("a") == "one two fo"


def test_the_last_to_leave_shows_in_the_gauges(start: Start) -> None:
    """No step that could report it follows a cancel that arrives after a step's commit."""
    engine, inbox = start(SimulatedRunner(200))
    engine.post(turn("a", max_tokens=700))
    engine.post(Cancel("a"))
    while not inbox.gauges:
        inbox.hear()
    last = inbox.gauges[-1]
    assert (last.running, last.waiting, last.blocks_used) == (0, 0, 0)


def test_a_stop_token_has_no_text(start: Start, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("bye<|im_end|>")
    engine, inbox = start(Scripted(tokens))
    engine.post(turn("a", max_tokens=30, stop_tokens=frozenset(tokens[-1:])))
    inbox.until_ended("a")
    assert inbox.text("a") == "bye"
    assert inbox.last("a").reason is FinishReason.STOP


def test_many_turns_from_many_threads_all_end(start: Start) -> None:
    engine, inbox = start(SimulatedRunner(200))
    names = [f"r{i}" for i in range(60)]
    posters = [threading.Thread(target=lambda part=names[i::6]: [engine.post(turn(n)) for n in part]) for i in range(6)]
    for poster in posters:
        poster.start()
    inbox.until_ended(*names)
    assert len({tuple(o.event.token for o in inbox.outputs[n] if isinstance(o.event, TokenOut)) for n in names}) == 1


def test_a_cancel_ends_a_long_answer(start: Start) -> None:
    engine, inbox = start(SimulatedRunner(200))
    engine.post(turn("a", max_tokens=700))
    engine.post(Cancel("a"))
    inbox.until_ended("a")
    assert inbox.last("a").reason is FinishReason.CANCELLED


def test_what_core_refuses_is_reported_and_the_engine_goes_on(start: Start) -> None:
    engine, inbox = start(SimulatedRunner(200))
    engine.post(turn("large", max_tokens=5000))
    engine.post(turn("small"))
    inbox.until_ended("large", "small")
    assert inbox.last("large").code == "kv_capacity_exceeded"
    assert inbox.last("small").usage.completion == 5


def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on(start: Start) -> None:
    class FailsOnce(SimulatedRunner):
        def run(self, plan: StepPlan) -> StepResult:
            if plan.number == 1:
                raise RuntimeError("device lost its mind")
            return super().run(plan)

    engine, inbox = start(FailsOnce(200))
    engine.post(turn("unlucky"))
    inbox.until_ended("unlucky")
    engine.post(turn("lucky"))
    inbox.until_ended("lucky")
    assert inbox.last("unlucky").reason is FinishReason.ERROR
    assert inbox.last("lucky").reason is FinishReason.LENGTH
    assert engine.failed is None


def test_a_broken_core_says_so_and_calls_the_listener_a_last_time(start: Start) -> None:
    class Forgets(SimulatedRunner):
        def run(self, plan: StepPlan) -> StepResult:
            return StepResult(plan.number + 1, [], 0.0)  # an answer to a question that was never asked

    engine, inbox = start(Forgets(200))
    engine.post(turn("a"))
    while inbox.batches.get(timeout=PATIENCE_S):
        pass
    assert engine.failed is not None


def test_every_step_is_accounted_for(start: Start) -> None:
    engine, inbox = start(SimulatedRunner(200))
    engine.post(turn("a", max_tokens=4))
    inbox.until_ended("a")
    engine.post(turn("b", max_tokens=1))
    inbox.until_ended("b")
    steps = inbox.steps[:4]
    assert [(step.prefill_tokens, step.decode_tokens) for step in steps] == [(3, 0), (0, 1), (0, 1), (0, 1)]
    assert steps[0].idle_s == 0.0
    assert all(step.idle_s > 0 for step in steps[1:])


class Stuck(DirectRunner):
    """A data plane that hangs until it is released."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self._inner = SimulatedRunner(200)

    def run(self, plan: StepPlan) -> StepResult:
        self.entered.set()
        self.go_on.wait()
        return self._inner.run(plan)


def test_the_age_of_a_step_is_known_while_it_runs(start: Start) -> None:
    stuck = Stuck()
    engine, inbox = start(stuck)
    assert engine.step_age_s == 0
    engine.post(turn("a"))
    assert stuck.entered.wait(PATIENCE_S)
    assert 0 < engine.step_age_s < engine.step_age_s
    stuck.go_on.set()
    inbox.until_ended("a")
    assert engine.step_age_s == 0


def test_a_device_that_hangs_does_not_keep_the_engine_from_stopping(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.device.STOP_PATIENCE_S", 0.01)
    stuck = Stuck()
    engine, _ = start(stuck)
    engine.post(turn("a"))
    assert stuck.entered.wait(PATIENCE_S)
    engine.stop()
    stuck.go_on.set()


class HungCopier:
    """A copier none of whose copies ever ends."""

    def __init__(self) -> None:
        self.submitted: list[Ticket] = []

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """See `Copier`."""

    def submit(self, ticket: Ticket) -> None:
        """See `Copier`."""
        self.submitted.append(ticket)

    def stop(self) -> None:
        """See `Copier`."""


def test_a_wait_ends_in_time_though_nothing_else_happens(start: Start) -> None:
    """B waits for a copy of A's KV that hangs: no step and no end of a copy wakes the engine."""
    stuck, copier = Stuck(), HungCopier()
    sizes = {"device_blocks": 5, "host_blocks": 20, "max_num_seqs": 1, "queue_timeout_s": 0.05}
    engine, inbox = start(
        stuck, copier, "priority", **sizes, mechanisms=PRESETS["groups+reuse"], patience=Patience(0, 4)
    )
    engine.post(turn("a", prompt=70, priority=1))
    assert stuck.entered.wait(PATIENCE_S)
    engine.post(turn("b", prompt=60, priority=0, stop=("x",)))
    stuck.go_on.set()
    inbox.until_ended("b")
    assert copier.submitted
    last = inbox.last("b")
    assert isinstance(last, Refused)
    assert last.code == "queue_timeout"
    assert "b" not in engine._turns
