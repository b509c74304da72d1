"""Compare decode steps while both links are busy with the same steps while the links are idle."""

import queue
from statistics import median

from allocator import Direction, Ticket
from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.measures.decode import WARM_STEPS, step_seconds
from benchmarks.gpu.measures.links import GB, Ends, both_ways
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.plans import Decoding, ticket
from benchmarks.gpu.timing import seconds
from benchmarks.record import Figures
from service.core.messages.plan import CopyResult
from service.execution.kv import kv_bytes_per_block

IN, OUT = Direction.IN, Direction.OUT
QUEUED = 6  # times all tickets: more than a step takes, since each ticket waits for the step before it
MOVED_BYTES = 256 << 20
PIECE_BYTES = 8 << 20
PATIENCE_S = 60


def measure_interference(model: MeasuredModel) -> Figures:
    """Measure at the largest batch, beside long copies and beside short ones, between which a step's own copies pass.

    GB/s of both links together show how busy they were.
    """
    scale = model.gpu.scale
    block_bytes = kv_bytes_per_block(model.source.config, model.gpu.dtype)
    moved = max(1, min(MOVED_BYTES, scale.link_bytes) // block_bytes)
    decoding = Decoding(max(scale.batches), scale.context, WARM_STEPS + scale.steps, first_block=2 * moved)
    blocks = {"device_blocks": decoding.blocks, "host_blocks": 2 * moved}
    plane = model.data_plane(**blocks, num_slots=decoding.batch, max_batched_tokens=decoding.batch)
    idle = step_seconds(plane, decoding)
    busy, rate = _with_busy_links(plane, decoding, _tickets(moved, moved))
    short, short_rate = _with_busy_links(plane, decoding, _tickets(moved, min(moved, -(-PIECE_BYTES // block_bytes))))
    idle = median((idle, step_seconds(plane, decoding)))
    raw = both_ways(model.gpu, Ends.make(model.gpu))
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
    """Return tickets of ``blocks`` blocks, alternately out and in, ``moved`` blocks each way, numbered by index."""
    starts = range(0, moved - blocks + 1, blocks)
    ways = [(way, first + start) for start in starts for way, first in ((OUT, 0), (IN, moved))]
    return [ticket(way, [(first, first, blocks)], number) for number, (way, first) in enumerate(ways)]


def _with_busy_links(plane: DataPlane, decoding: Decoding, tickets: list[Ticket]) -> tuple[float, float]:
    """Return seconds a step, and GB/s of the copies meanwhile. A ticket that ends is queued again."""
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
    """Wait for the next ticket to end and return its number. Raises RuntimeError if it has failed."""
    result = results.get(timeout=PATIENCE_S)
    if result.failed:
        raise RuntimeError("a copy failed")
    return result.ticket
