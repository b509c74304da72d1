"""Runs kernels on the CPU, to see what they compute: one greenlet a CUDA thread, one block after the other.

Numba's own simulator has no shuffles and starts an operating-system thread a CUDA thread; this one takes the place of
its launch, in a process with ``NUMBA_ENABLE_CUDASIM=1``. It raises where a GPU would go wrong in silence: an access
out of bounds, a barrier or an instruction of a whole warp that not all threads reach. Blocks, and warps between two
barriers, run in an order drawn from a seed, and shared and local memory begin as NaN, so that what depends on either
shows. Nothing about speed follows from it, and it checks no types: `compiling` does.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from greenlet import GreenletExit, getcurrent, greenlet
from numba import cuda
from numba.cuda import types
from numba.cuda.np import numpy_support

from kernels.cuda.kernel import Bytes, Kernel

WARP = 32
VECTOR_BYTES = 16
BARRIER = "barrier"


class DivergenceError(RuntimeError):
    """Some threads wait where others do not come."""


class Memory:
    """A flat view of an array that knows its bounds; plays the part of a pointer."""

    def __init__(self, array: np.ndarray, dtype: Any) -> None:
        self._items = array.reshape(-1).view(dtype)
        if array.size and not np.shares_memory(array, self._items):
            raise ValueError(f"an array of shape {array.shape}, strides {array.strides} is not contiguous")

    def __getitem__(self, index: Any) -> Any:
        return self._items[self._checked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[self._checked(index)] = value

    def _checked(self, index: Any) -> int:
        if not 0 <= index < len(self._items):
            raise IndexError(f"{index} is not among {len(self._items)} elements")
        return int(index)


class _Dimensions:
    def __init__(self, *sizes: int) -> None:
        self.x, self.y, self.z = (*sizes, 1, 1, 1)[:3]


class _Thread(greenlet):  # type: ignore[misc]
    """A CUDA thread; ``state`` is what it waits for, with its place in the program; ``copies`` it has started."""

    def __init__(self, number: int, block: "_Block", arguments: list[Any]) -> None:
        super().__init__(lambda: block.function(*arguments))
        self.block, self.lane = block, number % WARP
        width = block.dimensions.x
        self.index = _Dimensions(number % width, number // width, 0)
        self.state: Any = None
        self.given: Any = None
        self.work: Any = None
        self.answer: Any = None
        self.copies: list[Any] = []


class _Block:
    def __init__(self, kernel: Kernel, index: tuple[int, ...], grid: tuple[int, ...]) -> None:
        self.function, self.index, self.grid = kernel.function, _Dimensions(*index), _Dimensions(*grid)
        self.dimensions = _Dimensions(*kernel.threads)
        self.shared: dict[Any, np.ndarray] = {}

    def run(self, arguments: list[Any], rng: np.random.Generator) -> None:
        threads = [_Thread(n, self, arguments) for n in range(self.dimensions.x * self.dimensions.y)]
        warps = [threads[first : first + WARP] for first in range(0, len(threads), WARP)]
        try:
            while not all(thread.dead for thread in threads):
                for warp in rng.permutation(len(warps)):
                    _run_to_barrier(warps[warp])
                _agree(threads)
        finally:
            for thread in threads:
                if not thread.dead:
                    thread.throw(GreenletExit)


def _run_to_barrier(warp: list[_Thread]) -> None:
    while True:
        for thread in warp:
            if not thread.dead:
                thread.state = None
                thread.switch()
        if all(thread.dead or thread.state[0] == BARRIER for thread in warp):
            return
        _agree(warp)
        answers = warp[0].work([thread.given for thread in warp])
        for thread, answer in zip(warp, answers, strict=True):
            thread.answer = answer


def _agree(threads: list[_Thread]) -> None:
    """All wait at one place of the program, or all are done."""
    states = {("done",) if thread.dead else thread.state for thread in threads}
    if len(states) > 1:
        raise DivergenceError(f"threads of one group are at {sorted(map(str, states))}")


def _wait(what: str, frame: Any) -> _Thread:
    thread: _Thread = getcurrent()
    thread.state = (what, frame.f_code.co_name, frame.f_lineno)
    thread.parent.switch()
    return thread


def _syncthreads() -> None:
    _wait(BARRIER, sys._getframe(1))


def collective(name: str, value: Any, work: Callable[[list[Any]], Sequence[Any]]) -> Any:
    """An instruction of the whole warp: ``work`` makes of its lanes' values an answer for each."""
    thread = getcurrent()
    thread.given, thread.work = value, work
    return _wait(name, sys._getframe(2)).answer


def _shuffle_xor(mask: int, value: Any, lanes: int) -> Any:
    if mask != 0xFFFFFFFF:
        raise ValueError(f"mask {mask:#x}: only whole warps shuffle here")
    return collective("shuffle", value, lambda values: [values[lane ^ lanes] for lane in range(len(values))])


def _poisoned(shape: Any, kind: Any) -> np.ndarray:
    array: np.ndarray = np.empty(shape, _number(kind))
    array.view(np.uint8)[...] = 0xFF
    return array


class _Shared:
    def array(self, shape: Any, dtype: Any, alignment: int = 0) -> np.ndarray:
        """One array a block for each place that asks: two on one line differ."""
        frame = sys._getframe(1)
        shared: dict[Any, np.ndarray] = getcurrent().block.shared
        key = (frame.f_code, frame.f_lasti)
        if key not in shared:
            shared[key] = _poisoned(shape, dtype)
        return shared[key]


class _Local:
    array = staticmethod(_poisoned)


class _Atomic:
    """A thread runs until it waits, so nothing comes between. All return what was there."""

    @staticmethod
    def add(array: Any, index: int, value: Any) -> Any:
        before = array[index]
        array[index] = (np.full(1, before) + before.dtype.type(value))[
            0
        ]  # unlike numbers, arrays wrap round in silence
        return before

    @staticmethod
    def max(array: Any, index: int, value: Any) -> Any:
        before = array[index]
        array[index] = max(before, value)
        return before

    @staticmethod
    def min(array: Any, index: int, value: Any) -> Any:
        before = array[index]
        array[index] = min(before, value)
        return before


class _Grid:
    """``cuda`` as kernels see it while they run here."""

    threadIdx = property(lambda self: getcurrent().index)
    blockIdx = property(lambda self: getcurrent().block.index)
    blockDim = property(lambda self: getcurrent().block.dimensions)
    gridDim = property(lambda self: getcurrent().block.grid)
    shared, local, atomic = _Shared(), _Local(), _Atomic()
    syncthreads = staticmethod(_syncthreads)
    shfl_xor_sync = staticmethod(_shuffle_xor)


def _see_this_grid() -> None:
    """Let every kernel module's ``cuda`` be `_Grid`, and its types NumPy's: Numba's take 4 us to convert a number."""
    grid = _Grid()
    for name, module in list(sys.modules.items()):
        if name.startswith("kernels.cuda.") and getattr(module, "cuda", None) is cuda and name != __name__:
            numbers = {key: _number(value) for key, value in vars(module).items() if isinstance(value, types.Number)}
            vars(module).update(numbers, cuda=grid)


def _number(kind: Any) -> Any:
    """NumPy's type of a number, of Numba's or already NumPy's."""
    return numpy_support.as_dtype(kind).type if isinstance(kind, types.Number) else kind


def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: Any, seed: int = 0) -> None:
    """A `kernel.Launch` on NumPy arrays; returns when the kernel has ended."""
    _see_this_grid()
    given = [_argument(kind, value) for kind, value in zip(kernel.parameters, arguments, strict=True)]
    rng = np.random.default_rng(seed)
    for number in rng.permutation(int(np.prod(grid))):
        index = np.unravel_index(number, grid)
        _Block(kernel, tuple(map(int, index)), grid).run(given, rng)


def _argument(kind: Any, value: Any) -> Any:
    """Pointers and scalars of the type that the kernel declares."""
    if isinstance(kind, types.CPointer):
        if kind == Bytes and value.ctypes.data % VECTOR_BYTES:
            raise ValueError(
                f"an array of shape {value.shape} begins within {VECTOR_BYTES} bytes that are read at once"
            )
        return Memory(value, _number(kind.dtype))
    return _number(kind)(value)


def multiply(x: np.ndarray, weight: np.ndarray, out: np.ndarray, *, accumulate: bool) -> None:
    """A `matrices.Multiply` on NumPy arrays."""
    product = x.astype(np.float32) @ weight.astype(np.float32).T
    out[...] = product + out.astype(np.float32) if accumulate else product
