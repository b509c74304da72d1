"""Bias, penalties and the check for NaN against their definitions."""

import numpy as np
import pytest
from arrays import close, ops, random

from kernels import reference


def test_add_bias_changes_its_tokens_alone() -> None:
    logits, tokens = random("float32", 500), np.random.default_rng(0).permutation(500)[:140].astype(np.int32)
    bias, expected = random("float32", 140), logits.copy()
    reference.add_bias(expected, tokens, bias)
    ops().add_bias(logits, tokens, bias)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("penalties", [(0.5, 0.25, 1.3), (-0.5, 1.0, 0.7), (0.0, 0.0, 1.0)])
def test_penalize(penalties: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    logits, in_prompt = random("float32", 301), rng.random(301) < 0.3
    counts = (rng.integers(0, 5, 301) * (rng.random(301) < 0.3)).astype(np.int32)
    before, expected = logits.copy(), logits.copy()
    reference.penalize(expected, in_prompt, counts, *penalties)
    ops().penalize(logits, in_prompt, counts, *penalties)
    close(logits, expected, "float32")
    unseen = ~in_prompt & (counts == 0)
    np.testing.assert_array_equal(logits[unseen], before[unseen])


def test_finite_rows() -> None:
    logits, out = random("float32", 5, 301), np.zeros(5, np.bool_)
    logits[1, 300], logits[2, 0], logits[4, 129] = np.nan, np.inf, -np.inf
    ops().finite_rows(logits, out)
    assert out.tolist() == [True, False, False, True, False]


def test_rows_that_are_not_ok_are_cleared() -> None:
    logits, ok = random("float32", 4, 301), np.array([True, False, True, False])
    logits[1, 300] = np.nan
    expected = logits.copy()
    reference.clear_rows(expected, ok)
    ops().clear_rows(logits, ok)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.full
@pytest.mark.parametrize("vocab_size", [49_152, 128_256, 152_064])
def test_whole_vocabularies(vocab_size: int) -> None:
    rng = np.random.default_rng(0)
    logits, in_prompt = random("float32", 1, vocab_size), rng.random(vocab_size) < 0.1
    counts = (rng.integers(0, 5, vocab_size) * (rng.random(vocab_size) < 0.1)).astype(np.int32)
    tokens, bias = rng.permutation(vocab_size)[:1024].astype(np.int32), random("float32", 1024)
    expected, finite = logits.copy(), np.zeros(1, np.bool_)
    for module, row in ((reference, expected[0]), (ops(), logits[0])):
        module.add_bias(row, tokens, bias)
        module.penalize(row, in_prompt, counts, 0.5, 0.25, 1.3)
    close(logits, expected, "float32")
    for last, found in ((0.0, True), (np.nan, False)):
        logits[0, -1] = last
        ops().finite_rows(logits, finite)
        assert finite.tolist() == [found]
    ops().clear_rows(logits, finite)
    assert not logits.any()


def test_a_rows_view_is_adjusted_alone() -> None:
    logits, in_prompt = random("float32", 3, 37), np.random.default_rng(0).random((3, 37)) < 0.5
    counts = np.random.default_rng(1).integers(0, 2, (3, 37), np.int32)
    tokens, bias, expected = np.array([36, 0], np.int32), np.array([2.0, -1.0], np.float32), logits.copy()
    reference.add_bias(expected[1], tokens, bias)
    reference.penalize(expected[1], in_prompt[2], counts[2], 0.5, 0.25, 1.3)
    ops().add_bias(logits[1], tokens, bias)
    ops().penalize(logits[1], in_prompt[2], counts[2], 0.5, 0.25, 1.3)
    close(logits, expected, "float32")
