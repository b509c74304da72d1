"""The forward pass, operation by operation and compiled: against a plain transformer, and against itself."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from kernels import cpu, reference
from tests.execution.dense_transformer import dense_logits
from tests.execution.model_bench import VOCAB, MakeBench, compiled_bench, plain_bench, prompts
from tests.execution.random_models import make_model

FAMILIES = {
    "llama": {},
    "tied": {"tied": True},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 24},
    "wide-heads": {"heads": 4, "kv_heads": 1, "head_dim": 32},
}
COMPILED = {"compiled Q8_0": ("Q8_0", "bfloat16"), "compiled bfloat16": ("bfloat16", "float32")}


@pytest.fixture(params=["by operation", *COMPILED])
def make_bench(request: pytest.FixtureRequest, random_model: Callable) -> MakeBench:
    """Make the same model again and again."""
    if request.param not in COMPILED:
        return lambda: plain_bench(*random_model())
    kind, kv_dtype = COMPILED[request.param]
    model = make_model(kind)
    return lambda: compiled_bench(model.config, model.packed, kv_dtype)


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_equals_a_dense_transformer(random_model: Callable, family: str, kernels: ModuleType) -> None:
    config, weights = random_model(**FAMILIES[family])
    bench = plain_bench(config, weights, kernels)
    got = bench.logits(*(bench.row(slot, prompt) for slot, prompt in enumerate(prompts())))
    expected = [dense_logits(config, weights, prompt)[-1] for prompt in prompts()]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_one_by_one_equals_all_at_once_to_the_bit(make_bench: MakeBench) -> None:
    bench, alone = make_bench(), make_bench()
    together = bench.logits(*(bench.row(slot, prompt) for slot, prompt in enumerate(prompts())))
    for slot, prompt in enumerate(prompts()):
        np.testing.assert_array_equal(alone.logits(alone.row(slot, prompt))[0], together[slot])


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_a_chunked_prefill_equals_a_whole_one_to_the_bit(make_bench: MakeBench, chunk: int) -> None:
    bench, whole = make_bench(), make_bench()
    prompt = prompts()[-1]
    for start in range(0, len(prompt), chunk):
        got = bench.logits(bench.row(2, prompt[start : start + chunk], start))
    np.testing.assert_array_equal(got, whole.logits(whole.row(2, prompt)))


def test_only_rows_that_draw_have_logits(make_bench: MakeBench) -> None:
    bench, alone = make_bench(), make_bench()
    first, second = prompts()[3:]
    got = bench.logits(bench.row(0, first, draws=False), bench.row(1, second))
    assert got.shape == (1, VOCAB)
    np.testing.assert_array_equal(got, alone.logits(alone.row(1, second)))


def test_a_batch_that_draws_nothing_still_stores_its_kv(make_bench: MakeBench) -> None:
    bench, whole = make_bench(), make_bench()
    prompt = prompts()[-1]
    assert bench.logits(bench.row(3, prompt[:59], draws=False)).shape == (0, VOCAB)
    np.testing.assert_array_equal(bench.logits(bench.row(3, prompt[59:], 59)), whole.logits(whole.row(3, prompt)))


def test_only_the_sequences_own_tokens_are_written(make_bench: MakeBench) -> None:
    bench = make_bench()
    first, second = bench.row(1, ()).extents[:2]
    bench.logits(bench.row(1, prompts()[3]))  # 17 tokens: the last block has one
    kv = bench.tokens()
    assert np.isfinite(kv[first.start]).all()
    assert np.isfinite(kv[second.start, ..., 0, :]).all()
    assert np.isnan(kv[second.start, ..., 1:, :]).all()
    assert np.isnan(np.delete(kv, [first.start, second.start], axis=0)).all()
