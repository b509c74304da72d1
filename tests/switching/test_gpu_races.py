"""Context switches on a simulated GPU, whose steps and copies run at once, with the host a step ahead.

Every request is evicted after every five tokens, and the blocks it leaves are poisoned: the answers must be the CPU's,
to the bit, whatever is late or fails. As in `test_races`, each rule of order has a control that breaks it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

import numpy as np
import pytest

from allocator import Direction, Ticket
from service.core.messages.events import CopyEnded, FinishReason
from service.core.messages.plan import CopyResult
from service.core.messages.ports import Copier
from service.core.switching.mechanisms import PRESETS
from service.errors import DeviceLostError
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.runtime import Event
from service.execution.gpu.simulated.faults import (
    Armed,
    Delays,
    Failing,
    Faults,
    Several,
    Work,
    exhausting_device,
    losing_device,
)
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.copiers import Cheap
from tests.execution.gpu.steps import on_device
from tests.switching.conftest import Outcome, Plane, Service, ServiceFailedError, Wrap, cheap, conversations

pytestmark = pytest.mark.parametrize("service", ["float32"], indirect=True, scope="package")  # as a GPU has weights
PRESET = "groups+reuse+async"
TOKENS = 30
TURNS = conversations(4, TOKENS)
COMPUTE, VERIFY, OUT, IN = range(4)  # streams by number, in the order in which they are made


def steps(work: Work) -> bool:
    return work.stream == COMPUTE


def copies(work: Work) -> bool:
    return work.stream in (OUT, IN)


class Hurried:
    """A broken compute stream for copiers: its events pass at once."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._idle = runtime.stream()

    def record(self) -> Event:
        return self._idle.record()


@dataclass
class GPUService(Service):
    """The same engine and core on a simulated device, on which ``faults`` begin with the first plan."""

    faults: Faults = field(default_factory=Faults)
    ordered: bool = True

    def data_plane(self, device_blocks: int, host_blocks: int, slots: int, budget: int, by_layer: bool) -> Plane:
        armed, config = Armed(self.faults), self.model.config
        runtime = SimulatedRuntime(faults=armed)
        with runtime.bound():
            compute = runtime.stream(urgent=True)
            pools = GPUPools(runtime, config, np.float32, device_blocks=device_blocks, host_blocks=host_blocks)
            copier = GPUCopier(runtime, pools, compute if self.ordered else Hurried(runtime), by_layer=by_layer)
        weights, sizes = on_device(runtime, self.model.weights), {"num_slots": slots, "max_batched_tokens": budget}
        runner = GPURunner(config, weights, runtime, pools, compute, **sizes)
        runner.warm_up()
        armed.arm()
        return runner, copier


class Hasty(Cheap):
    """A broken copier: it reports the ends of copies of one direction before they begin."""

    def __init__(self, inner: Copier, direction: Direction) -> None:
        super().__init__(inner)
        self._direction = direction
        self._told: set[int] = set()
        self._report: Callable[[CopyResult], None] = lambda result: None

    def start(self, report: Callable[[CopyResult], None]) -> None:
        self._report = report
        super().start(lambda result: None if result.ticket in self._told else report(result))

    def submit(self, ticket: Ticket) -> None:
        hasty = ticket.direction is self._direction
        if hasty:
            self._told.add(ticket.number)
        super().submit(ticket)
        if hasty:
            self._report(CopyResult(ticket.number, 0.0, 1))


def switched(
    service: Service, faults: Faults, preset: str = PRESET, *, ordered: bool = True, wrap: Wrap = cheap
) -> Outcome:
    return GPUService(service.model, faults, ordered).answer(TURNS, preset, debug_preempt_every=5, wrap=wrap)


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Outcome:
    return service.answer(TURNS)


def is_corrupt(outcome: Outcome, expected: Outcome) -> bool:
    failed = any(end.reason is FinishReason.ERROR for end in outcome.ends.values())
    return failed or outcome.answers != expected.answers


FAULTS: dict[str, Callable[[], Faults]] = {
    "nothing": Faults,
    "steps are late": lambda: Delays(1, 0.0005, steps),
    "copies are late": lambda: Delays(2, 0.003, copies),
    "copies out are later than copies in": lambda: Delays(3, 0.005, lambda work: work.stream == OUT),
    "all is late": lambda: Several(Delays(4, 0.0002, steps), Delays(5, 0.003, copies)),
}


CASES = [(PRESET, name) for name in FAULTS] + [(preset, "all is late") for preset in sorted(set(PRESETS) - {PRESET})]


@pytest.mark.parametrize(("preset", "faults"), CASES)
def test_switches_change_no_answer_whatever_is_late(
    service: Service, undisturbed: Outcome, preset: str, faults: str
) -> None:
    outcome = switched(service, FAULTS[faults](), preset)
    assert outcome.answers == undisturbed.answers
    assert outcome.preemptions()["debug"] == len(TURNS) * ((TOKENS - 1) // 5)
    assert outcome.dropped().keys() <= {"no_swap"}
    assert PRESETS[preset].swap is not bool(outcome.dropped())


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("fault", [Failing, exhausting_device])
def test_copies_that_fail_change_no_answer(
    service: Service, undisturbed: Outcome, fault: Callable[..., Faults], refused: bool
) -> None:
    numbers = count()
    failing = fault(lambda work: copies(work) and next(numbers) % 5 == 0, refused=refused)
    outcome = switched(service, Several(failing, Delays(6, 0.002, copies)))
    assert outcome.answers == undisturbed.answers
    assert sum(isinstance(event, CopyEnded) and event.failed for event in outcome.events) > 5


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("fault", [Failing, exhausting_device])
def test_a_step_that_fails_ends_its_requests_and_leaves_the_others_right(
    service: Service, undisturbed: Outcome, fault: Callable[..., Faults], refused: bool
) -> None:
    failing = fault(lambda work: work.name == "sample", 40, 41, refused=refused)
    outcome = GPUService(service.model, failing).answer(TURNS, slots=2, debug_preempt_every=5)
    failed = {name for name, end in outcome.ends.items() if end.reason is FinishReason.ERROR}
    assert 1 <= len(failed) <= 2
    for name in outcome.ends.keys() - failed:
        assert outcome.answers[name] == undisturbed.answers[name]


class NowAndThen(Faults):
    """Fails some work, when it is submitted or when it begins, drawn from seed, stream and number alone."""

    def __init__(self, seed: int, share: float) -> None:
        self._seed, self._share = seed, share

    def submitted(self, work: Work) -> None:
        self._fail(work, "submitted")

    def begins(self, work: Work) -> None:
        self._fail(work, "begins")

    def _fail(self, work: Work, when: str) -> None:
        if Random(f"{self._seed}/{when}/{work.stream}/{work.number}").random() < self._share:
            raise RuntimeError(f"injected: {work}")


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(4, 60))])
def test_whatever_fails_now_and_then_no_token_is_wrong(service: Service, undisturbed: Outcome, seed: int) -> None:
    """Steps and copies are late and fail, refused or not, under any preset, and the engine continues."""
    faults = Several(NowAndThen(seed, 0.002), Delays(seed, 0.0003))
    outcome = switched(service, faults, sorted(PRESETS)[seed % len(PRESETS)])
    assert outcome.ends.keys() == undisturbed.answers.keys()
    for name, end in outcome.ends.items():
        answer = outcome.answers[name]
        assert answer == undisturbed.answers[name][: len(answer)]
        assert len(answer) == TOKENS or end.reason is FinishReason.ERROR


@pytest.mark.parametrize("ordered", [True, False])
def test_what_a_step_wrote_is_there_before_it_is_copied_out(
    service: Service, undisturbed: Outcome, ordered: bool
) -> None:
    outcome = switched(service, Delays(7, 0.002, steps), ordered=ordered)
    assert is_corrupt(outcome, undisturbed) is not ordered


@pytest.mark.parametrize("direction", list(Direction))
def test_blocks_are_read_and_reused_after_the_end_of_their_copy(
    service: Service, undisturbed: Outcome, direction: Direction
) -> None:
    """This is the control of all tests above: copies are late, and their ends are reported early."""
    outcome = switched(service, Delays(8, 0.05, copies), wrap=lambda runner, copier: (runner, Hasty(copier, direction)))
    assert is_corrupt(outcome, undisturbed)


@pytest.mark.parametrize(("lost", "at"), [(steps, 700), (copies, 20)])
def test_a_lost_device_ends_the_service_without_a_wrong_token(
    service: Service, undisturbed: Outcome, lost: Callable[[Work], bool], at: int
) -> None:
    with pytest.raises(ServiceFailedError) as caught:
        switched(service, losing_device(lost, at))
    assert isinstance(caught.value.__cause__, DeviceLostError)
    answers = caught.value.outcome.answers
    assert any(answers.values())
    assert all(answer == undisturbed.answers[who][: len(answer)] for who, answer in answers.items())
