"""Weights that nobody trained, of any model's shapes: for benchmarks, which need no more than its sizes.

All matrices are cut from one table of noise, at memory's speed, so that 32 billion numbers are a matter of seconds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import OUTPUT, Destination, assemble
from service.execution.models.weights import ModelWeights

TABLE = 4194301  # numbers of noise; a prime, so that no two rows of a matrix are cut from the same place


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A config and the weights that do not show in it."""

    config: ModelConfig
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Hugging Face names and shapes."""
        config = self.config
        yield "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
        if not self.tied:
            yield OUTPUT, (config.vocab_size, config.hidden_size)
        yield "model.norm.weight", (config.hidden_size,)
        for layer in range(config.num_layers):
            for name, shape in self._layer():
                yield f"model.layers.{layer}.{name}", shape

    def _layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        config = self.config
        hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim
        rows = {"q": heads, "k": config.num_kv_heads * config.head_dim, "v": config.num_kv_heads * config.head_dim}
        yield from ((f"{norm}_layernorm.weight", (hidden,)) for norm in ("input", "post_attention"))
        yield from ((f"self_attn.{part}_proj.weight", (size, hidden)) for part, size in rows.items())
        if self.qkv_bias:
            yield from ((f"self_attn.{part}_proj.bias", (size,)) for part, size in rows.items())
        if self.qk_norm:
            yield from ((f"self_attn.{part}_norm.weight", (config.head_dim,)) for part in ("q", "k"))
        yield "self_attn.o_proj.weight", (hidden, heads)
        yield from ((f"mlp.{part}_proj.weight", (inner, hidden)) for part in ("gate", "up"))
        yield "mlp.down_proj.weight", (hidden, inner)


class RandomTensors:
    """A `TensorSource`. The same seed gives the same numbers, however matrices are cut.

    Matrices are normal with variance 1 / columns and norms are one, so that activations and logits keep their size.
    """

    def __init__(self, shape: ModelShape, dtype: np.dtype[Any], seed: int = 0) -> None:
        self._shapes = dict(shape.tensors())
        self._dtype = dtype
        noise = np.random.default_rng(seed).standard_normal(TABLE, np.float32)
        widths = {shape[-1] for shape in self._shapes.values()}
        self._tables = {width: (noise / np.float32(np.sqrt(width))).astype(dtype) for width in widths}

    def names(self) -> Iterable[str]:
        """All that the shape has."""
        return self._shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._shapes[name]

    def stored(self, name: str) -> str:
        """What the table was rounded to."""
        return self._dtype.name

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Rows of a tensor."""
        if name.endswith("norm.weight"):
            out.fill(1)
            return
        table, flat = self._tables[self._shapes[name][-1]], out.reshape(-1)
        start = (crc32(name.encode()) + first * out[0].size) % TABLE
        done = 0
        while done < flat.size:
            piece = table[start : start + flat.size - done]
            flat[done : done + piece.size] = piece
            start, done = 0, done + piece.size


def random_weights(shape: ModelShape, dtype: np.dtype[Any], destination: Destination, seed: int = 0) -> ModelWeights:
    """A model of a shape, drawn as ``dtype`` and put where ``destination`` says."""
    return assemble(RandomTensors(shape, dtype, seed), shape.config, shape.tied, destination)
