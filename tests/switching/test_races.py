"""The order in which copies and steps may use a block: with each rule answers are right, without it they are wrong.

Each rule has a control that breaks it, which shows that the test would notice. A control's answer differs, or ends in
an error if it read something that is not a number.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from allocator import BLOCK_TOKENS, DEVICE, Direction, Extent, Ticket
from service.core.messages.events import FinishReason
from service.core.messages.plan import CopyResult, StepPlan, StepResult
from service.core.messages.ports import Copier, DirectRunner, Runner
from service.execution.copier import CPUCopier
from service.execution.kv import KVPools
from service.execution.runner import CPURunner
from tests.switching.conftest import Outcome, Service, Wrap, conversations

TURNS = conversations(4, 30)


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Outcome:
    return service.answer(TURNS)


def switched(service: Service, wrap: Wrap) -> Outcome:
    return service.answer(TURNS, debug_preempt_every=5, wrap=wrap)


def is_corrupt(outcome: Outcome, expected: Outcome) -> bool:
    failed = any(end.reason is FinishReason.ERROR for end in outcome.ends.values())
    return failed or outcome.answers != expected.answers


class LateDevice(DirectRunner):
    """A device that runs behind the host: what a step writes lands when the next step begins, or when asked for.

    The model never notices. A copy does if it does not wait for earlier writes.
    """

    def __init__(self, inner: CPURunner) -> None:
        self._inner = inner
        self._landing: dict[int, np.ndarray] = {}  # KV that has not landed yet, by block

    def run(self, plan: StepPlan) -> StepResult:
        self.land()
        pool = self._inner.pools.device
        # Only what the step writes: copies into other blocks may end meanwhile.
        before = {block: pool[block].copy() for block in written_by(plan)}
        result = self._inner.run(plan)
        for block, kv in before.items():
            self._landing[block] = pool[block].copy()
            pool[block] = kv
        return result

    def land(self) -> None:
        for block, kv in self._landing.items():
            self._inner.pools.device[block] = kv
        self._landing.clear()

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what the blocks hold and what is about to land, without waiting."""
        self._inner.poison(extents)
        for extent in extents:
            for block in self._landing.keys() & range(extent.start, extent.end) if extent.pool == DEVICE else ():
                self._landing[block].fill(self._inner.pools.kv_format.nan)


def written_by(plan: StepPlan) -> Iterator[int]:
    for row in plan.rows:
        blocks = [block for extent in row.extents for block in range(extent.start, extent.end)]
        yield from blocks[row.start // BLOCK_TOKENS : -(-(row.start + row.num_tokens) // BLOCK_TOKENS)]


class Ordered:
    """A copier that waits for the device before each copy, as it would for an event on a stream."""

    def __init__(self, inner: Copier, device: LateDevice) -> None:
        self._inner = inner
        self._device = device

    def start(self, report: Callable[[CopyResult], None]) -> None:
        self._inner.start(report)

    def submit(self, ticket: Ticket) -> None:
        self._device.land()
        self._inner.submit(ticket)

    def stop(self) -> None:
        self._inner.stop()


@pytest.mark.parametrize("ordered", [True, False])
def test_what_a_step_wrote_is_there_before_it_is_copied_out(
    service: Service, undisturbed: Outcome, ordered: bool
) -> None:
    def wrap(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
        device = LateDevice(runner)
        if ordered:
            return device, Ordered(copier, device)
        return device, Liar(runner.pools, lies_about=None)  # copies at once, so certainly before anything lands

    assert is_corrupt(switched(service, wrap), undisturbed) is not ordered


class Liar:
    """A copier that reports copies of one direction at once and makes them after the next step."""

    def __init__(self, pools: KVPools, lies_about: Direction | None) -> None:
        self._pools = pools
        self._lies_about = lies_about
        self._owed: list[Ticket] = []
        self._report: Callable[[CopyResult], None] = lambda result: None

    def start(self, report: Callable[[CopyResult], None]) -> None:
        self._report = report

    def submit(self, ticket: Ticket) -> None:
        if ticket.direction is self._lies_about:
            self._owed.append(ticket)
        else:
            self._copy(ticket)
        self._report(CopyResult(ticket.number, 0.0, 1))

    def pay(self) -> None:
        while self._owed:
            self._copy(self._owed.pop())

    def stop(self) -> None:
        pass

    def _copy(self, ticket: Ticket) -> None:
        source, destination = self._pools[ticket.source[0].pool], self._pools[ticket.destination[0].pool]
        blocks = [number for extent in ticket.source for number in range(extent.start, extent.end)]
        to = [number for extent in ticket.destination for number in range(extent.start, extent.end)]
        destination[to] = source[blocks]


class PaysAfterwards(DirectRunner):
    """A runner that has the `Liar` make its copies when a step has run."""

    def __init__(self, inner: CPURunner, liar: Liar) -> None:
        self._inner = inner
        self._liar = liar

    def run(self, plan: StepPlan) -> StepResult:
        result = self._inner.run(plan)
        self._liar.pay()
        return result

    def poison(self, extents: Sequence[Extent]) -> None:
        self._inner.poison(extents)


@pytest.mark.parametrize("lies_about", [None, Direction.IN, Direction.OUT])
def test_kv_is_read_after_it_was_copied_in_and_freed_after_it_was_copied_out(
    service: Service, undisturbed: Outcome, lies_about: Direction | None
) -> None:
    def wrap(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
        liar = Liar(runner.pools, lies_about)
        return PaysAfterwards(runner, liar), liar

    assert is_corrupt(switched(service, wrap), undisturbed) is (lies_about is not None)
