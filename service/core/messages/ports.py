"""Protocols of what carries out core's plans. Data planes implement them; a driver has one of each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from allocator import Extent, Ticket
from service.core.messages.plan import CopyResult, StepPlan, StepResult


class Runner(Protocol):
    """Runs plans through a model. Called by the device thread only.

    ``depth`` is how many steps may be launched while the result of an earlier one is not known. At 0, calling what
    `launch` returns may compute the step; at 1 it only waits, on a thread of its own.
    """

    depth: int

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """Launch a forward pass and its draws, after everything launched before. Return what gives the result.

        An exception from either call fails the step's requests only; DeviceLostError fails all later ones too.
        """

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what blocks of either pool hold, after everything launched before."""


class DirectRunner(ABC):
    """A `Runner` of depth 0 that computes a step where its result is asked for."""

    depth: int = 0

    @abstractmethod
    def run(self, plan: StepPlan) -> StepResult:
        """Compute all rows of the plan."""

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """Return `run` with the plan, to be called later."""
        return partial(self.run, plan)


class Copier(Protocol):
    """Copies blocks between the pools, beside the model. `submit` is called by the device thread only."""

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """Begin. ``report`` is called once for each copy that has ended, from any thread."""

    def submit(self, ticket: Ticket) -> None:
        """Start a copy, after every step launched before, beside those launched later.

        Returns at once and does not raise: failures are reported. Tickets may end in any order.
        """

    def stop(self) -> None:
        """Return when all submitted copies have ended. None is submitted after that."""
