"""Compare decode steps with the time to read weights and KV at the measured bandwidth of the device's memory."""

from statistics import median

from allocator import BLOCK_TOKENS
from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.measures.links import GB, device_copy
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.plans import Decoding
from benchmarks.gpu.timing import seconds
from benchmarks.record import Figures

WARM_STEPS = 5  # at the beginning of each batch size


def measure_decode(model: MeasuredModel) -> Figures:
    """Return milliseconds a step by batch size, their ratios to that floor, and the worst ratio."""
    scale = model.gpu.scale
    figures: Figures = {"device_copy_gb_per_s": (bandwidth := device_copy(model.gpu))}
    largest = Decoding(max(scale.batches), scale.context, WARM_STEPS + scale.steps)
    plane = model.data_plane(device_blocks=largest.blocks, num_slots=largest.batch, max_batched_tokens=largest.batch)
    shares = []
    for batch in scale.batches:
        took = step_seconds(plane, Decoding(batch, scale.context, WARM_STEPS + scale.steps))
        kv_bytes = batch * scale.context * plane.block_bytes / BLOCK_TOKENS
        floor = (model.read_bytes + kv_bytes) / GB / bandwidth
        figures[f"decode_step_ms_{batch}"] = 1e3 * took
        figures[f"decode_floor_ms_{batch}"] = 1e3 * floor
        figures[f"decode_vs_floor_{batch}"] = took / floor
        shares.append(took / floor)
    return {**figures, "decode_graphs": len(plane.runner.captured_sizes), "decode_vs_floor": max(shares)}


def step_seconds(plane: DataPlane, decoding: Decoding) -> float:
    """Return the median time of a step on the device, without the first `WARM_STEPS`."""
    plane.clock.spans.clear()
    plane.run(list(decoding.plans()))
    return median(seconds(span) for span in plane.clock.spans[WARM_STEPS:])
