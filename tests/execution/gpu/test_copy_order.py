"""The order of copies and steps on a device that does both at once: with each rule numbers are right, without it wrong.

Each rule has a control that breaks it, which shows that the test would notice. Streams are held until the wrong order,
if it is possible, has happened.
"""

import queue
from collections.abc import Callable

import numpy as np
import pytest

from allocator import DEVICE, Direction, Extent
from service.core.messages.plan import CopyResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runtime import Event
from service.execution.gpu.simulated.faults import Armed, Stall
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.models.architecture import ModelConfig
from tests.execution.gpu.data_plane import PATIENCE_S, device_blocks, fill_with_numbers, host_blocks, ticket

BLOCKS = slice(3, 5)
RUN = ((3, 10, 2),)


class Hurried:
    """A broken compute stream for copiers: its events pass at once."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._idle = runtime.stream()

    def record(self) -> Event:
        return self._idle.record()


class DataPlane:
    """Pools full of numbers, a compute stream that can be held, and a copier that waits for its events or not."""

    def __init__(self, config: ModelConfig, ordered: bool, held: str) -> None:
        self.stall = Stall(lambda work: work.name == held)
        faults = Armed(self.stall)
        self.runtime = SimulatedRuntime(faults=faults)
        self.pools = GPUPools(self.runtime, config, np.float32, device_blocks=16, host_blocks=32)
        fill_with_numbers(self.runtime, self.pools)
        with self.runtime.bound():
            self.compute = self.runtime.stream()
            self.seen = self.runtime.pinned(self.pools.device[BLOCKS].nbytes)
            seen_by_copier = self.compute if ordered else Hurried(self.runtime)
        self.copier = GPUCopier(self.runtime, self.pools, seen_by_copier)  # type: ignore[arg-type]
        self.results: queue.Queue[CopyResult] = queue.Queue()
        self.copier.start(self.results.put)
        self.device_before, self.host_before = device_blocks(self.runtime, self.pools), host_blocks(self.pools)
        faults.arm()

    def write(self) -> None:
        """Submit a step that writes the blocks."""
        with self.runtime.bound():
            self.compute.fill(self.pools.device[BLOCKS], 0x11)

    def look(self) -> None:
        """Submit a step that reads the blocks."""
        with self.runtime.bound():
            self.compute.copy(self.pools.device[BLOCKS], self.seen)

    def end(self) -> None:
        self.stall.release()
        with self.runtime.bound():
            self.compute.record().wait()
        self.copier.stop()

    def looked(self) -> np.ndarray:
        """Return what the step read, shaped as blocks."""
        return self.seen.view(np.float32).reshape(self.device_before[BLOCKS].shape)


Make = Callable[..., DataPlane]


@pytest.fixture
def make(random_model: Callable) -> Make:
    config, _ = random_model()
    return lambda **settings: DataPlane(config, **settings)


@pytest.mark.parametrize("ordered", [True, False])
def test_what_a_step_wrote_is_there_before_it_is_copied_out(make: Make, ordered: bool) -> None:
    plane = make(ordered=ordered, held="fill")
    plane.write()
    plane.copier.submit(ticket(Direction.OUT, RUN))
    assert plane.stall.reached(PATIENCE_S)
    if not ordered:
        plane.results.get(timeout=PATIENCE_S)
    plane.end()
    copied = (host_blocks(plane.pools)[10:12].view(np.uint8) == 0x11).all()
    assert copied == ordered
    assert np.array_equal(host_blocks(plane.pools)[10:12], plane.device_before[BLOCKS]) is not ordered


@pytest.mark.parametrize("ordered", [True, False])
def test_a_step_has_read_its_blocks_before_others_are_copied_into_them(make: Make, ordered: bool) -> None:
    """The step was launched while it owned the blocks; another request gets them while it runs."""
    plane = make(ordered=ordered, held="copy-out")
    plane.look()
    plane.copier.submit(ticket(Direction.IN, RUN))
    assert plane.stall.reached(PATIENCE_S)
    if not ordered:
        plane.results.get(timeout=PATIENCE_S)
    plane.end()
    assert np.array_equal(plane.looked(), plane.device_before[BLOCKS]) is ordered
    assert np.array_equal(device_blocks(plane.runtime, plane.pools)[BLOCKS], plane.host_before[10:12])


@pytest.mark.parametrize("reported", [True, False])
def test_kv_is_read_after_the_end_of_its_copy_in_was_reported(make: Make, reported: bool) -> None:
    plane = make(ordered=True, held="copy-in")
    plane.copier.submit(ticket(Direction.IN, RUN))
    assert plane.stall.reached(PATIENCE_S)
    if reported:
        plane.stall.release()
        plane.results.get(timeout=PATIENCE_S)
    plane.look()
    with plane.runtime.bound():
        plane.compute.record().wait()
    plane.end()
    assert np.array_equal(plane.looked(), plane.host_before[10:12]) is reported


@pytest.mark.parametrize("reported", [True, False])
def test_blocks_are_written_again_after_the_end_of_their_copy_out_was_reported(make: Make, reported: bool) -> None:
    plane = make(ordered=True, held="copy-out")
    plane.copier.submit(ticket(Direction.OUT, RUN))
    assert plane.stall.reached(PATIENCE_S)
    if reported:
        plane.stall.release()
        plane.results.get(timeout=PATIENCE_S)
    plane.write()
    with plane.runtime.bound():
        plane.compute.record().wait()
    plane.end()
    assert np.array_equal(host_blocks(plane.pools)[10:12], plane.device_before[BLOCKS]) is reported


@pytest.mark.parametrize("poisoned_first", [True, False])
def test_poison_comes_before_the_copies_of_its_plan(make: Make, poisoned_first: bool) -> None:
    """The device thread's order: poison, copies, step. A block poisoned for its new owner is then copied into."""
    plane = make(ordered=True, held="fill")
    steps: list[Callable[[], None]] = [
        lambda: plane.pools.poison([Extent(DEVICE, 3, 2)], plane.compute),
        lambda: plane.copier.submit(ticket(Direction.IN, RUN)),
    ]
    with plane.runtime.bound():
        for step in steps if poisoned_first else reversed(steps):
            step()
    if not poisoned_first:
        plane.results.get(timeout=PATIENCE_S)
    plane.end()
    assert np.isnan(device_blocks(plane.runtime, plane.pools)[BLOCKS]).any() == (not poisoned_first)


def test_a_copy_holds_up_no_step(make: Make) -> None:
    """The step's event passes while the copy, submitted before it, has not begun."""
    plane = make(ordered=True, held="copy-out")
    plane.copier.submit(ticket(Direction.OUT, RUN))
    plane.write()
    with plane.runtime.bound():
        step = plane.compute.record()
    assert plane.stall.reached(PATIENCE_S)
    step.wait()
    assert plane.results.empty()
    plane.end()
    assert not plane.results.get(timeout=PATIENCE_S).failed
