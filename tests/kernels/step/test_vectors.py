"""Each word of `vectors` computes what it says, by every instruction that this machine has."""

import math

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from llvmlite import ir

from kernels.cpu.step.features import DOTS, Features
from kernels.cpu.step.vectors import BYTES, FLOATS, INTS, PAIRS, Emit
from tests.kernels.step.calls import assert_same_bits
from tests.kernels.step.words import Native

FLAGS = llvm.get_host_cpu_features()
HERE = [*(dot for dot in DOTS if FLAGS.get(dot)), "generic"]
GENERIC = Features("generic", bf16=False, wide=False)


def add_dot_bytes(emit: Emit, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> None:
    operands = emit.load(INTS, total), emit.load(BYTES, unsigned), emit.load(BYTES, signed)
    emit.store(emit.add_dot_bytes(*operands), total)


def add_dot_pairs(emit: Emit, total: ir.Value, a: ir.Value, b: ir.Value) -> None:
    emit.store(emit.add_dot_pairs(emit.load(FLOATS, total), emit.load(PAIRS, a), emit.load(PAIRS, b)), total)


def dots(function: Native, total: np.ndarray, unsigned: np.ndarray, signed: np.ndarray) -> np.ndarray:
    out = total.copy()
    function(out.ctypes.data, unsigned.ctypes.data, signed.ctypes.data)
    return out


def expected_dots(total: np.ndarray, unsigned: np.ndarray, signed: np.ndarray) -> np.ndarray:
    return total + (unsigned.astype(np.int32) * signed).reshape(16, 4).sum(axis=1, dtype=np.int32)


@pytest.mark.parametrize("dot", HERE)
def test_dot_products_of_random_bytes_are_exact(dot: str) -> None:
    function, rng = Native(add_dot_bytes, 3, Features(dot, bf16=False, wide=False)), np.random.default_rng(0)
    for _ in range(200):
        unsigned, signed = rng.integers(0, 256, 64, dtype=np.uint8), rng.integers(-128, 128, 64, dtype=np.int8)
        total = rng.integers(-(2**24), 2**24, 16, dtype=np.int32)
        np.testing.assert_array_equal(dots(function, total, unsigned, signed), expected_dots(total, unsigned, signed))


@pytest.mark.parametrize("dot", HERE)
def test_dot_products_of_extreme_bytes_neither_saturate_nor_overflow(dot: str) -> None:
    function, total = Native(add_dot_bytes, 3, Features(dot, bf16=False, wide=False)), np.arange(16, dtype=np.int32)
    for u in (0, 1, 127, 128, 255):
        for s in (-128, -127, -1, 0, 1, 127):
            unsigned, signed = np.full(64, u, np.uint8), np.full(64, s, np.int8)
            out = dots(function, total, unsigned, signed)
            np.testing.assert_array_equal(out, expected_dots(total, unsigned, signed))


@pytest.mark.parametrize("dot", HERE)
@pytest.mark.parametrize("largest", [15, 63])
def test_dot_products_of_small_bytes_do_not_saturate(dot: str, largest: int) -> None:
    def add_small(emit: Emit, total: ir.Value, *operands: ir.Value) -> None:
        values = (
            emit.load(kind, address) for kind, address in zip((INTS, BYTES, BYTES), (total, *operands), strict=True)
        )
        emit.store(emit.add_dot_bytes(*values, largest), total)

    function, total = Native(add_small, 3, Features(dot, bf16=False, wide=False)), np.arange(16, dtype=np.int32)
    for s in (-128, -127, -1, 0, 1, 127):
        unsigned, signed = np.full(64, largest, np.uint8), np.full(64, s, np.int8)
        np.testing.assert_array_equal(dots(function, total, unsigned, signed), expected_dots(total, unsigned, signed))


@pytest.mark.parametrize("dot", HERE)
def test_a_byte_reaches_only_its_lane(dot: str) -> None:
    function, zeros = Native(add_dot_bytes, 3, Features(dot, bf16=False, wide=False)), np.zeros(16, np.int32)
    for byte in range(64):
        unsigned, signed = np.zeros(64, np.uint8), np.full(64, -128, np.int8)
        unsigned[byte] = 255
        out = dots(function, zeros, unsigned, signed)
        assert (np.flatnonzero(out).tolist(), out[byte // 4]) == ([byte // 4], 255 * -128)


def pairs(function: Native, total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = total.copy()
    function(out.ctypes.data, a.ctypes.data, b.ctypes.data)
    return out


def bfloats(rng: np.random.Generator) -> np.ndarray:
    """Return 32 numbers whose products are normal."""
    return (rng.standard_normal(32, np.float32) * np.float32(2) ** rng.integers(-20, 20, 32)).astype(ml_dtypes.bfloat16)


def exact_pairs(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sums, of which math.fsum and float64 round nothing but the last step: the second pair goes first."""
    products = a.astype(np.float64) * b.astype(np.float64)
    out = total.copy()
    for lane in range(16):
        for product in (products[2 * lane + 1], products[2 * lane]):
            out[lane] = np.float32(math.fsum([product, float(out[lane])]))
    return out


def test_dot_products_of_bfloat16_are_fused_the_second_pair_first() -> None:
    function, rng = Native(add_dot_pairs, 3, GENERIC), np.random.default_rng(0)
    for _ in range(100):
        total, a, b = rng.standard_normal(16, np.float32), bfloats(rng), bfloats(rng)
        np.testing.assert_array_max_ulp(pairs(function, total, a, b), exact_pairs(total, a, b), 1)
    total, a, b = np.full(16, 1, np.float32), np.zeros(32), np.zeros(32)
    a[0::2], b[0::2], a[1::2], b[1::2] = (
        1,
        1,
        2**12,
        2**12,
    )  # 1 + 2^24 and 2^24 + 1 are rounded to 2^24, 1 + 1 + 2^24 is exact
    out = pairs(function, total, a.astype(ml_dtypes.bfloat16), b.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(out, np.full(16, 2**24, np.float32))


@pytest.mark.skipif(not FLAGS.get("avx512bf16"), reason="this machine has no instruction for bfloat16")
def test_the_instruction_for_bfloat16_computes_the_same() -> None:
    instruction = Native(add_dot_pairs, 3, Features("avx512vnni", bf16=True, wide=True))
    by_words, rng = Native(add_dot_pairs, 3, GENERIC), np.random.default_rng(0)
    for _ in range(500):
        total, a, b = rng.standard_normal(16, np.float32), bfloats(rng), bfloats(rng)
        assert_same_bits(pairs(instruction, total, a, b), pairs(by_words, total, a, b))


def one(emit_word: str, kind: ir.Type = FLOATS) -> Native:
    """Return a function that stores a word of one vector."""

    def function(emit: Emit, source: ir.Value, out: ir.Value) -> None:
        emit.store(getattr(emit, emit_word)(emit.load(kind, source)), out)

    return Native(function, 2, GENERIC)


def test_rounding_to_bfloat16_is_to_nearest_even_and_keeps_nan() -> None:
    function, rng = one("rounded_to_bfloat"), np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (4000, 16), np.uint64).astype(np.uint32)
    bits[0, :6] = 0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x80000001
    bits[1, :6] = 0x7F800000, 0xFF800000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF
    rounded = np.empty(bits.shape, np.uint16)
    for row, out in zip(bits, rounded, strict=True):
        function(row.ctypes.data, out.ctypes.data)
    values = bits.view(np.float32)
    numbers = ~np.isnan(values)
    expected = values[numbers].astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(rounded[numbers], expected)
    assert np.isnan(rounded[~numbers].view(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_a_sum_of_floats_adds_halves_until_one_is_left() -> None:
    function, rng = one("sum_of_floats"), np.random.default_rng(0)
    for _ in range(100):
        values = (rng.standard_normal(16) * 10.0 ** rng.integers(-6, 6, 16)).astype(np.float32)
        out, expected = np.empty(1, np.float32), values
        function(values.ctypes.data, out.ctypes.data)
        while len(expected) > 1:
            expected = expected[: len(expected) // 2] + expected[len(expected) // 2 :]
        assert_same_bits(out, expected)


@pytest.mark.parametrize(("word", "numpy"), [("sum_of_ints", np.sum), ("largest", np.max)])
def test_reductions_of_integers(word: str, numpy: object) -> None:
    function, rng = one(word, INTS), np.random.default_rng(0)
    for _ in range(20):
        values, out = rng.integers(0, 2**27, 16, dtype=np.uint32), np.empty(1, np.uint32)
        function(values.ctypes.data, out.ctypes.data)
        assert out[0] == numpy(values)


@pytest.mark.parametrize("dot", HERE)
@pytest.mark.parametrize(("word", "kind"), [("widened_halves", np.float16), ("widened_bfloats", ml_dtypes.bfloat16)])
def test_all_16_bit_numbers_are_widened_exactly(word: str, kind: type, dot: str) -> None:
    def function(emit: Emit, source: ir.Value, out: ir.Value) -> None:
        emit.store(getattr(emit, word)(source), out)

    features = Features(dot, bf16=False, wide=False)
    native, source = Native(function, 2, features), np.arange(2**16, dtype=np.uint16).view(kind)
    out = np.empty(len(source), np.float32)
    for first in range(0, len(source), 16):
        native(source[first:].ctypes.data, out[first:].ctypes.data)
    assert_same_bits(out, source.astype(np.float32))


def test_four_bytes_are_repeated_everywhere() -> None:
    def function(emit: Emit, source: ir.Value, out: ir.Value) -> None:
        emit.store(emit.everywhere(BYTES, source, 1), out)

    source, out = np.arange(10, dtype=np.uint8), np.empty(64, np.uint8)
    Native(function, 2, GENERIC)(source.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, np.tile([1, 2, 3, 4], 16))
