"""Decode steps while both links are busy, against the same steps while they are idle."""

import queue
from statistics import median

from allocator import Direction, Ticket
from benchmarks.gpu.decoding import Decoding
from benchmarks.gpu.measures.decode import WARM_STEPS, step_seconds
from benchmarks.gpu.measures.links import GB, Ends, both_ways
from benchmarks.gpu.measures.served import Served
from benchmarks.gpu.plane import Plane
from benchmarks.gpu.tickets import ticket
from benchmarks.gpu.timing import seconds
from benchmarks.record import Figures
from service.core.messages.plan import CopyResult
from service.execution.kv import kv_bytes_per_block

IN, OUT = Direction.IN, Direction.OUT
QUEUED = 6  # times all tickets: more than a step's worth, since each waits for the step before it
MOVED_BYTES = 256 << 20
PIECE_BYTES = 8 << 20
PATIENCE_S = 60


def measure_interference(served: Served) -> Figures:
    """At the largest batch, by copies as long as they come and by short ones, which let a step's own go between.

    GB/s of both links together say how busy they were.
    """
    scale = served.rig.scale
    block_bytes = kv_bytes_per_block(served.source.config, served.rig.dtype)
    moved = max(1, min(MOVED_BYTES, scale.link_bytes) // block_bytes)
    decoding = Decoding(max(scale.batches), scale.context, WARM_STEPS + scale.steps, first_block=2 * moved)
    plane = served.plane(
        device_blocks=decoding.blocks,
        host_blocks=2 * moved,
        num_slots=decoding.batch,
        max_batched_tokens=decoding.batch,
    )
    idle = step_seconds(plane, decoding)
    busy, rate = _with_busy_links(plane, decoding, _tickets(moved, moved))
    short, short_rate = _with_busy_links(plane, decoding, _tickets(moved, min(moved, -(-PIECE_BYTES // block_bytes))))
    idle = median((idle, step_seconds(plane, decoding)))
    raw = both_ways(served.rig, Ends.make(served.rig))
    return {
        "step_idle_links_ms": 1e3 * idle,
        "step_busy_links_ms": 1e3 * busy,
        "busy_links_gb_per_s": rate,
        "busy_links_share": rate / raw,
        "step_with_busy_links": busy / idle,
        "short_copies_gb_per_s": short_rate,
        "step_with_short_copies": short / idle,
    }


def _tickets(moved: int, blocks: int) -> list[Ticket]:
    """Of so many blocks each, alternately out and in, ``moved`` blocks each way; their numbers are their places."""
    starts = range(0, moved - blocks + 1, blocks)
    ways = [(way, first + start) for start in starts for way, first in ((OUT, 0), (IN, moved))]
    return [ticket(way, [(first, first, blocks)], number) for number, (way, first) in enumerate(ways)]


def _with_busy_links(plane: Plane, decoding: Decoding, tickets: list[Ticket]) -> tuple[float, float]:
    """Seconds a step, and GB/s of the copies beside: as one ends, the same is queued again."""
    results: queue.Queue[CopyResult] = queue.Queue()
    copier = plane.copier()
    copier.start(results.put)
    plane.clock.spans.clear()
    for each in tickets * QUEUED:
        copier.submit(each)
    ended, awaited = 0, []
    for plan in decoding.plans():
        while not results.empty():
            copier.submit(tickets[_copied(results)])
            ended += 1
        awaited.append(plane.runner.launch(plan))
        if len(awaited) > 1:
            awaited.pop(0)()
    awaited.pop()()
    spans = plane.clock.spans
    took, window = median(seconds(span) for span in spans[WARM_STEPS:]), seconds((spans[0][0], spans[-1][1]))
    for _ in range(len(tickets) * QUEUED):
        _copied(results)
    copier.stop()
    return took, ended * tickets[0].num_blocks * plane.block_bytes / GB / window


def _copied(results: queue.Queue[CopyResult]) -> int:
    """The number of the next ticket that ends. Raises RuntimeError if it has failed."""
    result = results.get(timeout=PATIENCE_S)
    if result.failed:
        raise RuntimeError("a copy failed")
    return result.ticket
