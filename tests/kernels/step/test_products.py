"""Products equal their definition, whatever the rows beside a row and however the work is divided."""

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Quantised
from kernels.cpu.step.many_rows import CHUNK, SLICE
from kernels.cpu.step.products import MANY
from tests.kernels.step.calls import assert_same_bits, product
from tests.stored_weights import meant, random_rows

QUANTISED = [name for name, each in FORMATS.items() if isinstance(each, Quantised)]
FLOATS = [name for name in FORMATS if name not in QUANTISED]
ROWS = [*range(1, 10), 16, 65]
OUTPUTS = 37  # two groups and a part of one


def columns_of(name: str) -> int:
    """Return three blocks, or an odd number of columns."""
    return 3 * FORMATS[name].columns if name in QUANTISED else 77


def activations(name: str, rows: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, columns_of(name)), np.float32)


def weight(name: str, outputs: int = OUTPUTS) -> np.ndarray:
    return random_rows(name, outputs, columns_of(name), np.random.default_rng(outputs))


def defined(name: str, raw: np.ndarray, x: np.ndarray) -> np.ndarray:
    format_ = FORMATS[name]
    assert isinstance(format_, Quantised)
    return reference.quantised_product(x, format_.decode(raw))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", QUANTISED)
def test_a_product_equals_its_definition_to_the_bit(name: str, rows: int) -> None:
    raw, x = weight(name), activations(name, rows)
    assert_same_bits(product(name, raw, x), defined(name, raw, x))


@pytest.mark.parametrize("outputs", [16, 37, 64])
@pytest.mark.parametrize("rows", [MANY - 1, MANY, CHUNK, CHUNK + 13])
@pytest.mark.parametrize("name", QUANTISED)
def test_a_product_of_many_rows_equals_its_definition_to_the_bit(name: str, rows: int, outputs: int) -> None:
    columns = {32: 32 * (2 * SLICE + 5), 256: 768}[FORMATS[name].columns]  # more than are unpacked at once
    raw = random_rows(name, outputs, columns, np.random.default_rng(outputs))
    few = np.random.default_rng(rows).standard_normal((16, columns), np.float32)
    which = np.arange(rows) % 13  # so that the definition takes few
    assert_same_bits(product(name, raw, few[which]), defined(name, raw, few)[which])


@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 48])
@pytest.mark.parametrize("name", QUANTISED)
def test_any_number_of_outputs_is_computed(name: str, outputs: int) -> None:
    raw, x = weight(name, outputs), activations(name, 11)
    assert_same_bits(product(name, raw, x), defined(name, raw, x))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", FLOATS)
def test_a_product_of_16_bit_weights_is_exact_within_the_rounding_of_its_sums(name: str, rows: int) -> None:
    raw, x = weight(name), activations(name, rows)
    exact, numbers = x.astype(np.float64), meant(name, raw).astype(np.float64)
    bound = np.abs(exact) @ np.abs(numbers).T * columns_of(name) * 2.0**-24
    error = np.abs(product(name, raw, x) - exact @ numbers.T)
    assert (error <= bound).all()


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_of_even_and_odd_columns_are_added_in_order_and_then_to_each_other(name: str) -> None:
    raw, x = weight(name), activations(name, 1)
    numbers = meant(name, raw).astype(np.float64)
    sums = np.zeros((2, OUTPUTS), np.float32)
    for column in range(x.shape[1]):  # float64 holds a product of float32 exactly, and nearly all sums with float32
        sums[column % 2] = (x[0, column].astype(np.float64) * numbers[:, column] + sums[column % 2]).astype(np.float32)
    assert_same_bits(product(name, raw, x)[0], sums[0] + sums[1])


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_does_not_depend_on_those_beside_it(name: str) -> None:
    raw, x = weight(name), activations(name, 65)
    together = product(name, raw, x)
    for rows in (1, 2, 3, 5, 8, 13):
        assert_same_bits(product(name, raw, x[:rows]), together[:rows])
        assert_same_bits(product(name, raw, x[-rows:]), together[-rows:])


@pytest.mark.parametrize("units", [2, 3, 5])
@pytest.mark.parametrize("name", FORMATS)
def test_units_compute_what_one_does(name: str, units: int) -> None:
    raw, x = weight(name), activations(name, 10)
    assert_same_bits(product(name, raw, x, units=units), product(name, raw, x))


@pytest.mark.parametrize("name", FORMATS)
def test_a_bias_is_added_to_the_product(name: str) -> None:
    raw, x = weight(name), activations(name, 10)
    bias = np.random.default_rng(0).standard_normal(OUTPUTS, np.float32)
    assert_same_bits(product(name, raw, x, bias=bias), product(name, raw, x) + bias)


@pytest.mark.parametrize("name", FORMATS)
def test_a_product_is_added_to_what_the_output_holds(name: str) -> None:
    raw, x = weight(name), activations(name, 10)
    held = np.random.default_rng(0).standard_normal((10, OUTPUTS), np.float32)
    assert_same_bits(product(name, raw, x, held=held), held + product(name, raw, x))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", QUANTISED)
def test_the_largest_integers_do_not_overflow(name: str, sign: int) -> None:
    raw, x = weight(name), np.full((8, columns_of(name)), sign * 3.5, np.float32)
    scales = {"Q4_0": (0, 2), "Q4_1": (0, 4), "Q8_0": (0, 2), "Q4_K": (0, 16), "Q6_K": (192, 210)}[name]
    blocks = raw.reshape(-1, FORMATS[name].file_bytes)
    for quant in (0xFF, 0x80, 0x7F, 0x00):
        filled = np.full_like(blocks, quant)
        filled[:, scales[0] : scales[1]] = blocks[:, scales[0] : scales[1]]
        filled = filled.reshape(raw.shape)
        assert_same_bits(product(name, filled, x), defined(name, filled, x))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", QUANTISED)
def test_a_row_with_a_number_that_is_not_finite_is_nan_and_no_other(name: str, wrong: float) -> None:
    raw, x = weight(name), activations(name, 10)
    x[4, 40] = wrong
    out = product(name, raw, x)
    assert_same_bits(out, defined(name, raw, x))
    assert np.isnan(out[4]).all()
    assert np.isfinite(np.delete(out, 4, axis=0)).all()
