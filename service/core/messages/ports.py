"""What core's plans are carried out by. Data planes implement these; the drivers hold one of each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from allocator import Extent, Ticket
from service.core.messages.plan import CopyResult, StepPlan, StepResult


class Runner(Protocol):
    """Runs plans through a model. Called by the device thread only.

    ``depth``: steps that may be launched while the result of an earlier one is not known. At 0, calling what `launch`
    returns may be what computes the step; at 1 it only waits, on a thread of its own.
    """

    depth: int

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """One forward pass and the drawn tokens, after everything launched before; called, it gives the result.

        An exception, here or there, fails the step's requests, not the service. Raises DeviceLostError for good.
        """

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what blocks of either pool hold, after everything launched before."""


class DirectRunner(ABC):
    """A `Runner` of depth 0 that computes a step where its result is asked for."""

    depth: int = 0

    @abstractmethod
    def run(self, plan: StepPlan) -> StepResult:
        """All of the plan's rows."""

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """`run` of the plan, for when it is called."""
        return partial(self.run, plan)


class Copier(Protocol):
    """Copies blocks between the pools, beside the model. `submit` is called by the device thread only."""

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """Begin; ``report`` is called from any thread when a copy is over, once for each."""

    def submit(self, ticket: Ticket) -> None:
        """Start a copy, after every step launched before, beside those launched later.

        Returns at once and does not raise: what goes wrong is reported. Tickets may end in any order.
        """

    def stop(self) -> None:
        """Return when all copies that were submitted have ended; nobody submits any more."""
