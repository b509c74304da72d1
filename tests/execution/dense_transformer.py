"""A plain transformer in float64, without paging, batching or our kernels."""

from collections.abc import Sequence

import numpy as np

from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import DenseLinear, ModelWeights


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def project(x: np.ndarray, layer: DenseLinear) -> np.ndarray:
    return x @ layer.weight.T.astype(np.float64) + (0 if layer.bias is None else layer.bias)


def rotate(x: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Return x [tokens, heads, head_dim] rotated, by complex numbers."""
    half = config.head_dim // 2
    turned = np.exp(1j * np.outer(np.arange(len(x)), config.inverse_frequencies))[:, None]
    z = (x[..., :half] + 1j * x[..., half:]) * turned
    return np.concatenate([z.real, z.imag], axis=-1)


def dense_logits(config: ModelConfig, weights: ModelWeights, tokens: Sequence[int]) -> np.ndarray:
    """Return logits [tokens, vocab] in float64."""
    x = weights.embedding[list(tokens)].astype(np.float64)
    heads, kv_heads, group = config.num_heads, config.num_kv_heads, config.num_heads // config.num_kv_heads
    for layer in weights.layers:
        qkv = project(norm(x, layer.attention_norm), layer.qkv).reshape(len(x), -1, config.head_dim)
        q, k, v = np.split(qkv, [heads, heads + kv_heads], axis=1)
        q = q if layer.q_norm is None else norm(q, layer.q_norm)
        k = k if layer.k_norm is None else norm(k, layer.k_norm)
        k, v = np.repeat(rotate(k, config), group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", rotate(q, config), k) / np.sqrt(config.head_dim)
        scores += np.triu(np.full((len(x), len(x)), -np.inf), 1)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        attended = np.einsum("hqk,khd->qhd", share / share.sum(-1, keepdims=True), v)
        x = x + project(attended.reshape(len(x), -1), layer.attention_out)
        gate, up = np.split(project(norm(x, layer.mlp_norm), layer.gate_up), 2, axis=1)
        x = x + project(gate / (1 + np.exp(-gate)) * up, layer.down)
    return project(norm(x, weights.final_norm), weights.output)
