"""Paged attention of decodes, and of all tokens where tensor cores do not serve, against its definition."""

import numpy as np
import pytest
from arrays import close
from paged import MODELS, build

SMALL = MODELS["smollm2"]
LENGTHS = (1, 15, 16, 17)
every_model = pytest.mark.parametrize("model", MODELS)


@every_model
def test_decodes_equal_the_reference(model: str) -> None:
    build("bfloat16", MODELS[model], [(1, length) for length in LENGTHS]).check()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("model", ["llama-8b", "smollm2", "80", "96"])
def test_decodes_in_other_types_equal_the_reference(dtype: str, model: str) -> None:
    build(dtype, MODELS[model], [(1, length) for length in LENGTHS]).check()


@pytest.mark.parametrize("processors", [1, 4, 1000])
def test_splits_change_nothing(processors: int) -> None:
    build("bfloat16", SMALL, [(1, 205), (1, 17)]).check(processors=processors)


@pytest.mark.parametrize("model", ["llama-8b", "qwen-32b"])
def test_long_decodes_equal_the_reference(model: str) -> None:
    build("bfloat16", MODELS[model], [(1, 201)]).check(processors=16)


@pytest.mark.full
@every_model
def test_lengths_in_thousands(model: str) -> None:
    build("bfloat16", MODELS[model], [(1, 2049), *((1, length) for length in LENGTHS)]).check(processors=16)


@pytest.mark.parametrize(("dtype", "sizes"), [("float32", SMALL), ("bfloat16", (4, 2, 72))])
def test_chunks_beside_decodes_without_tensor_cores(dtype: str, sizes: tuple[int, int, int]) -> None:
    build(dtype, sizes, [(1, 40), (5, 21), (1, 1), (3, 3)]).check()


def test_tokens_go_in_turns_when_the_scratch_is_small() -> None:
    build("float32", SMALL, [(3, 20), (1, 17)]).check(scratch=2 * 9 * 66 + 5)


def test_rows_go_in_turns_when_the_scratch_is_small() -> None:
    build("bfloat16", SMALL, [(1, 20), (1, 17), (1, 3)]).check(scratch=2 * 9 * 66 + 5)


def test_scratch_for_less_than_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="one token of 9 heads needs 594"):
        build("float32", SMALL, [(1, 1)]).attend(scratch=593)


def test_large_scores_do_not_overflow() -> None:
    case = build("float32", SMALL, [(1, 70)])
    case.qkv *= 100
    close(case.attend(), case.expected(), "float32", factor=100)


def test_one_sequences_nan_stays_its_own() -> None:
    case = build("float32", SMALL, [(1, 20), (1, 20)])
    case.kv[case.tables[0][case.tables[1][0], 1], 1] = np.nan
    out = case.attend()
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()
