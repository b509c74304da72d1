"""How long the device waits for Python: gaps between steps of a full batch that the engine plans one step ahead."""

from itertools import pairwise

from allocator import BLOCK_TOKENS
from benchmarks.gpu.measures.engine_load import ChatLoad, EngineUnderLoad
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.timing import Span, seconds
from benchmarks.record import Figures
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.messages.events import StepDone

QUESTION = 64
STEPS_A_MEASUREMENT = 10  # times `Scale.steps`


def measure_idle(model: MeasuredModel) -> Figures:
    """Measure at the largest batch, while all its requests decode, by events on the device."""
    scale = model.gpu.scale
    users, answer = max(scale.batches), STEPS_A_MEASUREMENT * scale.steps
    blocks = users * (-(-(QUESTION + answer) // BLOCK_TOKENS) + 1)
    budget = max(scale.chunk, users)
    plane = model.data_plane(device_blocks=blocks, num_slots=users, max_batched_tokens=budget)
    settings = ServeSettings(policy="fcfs", max_num_seqs=users, max_num_batched_tokens=budget)
    core = Core(wiring.core_settings(settings, blocks, host_blocks=0), wiring.policy(settings))
    load = ChatLoad(
        users, model.source.config.vocab_size, history=0, question=QUESTION, answer=answer, turns=1, exact=True
    )
    observed = EngineUnderLoad(core, plane.runner, plane.copier(), load).run()
    return _figures(plane.clock.spans, observed.steps, users)


def _figures(spans: list[Span], steps: list[StepDone], users: int) -> Figures:
    """``steps`` are reported in the order of ``spans``."""
    full = [
        (span, following)
        for (span, step), (following, after) in pairwise(zip(spans, steps, strict=False))
        if step.decode_tokens == after.decode_tokens == users and not step.prefill_tokens and not after.prefill_tokens
    ]
    idle = sum(seconds((span[1], following[0])) for span, following in full)
    busy = sum(seconds(span) for span, _ in full)
    return {
        "idle_steps": len(full),
        "idle_step_ms": 1e3 * busy / len(full),
        "idle_gap_us": 1e6 * idle / len(full),
        "idle_gap_share": idle / (idle + busy),
        "idle_plan_us": 1e6 * sum(step.plan_s for step in steps) / len(steps),
        "idle_commit_us": 1e6 * sum(step.commit_s for step in steps) / len(steps),
    }
