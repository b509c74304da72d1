"""Packed weights: the layout holds what the file says, whatever the number of rows."""

import ml_dtypes
import numpy as np
import pytest

from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.bfloat16 import BFloat16
from kernels.cpu.step.formats.format import Quantised
from tests.stored_weights import meant, random_rows, unpacked

QUANTISED = {name: each for name, each in FORMATS.items() if isinstance(each, Quantised)}


def pack(name: str, raw: np.ndarray, columns: int) -> np.ndarray:
    out = np.zeros((-(-len(raw) // 16), FORMATS[name].group_bytes(columns)), np.uint8)
    FORMATS[name].pack(raw, out)
    return out


def sizes(name: str) -> list[int]:
    """Return numbers of columns: one block, several, an odd number of them."""
    return [block * FORMATS[name].columns for block in (1, 3, 4)]


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 48, 53])
@pytest.mark.parametrize("name", FORMATS)
def test_packed_rows_mean_what_the_package_reads_in_the_file(name: str, rows: int) -> None:
    for columns in sizes(name):
        raw = random_rows(name, rows, columns, np.random.default_rng(rows))
        packed = pack(name, raw, columns)
        np.testing.assert_array_equal(unpacked(name, packed, rows, columns), meant(name, raw))


@pytest.mark.parametrize("name", FORMATS)
def test_rows_that_the_last_group_lacks_are_zeros_of_the_file(name: str) -> None:
    columns = 3 * FORMATS[name].columns
    raw = random_rows(name, 21, columns, np.random.default_rng(0))
    padded = np.concatenate((raw, np.zeros((11, raw.shape[1]), np.uint8)))
    np.testing.assert_array_equal(pack(name, raw, columns), pack(name, padded, columns))
    assert not unpacked(name, pack(name, raw, columns), 32, columns)[21:].any()


@pytest.mark.parametrize("name", FORMATS)
def test_rows_in_memory_that_cannot_be_written_are_packed_alike(name: str) -> None:
    columns = 2 * FORMATS[name].columns
    raw = random_rows(name, 35, columns, np.random.default_rng(0))
    frozen = np.frombuffer(raw.tobytes(), np.uint8).reshape(raw.shape)
    np.testing.assert_array_equal(pack(name, frozen, columns), pack(name, raw, columns))
    assert raw.flags.writeable


@pytest.mark.parametrize("name", FORMATS)
def test_rows_may_begin_at_any_address(name: str) -> None:
    columns = 2 * FORMATS[name].columns
    raw = random_rows(name, 35, columns, np.random.default_rng(0))
    odd = np.empty(raw.size + 1, np.uint8)[1:].reshape(raw.shape)
    odd[:] = raw
    np.testing.assert_array_equal(pack(name, odd, columns), pack(name, raw, columns))


@pytest.mark.parametrize("name", FORMATS)
def test_groups_and_their_quants_begin_at_vectors(name: str) -> None:
    for columns in sizes(name):
        assert FORMATS[name].group_bytes(columns) % 64 == 0
    if name in QUANTISED:
        assert QUANTISED[name].scale_section(3 * QUANTISED[name].columns) % 64 == 0


@pytest.mark.parametrize("name", QUANTISED)
def test_decoded_quants_and_scales_are_the_packages_numbers(name: str) -> None:
    raw = random_rows(name, 5, 4 * QUANTISED[name].columns, np.random.default_rng(0))
    decoded = QUANTISED[name].decode(raw)
    assert decoded.offset == QUANTISED[name].offset
    np.testing.assert_array_equal(decoded.dequantised(), meant(name, raw))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_decoded_numbers_are_the_packages(name: str) -> None:
    raw = random_rows(name, 5, 7, np.random.default_rng(0))
    np.testing.assert_array_equal(FORMATS[name].decode(raw), meant(name, raw))


def test_rounding_to_bfloat16_is_to_nearest_even() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (50, 2000), np.uint64).astype(np.uint32)
    bits[0, :8] = [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FFFFFFF]
    values = bits.view(np.float32)
    rounded = BFloat16().round(values).view(ml_dtypes.bfloat16)
    numbers = ~np.isnan(values)
    expected = values[numbers].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(rounded[numbers].view(np.uint16), expected.view(np.uint16))
    assert np.isnan(rounded[~numbers].astype(np.float32)).all()
