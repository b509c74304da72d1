"""A model's weights as the forward pass wants them: q/k/v fused, gate/up fused, rotary in half-split order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """y = x @ weight.T + bias in float32. Another weight type is another class, by which `Model` picks the kernel."""

    weight: Array  # [out, in]
    bias: Array | None = None  # [out]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer."""

    attention_norm: Array  # [hidden]
    qkv: DenseLinear  # [(heads + 2 * kv_heads) * head_dim, hidden]; rows: all q, all k, all v
    q_norm: Array | None  # [head_dim]
    k_norm: Array | None  # [head_dim]
    attention_out: DenseLinear  # [hidden, heads * head_dim]
    mlp_norm: Array  # [hidden]
    gate_up: DenseLinear  # [2 * intermediate, hidden]; rows: gate, up
    down: DenseLinear  # [hidden, intermediate]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A whole model. ``output.weight`` is ``embedding`` itself when they are tied."""

    embedding: Array  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_norm: Array  # [hidden]
    output: DenseLinear  # [vocab, hidden]
