"""Real copies between the pools of a simulated device: what they move, and what happens when they fail."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

import numpy as np
import pytest

from allocator import Direction, Ticket
from service.core.messages.plan import CopyResult
from service.execution.gpu import copier as copier_module
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.simulated.faults import (
    Armed,
    Delays,
    Failing,
    Faults,
    Several,
    Stall,
    Work,
    exhausting_device,
    losing_device,
)
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.gpu.simulated.stream import SimulatedEvent
from service.execution.kv import kv_bytes_per_block
from service.execution.models.architecture import ModelConfig
from tests.execution.gpu.data_plane import PATIENCE_S, device_blocks, fill_with_numbers, host_blocks, ticket

IN, OUT = Direction.IN, Direction.OUT
SCATTERED = ((3, 10, 2), (9, 0, 1), (5, 20, 3))  # device block, host block, length
LAYERS_AND_SIDES = 4
CHUNK_BLOCKS = 5


class DataPlane:
    """Pools full of numbers, a compute stream and a copier, whose ends go to ``results``."""

    def __init__(self, config: ModelConfig, *, by_layer: bool = False) -> None:
        self.faults = Armed()
        self.runtime = SimulatedRuntime(faults=self.faults)
        chunk_bytes = CHUNK_BLOCKS * kv_bytes_per_block(config)
        self.pools = GPUPools(
            self.runtime, config, np.float32, device_blocks=16, host_blocks=32, chunk_bytes=chunk_bytes
        )
        fill_with_numbers(self.runtime, self.pools)
        with self.runtime.bound():
            self.compute = self.runtime.stream()
        self.copier = GPUCopier(self.runtime, self.pools, self.compute, by_layer=by_layer)
        self.results: queue.Queue[CopyResult] = queue.Queue()

    @contextmanager
    def started(self, faults: Faults | None = None) -> Iterator["DataPlane"]:
        self.copier.start(self.results.put)
        self.faults.arm(faults)
        yield self
        self.copier.stop()
        self.faults.disarm()

    def copy(self, *tickets: Ticket) -> list[CopyResult]:
        for each in tickets:
            self.copier.submit(each)
        return [self.result() for _ in tickets]

    def result(self) -> CopyResult:
        return self.results.get(timeout=PATIENCE_S)

    @property
    def device(self) -> np.ndarray:
        return device_blocks(self.runtime, self.pools)

    @property
    def host(self) -> np.ndarray:
        return host_blocks(self.pools)


Make = Callable[..., DataPlane]


@pytest.fixture
def make(random_model: Callable) -> Make:
    config, _ = random_model()
    return lambda **settings: DataPlane(config, **settings)


def is_copy(work: Work) -> bool:
    return work.is_copy


def move(device: np.ndarray, host: np.ndarray, direction: Direction, runs: Sequence[tuple[int, int, int]]) -> None:
    """Return both pools as a copy should leave them."""
    for begin, to, length in runs:
        if direction is OUT:
            host[to : to + length] = device[begin : begin + length]
        else:
            device[begin : begin + length] = host[to : to + length]


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_copy_moves_its_blocks_and_touches_no_others(make: Make, direction: Direction, by_layer: bool) -> None:
    with make(by_layer=by_layer).started() as plane:
        device, host = plane.device, plane.host
        move(device, host, direction, SCATTERED)
        plane.copy(ticket(direction, SCATTERED))
        assert np.array_equal(plane.device, device)
        assert np.array_equal(plane.host, host)


@pytest.mark.parametrize("seed", range(8))
def test_copies_both_ways_at_once_move_what_they_should(make: Make, seed: int) -> None:
    """Four tickets of scattered pairs of blocks, some across chunks, each with delays of its own."""
    random = Random(seed)
    pairs = zip(random.sample(range(0, 16, 2), 8), random.sample(range(0, 32, 2), 8), strict=True)
    runs = [(on_device, on_host, 2) for on_device, on_host in pairs]
    with make().started(Delays(seed, 0.001)) as plane:
        device, host = plane.device, plane.host
        tickets = []
        for number in range(4):
            direction = random.choice([IN, OUT])
            move(device, host, direction, runs[number::4])
            tickets.append(ticket(direction, runs[number::4], number))
        assert not any(result.failed for result in plane.copy(*tickets))
        assert np.array_equal(plane.device, device)
        assert np.array_equal(plane.host, host)


def test_a_round_trip_to_other_blocks_brings_the_same_bytes_back(make: Make) -> None:
    back = ((0, 10, 1), (12, 11, 1), (1, 0, 1), (13, 20, 3))
    with make().started() as plane:
        before = plane.device
        plane.copy(ticket(OUT, SCATTERED))
        plane.copy(ticket(IN, back))
        assert np.array_equal(plane.device[[0, 12, 1, 13, 14, 15]], before[[3, 4, 9, 5, 6, 7]])


@pytest.mark.parametrize(("by_layer", "pieces"), [(False, 4), (True, 7 * LAYERS_AND_SIDES)])
def test_a_copy_reports_its_number_of_contiguous_copies(make: Make, by_layer: bool, pieces: int) -> None:
    """There is one more than there are runs: a chunk ends at the host's block 10."""
    with make(by_layer=by_layer).started() as plane:
        (result,) = plane.copy(ticket(OUT, ((3, 8, 3), (9, 0, 1), (12, 20, 3)), number=7))
    assert (result.ticket, result.pieces, result.failed) == (7, pieces, False)
    assert result.seconds > 0


def test_copies_of_a_direction_end_in_their_order(make: Make) -> None:
    tickets = [ticket(OUT, ((number, number, 1),), number) for number in range(10)]
    with make().started(Delays(0, 0.001)) as plane:
        assert [result.ticket for result in plane.copy(*tickets)] == list(range(10))


def test_a_direction_that_stalls_does_not_hold_up_the_other(make: Make) -> None:
    stall = Stall(lambda work: work.name == "copy-out")
    with make().started(stall) as plane:
        plane.copier.submit(ticket(OUT, SCATTERED, 1))
        assert stall.reached(PATIENCE_S)
        assert [result.ticket for result in plane.copy(ticket(IN, ((0, 5, 1),), 2))] == [2]  # out of order
        stall.release()
        assert plane.result().ticket == 1


def test_copies_are_issued_before_the_ends_of_earlier_ones_are_known(make: Make) -> None:
    """The link has its next copies queued: those of the second ticket are submitted while those of the first stall."""
    queued = threading.Event()

    class Watch(Faults):
        def submitted(self, work: Work) -> None:
            if work.is_copy and work.number == 1:
                queued.set()

    stall = Stall(is_copy)
    with make().started(Several(stall, Watch())) as plane:
        plane.copier.submit(ticket(OUT, ((0, 0, 1),), 1))
        plane.copier.submit(ticket(OUT, ((1, 1, 1),), 2))
        assert queued.wait(PATIENCE_S)
        assert plane.results.empty()
        stall.release()
        assert [plane.result().ticket, plane.result().ticket] == [1, 2]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("piece", [0, 1, 2])
def test_a_copy_that_fails_is_reported_and_the_others_succeed(make: Make, piece: int, refused: bool) -> None:
    failing = Failing(is_copy, 3 + piece, 4 + piece, refused=refused)
    with make().started(failing) as plane:
        results = plane.copy(*(ticket(OUT, SCATTERED, number) for number in range(3)))
        assert [(result.ticket, result.failed) for result in results] == [(0, False), (1, True), (2, False)]


@pytest.mark.parametrize("refused", [False, True])
def test_a_copy_without_memory_is_reported_and_the_others_succeed(make: Make, refused: bool) -> None:
    with make().started(exhausting_device(is_copy, 0, 1, refused=refused)) as plane:
        results = plane.copy(*(ticket(OUT, SCATTERED, number) for number in range(2)))
        assert [(result.ticket, result.failed) for result in results] == [(0, True), (1, False)]


def test_blocks_that_are_not_there_fail_their_ticket_alone(make: Make) -> None:
    with make().started() as plane:
        results = plane.copy(ticket(OUT, ((0, 30, 3),), 1), ticket(IN, ((16, 0, 2),), 2), ticket(IN, ((0, 0, 1),), 3))
    assert {result.ticket: result.failed for result in results} == {1: True, 2: True, 3: False}


def test_a_failure_is_reported_when_no_part_of_the_copy_is_under_way(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocks are free from then on. The copies that were issued land when the copier waits for them, or never."""
    plane, stall, reports = make(), Stall(is_copy), queue.Queue[tuple[CopyResult, np.ndarray]]()
    before, wait = plane.host, SimulatedEvent.wait

    def wait_and_land(event: SimulatedEvent) -> None:
        if threading.current_thread().name.startswith("copied"):
            stall.release()
        wait(event)

    monkeypatch.setattr(SimulatedEvent, "wait", wait_and_land)
    plane.copier.start(lambda result: reports.put((result, plane.host)))
    plane.faults.arm(Several(Failing(is_copy, first=1, refused=True), stall))
    plane.copier.submit(ticket(OUT, SCATTERED))
    result, host = reports.get(timeout=PATIENCE_S)
    plane.copier.stop()
    plane.faults.disarm()
    stall.release()
    assert result.failed
    assert np.array_equal(host[10:12], plane.device[3:5])
    assert np.array_equal(host[20:23], before[20:23])


def test_a_copy_is_not_reported_before_there_is_an_event_at_its_end(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = make()
    link = plane.copier._links[OUT]
    refused = iter([True, True, False])
    record = link._stream.record

    def record_sometimes() -> SimulatedEvent:
        if next(refused):
            raise RuntimeError("no event to be had")
        return record()

    monkeypatch.setattr(link._stream, "record", record_sometimes)
    with plane.started():
        (result,) = plane.copy(ticket(OUT, SCATTERED))
        assert not result.failed
        for device, host, length in SCATTERED:
            assert np.array_equal(plane.host[host : host + length], plane.device[device : device + length])
    assert next(refused, None) is None


@pytest.mark.parametrize("piece", [0, 2, 4])
def test_a_lost_device_fails_every_ticket_at_once(make: Make, piece: int) -> None:
    with make().started(losing_device(is_copy, at=piece)) as plane:
        tickets = [ticket((OUT, IN)[number % 2], ((number, number, 1),), number) for number in range(8)]
        results = plane.copy(*tickets)
        assert {result.ticket for result in results} == set(range(8))
        assert sum(result.failed for result in results) >= 8 - piece
        (late,) = plane.copy(ticket(OUT, SCATTERED, 9))
        assert (late.ticket, late.failed) == (9, True)


def test_a_device_lost_while_copies_stall_does_not_hang_the_end(make: Make) -> None:
    stall = Stall(is_copy)
    with make().started(stall) as plane:
        for number, direction in enumerate((OUT, IN, OUT)):
            plane.copier.submit(ticket(direction, SCATTERED, number))
        assert stall.reached(PATIENCE_S)
        plane.runtime.lose("fell off the bus")
        assert {plane.result().ticket for _ in range(3)} == {0, 1, 2}
    stall.release()


def test_stopping_lets_queued_copies_end(make: Make) -> None:
    plane = make()
    with plane.started(Delays(0, 0.002)):
        for number in range(5):
            plane.copier.submit(ticket(OUT, ((number, number, 1),), number))
    assert plane.results.qsize() == 5


def test_stopping_does_not_wait_for_ever_for_a_device_that_hangs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier_module, "STOP_PATIENCE_S", 0.01)
    stall = Stall(is_copy)
    plane = make()
    with plane.started(stall):
        plane.copier.submit(ticket(OUT, SCATTERED))
        assert stall.reached(PATIENCE_S)
    assert plane.results.empty()
    stall.release()
    assert plane.result().ticket == 0
