"""What a launch must know of a kernel."""

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
BLOCK_TOKENS = 1 << BLOCK_SHIFT  # in a block of KV; a power of two, so that places need no division


@dataclass(frozen=True)
class Kernel:
    """A kernel of one specialisation.

    parameters: Numba types; arrays are pointers to their first element. threads: of a block, as (x, y). registers: a
    thread's at most, on any architecture; the tests that look at the generated code hold the kernel to it. resident:
    blocks that a multiprocessor shall hold at once, for which the compiler saves registers; 0 if that is its choice.
    """

    name: str
    function: Callable[..., None]
    parameters: tuple[Any, ...]
    threads: tuple[int, int]
    registers: int
    resident: int = 0


class Launch(Protocol):
    """Starts kernels in order, on whatever stream it stands for."""

    def __call__(self, kernel: Kernel, grid: tuple[int, ...], *arguments: Any) -> None:
        """Start ``grid`` blocks (up to three dimensions); arguments in the order of ``kernel.parameters``.

        Arrays are C-contiguous; scalars are Python numbers.
        """


def device(function: Callable) -> Any:
    """A function that kernels call: compiled into them, or in the simulator called as it is."""
    if SIMULATED:
        return function
    from numba import cuda  # noqa: PLC0415

    return cuda.jit(device=True)(function)
