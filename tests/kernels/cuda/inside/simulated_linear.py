"""Matrix products with and without bias: all but cuBLAS itself, which the simulator replaces by NumPy."""

import numpy as np
import pytest
from arrays import DTYPES, close, fill, ops, random, wide

from kernels import reference
from kernels.cuda.matrices import gemm

every_type = pytest.mark.parametrize("dtype", DTYPES)


def expected(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    out = np.empty((len(x), len(weight)), np.float32)
    reference.linear(wide(x), wide(weight), None if bias is None else wide(bias), out)
    return out


@every_type
@pytest.mark.parametrize("outputs", [64, 1536, 7168])
def test_linear_with_a_bias(dtype: str, outputs: int) -> None:
    x, weight, bias = random(dtype, 3, 40), random(dtype, outputs, 40), random(dtype, outputs)
    out = fill(dtype, 3, outputs)
    ops().linear(x, weight, bias, out)
    close(out, expected(x, weight, bias), dtype, factor=2)


@every_type
def test_linear_without_a_bias_does_not_read_out(dtype: str) -> None:
    x, weight, out = random(dtype, 3, 40), random(dtype, 64, 40), fill(dtype, 3, 64)
    ops().linear(x, weight, None, out)
    close(out, expected(x, weight, None), dtype, factor=2)


def test_logits_of_halves_are_float32() -> None:
    x, weight, out = random("bfloat16", 3, 40), random("bfloat16", 37, 40), fill("float32", 3, 37)
    ops().linear(x, weight, None, out)
    close(out, expected(x, weight, None), "float32", factor=10)


def test_a_biased_sum_is_rounded_once() -> None:
    bfloat16, unit = DTYPES["bfloat16"], 2.0**-10  # 8 units between the numbers just above 1: 5 are rounded up
    x, weight = np.array([[1, 2 * unit]], bfloat16), np.ones((8, 2), bfloat16)
    out, bias = fill("bfloat16", 1, 8), np.full(8, 3 * unit, bfloat16)
    ops().linear(x, weight, bias, out)
    np.testing.assert_array_equal(wide(out), np.full((1, 8), 1 + 8 * unit, np.float32))


def test_an_empty_batch_multiplies_nothing() -> None:
    ops().linear(fill("float32", 0, 64), fill("float32", 8, 64), fill("float32", 8), fill("float32", 0, 8))


@pytest.mark.parametrize("bias", [fill("float32", 8), fill("bfloat16", 16)])
def test_a_bias_that_does_not_fit_is_refused(bias: np.ndarray) -> None:
    with pytest.raises(ValueError, match="bias"):
        ops().linear(fill("bfloat16", 1, 64), fill("bfloat16", 8, 64), bias, fill("bfloat16", 1, 8))


def test_bfloat16_is_cublas_type_14() -> None:
    x = random("bfloat16", 2, 8)
    assert [operand.type for operand in (gemm(x, x, x[:, :2]).a, gemm(x, x, x[:, :2]).c)] == [14, 14]
