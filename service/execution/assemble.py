"""From named tensors of any file format to `ModelWeights`: shapes checked, parts fused in place, filled by threads.

Names are Hugging Face's. Each fused array is allocated once and every tensor is decoded straight into its rows, so
the peak is the model itself.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from service.errors import ModelLoadError
from service.execution.architecture import ModelConfig
from service.execution.weights import Array, DenseLinear, LayerWeights, ModelWeights

Part = tuple[str, int]  # a tensor's name and its number of rows in the fused array


class TensorSource(Protocol):
    """Where weights come from; `read` is called from several threads."""

    def names(self) -> Iterable[str]:
        """Hugging Face names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, outermost dimension first."""

    def read(self, name: str, out: Array) -> None:
        """Decode a tensor into ``out``, C-contiguous and of its shape."""


def assemble(source: TensorSource, config: ModelConfig, tied: bool) -> ModelWeights:
    """Load every tensor of ``source``; raises `ModelLoadError` if one is missing, misshapen or left over."""
    assembler = _Assembler(source)
    weights = assembler.model(config, tied)
    assembler.fill()
    return weights


class _Assembler:
    """Allocates arrays and notes which tensor fills which rows; `fill` does the reading."""

    def __init__(self, source: TensorSource) -> None:
        self._source = source
        self._unclaimed = set(source.names())
        self._reads: list[tuple[str, Array]] = []

    def model(self, config: ModelConfig, tied: bool) -> ModelWeights:
        embedding = self._fuse([("model.embed_tokens.weight", config.vocab_size)], config.hidden_size)
        if tied:
            self._unclaimed.discard("lm_head.weight")
            output = DenseLinear(embedding)
        else:
            output = DenseLinear(self._fuse([("lm_head.weight", config.vocab_size)], config.hidden_size))
        layers = tuple(self._layer(f"model.layers.{index}.", config) for index in range(config.num_layers))
        return ModelWeights(embedding, layers, self._vector("model.norm.weight", config.hidden_size), output)

    def _layer(self, prefix: str, config: ModelConfig) -> LayerWeights:
        hidden, inner = config.hidden_size, config.intermediate_size
        q_rows, kv_rows = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        return LayerWeights(
            attention_norm=self._vector(prefix + "input_layernorm.weight", hidden),
            qkv=self._linear(
                [(attention + "q_proj", q_rows), (attention + "k_proj", kv_rows), (attention + "v_proj", kv_rows)],
                hidden,
            ),
            q_norm=self._optional_vector(attention + "q_norm.weight", config.head_dim),
            k_norm=self._optional_vector(attention + "k_norm.weight", config.head_dim),
            attention_out=self._linear([(attention + "o_proj", hidden)], q_rows),
            mlp_norm=self._vector(prefix + "post_attention_layernorm.weight", hidden),
            gate_up=self._linear([(mlp + "gate_proj", inner), (mlp + "up_proj", inner)], hidden),
            down=self._linear([(mlp + "down_proj", hidden)], inner),
        )

    def _linear(self, parts: list[Part], columns: int) -> DenseLinear:
        weight = self._fuse([(name + ".weight", rows) for name, rows in parts], columns)
        if parts[0][0] + ".bias" not in self._unclaimed:
            return DenseLinear(weight)
        return DenseLinear(weight, self._fuse([(name + ".bias", rows) for name, rows in parts]))

    def _vector(self, name: str, length: int) -> Array:
        return self._fuse([(name, length)])

    def _optional_vector(self, name: str, length: int) -> Array | None:
        return self._vector(name, length) if name in self._unclaimed else None

    def _fuse(self, parts: list[Part], columns: int | None = None) -> Array:
        """An array [rows of all parts] or [rows, columns] that `fill` will fill."""
        row = () if columns is None else (columns,)
        for name, rows in parts:
            self._claim(name, (rows, *row))
        fused = np.empty((sum(rows for _, rows in parts), *row), dtype=np.float32)
        start = 0
        for name, rows in parts:
            self._reads.append((name, fused[start : start + rows]))
            start += rows
        return fused

    def _claim(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._unclaimed:
            raise ModelLoadError(f"tensor {name} is missing")
        if self._source.shape(name) != shape:
            raise ModelLoadError(f"tensor {name} has shape {self._source.shape(name)}, the config says {shape}")
        self._unclaimed.remove(name)

    def fill(self) -> None:
        if self._unclaimed:
            names = sorted(self._unclaimed)
            raise ModelLoadError(f"{len(names)} tensors of a kind that is not supported, such as {names[0]}")
        largest_first = sorted(self._reads, key=lambda read: -read[1].size)
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="load") as threads:
            for _ in threads.map(lambda read: self._source.read(*read), largest_first):
                pass
