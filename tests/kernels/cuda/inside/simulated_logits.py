"""Biases, penalties and the check for NaN against their definitions."""

import numpy as np
import pytest
from arrays import close, ops, random

from kernels import reference

SLOTS = np.array([5, 1, 0, 2], np.int32)  # of a batch's rows
ADJUSTED = np.array([3, 0], np.int32)


def history(slots: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which tokens each slot has seen, and how often each was drawn."""
    rng = np.random.default_rng(0)
    counts = (rng.integers(0, 5, (slots, vocab_size)) * (rng.random((slots, vocab_size)) < 0.3)).astype(np.int32)
    return (counts > 0) | (rng.random((slots, vocab_size)) < 0.3), counts


def test_biases_change_their_tokens_alone() -> None:
    rng, num_biases = np.random.default_rng(0), np.array([140, 3], np.int32)
    tokens = np.stack([rng.permutation(500)[:150] for _ in range(6)]).astype(np.int32)
    logits, biases = random("float32", 4, 500), random("float32", 6, 150)
    expected = logits.copy()
    reference.add_biases(expected, ADJUSTED, SLOTS, num_biases, tokens, biases)
    ops().add_biases(logits, ADJUSTED, SLOTS, num_biases, tokens, biases)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("penalties", [(0.5, 0.25, 1.3), (-0.5, 1.0, 0.7), (0.0, 0.0, 1.0)])
def test_penalize(penalties: tuple[float, float, float]) -> None:
    logits, (seen, counts) = random("float32", 4, 301), history(6, 301)
    each = np.array([penalties, (0.1, 0.2, 1.1)], np.float32)
    before, expected = logits.copy(), logits.copy()
    reference.penalize(expected, ADJUSTED, SLOTS, each, seen, counts)
    ops().penalize(logits, ADJUSTED, SLOTS, each, seen, counts)
    close(logits, expected, "float32")
    np.testing.assert_array_equal(logits[1:3], before[1:3])
    for row in ADJUSTED:
        unseen = ~seen[SLOTS[row]]
        np.testing.assert_array_equal(logits[row, unseen], before[row, unseen])


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
    rng, row = np.random.default_rng(0), np.zeros(1, np.int32)
    logits, (seen, counts) = random("float32", 1, vocab_size), history(1, vocab_size)
    tokens, biases = rng.permutation(vocab_size)[None, :1024].astype(np.int32), random("float32", 1, 1024)
    expected, finite = logits.copy(), np.zeros(1, np.bool_)
    penalties = np.array([[0.5, 0.25, 1.3]], np.float32)
    for module, each in ((reference, expected), (ops(), logits)):
        module.add_biases(each, row, row, np.array([1024], np.int32), tokens, biases)
        module.penalize(each, row, row, penalties, seen, counts)
    close(logits, expected, "float32")
    for last, found in ((0.0, True), (np.nan, False)):
        logits[0, -1] = last
        ops().finite_rows(logits, finite)
        assert finite.tolist() == [found]
    ops().clear_rows(logits, finite)
    assert not logits.any()
