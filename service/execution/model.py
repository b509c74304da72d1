"""The forward pass of a decoder of the Llama family over a ragged batch, written against any kernels module."""

from dataclasses import dataclass
from math import sqrt
from types import ModuleType

import numpy as np

from service.execution.architecture import ModelConfig
from service.execution.batch import Batch
from service.execution.weights import Array, DenseLinear, LayerWeights, ModelWeights


@dataclass(frozen=True, slots=True)
class Workspace:
    """All arrays that a forward pass writes besides the KV pool, allocated once for the largest batch."""

    residual: Array  # [tokens, hidden]
    normed: Array  # [tokens, hidden]
    projected: Array  # [tokens, hidden] a block's output, before it joins the residual
    qkv: Array  # [tokens, heads + 2 * kv_heads, head_dim]
    attended: Array  # [tokens, heads, head_dim]
    gate_up: Array  # [tokens, 2 * intermediate]
    activated: Array  # [tokens, intermediate]
    sampled: Array  # [samples, hidden]
    logits: Array  # [samples, vocab]

    @classmethod
    def allocate(cls, config: ModelConfig, max_tokens: int, max_samples: int) -> "Workspace":
        """Zeroed, so that every page is there."""
        hidden, heads, head_dim = config.hidden_size, config.num_heads, config.head_dim
        shapes = (
            *[(max_tokens, hidden)] * 3,
            (max_tokens, heads + 2 * config.num_kv_heads, head_dim),
            (max_tokens, heads, head_dim),
            (max_tokens, 2 * config.intermediate_size),
            (max_tokens, config.intermediate_size),
            (max_samples, hidden),
            (max_samples, config.vocab_size),
        )
        return cls(*(np.full(shape, 0, np.float32) for shape in shapes))

    def first(self, tokens: int, samples: int) -> "Workspace":
        """Views of the leading rows."""
        return Workspace(
            self.residual[:tokens],
            self.normed[:tokens],
            self.projected[:tokens],
            self.qkv[:tokens],
            self.attended[:tokens],
            self.gate_up[:tokens],
            self.activated[:tokens],
            self.sampled[:samples],
            self.logits[:samples],
        )


def rotary_tables(config: ModelConfig, num_positions: int) -> tuple[Array, Array]:
    """Cosines and sines, each [num_positions, head_dim / 2]; in float32 throughout, like the models' own code."""
    frequencies = np.array(config.inverse_frequencies, np.float32)
    angles = np.outer(np.arange(num_positions, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)


class Model:
    """Weights, rotary tables and workspace; `forward` runs a batch of at most ``max_tokens`` with ``max_samples``."""

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        kernels: ModuleType,
        *,
        max_positions: int,
        max_tokens: int,
        max_samples: int,
    ) -> None:
        self._config = config
        self._weights = weights
        self._kernels = kernels
        self._cos, self._sin = rotary_tables(config, max_positions)
        self._workspace = Workspace.allocate(config, max_tokens, max_samples)

    def forward(self, batch: Batch, kv: Array) -> Array:
        """Logits [samples, vocab] after the tokens that sample; K and V go to the pool. Valid until the next call."""
        work = self._workspace.first(len(batch.tokens), len(batch.sampling))
        kernels, eps = self._kernels, self._config.rms_norm_eps
        layers = self._weights.layers
        kernels.take_rows(self._weights.embedding, batch.tokens, work.residual)
        kernels.rms_norm(work.residual, layers[0].attention_norm, eps, work.normed)
        following = [*(layer.attention_norm for layer in layers[1:]), self._weights.final_norm]
        for number, (layer, next_norm) in enumerate(zip(layers, following, strict=True)):
            self._attention(number, layer, batch, kv, work)
            kernels.add_rms_norm(work.residual, work.projected, layer.mlp_norm, eps, work.normed)
            self._mlp(layer, work)
            kernels.add_rms_norm(work.residual, work.projected, next_norm, eps, work.normed)
        return self._logits(batch, work)

    def _attention(self, number: int, layer: LayerWeights, batch: Batch, kv: Array, work: Workspace) -> None:
        kernels, config = self._kernels, self._config
        heads, kv_heads, tokens = config.num_heads, config.num_kv_heads, len(batch.tokens)
        self._project(layer.qkv, work.normed, work.qkv.reshape(tokens, -1))
        if layer.q_norm is not None:
            kernels.head_rms_norm(work.qkv, 0, heads, layer.q_norm, config.rms_norm_eps)
        if layer.k_norm is not None:
            kernels.head_rms_norm(work.qkv, heads, heads + kv_heads, layer.k_norm, config.rms_norm_eps)
        kernels.rope_store_kv(kv, number, work.qkv, batch.positions, self._cos, self._sin, batch.places)
        tables = (batch.block_tables, batch.slots, batch.query_starts, batch.lengths)
        kernels.paged_attention(work.qkv, kv, number, *tables, 1 / sqrt(config.head_dim), work.attended)
        self._project(layer.attention_out, work.attended.reshape(tokens, -1), work.projected)

    def _mlp(self, layer: LayerWeights, work: Workspace) -> None:
        self._project(layer.gate_up, work.normed, work.gate_up)
        self._kernels.silu_mul(work.gate_up, work.activated)
        self._project(layer.down, work.activated, work.projected)

    def _logits(self, batch: Batch, work: Workspace) -> Array:
        if len(batch.sampling):
            self._kernels.take_rows(work.normed, batch.sampling, work.sampled)
            self._project(self._weights.output, work.sampled, work.logits)
        return work.logits

    def _project(self, layer: DenseLinear, x: Array, out: Array) -> None:
        """The seam by weight type: `DenseLinear` is the one there is."""
        self._kernels.linear(x, layer.weight, layer.bias, out)
