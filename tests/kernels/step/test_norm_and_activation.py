"""Norms and the activation equal their definitions within rounding, and a row does not depend on those beside it."""

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.step import activation, norm, rows, step_input
from kernels.cpu.step import activations as act
from kernels.cpu.step.unit_kernel import UnitKernel
from tests.kernels.step.calls import Values, assert_same_bits, byte_panels, call, float_bits

ROWS = 11
EPS = 1e-5


def normal(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(columns).standard_normal((rows, columns), np.float32)


def left(
    kernel: UnitKernel, op: Values, step: Values, count: int, columns: int, units: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the activations [count, columns] that a kernel leaves, and its panels of bytes."""
    panels = -(-count // act.ROWS)
    floats = np.zeros((panels, columns, act.ROWS), np.float32)
    as_bytes = np.zeros((panels, -(-columns // act.COLUMNS), act.BYTES_BLOCK), np.uint8)
    sinks = {rows.FLOATS: floats, rows.FLOATS_PANEL: floats[0].nbytes}
    if columns % act.COLUMNS == 0:
        sinks |= {rows.BYTES: as_bytes, rows.BYTES_PANEL: as_bytes[0].nbytes}
    call(kernel, {**op, **sinks}, step, units)
    return floats.transpose(0, 2, 1).reshape(-1, columns)[:count].copy(), as_bytes


def normed(
    x: np.ndarray, weight: np.ndarray, rows_per_unit: int = 100, eps: float = EPS
) -> tuple[np.ndarray, np.ndarray]:
    op = {
        norm.SOURCE: x,
        norm.STRIDE: x.strides[0],
        norm.WEIGHT: weight,
        norm.COLUMNS: len(weight),
        norm.EPS: float_bits(eps),
    }
    step = {step_input.TOKENS: len(x), step_input.ROWS_PER_UNIT: rows_per_unit}
    return left(norm.norm, op, step, len(x), len(weight), -(-len(x) // rows_per_unit))


def activated(x: np.ndarray, slices: int = 1, rows_per_unit: int = 100) -> tuple[np.ndarray, np.ndarray]:
    columns = x.shape[1] // 2
    op = {
        activation.SOURCE: x,
        activation.STRIDE: x.strides[0],
        activation.COLUMNS: columns,
        activation.SLICES: slices,
    }
    step = {step_input.TOKENS: len(x), step_input.ROWS_PER_UNIT: rows_per_unit}
    units = -(-len(x) // rows_per_unit) * slices
    return left(activation.silu_mul, op, step, len(x), columns, units)


@pytest.mark.parametrize("columns", [64, 77, 576, 1536])
def test_a_norm_is_the_reference_s(columns: int) -> None:
    x, weight = normal(ROWS, columns), normal(1, columns)[0]
    expected = np.empty_like(x)
    reference.rms_norm(x, weight, EPS, expected)
    out, as_bytes = normed(x, weight)
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-7)
    if columns % act.COLUMNS == 0:
        np.testing.assert_array_equal(as_bytes, byte_panels(out))


@pytest.mark.parametrize("rows_per_unit", [1, 3])
def test_a_row_s_norm_does_not_depend_on_those_beside_it(rows_per_unit: int) -> None:
    x, weight = normal(ROWS, 576), normal(1, 576)[0]
    together, as_bytes = normed(x, weight)
    divided, divided_bytes = normed(x, weight, rows_per_unit)
    assert_same_bits(divided, together)
    np.testing.assert_array_equal(divided_bytes, as_bytes)
    for row in range(ROWS):
        assert_same_bits(normed(x[row : row + 1], weight)[0][0], together[row])


def test_rows_may_lie_apart() -> None:
    wide, weight = normal(ROWS, 200), normal(1, 96)[0]
    assert_same_bits(normed(wide[:, :96], weight)[0], normed(wide[:, :96].copy(), weight)[0])


def test_the_eps_keeps_a_row_of_zeros_finite() -> None:
    assert not normed(np.zeros((2, 64), np.float32), normal(1, 64)[0])[0].any()


def test_without_an_eps_a_row_of_zeros_is_nan_and_raises_nothing() -> None:
    assert np.isnan(normed(np.zeros((2, 64), np.float32), normal(1, 64)[0], eps=0)[0]).all()


def test_only_rows_after_which_a_token_is_drawn_get_a_norm_of_their_own() -> None:
    x, weight, drawn = normal(ROWS, 96), normal(1, 96)[0], np.array([10, 0, 4], np.int32)
    op = {
        norm.SOURCE: x,
        norm.STRIDE: x.strides[0],
        norm.WEIGHT: weight,
        norm.COLUMNS: 96,
        norm.EPS: float_bits(EPS),
    }
    step = {
        step_input.TOKENS: ROWS,
        step_input.DRAWS: len(drawn),
        step_input.ROWS_PER_UNIT: 2,
        step_input.LOGITS_INDICES: drawn,
    }
    out, _ = left(norm.norm_of_draws, op, step, len(drawn), 96, units=2)
    assert_same_bits(out, normed(x, weight)[0][drawn])


@pytest.mark.parametrize("columns", [64, 77, 1536])
def test_the_activation_is_the_reference_s(columns: int) -> None:
    x = normal(ROWS, 2 * columns) * np.float32(3)
    expected = np.empty((ROWS, columns), np.float32)
    reference.silu_mul(x, expected)
    out, as_bytes = activated(x)
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-7)
    if columns % act.COLUMNS == 0:
        np.testing.assert_array_equal(as_bytes, byte_panels(out))


def test_gates_far_from_zero_stay_finite() -> None:
    x = np.ones((1, 64), np.float32)
    x[0, :4] = 100, -100, 3e38, -1e30
    out, _ = activated(x)
    np.testing.assert_allclose(out[0, :4], [100, 0, 3e38, 0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("slices", "rows_per_unit"), [(1, 1), (2, 100), (3, 2), (5, 4)])
def test_units_of_rows_and_columns_compute_what_one_does(slices: int, rows_per_unit: int) -> None:
    x = normal(ROWS, 2 * 352)
    together, as_bytes = activated(x)
    divided, divided_bytes = activated(x, slices, rows_per_unit)
    assert_same_bits(divided, together)
    np.testing.assert_array_equal(divided_bytes, as_bytes)


def test_a_row_s_activation_does_not_depend_on_those_beside_it() -> None:
    x = normal(ROWS, 2 * 77)
    together = activated(x)[0]
    for row in range(ROWS):
        assert_same_bits(activated(x[row : row + 1])[0][0], together[row])
