"""The form of all code that a step's program calls: ``kernel(op, step, unit, scratch)``, four addresses or numbers.

``op`` and ``step`` are arrays of int64: the operation's operands, and what this step is. A unit is a part of an
operation that touches no other part's outputs, so units run in any order on any thread. ``scratch`` is memory of the
thread. Kernels raise nothing: there is no way out of a team.
"""

# mypy: allow-untyped-calls, disallow-any-generics = False

from collections.abc import Callable
from functools import cached_property
from typing import cast

from numba import cfunc, types

SIGNATURE = types.void(types.int64, types.int64, types.int64, types.int64)


class UnitKernel:
    """A kernel that is compiled, or loaded from the cache on disk, when its address is first asked for."""

    def __init__(self, function: Callable[[int, int, int, int], None]) -> None:
        self.function = function
        self.name = function.__name__

    @cached_property
    def address(self) -> int:
        """Where the machine code is."""
        self._compiled = cfunc(SIGNATURE, cache=True, error_model="numpy")(self.function)
        return cast(int, self._compiled.address)

    def compile(self) -> None:
        """Compile or load it now."""
        _ = self.address


def unit_kernel(function: Callable[[int, int, int, int], None]) -> UnitKernel:
    """Make a function of int64 a kernel."""
    return UnitKernel(function)
