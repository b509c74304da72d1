"""A model over a poisoned pool, and prompts for it."""

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from allocator import Extent
from kernels import cpu
from service.core.messages.plan import Row
from service.execution.batch import Batcher, SlotMemory
from service.execution.compiled_model import CompiledModel
from service.execution.kv import KVFormat
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights

SLOTS = 8
LENGTHS = (1, 15, 16, 17, 60)
VOCAB = 211

MakeBench = Callable[[], "Bench"]


def prompts(seed: int = 1, lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCAB, length).tolist() for length in lengths]


class Bench:
    """Each sequence has scattered blocks of its own; what no sequence has written is NaN."""

    def __init__(
        self,
        model: LlamaModel | CompiledModel,
        kv_format: KVFormat,
        *,
        kernels: ModuleType = cpu,
        blocks_per_sequence: int = 6,
    ) -> None:
        self.model, self.kernels, self.kv_format, self._blocks = model, kernels, kv_format, blocks_per_sequence
        self.batcher = Batcher(num_slots=SLOTS, max_blocks=64)
        self.slots = SlotMemory.allocate(HostMemory(), SLOTS, 64)
        self.kv = kv_format.allocate(SLOTS * blocks_per_sequence + 16)
        self.kv.fill(kv_format.nan)

    def row(self, slot: int, tokens: Sequence[int], start: int = 0, draws: bool = True) -> Row:
        last, first = len(self.kv) - 1, slot * self._blocks
        extents = (Extent(0, last - slot, 1), Extent(0, first, 2), Extent(0, first + 3, self._blocks - 3))
        return Row(slot, start, tuple(tokens), extents, draws_token=draws)

    def logits(self, *rows: Row) -> np.ndarray:
        batch, changes = self.batcher.build(rows)
        self.slots.change(changes, self.kernels)
        return self.model.forward(batch, self.slots, self.kv).copy()

    def tokens(self) -> np.ndarray:
        """Return the pool as float32 [block, layer, k_or_v, kv_head, token, dim], a copy."""
        if isinstance(self.model, LlamaModel):
            return self.kv.copy()
        per, dim = 4 // self.kv.itemsize, self.kv.shape[-1]
        numbers = (self.kv.astype(np.uint32) << 16).view(np.float32) if per == 2 else self.kv
        keys, values = (
            numbers[:, :, 0].reshape(-1, dim // per, 16, per),
            numbers[:, :, 1].reshape(-1, 16 // per, dim, per),
        )
        both = [keys.transpose(0, 2, 1, 3), values.transpose(0, 1, 3, 2)]
        return np.stack([each.reshape(self.kv[:, :, 0].shape) for each in both], axis=2)


def plain_bench(config: ModelConfig, weights: ModelWeights, kernels: ModuleType = cpu) -> Bench:
    """Return a bench of the exact model."""
    sizes = {"max_positions": 200, "max_tokens": 200, "max_draws": SLOTS}
    return Bench(LlamaModel(config, weights, kernels, HostMemory(), **sizes), KVFormat.plain(config), kernels=kernels)


def compiled_bench(
    config: ModelConfig, weights: ModelWeights, kv_dtype: str = "bfloat16", *, max_positions: int = 200
) -> Bench:
    """Return a bench of the compiled model."""
    kv_format = KVFormat.padded(config, kv_dtype)
    sizes = {"max_positions": max_positions, "max_tokens": max_positions, "max_draws": SLOTS}
    model = CompiledModel(config, weights, kv_format, **sizes)
    return Bench(model, kv_format, blocks_per_sequence=max(6, -(-max_positions // 16)))
