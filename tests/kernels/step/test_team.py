"""A team runs every unit once, one operation after the other, with any number of members on any number of threads."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numba
import numpy as np
import pytest

from kernels.cpu.step import step_input, team
from kernels.cpu.step.memory import longs
from kernels.cpu.step.program import Operation, Program
from kernels.cpu.step.unit_kernel import unit_kernel

BEFORE, BEFORE_UNITS, RUNS, SEEN, SPOILT, WORDS = range(3, 9)
# Addresses of int64: how often each unit of the operation before has run, and at how many of them to look; how often
# each of this one has, what it saw there, and how many words of its scratch memory it found changed, of so many.

MOST = 200  # units of an operation
MEMBERS = (1, 2, 3, 5)
THREADS = range(1, min(2, numba.config.NUMBA_NUM_THREADS) + 1)
DRAWS, TILES, ROWS_PER_UNIT = step_input.DRAWS, step_input.TILES, step_input.ROWS_PER_UNIT


@unit_kernel
def note(op, step, unit, scratch):
    """Note that a unit runs, how much of the operation before is done, and whether another one has the same scratch."""
    operands, own = longs(op), longs(scratch)
    before, spoilt = longs(operands[BEFORE]), longs(operands[SPOILT])
    runs, seen = longs(operands[RUNS]), longs(operands[SEEN])
    rounds = unit % 7 * 64  # some units take longer than others, up to some microseconds
    for i in range(operands[WORDS]):
        own[i] = unit
    for i in range(operands[BEFORE_UNITS]):
        seen[unit] += before[i]
    for _ in range(rounds):
        for i in range(operands[WORDS]):
            own[i] += 1
    for i in range(operands[WORDS]):
        spoilt[unit] += own[i] != unit + rounds
    runs[unit] += 1


class Notes:
    """A program of such operations, whose units are counted as ``counts`` say, and what they noted."""

    def __init__(self, counts: Sequence[tuple[int, int]], members: int) -> None:
        self.runs, self.seen, self.spoilt = np.zeros((3, len(counts), MOST), np.int64)
        operations = [Operation(note, *count, self._operands(index)) for index, count in enumerate(counts)]
        self.program = Program(operations, members, 4096)

    def _operands(self, index: int) -> dict[int, int]:
        arrays = {BEFORE: self.runs[index - 1], RUNS: self.runs[index], SEEN: self.seen[index]}
        addresses = {place: array.ctypes.data for place, array in arrays.items()}
        numbers = {BEFORE_UNITS: MOST if index else 0, WORDS: 256}
        return addresses | numbers | {SPOILT: self.spoilt[index].ctypes.data}

    def expect(self, units: Sequence[int], inputs: dict[int, int] | None = None) -> None:
        """Run the program; check that each operation has so many units, and each ran once all before had."""
        self.runs[:], self.seen[:] = 0, 0
        step = np.zeros(step_input.NUM_INPUTS, np.int64)
        for place, value in (inputs or {}).items():
            step[place] = value
        self.program.run(step)
        for index, count in enumerate(units):
            np.testing.assert_array_equal(self.runs[index], np.arange(MOST) < count)
            np.testing.assert_array_equal(self.seen[index, :count], units[index - 1] if index else 0)
        assert not self.spoilt.any()


@pytest.fixture(params=THREADS, ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set how many threads Numba's pool really has; with one, members run one after the other."""
    before = numba.get_num_threads()
    numba.set_num_threads(request.param)
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize(
    ("counted", "units", "inputs", "expected"),
    [
        (team.FIXED, 7, {}, 7),
        (team.FIXED, 0, {}, 0),
        (DRAWS, 1, {DRAWS: 9, ROWS_PER_UNIT: 1}, 9),
        (DRAWS, 1, {DRAWS: 9, ROWS_PER_UNIT: 4}, 3),
        (DRAWS, 5, {DRAWS: 9, ROWS_PER_UNIT: 8}, 10),
        (DRAWS, 5, {DRAWS: 0, ROWS_PER_UNIT: 8}, 0),
        (-TILES, 3, {TILES: 11, ROWS_PER_UNIT: 8}, 33),
        (-TILES, 3, {TILES: 0, ROWS_PER_UNIT: 8}, 0),
    ],
)
def test_units_are_counted(counted: int, units: int, inputs: dict[int, int], expected: int, threads: None) -> None:
    after = 4
    Notes([(counted, units), (team.FIXED, after)], members=2).expect([expected, after], inputs)


@pytest.mark.parametrize("members", MEMBERS)
def test_every_unit_runs_once_after_the_operation_before(members: int, threads: None) -> None:
    counts = [(team.FIXED, 1), (team.FIXED, MOST), (DRAWS, 2), (team.FIXED, 0), (-TILES, 3), (team.FIXED, 1)] * 10
    notes = Notes(counts, members)
    for _ in range(20):  # long enough that threads do run beside each other
        notes.expect([1, MOST, 22, 0, 21, 1] * 10, {DRAWS: 41, ROWS_PER_UNIT: 4, TILES: 7})


@pytest.mark.parametrize("members", MEMBERS)
def test_a_program_runs_again_and_again_on_other_steps(members: int, threads: None) -> None:
    notes = Notes([(DRAWS, 3), (team.FIXED, 5), (-TILES, 2)], members)
    for number in range(300):
        rows, tiles = number * 7 % 40, number * 3 % 50
        notes.expect([rows * 3, 5, tiles * 2], {DRAWS: rows, ROWS_PER_UNIT: 1, TILES: tiles})


def test_a_program_without_operations_ends(threads: None) -> None:
    Notes([], members=2).expect([])


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Keep every core busy with something else."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        yield
    finally:
        for other in others:
            other.kill()
            other.communicate()


@pytest.mark.parametrize("members", MEMBERS)
def test_a_team_ends_on_busy_cores(members: int, threads: None, busy_cores: None) -> None:
    notes = Notes([(team.FIXED, 8)] * 50, members)
    for _ in range(10):
        notes.expect([8] * 50)


@pytest.mark.skipif(len(THREADS) > 1, reason="these threads are here")
def test_all_of_this_holds_with_two_threads() -> None:
    """Numba's pool never grows beyond the threads that a process began with."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, env=inherited | {"NUMBA_NUM_THREADS": "2"}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout
