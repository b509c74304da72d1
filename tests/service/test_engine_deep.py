"""The loop a step ahead of the device: depth 1."""

import queue
from collections.abc import Callable
from itertools import count

import pytest

from service.core.messages.events import Finished, FinishReason, TokenOut
from service.core.messages.plan import StepPlan, StepResult
from service.errors import DeviceLostError, DeviceMemoryError, OutOfMemoryError, RequestError
from service.simulation.runner import SimulatedRunner
from tests.service.conftest import PATIENCE_S, Inbox, Start, turn


class Device(SimulatedRunner):
    """A data plane whose results come when they are released, and which can be made to fail."""

    def __init__(self) -> None:
        super().__init__(200, depth=1)
        self.launched: queue.Queue[int] = queue.Queue()
        self.failing: dict[int, Exception] = {}  # by the number of the launch
        self._results: queue.Queue[None] = queue.Queue()
        self._count = count(1)

    def let_out(self, steps: int = 1000) -> None:
        """Release the next results."""
        for _ in range(steps):
            self._results.put(None)

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        result = self.run(plan)
        error = self.failing.get(next(self._count))
        self.launched.put(plan.number)

        def wait() -> StepResult:
            self._results.get(timeout=PATIENCE_S)
            if error is not None:
                raise error
            return result

        return wait


def test_the_next_step_is_launched_before_the_result_is_known_and_no_more(start: Start) -> None:
    device = Device()
    engine, inbox = start(device)
    engine.post(turn("a", max_tokens=5))
    assert [device.launched.get(timeout=PATIENCE_S) for _ in range(2)] == [1, 2]
    assert device.launched.empty()
    device.let_out(1)
    assert device.launched.get(timeout=PATIENCE_S) == 3
    device.let_out()
    inbox.until_ended("a")
    assert device.launched.qsize() == 2  # five tokens are five steps: none was launched for nothing


def test_answers_are_those_of_a_shallow_engine(start: Start) -> None:
    answers = []
    for runner in (SimulatedRunner(200), SimulatedRunner(200, depth=1)):
        engine, inbox = start(runner)
        for name, length in [("a", 7), ("b", 1), ("c", 30)]:
            engine.post(turn(name, max_tokens=length))
        inbox.until_ended("a", "b", "c")
        answers.append([tokens(inbox, name) for name in "abc"])
    assert answers[0] == answers[1]


def tokens(inbox: Inbox, name: str) -> list[int]:
    return [output.event.token for output in inbox.outputs[name] if isinstance(output.event, TokenOut)]


def test_a_failed_step_takes_along_those_launched_on_top_and_the_engine_goes_on(start: Start) -> None:
    device = Device()
    device.failing[2] = RuntimeError("a kernel failed")
    engine, inbox = start(device)
    engine.post(turn("unlucky", max_tokens=9))
    for _ in range(2):
        device.launched.get(timeout=PATIENCE_S)
    device.let_out()
    inbox.until_ended("unlucky")
    assert inbox.last("unlucky").reason is FinishReason.ERROR
    assert len(tokens(inbox, "unlucky")) == 1  # the third step went on from a token that was never drawn
    engine.post(turn("lucky", max_tokens=9))
    inbox.until_ended("lucky")
    assert inbox.last("lucky").reason is FinishReason.LENGTH
    assert engine.failed is None


NO_MEMORY = DeviceMemoryError("cuda:0", asked=None, free=0, total=1)


@pytest.mark.parametrize(
    ("failure", "reported"), [(RuntimeError("private"), None), (NO_MEMORY, OutOfMemoryError(NO_MEMORY.message))]
)
def test_a_step_that_cannot_be_launched_fails_after_those_before_it(
    start: Start, failure: Exception, reported: RequestError | None
) -> None:
    class Refuses(Device):
        def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
            if plan.number == 2:
                self.launched.put(plan.number)
                raise failure
            return super().launch(plan)

    device = Refuses()
    engine, inbox = start(device)
    engine.post(turn("a"))
    for _ in range(2):
        device.launched.get(timeout=PATIENCE_S)
    device.let_out()
    inbox.until_ended("a")
    assert inbox.last("a").reason is FinishReason.ERROR
    error = inbox.outputs["a"][-1].error
    assert (type(error), error and error.message) == (type(reported), reported and reported.message)
    assert len(tokens(inbox, "a")) == 1
    assert engine.failed is None


def test_a_lost_device_is_the_end(start: Start) -> None:
    device = Device()
    device.failing[1] = DeviceLostError("cuda:0 is lost")
    device.let_out()
    engine, inbox = start(device)
    engine.post(turn("a"))
    while inbox.batches.get(timeout=PATIENCE_S):
        pass
    assert engine.failed is device.failing[1]
    assert not any(isinstance(output.event, Finished) for output in inbox.outputs["a"])
