"""Compare an op on the device with its reference. Guards around each array show writes out of bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.checks.check import require
from benchmarks.gpu.under_test import GPUUnderTest
from kernels import reference
from service.execution.gpu.runtime import Array, Stream
from service.execution.gpu.supported import element_type

# Relative and absolute, for results of order 1. The reference computes in float32 on the same rounded inputs, so what
# remains is the rounding of the result, and for float32 the order of sums and the device's approximate functions.
TOLERANCES = {"float32": (2e-5, 4e-6), "float16": (2**-10, 2**-13), "bfloat16": (2**-7, 2**-10)}
EXACT = 0.0
GUARD_BYTES = 1024  # before and after each array: NaN, or -1; keeps the array aligned for vectors and cuBLAS


@dataclass(frozen=True, slots=True)
class Case:
    """One call of an op. ``arguments``: in the op's order, with arrays of the host. ``writes``: those that it changes.

    Arrays among ``typed`` take the element type under test, all others keep theirs. ``slack``: a factor on the type's
    tolerance; `EXACT` compares bit by bit. ``defined``: the part of a written array that the op defines.
    """

    op: str
    arguments: tuple[Any, ...]
    writes: tuple[int, ...]
    typed: tuple[int, ...] = ()
    slack: float = 1.0
    defined: Mapping[int, Any] = field(default_factory=dict)


def unwritten(*shape: int) -> NDArray[np.float32]:
    """Return an array for results, filled with NaN."""
    return np.full(shape, np.nan, np.float32)


def check_case(gpu: GPUUnderTest, ops: Any, stream: Stream, case: Case, dtype: str) -> None:
    """Run a case on the device. Raises AssertionError, with the first difference from the reference."""
    inputs = [_typed(value, dtype) if n in case.typed else value for n, value in enumerate(case.arguments)]
    expected = [_wide(value) if isinstance(value, np.ndarray) else value for value in inputs]
    getattr(reference, case.op)(*expected)
    guarded = [_Guarded(gpu, value) if isinstance(value, np.ndarray) else None for value in inputs]
    arguments = [value if here is None else here.array for value, here in zip(inputs, guarded, strict=True)]
    with gpu.runtime.bound():
        getattr(ops, case.op)(*arguments)
        stream.record().wait()
    for number, (value, here) in enumerate(zip(inputs, guarded, strict=True)):
        if here is not None:
            got = here.read(f"argument {number}")
            if number in case.writes:
                part = case.defined.get(number, ...)
                _compare(got[part], expected[number][part], dtype, case.slack, f"argument {number}")
            else:
                require(got.tobytes() == value.tobytes(), f"argument {number} is an input and has changed")


class _Guarded:
    """An array on the device with guards around it."""

    def __init__(self, gpu: GPUUnderTest, values: NDArray[Any]) -> None:
        self._gpu = gpu
        memory = np.full(GUARD_BYTES + values.nbytes + GUARD_BYTES, 0xFF, np.uint8)
        self._inside = slice(GUARD_BYTES, GUARD_BYTES + values.nbytes)
        memory[self._inside] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._memory = gpu.put(memory)
        self.array: Array = self._memory[self._inside].view(values.dtype).reshape(values.shape)

    def read(self, what: str) -> NDArray[Any]:
        """Return the array's present values. Raises AssertionError if a guard has changed."""
        memory = self._gpu.read(self._memory)
        outside = np.delete(memory, self._inside)
        require(bool((outside == 0xFF).all()), f"{what}: memory around it has changed")
        return memory[self._inside].view(self.array.dtype).reshape(self.array.shape)


def _compare(got: NDArray[Any], expected: NDArray[Any], dtype: str, slack: float, what: str) -> None:
    wide = _wide(got)
    if slack == EXACT or not np.issubdtype(wide.dtype, np.floating):
        same, precision = (wide == expected) | (np.isnan(wide) & np.isnan(expected)), "exactly"
    else:
        relative, absolute = (slack * tolerance for tolerance in TOLERANCES[dtype])
        same = np.isclose(wide, expected, rtol=relative, atol=absolute, equal_nan=True)
        precision = f"to {relative:.1e}"
    if not same.all():
        at = tuple(int(index) for index in np.argwhere(~same)[0])
        values = f"first at {at}: {wide[at]}, not {expected[at]}"
        raise AssertionError(f"{what}: {int((~same).sum())} of {same.size} differ, {values} {precision}")


def _typed(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    return values.astype(element_type(dtype))


def _wide(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy, in float32 if the values are floating-point: the type in which the reference computes."""
    kind = np.float32 if values.dtype.name in TOLERANCES else values.dtype
    return values.astype(kind, copy=True)


def normal(seed: Sequence[int], *shape: int) -> NDArray[np.float32]:
    """Return normally distributed numbers of order 1."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
