"""Runs kernels on the CPU, to see what they compute: one greenlet a CUDA thread, one block after the other.

Numba's own simulator has no shuffles and starts an operating-system thread a CUDA thread; this one replaces its launch,
in a process with ``NUMBA_ENABLE_CUDASIM=1``. It raises where a GPU would go wrong in silence: at an access out of
bounds, and at a barrier or an instruction of a whole warp that not all threads reach. Blocks, and warps between two
barriers, run in an order drawn from a seed, and shared and local memory begin as NaN, so that a result that depends on
either shows. It says nothing about speed and checks no types: `compiling` does.
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
    """Some threads wait at a place that others do not reach."""


class CheckedPointer:
    """A flat view of an array that checks its bounds; kernels get it as a pointer."""

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
    """A CUDA thread. state: what it waits for, with its place in the program; copies: those that it has started."""

    def __init__(self, number: int, block: "_Block", arguments: list[Any]) -> None:
        super().__init__(lambda: block.function(*arguments))
        self.block, self.lane = block, number % WARP
        width = block.dimensions.x
        self.index = _Dimensions(number % width, number // width, 0)
        self.state: Any = None
        self.value: Any = None
        self.combine: Any = None
        self.result: Any = None
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
                _require_same_place(threads)
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
        _require_same_place(warp)
        results = warp[0].combine([thread.value for thread in warp])
        for thread, result in zip(warp, results, strict=True):
            thread.result = result


def _require_same_place(threads: list[_Thread]) -> None:
    """Raise DivergenceError unless all wait at one place of the program, or all are done."""
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


def collective(name: str, value: Any, combine: Callable[[list[Any]], Sequence[Any]]) -> Any:
    """Execute an instruction of the whole warp: ``combine`` turns its lanes' values into a result for each."""
    thread = getcurrent()
    thread.value, thread.combine = value, combine
    return _wait(name, sys._getframe(2)).result


def _shuffle_xor(mask: int, value: Any, lanes: int) -> Any:
    if mask != 0xFFFFFFFF:
        raise ValueError(f"mask {mask:#x}: only whole warps shuffle here")
    return collective("shuffle", value, lambda values: [values[lane ^ lanes] for lane in range(len(values))])


def _poisoned(shape: Any, kind: Any) -> np.ndarray:
    array: np.ndarray = np.empty(shape, _numpy_type(kind))
    array.view(np.uint8)[...] = 0xFF
    return array


class _Shared:
    def array(self, shape: Any, dtype: Any, alignment: int = 0) -> np.ndarray:
        """Return one array a block for each call in the program, even if two are on one line."""
        frame = sys._getframe(1)
        shared: dict[Any, np.ndarray] = getcurrent().block.shared
        key = (frame.f_code, frame.f_lasti)
        if key not in shared:
            shared[key] = _poisoned(shape, dtype)
        return shared[key]


class _Local:
    array = staticmethod(_poisoned)


class _Atomic:
    """Atomic operations, which return the old value. A thread runs until it waits, so nothing comes between."""

    @staticmethod
    def add(array: Any, index: int, value: Any) -> Any:
        before = array[index]
        # Arrays of numbers wrap round in silence, single numbers do not.
        array[index] = (np.full(1, before) + before.dtype.type(value))[0]
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


def _install_grid() -> None:
    """Make every kernel module's ``cuda`` a `_Grid`, and its types NumPy's: Numba's take 4 us to convert a number."""
    grid = _Grid()
    for name, module in list(sys.modules.items()):
        if name.startswith("kernels.cuda.") and getattr(module, "cuda", None) is cuda and name != __name__:
            numbers = {key: _numpy_type(kind) for key, kind in vars(module).items() if isinstance(kind, types.Number)}
            vars(module).update(numbers, cuda=grid)


def _numpy_type(kind: Any) -> Any:
    """Return NumPy's type for a number type of Numba's or NumPy's."""
    return numpy_support.as_dtype(kind).type if isinstance(kind, types.Number) else kind


def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: Any, seed: int = 0) -> None:
    """Run a kernel on NumPy arrays, as a `kernel.Launch`; return when it has ended."""
    _install_grid()
    converted = [_converted(kind, value) for kind, value in zip(kernel.parameters, arguments, strict=True)]
    rng = np.random.default_rng(seed)
    for number in rng.permutation(int(np.prod(grid))):
        index = np.unravel_index(number, grid)
        _Block(kernel, tuple(map(int, index)), grid).run(converted, rng)


def _converted(kind: Any, value: Any) -> Any:
    """Return a pointer or a scalar of the type that the kernel declares."""
    if isinstance(kind, types.CPointer):
        if kind == Bytes and value.ctypes.data % VECTOR_BYTES:
            raise ValueError(f"an array {value.shape} begins within {VECTOR_BYTES} bytes that are read at once")
        return CheckedPointer(value, _numpy_type(kind.dtype))
    return _numpy_type(kind)(value)


def multiply(x: np.ndarray, weight: np.ndarray, out: np.ndarray, *, accumulate: bool) -> None:
    """Multiply NumPy arrays, as a `matrices.Multiply`."""
    product = x.astype(np.float32) @ weight.astype(np.float32).T
    out[...] = product + out.astype(np.float32) if accumulate else product
