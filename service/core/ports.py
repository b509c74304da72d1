"""What core's plans are carried out by. Data planes implement these; the drivers hold one of each."""

from collections.abc import Callable, Sequence
from typing import Protocol

from allocator import Extent, Ticket
from service.core.plan import CopyResult, StepPlan, StepResult


class Runner(Protocol):
    """Runs a plan's rows through a model. Called by the device thread only, `poison` while no step runs."""

    def run(self, plan: StepPlan) -> StepResult:
        """One forward pass and the drawn tokens. An exception fails the step's requests, not the service."""

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what blocks of either pool hold."""


class Copier(Protocol):
    """Copies blocks between the pools, beside the model."""

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """Begin; ``report`` is called from any thread when a copy is over, once for each."""

    def submit(self, ticket: Ticket) -> None:
        """Start a copy. Returns at once; tickets may end in any order."""

    def stop(self) -> None:
        """Return when all copies that were submitted have ended; nobody submits any more."""
