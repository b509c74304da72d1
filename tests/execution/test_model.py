"""The forward pass against a plain transformer without paging, batching or our kernels."""

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import pytest

from allocator import Extent
from kernels import cpu, reference
from service.core.messages.plan import Row
from service.execution.batch import Batcher, SlotMemory
from service.execution.kv import allocate_kv_pool
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import DenseLinear, ModelWeights

FAMILIES = {
    "llama": {},
    "tied": {"tied": True},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 24},
    "wide-heads": {"heads": 4, "kv_heads": 1, "head_dim": 32},
}
LENGTHS = (1, 15, 16, 17, 60)


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


class Bench:
    """A model over a poisoned pool; each sequence has scattered blocks of its own."""

    def __init__(self, config: ModelConfig, weights: ModelWeights, kernels: ModuleType = cpu) -> None:
        sizes = {"max_positions": 200, "max_tokens": 200, "max_draws": 8}
        self.kernels = kernels
        self.model = LlamaModel(config, weights, kernels, HostMemory(), **sizes)
        self.batcher = Batcher(num_slots=8, max_blocks=64)
        self.slots = SlotMemory.allocate(HostMemory(), 8, 64)
        self.kv = allocate_kv_pool(config, 64)
        self.kv.fill(np.nan)

    def row(self, slot: int, tokens: Sequence[int], start: int = 0) -> Row:
        extents = (Extent(0, 63 - slot, 1), Extent(0, slot * 6, 2), Extent(0, slot * 6 + 3, 3))
        return Row(slot, start, tuple(tokens), extents, draws_token=True)

    def logits(self, *rows: Row) -> np.ndarray:
        batch, changes = self.batcher.build(rows)
        self.slots.change(changes, self.kernels)
        return self.model.forward(batch, self.slots, self.kv).copy()


def prompts(seed: int = 1) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 211, length).tolist() for length in LENGTHS]


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_equals_a_dense_transformer(random_model: Callable, family: str, kernels: ModuleType) -> None:
    config, weights = random_model(**FAMILIES[family])
    bench = Bench(config, weights, kernels)
    got = bench.logits(*(bench.row(slot, prompt) for slot, prompt in enumerate(prompts())))
    expected = [dense_logits(config, weights, prompt)[-1] for prompt in prompts()]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_one_by_one_equals_all_at_once_to_the_bit(random_model: Callable) -> None:
    bench, alone = Bench(*random_model()), Bench(*random_model())
    together = bench.logits(*(bench.row(slot, prompt) for slot, prompt in enumerate(prompts())))
    for slot, prompt in enumerate(prompts()):
        np.testing.assert_array_equal(alone.logits(alone.row(slot, prompt))[0], together[slot])


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_a_chunked_prefill_equals_a_whole_one_to_the_bit(random_model: Callable, chunk: int) -> None:
    bench, whole = Bench(*random_model()), Bench(*random_model())
    prompt = prompts()[-1]
    for start in range(0, len(prompt), chunk):
        got = bench.logits(bench.row(2, prompt[start : start + chunk], start))
    np.testing.assert_array_equal(got, whole.logits(whole.row(2, prompt)))


def test_only_rows_that_draw_have_logits(random_model: Callable) -> None:
    bench = Bench(*random_model())
    first, second = prompts()[3:]
    silent = Row(0, 0, tuple(first), bench.row(0, first).extents, draws_token=False)
    got = bench.logits(silent, bench.row(1, second))
    assert got.shape == (1, 211)
    np.testing.assert_array_equal(got, Bench(*random_model()).logits(bench.row(1, second)))


def test_a_batch_that_draws_nothing_still_stores_its_kv(random_model: Callable) -> None:
    bench, whole = Bench(*random_model()), Bench(*random_model())
    prompt = prompts()[-1]
    assert bench.logits(Row(3, 0, tuple(prompt[:59]), bench.row(3, prompt).extents, draws_token=False)).shape == (
        0,
        211,
    )
    np.testing.assert_array_equal(bench.logits(bench.row(3, prompt[59:], 59)), whole.logits(whole.row(3, prompt)))


def test_only_the_sequences_own_tokens_are_written(random_model: Callable) -> None:
    bench = Bench(*random_model())
    prompt = prompts()[3]  # 17 tokens: the last block has one
    bench.logits(bench.row(1, prompt))
    assert np.isfinite(bench.kv[62]).all()
    assert np.isfinite(bench.kv[6, :, :, :, 0]).all()
    assert np.isnan(bench.kv[6, :, :, :, 1:]).all()
    assert np.isnan(np.delete(bench.kv, [62, 6], axis=0)).all()
