"""The data plane of one model on a GPU, as the service builds it: pools, a runner whose steps are timed, copiers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.timing import StepClock
from benchmarks.gpu.under_test import GPUUnderTest
from service.core.messages.plan import StepPlan, StepResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.kv import kv_bytes_per_block
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights


class DataPlane:
    """Pools and a runner for ``weights``, which are on the device. Raises DeviceMemoryError and PinnedMemoryError."""

    def __init__(
        self,
        gpu: GPUUnderTest,
        config: ModelConfig,
        weights: ModelWeights,
        dtype: np.dtype[Any],
        *,
        device_blocks: int,
        host_blocks: int = 0,
        num_slots: int,
        max_batched_tokens: int,
    ) -> None:
        self.gpu, self.config = gpu, config
        self.block_bytes = kv_bytes_per_block(config, dtype)
        self.pools = GPUPools(gpu.runtime, config, dtype, device_blocks=device_blocks, host_blocks=host_blocks)
        with gpu.runtime.bound():
            self.clock = StepClock(gpu.runtime.stream(urgent=True))
        self.runner = GPURunner(
            config,
            weights,
            gpu.runtime,
            self.pools,
            self.clock,  # type: ignore[arg-type]  # a stream, and a little more
            num_slots=num_slots,
            max_batched_tokens=max_batched_tokens,
        )

    def copier(self, *, by_layer: bool = False) -> GPUCopier:
        """Return a new copier between the two pools."""
        return GPUCopier(self.gpu.runtime, self.pools, self.clock, by_layer=by_layer)  # type: ignore[arg-type]

    def run(self, plans: list[StepPlan], depth: int = 1) -> list[StepResult]:
        """Run the plans and return their results. A plan is launched while ``depth`` earlier results are not known."""
        results: list[StepResult] = []
        awaited: list[Callable[[], StepResult]] = []
        for plan in plans:
            awaited.append(self.runner.launch(plan))
            if len(awaited) > depth:
                results.append(awaited.pop(0)())
        return results + [result() for result in awaited]
