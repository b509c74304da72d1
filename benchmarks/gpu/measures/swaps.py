"""Compare our copier with plain copies of the same bytes in the same run: what pools, tickets and threads cost."""

import queue
from statistics import median
from time import perf_counter

import numpy as np

from allocator import Direction, Ticket
from benchmarks.gpu.measures.links import GB, Ends, both_ways, one_way
from benchmarks.gpu.plans import ticket
from benchmarks.gpu.under_test import GPUUnderTest
from benchmarks.record import Figures
from service.core.messages.plan import CopyResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.kv import kv_bytes_per_block

IN, OUT = Direction.IN, Direction.OUT
PATIENCE_S = 60
NAMES = {IN: "in", OUT: "out"}


class CopierBench:
    """Pools of the measured model's blocks, a half for each direction, and a copier that does nothing else."""

    def __init__(self, gpu: GPUUnderTest) -> None:
        config = gpu.scale.model.config
        self._gpu = gpu
        self._block_bytes = kv_bytes_per_block(config, gpu.dtype)
        self._half = max(1, gpu.scale.link_bytes // self._block_bytes)
        pools = GPUPools(gpu.runtime, config, gpu.dtype, device_blocks=2 * self._half, host_blocks=2 * self._half)
        with gpu.runtime.bound():
            self._copier = GPUCopier(gpu.runtime, pools, gpu.runtime.stream())
        self._results: queue.Queue[CopyResult] = queue.Queue()

    def __enter__(self) -> "CopierBench":
        self._copier.start(self._results.put)
        return self

    def __exit__(self, *_: object) -> None:
        self._copier.stop()

    def rate(self, group_bytes: int, directions: tuple[Direction, ...]) -> float:
        """Return GB/s of groups of that size, one a ticket, all queued at once, from first submit to last report."""
        blocks = min(self._half, max(1, group_bytes // self._block_bytes))
        tickets = [each for direction in directions for each in self._tickets(direction, blocks)]
        tickets = _interleaved(tickets, len(directions))
        return median([self._copy(tickets) for _ in range(self._gpu.scale.repetitions + 1)][1:])

    def _tickets(self, direction: Direction, blocks: int) -> list[Ticket]:
        """Return tickets for a half of the pools; groups that are neighbours on the device are not on the host."""
        first = 0 if direction is OUT else self._half
        groups = self._half // blocks
        others = np.random.default_rng(0).permutation(groups).tolist()
        return [
            ticket(direction, [(first + group * blocks, first + other * blocks, blocks)], group)
            for group, other in enumerate(others)
        ]

    def _copy(self, tickets: list[Ticket]) -> float:
        began = perf_counter()
        for each in tickets:
            self._copier.submit(each)
        results = [self._results.get(timeout=PATIENCE_S) for _ in tickets]
        took = perf_counter() - began
        if any(result.failed for result in results):
            raise RuntimeError("a copy failed")
        return sum(each.num_blocks for each in tickets) * self._block_bytes / GB / took


def _interleaved(tickets: list[Ticket], parts: int) -> list[Ticket]:
    """Alternate the directions, so that both have work from the start."""
    size = len(tickets) // parts
    return [tickets[part * size + number] for number in range(size) for part in range(parts)]


def measure_swaps(gpu: GPUUnderTest) -> Figures:
    """Return GB/s by group size and direction, and the worst share of plain copies' GB/s."""
    ends, largest = Ends.make(gpu), max(gpu.scale.copy_bytes)
    plain = {direction: one_way(gpu, ends, direction is IN, largest) for direction in (IN, OUT)}
    plain_both = both_ways(gpu, ends)
    figures: Figures = {f"plain_{NAMES[direction]}_gb_per_s": rate for direction, rate in plain.items()}
    shares, duplex = [], []
    with CopierBench(gpu) as swaps:
        for size in gpu.scale.group_bytes:
            for direction in (IN, OUT):
                rate = swaps.rate(size, (direction,))
                figures[f"swap_{NAMES[direction]}_gb_per_s_{size >> 20}_mib"] = rate
                shares.append(rate / plain[direction])
            rate = swaps.rate(size, (IN, OUT))
            figures[f"swap_duplex_gb_per_s_{size >> 20}_mib"] = rate
            duplex.append(rate / plain_both)
    figures["plain_duplex_gb_per_s"] = plain_both
    return {**figures, "swap_vs_pinned_peak": min(shares), "duplex_vs_raw_duplex": min(duplex)}
