"""The data plane on a CPU: runs a plan's batch and draws its tokens. It decides nothing.

It owns the KV pools and what its slots keep between steps. Only the device thread calls it.
"""

from collections.abc import Sequence
from time import perf_counter
from types import ModuleType

import numpy as np

from allocator import BLOCK_TOKENS, Extent
from kernels import cpu
from kernels.cpu.step.compiling import Report, compile_all, unreported
from service.core.messages.plan import Drawn, Row, SlotOpening, StepPlan, StepResult
from service.core.messages.ports import DirectRunner
from service.core.messages.sampling import SamplingParams
from service.execution.batch import Batcher, SlotMemory
from service.execution.compiled_model import CompiledModel
from service.execution.draws import DrawOutputs
from service.execution.kv import KVPools
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights, is_packed
from service.execution.sampler import Sampler


class CPURunner(DirectRunner):
    """Runs plans of at most ``max_batched_tokens`` tokens in ``num_slots`` slots over the blocks of ``pools``.

    Dense weights are float32, want pools of the plain format, and run operation by operation on ``kernels``. Packed
    ones want pools of a padded format, and run as a compiled program. Raises MemoryError.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        *,
        pools: KVPools,
        num_slots: int,
        max_batched_tokens: int,
        kernels: ModuleType = cpu,
    ) -> None:
        num_blocks = len(pools.device)
        max_positions = min(config.max_position_embeddings, num_blocks * BLOCK_TOKENS)
        memory = HostMemory()
        self._max_batched_tokens = max_batched_tokens
        self._kernels = kernels
        self.pools = pools
        self._batcher = Batcher(num_slots, num_blocks)
        self._slots = SlotMemory.allocate(memory, num_slots, num_blocks)
        self._sampler = Sampler(num_slots, config.vocab_size, kernels, memory)
        sizes = {"max_positions": max_positions, "max_tokens": max_batched_tokens, "max_draws": num_slots}
        self._model: LlamaModel | CompiledModel
        if is_packed(weights):
            self._model = CompiledModel(config, weights, pools.kv_format, **sizes)
        else:
            self._model = LlamaModel(config, weights, kernels, memory, **sizes)

    def run(self, plan: StepPlan) -> StepResult:
        """Compute the plan's rows and draw a token for each row that asks for one."""
        began = perf_counter()
        for opening in plan.opened:
            self._batcher.open(opening)
            self._sampler.open(opening)
        if plan.moves:
            self._kernels.move_runs(self.pools.device, np.array([move[1:] for move in plan.moves], np.int64))
        drawn, kernel_s = self._run_rows(plan.rows) if plan.rows else ([], 0.0)
        device_s = perf_counter() - began
        return StepResult(plan.number, drawn, device_s, device_s - kernel_s)

    def poison(self, extents: Sequence[Extent]) -> None:
        """Spoil what blocks hold."""
        self.pools.poison(extents)

    def _run_rows(self, rows: tuple[Row, ...]) -> tuple[list[Drawn], float]:
        """Return what was drawn, and the seconds that the forward pass and the draw took."""
        batch, changes = self._batcher.build(rows)
        self._slots.change(changes, self._kernels)
        began = perf_counter()
        logits = self._model.forward(batch, self._slots, self.pools.device)
        kernel_s = perf_counter() - began
        drawing = [row for row in rows if row.draws_token]
        if not drawing:
            return [], kernel_s
        draws = self._sampler.draws([row.slot for row in drawing], [row.start + row.num_tokens for row in drawing])
        outputs = DrawOutputs.on_host(draws)
        began = perf_counter()
        self._sampler.draw(logits, draws, draws.inputs, outputs)
        kernel_s += perf_counter() - began
        self._kernels.put_tokens(outputs.tokens, draws.inputs.slots, self._slots.last)
        return outputs.read(draws), kernel_s

    def warm_up(self, report: Report = unreported) -> None:
        """Compile or load every kernel and read all weights, so that the first request finds them ready.

        ``report`` is told what is compiled, which takes half a minute without the compile cache. Call it before any
        block is owned, because it writes to block 0.
        """
        kernels = self._model.kernels if isinstance(self._model, CompiledModel) else ()
        work = [(kernel.name, kernel.compile) for kernel in kernels]
        compile_all([*work, ("step", self._first_step), ("draws", self._first_draws)], report)

    def _first_step(self) -> None:
        opening, prompt, _ = self._first_rows(draws_token=False)
        self.run(StepPlan(0, (opening,), (prompt,)))

    def _first_draws(self) -> None:
        opening, prompt, decode = self._first_rows(draws_token=True)
        self.run(StepPlan(0, (opening,), (prompt,)))
        self.run(StepPlan(0, (), (decode,)))

    def _first_rows(self, *, draws_token: bool) -> tuple[SlotOpening, Row, Row]:
        """Return a prompt and a decode that need every kernel."""
        tokens = (0,) * min(BLOCK_TOKENS - 2, self._max_batched_tokens)
        extents = (Extent(pool=0, start=0, length=1),)
        params = SamplingParams(top_k=2, top_p=0.5, repetition_penalty=1.1, logprobs=1)
        opening = SlotOpening.of(0, tokens, len(tokens), params)
        prompt = Row(0, 0, tokens, extents, draws_token=draws_token)
        return opening, prompt, Row(0, len(tokens), None, extents, draws_token=True)
