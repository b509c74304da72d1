"""Compaction: blocks move while requests run, are copied, or wait."""

from collections.abc import Sequence
from random import Random

import pytest

from allocator import HOST, Extent, KVMemory
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Compacted
from service.core.messages.sampling import SamplingParams
from service.core.switching.compaction import BLOCKS_A_STEP
from service.core.switching.mechanisms import PRESETS
from service.simulation.copier import SimulatedCopier
from service.simulation.driver import Simulation
from service.simulation.pools import Block, HashPools
from service.simulation.runner import SimulatedRunner, StepCost
from tests.settings import core_settings, make_policy

FULL = PRESETS["full"]


def simulation(depth: int, mechanisms: object = FULL, **settings: object) -> Simulation:
    sizes = {"device_blocks": 120, "host_blocks": 120, "block_group_size": 10, "max_num_seqs": 40, **settings}
    core = Core(core_settings(mechanisms=mechanisms, **sizes), make_policy("random", update_every=5))  # type: ignore[arg-type]
    pools = HashPools()
    return Simulation(core, SimulatedRunner(1000, StepCost(1.0), pools, depth), SimulatedCopier(pools))


def play(sim: Simulation) -> dict[str, list[int]]:
    """Waves of short turns that share out all blocks in small groups, and leave scattered holes as they end."""
    random = Random(7)
    for number in range(120):
        prompt = tuple(range(number, number + random.randint(1, 50)))
        sampling = SamplingParams(seed=number)
        sim.submit(Submit(f"r{number}", prompt, random.randint(1, 60), sampling, frozenset(), None))
        for _ in range(40 if number % 40 == 39 else 0):
            sim.step()
            sim.core.check()
    sim.run()
    return sim.answers


def moved(sim: Simulation) -> int:
    return sum(event.blocks for event in sim.log if isinstance(event, Compacted))


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("evict_every", [None, 9])  # with eviction, freed blocks are spoiled
def test_answers_are_those_without_moves(depth: int, evict_every: int | None) -> None:
    sims = [simulation(depth, each, debug_preempt_every=evict_every) for each in (FULL, PRESETS["groups+reuse+async"])]
    answers, expected = map(play, sims)
    assert answers == expected
    assert len(answers) == 120
    assert moved(sims[0]) > 0
    assert moved(sims[1]) == 0


def striped(owners: int = 5, each: int = 4, host_blocks: int = 0) -> KVMemory:
    """A full pool of sequences of ``each`` blocks, of which every other one has gone."""
    memory = KVMemory(owners * each, host_blocks, initial_group=each)
    for sequence in range(owners):
        memory.add(sequence)
        memory.reserve(sequence, 16 * each)
        memory.append(sequence, 16 * each)
    for gone in range(0, owners, 2):
        memory.drop(gone)
    assert memory.device.largest_free == each
    return memory


def test_two_holes_become_one() -> None:
    memory = striped()
    (move,) = memory.device.compact(8, budget=32, movable={1, 3})
    assert memory.device.largest_free == 12
    assert [extent.start for extent in memory.device.extents(move.owner)] == [move.destination]
    memory.check()


def test_of_a_group_of_the_usual_length_only_what_is_used_moves() -> None:
    """Three blocks used, 57 reserved, between two holes of 40; five blocks are free elsewhere."""
    memory = KVMemory(205, 0, initial_group=60)
    groups = memory.device
    for owner, used in enumerate((40, 60, 40)):
        groups.initial_group = used
        memory.add(owner)
        memory.reserve(owner, 16 * (3 if owner == 1 else used))
    groups.initial_group = 60
    memory.add(3)
    memory.reserve(3, 16 * 60)
    memory.drop(0)
    memory.drop(2)
    assert (groups.num_reserved, groups.largest_free) == (57, 40)
    (move,) = memory.compact(BLOCKS_A_STEP)
    assert (move.owner, move.length) == (1, 3)
    assert groups.largest_free >= 60
    memory.check()


@pytest.mark.parametrize(("budget", "movable"), [(3, {1, 3}), (32, set())])
def test_nothing_moves_beyond_the_budget_or_under_a_copy(budget: int, movable: set[int]) -> None:
    memory = striped()
    assert memory.device.compact(8, budget, movable) == []
    assert memory.device.largest_free == 4


@pytest.mark.parametrize("heeds_tickets", [True, False])
def test_a_block_under_copy_stays_where_it_is(heeds_tickets: bool) -> None:
    """A copy that reads late finds other KV where the moved KV was."""
    memory, pools = striped(host_blocks=20), HashPools()
    memory.device.initial_group = 8  # set late: no free extent is as long
    held = {block: Block(before=block) for sequence in (1, 3) for block in blocks(memory.device.extents(sequence))}
    pools.device.update(held)
    ticket = memory.swap_out(1)
    pools.begin_copy(ticket, early=False)
    pools.move(memory.compact(32) if heeds_tickets else memory.device.compact(8, 32, movable={1}))
    memory.add(9)
    memory.reserve(9, 16 * 8)  # the next sequence, which writes
    pools.device.update({block: Block(before=-1) for block in blocks(memory.device.extents(9))})
    pools.end_copy(ticket, failed=False)
    copied = [pools.pools[HOST].get(block) for block in blocks(memory.host.extents(1))]
    is_right = copied == [held[block] for block in blocks(ticket.source)]
    assert is_right is heeds_tickets


def blocks(extents: Sequence[Extent]) -> list[int]:
    return [block for extent in extents for block in range(extent.start, extent.end)]


def test_kv_that_moved_in_a_failed_step_is_not_used_again() -> None:
    sim = simulation(1)
    random = Random(7)
    for number in range(120):
        prompt = tuple(range(random.randint(1, 50)))
        sim.submit(Submit(f"r{number}", prompt, random.randint(1, 60), SamplingParams(), frozenset(), None))
    owners: set[int] = set()
    while not owners:
        plan = sim.launch()
        assert plan is not None, "nothing has moved"
        owners = {move.owner for move in plan.moves}
        if not owners:
            sim.step()
    sim.fail()
    assert not owners & set(sim.core._ledger.memory.sequences)
    sim.core.check()
