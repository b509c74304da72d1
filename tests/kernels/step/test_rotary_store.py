"""Queries, keys and values after the rotary embedding, and where they lie."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from kernels import reference
from kernels.cpu.step import rotary, step_input
from tests.kernels.step.calls import assert_same_bits, call, float_bits

BLOCKS, TOKENS, HEADS, KV_HEADS, LAYERS = 4, 7, 4, 2, 2
POSITIONS = np.array([0, 1, 5, 31, 2, 9, 30], np.int32)
SLOTS = np.array([17, 0, 63, 15, 16, 33, 40], np.int64)
EPS = 1e-6
SCALE = 0.3
TYPES = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


@dataclass
class Stored:
    """What the kernel left, as float32: queries [tokens, heads, padded], keys and values [slots, kv_heads, padded]."""

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray


def qkv_of(dim: int) -> np.ndarray:
    return np.random.default_rng(dim).standard_normal((TOKENS, HEADS + 2 * KV_HEADS, dim), np.float32)


def angles(dim: int) -> tuple[np.ndarray, np.ndarray]:
    frequencies = 10000.0 ** (-np.arange(dim // 2) * 2 / dim)
    each = np.arange(32)[:, None] * frequencies
    return np.cos(each).astype(np.float32), np.sin(each).astype(np.float32)


def stored(
    qkv: np.ndarray,
    kind: str,
    *,
    tokens: slice = slice(None),
    rows_per_unit: int = 100,
    norms: tuple[np.ndarray, np.ndarray] | None = None,
) -> Stored:
    """Run the kernel on some tokens, in the second of two layers whose other bytes it must leave as they are."""
    dim, (cos, sin) = qkv.shape[2], angles(qkv.shape[2])
    padded, item = -(-dim // 16) * 16, np.dtype(TYPES[kind]).itemsize
    qkv, positions, slots = (each[tokens].copy() for each in (qkv, POSITIONS, SLOTS))
    untouched = np.full((), np.nan, TYPES[kind])
    queries = np.full((len(qkv), HEADS, padded), untouched)
    pool = np.full((BLOCKS, LAYERS, 2, KV_HEADS, padded * 16), untouched)
    op = {
        rotary.QKV: qkv,
        rotary.STRIDE: qkv.strides[0],
        rotary.HEADS: HEADS,
        rotary.KV_HEADS: KV_HEADS,
        rotary.HEAD_DIM: dim,
        rotary.PADDED_DIM: padded,
        rotary.COS: cos,
        rotary.SIN: sin,
        rotary.QUERIES: queries,
        rotary.ITEM: item,
        rotary.BLOCK_BYTES: pool.strides[0],
        rotary.KEYS: pool.strides[1],
        rotary.VALUES: pool.strides[1] + pool.strides[2],
        rotary.Q_NORM: 0 if norms is None else norms[0],
        rotary.K_NORM: 0 if norms is None else norms[1],
        rotary.EPS: float_bits(EPS),
        rotary.SCALE: float_bits(SCALE),
    }
    step = {
        step_input.TOKENS: len(qkv),
        step_input.ROWS_PER_UNIT: rows_per_unit,
        step_input.POSITIONS: positions,
        step_input.SLOT_MAPPING: slots,
        step_input.POOL: pool,
    }
    call(rotary.rotate_and_store, op, step, -(-len(qkv) // rows_per_unit))
    others = np.setdiff1d(np.arange(16 * BLOCKS), slots)
    keys, values = unpacked(pool[:, 1, 0], padded, item), unpacked_values(pool[:, 1, 1], padded, item)
    assert np.isnan(pool[:, 0].astype(np.float32)).all()
    assert np.isnan(keys[others]).all()
    assert np.isnan(values[others]).all()
    return Stored(queries.astype(np.float32), keys[slots], values[slots])


def unpacked(keys: np.ndarray, padded: int, item: int) -> np.ndarray:
    """Return keys [slots, kv_heads, padded] of blocks [blocks, kv_heads, head_dim / n][token][n]."""
    n = 4 // item
    shaped = keys.reshape(BLOCKS, KV_HEADS, padded // n, 16, n).transpose(0, 3, 1, 2, 4)
    return shaped.reshape(BLOCKS * 16, KV_HEADS, padded).astype(np.float32)


def unpacked_values(values: np.ndarray, padded: int, item: int) -> np.ndarray:
    """Return values [slots, kv_heads, padded] of blocks [blocks, kv_heads, 16 / n][head_dim][n]."""
    n = 4 // item
    shaped = values.reshape(BLOCKS, KV_HEADS, 16 // n, padded, n).transpose(0, 2, 4, 1, 3)
    return shaped.reshape(BLOCKS * 16, KV_HEADS, padded).astype(np.float32)


def expected(qkv: np.ndarray, norms: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Return qkv as the reference leaves it, with scaled queries."""
    qkv, (cos, sin) = qkv.copy(), angles(qkv.shape[2])
    if norms is not None:
        reference.head_rms_norm(qkv, 0, HEADS, norms[0], EPS)
        reference.head_rms_norm(qkv, HEADS, HEADS + KV_HEADS, norms[1], EPS)
    reference.rope(qkv, HEADS + KV_HEADS, POSITIONS, cos, sin)
    qkv[:, :HEADS] *= np.float32(SCALE)
    return qkv


def assert_close(out: Stored, qkv: np.ndarray, kind: str) -> None:
    dim = qkv.shape[2]
    tolerance = {"rtol": 2**-8, "atol": 1e-6} if kind == "bfloat16" else {"rtol": 1e-5, "atol": 1e-6}
    keys = qkv[:, HEADS : HEADS + KV_HEADS]
    np.testing.assert_allclose(out.queries[..., :dim], qkv[:, :HEADS], **tolerance)
    np.testing.assert_allclose(out.keys[..., :dim], keys, **tolerance)
    assert not out.queries[..., dim:].any()
    assert not out.keys[..., dim:].any()
    assert_same_bits(out.values[..., :dim], qkv[:, HEADS + KV_HEADS :].astype(TYPES[kind]).astype(np.float32))


@pytest.mark.parametrize("dim", [24, 64, 128])
@pytest.mark.parametrize("kind", TYPES)
def test_heads_are_rotated_and_lie_where_attention_reads_them(kind: str, dim: int) -> None:
    qkv = qkv_of(dim)
    assert_close(stored(qkv, kind), expected(qkv), kind)


@pytest.mark.parametrize("dim", [24, 128])
@pytest.mark.parametrize("kind", TYPES)
def test_queries_and_keys_get_norms_of_their_own_where_the_model_has_them(kind: str, dim: int) -> None:
    qkv = qkv_of(dim)
    norms = (qkv[0, 0].copy(), qkv[1, 1].copy())
    assert_close(stored(qkv, kind, norms=norms), expected(qkv, norms), kind)


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_stored_is_rounded_once(kind: str) -> None:
    qkv = qkv_of(64)
    exact, rounded = stored(qkv, "float32"), stored(qkv, kind)
    for name in ("queries", "keys", "values"):
        assert_same_bits(getattr(rounded, name), getattr(exact, name).astype(TYPES[kind]).astype(np.float32))


@pytest.mark.parametrize("kind", TYPES)
def test_a_row_does_not_depend_on_those_beside_it(kind: str) -> None:
    qkv = qkv_of(24)
    together = stored(qkv, kind)
    others = [stored(qkv, kind, tokens=slice(row, row + 1)) for row in range(TOKENS)]
    for name in ("queries", "keys", "values"):
        alone = np.concatenate([getattr(each, name) for each in others])
        assert_same_bits(alone[..., :24], getattr(together, name)[..., :24])


@pytest.mark.parametrize("rows_per_unit", [1, 2, 5])
def test_units_divide_the_rows(rows_per_unit: int) -> None:
    qkv = qkv_of(64)
    together, divided = stored(qkv, "bfloat16"), stored(qkv, "bfloat16", rows_per_unit=rows_per_unit)
    for name in ("queries", "keys", "values"):
        assert_same_bits(getattr(divided, name), getattr(together, name))
