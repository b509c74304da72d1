"""Drives core on a virtual clock: the same plan -> run -> commit as the engine, without threads or waiting."""

from collections import defaultdict
from collections.abc import Callable

from service.core.commands import Submit
from service.core.core import Core
from service.core.events import Event, Finished, Refused, TokenOut
from service.core.plan import StepPlan, StepResult


class StalledError(RuntimeError):
    """Requests are live and nothing more happens."""


class Simulation:
    """``now`` advances by the device time that each step reports. Answers and last events are kept by request id."""

    def __init__(self, core: Core, run: Callable[[StepPlan], StepResult]) -> None:
        self.now = 0.0
        self.core = core
        self.answers: dict[str, list[int]] = defaultdict(list)
        self.ended: dict[str, Finished | Refused] = {}
        self.log: list[Event] = []
        self._run = run

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

    def close_scope(self, scope: tuple[str, str]) -> None:
        """Close a scope now."""
        self.core.close_scope(scope)
        self._observe()

    def step(self) -> StepPlan | None:
        """One iteration; None when there was nothing to run."""
        plan = self.core.plan(self.now)
        if plan is not None:
            result = self._run(plan)
            self.now += result.device_seconds
            self.core.commit(result, {}, self.now)
        self._observe()
        return plan

    def run(self, max_steps: int = 100_000) -> int:
        """Step until nothing is live; returns the number of steps. Raises `StalledError` if that takes too many."""
        for taken in range(max_steps):
            if self.step() is None:
                return taken
        raise StalledError(f"{self.core.gauges()} after {max_steps} steps")

    def _observe(self) -> None:
        events = self.core.events()
        self.log += events
        for event in events:
            if isinstance(event, TokenOut):
                self.answers[event.request_id].append(event.token)
            elif isinstance(event, Finished | Refused):
                self.ended[event.request_id] = event
