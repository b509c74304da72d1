"""Small models with random weights: the shapes of the families, a few layers."""

from collections.abc import Callable

import numpy as np
import pytest

from service.execution.memory import Array
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import DenseLinear, LayerWeights, ModelWeights

MakeModel = Callable[..., tuple[ModelConfig, ModelWeights]]


def make_random_model(
    *,
    heads: int = 6,
    kv_heads: int = 2,
    head_dim: int = 16,
    qkv_bias: bool = False,
    qk_norm: bool = False,
    tied: bool = False,
    seed: int = 0,
) -> tuple[ModelConfig, ModelWeights]:
    """Return a model of two layers with hidden 48, so that ``head_dim`` is not hidden / heads by default."""
    hidden, intermediate, vocab, layers = 48, 80, 211, 2
    rng = np.random.default_rng(seed)

    def matrix(rows: int, cols: int) -> Array:
        return rng.standard_normal((rows, cols), dtype=np.float32) / np.float32(np.sqrt(cols))

    def norm(size: int) -> Array:
        return 1 + rng.standard_normal(size, dtype=np.float32) / 4

    def layer() -> LayerWeights:
        qkv_size = (heads + 2 * kv_heads) * head_dim
        return LayerWeights(
            attention_norm=norm(hidden),
            qkv=DenseLinear(matrix(qkv_size, hidden), norm(qkv_size) if qkv_bias else None),
            q_norm=norm(head_dim) if qk_norm else None,
            k_norm=norm(head_dim) if qk_norm else None,
            attention_out=DenseLinear(matrix(hidden, heads * head_dim)),
            mlp_norm=norm(hidden),
            gate_up=DenseLinear(matrix(2 * intermediate, hidden)),
            down=DenseLinear(matrix(hidden, intermediate)),
        )

    config = ModelConfig(
        architecture="llama",
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        rms_norm_eps=1e-5,
        inverse_frequencies=tuple((10000.0 ** -(np.arange(0, head_dim, 2) / head_dim)).tolist()),
        max_position_embeddings=512,
    )
    embedding = matrix(vocab, hidden)
    output = DenseLinear(embedding if tied else matrix(vocab, hidden) * 3)
    return config, ModelWeights(embedding, tuple(layer() for _ in range(layers)), norm(hidden), output)


@pytest.fixture(scope="session")
def random_model() -> MakeModel:
    return make_random_model
