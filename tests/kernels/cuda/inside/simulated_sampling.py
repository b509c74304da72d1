"""Draws and log-probabilities against their definitions: any vocabulary, ties, extremes, neighbours."""

from itertools import product

import numpy as np
import pytest
from arrays import close, ops, random

from kernels import reference

VOCABULARIES = {"smollm2": 49_152, "llama-3": 128_256, "qwen": 152_064}
Settings = dict[str, float]


def arrays(settings: list[Settings]) -> tuple[np.ndarray, ...]:
    """Return the arrays of `kernels.reference.sample`, with a seed of its own for each row."""
    rows = len(settings)
    of = {name: [row.get(name, plain) for row in settings] for name, plain in PLAIN.items()}
    return (
        *(np.array(of[name], dtype) for name, dtype in DTYPES.items()),
        np.arange(rows, dtype=np.uint64) + np.uint64(2**64 - 2),
        np.arange(7, 7 + rows, dtype=np.int64),
    )


PLAIN = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
DTYPES = {"temperature": np.float32, "top_k": np.int32, "top_p": np.float32, "min_p": np.float32}


def draw(logits: np.ndarray, settings: list[Settings], seed: int = 0) -> list[int]:
    out = np.full(len(settings), -1, np.int32)
    ops(seed=seed).sample(logits, *arrays(settings), out)
    return out.tolist()


def check(logits: np.ndarray, settings: list[Settings]) -> None:
    before, expected = logits.tobytes(), np.full(len(settings), -1, np.int32)
    reference.sample(logits, *arrays(settings), expected)
    assert draw(logits, settings) == expected.tolist()
    assert logits.tobytes() == before


def matrix(*temperatures: float) -> list[Settings]:
    combined = product(temperatures, (0, 3, 600), (0.4, 0.99, 1), (0, 0.05))
    return [dict(zip(PLAIN, values, strict=True)) for values in combined]


def some(count: int, seed: int) -> list[Settings]:
    return list(np.random.default_rng(seed).permutation(np.array(matrix(0.3, 1, 50)))[:count])


@pytest.mark.parametrize(("vocabulary", "rows"), [(5, 2), (37, 4), (301, 6), (1030, 3)])
def test_draws_equal_the_reference(vocabulary: int, rows: int) -> None:
    check(3 * random("float32", rows, vocabulary), some(rows, seed=vocabulary))


@pytest.mark.full
@pytest.mark.parametrize("temperature", [0.3, 1, 50])
def test_draws_by_all_settings_equal_the_reference(temperature: float) -> None:
    settings = matrix(temperature)
    check(3 * random("float32", len(settings), 1030), settings)


@pytest.mark.full
@pytest.mark.parametrize("model", VOCABULARIES)
def test_draws_from_whole_vocabularies_equal_the_reference(model: str) -> None:
    settings = [{"temperature": 0.7, "top_k": 50, "top_p": 0.9}, {"top_p": 0.95, "min_p": 1e-4}, {"temperature": 5}]
    check(3 * random("float32", 3, VOCABULARIES[model]), settings)


def test_equal_logits_share_their_fate() -> None:
    logits = np.random.default_rng(0).integers(0, 6, (4, 301)).astype(np.float32)
    check(logits, [{"top_k": 2}, {"top_p": 0.3}, {"min_p": 0.2}, {"top_k": 70, "top_p": 0.7}])


def test_all_logits_equal() -> None:
    check(np.full((3, 301), -4.5, np.float32), [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}])


def test_minus_infinity_is_never_drawn() -> None:
    logits = np.full((3, 301), -np.inf, np.float32)
    logits[:, 7::60] = random("float32", 3, 5)
    check(logits, [{"temperature": 50}, {"top_k": 20}, {"top_p": 0.9}])


def test_a_row_of_minus_infinity_draws_a_token_that_is_there() -> None:
    assert draw(np.full((2, 37), -np.inf, np.float32), [{}, {"temperature": 0}]) == [0, 0]


@pytest.mark.parametrize("temperature", [1e-40, 1e-5, 1e5, 3e38])
def test_extreme_temperatures(temperature: float) -> None:
    check(random("float32", 1, 301), [{"temperature": temperature, "top_p": 0.9}])


def test_filters_that_reach_to_where_nothing_weighs() -> None:
    check(100 * random("float32", 2, 301), [{"top_k": 250}, {"top_p": 0.9999999}])


def test_the_narrowest_filters_leave_the_largest() -> None:
    logits = random("float32", 4, 301)
    settings = [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}, {"top_p": 0}]
    assert draw(logits, [{"temperature": 50} | row for row in settings]) == logits.argmax(axis=1).tolist()


def test_temperature_0_takes_the_first_largest() -> None:
    logits = np.full((3, 1030), -1, np.float32)
    logits[0, [9, 1029]], logits[1, [300, 700]], logits[2] = 2, (-0.0, 0.0), -3e38
    assert draw(logits, [{"temperature": 0}] * 3) == [9, 300, 0]


def test_rows_do_not_read_their_neighbours() -> None:
    """301 floats: each row begins and ends within the 16 bytes of another."""
    logits = np.full((5, 301), np.nan, np.float32)
    logits[1], logits[3] = random("float32", 301), random("float32", 301, seed=1)
    settings = [{"temperature": 0}, {"top_p": 0.9}, {"temperature": 0}, {"top_k": 9}, {"temperature": 0}]
    expected = np.full(5, -1, np.int32)
    reference.sample(logits, *arrays(settings), expected)
    assert draw(logits, settings)[1::2] == expected[1::2].tolist()


def test_the_order_in_which_warps_run_changes_nothing() -> None:
    logits, settings = random("float32", 1, 1030), [{"top_p": 0.9}]
    assert len({draw(logits, settings, seed)[0] for seed in range(3)}) == 1


def logprobs(logits: np.ndarray, rows: list[int], count: int) -> None:
    """Compare ours with the reference's."""
    wanted, tokens = np.array(rows, np.int32), np.arange(len(logits), dtype=np.int32)
    ours, theirs = (
        (np.full(len(rows), np.nan, np.float32), np.full((len(rows), count), -1, np.int32)) for _ in range(2)
    )
    values, expected = (np.full((len(rows), count), np.nan, np.float32) for _ in range(2))
    reference.top_logprobs(logits, wanted, tokens, *theirs, expected)
    ops().top_logprobs(logits, wanted, tokens, *ours, values)
    np.testing.assert_array_equal(ours[1], theirs[1])
    close(values, expected, "float32")
    close(ours[0], theirs[0], "float32")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_logprobs_of_the_rows_that_want_them(count: int) -> None:
    logits = 3 * random("float32", 4, 301)
    logits[0] = np.nan
    logits[3, [5, 300]] = logits[3].max() + 1
    logprobs(logits, [3, 1], count)


def test_logprobs_of_equal_logits_are_the_first_tokens() -> None:
    logprobs(np.full((1, 1030), 2.5, np.float32), [0], 4)


@pytest.mark.full
@pytest.mark.parametrize("model", VOCABULARIES)
def test_logprobs_of_whole_vocabularies(model: str) -> None:
    logprobs(3 * random("float32", 2, VOCABULARIES[model]), [1], 20)


def test_more_logprobs_than_tokens_are_refused() -> None:
    row, chosen, values = np.zeros(1, np.int32), np.empty(1, np.float32), np.empty((1, 6), np.float32)
    with pytest.raises(ValueError, match="likeliest 6 of 5"):
        ops().top_logprobs(random("float32", 1, 5), row, row, chosen, values.astype(np.int32), values)
