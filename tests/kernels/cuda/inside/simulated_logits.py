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
    np.testing.assert_array_equal(out, reference.finite_rows(logits))
