"""The shape of a model: the numbers that loaders read and the forward pass needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family. Optional weights (q/k/v biases, q/k norms) appear in the weights only."""

    architecture: str  # llama, mistral, qwen2, qwen3
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    inverse_frequencies: tuple[float, ...]  # [head_dim / 2] rotary angles per position, with any scaling
    max_position_embeddings: int  # tokens; already capped by a sliding window, if the model has one

    @property
    def kv_shape(self) -> tuple[int, int, int, int]:
        """The shape of one token's KV: [layer, k_or_v, kv_head, head_dim]."""
        return (self.num_layers, 2, self.num_kv_heads, self.head_dim)
