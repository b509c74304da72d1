"""A model's weights as the forward pass wants them: q/k/v fused, gate/up fused, rotary in half-split order.

They have one of two forms. Dense, all are arrays of one element type in one memory: float32 on the host, or a device's
type on that device. Packed, matrices keep the types that the file has, on the host, and all else is float32.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.execution.memory import Array


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The rows ``first`` to ``first + rows`` of a matrix, which have one type."""

    format: str  # its name in `kernels.cpu.step.formats.FORMATS`, which says what is packed how
    first: int
    rows: int
    groups: NDArray[np.uint8]  # [groups of 16 rows, bytes of a group], C-contiguous


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix [out, in]. The ``parts`` of a fused one may differ in type; each begins a group."""

    columns: int
    parts: tuple[PackedRows, ...]

    @property
    def nbytes(self) -> int:
        """The size of all parts."""
        return sum(part.groups.nbytes for part in self.parts)


Matrix = Any  # Array [out, in], or PackedMatrix


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """y = x @ weight.T + bias."""

    weight: Array  # [out, in]
    bias: Array | None = None  # [out]


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """y = x @ weight.T + bias."""

    weight: PackedMatrix
    bias: Array | None = None  # [out]


Linear = DenseLinear | PackedLinear


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer."""

    attention_norm: Array  # [hidden]
    qkv: Linear  # [(heads + 2 * kv_heads) * head_dim, hidden]; rows: all q, all k, all v
    q_norm: Array | None  # [head_dim]
    k_norm: Array | None  # [head_dim]
    attention_out: Linear  # [hidden, heads * head_dim]
    mlp_norm: Array  # [hidden]
    gate_up: Linear  # [2 * intermediate, hidden]; rows: gate, up
    down: Linear  # [hidden, intermediate]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A whole model. ``output.weight`` is ``embedding`` itself if they are tied."""

    embedding: Matrix  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_norm: Array  # [hidden]
    output: Linear  # [vocab, hidden]


def is_packed(weights: ModelWeights) -> bool:
    """Return which of the two forms weights have."""
    return isinstance(weights.embedding, PackedMatrix)
