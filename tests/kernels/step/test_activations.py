"""What kernels leave for products: panels that hold what `reference.quantise` says, and panels of the numbers."""

from itertools import pairwise

import numpy as np
import pytest
from numba import njit

from kernels.cpu.step import activations as act
from kernels.cpu.step import rows
from tests.kernels.step.calls import assert_same_bits, byte_panels, float_panels

ROWS, COLUMNS = 11, 96


@njit
def leave(op, row, values, first, columns):
    rows.sink(op, row, values, first, columns)


def normal(seed: int = 0, columns: int = COLUMNS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, columns), np.float32)


def sunk(x: np.ndarray, pieces: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return both panels after each row is left in pieces that begin at these columns."""
    panels = -(-len(x) // act.ROWS)
    as_bytes = np.zeros((panels, x.shape[1] // act.COLUMNS, act.BYTES_BLOCK), np.uint8)
    as_floats = np.zeros((panels, x.shape[1], act.ROWS), np.float32)
    op = np.zeros(24, np.int64)
    op[rows.SINK :][:4] = as_bytes.ctypes.data, as_bytes[0].nbytes, as_floats.ctypes.data, as_floats[0].nbytes
    bounds = (0, *pieces, x.shape[1])
    for row in range(len(x)):
        for first, last in pairwise(bounds):
            values = x[row, first:last].copy()
            leave(op.ctypes.data, row, values.ctypes.data, first, last - first)
    return as_bytes, as_floats


def assert_same_panels(a: np.ndarray, b: np.ndarray) -> None:
    """Compare quants and scalars to the bit, but NaN with any NaN."""
    scalars = slice(act.SCALES, act.NEGATED)
    assert_same_bits(*(np.ascontiguousarray(each[..., scalars]).view(np.float32) for each in (a, b)))
    np.testing.assert_array_equal(a[..., : act.SCALES], b[..., : act.SCALES])
    np.testing.assert_array_equal(a[..., act.NEGATED :], b[..., act.NEGATED :])


def test_panels_hold_what_the_definition_says() -> None:
    x = normal()
    as_bytes, as_floats = sunk(x)
    assert_same_panels(as_bytes, byte_panels(x))
    assert_same_bits(as_floats, float_panels(x))


def test_a_row_may_be_left_in_pieces() -> None:
    x = normal()
    as_bytes, as_floats = sunk(x, (32, 64))
    assert_same_panels(as_bytes, byte_panels(x))
    assert_same_bits(as_floats, float_panels(x))


def test_floats_need_no_whole_blocks_and_bytes_may_be_left_out() -> None:
    x = normal(columns=77)
    panels, op = np.zeros((2, 77, act.ROWS), np.float32), np.zeros(24, np.int64)
    op[rows.FLOATS], op[rows.FLOATS_PANEL] = panels.ctypes.data, panels[0].nbytes
    for row in range(ROWS):
        leave(op.ctypes.data, row, x[row].ctypes.data, 0, 77)
    assert_same_bits(panels, float_panels(x))


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 15, 16, 31])
def test_a_block_with_a_number_that_is_not_finite_is_nan_and_no_other(wrong: float, column: int) -> None:
    x = normal()
    x[3, 32 + column] = wrong
    as_bytes, _ = sunk(x)
    assert_same_panels(as_bytes, byte_panels(x))
    scales = np.ascontiguousarray(as_bytes[..., act.SCALES : act.SCALES + 32]).view(np.float32)
    assert np.argwhere(np.isnan(scales)).tolist() == [[0, 1, 3]]


@pytest.mark.parametrize("scale", [0.0, 1e-45, 2.0**-121, 2.0**-120, 1e-30, 1e30, 1e36])
def test_small_and_large_blocks_are_rounded_as_defined(scale: float) -> None:
    x = normal() * np.float32(scale)
    assert np.isfinite(x).all()
    assert_same_panels(sunk(x)[0], byte_panels(x))


def test_ties_are_rounded_to_even() -> None:
    x = np.zeros((ROWS, 32), np.float32)
    x[:, 0] = 127
    x[:, 1:] = np.arange(31) - 15.5
    quants = sunk(x)[0][0, 0, :32].view(np.int8)
    np.testing.assert_array_equal(quants[1:], np.rint(np.arange(31) - 15.5))
    assert_same_panels(sunk(x)[0], byte_panels(x))
