"""The data plane of one model on a rig, as the service builds it: pools, a runner whose steps are timed, copiers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.rig import Rig
from benchmarks.gpu.timing import StepClock
from service.core.messages.plan import StepPlan, StepResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.kv import kv_bytes_per_block
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights


class Plane:
    """``weights`` are on the device, of type ``dtype``. Raises DeviceMemoryError and PinnedMemoryError."""

    def __init__(
        self,
        rig: Rig,
        config: ModelConfig,
        weights: ModelWeights,
        dtype: np.dtype[Any],
        *,
        device_blocks: int,
        host_blocks: int = 0,
        num_slots: int,
        max_batched_tokens: int,
    ) -> None:
        self.rig, self.config = rig, config
        self.block_bytes = kv_bytes_per_block(config, dtype)
        self.pools = GPUPools(rig.runtime, config, dtype, device_blocks=device_blocks, host_blocks=host_blocks)
        with rig.runtime.bound():
            self.clock = StepClock(rig.runtime.stream(urgent=True))
        self.runner = GPURunner(
            config,
            weights,
            rig.runtime,
            self.pools,
            self.clock,  # type: ignore[arg-type]  # a stream, and a little more
            num_slots=num_slots,
            max_batched_tokens=max_batched_tokens,
        )

    def copier(self, *, by_layer: bool = False) -> GPUCopier:
        """A new one."""
        return GPUCopier(self.rig.runtime, self.pools, self.clock, by_layer=by_layer)  # type: ignore[arg-type]

    def run(self, plans: list[StepPlan], depth: int = 1) -> list[StepResult]:
        """Their results, each plan launched while ``depth`` results of earlier ones are not known."""
        results: list[StepResult] = []
        awaited: list[Callable[[], StepResult]] = []
        for plan in plans:
            awaited.append(self.runner.launch(plan))
            if len(awaited) > depth:
                results.append(awaited.pop(0)())
        return results + [result() for result in awaited]
