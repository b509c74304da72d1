"""Norms, rotary embedding, activation and storing: the fast kernels equal their definitions."""

import numpy as np
import pytest

from kernels import cpu, reference

BATCHES = [1, 8, 9, 40]  # around the size from which threads share


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("hidden", [576, 4096, 37])
@pytest.mark.parametrize("tokens", BATCHES)
def test_rms_norm(tokens: int, hidden: int) -> None:
    x, weight = random(tokens, hidden), random(hidden)
    expected, got = np.empty_like(x), np.empty_like(x)
    reference.rms_norm(x, weight, 1e-5, expected)
    cpu.rms_norm(x, weight, 1e-5, got)
    close(got, expected)


@pytest.mark.parametrize("tokens", BATCHES)
def test_add_rms_norm_updates_the_residual(tokens: int) -> None:
    residual, x, weight = random(tokens, 576), random(tokens, 576) * 2, random(576)
    ours, theirs = residual.copy(), residual.copy()
    expected, got = np.empty_like(x), np.empty_like(x)
    reference.add_rms_norm(theirs, x, weight, 1e-5, expected)
    cpu.add_rms_norm(ours, x, weight, 1e-5, got)
    close(ours, residual + x)
    close(ours, theirs)
    close(got, expected)


@pytest.mark.parametrize("tokens", BATCHES)
def test_head_rms_norm_leaves_the_other_heads(tokens: int) -> None:
    qkv, weight = random(tokens, 12, 128), random(128)
    expected, got = qkv.copy(), qkv.copy()
    reference.head_rms_norm(expected, 4, 8, weight, 1e-6)
    cpu.head_rms_norm(got, 4, 8, weight, 1e-6)
    close(got, expected)
    np.testing.assert_array_equal(got[:, :4], qkv[:, :4])
    np.testing.assert_array_equal(got[:, 8:], qkv[:, 8:])


@pytest.mark.parametrize("head_dim", [64, 128, 10])
@pytest.mark.parametrize("tokens", BATCHES)
def test_rope(tokens: int, head_dim: int) -> None:
    qkv = random(tokens, 6, head_dim)
    angles = random(100, head_dim // 2)
    cos, sin = np.cos(angles), np.sin(angles)
    positions = np.random.default_rng(0).integers(0, 100, tokens).astype(np.int32)
    expected, got = qkv.copy(), qkv.copy()
    reference.rope(expected, 4, positions, cos, sin)
    cpu.rope(got, 4, positions, cos, sin)
    close(got, expected)
    np.testing.assert_array_equal(got[:, 4:], qkv[:, 4:])


def test_rope_turns_each_pair_by_its_angle() -> None:
    qkv = np.array([[[1.0, 0.0, 0.0, 1.0]]], np.float32)  # pairs (1, 0) and (0, 1)
    angles = np.array([[0.3, 0.5]], np.float32)
    cpu.rope(qkv, 1, np.zeros(1, np.int32), np.cos(angles), np.sin(angles))
    close(qkv[0, 0], np.array([np.cos(0.3), -np.sin(0.5), np.sin(0.3), np.cos(0.5)], np.float32))


@pytest.mark.parametrize("tokens", BATCHES)
def test_silu_mul(tokens: int) -> None:
    gate_up = random(tokens, 2 * 1536) * 10
    expected, got = np.empty((tokens, 1536), np.float32), np.empty((tokens, 1536), np.float32)
    reference.silu_mul(gate_up, expected)
    cpu.silu_mul(gate_up, got)
    close(got, expected)


def test_silu_survives_extreme_gates() -> None:
    gate_up = np.array([[-1e30, -200.0, 0.0, 200.0, 1.0, 1.0, 1.0, 1.0]], np.float32)
    got = np.empty((1, 4), np.float32)
    cpu.silu_mul(gate_up, got)
    np.testing.assert_allclose(got[0], [0.0, 0.0, 0.0, 200.0], atol=1e-7)


@pytest.mark.parametrize("module", [reference, cpu], ids=["reference", "cpu"])
def test_store_kv_writes_only_where_slot_mapping_says(module: object) -> None:
    kv = np.full((5, 2, 2, 3, 16, 8), np.nan, np.float32)
    qkv = random(3, 4 + 6, 8)
    slot_mapping = np.array([4 * 16 + 15, 0, 2 * 16 + 7], np.int64)
    module.store_kv(kv, 1, qkv, slot_mapping)
    for token, (block, offset) in enumerate([(4, 15), (0, 0), (2, 7)]):
        np.testing.assert_array_equal(kv[block, 1, 0, :, offset], qkv[token, 4:7])
        np.testing.assert_array_equal(kv[block, 1, 1, :, offset], qkv[token, 7:])
    assert np.isfinite(kv).sum() == 3 * 2 * 3 * 8


@pytest.mark.parametrize("module", [reference, cpu], ids=["reference", "cpu"])
def test_rope_and_store_in_one_are_the_two(module: object) -> None:
    kv, qkv, angles = np.full((5, 2, 2, 3, 16, 8), np.nan, np.float32), random(3, 4 + 6, 8), random(40, 4)
    positions, slot_mapping = np.array([39, 0, 17], np.int32), np.array([4 * 16 + 15, 0, 2 * 16 + 7], np.int64)
    pool, both = kv.copy(), qkv.copy()
    module.rope_store_kv(kv, 1, qkv, positions, np.cos(angles), np.sin(angles), slot_mapping)
    module.rope(both, 7, positions, np.cos(angles), np.sin(angles))
    module.store_kv(pool, 1, both, slot_mapping)
    np.testing.assert_array_equal(kv, pool)
    np.testing.assert_array_equal(qkv[:, :4], both[:, :4])


def test_take_rows() -> None:
    table, out = random(10, 4), np.empty((3, 4), np.float32)
    cpu.take_rows(table, np.array([9, 0, 9], np.int32), out)
    np.testing.assert_array_equal(out, table[[9, 0, 9]])


def test_every_op_of_the_reference_is_there_under_the_same_name() -> None:
    ops = {
        name for name, value in vars(reference).items() if callable(value) and value.__module__ == "kernels.reference"
    }
    definitions = {"uniform", "quantise", "QuantisedMatrix", "quantised_product", "quantised_linear"}
    assert set(cpu.__all__) == {name for name in ops if not name.startswith("_")} - definitions
