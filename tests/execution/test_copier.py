"""Real copies between two pools, on the threads that make them."""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Barrier

import numpy as np
import pytest

from allocator import DEVICE, HOST, Direction, Extent, Ticket
from service.core.messages.plan import CopyResult
from service.execution.copier import CPUCopier, Pace
from service.execution.kv import KVPools

PATIENCE_S = 30
LAYERS_AND_SIDES = 4  # of the random model
SCATTERED = ((3, 10, 2), (9, 0, 1), (5, 20, 3))  # device block, host block, length


@pytest.fixture
def pools(random_model: Callable) -> KVPools:
    """Return pools with different numbers everywhere."""
    config, _ = random_model()
    pools = KVPools.plain(config, 16, 32)
    random = np.random.default_rng(0)
    for pool in (pools.device, pools.host):
        pool[:] = random.standard_normal(pool.shape, np.float32)
    return pools


def ticket(direction: Direction, runs: Sequence[tuple[int, int, int]] = SCATTERED, number: int = 0) -> Ticket:
    device = tuple(Extent(DEVICE, start, length) for start, _, length in runs)
    host = tuple(Extent(HOST, start, length) for _, start, length in runs)
    source, destination = (device, host) if direction is Direction.OUT else (host, device)
    return Ticket(number, number, direction, 0, source, destination, 16, 0)


@contextmanager
def copying(copier: CPUCopier) -> Iterator[queue.Queue[CopyResult]]:
    results: queue.Queue[CopyResult] = queue.Queue()
    copier.start(results.put)
    yield results
    copier.stop()


def copy(copier: CPUCopier, *tickets: Ticket) -> list[CopyResult]:
    with copying(copier) as results:
        for each in tickets:
            copier.submit(each)
        return [results.get(timeout=PATIENCE_S) for _ in tickets]


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_copy_moves_its_blocks_and_touches_no_others(pools: KVPools, direction: Direction, by_layer: bool) -> None:
    device, host = pools.device.copy(), pools.host.copy()
    for begin, to, length in SCATTERED:
        if direction is Direction.OUT:
            host[to : to + length] = device[begin : begin + length]
        else:
            device[begin : begin + length] = host[to : to + length]
    copy(CPUCopier(pools, by_layer=by_layer), ticket(direction))
    assert np.array_equal(pools.device, device)
    assert np.array_equal(pools.host, host)


def test_a_round_trip_to_other_blocks_brings_the_same_bytes_back(pools: KVPools) -> None:
    before = pools.device.copy()
    back = ((0, 10, 1), (12, 11, 1), (1, 0, 1), (13, 20, 3))
    copier = CPUCopier(pools)
    with copying(copier) as results:
        for each in (ticket(Direction.OUT), ticket(Direction.IN, back)):
            copier.submit(each)
            results.get(timeout=PATIENCE_S)
    assert np.array_equal(pools.device[[0, 12, 1, 13, 14, 15]], before[[3, 4, 9, 5, 6, 7]])


@pytest.mark.parametrize(("by_layer", "pieces"), [(False, 3), (True, 6 * LAYERS_AND_SIDES)])
def test_a_copy_reports_its_number_of_contiguous_copies(pools: KVPools, by_layer: bool, pieces: int) -> None:
    (result,) = copy(CPUCopier(pools, by_layer=by_layer), ticket(Direction.OUT, number=7))
    assert (result.ticket, result.pieces, result.failed) == (7, pieces, False)
    assert result.seconds > 0


def test_a_failure_is_reported_and_the_next_copy_works(pools: KVPools) -> None:
    beyond = ticket(Direction.OUT, ((14, 0, 4),), number=1)
    failed, fine = copy(CPUCopier(pools), beyond, ticket(Direction.OUT, number=2))
    assert (failed.ticket, failed.failed) == (1, True)
    assert (fine.ticket, fine.failed) == (2, False)


def test_a_pace_takes_at_least_its_time(pools: KVPools) -> None:
    pace = Pace(bytes_per_s=6 * pools.device[:1].nbytes / 0.02, piece_s=0.01)
    (result,) = copy(CPUCopier(pools, pace=pace), ticket(Direction.OUT))
    assert result.seconds >= 0.02 + 3 * 0.01


def test_a_paces_time_is_its_bytes_and_its_pieces() -> None:
    assert Pace(bytes_per_s=1000.0, piece_s=0.5).seconds(2000, 3) == 3.5


def test_copies_of_a_direction_end_in_their_order(pools: KVPools) -> None:
    tickets = [ticket(Direction.OUT, ((number, number, 1),), number) for number in range(10)]
    assert [result.ticket for result in copy(CPUCopier(pools), *tickets)] == list(range(10))


def test_both_directions_are_under_way_at_once(pools: KVPools) -> None:
    """Each report waits for the other direction's, which a single worker for both could never make."""
    copier, both = CPUCopier(pools), Barrier(2)
    met: queue.Queue[int] = queue.Queue()

    def report(result: CopyResult) -> None:
        both.wait(PATIENCE_S)
        met.put(result.ticket)

    copier.start(report)
    copier.submit(ticket(Direction.OUT, ((0, 0, 4),), 1))
    copier.submit(ticket(Direction.IN, ((8, 8, 4),), 2))
    assert {met.get(timeout=PATIENCE_S) for _ in range(2)} == {1, 2}
    copier.stop()


def test_stopping_lets_queued_copies_end(pools: KVPools) -> None:
    results: queue.Queue[CopyResult] = queue.Queue()
    copier = CPUCopier(pools, pace=Pace(bytes_per_s=1e12, piece_s=0.01))
    copier.start(results.put)
    for number in range(5):
        copier.submit(ticket(Direction.OUT, ((number, number, 1),), number))
    copier.stop()
    assert results.qsize() == 5
