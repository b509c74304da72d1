"""Carries out a forward pass over a ragged batch, operation by operation, for any kernels on any memory.

Activations have the element type of the weights, which the KV pool must have too; logits and rotary tables are float32.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.execution.batch import Batch, SlotMemory
from service.execution.bundles import array, layout, specs
from service.execution.forward_pass import Attend, Embed, Norm, Project, RotateAndStore, SiluMul, Value, forward_pass
from service.execution.memory import Array, Kernels, Memory
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights


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
    """Runs batches of at most ``max_tokens`` with ``max_draws`` on dense weights, in a workspace of its own."""

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
        self._ops = forward_pass(weights)
        self._kernels = kernels
        self._cos, self._sin = (_put(memory, table) for table in rotary_tables(config, max_positions))
        self._workspace = Workspace.allocate(memory, config, max_tokens, max_draws, weights.embedding.dtype)

    def forward(self, batch: Batch, slots: SlotMemory, kv: Array) -> Array:
        """Return logits [draws, vocab], valid until the next call. Writes K and V to the pool."""
        work = self._workspace.first(len(batch.input_ids), len(batch.logits_indices))
        self._kernels.pick_tokens(batch.input_ids, slots.last, work.input_ids)
        for op in self._ops:
            match op:
                case Embed(table):
                    self._kernels.take_rows(table, work.input_ids, work.residual)
                case Norm():
                    self._norm(op, batch, work)
                case Project():
                    self._project(op, work)
                case RotateAndStore():
                    self._rotate_and_store(op, batch, kv, work)
                case Attend(number):
                    self._attend(number, batch, slots.block_tables, kv, work)
                case SiluMul():
                    self._kernels.silu_mul(work.gate_up, work.activated)
        return work.logits

    def _norm(self, op: Norm, batch: Batch, work: Workspace) -> None:
        kernels, eps = self._kernels, self._config.rms_norm_eps
        if op.adds:
            kernels.add_rms_norm(work.residual, work.projected, op.weight, eps, work.normed)
        else:
            kernels.rms_norm(work.residual, op.weight, eps, work.normed)
        if op.target is Value.LAST_HIDDEN and len(batch.logits_indices):
            kernels.take_rows(work.normed, batch.logits_indices, work.last_hidden)

    def _project(self, op: Project, work: Workspace) -> None:
        tokens = len(work.residual)
        source, out = (
            {
                Value.NORMED: work.normed,
                Value.QKV: work.qkv.reshape(tokens, -1),
                Value.ATTENDED: work.attended.reshape(tokens, -1),
                Value.GATE_UP: work.gate_up,
                Value.ACTIVATED: work.activated,
                Value.RESIDUAL: work.projected,
                Value.LAST_HIDDEN: work.last_hidden,
                Value.LOGITS: work.logits,
            }[value]
            for value in (op.source, op.target)
        )
        if len(source):
            self._kernels.linear(source, op.layer.weight, op.layer.bias, out)

    def _rotate_and_store(self, op: RotateAndStore, batch: Batch, kv: Array, work: Workspace) -> None:
        kernels, config = self._kernels, self._config
        heads, kv_heads = config.num_heads, config.num_kv_heads
        if op.q_norm is not None:
            kernels.head_rms_norm(work.qkv, 0, heads, op.q_norm, config.rms_norm_eps)
        if op.k_norm is not None:
            kernels.head_rms_norm(work.qkv, heads, heads + kv_heads, op.k_norm, config.rms_norm_eps)
        kernels.rope_store_kv(kv, op.number, work.qkv, batch.positions, self._cos, self._sin, batch.slot_mapping)

    def _attend(self, number: int, batch: Batch, block_tables: Array, kv: Array, work: Workspace) -> None:
        tables = (block_tables, batch.slots, batch.query_start_loc, batch.seq_lens)
        scale = 1 / sqrt(self._config.head_dim)
        self._kernels.paged_attention(work.qkv, kv, number, *tables, scale, work.attended)


def _put(memory: Memory, values: NDArray[Any]) -> Array:
    """Return a copy in ``memory`` of an array of the host."""
    array = memory.zeros(values.shape, values.dtype)
    memory.write(values, array)
    return array
