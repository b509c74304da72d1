"""The threads that execute plans, and who waits for whom."""

import threading
import time
from queue import SimpleQueue

import pytest

from allocator import Extent
from service import device
from service.core.messages.plan import Row, StepPlan, StepResult
from service.core.messages.ports import DirectRunner
from service.device import DeviceThreads

PATIENCE_S = 60


class HeldRunner(DirectRunner):
    """A runner whose steps end when ``go`` is set. ``entered``: the steps that began."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered: SimpleQueue[int] = SimpleQueue()

    def run(self, plan: StepPlan) -> StepResult:
        self.entered.put(plan.number)
        assert self.go.wait(PATIENCE_S)
        return StepResult(plan.number, [], 0.0)

    def poison(self, extents: tuple[Extent, ...]) -> None:
        raise AssertionError("no plan asks for it")


def plan(number: int) -> StepPlan:
    return StepPlan(number, (), (Row(0, 0, None, (), draws_token=True),))


def test_a_step_begins_before_others_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BEGIN_PATIENCE_S", PATIENCE_S)
    runner, reports = HeldRunner(), SimpleQueue()
    threads = DeviceThreads(runner, None, reports.put, time.monotonic)
    threads.start()
    for number in (1, 2):
        threads.execute(plan(number))
        threads.let_begin()
        assert threads._plans.empty()
        runner.go.set()
        assert reports.get(timeout=PATIENCE_S).number == number
    assert threads.stop()


def test_a_device_that_does_not_begin_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BEGIN_PATIENCE_S", 0.001)
    runner, reports = HeldRunner(), SimpleQueue()
    threads = DeviceThreads(runner, None, reports.put, time.monotonic)
    threads.start()
    threads.execute(plan(1))
    assert runner.entered.get(timeout=PATIENCE_S) == 1
    threads.execute(plan(2))
    threads.let_begin()
    assert runner.entered.empty()
    runner.go.set()
    assert [reports.get(timeout=PATIENCE_S).number for _ in range(2)] == [1, 2]
    assert threads.stop()
