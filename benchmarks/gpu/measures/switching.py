"""Compare the presets of context switching on the real engine: more conversations than KV memory, and ranks that change
every few steps. The users run in this process, so these figures contain no HTTP.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.measures.engine_load import ChatLoad, EngineUnderLoad, Observed
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.scale import SwitchScale
from benchmarks.record import Figures
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.switching.mechanisms import PRESETS

COMPARED = tuple(name for name, mechanisms in PRESETS.items() if not mechanisms.shadow)
SEED = 1
BUDGET = 512  # tokens a step


class Switching:
    """Runs presets on one data plane, all with the same conversations and priorities."""

    def __init__(self, model: MeasuredModel, scale: SwitchScale) -> None:
        self._model, self._scale = model, scale

    @cached_property
    def _data_plane(self) -> DataPlane:
        scale = self._scale
        return self._model.data_plane(
            device_blocks=scale.device_blocks,
            host_blocks=scale.host_blocks,
            num_slots=scale.users,
            max_batched_tokens=max(BUDGET, scale.users),
        )

    def measure(self, preset: str) -> Figures:
        """Measure a preset, one of `COMPARED`."""
        return _run(self._data_plane, self._scale, preset)


def _run(plane: DataPlane, scale: SwitchScale, preset: str) -> Figures:
    mechanisms = PRESETS[preset]
    settings = ServeSettings(
        preset=preset,
        policy="random",
        priority_seed=SEED,
        priority_update_every=scale.update_every,
        max_num_seqs=scale.users,
        max_num_batched_tokens=max(BUDGET, scale.users),
    )
    host_blocks = scale.host_blocks if mechanisms.swap else 0
    core = Core(wiring.core_settings(settings, scale.device_blocks, host_blocks), wiring.policy(settings))
    load = ChatLoad(scale.users, plane.config.vocab_size, scale.history, scale.question, scale.answer)
    engine = EngineUnderLoad(core, plane.runner, plane.copier(by_layer=not mechanisms.groups), load)
    return _figures(engine.run(scale.warm_up_s, scale.measured_s), scale.measured_s, plane.block_bytes)


def _figures(observed: Observed, window_s: float, block_bytes: int) -> Figures:
    """Return figures: times in seconds, shares of the measured time."""
    tokens = len(observed.ttft_s) + len(observed.gap_s)
    return {
        "tokens_per_s": tokens / window_s,
        "turns": len(observed.finished),
        **_percentiles("ttft", observed.ttft_s, (50, 95, 99)),
        **_percentiles("tbt", observed.gap_s, (50, 99, 99.9)),
        "preemptions_per_s": observed.preemptions / window_s,
        "recomputed_tokens": sum(turn.usage.recomputed for turn in observed.finished),
        **_copies(observed, "out", window_s, block_bytes),
        **_copies(observed, "in", window_s, block_bytes),
        "copy_wait_share": sum(step.copy_wait_s for step in observed.steps) / window_s,
        "idle_share": sum(step.idle_s for step in observed.steps) / window_s,
        "manager_share": sum(step.plan_s + step.commit_s + step.swap_s for step in observed.steps) / window_s,
    }


def _copies(observed: Observed, direction: str, window_s: float, block_bytes: int) -> Figures:
    copies = [copy for copy in observed.copies if copy.direction == direction and not copy.failed]
    blocks, pieces = sum(copy.blocks for copy in copies), sum(copy.pieces for copy in copies)
    return {
        f"{direction}_gb_per_s": blocks * block_bytes / 1e9 / window_s,
        f"{direction}_blocks_per_copy": blocks / pieces if pieces else 0.0,
        f"{direction}_busy_share": sum(copy.seconds for copy in copies) / window_s,
    }


def _percentiles(name: str, values: Sequence[float], percents: Sequence[float]) -> dict[str, Any]:
    """Return percentiles by name, None where there are no values."""
    return {f"{name}_p{percent:g}_s": float(np.percentile(values, percent)) if values else None for percent in percents}
