"""The definition of quantised products: what is rounded, and how far that is from exact."""

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Quantised
from tests.stored_weights import meant, random_rows

QUANTISED = [name for name, each in FORMATS.items() if isinstance(each, Quantised)]
COLUMNS = 512


def activations(tokens: int, columns: int = COLUMNS) -> np.ndarray:
    return np.random.default_rng(tokens).standard_normal((tokens, columns), np.float32)


def weight(name: str, rows: int) -> tuple[reference.QuantisedMatrix, np.ndarray]:
    """Return a random weight, and its elements in float64."""
    raw = random_rows(name, rows, COLUMNS, np.random.default_rng(rows))
    return FORMATS[name].decode(raw), meant(name, raw).astype(np.float64)


def by_hand(x: np.ndarray, matrix: reference.QuantisedMatrix, token: int, row: int) -> np.float32:
    """Return one output, computed number by number."""
    quants, scales, sums = reference.quantise(x)
    size = matrix.quants.shape[1] // matrix.scales.shape[1]
    total = np.float32(0)
    for block in range(matrix.scales.shape[1]):
        columns = range(block * size, (block + 1) * size)
        integer = sum((int(matrix.quants[row, k]) - matrix.offset) * int(quants[token, k]) for k in columns)
        total += np.float32(integer) * (matrix.scales[row, block] * scales[token, block * size // 32])
        if matrix.minima is not None:
            total += matrix.minima[row, block] * sums[token, block]
    return total


@pytest.mark.parametrize("name", QUANTISED)
def test_each_operation_is_rounded_by_itself_and_blocks_are_added_in_order(name: str) -> None:
    x, (matrix, _) = activations(3), weight(name, 5)
    out = reference.quantised_product(x, matrix)
    for token, row in np.ndindex(3, 5):
        assert out[token, row] == by_hand(x, matrix, token, row)


@pytest.mark.parametrize("name", QUANTISED)
def test_the_product_is_exact_within_the_rounding_of_activations(name: str) -> None:
    x, (matrix, exact) = activations(20), weight(name, 30)
    bound = np.abs(x).reshape(20, -1, 32).max(axis=2).repeat(32, axis=1) / 254 @ np.abs(exact).T
    error = np.abs(reference.quantised_product(x, matrix) - x.astype(np.float64) @ exact.T)
    assert (error <= bound * 1.001).all()
    assert error.max() > bound.max() / 1000


def test_a_bias_is_added_last() -> None:
    x, (matrix, _) = activations(2), weight("Q4_1", 5)
    bias, out = np.arange(5, dtype=np.float32), np.empty((2, 5), np.float32)
    reference.quantised_linear(x, matrix, bias, out)
    np.testing.assert_array_equal(out, reference.quantised_product(x, matrix) + bias)


def test_the_largest_of_a_block_becomes_127() -> None:
    x = activations(4)
    quants, scales, sums = reference.quantise(x)
    blocks = quants.reshape(4, -1, 32)
    assert (np.abs(blocks).max(axis=2) == 127).all()
    assert np.abs(blocks * scales[..., None] - x.reshape(blocks.shape)).max() <= scales.max() * 0.5001
    np.testing.assert_array_equal(sums, scales * blocks.sum(axis=2).astype(np.float32))


def test_zeros_stay_zeros() -> None:
    for part in reference.quantise(np.zeros((2, 64), np.float32)):
        assert not part.any()


@pytest.mark.parametrize("largest", [2.0**-121, 1e-45, 2.0**-120, 3.4e38])
def test_extreme_blocks_have_finite_numbers(largest: float) -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, 3], x[0, 4] = largest, -largest
    quants, scales, sums = reference.quantise(x)
    assert np.isfinite(scales).all()
    assert not sums.any()
    assert abs(quants[0, 3] * np.float64(scales[0, 0]) - x[0, 3]) <= max(2.0**-120, largest * 1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_block_that_is_not_finite_makes_its_token_nan_and_no_other(wrong: float) -> None:
    x, (matrix, _) = activations(3), weight("Q8_0", 4)
    expected = reference.quantised_product(x, matrix)
    x[1, 40] = wrong
    quants, scales, sums = reference.quantise(x)
    out = reference.quantised_product(x, matrix)
    assert not quants[1, 32:64].any()
    assert np.isnan(scales[1, 1])
    assert np.isnan(sums[1, 1])
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], expected[[0, 2]])
