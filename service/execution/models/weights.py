"""A model's weights as the forward pass wants them: q/k/v fused, gate/up fused, rotary in half-split order.

All have one element type and stand in one memory: float32 on the host, or a device's type on that device.
"""

from dataclasses import dataclass

from service.execution.memory import Array


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """y = x @ weight.T + bias. Another weight type would be another class, by which `LlamaModel` picks the kernel."""

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
    """A whole model. ``output.weight`` is ``embedding`` itself if they are tied."""

    embedding: Array  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_norm: Array  # [hidden]
    output: DenseLinear  # [vocab, hidden]
