"""Decode steps while both links are busy, against the same steps while they are idle."""

import queue
from statistics import median

from allocator import Direction
from benchmarks.gpu.decoding import Decoding
from benchmarks.gpu.measures.decode import WARM_STEPS, step_seconds
from benchmarks.gpu.measures.links import GB
from benchmarks.gpu.measures.served import Served
from benchmarks.gpu.plane import Plane
from benchmarks.gpu.tickets import ticket
from benchmarks.gpu.timing import seconds
from benchmarks.record import Figures
from service.core.plan import CopyResult
from service.execution.kv import kv_bytes_per_block

IN, OUT = Direction.IN, Direction.OUT
QUEUED = 6  # tickets of each direction: more than a step's worth, since each waits for the step before it
TICKET_BYTES = 256 << 20
PATIENCE_S = 60


def measure_interference(served: Served) -> Figures:
    """At the largest batch. GB/s of both links together say how busy they were."""
    scale = served.rig.scale
    moved = max(1, min(TICKET_BYTES, scale.link_bytes) // kv_bytes_per_block(served.source.config, served.rig.dtype))
    decoding = Decoding(max(scale.batches), scale.context, WARM_STEPS + scale.steps, first_block=2 * moved)
    plane = served.plane(
        device_blocks=decoding.blocks,
        host_blocks=2 * moved,
        num_slots=decoding.batch,
        max_batched_tokens=decoding.batch,
    )
    idle = step_seconds(plane, decoding)
    busy, rate = _with_busy_links(plane, decoding, moved)
    again = step_seconds(plane, decoding)
    return {
        "step_idle_links_ms": 1e3 * median((idle, again)),
        "step_busy_links_ms": 1e3 * busy,
        "busy_links_gb_per_s": rate,
        "step_with_busy_links": busy / median((idle, again)),
    }


def _with_busy_links(plane: Plane, decoding: Decoding, blocks: int) -> tuple[float, float]:
    """Seconds a step, and GB/s of the copies beside: as one ends, another of its direction is queued."""
    tickets = [ticket(OUT, [(0, 0, blocks)], 0), ticket(IN, [(blocks, blocks, blocks)], 1)]
    results: queue.Queue[CopyResult] = queue.Queue()
    copier = plane.copier()
    copier.start(results.put)
    plane.clock.spans.clear()
    for each in tickets * QUEUED:
        copier.submit(each)
    ended, awaited = 0, []
    for plan in decoding.plans():
        while not results.empty():
            copier.submit(tickets[results.get().ticket])
            ended += 1
        awaited.append(plane.runner.launch(plan))
        if len(awaited) > 1:
            awaited.pop(0)()
    awaited.pop()()
    spans = plane.clock.spans
    took, window = median(seconds(span) for span in spans[WARM_STEPS:]), seconds((spans[0][0], spans[-1][1]))
    for _ in range(len(tickets) * QUEUED):
        results.get(timeout=PATIENCE_S)
    copier.stop()
    return took, ended * blocks * plane.block_bytes / GB / window
