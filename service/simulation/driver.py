"""The driver of core on a virtual clock: the engine's plan -> run -> commit, without threads or waiting."""

from collections import defaultdict, deque

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Event, Finished, Refused, TokenOut
from service.core.messages.plan import StepPlan, StepResult
from service.core.messages.ports import Runner
from service.simulation.copier import SimulatedCopier


class StalledError(RuntimeError):
    """Requests are live, and nothing is under way that could end them."""


class Simulation:
    """Core, a runner and a copier. ``now`` advances to the end of the oldest step, or of a copy if no step can run.

    A step takes the device time that it reports, after the steps before it. With a runner of depth 1 the next step is
    planned before it ends. Copies end between two steps. ``answers`` and ``ended`` (the last events) are by request id.
    """

    def __init__(self, core: Core, runner: Runner, copier: SimulatedCopier | None = None) -> None:
        self.now = 0.0
        self.core = core
        self.answers: dict[str, list[int]] = defaultdict(list)
        self.ended: dict[str, Finished | Refused] = {}
        self.log: list[Event] = []
        self._runner = runner
        self._copier = copier
        self._under_way: deque[tuple[StepResult, float]] = deque()  # with the times of their ends

    def submit(self, command: Submit) -> None:
        """Post a turn now."""
        self.core.submit(command, self.now)
        self._observe()

    def cancel(self, request_id: str) -> None:
        """Cancel a request now."""
        self.core.cancel(request_id, self.now)
        self._observe()

    def close_session(self, name: str) -> None:
        """Close a named session now."""
        self.core.close_session(name, self.now)
        self._observe()

    @property
    def num_under_way(self) -> int:
        """Number of steps launched and not committed, 0 after each `step` with a runner of depth 0."""
        return len(self._under_way)

    def fail(self) -> None:
        """Fail the oldest step under way, and with it those launched on top of it."""
        number = self._under_way[0][0].number
        self._under_way.clear()
        self.core.abandon(number, self.now)
        self._observe()

    def step(self) -> StepPlan | None:
        """Do one iteration. None when there was nothing to run.

        Raises StalledError when requests wait and nothing is under way that could end it.
        """
        plan = self.launch()
        if len(self._under_way) > self._runner.depth or (self._under_way and (plan is None or not plan.rows)):
            self._commit()
        elif plan is not None and not plan.rows:
            self._wait_for_a_copy()
        self._observe()
        return plan

    def launch(self) -> StepPlan | None:
        """Do the first half of `step`: plan, and begin what the plan says."""
        self._end_copies()
        plan = self.core.plan(self.now)
        if plan is not None:
            self._begin(plan)
        return plan

    def run(self, max_steps: int = 100_000) -> int:
        """Step until no request is live. Return the number of steps. Raises StalledError if that takes too many."""
        for taken in range(max_steps):
            if self.step() is None and not self._under_way:
                return taken
        raise StalledError(f"{self.core.gauges()} after {max_steps} steps")

    def _begin(self, plan: StepPlan) -> None:
        self._runner.poison(plan.poison)
        for ticket in plan.copies:
            assert self._copier is not None, "core plans copies, and there is no copier"
            self._copier.submit(ticket, self.now)
        if plan.rows:
            result = self._runner.launch(plan)()
            begins = max([self.now, *(ends for _, ends in self._under_way)])
            self._under_way.append((result, begins + result.device_seconds))

    def _commit(self) -> None:
        result, ends = self._under_way.popleft()
        self.now = max(self.now, ends)
        self.core.commit(result, {}, self.now)

    def _wait_for_a_copy(self) -> None:
        ends = None if self._copier is None else self._copier.next_end_s
        if ends is None:
            raise StalledError(f"{self.core.gauges()}: nothing runs and nothing is copied")
        self.now = max(self.now, ends)

    def _end_copies(self) -> None:
        if self._copier is not None:
            for result in self._copier.ended(self.now):
                self.core.copied(result)

    def _observe(self) -> None:
        events = self.core.events()
        self.log += events
        for event in events:
            if isinstance(event, TokenOut):
                self.answers[event.request_id].append(event.token)
            elif isinstance(event, Finished | Refused):
                self.ended[event.request_id] = event
