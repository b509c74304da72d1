"""Random weights in any model's shapes, for benchmarks, which need only its sizes.

All matrices are copied from one table of noise, at memory's speed, so that 32 billion numbers take seconds.
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

TABLE = 4194301  # numbers of noise; a prime, so that no two rows of a matrix begin at the same number


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A config, and which optional weights the model has."""

    config: ModelConfig
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the tensors' Hugging Face names and shapes."""
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
    """A `TensorSource`. The same seed gives the same numbers, however a matrix is divided into reads.

    Matrices are normal with variance 1 / columns and norms are one, so that activations and logits keep their size.
    """

    def __init__(self, shape: ModelShape, dtype: np.dtype[Any], seed: int = 0) -> None:
        self._shapes = dict(shape.tensors())
        self._dtype = dtype
        noise = np.random.default_rng(seed).standard_normal(TABLE, np.float32)
        widths = {shape[-1] for shape in self._shapes.values()}
        self._tables = {width: (noise / np.float32(np.sqrt(width))).astype(dtype) for width in widths}

    def names(self) -> Iterable[str]:
        """Return the names of all tensors."""
        return self._shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._shapes[name]

    def stored(self, name: str) -> str:
        """Return the type to which the table is rounded."""
        return self._dtype.name

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Write rows of a tensor into ``out``, from row ``first`` on."""
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

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Return rows of a matrix in the type to which the table is rounded."""
        rows = np.empty((count, self._shapes[name][1]), self._dtype)
        self.read(name, first, rows)
        return rows.view(np.uint8)

    def release(self) -> None:
        """Do nothing: there is no file."""


def random_weights(shape: ModelShape, dtype: np.dtype[Any], destination: Destination, seed: int = 0) -> ModelWeights:
    """Return random weights of type ``dtype`` in a shape, put where ``destination`` says."""
    return assemble(RandomTensors(shape, dtype, seed), shape.config, shape.tied, destination)
