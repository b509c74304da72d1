"""Tokens that stay on the device, against their definitions."""

import numpy as np
from arrays import ops

from kernels import reference

COUNT = 150  # more than a block of threads


def test_tokens_are_picked_by_value_or_by_slot() -> None:
    rng = np.random.default_rng(0)
    input_ids, last = rng.integers(-40, 1000, COUNT, np.int32), rng.integers(0, 1000, 40, np.int32)
    input_ids[:3] = 0, -1, -40
    out, expected = np.full(COUNT, -1, np.int32), np.empty(COUNT, np.int32)
    reference.pick_tokens(input_ids, last, expected)
    ops().pick_tokens(input_ids, last, out)
    np.testing.assert_array_equal(out, expected)


def test_tokens_drawn_are_put_into_their_slots_alone() -> None:
    rng = np.random.default_rng(0)
    tokens, slots = rng.integers(0, 1000, COUNT, np.int32), rng.permutation(200)[:COUNT].astype(np.int32)
    last, expected = np.full(200, -7, np.int32), np.full(200, -7, np.int32)
    reference.put_tokens(tokens, slots, expected)
    ops().put_tokens(tokens, slots, last)
    np.testing.assert_array_equal(last, expected)


def test_tokens_drawn_are_counted_in_their_slots_alone() -> None:
    rng = np.random.default_rng(0)
    tokens, slots = rng.integers(0, 37, COUNT, np.int32), rng.permutation(200)[:COUNT].astype(np.int32)
    counts = rng.integers(0, 9, (200, 37), np.int32)
    seen = counts > 0
    expected_seen, expected = seen.copy(), counts.copy()
    reference.count_tokens(tokens, slots, expected_seen, expected)
    ops().count_tokens(tokens, slots, seen, counts)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(seen, expected_seen)
