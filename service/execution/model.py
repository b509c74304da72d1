"""The forward pass of a decoder of the Llama family over a ragged batch, for any kernels on any memory.

Activations have the element type of the weights, which the KV pool must have too; logits and rotary tables are float32.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.execution.batch import Batch, SlotMemory
from service.execution.bundles import array, layout, specs
from service.execution.memory import Array, Kernels, Memory
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import LayerWeights, Linear, ModelWeights


@dataclass(frozen=True, slots=True)
class Workspace:
    """All arrays that a forward pass writes besides the KV pool, allocated once for the largest batch."""

    input_ids: Array = array(np.int32, "tokens")
    residual: Array = array(None, "tokens", "hidden")
    normed: Array = array(None, "tokens", "hidden")
    projected: Array = array(None, "tokens", "hidden")  # a block's output, before it joins the residual
    qkv: Array = array(None, "tokens", "qkv_heads", "head_dim")
    attended: Array = array(None, "tokens", "heads", "head_dim")
    gate_up: Array = array(None, "tokens", "gate_up")
    activated: Array = array(None, "tokens", "intermediate")
    last_hidden: Array = array(None, "draws", "hidden")  # of the tokens after which one is drawn
    logits: Array = array(np.float32, "draws", "vocab")

    @classmethod
    def allocate(
        cls, memory: Memory, config: ModelConfig, max_tokens: int, max_draws: int, dtype: DTypeLike
    ) -> "Workspace":
        """Return arrays of zeros; activations have the type ``dtype``."""
        sizes = {
            "tokens": max_tokens,
            "draws": max_draws,
            "hidden": config.hidden_size,
            "heads": config.num_heads,
            "qkv_heads": config.num_heads + 2 * config.num_kv_heads,
            "head_dim": config.head_dim,
            "gate_up": 2 * config.intermediate_size,
            "intermediate": config.intermediate_size,
            "vocab": config.vocab_size,
        }
        return cls(*(memory.zeros(*field) for field in layout(cls, sizes, dtype)))

    def first(self, tokens: int, draws: int) -> "Workspace":
        """Return views of the leading rows."""
        rows = {"tokens": tokens, "draws": draws}
        return Workspace(*(getattr(self, name)[: rows[spec.first]] for name, spec in specs(Workspace)))


def rotary_tables(config: ModelConfig, num_positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines, each [num_positions, head_dim / 2]; in float32 throughout, as in Transformers."""
    frequencies = np.array(config.inverse_frequencies, np.float32)
    angles = np.outer(np.arange(num_positions, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)


class LlamaModel:
    """Weights, rotary tables and workspace; `forward` runs a batch of at most ``max_tokens`` with ``max_draws``."""

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        kernels: Kernels,
        memory: Memory,
        *,
        max_positions: int,
        max_tokens: int,
        max_draws: int,
    ) -> None:
        self._config = config
        self._weights = weights
        self._kernels = kernels
        self._cos, self._sin = (_put(memory, table) for table in rotary_tables(config, max_positions))
        self._workspace = Workspace.allocate(memory, config, max_tokens, max_draws, weights.embedding.dtype)

    def forward(self, batch: Batch, slots: SlotMemory, kv: Array) -> Array:
        """Return logits [draws, vocab], valid until the next call. Writes K and V to the pool."""
        work = self._workspace.first(len(batch.input_ids), len(batch.logits_indices))
        kernels, eps = self._kernels, self._config.rms_norm_eps
        layers = self._weights.layers
        kernels.pick_tokens(batch.input_ids, slots.last, work.input_ids)
        kernels.take_rows(self._weights.embedding, work.input_ids, work.residual)
        kernels.rms_norm(work.residual, layers[0].attention_norm, eps, work.normed)
        following = [*(layer.attention_norm for layer in layers[1:]), self._weights.final_norm]
        for number, (layer, next_norm) in enumerate(zip(layers, following, strict=True)):
            self._attention(number, layer, batch, slots.block_tables, kv, work)
            kernels.add_rms_norm(work.residual, work.projected, layer.mlp_norm, eps, work.normed)
            self._mlp(layer, work)
            kernels.add_rms_norm(work.residual, work.projected, next_norm, eps, work.normed)
        return self._logits(batch, work)

    def _attention(
        self, number: int, layer: LayerWeights, batch: Batch, block_tables: Array, kv: Array, work: Workspace
    ) -> None:
        kernels, config = self._kernels, self._config
        heads, kv_heads, tokens = config.num_heads, config.num_kv_heads, len(batch.input_ids)
        self._project(layer.qkv, work.normed, work.qkv.reshape(tokens, -1))
        if layer.q_norm is not None:
            kernels.head_rms_norm(work.qkv, 0, heads, layer.q_norm, config.rms_norm_eps)
        if layer.k_norm is not None:
            kernels.head_rms_norm(work.qkv, heads, heads + kv_heads, layer.k_norm, config.rms_norm_eps)
        kernels.rope_store_kv(kv, number, work.qkv, batch.positions, self._cos, self._sin, batch.slot_mapping)
        tables = (block_tables, batch.slots, batch.query_start_loc, batch.seq_lens)
        kernels.paged_attention(work.qkv, kv, number, *tables, 1 / sqrt(config.head_dim), work.attended)
        self._project(layer.attention_out, work.attended.reshape(tokens, -1), work.projected)

    def _mlp(self, layer: LayerWeights, work: Workspace) -> None:
        self._project(layer.gate_up, work.normed, work.gate_up)
        self._kernels.silu_mul(work.gate_up, work.activated)
        self._project(layer.down, work.activated, work.projected)

    def _logits(self, batch: Batch, work: Workspace) -> Array:
        if len(batch.logits_indices):
            self._kernels.take_rows(work.normed, batch.logits_indices, work.last_hidden)
            self._project(self._weights.output, work.last_hidden, work.logits)
        return work.logits

    def _project(self, layer: Linear, x: Array, out: Array) -> None:
        """Multiply by a layer's weight, which is dense."""
        self._kernels.linear(x, layer.weight, layer.bias, out)


def _put(memory: Memory, values: NDArray[Any]) -> Array:
    """Return a copy in ``memory`` of an array of the host."""
    array = memory.zeros(values.shape, values.dtype)
    memory.write(values, array)
    return array
