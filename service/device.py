"""The threads that execute plans.

The *device thread* takes plans in order: it poisons freed blocks if asked to, starts the plan's copies and launches its
step, so that a copy comes after everything that earlier steps wrote. Where the runner's depth is 0, it computes the
step too. Otherwise the *results thread* waits for results, in the order of their steps, while later steps are launched.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from service.core.messages.plan import StepPlan, StepResult
from service.core.messages.ports import Copier, Runner

STOP_PATIENCE_S = 5.0  # for the step under way
BEGIN_PATIENCE_S = 0.01  # for a thread to wake on a busy machine


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step raised ``error`` and has no result."""

    number: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Broken:
    """The device thread cannot go on, because of a bug in the runner or in the copier."""

    error: Exception


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A step that was launched; ``result`` waits for what it computes."""

    number: int
    result: Callable[[], StepResult]


class _Stop:
    """Asks a thread to end."""


class DeviceThreads:
    """The threads that call a runner and a copier. They call ``report`` with what comes of each step.

    ``submit_s``: seconds spent on starting copies so far. The threads are daemons, because a device that hangs must not
    keep the process alive.
    """

    def __init__(
        self,
        runner: Runner,
        copier: Copier | None,
        report: Callable[[StepResult | StepFailed | Broken], None],
        clock: Callable[[], float],
    ) -> None:
        self.submit_s = 0.0
        self._runner = runner
        self._copier = copier
        self._report = report
        self._clock = clock
        self._plans: SimpleQueue[StepPlan | _Stop] = SimpleQueue()
        self._begun = threading.Event()  # the plan handed over last was taken
        self._awaited: SimpleQueue[_Awaited | _Stop] = SimpleQueue()
        self._launches = threading.Thread(target=self._run_plans, name="device", daemon=True)
        self._results = threading.Thread(target=self._wait_for_results, name="results", daemon=True)

    @property
    def depth(self) -> int:
        """The runner's depth: how many steps may be launched while one runs."""
        return self._runner.depth

    def start(self) -> None:
        """Start the threads."""
        self._launches.start()
        if self.depth:
            self._results.start()

    def execute(self, plan: StepPlan) -> None:
        """Hand over the next plan. Its step is reported once; a plan without rows has no step and no report."""
        self._begun.clear()
        self._plans.put(plan)

    def let_begin(self) -> None:
        """Wait, but not long, until the device thread has the plan handed over last, if it computes by itself.

        Whatever wakes other threads comes after this, or the step would wait for Python's lock and a core with them.
        """
        if not self.depth:
            self._begun.wait(BEGIN_PATIENCE_S)

    def stop(self) -> bool:
        """End after the plans handed over. Return False if a thread hangs; it is then left behind."""
        self._plans.put(_Stop())
        self._launches.join(STOP_PATIENCE_S)
        if self.depth:
            self._awaited.put(_Stop())
            self._results.join(STOP_PATIENCE_S)
        return not (self._launches.is_alive() or self._results.is_alive())

    def _run_plans(self) -> None:
        """Run the device thread."""
        while isinstance(plan := self._plans.get(), StepPlan):
            self._begun.set()
            self._run(plan)
            del plan  # or the last step's requests would stay in memory while nothing runs

    def _run(self, plan: StepPlan) -> None:
        try:
            self._prepare(plan)
        except Exception as error:  # whatever it is, the engine must learn of it
            self._report(Broken(error))
            return
        if not plan.rows:
            return
        step = self._launch(plan)
        if self.depth:
            self._awaited.put(step)  # a failed one too: results come in the order of their steps
        else:
            self._end(step)

    def _prepare(self, plan: StepPlan) -> None:
        """Do what a plan wants done before its step."""
        began = self._clock()
        if plan.poison:
            self._runner.poison(plan.poison)
        for ticket in plan.copies:
            assert self._copier is not None, "core plans copies and there is no copier"
            self._copier.submit(ticket)
        self.submit_s += self._clock() - began

    def _launch(self, plan: StepPlan) -> _Awaited:
        try:
            return _Awaited(plan.number, self._runner.launch(plan))
        except Exception as error:
            return _Awaited(plan.number, _raising(error))

    def _wait_for_results(self) -> None:
        """Run the results thread, which exists if the runner's depth is not 0."""
        while isinstance(step := self._awaited.get(), _Awaited):
            self._end(step)
            del step

    def _end(self, step: _Awaited) -> None:
        try:
            self._report(step.result())
        except Exception as error:  # whatever it is, the engine must learn of it
            self._report(StepFailed(step.number, error))


def _raising(error: Exception) -> Callable[[], StepResult]:
    def result() -> StepResult:
        raise error

    return result
