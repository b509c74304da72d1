"""The list of operations that a team runs, and the arrays that it needs for it.

An operation is a row of `team.OPERANDS` int64: its kernel's address, how its units are counted, and its operands, whose
places its kernel's file names. A program is written once, and told of each step by an array of `step_input`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.step import attention, many_rows, team
from kernels.cpu.step.unit_kernel import UnitKernel

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Operation:
    """A kernel, the values of its operands by their places, and how many units there are.

    ``counted``: `team.FIXED`, so many; an input of the step (`step_input.TOKENS`, `DRAWS`), so many for each few of its
    rows; or an input's negative, so many for each.
    """

    kernel: UnitKernel
    counted: int
    units: int
    operands: Mapping[int, int]


class Program:
    """Operations for a team of ``threads``, with their counters and scratch memory of so many bytes a thread."""

    def __init__(self, operations: Sequence[Operation], threads: int, row_bytes: int) -> None:
        self.kernels = tuple(dict.fromkeys(operation.kernel for operation in operations))
        self._threads = threads
        self._operations = operations
        self._ops = np.zeros((len(operations), team.OPERANDS), np.int64)
        self._counters = np.zeros((len(operations), team.COUNTERS), np.int64)
        scratch = max(attention.SCRATCH_BYTES + row_bytes, many_rows.SCRATCH_BYTES)
        self._scratch = zeros((threads, -(-scratch // 4096) * 4096))
        self._is_ready = False

    def run(self, step: Longs) -> None:
        """Run all operations on a step: int64 [`step_input.NUM_INPUTS`]. Compiles what is not compiled yet."""
        if not self._is_ready:
            self._prepare()
        team.run(self._threads, self._ops, step, self._counters, self._scratch)

    def _prepare(self) -> None:
        for row, operation in zip(self._ops, self._operations, strict=True):
            row[team.KERNEL], row[team.COUNTED] = operation.kernel.address, operation.counted
            row[team.UNITS] = operation.units
            for place, value in operation.operands.items():
                row[place] = value
        self._is_ready = True


def zeros(shape: Sequence[int]) -> Bytes:
    """Return touched bytes that begin at a page, so that vectors do not cross cache lines. Raises MemoryError."""
    size = int(np.prod(shape))
    memory = np.full(size + 4096, 0, np.uint8)
    first = -memory.ctypes.data % 4096
    return memory[first : first + size].reshape(shape)


def bits(value: float) -> int:
    """Return a float32 as the integer of its bits, the form in which an operand holds it."""
    return int(np.float32(value).view(np.int32))
