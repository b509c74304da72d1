"""The threads that carry plans out.

The *device thread* takes plans in order: it spoils what is to be spoiled, has the plan's copies started, and launches
its step, so that a copy comes after everything that earlier steps wrote. Where the runner's depth is 0, it computes the
step too. Else results are waited for on the *results thread*, in the order of their steps, while later steps are
launched.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from service.core.messages.plan import StepPlan, StepResult
from service.core.messages.ports import Copier, Runner

STOP_PATIENCE_S = 5.0  # with the step under way


@dataclass(frozen=True, slots=True)
class StepFailed:
    """What came of a step in place of a result."""

    number: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Broken:
    """The device thread cannot go on: a bug, in the runner or in the copier."""

    error: Exception


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A step that was launched, and how to have its result."""

    number: int
    result: Callable[[], StepResult]


class _Stop:
    """Asks a thread to end."""


class DeviceThreads:
    """A runner and a copier, and the threads that call them. ``report`` is called on those threads.

    ``submit_s``: spent on starting copies, ever. The threads are daemons: a device that hangs must not keep the process
    alive.
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
        self._awaited: SimpleQueue[_Awaited | _Stop] = SimpleQueue()
        self._launches = threading.Thread(target=self._run_plans, name="device", daemon=True)
        self._results = threading.Thread(target=self._wait_for_results, name="results", daemon=True)

    @property
    def depth(self) -> int:
        """The runner's."""
        return self._runner.depth

    def start(self) -> None:
        """Begin."""
        self._launches.start()
        if self.depth:
            self._results.start()

    def carry_out(self, plan: StepPlan) -> None:
        """Hand over the next plan. What comes of a step is reported once; of a plan without rows, nothing is."""
        self._plans.put(plan)

    def stop(self) -> bool:
        """End after the plans handed over. False: it hangs, and goes on without anybody."""
        self._plans.put(_Stop())
        self._launches.join(STOP_PATIENCE_S)
        if self.depth:
            self._awaited.put(_Stop())
            self._results.join(STOP_PATIENCE_S)
        return not (self._launches.is_alive() or self._results.is_alive())

    def _run_plans(self) -> None:
        """The device thread."""
        while isinstance(plan := self._plans.get(), StepPlan):
            self._run(plan)
            del plan  # or the last step's requests would be kept while nothing runs

    def _run(self, plan: StepPlan) -> None:
        try:
            self._prepare(plan)
        except Exception as error:  # whatever it is, the engine must hear of it
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
        """Do what comes before a plan's step."""
        began = self._clock()
        if plan.poison:
            self._runner.poison(plan.poison)
        for ticket in plan.copies:
            assert self._copier is not None, "core plans copies and nobody copies"
            self._copier.submit(ticket)
        self.submit_s += self._clock() - began

    def _launch(self, plan: StepPlan) -> _Awaited:
        try:
            return _Awaited(plan.number, self._runner.launch(plan))
        except Exception as error:
            return _Awaited(plan.number, _raising(error))

    def _wait_for_results(self) -> None:
        """The results thread, where the runner is deep."""
        while isinstance(step := self._awaited.get(), _Awaited):
            self._end(step)
            del step

    def _end(self, step: _Awaited) -> None:
        try:
            self._report(step.result())
        except Exception as error:  # whatever it is, the engine must hear of it
            self._report(StepFailed(step.number, error))


def _raising(error: Exception) -> Callable[[], StepResult]:
    def result() -> StepResult:
        raise error

    return result
