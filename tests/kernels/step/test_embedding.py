"""Embeddings are the rows of a packed table, to the bit."""

import numpy as np
import pytest

from kernels.cpu.step import embedding, step_input
from kernels.cpu.step.formats import FORMATS, KERNELS
from kernels.cpu.step.formats.format import Quantised
from tests.kernels.step.calls import assert_same_bits, call, packed
from tests.stored_weights import random_rows

VOCAB = 53
TOKENS = np.array([0, 52, 16, 15, 17, 52, 31], np.int32)


def columns_of(name: str) -> int:
    return 3 * FORMATS[name].columns if isinstance(FORMATS[name], Quantised) else 77


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a file, and the float32 that they stand for."""
    raw = random_rows(name, VOCAB, columns_of(name), np.random.default_rng(0))
    decoded = FORMATS[name].decode(raw)
    return raw, decoded if isinstance(decoded, np.ndarray) else decoded.dequantised()


def embed(name: str, raw: np.ndarray, tokens: np.ndarray, last: np.ndarray, rows_per_unit: int = 100) -> np.ndarray:
    columns = columns_of(name)
    weights, out = packed(name, raw, columns), np.full((len(tokens) + 1, columns + 3), np.nan, np.float32)
    op = {
        embedding.TABLE: weights,
        embedding.GROUP_BYTES: weights.shape[1],
        embedding.BLOCKS: columns // 32 if isinstance(FORMATS[name], Quantised) else columns,
        embedding.OUT: out,
        embedding.OUT_STRIDE: out.strides[0],
    }
    step = {
        step_input.TOKENS: len(tokens),
        step_input.ROWS_PER_UNIT: rows_per_unit,
        step_input.INPUT_IDS: tokens,
        step_input.LAST: last,
    }
    call(KERNELS[name].embed, op, step, -(-len(tokens) // rows_per_unit))
    assert np.isnan(out[-1]).all()
    assert np.isnan(out[:, columns:]).all()
    return out[:-1, :columns].copy()


@pytest.mark.parametrize("name", FORMATS)
def test_a_token_has_its_row(name: str) -> None:
    raw, rows = table(name)
    assert_same_bits(embed(name, raw, TOKENS, np.zeros(1, np.int32)), rows[TOKENS])


@pytest.mark.parametrize("name", FORMATS)
def test_a_negative_token_is_the_one_drawn_last_in_its_slot(name: str) -> None:
    raw, rows = table(name)
    last = np.array([7, 41, 52], np.int32)
    tokens = np.array([-1, 5, -3, -2], np.int32)
    assert_same_bits(embed(name, raw, tokens, last), rows[[7, 5, 52, 41]])


@pytest.mark.parametrize("rows_per_unit", [1, 2, 4])
def test_units_divide_the_rows(rows_per_unit: int) -> None:
    raw, rows = table("Q4_1")
    assert_same_bits(embed("Q4_1", raw, TOKENS, np.zeros(1, np.int32), rows_per_unit), rows[TOKENS])
