"""The cost of block groups: 1,000 owners grow, shrink and free on 100,000 blocks."""

import random
import time

from allocator import BlockGroups, KVMemory, OutOfBlocksError
from benchmarks.record import Figures
from service.config import ServeSettings

BLOCKS, OWNERS, OPERATIONS, SEED = 100_000, 1_000, 300_000, 1
GROUP = ServeSettings().block_group_size


def measure() -> Figures:
    """Measure operations a second on a full pool: of block groups, and of the watermarks above them."""
    return {
        "blocks": BLOCKS,
        "owners": OWNERS,
        "operations": OPERATIONS,
        "group_operations_per_s": _rate(_group_operations),
        "watermark_operations_per_s": _rate(_watermark_operations),
    }


def _rate(operations) -> float:
    began = time.perf_counter()
    operations(random.Random(SEED))
    return OPERATIONS / (time.perf_counter() - began)


def _group_operations(rng: random.Random) -> None:
    groups = BlockGroups(BLOCKS, initial_group=GROUP)
    refused = 0
    for _ in range(OPERATIONS):
        owner, kind = rng.randrange(OWNERS), rng.random()
        used = groups.used(owner) if owner in groups else 0
        if kind < 0.99:
            try:
                groups.grow(owner, used + rng.randrange(1, 4))
            except OutOfBlocksError:
                refused += 1
                if used:
                    groups.release(owner)
        elif owner in groups:
            groups.shrink(owner, used // 2)
    assert refused, "the pool never got full"


def _watermark_operations(rng: random.Random) -> None:
    memory = KVMemory(BLOCKS, 0, initial_group=GROUP)
    for owner in range(OWNERS):
        memory.add(owner)
    for _ in range(OPERATIONS):
        owner, kind = rng.randrange(OWNERS), rng.random()
        computed = memory.computed(owner)
        if kind < 0.98:
            tokens = rng.randrange(1, 40)
            try:
                memory.reserve(owner, computed + tokens)
                memory.append(owner, tokens)
            except OutOfBlocksError:
                memory.truncate(owner, 0)
        else:
            memory.truncate(owner, computed // 2)
