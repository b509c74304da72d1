"""Shapes of the models that GPUs are measured with, from their published configs. The weights are random."""

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.gpu.random_weights import ModelShape
from service.execution.models.architecture import ModelConfig
from service.execution.models.rope import inverse_frequencies

LLAMA_3_8B = ModelShape(
    ModelConfig(
        architecture="llama",
        num_layers=32,
        hidden_size=4096,
        intermediate_size=14336,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        vocab_size=128_256,
        rms_norm_eps=1e-5,
        inverse_frequencies=inverse_frequencies(128, 500_000.0),
        max_position_embeddings=8192,
    )
)

QWEN_2_5_32B = ModelShape(
    ModelConfig(
        architecture="qwen2",
        num_layers=64,
        hidden_size=5120,
        intermediate_size=27648,
        num_heads=40,
        num_kv_heads=8,
        head_dim=128,
        vocab_size=152_064,
        rms_norm_eps=1e-6,
        inverse_frequencies=inverse_frequencies(128, 1_000_000.0),
        max_position_embeddings=32_768,
    ),
    qkv_bias=True,
)

SMOLLM2_135M = ModelShape(
    ModelConfig(
        architecture="llama",
        num_layers=30,
        hidden_size=576,
        intermediate_size=1536,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        vocab_size=49_152,
        rms_norm_eps=1e-5,
        inverse_frequencies=inverse_frequencies(64, 100_000.0),
        max_position_embeddings=8192,
    ),
    tied=True,
)

# No real model: sizes that the simulated device computes at once. It has biases so that their op is run.
TINY = ModelShape(
    ModelConfig(
        architecture="qwen2",
        num_layers=2,
        hidden_size=64,
        intermediate_size=96,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        vocab_size=253,
        rms_norm_eps=1e-6,
        inverse_frequencies=inverse_frequencies(32, 10_000.0),
        max_position_embeddings=512,
    ),
    qkv_bias=True,
)

# The same, with heads of a size that tensor cores take.
TINY_WIDE = ModelShape(
    replace(TINY.config, head_dim=64, inverse_frequencies=inverse_frequencies(64, 10_000.0)), qkv_bias=True
)


def _with_heads(dim: int, num_heads: int, num_kv_heads: int) -> ModelShape:
    frequencies = inverse_frequencies(dim, 10_000.0)
    sizes = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_dim": dim}
    return ModelShape(replace(TINY.config, inverse_frequencies=frequencies, **sizes), qkv_bias=True)


# Heads that the other shapes lack: sizes 80, 96 and 128, with one, three and four query heads a KV head.
HEADS: Mapping[str, ModelShape] = {
    "heads of 80": _with_heads(80, 2, 2),
    "heads of 96": _with_heads(96, 3, 1),
    "heads of 128": _with_heads(128, 4, 1),
}
