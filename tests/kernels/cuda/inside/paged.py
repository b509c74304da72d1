"""Ragged batches for paged attention: blocks scattered through a pool of NaN, and what the reference makes of them."""

from dataclasses import dataclass

import numpy as np
from arrays import close, fill, ops, random, wide

from kernels import reference

MODELS = {  # heads, kv_heads, head_dim
    "llama-8b": (32, 8, 128),
    "qwen-32b": (40, 8, 128),
    "smollm2": (9, 3, 64),
    "80": (2, 2, 80),
    "96": (8, 1, 96),
}


@dataclass
class Case:
    """A ragged batch with its blocks scattered through a pool of NaN."""

    qkv: np.ndarray
    kv: np.ndarray
    tables: tuple[np.ndarray, ...]  # block_tables, slots, query_start_loc, seq_lens
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

    def check(self, spread: float = 1, **how: int) -> None:
        before = self.kv.tobytes(), self.qkv.tobytes()
        close(self.attend(**how), self.expected(), self.dtype, spread=spread)
        assert (self.kv.tobytes(), self.qkv.tobytes()) == before


def build(dtype: str, sizes: tuple[int, int, int], rows: list[tuple[int, int]]) -> Case:
    """Build a batch of rows, each (query tokens, length); sizes are those of MODELS."""
    heads, kv_heads, head_dim = sizes
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
    query_start_loc = np.cumsum([0] + [queries for queries, _ in rows]).astype(np.int32)
    qkv = random(dtype, int(query_start_loc[-1]), heads + 2 * kv_heads, head_dim)
    seq_lens = np.array([length for _, length in rows], np.int32)
    return Case(qkv, kv, (tables, slots, query_start_loc, seq_lens), heads, dtype)
