"""The ways to compute that are compared, by the flags of `fastswitch serve` that ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from allocator import BLOCK_TOKENS, Extent
from kernels import cpu
from service.core.messages.plan import Row
from service.execution.batch import Batcher, SlotMemory
from service.execution.compiled_model import CompiledModel
from service.execution.kv import KVFormat
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import Destination
from service.execution.models.dense_weights import HostWeights
from service.execution.models.loading import open_model
from service.execution.models.packed_weights import PackedWeights
from service.execution.models.weights import is_packed

LogitsOf = Callable[[Sequence[int]], NDArray[np.float32]]  # logits [tokens, vocab], valid until its next call


@dataclass(frozen=True, slots=True)
class Mode:
    """Where weights go to, and how their KV is laid."""

    weights: Callable[[], Destination]
    kv_format: Callable[[ModelConfig], KVFormat]


def _packed(dtype: Literal["auto", "bfloat16"], kv_cache_dtype: str) -> Mode:
    return Mode(lambda: PackedWeights(dtype), lambda config: KVFormat.padded(config, kv_cache_dtype))


REFERENCE = "--dtype float32"
MODES = {
    REFERENCE: Mode(HostWeights, KVFormat.plain),
    "--dtype auto": _packed("auto", "bfloat16"),
    "--dtype auto --kv-cache-dtype float32": _packed("auto", "float32"),
    "--dtype bfloat16": _packed("bfloat16", "bfloat16"),
}


def load(mode: Mode, max_tokens: int, path: Path | None = None) -> LogitsOf:
    """Load a model, the packaged one by default; return its logits at every token of a sequence of its own.

    Raises `ModelLoadError`.
    """
    loaded = open_model(path).load(mode.weights())
    sizes = {"max_positions": max_tokens, "max_tokens": max_tokens, "max_draws": max_tokens}
    kv_format = mode.kv_format(loaded.config)
    model: LlamaModel | CompiledModel
    if is_packed(loaded.weights):
        model = CompiledModel(loaded.config, loaded.weights, kv_format, **sizes)
    else:
        model = LlamaModel(loaded.config, loaded.weights, cpu, HostMemory(), **sizes)
    blocks = -(-max_tokens // BLOCK_TOKENS)
    kv, batcher, slots = kv_format.allocate(blocks), Batcher(1, blocks), SlotMemory.allocate(HostMemory(), 1, blocks)

    def logits_of(tokens: Sequence[int]) -> NDArray[np.float32]:
        batch, changes = batcher.build([Row(0, 0, tuple(tokens), (Extent(0, 0, blocks),), draws_token=True)])
        slots.change(changes, cpu)
        every = np.arange(len(tokens), dtype=np.int32)
        return model.forward(replace(batch, logits_indices=every), slots, kv)

    return logits_of
