"""The modelled link: what copies cost, when they end, what goes wrong."""

import pytest

from allocator import DEVICE, HOST, Direction, Extent, Ticket
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import CopyEnded, Event
from service.core.messages.sampling import SamplingParams
from service.simulation.copier import Link, SimulatedCopier
from service.simulation.driver import Simulation
from service.simulation.pools import Block, HashPools
from service.simulation.runner import SimulatedRunner, StepCost
from tests.settings import core_settings, make_policy


def ticket(number: int, direction: Direction, *runs: tuple[int, int, int]) -> Ticket:
    """Runs are (device block, host block, length)."""
    device = tuple(Extent(DEVICE, start, length) for start, _, length in runs)
    host = tuple(Extent(HOST, start, length) for _, start, length in runs)
    source, destination = (device, host) if direction is Direction.OUT else (host, device)
    return Ticket(number, number, direction, 0, source, destination, 16, 0)


def out(number: int, blocks: int = 4) -> Ticket:
    return ticket(number, Direction.OUT, (10 * number, 10 * number, blocks))


def into(number: int, blocks: int = 4) -> Ticket:
    return ticket(number, Direction.IN, (10 * number, 10 * number, blocks))


@pytest.fixture
def pools() -> HashPools:
    """Every block, on either side, holds its own number."""
    pools = HashPools()
    for pool in pools.pools:
        pool.update({number: Block(number) for number in range(100)})
    return pools


def ends(copier: SimulatedCopier, now: float = 1e9) -> dict[int, float]:
    """Own seconds, by ticket, in the order of their ends."""
    return {result.ticket: result.seconds for result in copier.ended(now)}


def test_a_copy_costs_by_the_block_and_by_the_piece(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0, piece_s=10.0))
    copier.submit(ticket(0, Direction.OUT, (0, 0, 3), (7, 5, 2)), 5.0)
    assert copier.next_end_s == 30.0
    assert not copier.ended(29.9)
    (result,) = copier.ended(30.0)
    assert (result.seconds, result.pieces, result.failed) == (25.0, 2, False)
    assert copier.next_end_s is None


def test_pieces_are_counted_as_the_layout_has_them(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(piece_s=1.0), pieces_of=lambda ticket: ticket.num_blocks * 6)
    copier.submit(out(0), 0.0)
    assert ends(copier) == {0: 24.0}


def test_copies_of_a_direction_wait_for_one_another(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0))
    for number in range(3):
        copier.submit(out(number), 0.0)
    assert [list(ends(copier, now)) for now in (4.0, 8.0, 12.0)] == [[0], [1], [2]]


def test_both_directions_copy_at_once(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0))
    copier.submit(out(0), 0.0)
    copier.submit(into(1), 0.0)
    assert list(ends(copier, 4.0)) == [0, 1]


def test_a_delay_is_drawn_for_each_copy_and_bounded(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0, delay_s=2.0), seed=1)
    for number in range(9):
        copier.submit(out(number), 0.0)
    seconds = ends(copier).values()
    assert len(set(seconds)) == 9
    assert all(4.0 <= taken < 6.0 for taken in seconds)


def test_a_link_that_reorders_ends_short_copies_first(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0, reorder=True))
    for number, blocks in enumerate((9, 1, 5)):
        copier.submit(out(number, blocks), 0.0)
    assert list(ends(copier)) == [1, 2, 0]


def test_what_arrives_is_what_was_there(pools: HashPools) -> None:
    copier = SimulatedCopier(pools)
    copier.submit(ticket(0, Direction.OUT, (3, 50, 2), (9, 70, 1)), 0.0)
    copier.ended(0.0)
    assert [pools.pools[HOST][number].before for number in (50, 51, 70)] == [3, 4, 9]


def test_the_destination_means_nothing_before_the_end(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(block_s=1.0))
    copier.submit(ticket(0, Direction.OUT, (3, 50, 2)), 0.0)
    assert not pools.pools[HOST].keys() & {50, 51}


def test_a_failed_copy_leaves_a_part(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(failure=1.0))
    copier.submit(ticket(0, Direction.IN, (3, 50, 4)), 0.0)
    (result,) = copier.ended(0.0)
    assert result.failed
    assert pools.device.keys() & {3, 4, 5, 6} == {3, 4}


def test_failures_are_as_frequent_as_set(pools: HashPools) -> None:
    copier = SimulatedCopier(pools, Link(failure=0.3), seed=5)
    for number in range(1000):
        copier.submit(ticket(number, Direction.OUT, (0, 0, 1)), 0.0)
    assert 250 < sum(result.failed for result in copier.ended(0.0)) < 350


def events_of(seed: int) -> list[Event]:
    """Many requests on scarce memory, over a link with every fault."""
    core = Core(
        core_settings(device_blocks=20, host_blocks=30, max_num_seqs=4, max_num_batched_tokens=64),
        make_policy("random", seed=1, update_every=5),
    )
    pools = HashPools()
    link = Link(block_s=0.2, piece_s=0.1, delay_s=2.0, reorder=True, failure=0.2)
    sim = Simulation(core, SimulatedRunner(100, StepCost(1.0, 0.01), pools), SimulatedCopier(pools, link, seed))
    for number in range(12):
        prompt = tuple(range(number, number + 60))
        sim.submit(Submit(f"r{number}", prompt, 30, SamplingParams(seed=number), frozenset(), ("t", str(number))))
    sim.run()
    return sim.log


def test_the_same_seed_gives_the_same_events_and_another_one_others() -> None:
    log = events_of(7)
    assert sum(isinstance(event, CopyEnded) for event in log) > 20
    assert log == events_of(7)
    assert log != events_of(8)
