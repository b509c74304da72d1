"""The presets of context switching side by side, on the real engine: more conversations than KV memory, and ranks that
change every few steps. Clients are users of this process, so no HTTP is in these figures.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.gpu.crowd import Crowd, Seen, Talk
from benchmarks.gpu.measures.served import Served
from benchmarks.gpu.plane import Plane
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
    """Presets on one data plane, all with the same conversations and priorities."""

    def __init__(self, served: Served, scale: SwitchScale) -> None:
        self._served, self._scale = served, scale

    @cached_property
    def _plane(self) -> Plane:
        scale = self._scale
        return self._served.plane(
            device_blocks=scale.device_blocks,
            host_blocks=scale.host_blocks,
            num_slots=scale.users,
            max_batched_tokens=max(BUDGET, scale.users),
        )

    def measure(self, preset: str) -> Figures:
        """One of `COMPARED`."""
        return _run(self._plane, self._scale, preset)


def _run(plane: Plane, scale: SwitchScale, preset: str) -> Figures:
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
    talk = Talk(scale.users, plane.config.vocab_size, scale.history, scale.question, scale.answer)
    crowd = Crowd(core, plane.runner, plane.copier(by_layer=not mechanisms.groups), talk)
    return _figures(crowd.run(scale.warm_up_s, scale.measured_s), scale.measured_s, plane.block_bytes)


def _figures(seen: Seen, window_s: float, block_bytes: int) -> Figures:
    """Times in seconds; shares of the window."""
    tokens = len(seen.ttft_s) + len(seen.gap_s)
    return {
        "tokens_per_s": tokens / window_s,
        "turns": len(seen.finished),
        **_percentiles("ttft", seen.ttft_s, (50, 95, 99)),
        **_percentiles("tbt", seen.gap_s, (50, 99, 99.9)),
        "preemptions_per_s": seen.preemptions / window_s,
        "recomputed_tokens": sum(turn.usage.recomputed for turn in seen.finished),
        **_copies(seen, "out", window_s, block_bytes),
        **_copies(seen, "in", window_s, block_bytes),
        "copy_wait_share": sum(step.copy_wait_s for step in seen.steps) / window_s,
        "idle_share": sum(step.idle_s for step in seen.steps) / window_s,
        "manager_share": sum(step.plan_s + step.commit_s + step.swap_s for step in seen.steps) / window_s,
    }


def _copies(seen: Seen, direction: str, window_s: float, block_bytes: int) -> Figures:
    copies = [copy for copy in seen.copies if copy.direction == direction and not copy.failed]
    blocks, pieces = sum(copy.blocks for copy in copies), sum(copy.pieces for copy in copies)
    return {
        f"{direction}_gb_per_s": blocks * block_bytes / 1e9 / window_s,
        f"{direction}_blocks_per_copy": blocks / pieces if pieces else 0.0,
        f"{direction}_busy_share": sum(copy.seconds for copy in copies) / window_s,
    }


def _percentiles(name: str, values: Sequence[float], percents: Sequence[float]) -> dict[str, Any]:
    """None where there are no values."""
    return {f"{name}_p{percent:g}_s": float(np.percentile(values, percent)) if values else None for percent in percents}
