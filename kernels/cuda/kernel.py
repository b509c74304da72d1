"""What a launch needs to know about a kernel."""

# mypy: allow-any-generics

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numba.cuda import types
from numba.cuda.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)

Bytes = types.CPointer(types.uint32)  # read and written as 16-byte vectors only
Flags = types.CPointer(types.uint8)  # of bool arrays
Floats = types.CPointer(types.float32)
Ints = types.CPointer(types.int32)
Longs = types.CPointer(types.int64)
UnsignedLongs = types.CPointer(types.uint64)

BLOCK_SHIFT = 4
BLOCK_TOKENS = 1 << BLOCK_SHIFT  # in a block of KV; a power of two, so that slot_mapping needs no division


@dataclass(frozen=True)
class Kernel:
    """A kernel of one specialisation.

    parameters: Numba types; arrays are pointers to their first element. threads: of a block, as (x, y). registers: how
    many a thread uses at most, on any architecture; the tests of the generated code check it. resident: blocks that a
    multiprocessor shall hold at once, for which the compiler saves registers; 0 leaves this to the compiler.
    """

    name: str
    function: Callable[..., None]
    parameters: tuple[Any, ...]
    threads: tuple[int, int]
    registers: int
    resident: int = 0


class Launch(Protocol):
    """Starts kernels in order, on the stream that it stands for."""

    def __call__(self, kernel: Kernel, grid: tuple[int, ...], *arguments: Any) -> None:
        """Start ``grid`` blocks (up to three dimensions); arguments in the order of ``kernel.parameters``.

        Arrays are C-contiguous; scalars are Python numbers.
        """


def device(function: Callable) -> Any:
    """Mark a function that kernels call: it is compiled into them, or called as it is in the simulator."""
    if SIMULATED:
        return function
    from numba import cuda  # noqa: PLC0415

    return cuda.jit(device=True)(function)
