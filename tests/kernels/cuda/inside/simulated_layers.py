"""Norms, rotary embedding, storing, activation and rows against their definitions."""

import numpy as np
import pytest
from arrays import DTYPES, close, fill, ops, random, wide

from kernels import reference

HEADS = {  # heads, kv_heads, head_dim
    "llama-8b": (32, 8, 128),
    "qwen-32b": (40, 8, 128),
    "smollm2": (9, 3, 64),
    "80": (3, 1, 80),
    "96": (3, 1, 96),
}
every_type = pytest.mark.parametrize("dtype", DTYPES)
every_model = pytest.mark.parametrize("model", HEADS)


@every_type
@pytest.mark.parametrize("hidden", [64, 576, 4096, 5120])
def test_rms_norm(dtype: str, hidden: int) -> None:
    x, weight, out, expected = random(dtype, 2, hidden), random(dtype, hidden), fill(dtype, 2, hidden), None
    expected = np.empty((2, hidden), np.float32)
    reference.rms_norm(wide(x), wide(weight), 1e-5, expected)
    ops().rms_norm(x, weight, 1e-5, out)
    close(out, expected, dtype)


@every_type
@pytest.mark.parametrize("hidden", [576, 4096, 5120])
def test_add_rms_norm_updates_the_residual(dtype: str, hidden: int) -> None:
    residual, x, weight = random(dtype, 2, hidden), random(dtype, 2, hidden, seed=1), random(dtype, hidden)
    out, expected, theirs = fill(dtype, 2, hidden), np.empty((2, hidden), np.float32), wide(residual)
    reference.add_rms_norm(theirs, wide(x), wide(weight), 1e-5, expected)
    ops().add_rms_norm(residual, x, weight, 1e-5, out)
    close(residual, theirs, dtype)
    close(out, expected, dtype, factor=2)  # ours is the norm of the rounded residual


@every_type
@every_model
def test_head_rms_norm_leaves_the_other_heads(dtype: str, model: str) -> None:
    heads, kv_heads, head_dim = HEADS[model]
    qkv, weight = random(dtype, 2, heads + 2 * kv_heads, head_dim), random(dtype, head_dim)
    before, expected = qkv.copy(), wide(qkv)
    reference.head_rms_norm(expected, heads, heads + kv_heads, wide(weight), 1e-6)
    ops().head_rms_norm(qkv, heads, heads + kv_heads, weight, 1e-6)
    close(qkv[:, heads : heads + kv_heads], expected[:, heads : heads + kv_heads], dtype)
    assert qkv[:, :heads].tobytes() == before[:, :heads].tobytes()
    assert qkv[:, heads + kv_heads :].tobytes() == before[:, heads + kv_heads :].tobytes()


def angles(head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    table = random("float32", 40, head_dim // 2)
    return np.cos(table), np.sin(table)


@every_type
@every_model
def test_rope_leaves_the_other_heads(dtype: str, model: str) -> None:
    heads, kv_heads, head_dim = HEADS[model]
    qkv, positions = random(dtype, 3, heads + 2 * kv_heads, head_dim), np.array([39, 0, 17], np.int32)
    before, expected = qkv.copy(), wide(qkv)
    reference.rope(expected, heads + kv_heads, positions, *angles(head_dim))
    ops().rope(qkv, heads + kv_heads, positions, *angles(head_dim))
    close(qkv, expected, dtype)
    assert qkv[:, heads + kv_heads :].tobytes() == before[:, heads + kv_heads :].tobytes()


def stored(dtype: str, model: str, call: object) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pool after and before ``call(kv, qkv, slot_mapping)``, qkv before it, and a scattered slot_mapping."""
    heads, kv_heads, head_dim = HEADS[model]
    kv = fill(dtype, 4, 2, 2, kv_heads, 16, head_dim)
    before, qkv = kv.copy(), random(dtype, 3, heads + 2 * kv_heads, head_dim)
    slot_mapping = np.array([3 * 16 + 15, 0, 16 + 7], np.int64)
    original = qkv.copy()
    call(kv, qkv, slot_mapping)
    return kv, before, original, slot_mapping


def expect_stored(kv: np.ndarray, before: np.ndarray, qkv: np.ndarray, slot_mapping: np.ndarray) -> None:
    """Assert that K and V of qkv are in layer 1 and nothing else has changed, to the byte."""
    reference.store_kv(before, 1, qkv, slot_mapping)
    assert kv.tobytes() == before.tobytes()


@every_type
@every_model
def test_store_kv_writes_only_where_slot_mapping_says(dtype: str, model: str) -> None:
    expect_stored(*stored(dtype, model, lambda kv, qkv, slot_mapping: ops().store_kv(kv, 1, qkv, slot_mapping)))


@every_type
@every_model
def test_rope_and_store_in_one_are_the_two(dtype: str, model: str) -> None:
    heads, kv_heads, head_dim = HEADS[model]
    positions, tables, queries = np.array([39, 0, 17], np.int32), angles(head_dim), []

    def call(kv: np.ndarray, qkv: np.ndarray, slot_mapping: np.ndarray) -> None:
        ops().rope_store_kv(kv, 1, qkv, positions, *tables, slot_mapping)
        queries.append(qkv[:, :heads].copy())

    kv, before, qkv, slot_mapping = stored(dtype, model, call)
    ops().rope(qkv, heads + kv_heads, positions, *tables)
    assert queries[0].tobytes() == qkv[:, :heads].tobytes()
    expect_stored(kv, before, qkv, slot_mapping)


@every_type
@pytest.mark.parametrize(("rows", "width"), [(2, 64), (2, 1536), (1, 14336), (1, 27648)])
def test_silu_mul(dtype: str, rows: int, width: int) -> None:
    gate_up, out = random(dtype, rows, 2 * width) * DTYPES[dtype](4), fill(dtype, rows, width)
    expected = np.empty((rows, width), np.float32)
    reference.silu_mul(wide(gate_up), expected)
    ops().silu_mul(gate_up, out)
    close(out, expected, dtype)


def test_silu_survives_extreme_gates() -> None:
    gate_up = np.array([[-1e30, -200.0, 0.0, 200.0, 1.0, 1.0, 1.0, 1.0]], np.float32)
    out = fill("float32", 1, 4)
    ops().silu_mul(gate_up, out)
    np.testing.assert_allclose(out, [[0, 0, 0, 200]], atol=1e-6)


@every_type
@pytest.mark.parametrize("hidden", [576, 4096, 5120])
def test_take_rows(dtype: str, hidden: int) -> None:
    table, rows, out = random(dtype, 20, hidden), np.array([19, 0, 7, 7], np.int32), fill(dtype, 4, hidden)
    ops().take_rows(table, rows, out)
    assert out.tobytes() == table[rows].tobytes()


def test_an_empty_batch_launches_nothing() -> None:
    ops().rms_norm(fill("float32", 0, 64), fill("float32", 64), 1e-5, fill("float32", 0, 64))


def test_types_do_not_mix() -> None:
    with pytest.raises(ValueError, match="float32"):
        ops().rms_norm(fill("float32", 1, 64), fill("float16", 64), 1e-5, fill("float32", 1, 64))


def test_rows_are_whole_vectors() -> None:
    with pytest.raises(ValueError, match="148 bytes"):
        ops().rms_norm(fill("float32", 1, 37), fill("float32", 37), 1e-5, fill("float32", 1, 37))
