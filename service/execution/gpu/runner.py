"""The data plane of a GPU: submits a plan's step to the compute stream; its result is read when the caller asks.

The thread that launches steps owns it; only a step's result is read on another thread. Always true:

- a step is submitted at once and waits for nothing, unless the device refuses it: slots that open; one copy of all
  inputs; blocks that move; the model and the draws; one copy of all outputs; an event. The next step is submitted
  meanwhile: it names tokens that are not yet known by their slots, and they stay on the device;
- a step changes the device in the order of the compute stream: no step sees the inputs of a later one;
- steps of single tokens without penalties, biases or reports are replayed from graphs, once `warm_up` has captured
  them. Both ways do what `_compute` does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter

import numpy as np
import structlog

from allocator import BLOCK_TOKENS, DEVICE, Extent, Move
from kernels.cuda.moves import RunMove, waves
from service.core.messages.plan import Drawn, Row, SlotOpening, StepPlan, StepResult
from service.core.messages.sampling import SamplingParams
from service.execution.batch import Batch, Batcher, SlotMemory, TableChanges
from service.execution.draws import DrawInputs, Draws
from service.execution.gpu.budget import StepSizes
from service.execution.gpu.graphs import DecodeGraphs, padded, padded_sizes, padding
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runtime import CaptureError, Runtime, Stream, record_end
from service.execution.gpu.staging import DeviceMemory, Entry, Ring
from service.execution.gpu.step_memory import Moves, StepMemory, StepShape
from service.execution.model import LlamaModel
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from service.execution.sampler import Sampler

log = structlog.get_logger(__name__)

WRITE_BYTES = 8 << 20  # a step's writes for requests that begin with penalties: 10 of a vocabulary of 152,064

ReadDrawn = Callable[[], list[Drawn]]


class GPURunner:
    """Runs plans of at most ``max_batched_tokens`` tokens in ``num_slots`` slots over the blocks of ``pools``.

    ``weights`` are on the device of ``runtime``; activations have their element type, and so must the pools.
    ``stream``: where steps run, and after which copies of KV are ordered. Raises DeviceMemoryError and
    PinnedMemoryError.
    """

    depth = 1

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        runtime: Runtime,
        pools: GPUPools,
        stream: Stream,
        *,
        num_slots: int,
        max_batched_tokens: int,
    ) -> None:
        self.pools = pools
        self._runtime, self._stream = runtime, stream
        self._sizes = StepSizes(config, pools.scrap_block, num_slots, max_batched_tokens, runtime.info.processors)
        self._batcher = Batcher(num_slots, self._sizes.max_blocks)
        self._graphs = DecodeGraphs(stream)
        self._failed = False  # a step, since the last launch: its inputs may not have arrived
        self._ended = 0.0  # when the last result was known
        largest = self._sizes.largest_step
        with runtime.bound():
            self._ring = Ring(runtime, self.depth + 2, (WRITE_BYTES, largest.input_bytes, largest.output_bytes))
            self._memory = DeviceMemory(runtime, stream)
            self._arrays = StepMemory(runtime, stream, largest)
            scratch = runtime.empty((self._sizes.scratch_floats,), np.float32)
            self._kernels = runtime.ops(stream, scratch)
            with self._entry() as entry:
                self._allocate(config, weights)
            self._result(0, entry, list, perf_counter())

    def _allocate(self, config: ModelConfig, weights: ModelWeights) -> None:
        """Allocate what steps work on. The padding slot is the last, and all of its table is the scrap block."""
        sizes, memory = self._sizes, self._memory
        self._slots = SlotMemory.allocate(memory, sizes.num_slots + 1, sizes.max_blocks)
        scrap = np.full(sizes.max_blocks, self.pools.scrap_block, np.int32)
        memory.write(scrap, self._slots.block_tables[sizes.num_slots])
        self._sampler = Sampler(sizes.num_slots, config.vocab_size, self._kernels, memory)
        self._model = LlamaModel(
            config,
            weights,
            self._kernels,
            memory,
            max_positions=sizes.max_positions,
            max_tokens=sizes.max_tokens,
            max_draws=sizes.num_slots,
        )

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """Submit the plan's step, and return a function that waits for its result, on whatever thread calls it.

        An error of either call fails this step alone, except DeviceLostError, which is for good.
        """
        began = perf_counter()
        with self._runtime.bound(), self._entry() as entry:
            if self._failed:
                self._batcher.forget()
                self._failed = False
            for opening in plan.opened:
                self._batcher.open(opening)
                self._sampler.open(opening)
            read = self._submit(plan.rows, plan.moves, entry) if plan.rows else list
        return partial(self._result, plan.number, entry, read, began)

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what blocks hold; on the device, after every step launched before."""
        with self._runtime.bound():
            self.pools.poison(extents, self._stream)

    @contextmanager
    def _entry(self) -> Iterator[Entry]:
        """Take the ring's next entry for what is submitted inside, and record an event after it in any case.

        When that fails, its result is never read, so it is waited for at once: if the next steps failed too, the ring
        could come round before the device does.
        """
        entry = self._ring.take()
        self._memory.write_through(entry.writes)
        try:
            yield entry
        except Exception:
            self._failed = True
            entry.event = record_end(self._stream, "step")
            with suppress(Exception):  # the failure itself, or an earlier one
                entry.event.wait()
            entry.is_read = True
            raise
        entry.event = record_end(self._stream, "step")

    def _result(self, number: int, entry: Entry, read: ReadDrawn, began: float) -> StepResult:
        """Wait for a step and read its result; seconds count from when the device was free for the step."""
        assert entry.event is not None
        try:
            entry.event.wait()
            drawn = read()
        except Exception:
            self._failed = True
            raise
        finally:
            entry.is_read = True
        ended = perf_counter()
        began, self._ended = max(began, self._ended), ended
        return StepResult(number, drawn, ended - began)

    def _submit(self, rows: Sequence[Row], moves: Sequence[Move], entry: Entry) -> ReadDrawn:
        """Submit a step of these rows. Return a function that reads its outputs from the entry."""
        batch, changes = self._batcher.build(rows)
        drawing = [row for row in rows if row.draws_token]
        draws = self._sampler.draws([row.slot for row in drawing], [row.start + row.num_tokens for row in drawing])
        draw_inputs, size = draws.inputs, self._graphs.size_for(batch, draws)
        counts = {"changes": len(changes.entries), "moves": len(moves)}
        if size is None:
            shape = StepShape(len(batch.input_ids), len(rows), **draws.sizes, **counts)
        else:
            filling, shape = self._padding(size), StepShape(size, size, size, **counts)
            batch, draw_inputs = padded(batch, filling[0]), padded(draw_inputs, filling[1])
        runs = [move[1:] for move in moves]
        self._arrays.send(entry, shape, (batch, draw_inputs, changes, Moves.of(runs)))
        if runs or shape.changes:
            self._prepare(shape, runs)
        if size is None:
            self._compute(shape, draws)
        else:
            self._graphs.replay(size)
        return partial(self._arrays.fetch(entry, shape).read, draws) if drawing else list

    def _prepare(self, shape: StepShape, runs: Sequence[RunMove]) -> None:
        """Change block tables and move blocks. Runs of blocks that are independent of each other move at once."""
        self._slots.change(self._arrays.inputs(TableChanges, shape), self._kernels)
        on_device, first = self._arrays.inputs(Moves, shape).runs, 0
        for wave in waves(runs):
            self._kernels.move_runs(self.pools.device, on_device[first : first + len(wave)])
            first += len(wave)

    def _compute(self, shape: StepShape, draws: Draws) -> None:
        """Submit what makes a step's outputs of its inputs, both on the device."""
        logits = self._model.forward(self._arrays.inputs(Batch, shape), self._slots, self.pools.device)
        if shape.draws:
            inputs, outputs = self._arrays.inputs(DrawInputs, shape), self._arrays.outputs(shape)
            self._sampler.draw(logits, draws, inputs, outputs)
            self._kernels.put_tokens(outputs.tokens, inputs.slots, self._slots.last)

    def _padding(self, size: int) -> tuple[Batch, DrawInputs]:
        return padding(size, self._sizes.num_slots, self.pools.scrap_block * BLOCK_TOKENS)

    @property
    def captured_sizes(self) -> tuple[int, ...]:
        """Batch sizes whose decodes are replayed from graphs; none before `warm_up`, or if they cannot be captured."""
        return self._graphs.sizes

    def warm_up(self) -> None:
        """Compile or load every kernel and capture the graphs, so that the first request finds them ready.

        Writes to no block but the scrap block.
        """
        length = longest = min(self._sizes.max_batched_tokens, self._sizes.max_positions - 1)
        while length > BLOCK_TOKENS:  # cuBLAS has kernels by shape; loading one later would make steps wait
            self._warm_up_plain(length, SamplingParams(temperature=0))
            length //= 2
        everything = SamplingParams(top_k=2, top_p=0.5, repetition_penalty=1.1, logprobs=1, logit_bias={0: 1.0})
        self._warm_up_plain(min(longest, BLOCK_TOKENS), everything)
        try:
            for size in padded_sizes(self._sizes.num_slots):
                self._capture(size)
        except CaptureError as error:  # slower, but right
            log.warning("decode_without_graphs", error=str(error))

    def _warm_up_plain(self, length: int, params: SamplingParams) -> None:
        """Run a prompt of so many tokens, a move and a decode; all blocks are the scrap block."""
        tokens, scrap = (0,) * length, self.pools.scrap_block
        extents = (Extent(DEVICE, scrap, 1),) * -(-(length + 1) // BLOCK_TOKENS)
        opening = SlotOpening.of(0, tokens, length, params)
        self.launch(StepPlan(0, (opening,), (Row(0, 0, tokens, extents, draws_token=True),)))()
        decode = Row(0, length, None, extents, draws_token=True)
        self.launch(StepPlan(0, (), (decode,), moves=(Move(0, scrap, scrap, 1),)))()

    def _capture(self, size: int) -> None:
        """Run a step of padding once, because no kernel can be loaded in a capture, then capture it."""
        shape, (batch, inputs) = StepShape(size, size, size), self._padding(size)
        draws = Draws((self._sizes.num_slots,) * size, inputs)
        no_changes = TableChanges(*(np.empty(0, np.int32),) * 2)
        with self._runtime.bound():
            with self._entry() as entry:
                self._arrays.send(entry, shape, (batch, inputs, no_changes, Moves.of(())))
                self._compute(shape, draws)
            self._result(0, entry, list, perf_counter())
            self._graphs.capture(size, partial(self._compute, shape, draws))
