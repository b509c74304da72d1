"""Checks of whole models: the CPU's tokens in float32, the same tokens with graphs, close logits in half precision."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allocator import BLOCK_TOKENS
from benchmarks.gpu.checks.check import Check, require
from benchmarks.gpu.checks.recording import ADJUSTED, PLAIN, RecordedStep, RecordingSizes, record_steps
from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.models import Source, small_model
from benchmarks.gpu.under_test import GPUUnderTest, simulated_gpu
from kernels import cpu
from service.core.messages.plan import Drawn, StepResult
from service.core.messages.sampling import SamplingParams
from service.execution.batch import Batch, SlotMemory
from service.execution.gpu.graphs import padded_sizes
from service.execution.gpu.staging import DeviceMemory
from service.execution.gpu.supported import element_type
from service.execution.kv import kv_pool_shape
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel

FLOAT32 = np.dtype(np.float32)
LOGITS_ERROR = 1e-2  # in half precision, as a share of the logits' root mean square over all positions of a prompt
ROUNDINGS = 1.3  # times the error of roundings alone, where that is more: random weights amplify roundings
NEAR_TIE = 1e-3  # in log-probability: sums in another order may favour the other token
PROMPT = 64
STAGED_BYTES = 8 << 20


def answer_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield checks on the small model."""
    source = small_model(gpu, FLOAT32)
    sizes = RecordingSizes(gpu.scale.requests, prompt=60, answer=gpu.scale.answer, slots=8, budget=48)
    yield Check("tokens are the CPU's in float32", partial(_tokens, gpu, source, sizes, PLAIN))
    yield Check("tokens are the CPU's in float32, adjusted", partial(_tokens, gpu, source, sizes, ADJUSTED))
    yield Check("graphs draw what plain steps draw", partial(_graphs, gpu, sizes))
    yield Check("a step ahead draws what one at a time draws", partial(_depths, gpu, sizes))
    for dtype in ("bfloat16", "float16"):
        yield Check(f"logits in {dtype}", partial(_logits, gpu, dtype))


def data_plane_of(gpu: GPUUnderTest, source: Source, sizes: RecordingSizes, dtype: np.dtype[Any]) -> DataPlane:
    """Return a data plane that holds the recorded requests."""
    weights, slots = source.on_device(gpu, dtype), {"num_slots": sizes.slots, "max_batched_tokens": sizes.budget}
    return DataPlane(gpu, source.config, weights, dtype, device_blocks=sizes.blocks, **slots)


def _tokens(gpu: GPUUnderTest, source: Source, sizes: RecordingSizes, samplings: Sequence[SamplingParams]) -> str:
    weights = source.on_host()
    recorded = record_steps(source.config, weights, sizes, samplings)
    plane = data_plane_of(gpu, source, sizes, FLOAT32)
    plane.runner.warm_up()
    results = plane.run([each.plan for each in recorded])
    ties = 0
    for slot, step, got, expected in _differences(recorded, results):
        with_logprobs = tuple(replace(sampling, logprobs=2) for sampling in samplings)
        reported = record_steps(source.config, weights, sizes, with_logprobs)[step]
        gap = _gap(next(drawn for drawn in reported.drawn if drawn.slot == slot))
        require(gap < NEAR_TIE, f"step {step}, slot {slot}: token {got}, not {expected}, likelier by {gap:.2g}")
        ties += 1
    draws = sum(len(each.drawn) for each in recorded)
    return f"{source.name}: {draws} draws in {len(recorded)} steps" + (f", {ties} near ties" if ties else "")


def _differences(
    recorded: Sequence[RecordedStep], results: Sequence[StepResult]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the first difference of each request: slot, step, token drawn and expected. Later ones follow from it."""
    diverged: set[int] = set()
    for step, (each, result) in enumerate(zip(recorded, results, strict=True)):
        diverged -= {opening.slot for opening in each.plan.opened}
        for expected, got in zip(each.drawn, result.drawn, strict=True):
            require(not got.invalid and got.slot == expected.slot, f"step {step}: {got} was drawn, not {expected}")
            if got.token != expected.token and got.slot not in diverged:
                diverged.add(got.slot)
                yield got.slot, step, got.token, expected.token


def _gap(drawn: Drawn) -> float:
    """Return how much likelier the likeliest token is than the next; infinity if the token was drawn by chance."""
    assert drawn.logprobs is not None
    first, second = (value for _, value in drawn.logprobs.top[:2])
    return first - second if drawn.logprobs.logprob == first else float("inf")


def _graphs(gpu: GPUUnderTest, sizes: RecordingSizes) -> str:
    """Use the served type and captured batch sizes, so that both ways multiply the same matrices."""
    source = small_model(gpu, gpu.dtype)
    weights = source.on_host()
    sizes = replace(sizes, requests=sizes.slots, budget=sizes.slots * sizes.prompt)
    plain, graphs = (data_plane_of(gpu, source, sizes, gpu.dtype) for _ in range(2))
    graphs.runner.warm_up()
    captured = list(graphs.runner.captured_sizes)
    require(captured == padded_sizes(sizes.slots), f"captured sizes are {captured}")
    for batch in captured:
        at_once = replace(sizes, requests=batch, together=batch)
        plans = [each.plan for each in record_steps(source.config, weights, at_once, PLAIN)]
        require({len(plan.rows) for plan in plans} == {batch}, f"not all steps have {batch} rows")
        _require_same(graphs.run(plans), plain.run(plans))
    return f"batches of {', '.join(map(str, captured))}"


def _depths(gpu: GPUUnderTest, sizes: RecordingSizes) -> str:
    """Launch each step before the tokens of the last one are known, and after."""
    source = small_model(gpu, gpu.dtype)
    plans = [each.plan for each in record_steps(source.config, source.on_host(), sizes, (*PLAIN, *ADJUSTED))]
    ahead, behind = (data_plane_of(gpu, source, sizes, gpu.dtype) for _ in range(2))
    _require_same(ahead.run(plans, depth=1), behind.run(plans, depth=0))
    return f"{len(plans)} steps"


def _require_same(some: Sequence[StepResult], others: Sequence[StepResult]) -> None:
    for step, (one, other) in enumerate(zip(some, others, strict=True)):
        require(one.drawn == other.drawn, f"step {step} draws {one.drawn}, and {other.drawn} the other way")


def _logits(gpu: GPUUnderTest, dtype: str) -> str:
    """Compare the logits of every position of a prompt with the CPU's in float32, computed with the stored weights.

    The simulated device rounds where a GPU must, so it shows the error that roundings alone make.
    """
    source = small_model(gpu, element_type(dtype))
    tokens = np.random.default_rng(0).integers(0, source.config.vocab_size, PROMPT).astype(np.int32)
    expected = _host_logits(source, tokens)
    error, roundings = (
        _error(_device_logits(each, source, tokens, element_type(dtype)), expected) for each in (gpu, simulated_gpu())
    )
    remark = f"{source.name}: relative error {error:.1e}, roundings alone {roundings:.1e}"
    bound = LOGITS_ERROR if source.trained else max(LOGITS_ERROR, ROUNDINGS * roundings)
    require(error < bound, remark)
    return remark


def _error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


def _prompt(tokens: NDArray[np.int32]) -> Batch:
    """Return a batch of one sequence in consecutive blocks, with logits for every token."""
    count = np.arange(len(tokens), dtype=np.int32)
    ends = np.array([0, len(tokens)], np.int32)
    return Batch(count.astype(np.int64), tokens, count, np.zeros(1, np.int32), ends, ends[1:], count)


def _host_logits(source: Source, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    memory, sizes = HostMemory(), _sizes(tokens)
    slots, kv = _slots(memory, len(tokens)), memory.zeros(_pool_shape(source, tokens), np.float32)
    model = LlamaModel(source.config, source.on_host(), cpu, memory, **sizes)
    logits: NDArray[np.float32] = model.forward(_prompt(tokens), slots, kv)
    return logits


def _device_logits(
    gpu: GPUUnderTest, source: Source, tokens: NDArray[np.int32], dtype: np.dtype[Any]
) -> NDArray[np.float32]:
    weights, runtime = source.on_device(gpu, dtype), gpu.runtime
    batch = Batch(*(gpu.put(getattr(_prompt(tokens), name)) for name in Batch.__slots__))
    with runtime.bound():
        stream = runtime.stream()
        memory = DeviceMemory(runtime, stream)
        memory.write_through(runtime.pinned(STAGED_BYTES))
        slots, kv = _slots(memory, len(tokens)), runtime.zeros(_pool_shape(source, tokens), dtype)
        ops = runtime.ops(stream, runtime.empty((STAGED_BYTES,), np.float32))
        model = LlamaModel(source.config, weights, ops, memory, **_sizes(tokens))
        logits = model.forward(batch, slots, kv)
        stream.record().wait()
    return gpu.read(logits)


def _sizes(tokens: NDArray[np.int32]) -> dict[str, int]:
    return dict.fromkeys(("max_positions", "max_tokens", "max_draws"), len(tokens))


def _pool_shape(source: Source, tokens: NDArray[np.int32]) -> tuple[int, ...]:
    return kv_pool_shape(source.config, -(-len(tokens) // BLOCK_TOKENS))


def _slots(memory: Any, num_tokens: int) -> SlotMemory:
    blocks = np.arange(-(-num_tokens // BLOCK_TOKENS), dtype=np.int32)
    slots = SlotMemory.allocate(memory, 1, len(blocks))
    memory.write(blocks, slots.block_tables[0])
    return slots
