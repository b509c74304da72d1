"""Makes `ModelWeights` of named tensors of any file format: checks shapes, fuses parts in place, fills them by threads.

Names are Hugging Face's. A `Destination` says where weights go. Each fused array is allocated there once, and every
tensor is decoded into its rows, so the peak of memory is the model itself.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError
from service.execution.memory import Array
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import DenseLinear, LayerWeights, ModelWeights

OUTPUT = "lm_head.weight"
Part = tuple[str, int]  # a tensor's name and its number of rows in the fused array
Read = Callable[[NDArray[Any]], None]


class TensorSource(Protocol):
    """Where weights come from; `read` is called from several threads."""

    def names(self) -> Iterable[str]:
        """Return the Hugging Face names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, outermost dimension first."""

    def stored(self, name: str) -> str:
        """Return the name of a tensor's element type in the file: NumPy's name, bfloat16, or the quantisation's."""

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Decode rows ``first`` to ``first + len(out)`` of a tensor.

        out: C-contiguous; float32, or the type that the tensor is stored in. A vector is read whole.
        """


class Destination(Protocol):
    """Where weights go to; `fill` is called from several threads."""

    @property
    def largest_fill(self) -> int | None:
        """Elements of a matrix that one `fill` takes at most; None: any number."""

    def allocate(self, shape: tuple[int, ...]) -> Array:
        """Allocate an array whose rows will be filled."""

    def fill(self, rows: Array, stored: str, read: Read) -> None:
        """Have ``read`` decode the contents of ``rows``, as float32 or as the type that they are ``stored`` in."""

    def finish(self) -> None:
        """Wait until all rows are filled."""


class HostWeights:
    """A `Destination`: float32 arrays of the host, filled in place."""

    largest_fill = None

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Allocate an array, whose pages the system takes when it is filled."""
        return np.empty(shape, np.float32)

    def fill(self, rows: NDArray[np.float32], stored: str, read: Read) -> None:
        """Decode in place."""
        read(rows)

    def finish(self) -> None:
        """Do nothing: `fill` has filled the rows."""


def assemble(source: TensorSource, config: ModelConfig, tied: bool, destination: Destination) -> ModelWeights:
    """Load every tensor of ``source``. Raises `ModelLoadError` if one is missing, unknown or of the wrong shape."""
    assembler = _Assembler(source, destination)
    weights = assembler.model(config, tied)
    assembler.fill()
    destination.finish()
    return weights


def num_weights(source: TensorSource, tied: bool) -> int:
    """Return how many numbers `assemble` allocates memory for."""
    names = (name for name in source.names() if not (tied and name == OUTPUT))
    return sum(math.prod(source.shape(name)) for name in names)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a tensor from ``first`` on, and the array that they go to."""

    tensor: str
    first: int
    array: Array


class _Assembler:
    """Allocates arrays and notes which tensor fills which rows; `fill` reads the tensors."""

    def __init__(self, source: TensorSource, destination: Destination) -> None:
        self._source = source
        self._destination = destination
        self._unclaimed = set(source.names())
        self._to_fill: list[_Rows] = []

    def model(self, config: ModelConfig, tied: bool) -> ModelWeights:
        embedding = self._fuse([("model.embed_tokens.weight", config.vocab_size)], config.hidden_size)
        if tied:
            self._unclaimed.discard(OUTPUT)
            output = DenseLinear(embedding)
        else:
            output = DenseLinear(self._fuse([(OUTPUT, config.vocab_size)], config.hidden_size))
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
        """Allocate an array [rows of all parts] or [rows, columns] that `fill` will fill."""
        row = () if columns is None else (columns,)
        for name, rows in parts:
            self._claim(name, (rows, *row))
        fused = self._destination.allocate((sum(rows for _, rows in parts), *row))
        start = 0
        for name, rows in parts:
            self._to_fill += self._split(name, fused[start : start + rows])
            start += rows
        return fused

    def _split(self, name: str, rows: Array) -> Iterator[_Rows]:
        """Yield as many rows at a time as the destination takes."""
        limit, columns = self._destination.largest_fill, rows.shape[1:]
        step = len(rows) if limit is None or not columns else max(1, limit // columns[0])
        for first in range(0, len(rows), step):
            yield _Rows(name, first, rows[first : first + step])

    def _claim(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._unclaimed:
            raise ModelLoadError(f"tensor {name} is missing")
        if self._source.shape(name) != shape:
            raise ModelLoadError(f"tensor {name} has shape {self._source.shape(name)}, the config says {shape}")
        self._unclaimed.remove(name)

    def fill(self) -> None:
        if self._unclaimed:
            names = sorted(self._unclaimed)
            raise ModelLoadError(f"{len(names)} tensors that are not supported, such as {names[0]}")
        largest_first = sorted(self._to_fill, key=lambda rows: -rows.array.size)
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="load") as threads:
            for _ in threads.map(self._fill, largest_first):
                pass

    def _fill(self, rows: _Rows) -> None:
        read = partial(self._source.read, rows.tensor, rows.first)
        self._destination.fill(rows.array, self._source.stored(rows.tensor), read)
