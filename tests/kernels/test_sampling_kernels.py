"""Drawing tokens: what the filters let through, what the noise depends on, and that cpu equals reference."""

from itertools import product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import cpu, reference

MODULES = pytest.mark.parametrize("module", [reference, cpu], ids=["reference", "cpu"])


def draw(module: ModuleType, logits: np.ndarray, seeds: range | list[int], **settings: float) -> np.ndarray:
    """Draw once for each seed from the same logits [vocab], at position 7 by default."""
    rows = len(seeds)
    out = np.full(rows, -1, np.int32)
    module.sample(
        np.repeat(logits[None].astype(np.float32), rows, axis=0),
        np.full(rows, settings.get("temperature", 1), np.float32),
        np.full(rows, settings.get("top_k", 0), np.int32),
        np.full(rows, settings.get("top_p", 1), np.float32),
        np.full(rows, settings.get("min_p", 0), np.float32),
        np.array(seeds, np.uint64),
        np.full(rows, settings.get("position", 7), np.int64),
        out,
    )
    return out


def random_logits(vocab: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(vocab).astype(np.float32) * 3


@MODULES
def test_temperature_0_takes_the_first_largest(module: ModuleType) -> None:
    assert (draw(module, np.array([1.0, 5.0, -2.0, 5.0]), range(20), temperature=0) == 1).all()


@MODULES
def test_follows_the_distribution(module: ModuleType) -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = draw(module, np.log(probabilities), range(4000))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, probabilities, atol=0.03)


@MODULES
def test_temperature_flattens(module: ModuleType) -> None:
    expected = np.exp(np.array([2.0, 0.0]) / 4)
    drawn = draw(module, np.array([2.0, 0.0]), range(4000), temperature=4)
    np.testing.assert_allclose(np.bincount(drawn) / 4000, expected / expected.sum(), atol=0.03)


@MODULES
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {3, 1, 4}),  # 1 and 4 tie
        ({"top_p": 0.45}, {3}),
        ({"top_p": 0.55}, {3, 1, 4}),
        ({"min_p": 0.9}, {3}),
        ({"min_p": 0.3}, {3, 1, 4}),
        ({"min_p": 0.2}, {3, 1, 4, 0}),
        ({"top_k": 4, "top_p": 0.6}, {3, 1, 4}),
        ({"top_k": 4, "top_p": 0.5}, {3}),  # half of what top_k left, more than half of all
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
    ],
)
def test_filters_let_through_just_the_allowed(module: ModuleType, settings: dict, allowed: set) -> None:
    logits = np.log(np.array([0.13, 0.2, 0.02, 0.45, 0.2]))
    if settings == {"top_k": 4, "top_p": 0.5}:
        logits = np.log(np.array([0.05, 0.2, 0.16, 0.49, 0.1]))
    assert set(draw(module, logits, range(600), **settings).tolist()) == allowed


@pytest.mark.parametrize("vocab", [5, 1000, 49152])
def test_cpu_draws_what_the_reference_draws(vocab: int) -> None:
    logits = random_logits(vocab)
    for temperature, top_k, top_p, min_p in product((0.3, 1, 50), (0, 3, 600), (0.4, 0.99, 1), (0, 0.05)):
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        seeds = range(3)
        np.testing.assert_array_equal(
            draw(cpu, logits, seeds, **settings), draw(reference, logits, seeds, **settings), str(settings)
        )


@pytest.mark.parametrize("shape", ["tied", "outlier", "peaked", "last"])
def test_cpu_filters_as_the_reference_does_whatever_the_shape(shape: str) -> None:
    """Many equal logits, one far below all others, one far above, and the largest in a block that is not whole."""
    logits = random_logits(1003)
    if shape == "tied":
        logits = np.round(logits)
    elif shape == "outlier":
        logits[5] = -1e30
    else:
        logits[70 if shape == "peaked" else 1002] += 30
    for temperature, top_k, top_p, min_p in product((0.3, 1, 50), (0, 1, 40, 1002), (0, 0.4, 1), (0, 0.05)):
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        drawn = draw(cpu, logits, range(40), **settings)
        np.testing.assert_array_equal(drawn, draw(reference, logits, range(40), **settings), str(settings))


def test_rows_of_a_large_batch_draw_what_they_draw_alone() -> None:
    logits = np.stack([random_logits(1000, seed) for seed in range(20)])
    filters = (np.full(20, 40, np.int32), np.full(20, 0.9, np.float32), np.zeros(20, np.float32))
    arrays = (logits, np.ones(20, np.float32), *filters, np.arange(20, dtype=np.uint64), np.arange(20))
    together, alone = np.full(20, -1, np.int32), np.full(20, -2, np.int32)
    cpu.sample(*arrays, together)
    for row in range(20):
        cpu.sample(*(array[row : row + 1] for array in arrays), alone[row : row + 1])
    np.testing.assert_array_equal(together, alone)


@MODULES
def test_noise_depends_on_seed_and_position_alone(module: ModuleType) -> None:
    logits = random_logits(1000)
    alone = [draw(module, logits, [seed])[0] for seed in range(30)]
    np.testing.assert_array_equal(draw(module, logits, range(30)), alone)
    assert (draw(module, logits, range(30), position=8) != alone).any()
    assert len(set(alone)) > 5


@given(seed=st.integers(0, 2**64 - 1), position=st.integers(0, 2**31))
def test_uniform_is_in_range_and_the_same_in_both(seed: int, position: int) -> None:
    number = reference.uniform(seed, position)
    assert 0 <= number < 1
    cumulative = np.linspace(0, 0, 512)  # equal logits: the token drawn is the number's first nine bits
    assert draw(cpu, cumulative, [seed], position=position)[0] == int(number * 512)


@MODULES
def test_a_tiny_temperature_is_nearly_greedy(module: ModuleType) -> None:
    logits = random_logits(1000)
    assert (draw(module, logits, range(10), temperature=1e-5, top_p=0.9) == logits.argmax()).all()


@MODULES
def test_penalties_follow_the_formulas(module: ModuleType) -> None:
    logits = np.array([[2.0, -2.0, 2.0, 2.0, -2.0]] * 2, np.float32)
    seen = np.array([[False] * 5, [True, True, False, True, True]])
    counts = np.array([[0] * 5, [0, 0, 0, 2, 1]], np.int32)
    rows, slots = np.array([1], np.int32), np.array([0, 1], np.int32)
    module.penalize(logits, rows, slots, np.array([[0.5, 0.25, 2.0]], np.float32), seen, counts)
    np.testing.assert_allclose(logits[1], [1.0, -4.0, 2.0, 1.0 - 2 * 0.25 - 0.5, -4.0 - 0.25 - 0.5])
    assert logits[0].tolist() == [2, -2, 2, 2, -2]


def test_a_batch_is_penalised_as_the_reference_does() -> None:
    rng = np.random.default_rng(1)
    logits = np.stack([random_logits(1003, seed) for seed in range(4)])
    counts = (rng.integers(0, 4, (6, 1003)) * (rng.random((6, 1003)) < 0.1)).astype(np.int32)
    seen = (counts > 0) | (rng.random((6, 1003)) < 0.1)
    rows, slots = np.array([3, 0, 2], np.int32), np.array([5, 1, 0, 2], np.int32)
    penalties = np.array([[0.5, 0.25, 1.3], [-1, 0.3, 0.7], [0, 0, 1.1]], np.float32)
    expected = logits.copy()
    reference.penalize(expected, rows, slots, penalties, seen, counts)
    before = logits.copy()
    cpu.penalize(logits, rows, slots, penalties, seen, counts)
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(logits[1], before[1])


@MODULES
def test_biases_are_added_to_their_tokens(module: ModuleType) -> None:
    logits, tokens = np.zeros((2, 4), np.float32), np.array([[2, 2, 2], [0, 0, 0], [3, 1, 0]], np.int32)
    biases = np.array([[9, 9, 9], [9, 9, 9], [2.5, -1, 9]], np.float32)
    rows, slots, counts = np.array([1, 0], np.int32), np.array([0, 2], np.int32), np.array([2, 0], np.int32)
    module.add_biases(logits, rows, slots, counts, tokens, biases)
    np.testing.assert_array_equal(logits, [[0, 0, 0, 0], [0, -1, 0, 2.5]])


@MODULES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 15, 16, 36])
def test_rows_with_a_non_finite_logit_are_found(module: ModuleType, bad: float, at: int) -> None:
    logits = np.full((3, 37), 3e38, np.float32)
    logits[1, at] = bad
    out = np.empty(3, np.bool_)
    module.finite_rows(logits, out)
    assert out.tolist() == [True, False, True]


@MODULES
def test_rows_that_are_not_ok_are_cleared(module: ModuleType) -> None:
    logits = np.array([[1.0, 2.0], [np.nan, 3.0], [4.0, np.inf]], np.float32)
    module.clear_rows(logits, np.array([True, False, False]))
    assert logits.tolist() == [[1, 2], [0, 0], [0, 0]]


@MODULES
def test_logprobs_are_the_log_softmax_of_the_likeliest(module: ModuleType) -> None:
    logits = np.stack([random_logits(2000, seed) for seed in range(3)])
    logits[2, [5, 9]] = logits[2].max() + 1
    wide = logits.astype(np.float64)
    expected = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    rows, tokens = np.array([2, 0], np.int32), np.array([1999, -1, 7], np.int32)
    chosen, ids, values = np.empty(2, np.float32), np.empty((2, 4), np.int32), np.empty((2, 4), np.float32)
    module.top_logprobs(logits, rows, tokens, chosen, ids, values)
    assert ids[0, :2].tolist() == [5, 9]
    np.testing.assert_array_equal(ids, np.argsort(-logits[rows], kind="stable")[:, :4])
    np.testing.assert_allclose(values, np.take_along_axis(expected[rows], ids, axis=1), rtol=1e-5)
    np.testing.assert_allclose(chosen, [expected[2, 7], expected[0, 1999]], rtol=1e-5)


@MODULES
def test_no_alternatives_are_none(module: ModuleType) -> None:
    logits, chosen, values = random_logits(50)[None], np.empty(1, np.float32), np.empty((1, 0), np.float32)
    row, token = np.zeros(1, np.int32), np.array([3], np.int32)
    module.top_logprobs(logits, row, token, chosen, values.astype(np.int32), values)
    np.testing.assert_allclose(chosen, logits[0, 3] - np.log(np.exp(logits[0].astype(np.float64)).sum()), rtol=1e-5)


@MODULES
def test_tokens_that_the_host_has_not_seen_are_picked_by_their_slots(module: ModuleType) -> None:
    last, out = np.array([70, 80, 90], np.int32), np.empty(5, np.int32)
    module.pick_tokens(np.array([4, -1, 0, -3, 6], np.int32), last, out)
    assert out.tolist() == [4, 70, 0, 90, 6]


@MODULES
def test_tokens_drawn_are_put_into_their_slots(module: ModuleType) -> None:
    last = np.array([70, 80, 90], np.int32)
    module.put_tokens(np.array([5, 6], np.int32), np.array([2, 0], np.int32), last)
    assert last.tolist() == [6, 80, 5]


@MODULES
def test_tokens_drawn_are_counted_in_their_slots(module: ModuleType) -> None:
    counts = np.array([[0, 1], [0, 0], [2, 0]], np.int32)
    seen = np.array([[True, True], [False, False], [True, False]])
    module.count_tokens(np.array([1, 0], np.int32), np.array([0, 2], np.int32), seen, counts)
    assert counts.tolist() == [[0, 2], [0, 0], [3, 0]]
    assert seen.tolist() == [[True, True], [False, False], [True, False]]
    module.count_tokens(np.array([1], np.int32), np.array([1], np.int32), seen, counts)
    assert seen[1].tolist() == [False, True]
