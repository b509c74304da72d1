"""Compare the rate of a prompt's operations with the device's matrix peak: the rate in a large product."""

from collections.abc import Iterator

import numpy as np

from allocator import BLOCK_TOKENS, DEVICE, Extent
from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.timing import device_seconds, seconds
from benchmarks.gpu.under_test import GPUUnderTest
from benchmarks.record import Figures
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams

TERA = 1e12
PASSES = 5  # the median counts
GREEDY = SamplingParams(temperature=0)


def matrix_peak(gpu: GPUUnderTest) -> float:
    """Return tera-operations a second in a product of square matrices of random numbers."""
    size = gpu.scale.matrix
    values = np.random.default_rng(0).standard_normal((size, size), np.float32).astype(gpu.dtype)
    x, weight, out = gpu.put(values), gpu.put(values[::-1]), gpu.empty((size, size), gpu.dtype)
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream)
        for _ in range(gpu.scale.launches):  # until the GPU has raised its clocks
            ops.linear(x, weight, None, out)
        took = device_seconds(stream, lambda: ops.linear(x, weight, None, out), gpu.scale.repetitions)
    return 2 * size**3 / TERA / took


def measure_prefill(model: MeasuredModel) -> Figures:
    """Measure one prompt, in chunks as the service would plan them."""
    scale = model.gpu.scale
    peak = matrix_peak(model.gpu)
    blocks = -(-(scale.prompt + 1) // BLOCK_TOKENS)
    plane = model.data_plane(device_blocks=blocks, num_slots=1, max_batched_tokens=scale.chunk)
    plans = list(_chunks(scale.prompt, scale.chunk, blocks))
    _pass(plane, plans)
    took = sorted((_pass(plane, plans) for _ in range(PASSES)), key=sum)[PASSES // 2]
    operations = _operations(model, scale.prompt)
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


def _pass(plane: DataPlane, plans: list[StepPlan]) -> list[float]:
    """Run the plans and return seconds of each step."""
    plane.clock.spans.clear()
    plane.run(plans)
    return [seconds(span) for span in plane.clock.spans]


def _operations(model: MeasuredModel, tokens: int) -> float:
    """Return two operations a weight and token, and attention's: two products, on average over half the positions."""
    config = model.source.config
    attention = 2 * 2 * config.num_layers * config.num_heads * config.head_dim * tokens**2 / 2
    return 2.0 * model.matrix_weights * tokens + attention


def _chunks(prompt: int, chunk: int, blocks: int) -> Iterator[StepPlan]:
    tokens, extents = tuple(number % 200 for number in range(prompt)), (Extent(DEVICE, 0, blocks),)
    opening = SlotOpening.of(0, tokens, prompt, GREEDY)
    for number, start in enumerate(range(0, prompt, chunk)):
        part = tokens[start : start + chunk]
        row = Row(0, start, part, extents, draws_token=start + len(part) == prompt)
        yield StepPlan(number, () if number else (opening,), (row,))
