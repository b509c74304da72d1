"""Makes `ModelWeights` of named tensors of any file format: checks shapes, fuses parts in place, fills them by threads.

Names are Hugging Face's. A `Destination` says where weights go and in which form. It allocates each fused matrix once,
and every tensor is put into its rows, so that the peak of memory is the model itself.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError
from service.execution.memory import Array
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import LayerWeights, Linear, Matrix, ModelWeights

OUTPUT = "lm_head.weight"
Part = tuple[str, int]  # a tensor's name and its number of rows in the fused matrix


class TensorSource(Protocol):
    """Where weights come from; `read` and `raw` are called from several threads."""

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

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Return rows of a matrix as they are stored: uint8 [count, bytes of a row], which the caller only reads."""

    def release(self) -> None:
        """Give memory that holds parts of files back; what is read later is read anew."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a source, whose shape is the one that the config says."""

    source: TensorSource
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, outermost dimension first."""
        return self.source.shape(self.name)

    @property
    def stored(self) -> str:
        """Its element type in the file."""
        return self.source.stored(self.name)

    def read(self, first: int, out: NDArray[Any]) -> None:
        """See `TensorSource`."""
        self.source.read(self.name, first, out)

    def raw(self, first: int, count: int) -> NDArray[np.uint8]:
        """See `TensorSource`."""
        return self.source.raw(self.name, first, count)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one thread loads at a time: ``size`` numbers."""

    size: int
    load: Callable[[], None]


class Destination(Protocol):
    """Where weights go to, and their form. Pieces fill what it allocates; several threads load them in any order."""

    def vector(self, tensors: Sequence[Tensor]) -> tuple[Array, list[Piece]]:
        """Allocate an array for vectors, one after the other."""

    def matrix(self, tensors: Sequence[Tensor]) -> tuple[Matrix, list[Piece]]:
        """Allocate a matrix for the rows of matrices, one after the other."""

    def linear(self, weight: Matrix, bias: Array | None) -> Linear:
        """Return the layer of such a matrix and vector."""

    def num_bytes(self, tensor: Tensor) -> int:
        """Return the memory that a tensor takes, but for what alignment adds."""

    def finish(self) -> None:
        """Wait until all pieces have arrived."""


Report = Callable[[int, int], None]
"""Is told the number of a piece, from 1 on, and of how many, when those before it are loaded."""


def unreported(number: int, count: int) -> None:
    """Tell nobody."""


def assemble(
    source: TensorSource, config: ModelConfig, tied: bool, destination: Destination, report: Report = unreported
) -> ModelWeights:
    """Load every tensor of ``source``. Raises `ModelLoadError` if one is missing, unknown or of the wrong shape."""
    assembler = _Assembler(source, destination)
    weights = assembler.model(config, tied)
    assembler.fill(report)
    destination.finish()
    source.release()
    return weights


def num_weights(source: TensorSource, tied: bool) -> int:
    """Return how many numbers `assemble` allocates memory for."""
    return sum(math.prod(tensor.shape) for tensor in _loaded(source, tied))


def num_bytes(source: TensorSource, tied: bool, destination: Destination) -> int:
    """Return the memory that `assemble` has ``destination`` allocate, but for what alignment adds."""
    return sum(map(destination.num_bytes, _loaded(source, tied)))


def _loaded(source: TensorSource, tied: bool) -> Iterator[Tensor]:
    return (Tensor(source, name) for name in source.names() if not (tied and name == OUTPUT))


class _Assembler:
    """Has the destination allocate all weights and notes what fills them; `fill` does."""

    def __init__(self, source: TensorSource, destination: Destination) -> None:
        self._source = source
        self._destination = destination
        self._unclaimed = set(source.names())
        self._pieces: list[Piece] = []

    def model(self, config: ModelConfig, tied: bool) -> ModelWeights:
        embedding = output = self._matrix([("model.embed_tokens.weight", config.vocab_size)], config.hidden_size)
        if tied:
            self._unclaimed.discard(OUTPUT)
        else:
            output = self._matrix([(OUTPUT, config.vocab_size)], config.hidden_size)
        layers = tuple(self._layer(f"model.layers.{index}.", config) for index in range(config.num_layers))
        final_norm = self._vector([("model.norm.weight", config.hidden_size)])
        return ModelWeights(embedding, layers, final_norm, self._destination.linear(output, None))

    def _layer(self, prefix: str, config: ModelConfig) -> LayerWeights:
        hidden, inner = config.hidden_size, config.intermediate_size
        q_rows, kv_rows = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        return LayerWeights(
            attention_norm=self._vector([(prefix + "input_layernorm.weight", hidden)]),
            qkv=self._linear(
                [(attention + "q_proj", q_rows), (attention + "k_proj", kv_rows), (attention + "v_proj", kv_rows)],
                hidden,
            ),
            q_norm=self._optional_vector(attention + "q_norm.weight", config.head_dim),
            k_norm=self._optional_vector(attention + "k_norm.weight", config.head_dim),
            attention_out=self._linear([(attention + "o_proj", hidden)], q_rows),
            mlp_norm=self._vector([(prefix + "post_attention_layernorm.weight", hidden)]),
            gate_up=self._linear([(mlp + "gate_proj", inner), (mlp + "up_proj", inner)], hidden),
            down=self._linear([(mlp + "down_proj", hidden)], inner),
        )

    def _linear(self, parts: list[Part], columns: int) -> Linear:
        weight = self._matrix([(name + ".weight", rows) for name, rows in parts], columns)
        if parts[0][0] + ".bias" not in self._unclaimed:
            return self._destination.linear(weight, None)
        return self._destination.linear(weight, self._vector([(name + ".bias", rows) for name, rows in parts]))

    def _optional_vector(self, name: str, length: int) -> Array | None:
        return self._vector([(name, length)]) if name in self._unclaimed else None

    def _vector(self, parts: list[Part]) -> Array:
        vector, pieces = self._destination.vector([self._claim(name, (length,)) for name, length in parts])
        self._pieces += pieces
        return vector

    def _matrix(self, parts: list[Part], columns: int) -> Matrix:
        matrix, pieces = self._destination.matrix([self._claim(name, (rows, columns)) for name, rows in parts])
        self._pieces += pieces
        return matrix

    def _claim(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self._unclaimed:
            raise ModelLoadError(f"tensor {name} is missing")
        if self._source.shape(name) != shape:
            raise ModelLoadError(f"tensor {name} has shape {self._source.shape(name)}, the config says {shape}")
        self._unclaimed.remove(name)
        return Tensor(self._source, name)

    def fill(self, report: Report) -> None:
        if self._unclaimed:
            names = sorted(self._unclaimed)
            raise ModelLoadError(f"{len(names)} tensors that are not supported, such as {names[0]}")
        largest_first = sorted(self._pieces, key=lambda piece: -piece.size)
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="load") as threads:
            loaded = threads.map(lambda piece: piece.load(), largest_first)
            for number in range(1, len(largest_first) + 1):
                report(number, len(largest_first))
                next(loaded)
