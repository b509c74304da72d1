"""The compiled forward pass: every family and type of weights, long contexts, any team, and NaN where it belongs."""

from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np
import pytest

from service.execution.models.loading import load_model, open_model
from service.execution.models.packed_weights import PackedWeights
from tests.execution.dense_transformer import dense_logits
from tests.execution.model_bench import Bench, compiled_bench, prompts
from tests.execution.random_models import RandomModel, make_model
from tests.gguf_models import write_model

WIDE = {"hidden": 256, "intermediate": 512, "heads": 4, "head_dim": 64}  # for blocks of 256 weights
FAMILIES = {
    "llama": ("Q8_0", {}),
    "tied": ("Q4_0", {"tied": True}),
    "qwen2": ("Q4_1", {"qkv_bias": True}),
    "qwen2, parts that end inside a group": ("Q8_0", {"qkv_bias": True, "heads": 4, "kv_heads": 1, "head_dim": 24}),
    "qwen3": ("bfloat16", {"qk_norm": True, "head_dim": 24}),
    "columns that make no block": ("float16", {"hidden": 50, "intermediate": 83, "heads": 3, "kv_heads": 1}),
    "12 query heads to a KV head": ("Q8_0", {"heads": 12, "kv_heads": 1}),
    "20 query heads to a KV head": ("bfloat16", {"heads": 20, "kv_heads": 1, "head_dim": 16}),
    "heads of 128": ("Q4_0", {"heads": 2, "kv_heads": 2, "head_dim": 128}),
    "Q4_K": ("Q4_K", WIDE),
    "Q6_K": ("Q6_K", WIDE),
}
LONG = 530  # tokens: more than two splits


def ragged(bench: Bench) -> np.ndarray:
    return bench.logits(*(bench.row(slot, prompt) for slot, prompt in enumerate(prompts())))


def assert_close(got: np.ndarray, expected: Sequence[np.ndarray], most: float) -> None:
    """Compare logits by the size of their difference, row by row."""
    assert np.isfinite(got).all()
    distance = np.linalg.norm(got - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert distance.max() < most, distance


def tolerance(kind: str, kv_dtype: str) -> float:
    if kind not in ("bfloat16", "float16"):
        return 0.05  # activations have 8 bits
    return 0.01 if kv_dtype == "bfloat16" else 1e-5


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_is_close_to_a_dense_transformer(family: str, kv_dtype: str) -> None:
    kind, sizes = FAMILIES[family]
    model = make_model(kind, **sizes)
    got = ragged(compiled_bench(model.config, model.packed, kv_dtype))
    expected = [dense_logits(model.config, model.dense, prompt)[-1] for prompt in prompts()]
    assert_close(got, expected, tolerance(kind, kv_dtype))


def test_a_mixture_of_types_is_close_to_a_dense_transformer(tmp_path: Path) -> None:
    types = {"attn_v": "Q6_K", "ffn_up": "Q5_0", "ffn_down": "float16", "output": "Q8_0"}
    path = write_model(tmp_path / "model.gguf", "Q4_K", types)
    packed, dense = open_model(path).load(PackedWeights("auto")), load_model(path)
    got = ragged(compiled_bench(packed.config, packed.weights))
    assert_close(got, [dense_logits(dense.config, dense.weights, prompt)[-1] for prompt in prompts()], 0.05)


@pytest.fixture(params=["Q8_0", "bfloat16"])
def model(request: pytest.FixtureRequest) -> RandomModel:
    return make_model(request.param)


def long_bench(model: RandomModel, kv_dtype: str = "bfloat16") -> Bench:
    return compiled_bench(model.config, model.packed, kv_dtype, max_positions=LONG)


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float32"])
def test_a_long_context_is_close_to_a_dense_transformer(kv_dtype: str) -> None:
    model = make_model("bfloat16")
    (prompt,) = prompts(lengths=[LONG])
    bench = long_bench(model, kv_dtype)
    expected = dense_logits(model.config, model.dense, prompt)
    for start, end in ((0, 250), (250, 257), (257, LONG - 1), (LONG - 1, LONG)):
        assert_close(bench.logits(bench.row(1, prompt[start:end], start)), expected[end - 1 : end], 0.01)


@pytest.mark.parametrize("chunk", [250, 256, 529])
def test_chunks_of_a_long_context_equal_it_as_a_whole_to_the_bit(model: RandomModel, chunk: int) -> None:
    """The last chunk is a single token too, whose splits are units of their own."""
    (prompt,) = prompts(lengths=[LONG])
    bench, whole = long_bench(model), long_bench(model)
    for start in range(0, LONG, chunk):
        got = bench.logits(bench.row(2, prompt[start : start + chunk], start))
    np.testing.assert_array_equal(got, whole.logits(whole.row(2, prompt)))


def test_decodes_of_long_contexts_alone_equal_those_in_a_batch_to_the_bit(
    model: RandomModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)  # so that eight rows are enough not to split
    some = prompts(lengths=[LONG, 257, 256, 100, 513, 1, 16, 300])
    bench = long_bench(model)
    for slot, prompt in enumerate(some):
        if len(prompt) > 1:
            bench.logits(bench.row(slot, prompt[:-1], draws=False))
    rows = [bench.row(slot, prompt[-1:], len(prompt) - 1) for slot, prompt in enumerate(some)]
    together = bench.logits(*rows)
    for slot, row in enumerate(rows):
        np.testing.assert_array_equal(bench.logits(row)[0], together[slot])


@pytest.mark.parametrize("members", [2, 3, 5])
def test_any_team_computes_the_same_bits(model: RandomModel, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (prompt,) = prompts(lengths=[LONG])
    results = []
    for count in (1, members):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=count: count)
        bench = long_bench(model)
        together = ragged(bench)
        bench.logits(bench.row(6, prompt[:-1], draws=False))
        decoded = bench.logits(bench.row(6, prompt[-1:], LONG - 1))
        results.append((np.concatenate([together, decoded]), bench.kv.view(np.uint8).copy()))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_after_larger_ones_equals_it_as_the_first(model: RandomModel) -> None:
    used, fresh = long_bench(model), long_bench(model)
    (prompt,) = prompts(lengths=[LONG])
    used.logits(used.row(7, prompt))
    ragged(used)
    np.testing.assert_array_equal(used.logits(used.row(0, prompt[:3])), fresh.logits(fresh.row(0, prompt[:3])))


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("length", [1, 17, 270])
def test_what_other_sequences_left_in_the_pool_changes_nothing(model: RandomModel, kv_dtype: str, length: int) -> None:
    """The pool is NaN but for the sequence's own tokens, also in the rest of its last block; or it is zeros."""
    poisoned, empty = long_bench(model, kv_dtype), long_bench(model, kv_dtype)
    empty.kv.fill(0)
    (prompt,) = prompts(lengths=[length])
    results = [each.logits(each.row(4, prompt)) for each in (poisoned, empty)]
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("side", [0, 1], ids=["key", "value"])
def test_a_nan_in_its_own_kv_is_seen_by_a_row_and_by_no_other(
    model: RandomModel, side: int, layer: int, kv_dtype: str
) -> None:
    bench, clean = long_bench(model, kv_dtype), long_bench(model, kv_dtype)
    mine, others = prompts(lengths=[300, 40])
    for each in (bench, clean):
        each.logits(each.row(0, mine[:-1]), each.row(1, others[:-1]))
    block = bench.row(0, ()).extents[0].start  # its first
    bench.kv[block, layer, side, 1].reshape(-1)[5] = bench.kv_format.nan
    rows = [bench.row(0, mine[-1:], 299), bench.row(1, others[-1:], 39)]
    got, expected = bench.logits(*rows), clean.logits(*rows)
    assert not np.isfinite(got[0]).any()
    np.testing.assert_array_equal(got[1], expected[1])
