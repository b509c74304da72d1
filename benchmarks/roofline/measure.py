"""Times the kernels of a compiled model, one kind of operation at a time over all layers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil

from allocator import BLOCK_TOKENS, Extent
from benchmarks.roofline.costs import KINDS, Cost, Step, cost, kind_of
from benchmarks.roofline.limits import Limits, Sweep
from kernels import cpu
from service.core.messages.plan import Row
from service.execution.batch import Batch, Batcher, SlotMemory
from service.execution.compiled_model import CompiledModel
from service.execution.forward_pass import forward_pass
from service.execution.kv import KVFormat
from service.execution.memory import HostMemory
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights

CHUNK = 512
LEAST_RUNS = 5
SWEPT_BYTES = 128 << 20  # more than caches hold
STEPS: Mapping[str, Step] = {
    **{f"{rows} x 1 at {context}": Step(rows, 1, context) for context in (200, 1000) for rows in (1, 4, 16)},
    f"1 x {CHUNK} at {CHUNK}": Step(1, CHUNK, CHUNK),
}
"""By rows, queries of each, and tokens of context."""

MOST_ROWS = max(step.rows for step in STEPS.values())
BLOCKS = -(-max(step.context for step in STEPS.values()) // BLOCK_TOKENS)  # of a row


@dataclass(frozen=True, slots=True)
class Reached:
    """What a kind of operation takes in a step, and which share it reaches of the limit that ``binds``."""

    ms: float
    megabytes: float
    giga_operations: float
    least_ms: float
    binds: str
    share: float


def reached(cost: Cost, seconds: float, limits: Limits) -> Reached:
    """Compare with the time that the bytes or the operations take at least."""
    least = {"read": cost.bytes / limits.read, cost.unit: cost.operations / getattr(limits, cost.unit)}
    binds = max(least, key=least.__getitem__)
    return Reached(
        seconds * 1e3, cost.bytes / 1e6, cost.operations / 1e9, least[binds] * 1e3, binds, least[binds] / seconds
    )


class Measured:
    """A model with keys and values for the largest step."""

    def __init__(self, config: ModelConfig, weights: ModelWeights) -> None:
        self._config, self._ops = config, forward_pass(weights)
        self._kv_format = KVFormat.padded(config, "bfloat16")
        self._kv = self._kv_format.allocate(MOST_ROWS * BLOCKS)
        self._batcher = Batcher(MOST_ROWS, BLOCKS)
        self._slots = SlotMemory.allocate(HostMemory(), MOST_ROWS, BLOCKS)
        sizes = {"max_positions": BLOCKS * BLOCK_TOKENS, "max_tokens": CHUNK, "max_draws": MOST_ROWS}
        self._model = CompiledModel(config, weights, self._kv_format, **sizes)
        self._parts = {kind: self._model.only(lambda op, kind=kind: kind_of(op) == kind) for kind in KINDS}
        self._sweep = Sweep(SWEPT_BYTES)
        self._nothing = self._model.only(lambda op: False)

    def step(self, step: Step, limits: Limits, seconds: float) -> dict[str, Reached | float]:
        """Measure each kind for so many seconds; ``step_ms`` and ``share`` are those of the whole step.

        What a step takes without any operation is ``launch_ms``, and not part of the kinds' times.
        """
        batch = self._batch(step)
        whole, launch = (self._time(model, batch, seconds) for model in (self._model, self._nothing))
        kinds = {}
        for kind, part in self._parts.items():
            needed = cost(self._ops, kind, self._config, self._kv_format, step)
            kinds[kind] = reached(needed, max(self._time(part, batch, seconds) - launch, 1e-9), limits)
        least_ms = sum(each.least_ms for each in kinds.values())
        return {"step_ms": whole * 1e3, "launch_ms": launch * 1e3, "share": least_ms / (whole * 1e3), "kinds": kinds}

    def _batch(self, step: Step) -> Batch:
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self._config.vocab_size, (step.rows, step.queries)).tolist()
        start = step.context - step.queries
        rows = [
            Row(slot, start, tuple(some), (Extent(0, slot * BLOCKS, BLOCKS),), draws_token=True)
            for slot, some in enumerate(tokens)
        ]
        batch, changes = self._batcher.build(rows)
        self._slots.change(changes, cpu)
        return batch

    def _time(self, model: CompiledModel, batch: Batch, seconds: float) -> float:
        """Return the best time, as limits are; nothing is in caches, as in a step, which reads all weights."""
        model.forward(batch, self._slots, self._kv)  # compiles
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < LEAST_RUNS or time.perf_counter() < end:
            self._sweep()
            began = time.perf_counter()
            model.forward(batch, self._slots, self._kv)
            times.append(time.perf_counter() - began)
        return min(times)


@contextmanager
def others() -> Iterator[Callable[[], float]]:
    """Yield a function that returns how many cores other processes have kept busy since."""
    own = psutil.Process()

    def cpu_s() -> float:
        system, mine = psutil.cpu_times(), own.cpu_times()
        return float(system.user + system.nice + system.system - mine.user - mine.system)

    began, before = time.perf_counter(), cpu_s()
    yield lambda: max(0.0, (cpu_s() - before) / (time.perf_counter() - began))
