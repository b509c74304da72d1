"""Launches kernels and cuBLAS's matrix products on a stream of a device.

A kernel is compiled once, kept on disk as PTX, and loaded once.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cuda.matrices import Cublas, load
from service.execution.gpu.cuda.device import CudaDevice
from service.execution.gpu.cuda.errors import translating
from service.execution.gpu.cuda.stream import CuPyStream


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A kernel on a device; ``convert`` makes of each argument a NumPy scalar, which CuPy passes on as it is."""

    function: Any
    convert: tuple[Callable[[Any], np.generic], ...]


class LoadedKernels:
    """The kernels of one device, for any thread. A kernel's first use compiles it, which takes a second or two."""

    def __init__(self, device: CudaDevice, folder: Path) -> None:
        self.device, self._folder = device, folder
        self._loaded: dict[Callable[..., None], _Loaded] = {}
        self._lock = threading.Lock()

    def get(self, kernel: Any) -> _Loaded:
        """Return a `kernels.cuda.kernel.Kernel` ready for launches."""
        loaded = self._loaded.get(kernel.function)
        if loaded is None:
            with self._lock:
                loaded = self._loaded[kernel.function] = self._load(kernel)
        return loaded

    @translating
    def _load(self, kernel: Any) -> _Loaded:
        from kernels.cuda.ptx_cache import cached_ptx  # noqa: PLC0415

        ptx = cached_ptx(kernel, self.device.info.capability, self._folder)
        module = self.device.cuda.Module()
        module.load(ptx.encode())
        return _Loaded(module.get_function(entry_of(ptx)), tuple(map(converter, kernel.parameters)))


class CuPyLaunch:
    """A `kernels.cuda.kernel.Launch` on a stream."""

    def __init__(self, kernels: LoadedKernels, stream: CuPyStream) -> None:
        self.device, self._kernels, self._stream = kernels.device, kernels, stream.stream

    @translating
    def __call__(self, kernel: Any, grid: tuple[int, ...], *arguments: Any) -> None:
        """See `kernels.cuda.kernel.Launch`."""
        loaded = self._kernels.get(kernel)
        values = [convert(value) for convert, value in zip(loaded.convert, arguments, strict=True)]
        loaded.function(grid, kernel.threads, values, stream=self._stream)


class CuPyMultiply:
    """A `kernels.cuda.matrices.Multiply` on a stream, with memory of its own for cuBLAS."""

    def __init__(self, device: CudaDevice, stream: CuPyStream, workspace: Any) -> None:
        self.device = device
        self._multiply = Cublas(load(), stream.stream.ptr, workspace.data.ptr, workspace.nbytes)

    @translating
    def __call__(self, x: Any, weight: Any, out: Any, *, accumulate: bool) -> None:
        """See `kernels.cuda.matrices.Multiply`."""
        self._multiply(x, weight, out, accumulate=accumulate)


def entry_of(ptx: str) -> str:
    """Return the mangled name, given by Numba, of the only kernel in the PTX."""
    (name,) = re.findall(r"\.entry\s+([^\s(]+)", ptx)
    return str(name)


def converter(kind: Any) -> Callable[[Any], np.generic]:
    """Return what converts arguments for a parameter of a Numba type: arrays to addresses, numbers to their size."""
    if hasattr(kind, "dtype"):  # a pointer
        return lambda array: np.uint64(array.data.ptr)
    from numba.cuda.np import numpy_support  # noqa: PLC0415

    scalar: Callable[[Any], np.generic] = numpy_support.as_dtype(kind).type
    return scalar
