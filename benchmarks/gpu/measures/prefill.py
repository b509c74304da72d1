"""Prompts against the device's matrix peak: the model's operations over those of a large product in as much time."""

from collections.abc import Iterator

import numpy as np

from allocator import BLOCK_TOKENS, DEVICE, Extent
from benchmarks.gpu.measures.served import Served
from benchmarks.gpu.plane import Plane
from benchmarks.gpu.rig import Rig
from benchmarks.gpu.timing import device_seconds, seconds
from benchmarks.record import Figures
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams

TERA = 1e12
PASSES = 5  # of which the median counts
GREEDY = SamplingParams(temperature=0)


def matrix_peak(rig: Rig) -> float:
    """Tera-operations a second of one product of square matrices of random numbers."""
    size = rig.scale.matrix
    values = np.random.default_rng(0).standard_normal((size, size), np.float32).astype(rig.dtype)
    x, weight, out = rig.put(values), rig.put(values[::-1]), rig.empty((size, size), rig.dtype)
    with rig.runtime.bound():
        stream = rig.runtime.stream()
        ops = rig.runtime.ops(stream)
        for _ in range(rig.scale.launches):  # until clocks are up
            ops.linear(x, weight, None, out)
        took = device_seconds(stream, lambda: ops.linear(x, weight, None, out), rig.scale.repetitions)
    return 2 * size**3 / TERA / took


def measure_prefill(served: Served) -> Figures:
    """Of one prompt, cut into chunks as the service cuts it."""
    scale = served.rig.scale
    peak = matrix_peak(served.rig)
    blocks = -(-(scale.prompt + 1) // BLOCK_TOKENS)
    plane = served.plane(device_blocks=blocks, num_slots=1, max_batched_tokens=scale.chunk)
    plans = list(_chunks(scale.prompt, scale.chunk, blocks))
    _pass(plane, plans)
    took = sorted((_pass(plane, plans) for _ in range(PASSES)), key=sum)[PASSES // 2]
    operations = _operations(served, scale.prompt)
    return {
        "matrix_peak_tflops": peak,
        "prefill_prompt_tokens": scale.prompt,
        "prefill_chunk_tokens": scale.chunk,
        "prefill_tokens_per_s": scale.prompt / sum(took),
        "prefill_first_chunk_ms": 1e3 * took[0],
        "prefill_last_chunk_ms": 1e3 * took[-1],
        "prefill_tflops": operations / TERA / sum(took),
        "prefill_vs_matrix_peak": operations / TERA / sum(took) / peak,
    }


def _pass(plane: Plane, plans: list[StepPlan]) -> list[float]:
    """Seconds of each step."""
    plane.clock.spans.clear()
    plane.run(plans)
    return [seconds(span) for span in plane.clock.spans]


def _operations(served: Served, tokens: int) -> float:
    """Two for each weight and token, and attention's: two products with half the positions, on average."""
    config = served.source.config
    attention = 2 * 2 * config.num_layers * config.num_heads * config.head_dim * tokens**2 / 2
    return 2.0 * served.matrix_weights * tokens + attention


def _chunks(prompt: int, chunk: int, blocks: int) -> Iterator[StepPlan]:
    tokens, extents = tuple(number % 200 for number in range(prompt)), (Extent(DEVICE, 0, blocks),)
    opening = SlotOpening.of(0, tokens, prompt, GREEDY)
    for number, start in enumerate(range(0, prompt, chunk)):
        part = tokens[start : start + chunk]
        row = Row(0, start, part, extents, draws_token=start + len(part) == prompt)
        yield StepPlan(number, () if number else (opening,), (row,))
