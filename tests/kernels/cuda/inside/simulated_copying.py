"""Moves inside a pool, and runs to and from a staging run: to the byte, surroundings included."""

import numpy as np
import pytest
from arrays import ops

from kernels.cuda.moves import waves

UNITS, UNIT_BYTES = 40, 480  # 30 vectors: no multiple of a block's threads


def pool(units: int = UNITS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (units, UNIT_BYTES), np.uint8)


def moved(array: np.ndarray, moves: list[tuple[int, int, int]]) -> np.ndarray:
    """Return what memmove would make of it."""
    out = array.copy()
    for source, destination, length in moves:
        out[destination : destination + length] = array[source : source + length]
    return out


def check(moves: list[tuple[int, int, int]], seed: int = 0) -> None:
    array = pool()
    expected = moved(array, moves)
    ops(seed=seed).move_runs(array, np.array(moves, np.int64))
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("distance", [-10, -7, -3, -1, 1, 3, 7, 10])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_a_move_is_a_memmove_whatever_overlaps(distance: int, length: int) -> None:
    check([(15, 15 + distance, length)])


@pytest.mark.parametrize("seed", range(3))
def test_moves_apart_go_at_once_in_any_order(seed: int) -> None:
    check([(4, 2, 6), (12, 14, 7), (30, 25, 3), (39, 0, 1)], seed)


def test_a_move_onto_itself_changes_nothing() -> None:
    check([(5, 5, 4)])


def test_sliding_down_in_waves_is_sliding_down_one_by_one() -> None:
    slides, array = [(5, 0, 7), (14, 7, 6), (21, 13, 9)], pool()
    expected = array
    for slide in slides:
        expected = moved(expected, [slide])
    for wave in waves(slides):
        ops().move_runs(array, np.array(wave, np.int64))
    np.testing.assert_array_equal(array, expected)


def test_the_moves_of_a_wave_are_independent() -> None:
    assert list(waves([(5, 0, 3), (10, 20, 2)])) == [[(5, 0, 3), (10, 20, 2)]]
    assert list(waves([(5, 0, 7), (14, 7, 6)])) == [[(5, 0, 7)], [(14, 7, 6)]]  # writes what the first reads
    assert list(waves([(5, 0, 3), (2, 30, 3)])) == [[(5, 0, 3)], [(2, 30, 3)]]  # reads what the first writes
    assert list(waves([(5, 0, 3), (9, 1, 3)])) == [[(5, 0, 3)], [(9, 1, 3)]]  # both write
    assert list(waves([(5, 0, 3), (6, 30, 3)])) == [[(5, 0, 3), (6, 30, 3)]]  # both read
    assert list(waves([])) == []


def test_fragments_are_gathered_into_a_staging_run_and_scattered_out_again() -> None:
    array, staging = pool(), pool(12, seed=1)
    untouched = staging[9:].copy()
    runs = np.array([(30, 0, 1), (3, 1, 5), (20, 6, 3)], np.int64)
    ops().copy_runs(array, staging, runs)
    np.testing.assert_array_equal(staging[:9], array[[30, 3, 4, 5, 6, 7, 20, 21, 22]])
    np.testing.assert_array_equal(staging[9:], untouched)
    other = pool(seed=2)
    expected = other.copy()
    expected[[30, 3, 4, 5, 6, 7, 20, 21, 22]] = staging[:9]
    ops().copy_runs(staging, other, runs[:, [1, 0, 2]].copy())
    np.testing.assert_array_equal(other, expected)


def test_units_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="units of 480 and 240 bytes"):
        ops().copy_runs(pool(), pool()[:, :240].copy(), np.array([(0, 0, 1)], np.int64))
