"""Copies blocks between the two pools of a CPU, on threads of its own that copy without the interpreter's lock.

Each direction has one worker, so both directions run at once and each is a queue, like a stream of a GPU. On a CPU both
pools are the same memory: this is a test bed for context switches. `Pace` makes copies take a real link's time.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np
import structlog

from allocator import Direction, Ticket, copy_runs
from kernels.cpu.copying import copy_by_layer
from service.core.messages.plan import CopyResult
from service.execution.kv import KVPools

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """A link to imitate: a copy takes at least ``bytes / bytes_per_s + pieces * piece_s`` seconds."""

    bytes_per_s: float
    piece_s: float

    def seconds(self, num_bytes: int, pieces: int) -> float:
        """Return how long a copy of so many bytes in so many contiguous pieces takes."""
        return num_bytes / self.bytes_per_s + pieces * self.piece_s


PACES = {"pcie4": Pace(bytes_per_s=25e9, piece_s=6e-6)}  # what PCIe 4.0 x16 reaches, and what issuing a copy costs


class CPUCopier:
    """A `Copier` between two pools. ``by_layer``: one copy a block, layer and side, instead of one a run of blocks."""

    def __init__(self, pools: KVPools, *, by_layer: bool = False, pace: Pace | None = None) -> None:
        self._pools = pools
        self._copy_run = self._copy_by_layer if by_layer else self._copy_whole
        self._pace = pace
        self._workers = {
            direction: ThreadPoolExecutor(1, thread_name_prefix=f"copy-{direction.value}") for direction in Direction
        }
        self._report: Callable[[CopyResult], None] = lambda result: None

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """Start the workers; ``report`` is called on their threads."""
        self._report = report
        for worker in self._workers.values():  # the thread exists before the first copy
            worker.submit(int)

    def warm_up(self) -> None:
        """Compile or load what copies use, so that no copy waits for it."""
        self._copy_run(self._pools.device, self._pools.device, 0, 0, 0)

    def submit(self, ticket: Ticket) -> None:
        """Queue a copy behind the others of its direction."""
        self._workers[ticket.direction].submit(self._copy, ticket)

    def stop(self) -> None:
        """Stop the workers when all queued copies have ended."""
        for worker in self._workers.values():
            worker.shutdown()

    def _copy(self, ticket: Ticket) -> None:
        began = perf_counter()
        try:
            pieces = self._copy_pieces(ticket)
        except Exception:  # whatever it is, it must be reported to the engine
            log.exception("copy_failed", ticket=ticket.number)
            self._report(CopyResult(ticket.number, perf_counter() - began, 0, failed=True))
            return
        if self._pace is not None:
            num_bytes = ticket.num_blocks * self._pools.device[:1].nbytes
            sleep(max(0.0, began + self._pace.seconds(num_bytes, pieces) - perf_counter()))
        self._report(CopyResult(ticket.number, perf_counter() - began, pieces))

    def _copy_pieces(self, ticket: Ticket) -> int:
        source, destination = self._pools[ticket.source[0].pool], self._pools[ticket.destination[0].pool]
        runs = copy_runs(ticket.source, ticket.destination)
        return sum(self._copy_run(source, destination, begin, to, length) for begin, to, length in runs)

    @staticmethod
    def _copy_whole(source: np.ndarray, destination: np.ndarray, begin: int, to: int, length: int) -> int:
        np.copyto(destination[to : to + length], source[begin : begin + length])
        return 1

    @staticmethod
    def _copy_by_layer(source: np.ndarray, destination: np.ndarray, begin: int, to: int, length: int) -> int:
        return int(copy_by_layer(source, destination, begin, to, length))
