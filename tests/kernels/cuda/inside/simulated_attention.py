"""Paged attention against its definition: scattered blocks, poison around them, splits, and prompts."""

from dataclasses import dataclass

import numpy as np
import pytest
from arrays import DTYPES, close, fill, ops, random, wide

from kernels import reference

MODELS = {  # heads, kv_heads, head_dim
    "llama-8b": (32, 8, 128),
    "qwen-32b": (40, 8, 128),
    "smollm2": (9, 3, 64),
    "80": (2, 2, 80),
    "96": (8, 1, 96),
}
LENGTHS = (1, 15, 16, 17)
every_type = pytest.mark.parametrize("dtype", DTYPES)
every_model = pytest.mark.parametrize("model", MODELS)


@dataclass
class Case:
    """A ragged batch with its blocks scattered through a pool of NaN."""

    qkv: np.ndarray
    kv: np.ndarray
    tables: tuple[np.ndarray, ...]  # block_tables, slots, query_starts, lengths
    heads: int
    dtype: str

    def attend(self, **how: int) -> np.ndarray:
        tokens, _, head_dim = self.qkv.shape
        out = fill(self.dtype, tokens, self.heads, head_dim)
        ops(**how).paged_attention(self.qkv, self.kv, 1, *self.tables, head_dim**-0.5, out)
        return out

    def expected(self) -> np.ndarray:
        tokens, _, head_dim = self.qkv.shape
        out = np.empty((tokens, self.heads, head_dim), np.float32)
        reference.paged_attention(wide(self.qkv), wide(self.kv), 1, *self.tables, head_dim**-0.5, out)
        return out

    def check(self, **how: int) -> None:
        before = self.kv.tobytes()
        close(self.attend(**how), self.expected(), self.dtype)
        assert self.kv.tobytes() == before


def build(dtype: str, model: str, rows: list[tuple[int, int]]) -> Case:
    """Rows as (query tokens, length)."""
    heads, kv_heads, head_dim = MODELS[model]
    rng = np.random.default_rng(0)
    needed = [-(-length // 16) for _, length in rows]
    kv = fill(dtype, sum(needed) + 3, 2, 2, kv_heads, 16, head_dim)
    free = rng.permutation(len(kv))
    tables = np.full((len(rows) + 2, max(needed) + 1), -1, np.int32)
    slots = rng.permutation(len(rows) + 2)[: len(rows)].astype(np.int32)
    for slot, (_, length), blocks in zip(slots, rows, needed, strict=True):
        tables[slot, :blocks], free = free[:blocks], free[blocks:]
        for token in range(length):
            kv[tables[slot, token // 16], 1, :, :, token % 16] = rng.standard_normal((2, kv_heads, head_dim))
    starts = np.cumsum([0] + [queries for queries, _ in rows]).astype(np.int32)
    qkv = random(dtype, int(starts[-1]), heads + 2 * kv_heads, head_dim)
    lengths = np.array([length for _, length in rows], np.int32)
    return Case(qkv, kv, (tables, slots, starts, lengths), heads, dtype)


@every_model
def test_decodes_equal_the_reference(model: str) -> None:
    build("bfloat16", model, [(1, length) for length in LENGTHS]).check()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("model", ["smollm2", "80", "96"])
def test_decodes_in_other_types_equal_the_reference(dtype: str, model: str) -> None:
    build(dtype, model, [(1, length) for length in LENGTHS]).check()


@pytest.mark.parametrize("processors", [1, 4, 1000])
def test_splits_change_nothing(processors: int) -> None:
    build("bfloat16", "smollm2", [(1, 205), (1, 17)]).check(processors=processors)


@pytest.mark.parametrize("model", ["llama-8b", "qwen-32b"])
def test_long_decodes_equal_the_reference(model: str) -> None:
    build("bfloat16", model, [(1, 201)]).check(processors=16)


@pytest.mark.full
@every_model
def test_lengths_in_thousands(model: str) -> None:
    build("bfloat16", model, [(1, 2049), *((1, length) for length in LENGTHS)]).check(processors=16)


@every_type
def test_chunks_beside_decodes_equal_the_reference(dtype: str) -> None:
    build(dtype, "smollm2", [(1, 40), (5, 21), (1, 1), (3, 3)]).check()


def test_tokens_go_in_turns_when_the_scratch_is_small() -> None:
    case = build("float32", "smollm2", [(3, 20), (1, 17)])
    case.check(scratch=2 * 9 * 66 + 5)


def test_scratch_for_less_than_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="one token of 9 heads needs 594"):
        build("float32", "smollm2", [(1, 1)]).attend(scratch=593)


def test_large_scores_do_not_overflow() -> None:
    case = build("float32", "smollm2", [(1, 70)])
    case.qkv *= 100
    close(case.attend(), case.expected(), "float32", factor=100)


def test_one_sequences_nan_stays_its_own() -> None:
    case = build("float32", "smollm2", [(1, 20), (1, 20)])
    case.kv[case.tables[0][case.tables[1][0], 1], 1] = np.nan
    out = case.attend()
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()
