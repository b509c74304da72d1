"""Paged attention equals its definition, reads no poison around it, and computes one as it computes many."""

from dataclasses import dataclass

import numpy as np
import pytest

from kernels import cpu, reference

MODELS = {  # heads, kv_heads, head_dim
    "smollm2": (9, 3, 64),
    "llama-8b": (32, 8, 128),
    "qwen-0.5b": (14, 2, 64),
    "odd": (6, 1, 20),
    "no-groups": (2, 2, 16),
    "wide-group": (20, 1, 32),
}
LENGTHS = (1, 15, 16, 17, 300)


@dataclass
class Case:
    """A ragged batch with its blocks scattered through a pool of NaN."""

    qkv: np.ndarray
    kv: np.ndarray
    tables: tuple[np.ndarray, ...]  # block_tables, slots, query_start_loc, seq_lens
    heads: int

    def attend(self, module: object, layer: int = 1) -> np.ndarray:
        tokens, _, head_dim = self.qkv.shape
        out = np.full((tokens, self.heads, head_dim), np.nan, np.float32)
        module.paged_attention(self.qkv, self.kv, layer, *self.tables, head_dim**-0.5, out)
        return out


def build(model: str, rows: list[tuple[int, int]], seed: int = 0) -> Case:
    """Build a batch of rows, each (query tokens, length)."""
    heads, kv_heads, head_dim = MODELS[model]
    rng = np.random.default_rng(seed)
    needed = [-(-length // 16) for _, length in rows]
    kv = np.full((sum(needed) + 5, 2, 2, kv_heads, 16, head_dim), np.nan, np.float32)
    free = rng.permutation(len(kv))
    tables = np.full((len(rows) + 2, max(needed)), -1, np.int32)
    slots = rng.permutation(len(rows) + 2)[: len(rows)].astype(np.int32)
    for slot, (_, length), blocks in zip(slots, rows, needed, strict=True):
        tables[slot, :blocks], free = free[:blocks], free[blocks:]
        for token in range(length):
            kv[tables[slot, token // 16], 1, :, :, token % 16] = rng.standard_normal((2, kv_heads, head_dim))
    query_start_loc = np.cumsum([0] + [queries for queries, _ in rows]).astype(np.int32)
    qkv = rng.standard_normal((query_start_loc[-1], heads + 2 * kv_heads, head_dim), dtype=np.float32)
    seq_lens = np.array([length for _, length in rows], np.int32)
    return Case(qkv, kv, (tables, slots, query_start_loc, seq_lens), heads)


@pytest.mark.parametrize("model", MODELS)
def test_decodes_equal_the_reference(model: str) -> None:
    case = build(model, [(1, length) for length in LENGTHS])
    np.testing.assert_allclose(case.attend(cpu), case.attend(reference), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_whole_prompts_equal_the_reference(model: str) -> None:
    case = build(model, [(length, length) for length in LENGTHS])
    np.testing.assert_allclose(case.attend(cpu), case.attend(reference), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_chunks_beside_decodes_equal_the_reference(model: str) -> None:
    case = build(model, [(1, 40), (16, 48), (5, 21), (1, 1), (33, 200), (2, 17)])
    np.testing.assert_allclose(case.attend(cpu), case.attend(reference), rtol=1e-4, atol=2e-6)


def test_large_scores_do_not_overflow() -> None:
    case = build("smollm2", [(20, 70)])
    case.qkv *= 100
    np.testing.assert_allclose(case.attend(cpu), case.attend(reference), rtol=1e-3, atol=1e-4)


def test_a_query_alone_and_in_any_company_is_the_same_to_the_bit() -> None:
    case = build("smollm2", [(100, 230), (1, 17)])
    together = case.attend(cpu)
    tables, slots, _, seq_lens = case.tables
    for first, last in ((0, 1), (7, 23), (99, 100)):
        length = seq_lens[:1] - (100 - last)
        part = (tables, slots[:1], np.array([0, last - first], np.int32), length.astype(np.int32))
        alone = Case(case.qkv[first:last], case.kv, part, case.heads).attend(cpu)
        np.testing.assert_array_equal(alone, together[first:last])


def test_later_tokens_of_the_sequence_are_not_seen() -> None:
    case = build("smollm2", [(4, 30)])
    before = case.attend(cpu)
    table = case.tables[0][case.tables[1][0]]
    case.kv[table[29 // 16], 1, :, :, 29 % 16] = 1000
    after = case.attend(cpu)
    np.testing.assert_array_equal(after[:3], before[:3])
    assert (after[3] != before[3]).any()


def test_the_pool_is_only_read() -> None:
    case = build("smollm2", [(10, 30), (1, 50)])
    before = case.kv.copy()
    case.attend(cpu)
    np.testing.assert_array_equal(case.kv, before)


def test_one_sequences_nan_stays_its_own() -> None:
    case = build("smollm2", [(1, 40), (1, 40)])
    case.kv[case.tables[0][case.tables[1][0], 1], 1] = np.nan
    out = case.attend(cpu)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()
